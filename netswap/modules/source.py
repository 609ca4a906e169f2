"""What can be refused by reading the source, before any of it runs.

The rules keep state in objects. Two versions of a module live side by side while a swap is under
way, each with globals of its own: a registry, a cache, a lock or a context variable of the module
would silently become two. What can't be seen in the source (a mutable object made by a function)
is not found here; a false alarm would be worse, since it can't be switched off.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from netswap.blame import describe
from netswap.errors import BundleError
from netswap.events import Refusal, Stage
from netswap.modules.bundle import Bundle

__all__ = ["check_source", "parse", "read_text"]


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
    fields of a State without a default. Nothing of the bundle is run.
    """
    python = bundle.python_files()
    if not python:
        return [_no_python(bundle)]
    refusals: list[Refusal] = []
    files: list[_File] = []
    for name, content in python.items():
        try:
            files.append(_File.parsed(name, content))
        except BundleError as error:
            refusals.append(error.refusal)
    states = _state_classes(files)
    for file in files:
        refusals.extend(_kept_values(file, states))
        refusals.extend(_written_globals(file))
        refusals.extend(_bare_fields(file, states))
    return sorted(refusals, key=lambda refusal: (refusal.file or "", refusal.line or 0))


def parse(name: str, content: bytes, stage: Stage = Stage.CHECK) -> ast.Module:
    """The syntax tree of a file; raises BundleError that names the line where there is none."""
    text = read_text(name, content, stage)
    try:
        tree = ast.parse(text, name)
        compile(tree, name, "exec", dont_inherit=True)  # finds what the grammar alone does not
    except SyntaxError as error:
        _refuse(stage, f"it does not parse: {error.msg}", name, error.lineno or 1)
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        _refuse(stage, f"it does not parse: {describe(error)}", name, 1)
    return tree


def read_text(name: str, content: bytes, stage: Stage = Stage.CHECK) -> str:
    """The text of a Python file in its declared encoding (PEP 263; UTF-8 when it declares none).

    Raises BundleError that names the line of the first byte which is not text.
    """
    if (zero := content.find(0)) >= 0:
        _refuse(stage, "it is not text: it holds a zero byte", name, _line_at(content, zero))
    try:
        encoding = _encoding(content)
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x}"
        reason = f"it is not text: {byte} is not {error.encoding}"
        _refuse(stage, reason, name, _line_at(content, error.start))
    except (SyntaxError, LookupError) as error:
        _refuse(stage, f"it is not text: {error}", name, 1)


def _encoding(content: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError:
        content.decode()  # its error names the byte; detect_encoding's does not
        raise


def _line_at(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1


def _refuse(stage: Stage, reason: str, name: str, line: int) -> NoReturn:
    advice = "mend the file and push again"
    raise BundleError(Refusal(stage, reason, name, line, advice=advice))


def _no_python(bundle: Bundle) -> Refusal:
    file = next(iter(bundle.files), None)
    reason = "it is not Python" if file else "the bundle is empty"
    advice = "push a file whose name ends in .py, or a folder with one"
    return Refusal(Stage.CHECK, reason, file or bundle.name, 1, advice=advice)


@dataclass(frozen=True)
class _File:
    """A parsed file; ``origins`` maps its global names to the dotted names they stand for."""

    name: str
    tree: ast.Module
    origins: Mapping[str, str]

    @classmethod
    def parsed(cls, name: str, content: bytes) -> _File:
        tree = parse(name, content)
        return cls(name, tree, dict(_origins(tree)))

    def dotted(self, node: ast.expr) -> str:
        """The full name that an expression refers to, without its subscripts; or empty."""
        parts: list[str] = []
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join((self.origins.get(node.id, node.id), *reversed(parts)))

    def refusal(self, node: ast.stmt, reason: str, advice: str) -> Refusal:
        return Refusal(Stage.CHECK, reason, self.name, node.lineno, advice=advice)


def _origins(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield (name.asname, name.name) if name.asname else (name.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for name in node.names:
                yield name.asname or name.name, f"{origin}.{name.name}"
    for statement in tree.body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, f".{statement.name}"


def _state_classes(files: list[_File]) -> frozenset[str]:
    """Names of the bundle's classes that are states, through any number of bases and files.

    A base from the bundle itself has a dotted name that begins with a dot, and is known by the
    last part of it.
    """
    bases = {
        node.name: [file.dotted(base) for base in node.bases]
        for file in files
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ClassDef)
    }
    known: set[str] = set()
    for _ in bases:
        known |= {name for name, above in bases.items() if any(_is_state(b, known) for b in above)}
    return frozenset(known)


def _is_state(dotted: str, known: set[str] | frozenset[str]) -> bool:
    last = dotted.rpartition(".")[2]
    return dotted in _STATES or (dotted.startswith(".") and last in known)


class _Statement(NamedTuple):
    node: ast.stmt
    owner: ast.ClassDef | None


def _kept_statements(file: _File) -> Iterator[_Statement]:
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


def _kept_values(file: _File, states: frozenset[str]) -> Iterator[Refusal]:
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
    file: _File, node: ast.stmt, owner: ast.ClassDef | None, states: frozenset[str]
) -> bool:
    """Whether this is a field's default, which every object gets a copy of."""
    if owner is None or not isinstance(node, ast.AnnAssign) or _is_class_variable(file, node):
        return False
    return owner.name in states or _STRUCT in map(file.dotted, owner.bases)


def _is_class_variable(file: _File, node: ast.AnnAssign) -> bool:
    return file.dotted(node.annotation).split(".")[-1] == "ClassVar"


def _fault_in(file: _File, value: ast.expr) -> _Fault | None:
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


def _written_globals(file: _File) -> Iterator[Refusal]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Global):
            names = ", ".join(node.names)
            reason = f"a function writes {names} of the module: {_WHY_SPLIT}"
            yield file.refusal(node, reason, "keep it in the State of an object, or in a Service's")


def _bare_fields(file: _File, states: frozenset[str]) -> Iterator[Refusal]:
    for node, owner in _kept_statements(file):
        if owner is None or owner.name not in states or not isinstance(node, ast.AnnAssign):
            continue
        if node.value is None and not _is_class_variable(file, node):
            field = ast.unparse(node.target)
            reason = f"{owner.name}.{field} has no default: objects that live now need a value"
            yield file.refusal(node, reason, f"write {field}: ... = a value of that type")
