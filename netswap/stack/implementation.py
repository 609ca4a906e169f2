"""Implementation: behaviour around one state object, and what every kind of object shares.

An author derives from Connection, Session, Service or Part. The class is given empty
``__slots__``, so that ``self.anything = x`` raises: whatever has to live is in ``self.state``,
the only thing that crosses a swap. ``uses={"rooms": "chat.rooms"}`` makes ``self.rooms`` read the
present implementation through its handle at each access, so it can't go stale.

An object's life: ``born`` or ``successor`` (built, may fail, nothing has happened yet), then
``take_over`` for a successor (pointers only, can't fail), and ``bury`` when its entry ends.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, get_args

from netswap.transfer import State
from netswap.transfer.invariant import is_invariant

if TYPE_CHECKING:
    from netswap.events import Acted, Blocker
    from netswap.ott import Entry
    from netswap.stack.host import Host

__all__ = ["Implementation", "ImplementationMeta"]

S = TypeVar("S", bound=State)


def _refuse_invariants(name: str, namespace: Mapping[str, Any]) -> None:
    """An invariant of behaviour would be asked by nobody."""
    for method, value in namespace.items():
        if is_invariant(value):
            raise TypeError(f"{name}.{method} is an invariant: write it in the State that it is of")


_OURS = "netswap."
_STACK = f"{_OURS}stack."
_HOOKS = frozenset({"run", "expected_diff"})
"""What an author may define beside ``on_...``,"""
_WRAPPED = frozenset(
    {"close", "abort", "pause_reading", "resume_reading", "read_line", "read_exactly", "read_some"}
)
"""and what he may put something around: no swap and no look depends on these."""


def _refuse_overrides(name: str, bases: tuple[type, ...], namespace: Mapping[str, Any]) -> None:
    """What transports, swaps and looks call is ours: an error of it would end the worker."""
    ancestry = {cls for base in bases for cls in base.__mro__}
    stack = {cls for cls in ancestry if cls.__module__.startswith(_STACK)}
    used = {use for cls in stack for use in getattr(cls, "uses", ())}
    ours = {attribute for cls in stack for attribute in vars(cls)} - used - _HOOKS - _WRAPPED
    mixins = (cls for cls in ancestry if not isinstance(cls, ImplementationMeta))
    defined = set(namespace).union(*map(vars, mixins))
    for attribute in sorted(ours & defined):
        if not attribute.startswith(("__", "on_")):
            raise TypeError(f"{name}.{attribute} would replace netswap's own; give it another name")


class ImplementationMeta(type):
    """Gives every implementation empty slots, a handle slot for each use, and its kind."""

    def __new__(  # noqa: D102
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        uses: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ImplementationMeta:
        uses = dict(uses or {})
        _refuse_invariants(name, namespace)
        slots = tuple(namespace.get("__slots__", ()))
        namespace["__slots__"] = (*slots, *(f"_use_{used}" for used in uses))
        for used in uses:
            namespace[used] = property(operator.attrgetter(f"_use_{used}.target"))
        if not str(namespace.get("__module__")).startswith(_OURS):
            _refuse_overrides(name, bases, namespace)
        inherited: Mapping[str, str] = next((b.uses for b in bases if hasattr(b, "uses")), {})
        namespace["uses"] = {**inherited, **uses}  # __init_subclass__ looks at it
        return super().__new__(mcs, name, bases, namespace, **options)

    if TYPE_CHECKING:
        uses: Mapping[str, str]

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any
    ) -> None:
        super().__init__(name, bases, namespace)


class Implementation(Generic[S], metaclass=ImplementationMeta):
    """Base of all that is entered in the table. Authors use its subclasses."""

    __slots__ = ("entry", "host", "state")

    state: S
    entry: Entry
    host: Host

    state_type: ClassVar[type[State]]
    kind: ClassVar[str] = ""
    version: ClassVar[int] = 0
    uses: ClassVar[Mapping[str, str]] = {}
    scope: ClassVar[str] = "worker"
    may_suspend: ClassVar[bool] = False
    expected_diff: ClassVar[str] = ""
    """Why this version answers otherwise than the one before, if it does so on purpose."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        state = _declared_state(cls)
        if state is not None:
            cls.state_type = state
            cls.kind = state.__kind__
            cls.version = state.__version__

    @classmethod
    def born(cls, host: Host, entry: Entry, state: State | None = None) -> Self:
        """A new object with a fresh (or the given) state, its parts and handles."""
        new = cls.__new__(cls)
        new.host = host
        new.entry = entry
        new.state = cast("Any", cls.state_type() if state is None else state)
        new._bind()
        return new

    @classmethod
    def successor(cls, old: Implementation[Any], state: State) -> Self:
        """The object that is to follow ``old`` with ``state``; nothing outside it has changed."""
        new = cls.__new__(cls)
        new.host = old.host
        new.entry = old.entry
        new.state = cast("Any", state)
        new._bind_after(old)
        return new

    def take_over(self, old: Any) -> None:
        """The entry points here now: repoint whatever else holds ``old``. Can't fail."""

    def point_here(self) -> None:
        """Whoever holds the object itself is pointed to what the entry has now. Can't fail."""

    def undo_building(self) -> None:
        """This successor will not take over: undo what building it did."""

    def must_rest(self, new: type[Implementation[Any]]) -> bool:  # noqa: ARG002
        """Whether no suspended call may be inside when an object of ``new`` follows this one."""
        return self.may_suspend

    def state_replaced(self) -> None:
        """``state`` is another object than it was: whoever shares it is told. Can't fail."""

    def at_rest(self) -> bool:
        """Whether no suspended call is inside the object."""
        return True

    def bring_to_rest(self, tell: Callable[[], None]) -> None:
        """Hold what is new, let what is inside end, then call ``tell``."""
        tell()

    def carry_on(self) -> None:
        """Nobody waits for rest any more: go on."""

    def blockers(self) -> list[Blocker]:
        """The suspended calls inside the object."""
        return []

    def nudge_suspended(self, number: int | None) -> list[Acted]:  # noqa: ARG002
        """Ask what is suspended inside, or the call of that number, to go on."""
        return []

    def cancel_suspended(self, number: int | None) -> list[Acted]:  # noqa: ARG002
        """End what is suspended inside, or the call of that number."""
        return []

    def only_ends(self) -> bool:
        """Whether it is busy with the last that it will ever be asked."""
        return False

    def end_if_gone(self) -> None:
        """A swap waits for it: end, if nobody is there any more."""

    def attributes(self) -> dict[str, str | int]:
        """What a selector may ask about."""
        return {}

    def _bind(self) -> None:
        for name, kind in type(self).uses.items():
            setattr(self, f"_use_{name}", self.host.service(kind))

    def _bind_after(self, old: Implementation[Any]) -> None:  # noqa: ARG002
        self._bind()


def _declared_state(cls: type) -> type[State] | None:
    """The S of ``class X(Connection[S])``, if the class names one."""
    for base in cls.__dict__.get("__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and issubclass(argument, State):
                if not hasattr(argument, "__kind__"):
                    raise TypeError(
                        f"{argument.__name__} names no kind: write "
                        f'class {argument.__name__}(State, kind="...", version=1)'
                    )
                return argument
    return None
