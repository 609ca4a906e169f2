"""What can be refused by reading the source, before any of it runs.

The rules keep state in objects. Two versions of a module live side by side while a swap is under
way, each with globals of its own: a registry, a cache, a lock or a context variable of the module
would silently become two. What can't be seen in the source (a mutable object made by a function)
is not found here; a false alarm would be worse, since it can't be switched off.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from netswap.errors import BundleError
from netswap.events import Refusal, Stage
from netswap.modules.application import Entrance, entrance_of, reached
from netswap.modules.bundle import Bundle
from netswap.modules.misplaced import misplaced
from netswap.modules.reach import beyond_itself
from netswap.modules.syntax import File, derived

__all__ = ["check_source"]


class _Fault(NamedTuple):
    noun: str
    why: str
    advice: str


_WHY_SPLIT: Final = "every version of the module would have its own"
_PLAIN: Final = "keep it in a State, or make it a tuple, a frozenset or a MappingProxyType"
_LOCK: Final = (
    "nothing else of a worker runs between two awaits: drop it, or keep a flag in a State"
)
_CONTEXT: Final = "pass the value as an argument, or keep it in a State"


def _family(module: str, names: str, advice: str, noun: str = "") -> dict[str, _Fault]:
    """Rows for the callables ``names`` of ``module``; builtins have no module."""
    dotted = {name: f"{module}.{name}" if module else name for name in names.split()}
    return {
        full: _Fault(noun or _with_article(name.split(".")[0]), _WHY_SPLIT, advice)
        for name, full in dotted.items()
    }


def _with_article(noun: str) -> str:
    spelt = noun[:2].isupper()  # the R of RLock is said as a letter
    return f"an {noun}" if spelt or noun[0] in "aeiouAEIOU" else f"a {noun}"


_SYNCHRONISERS: Final = "Lock RLock Event Condition Semaphore BoundedSemaphore Barrier"
_QUEUES: Final = "Queue LifoQueue PriorityQueue SimpleQueue"

# Calls whose result must not be kept by a module or a class.
_CALLS: Final[Mapping[str, _Fault]] = {
    **_family("", "dict list set bytearray dict.fromkeys", _PLAIN),
    **_family("", "sorted", _PLAIN, "a list"),
    **_family("builtins", "dict list set bytearray", _PLAIN),
    **_family("collections", "defaultdict deque OrderedDict Counter ChainMap", _PLAIN),
    **_family("collections", "UserDict UserList", _PLAIN),
    **_family("weakref", "WeakValueDictionary WeakKeyDictionary WeakSet", _PLAIN),
    **_family("types", "SimpleNamespace", _PLAIN),
    **_family("array", "array", _PLAIN),
    **_family("io", "BytesIO StringIO", _PLAIN),
    **_family("itertools", "count cycle", _PLAIN),
    **_family("queue", _QUEUES, _PLAIN),
    **_family("asyncio", _QUEUES, _PLAIN),
    **_family("asyncio", _SYNCHRONISERS, _LOCK),
    **_family("threading", _SYNCHRONISERS, _LOCK),
    **_family("threading", "local", _CONTEXT),
    **_family("multiprocessing", _SYNCHRONISERS, _LOCK),
    **_family("_thread", "allocate_lock", _LOCK, "a lock"),
    **_family("contextvars", "ContextVar", _CONTEXT),
}

_LITERALS: Final[Mapping[type[ast.expr], _Fault]] = {
    kind: _Fault(noun, _WHY_SPLIT, _PLAIN)
    for kind, noun in (
        (ast.Dict, "a dict"),
        (ast.DictComp, "a dict"),
        (ast.List, "a list"),
        (ast.ListComp, "a list"),
        (ast.Set, "a set"),
        (ast.SetComp, "a set"),
        (ast.GeneratorExp, "a generator"),
    )
}

# Read by Python itself while the class or module is made, and by nothing afterwards.
_DECLARATIONS: Final = frozenset({"__all__", "__slots__", "__match_args__"})

_STATES: Final = frozenset({"netswap.State", "netswap.transfer.State"})
_STRUCT: Final = "msgspec.Struct"
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def check_source(bundle: Bundle) -> list[Refusal]:
    """All reasons to refuse ``bundle`` that its source shows, by file and line; none: empty.

    Looks for files that are not text or do not parse, mutable globals and class attributes,
    locks and context variables kept by a module or a class, functions that write a global, and
    fields of a State without a default. Of an application only that it parses. Nothing of the
    bundle is run.
    """
    python = bundle.python_files()
    if not python:
        return [_no_python(bundle)]
    try:
        entrance = entrance_of(bundle)
    except BundleError as error:
        return [error.refusal]
    if entrance is not None:
        return _check_application(bundle, entrance)
    files, refusals = _parsed(python)
    refusals.extend(_kept_in(files))
    refusals.extend(beyond_itself(files))
    refusals.extend(misplaced(bundle, files))
    return sorted(refusals, key=lambda refusal: (refusal.file or "", refusal.line or 0))


def _parsed(python: Mapping[str, bytes]) -> tuple[list[File], list[Refusal]]:
    """The files that parse, and why the others do not."""
    files: list[File] = []
    refusals: list[Refusal] = []
    for name, content in python.items():
        try:
            files.append(File.parsed(name, content))
        except BundleError as error:
            refusals.append(error.refusal)
    return files, refusals


def _kept_in(files: list[File]) -> Iterator[Refusal]:
    """What would be kept elsewhere than in a state, and states that can't keep it."""
    states = derived(files, _STATES)
    changing = frozenset(name for file in files for name in _changing_classes(file))
    for file in files:
        yield from _kept_values(file, states)
        yield from _written_globals(file)
        yield from _bare_fields(file, states)
        yield from _kept_defaults(file)
        yield from _kept_objects(file, changing, states)


