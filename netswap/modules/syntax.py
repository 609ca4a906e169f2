"""The files of a bundle as syntax trees: what the rules about source are made of."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

from netswap.blame import describe
from netswap.errors import BundleError
from netswap.events import Refusal, Stage

__all__ = ["LARGEST", "File", "absolute_imports", "derived", "parse", "read_text", "tree_of"]

LARGEST: Final = 1024 * 1024
"""Bytes of one Python file: a parser can't be interrupted, and ten megabytes take it seconds."""


def parse(name: str, content: bytes, stage: Stage = Stage.CHECK) -> ast.Module:
    """The syntax tree of a file; raises BundleError that names the line where there is none."""
    tree = tree_of(name, content, stage)
    with _told(name, stage):
        compile(tree, name, "exec", dont_inherit=True)  # finds what the grammar alone does not
    return tree


def tree_of(name: str, content: bytes, stage: Stage = Stage.CHECK) -> ast.Module:
    """The same of a file that has been compiled before: what only that finds is not looked for."""
    if len(content) > LARGEST:
        _refuse(
            stage, f"it is larger than {LARGEST // 1024} kB, which no parser reads in time", name, 1
        )
    text = read_text(name, content, stage)
    with _told(name, stage):
        return ast.parse(text, name)


@contextmanager
def _told(name: str, stage: Stage) -> Iterator[None]:
    """What Python has against a file, as a refusal."""
    try:
        yield
    except SyntaxError as error:
        _refuse(stage, f"it does not parse: {error.msg}", name, error.lineno or 1)
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        _refuse(stage, f"it does not parse: {describe(error)}", name, 1)


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


def absolute_imports(node: ast.AST) -> list[str]:
    """The modules that a statement imports by absolute names; none for anything else."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(level=0, module=str(module)):
            return [module]
        case _:
            return []


@dataclass(frozen=True)
class File:
    """A parsed file; ``origins`` maps its global names to the dotted names they stand for.

    ``nodes`` are all of its tree: each rule looks through them, and one walk takes ten milliseconds
    for two thousand lines.
    """

    name: str
    tree: ast.Module
    origins: Mapping[str, str]
    nodes: Sequence[ast.AST]

    @classmethod
    def parsed(cls, name: str, content: bytes) -> File:
        tree = parse(name, content)
        nodes = tuple(ast.walk(tree))
        return cls(name, tree, dict(_origins(tree, nodes)), nodes)

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

    def refusal(
        self, node: ast.stmt | ast.expr | ast.ExceptHandler, reason: str, advice: str
    ) -> Refusal:
        return Refusal(Stage.CHECK, reason, self.name, node.lineno, advice=advice)


def _origins(tree: ast.Module, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    for node in nodes:
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


def derived(files: list[File], roots: Collection[str]) -> frozenset[str]:
    """Names of the bundle's classes that come from ``roots``, through any number of bases.

    A base from the bundle itself has a dotted name that begins with a dot, and is known by the
    last part of it.
    """
    bases = {
        node.name: [file.dotted(base) for base in node.bases]
        for file in files
        for node in file.nodes
        if isinstance(node, ast.ClassDef)
    }
    known: set[str] = set()
    for _ in bases:
        known |= {
            name
            for name, above in bases.items()
            if any(base in roots or _is_one_of(base, known) for base in above)
        }
    return frozenset(known)


def _is_one_of(dotted: str, known: Collection[str]) -> bool:
    return dotted.startswith(".") and dotted.rpartition(".")[2] in known
