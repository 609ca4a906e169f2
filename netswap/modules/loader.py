"""The import of a bundle beside every other version of itself, and its removal.

Rules:

1. Every Python file of the bundle is imported at once, in the order of the names, so that an
   error shows now and not at the first lazy import under live traffic. Of an application only the
   module that has it, with what that imports.
2. A failure leaves ``sys.modules``, ``sys.meta_path`` and ``linecache`` as they were. What the
   bundle imported from elsewhere stays: it may be in use.
3. A bundle that is loaded already is not imported again: both callers get the same classes, each
   with its own ``Loaded``, and the modules go when the last one has called ``unload``. One that is
   on its way out (``leave``) is nobody else's any more: the next load is a new one beside it.

What it can't do: end a thread that a refused module has started, or an import that hangs. Who
cannot trust a bundle loads it in a child process with a deadline first.
Loading and unloading come one after the other, in whatever thread.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import marshal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType, ModuleType
from typing import Any, Final, NoReturn

import msgspec

from netswap import hosting
from netswap.blame import describe
from netswap.confine import leave_room
from netswap.errors import AuthorError, BundleError
from netswap.events import Refusal, Stage
from netswap.modules.application import NAMES, Entrance
from netswap.modules.bundle import Bundle
from netswap.modules.effects import Lookout, import_others
from netswap.modules.hooks import first_misfit
from netswap.modules.importer import Importer, Unit, package_name, refuse
from netswap.modules.syntax import parse
from netswap.stack import Connection, Implementation
from netswap.transfer import Migration

__all__ = ["Loaded", "load_bundle"]

_RESIDENT: Final = "__netswap_resident__"
_MIGRATIONS: Final = "__netswap_migrations__"
_KEEP: Final = "__netswap_keep__"
_REFUSES: Final = b"ProtocolError"
_REASON_LIMIT: Final = 400

# What to do about an exception at import; the first class that matches.
_ADVICE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (SyntaxError, "mend the syntax and push again"),
    (
        ImportError,
        "push the folder or all the files that belong together, "
        "or install what is missing beside the server",
    ),
    (SystemExit, "take the exit out: a module only defines classes when it is imported"),
    (BaseException, "mend the module and push again; `netswap check` shows the same offline"),
)


@dataclass(frozen=True)
class _Contents:
    modules: Mapping[str, ModuleType]
    implementations: Mapping[str, type[Implementation[Any]]]
    migrations: Sequence[Migration]


@dataclass
class _Resident:
    """A bundle that is in the interpreter; its package holds this for the next caller."""

    importer: Importer
    contents: _Contents
    holders: int = 0
    leaving: bool = False


class Loaded:
    """The classes and steps that a loaded bundle provides.

    ``implementations`` maps each kind to its class, ``modules`` each file to its module;
    ``remains`` are objects that lead to the code and that the code does not lead to.
    Drop the Loaded after ``unload``: it still holds the classes.
    """

    __slots__ = (
        "__weakref__",
        "_resident",
        "bundle",
        "implementations",
        "migrations",
        "modules",
        "remains",
        "sha256",
    )

    def __init__(self, resident: _Resident) -> None:
        resident.holders += 1
        self._resident: _Resident | None = resident
        self.bundle = resident.importer.bundle
        self.sha256 = self.bundle.sha256
        self.implementations = resident.contents.implementations
        self.migrations = list(resident.contents.migrations)
        self.modules = resident.contents.modules
        # of an application the class was made, and is in no module
        made = resident.importer.entrance is not None
        self.remains: list[object] = [*self.implementations.values()] if made else []

    def compiled(self) -> dict[str, bytes]:
        """The code of every module, marshalled, for ``load_bundle`` in another process.

        Compiling is what takes longest; a process whose loop must not stall has a child do it.
        """
        if self._resident is None:
            return {}
        importer = self._resident.importer
        return {
            importer.below(name): marshal.dumps(importer.get_code(name))
            for name in importer.units
            if name in sys.modules
        }

    def versions(self) -> dict[str, int]:
        """The version of each kind's implementation."""
        return {kind: cls.version for kind, cls in self.implementations.items()}

    def leave(self) -> None:
        """The code will be given up: whoever loads this bundle from now on gets it afresh."""
        if self._resident is not None:
            self._resident.leaving = self._resident.holders == 1

    def unload(self) -> None:
        """Give the bundle up; the last of its holders takes it out of the interpreter.

        Live objects go on working; the modules end with the last of them. Harmless twice.
        """
        resident, self._resident = self._resident, None
        if resident is None:
            return
        resident.holders -= 1
        if resident.holders == 0:
            resident.importer.remove()


