"""State: the plain, typed, versioned data of an object, and the only thing that crosses a swap.

Rules, checked when the class is made, so that the author sees them at the line that breaks them:

1. A state names its ``kind`` and ``version``; the version is stamped here and nowhere else.
2. Every field has a default: a new field must have a value in objects that lived before it.
3. Every field can be encoded: builtin scalars and containers, and structs, enums and dataclasses
   made of them. What can't be (a parser, a socket) is a ``reference``: it moves as a pointer
   within a process and brings a canonical stand-in for everything else.
4. A callable is never state: it would keep old code alive and can't be encoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import msgspec
import msgspec.inspect

from netswap.transfer.invariant import Check, find_invariants

if TYPE_CHECKING:
    from msgspec import StructMeta
else:
    StructMeta = type(msgspec.Struct)

__all__ = [
    "BUNDLED",
    "Reference",
    "State",
    "StateMeta",
    "holds_classes",
    "holds_own",
    "holds_texts",
    "reference",
    "shape_of",
]

T = TypeVar("T")

BUNDLED = "netswap_bundle_"
_REFUSED = (
    "array_like",
    "forbid_unknown_fields",
    "frozen",
    "kw_only",
    "rename",
    "tag",
    "tag_field",
)
"""Options of a struct that change how fields are named, passed or encoded, which crossing needs."""
_HOME = "a bundle's "
_SEPARATORS = frozenset(" @,=<>|")
_LAST_VERSION = 2**31 - 1


class Reference(NamedTuple):
    """How a field that moves by reference is made, encoded and decoded, and taken back in time."""

    factory: Callable[[], Any]
    to_canonical: Callable[[Any], Any]
    from_canonical: Callable[[Any], Any]
    keep: Callable[[Any], Callable[[], Any]] | None = None


def _same(value: T) -> T:
    return value


def reference(
    factory: Callable[[], T],
    to_canonical: Callable[[T], Any] = _same,
    from_canonical: Callable[[Any], T] = _same,
    keep: Callable[[T], Callable[[], T]] | None = None,
) -> T:
    """Declare a field that moves as a pointer, with its stand-in in the canonical form.

    ``factory`` makes the default; ``to_canonical`` gives plain data (a parser's: the raw bytes
    since the last message boundary) and ``from_canonical`` builds the value from it.
    ``keep`` is for a value that others point to as well: it notes how the value is, and what it
    returns makes *that* value so again. A guard that undoes a call uses it where it would
    otherwise put a copy from the canonical form in its place.
    """
    return cast("T", Reference(factory, to_canonical, from_canonical, keep))


class StateMeta(StructMeta):
    """Reads ``kind``, ``version`` and ``renamed`` and checks the rules above."""

    def __new__(  # noqa: D102
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        kind: str | None = None,
        version: int | None = None,
        renamed: dict[str, str] | None = None,
        **options: Any,
    ) -> StateMeta:
        for option in _REFUSED:
            if options.get(option):
                raise TypeError(f"{name}: a state can't have the option {option}=")
        references = {k: v for k, v in namespace.items() if isinstance(v, Reference)}
        for field, marker in references.items():
            namespace[field] = msgspec.field(default_factory=marker.factory)
        cls = super().__new__(mcs, name, bases, namespace, **options)
        inherited: dict[str, Reference] = getattr(cls, "__references__", {})
        cls.__references__ = {**inherited, **references}
        cls.__renamed__ = dict(renamed or {})
        cls.__invariants__ = find_invariants(cls)
        if bases and (kind is not None or version is not None):
            cls.__kind__, cls.__version__ = _checked_name(name, kind, version)
            _check_fields(cast("type[State]", cls))
        return cls

    def __init__(cls, *args: Any, **_options: Any) -> None:
        super().__init__(*args)

    if TYPE_CHECKING:
        __kind__: str
        __version__: int
        __references__: dict[str, Reference]
        __renamed__: dict[str, str]
        __shape__: dict[str, Any]
        __invariants__: Mapping[str, Check]


class State(msgspec.Struct, metaclass=StateMeta):
    """Base of every state: ``class Talk(State, kind="chat.connection", version=2)``.

    ``renamed={"old": "new"}`` names fields of the version before that live on under a new name.
    """

    __kind__: ClassVar[str]
    __version__: ClassVar[int]
    __references__: ClassVar[dict[str, Reference]]
    __renamed__: ClassVar[dict[str, str]]
    __shape__: ClassVar[dict[str, Any]]
    __invariants__: ClassVar[Mapping[str, Check]]


def _checked_name(name: str, kind: object, version: object) -> tuple[str, int]:
    if not isinstance(kind, str) or not kind:
        raise TypeError(f'{name}: a state names its kind, as in kind="chat.connection"')
    odd = next((c for c in kind if c in _SEPARATORS or not c.isprintable()), None)
    if odd is not None:
        raise TypeError(
            f"{name}: a kind can't have {odd!r} in its name; commands read it otherwise"
        )
    whole = isinstance(version, int) and not isinstance(version, bool)
    if not whole or not 0 < cast("int", version) <= _LAST_VERSION:
        raise TypeError(
            f"{name}: a state has a version, a whole number from 1 up to {_LAST_VERSION}, "
            f"not {version!r}"
        )
    return kind, cast("int", version)


def _check_fields(cls: type[State]) -> None:
    info = msgspec.inspect.type_info(cls)
    if not isinstance(info, msgspec.inspect.StructType):
        raise TypeError(f"{cls.__name__} is not a struct")
    for field in info.fields:
        if field.required:
            raise TypeError(
                f"{cls.__name__}.{field.name} has no default; objects that live now need a value"
            )
        if field.encode_name != field.name:
            raise TypeError(
                f"{cls.__name__}.{field.name} is encoded as {field.encode_name!r}; a field crosses "
                "under its own name"
            )
        if _is_shared(field.default):
            raise TypeError(
                f"{cls.__name__}.{field.name} has a default that all objects would share and may "
                "change; write msgspec.field(default_factory=...), or freeze its class"
            )
    cls.__shape__ = {field.name: _shape(field.type, ()) for field in info.fields}
    for name, shape in cls.__shape__.items():
        unplain = None if name in cls.__references__ else _find_unplain(shape)
        if unplain is not None:
            raise TypeError(
                f"{cls.__name__}.{name} can't be encoded ({unplain}); "
                "declare it with reference(...) or make it plain data"
            )


def _is_shared(default: Any) -> bool:
    """Whether a default can change; msgspec makes a new empty list, dict, set or bytearray."""
    if dataclasses.is_dataclass(default):
        params = type(default).__dataclass_params__  # type: ignore[union-attr]  # of an instance
        return not params.frozen
    try:
        hash(default)
    except TypeError:
        return True
    return False


def shape_of(cls: type[State]) -> dict[str, Any]:
    """Field names and their types, as a tree that no longer knows the classes' identities."""
    return cls.__shape__


