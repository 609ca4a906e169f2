"""What an import leaves behind in the process beside its own module, found line by line.

An import only defines. Whatever else it does would be done once a version, and nobody would undo
it: a second handler of a signal, a function called twice at exit, a patched function of another
module that keeps old code alive. So where a bundle is imported on trial, everything that a module
can change in its process is looked at before and after each line of its top level.

``PROBES`` is the list of what is looked at. What the bundle imports from elsewhere is imported
before, so that only its own doing is found. What it can't see: a registry inside an object of
another module. A bundle that fills one fails at its second import, which is tried as well.
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # signal's makes enums, slowly
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from netswap.modules.syntax import absolute_imports

__all__ = [
    "PROBES",
    "Effect",
    "Lookout",
    "difference",
    "import_others",
    "look",
    "outside_imports",
]

State = Mapping[str, object]


class Probe(NamedTuple):
    """``look`` gives what may not change, by name; ``says`` is the sentence about a change."""

    look: Callable[[], State]
    says: str
    advice: str


class Effect(NamedTuple):
    """A change, the line of the module's top level that made it, and what to do instead."""

    reason: str
    file: str
    line: int
    advice: str


def _environment() -> State:
    return dict(os.environ)


def _signals() -> State:
    return {_SIGNALS[number]: getsignal(number) for number in _SIGNALS}


_SIGNALS: Final[Mapping[int, str]] = {
    number: str(getattr(number, "name", number)) for number in signal.valid_signals()
}


def _interval_timers() -> State:
    """Those whose signals end a process that has no handler; the third is a deadline's."""
    timers = {"ITIMER_PROF": signal.ITIMER_PROF, "ITIMER_VIRTUAL": signal.ITIMER_VIRTUAL}
    return {name: signal.getitimer(number)[0] > 0 for name, number in timers.items()}


def _descriptors() -> State:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found[f"{number} ({os.readlink(f'/proc/self/fd/{number}')})"] = True
    return found


def _children() -> State:
    pid = os.getpid()  # the main thread's: another thread is refused by itself
    with open(f"/proc/{pid}/task/{pid}/children", "rb", 0) as file:
        return {child.decode(): True for child in file.read().split()}


def _exits() -> State:
    return {"": atexit._ncallbacks()}


def _interpreter() -> State:
    hooks = {f"sys.{name}": getattr(sys, name, None) for name in _HOOKS}
    return {
        **hooks,
        "sys.path": tuple(sys.path),
        "sys.path_hooks": tuple(sys.path_hooks),
        "sys.meta_path": tuple(map(id, sys.meta_path)),
        "threading.excepthook": threading.excepthook,
        "the recursion limit": sys.getrecursionlimit(),
        "the switch interval": sys.getswitchinterval(),
        "the garbage collector": (gc.isenabled(), gc.get_threshold(), len(gc.callbacks)),
        "the working directory": os.getcwd(),
        "the file mode mask": _mask(),
        "the default time-out of sockets": socket.getdefaulttimeout(),
        "the event loop's exception handler": _loop_handler(),
    }


_HOOKS: Final = (
    "displayhook",
    "excepthook",
    "stderr",
    "stdin",
    "stdout",
    "unraisablehook",
    "dont_write_bytecode",
)


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _loop_handler() -> object:
    try:
        return asyncio.get_running_loop().get_exception_handler()
    except RuntimeError:
        return None


def _handlers() -> State:
    known = {"root": logging.root, **logging.root.manager.loggerDict}
    return {
        name: tuple(map(id, logger.handlers))
        for name, logger in known.items()
        if isinstance(logger, logging.Logger) and logger.handlers
    }


_ON_START: Final = "do it in a Service's on_start and undo it in on_stop"
_SHUT: Final = "open it in a Service's on_start and close it in on_stop"
_CONFIGURED: Final = "what belongs to the process is set where the server is started"

PROBES: Final[tuple[Probe, ...]] = (
    Probe(_environment, "changed the environment variable {}", _CONFIGURED),
    Probe(_signals, "changed the handler of {}", "signals are the server's; use a timer"),
    Probe(_interval_timers, "started the timer {}", "signals are the server's; use a timer"),
    Probe(_descriptors, "opened the descriptor {}", _SHUT),
    Probe(_children, "started the process {}", _ON_START),
    Probe(_exits, "registered a function to be called at exit{}", _ON_START),
    Probe(_interpreter, "changed {}", _CONFIGURED),
    Probe(_handlers, "added a handler to the logger {}", _CONFIGURED),
)
"""What belongs to the process as a whole, and what a module should do instead."""


def look() -> list[State]:
    """What belongs to the process now, for ``difference``."""
    return [probe.look() for probe in PROBES]


def difference(before: list[State]) -> tuple[str, str] | None:
    """What has changed since ``before`` was looked at, and advice; None for nothing."""
    for probe, then in zip(PROBES, before, strict=True):
        name = _changed(then, probe.look())
        if name is not None:
            return probe.says.format(name), probe.advice
    return None


_IMPORTED: Final = "import it; leave sys.modules alone"
_SMALL: Final = 64
"""A container of more things is looked into when their number has changed: a cache is large."""

_PLANTED: Final = "it would keep this version alive for ever: give clients a Service to call"