def load_bundle(
    bundle: Bundle,
    root: Path | None = None,
    compiled: Mapping[str, bytes] | None = None,
    on_trial: bool = False,
    place: Path | None = None,
) -> Loaded:
    """Import all of ``bundle`` and find what it provides.

    ``compiled`` is what ``Loaded.compiled()`` gave for it, to save the time. ``on_trial`` is for a
    child process that is to end soon: side effects of the import are looked for and refused.

    ``root`` is the folder that tracebacks show in front of the file names; it is not read.
    ``place`` is the folder in which an application finds its files.
    Raises BundleError with a Refusal that names the author's file and line for whatever goes
    wrong: no Python, a syntax error, any exception at import (also SystemExit), a thread or a
    task left running, nothing provided, two implementations of one kind.
    """
    package = package_name(bundle)
    resident = _find_resident(bundle, package)
    number = 1
    while resident is not None and resident.leaving:
        number += 1
        package = f"{package_name(bundle)}_{number}"
        resident = _find_resident(bundle, package)
    if resident is None:
        resident = _load(Importer(bundle, root, compiled, package, place), on_trial)
    return Loaded(resident)


def _find_resident(bundle: Bundle, package: str) -> _Resident | None:
    resident: _Resident | None = getattr(sys.modules.get(package), _RESIDENT, None)
    if resident is not None and (other := resident.importer.bundle).sha256 != bundle.sha256:
        refuse(f"its hash begins like that of {other.name}, which is loaded", bundle.name)
    return resident


def _load(importer: Importer, on_trial: bool) -> _Resident:
    importer.install()
    try:
        if on_trial and importer.entrance is None:
            _try_import(importer)
        resident = _Resident(importer, _import_all(importer))
    except KeyboardInterrupt:
        importer.remove()
        raise
    except BaseException as error:
        if isinstance(error, MemoryError):
            leave_room()
        failure = _failure(importer, error)
        importer.remove()
    else:
        setattr(sys.modules[importer.package], _RESIDENT, resident)
        return resident
    # outside the handler: a chained exception would keep the refused module alive
    raise failure


def _try_import(importer: Importer) -> None:
    """Import all of it and forget it again; raises BundleError for what that leaves behind.

    What can be imported once only (it registers a name somewhere) fails in the import after this.
    """
    files = {
        unit.shown: (unit.file, parse(unit.file, importer.bundle.files[unit.file], Stage.LOAD))
        for unit in importer.units.values()
        if unit.file
    }
    others = import_others([tree for _, tree in files.values()])
    with Lookout(files, others, importer.package) as seen:
        _import_all(importer)
    if seen.effect is not None:
        reason, file, line, advice = seen.effect
        raise BundleError(Refusal(Stage.LOAD, reason, file, line, advice=advice))
    importer.remove()
    importer.install()


def _import_application(importer: Importer, entrance: Entrance) -> _Contents:
    """The module that has the application; a thread that it leaves running is told of, no more."""
    before = threading.active_count()
    module = importlib.import_module(".".join(filter(None, (importer.package, entrance.module))))
    threads = threading.active_count() - before
    cls = hosting.hosted(_application(importer, entrance, module), threads)
    modules = {
        unit.file: sys.modules[unit.module]
        for unit in importer.units.values()
        if unit.file and unit.module in sys.modules
    }
    return _Contents(MappingProxyType(modules), MappingProxyType({cls.kind: cls}), [])