def _check_application(bundle: Bundle, entrance: Entrance) -> list[Refusal]:
    """What an application imports has to parse; the rest is its author's business."""
    try:
        reached(bundle, entrance)
    except BundleError as error:
        return [error.refusal]
    return list(misplaced(bundle, []))


def _no_python(bundle: Bundle) -> Refusal:
    file = next(iter(bundle.files), None)
    reason = "it is not Python" if file else "the bundle is empty"
    advice = "push a file whose name ends in .py, or a folder with one"
    return Refusal(Stage.CHECK, reason, file or bundle.name, 1, advice=advice)


class _Statement(NamedTuple):
    node: ast.stmt
    owner: ast.ClassDef | None


def _kept_statements(file: File) -> Iterator[_Statement]:
    """Statements whose names the module or a class keeps: all outside functions."""
    pending: list[tuple[ast.AST, ast.ClassDef | None]] = [(file.tree, None)]
    while pending:
        node, owner = pending.pop()
        if isinstance(node, ast.stmt):
            yield _Statement(node, owner)
        inside = node if isinstance(node, ast.ClassDef) else owner
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (*_SCOPES, ast.expr)):
                pending.append((child, inside))


def _kept_values(file: File, states: frozenset[str]) -> Iterator[Refusal]:
    for node, owner in _kept_statements(file):
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) or node.value is None:
            continue
        names = _target_names(node)
        if not names or _DECLARATIONS.issuperset(names) or _is_field(file, node, owner, states):
            continue
        fault = _fault_in(file, node.value)
        if fault is not None:
            place = "of the module" if owner is None else f"of the class {owner.name}"
            reason = f"{', '.join(names)} {place} is {fault.noun}: {fault.why}"
            yield file.refusal(node, reason, fault.advice)