def _shape(node: Any, above: tuple[type, ...]) -> Any:
    """A type node as nested tuples: equal for equal shapes, whatever module they come from."""
    if isinstance(node, tuple):
        return tuple(_shape(item, above) for item in node)
    cls: Any = getattr(node, "cls", None)
    if cls is not None and cls in above:
        return ("again", cls.__name__)
    above = above if cls is None else (*above, cls)
    name = type(node).__name__
    if name == "CustomType":
        home = _HOME if cls.__module__.startswith(BUNDLED) else f"{cls.__module__}."
        return (name, f"{home}{cls.__qualname__}")
    if name == "EnumType":
        return (name, tuple((member.name, member.value) for member in cls))
    if not isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)):
        return cls.__name__ if cls is not None else repr(node)
    parts = [(key, _shape(getattr(node, key), above)) for key in _parts(node)]
    if isinstance(node, msgspec.inspect.StructType) and cls.__struct_config__.omit_defaults:
        parts.append(("left out", repr(_defaults(node))))
    return (name, *parts) if cls is None else (name, cls.__name__, *parts)


def _parts(node: Any) -> list[str]:
    keys = (
        "item_type",
        "item_types",
        "key_type",
        "value_type",
        "types",
        "fields",
        "name",
        "encode_name",
        "type",
    )
    return [key for key in keys if hasattr(node, key)]


def _defaults(node: msgspec.inspect.StructType) -> list[object]:
    """What the encoded form leaves out, and another class would put its own in for."""
    return [getattr(field.default_factory, "__qualname__", field.default) for field in node.fields]


def _find_unplain(shape: Any) -> str | None:
    """The first part of a shape that msgpack can't carry, or None."""
    if not isinstance(shape, tuple):
        return None
    if shape and shape[0] == "CustomType":
        return str(shape[1])
    return next((found for item in shape if (found := _find_unplain(item))), None)


_READ_FROM_TEXT = frozenset(
    f"{name}Type"
    for name in (
        "Bytes",
        "ByteArray",
        "MemoryView",
        "DateTime",
        "Date",
        "Time",
        "TimeDelta",
        "Decimal",
        "UUID",
    )
)


def holds_texts(shape: Any) -> bool:
    """Whether msgspec would read a value of this shape, or a part of it, from text."""
    if not isinstance(shape, tuple):
        return False
    if shape and shape[0] in _READ_FROM_TEXT:
        return True
    return any(holds_texts(item) for item in shape)


def holds_own(shape: Any) -> bool:
    """Whether values of this shape are instances of a class that the author's module defines."""
    if not isinstance(shape, tuple):
        return False
    if shape and shape[0] == "CustomType":
        return str(shape[1]).startswith(_HOME)
    return holds_classes(shape) or any(holds_own(item) for item in shape)


def holds_classes(shape: Any) -> bool:
    """Whether values of this shape are instances of a class that a module may have defined."""
    if not isinstance(shape, tuple):
        return False
    named = ("StructType", "DataclassType", "EnumType", "NamedTupleType", "TypedDictType")
    if shape and shape[0] in named:
        return True
    return any(holds_classes(item) for item in shape)