def _application(importer: Importer, entrance: Entrance, module: ModuleType) -> hosting.Application:
    """What the entrance names, if it is one."""
    value: Any = module
    try:
        for part in entrance.name.split("."):
            value = getattr(value, part)
        sort = hosting.sort_of(value, entrance.name)
    except (AttributeError, TypeError) as error:
        lacks = isinstance(error, AttributeError)
        reason = f"there is no '{entrance.name}' in it{_instead(module)}" if lacks else f"{error}"
        line = assigned_at(importer.get_source(module.__name__), entrance.name)
        refuse(reason, entrance.file, line, "--app MODULE:NAME names another")
    keep = tuple(map(str, vars(module).get(_KEEP, ())))
    name = entrance.name.rpartition(".")[2]
    return hosting.Application(module.__name__, name, value, sort, keep)


def _instead(module: ModuleType) -> str:
    """Which of the usual names a module has."""
    there = [f"'{name}'" for name in NAMES if hasattr(module, name)]
    return f", but {' and '.join(there)}" if there else ""


def _import_all(importer: Importer) -> _Contents:
    if importer.entrance is not None:
        return _import_application(importer, importer.entrance)
    modules = {}
    for unit in importer.units.values():
        before = _running()
        module = importlib.import_module(unit.module)
        _refuse_running(importer, unit, _running() - before)
        if unit.file:
            modules[unit.file] = module
    implementations = _provided(importer, modules)
    _let_answer(importer, implementations.values())
    migrations = list(_steps(modules))
    return _Contents(MappingProxyType(modules), MappingProxyType(implementations), migrations)


def _let_answer(importer: Importer, classes: Iterable[type[Implementation[Any]]]) -> None:
    """Let connections answer what another file of their bundle may refuse."""
    refuses = any(_REFUSES in content for content in importer.bundle.python_files().values())
    for cls in classes:
        if issubclass(cls, Connection) and refuses:
            cls.answer_refusals()


def _steps(modules: Mapping[str, ModuleType]) -> Iterator[Migration]:
    """The steps of all modules; raises BundleError for two of one way, of which one would win."""
    seen: dict[tuple[str, int, int], str] = {}
    for file, module in modules.items():
        for row in vars(module).get(_MIGRATIONS, ()):
            place = seen.setdefault((row.kind, row.source, row.target), f"{file}:{row.line}")
            if place != f"{file}:{row.line}":
                reason = f"a second step of {row.kind} from {row.source} to {row.target}"
                advice = f"keep one of them; the first is at {place}"
                refuse(reason, file, row.line, advice)
            yield row


def _running() -> frozenset[int | asyncio.Task[Any]]:
    """The threads of the process, by identity, and the tasks of the loop that runs here."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs in this thread
        tasks = set()
    return frozenset((*sys._current_frames(), *tasks))


def _refuse_running(
    importer: Importer, unit: Unit, left: frozenset[int | asyncio.Task[Any]]
) -> None:
    """Refuse a module whose import has left something running; tasks are cancelled."""
    if not left:
        return
    frames = sys._current_frames()
    places = []
    for thread_or_task in left:
        if isinstance(thread_or_task, int):
            places.append(_place_of_frame(importer, frames.get(thread_or_task)))
        else:
            thread_or_task.cancel("the module that made this task at import is refused")
    noun = "a thread" if places else "a task"
    file, line = next((place for place in places if place), (unit.file, _start_line(unit)))
    reason = f"its import started {noun} that still runs"
    refuse(reason, file, line, "start such work in a Service's on_start and end it in on_stop")


def _place_of_frame(importer: Importer, frame: FrameType | None) -> tuple[str, int] | None:
    while frame is not None:
        if (file := importer.shown.get(frame.f_code.co_filename)) is not None:
            return file, frame.f_lineno
        frame = frame.f_back
    return None


def assigned_at(text: str, name: str) -> int:
    """The line of a module's top level that binds ``name``, or 1."""
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if named or getattr(node, "name", None) == name:
            return node.lineno
    return 1


def _start_line(unit: Unit) -> int:
    """The first line of a file that calls what starts threads and tasks, or 1."""
    starts = {"start", "submit", "create_task", "ensure_future", "start_new_thread"}
    for node in ast.walk(ast.parse(unit.text)):
        if isinstance(node, ast.Attribute) and node.attr in starts:
            return node.lineno
    return 1