class Lookout:
    """Looks at the process while the modules shown as ``files`` are imported; a context manager.

    ``files`` maps the file names in the code to the author's names and the syntax, ``others`` are
    modules whose globals are looked at as well and ``own`` is the prefix of the bundle's module
    names. The first change is kept as ``effect``.
    """

    def __init__(
        self, files: Mapping[str, tuple[str, ast.Module]], others: Collection[str], own: str
    ) -> None:
        self.effect: Effect | None = None
        self._files = {shown: name for shown, (name, _) in files.items()}
        self._risky = {shown: dict(_risky_lines(tree)) for shown, (_, tree) in files.items()}
        self._own = own
        self._owned_before: dict[str, tuple[int, int]] = {}
        self._others = [sys.modules[name] for name in others if name in sys.modules]
        self._known = frozenset(name for name in sys.modules if not name.startswith(own))
        self._callables = frozenset(
            f"{module.__name__}.{name}"
            for module in self._others
            for name, value in list(vars(module).items())
            if callable(value) or isinstance(value, ModuleType)
        )
        self._probes = (
            *PROBES,
            Probe(self._modules, "replaced or planted the module {}", _IMPORTED),
            Probe(self._globals, "changed {} from outside", _PLANTED),
        )
        self._last: list[State] = []
        self._at: tuple[str, int] = (next(iter(self._files.values()), ""), 1)
        self._began = 0

    def __enter__(self) -> Lookout:
        self._last = [probe.look() for probe in self._probes]
        self._tracer = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._tracer)
        self._compare()

    def _called(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Only top-level code is followed; what it calls counts as the line that called it."""
        code = frame.f_code
        if self.effect is None and code.co_name == "<module>" and code.co_filename in self._files:
            return self._stepped
        return None

    def _stepped(self, frame: FrameType, event: str, _argument: object) -> Any:
        """A line is about to run, or the module ends: what has the statement before done?

        Only after statements that can do something; a look at everything takes half a millisecond.
        """
        if self.effect is None and event in ("line", "return"):
            shown = frame.f_code.co_filename
            begins = self._risky[shown].get(frame.f_lineno, 0)
            if self._began and (begins != self._began or event == "return"):
                self._compare()
            self._began = begins
            if begins or event == "line":
                self._at = (self._files[shown], begins or frame.f_lineno)
        return self._stepped

    def _compare(self) -> None:
        if self.effect is not None:
            return
        for index, probe in enumerate(self._probes):
            now = probe.look()
            before, self._last[index] = self._last[index], now
            if (name := _changed(before, now)) is not None:
                reason = f"its import {probe.says.format(name)}"
                self.effect = Effect(reason, *self._at, probe.advice)
                return

    def _modules(self) -> State:
        """The modules that were there, and new ones that no import has made."""
        return {
            name: module
            for name, module in list(sys.modules.items())
            if name in self._known or getattr(module.__spec__, "name", None) != name
        }

    def _globals(self) -> State:
        """The globals of the modules that the bundle imports: what it could replace or join."""
        found: dict[str, object] = {}
        for module in self._others:
            for name, value in list(vars(module).items()):
                full = f"{module.__name__}.{name}"
                if isinstance(value, (dict, list, set)):
                    found[full] = self._owned(full, value)
                elif full in self._callables:
                    found[full] = value
                elif self._is_own(value):
                    found[full] = True
        return found

    def _owned(self, name: str, container: Collection[Any]) -> int:
        """How many things of the bundle's own are in another module's container."""
        size, count = self._owned_before.get(name, (-1, 0))
        if size == len(container) > _SMALL:
            return count
        parts = [*container, *(container.values() if isinstance(container, dict) else ())]
        count = sum(map(self._is_own, parts))
        self._owned_before[name] = (len(container), count)
        return count

    def _is_own(self, value: object) -> bool:
        inner = getattr(value, "__func__", value)
        home = getattr(inner, "__module__", None) or getattr(type(inner), "__module__", "")
        return isinstance(home, str) and home.startswith(self._own)


def _changed(before: State, now: State) -> str | None:
    """The first name whose value is another; nothing counted is the same as not being there."""
    if before == now:
        return None
    names = dict.fromkeys((*before, *now))
    return next((name for name in names if before.get(name, 0) != now.get(name, 0)), None)


def _risky_lines(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Each line of a top-level statement that can do more than define, and where that begins."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
        if inner and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            pending += inner
            handlers = getattr(node, "handlers", [])
            pending += [statement for handler in handlers for statement in handler.body]
            yield node.lineno, node.lineno
        elif _can_do(node):
            last = node.end_lineno or node.lineno
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            yield from ((line, first) for line in range(first, last + 1))


def _can_do(node: ast.stmt) -> bool:
    """Whether a statement may change more than the names of its own module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list:
        return any(isinstance(part, ast.Call) for part in ast.walk(node.args))
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return False  # others are there already, and the bundle's own are followed themselves
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
        return any(isinstance(part, _DOING) for part in ast.walk(node))
    return True


_DOING: Final = (ast.Call, ast.Attribute, ast.Subscript, ast.Await, ast.Yield)


def outside_imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The modules that a file's top level imports by absolute names, each with its line."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((name, node.lineno) for name in absolute_imports(node))
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.expr)):
            skipped = getattr(node, "body", ()) if _is_for_types(node) else ()
            pending += [n for n in ast.iter_child_nodes(node) if n not in skipped]


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def import_others(trees: Collection[ast.Module]) -> list[str]:
    """Import what these files import from elsewhere; the names of what is there.

    What fails fails again in the bundle's own import, where it has a line.
    """
    names = dict.fromkeys(name for tree in trees for name, _ in outside_imports(tree))
    for name in names:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    return [name for name in names if name in sys.modules]