def _target_names(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    found = (part for target in targets for part in ast.walk(target))
    return [part.id for part in found if isinstance(part, ast.Name)]


def _is_field(
    file: File, node: ast.stmt, owner: ast.ClassDef | None, states: frozenset[str]
) -> bool:
    """Whether this is a field's default, which every object gets a copy of."""
    if owner is None or not isinstance(node, ast.AnnAssign) or _is_class_variable(file, node):
        return False
    return owner.name in states or _STRUCT in map(file.dotted, owner.bases)


def _is_class_variable(file: File, node: ast.AnnAssign) -> bool:
    return file.dotted(node.annotation).split(".")[-1] == "ClassVar"


def _fault_in(file: File, value: ast.expr) -> _Fault | None:
    """Why a value must not be kept, looking through the operators that pass one on."""
    pending = [value]  # not a recursion: a sum may have more terms than the stack has frames
    while pending:
        part = pending.pop()
        fault = _LITERALS.get(type(part))
        if fault is None and isinstance(part, ast.Call):
            fault = _CALLS.get(file.dotted(part.func))
        if fault is not None:
            return fault
        pending.extend(_passed_on(part))
    return None


def _passed_on(value: ast.expr) -> list[ast.expr]:
    match value:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.IfExp(body=body, orelse=orelse):
            return [body, orelse]
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts):
            return parts
        case ast.NamedExpr(value=inner) | ast.Starred(value=inner):
            return [inner]
        case _:
            return []


def _written_globals(file: File) -> Iterator[Refusal]:
    for node in file.nodes:
        if isinstance(node, ast.Global):
            names = ", ".join(node.names)
            reason = f"a function writes {names} of the module: {_WHY_SPLIT}"
            yield file.refusal(node, reason, "keep it in the State of an object, or in a Service's")


def _bare_fields(file: File, states: frozenset[str]) -> Iterator[Refusal]:
    for node, owner in _kept_statements(file):
        if owner is None or owner.name not in states or not isinstance(node, ast.AnnAssign):
            continue
        if node.value is None and not _is_class_variable(file, node):
            field = ast.unparse(node.target)
            reason = f"{owner.name}.{field} has no default: objects that live now need a value"
            yield file.refusal(node, reason, f"write {field}: ... = a value of that type")


def _kept_defaults(file: File) -> Iterator[Refusal]:
    for node in file.nodes:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        places, names = node.args, [*node.args.posonlyargs, *node.args.args]
        by_place = zip(reversed(names), reversed(places.defaults), strict=False)
        by_name = zip(places.kwonlyargs, places.kw_defaults, strict=True)
        for name, value in (*by_place, *by_name):
            fault = None if value is None else _fault_in(file, value)
            if fault is not None:
                reason = (
                    f"the default of {name.arg} in {node.name} is {fault.noun}: all calls share it"
                )
                yield file.refusal(node, reason, f"write {name.arg}=None and make it inside")


def _changing_classes(file: File) -> Iterator[str]:
    """Classes whose objects change: they are made with containers, or a method sets attributes."""
    for node in file.nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        if any(_changes_self(file, method) for method in methods):
            yield node.name


def _changes_self(file: File, method: ast.FunctionDef) -> bool:
    first = next(iter([*method.args.posonlyargs, *method.args.args]), None)
    for node in ast.walk(method):
        if first is None or not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not any(_is_attribute_of(first.arg, target) for target in targets):
            continue
        made = node.value is None or _fault_in(file, node.value) is None
        if method.name != "__init__" or not made:
            return True
    return False


def _is_attribute_of(name: str, target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == name
    )


def _kept_objects(
    file: File, changing: frozenset[str], states: frozenset[str]
) -> Iterator[Refusal]:
    for node, owner in _kept_statements(file):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or _is_field(
            file, node, owner, states
        ):
            continue
        made = _class_made(file, node.value)
        if made in changing:
            reason = f"{', '.join(_target_names(node))} is an object of {made}, which changes"
            advice = "make it a Service, and keep what changes in its State"
            yield file.refusal(node, f"{reason}: {_WHY_SPLIT}", advice)


def _class_made(file: File, value: ast.expr | None) -> str:
    """The class of the bundle that ``value`` makes an object of, or empty."""
    dotted = file.dotted(value.func) if isinstance(value, ast.Call) else ""
    return dotted.rpartition(".")[2] if dotted.startswith(".") else ""