def _provided(
    importer: Importer, modules: Mapping[str, ModuleType]
) -> dict[str, type[Implementation[Any]]]:
    """The concrete implementations by kind; raises BundleError when none or two of a kind."""
    found: dict[str, type[Implementation[Any]]] = {}
    places: dict[str, tuple[str, type]] = {}
    stateless: list[tuple[str, type]] = []
    for file, module in modules.items():
        for cls in _own_implementations(module):
            if not cls.kind:  # no State, so it is a base class
                stateless.append((file, cls))
                continue
            _refuse_misfit(importer, file, module, cls)
            if found.setdefault(cls.kind, cls) is not cls:
                other, first = places[cls.kind]
                place = f"{first.__name__} ({other}:{_class_line(importer, modules[other], first)})"
                reason = f"{cls.__name__} implements {cls.kind}, and so does {place}"
                line = _class_line(importer, module, cls)
                refuse(reason, file, line, "push one implementation of a kind at a time")
            places.setdefault(cls.kind, (file, cls))
    if not found:
        _refuse_nothing_provided(importer, modules, stateless)
    return found


def _refuse_misfit(
    importer: Importer, file: str, module: ModuleType, cls: type[Implementation[Any]]
) -> None:
    misfit = first_misfit(cls)
    if misfit is None:
        return
    line = _class_line(importer, module, cls)
    member = inspect.unwrap(getattr(misfit.member, "__func__", misfit.member))
    code = getattr(member, "__code__", None)
    if code is not None and code.co_filename in importer.shown:
        file, line = importer.shown[code.co_filename], code.co_firstlineno
    refuse(misfit.reason, file, line, misfit.advice)


def _own_implementations(module: ModuleType) -> Iterator[type[Implementation[Any]]]:
    seen: set[type] = set()
    for value in vars(module).values():
        if not isinstance(value, type) or not issubclass(value, Implementation) or value in seen:
            continue
        seen.add(value)
        if value.__module__ == module.__name__:
            yield value


def _class_line(importer: Importer, module: ModuleType, cls: type) -> int:
    tree = ast.parse(importer.get_source(module.__name__))
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    ]
    return max(lines, default=1)


def _refuse_nothing_provided(
    importer: Importer, modules: Mapping[str, ModuleType], stateless: Sequence[tuple[str, type]]
) -> NoReturn:
    for file, cls in stateless:
        base = cls.__bases__[0].__name__
        reason = f"{cls.__name__} has no kind, because it names no State"
        line = _class_line(importer, modules[file], cls)
        refuse(reason, file, line, f"write class {cls.__name__}({base}[YourState])")
    advice = (
        "define a Connection, Session, Service or Part with its State; of an application, a global "
        "app, application, create_app or make_app, or name it: --app MODULE:NAME"
    )
    refuse("it provides no implementation of any kind", next(iter(modules)), 1, advice)


def _failure(importer: Importer, error: BaseException) -> BundleError:
    """What is to be raised for ``error``, with the author's part of the traceback as a note."""
    file, line = _author_line(importer, error)
    if isinstance(error, AuthorError):
        known = error.refusal
        refusal = msgspec.structs.replace(
            known, stage=Stage.LOAD, file=known.file or file, line=known.line or line
        )
        return BundleError(refusal)
    advice = next(text for kind, text in _ADVICE if isinstance(error, kind))
    failure = BundleError(Refusal(Stage.LOAD, _reason(importer, error), file, line, advice=advice))
    failure.add_note(_author_traceback(importer, error))
    return failure


def _author_traceback(importer: Importer, error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename not in importer.shown:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _author_line(importer: Importer, error: BaseException) -> tuple[str, int]:
    """The innermost line of the bundle that an exception has passed through."""
    if isinstance(error, SyntaxError) and error.filename in importer.shown:
        return importer.shown[error.filename], error.lineno or 1
    found = next(iter(importer.shown.values())), 1
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (file := importer.shown.get(frame.f_code.co_filename)) is not None:
            found = file, line
    return found


def _reason(importer: Importer, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename in importer.shown:
        return f"it does not parse: {error.msg}"
    try:
        text = describe(error)
    except BaseException as second:  # an exception's text is made by the author's code, too
        text = f"{type(error).__name__} (and then {type(second).__name__} for its text)"
    text = text.replace(f"{importer.package}.", ".").replace(importer.package, ".")
    return f"its import raised {text}"[:_REASON_LIMIT]
