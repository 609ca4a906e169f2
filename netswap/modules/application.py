"""Which bundles are applications: files that define no implementation but have something to host.

Seen in the source, before any of it runs, since other rules hold for them: their globals are their
author's business, and only the module that has the application is imported, with what it imports.
A project's folder has scripts and tests beside it.

What is found to be an application gets a *mark*, a file in the bundle, from serve, check or push; a
worker, whose loop must not stall for reading sources, goes by that. The mark also knows what can't
be seen in the files: the name by which they import each other (``shop`` in ``from shop.db import
pool``), and where they lay. The application is the global that it names, else ``app``,
``application``, ``create_app`` or ``make_app`` of the module that looks most like the entrance.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, NoReturn

import msgspec

from netswap.errors import BundleError
from netswap.events import Refusal, Stage
from netswap.hosting import FACTORIES
from netswap.modules.bundle import Bundle
from netswap.modules.effects import outside_imports
from netswap.modules.reach import IMPLEMENTATIONS
from netswap.modules.syntax import File, derived, parse

__all__ = [
    "MARK",
    "NAMES",
    "Entrance",
    "Mark",
    "as_application",
    "bundle_of",
    "entrance_of",
    "imported",
    "imports_of",
    "inheriting",
    "mark_of",
    "marked",
    "outside_of",
    "own_module",
    "place_of",
    "reached",
]

MARK: Final = ".netswap-application"
NAMES: Final = ("app", "application", *FACTORIES)
"""Globals that are taken for the application, best first."""

_ENTRANCES: Final = ("main", "app", "application", "asgi", "server", "web", "api", "__init__")
"""Modules that look like an entrance, best first."""

_LOOKS_LIKE: Final = re.compile(rb"\b(?:%s)\b" % "|".join(NAMES).encode())
"""Most protocols need not be parsed to see that they are no applications."""

_ADVICE: Final = "say which: netswap push PATH --app MODULE:NAME"


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the files do not show; an empty text is not known.

    ``package`` is the top-level name of the bundle's own folder, ``module`` the dotted name below
    it, ``root`` the folder in which the files lay.
    """

    module: str | None = None
    name: str = ""
    package: str = ""
    root: str = ""


class Entrance(NamedTuple):
    """Where the application is: the global ``name`` of ``file``."""

    file: str
    name: str
    mark: Mark

    @property
    def module(self) -> str:
        """The module's dotted name below the bundle; empty for that of the bundle's own folder."""
        return _dotted(self.file)


def mark_of(bundle: Bundle) -> Mark | None:
    """The bundle's mark, if it has one. Raises BundleError for one that can't be read."""
    content = bundle.files.get(MARK)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Mark)
    except msgspec.DecodeError as error:
        _refuse(f"its mark can't be read: {error}", MARK, "push it again")


def marked(bundle: Bundle, mark: Mark) -> Bundle:
    """The same files with this mark."""
    return Bundle(bundle.name, {**bundle.files, MARK: msgspec.json.encode(mark)})


def as_application(bundle: Bundle) -> Bundle:
    """``bundle``, marked if it is an application and has no mark."""
    unmarked = MARK not in bundle.files and _is_application(bundle)
    return marked(bundle, Mark()) if unmarked else bundle


def bundle_of(path: Path, named: str = "") -> Bundle:
    """A file or folder as a bundle, with a mark if it is an application.

    A file of an application brings those beside it that it imports: by the same names they would
    be found there and be the same for all versions. ``named`` is the application in it as
    ``MODULE:NAME``, or ``:NAME``. Raises what ``Bundle.from_paths`` raises.
    """
    bundle = Bundle.from_paths([path])
    if not named and not _is_application(bundle):
        return bundle
    here = Path(os.path.abspath(path))
    module, _, name = named.partition(":")
    if here.is_dir():
        root = here
        package, given = _in_folder(here.name, bundle, module)
    else:
        root, package = here.parent, ""
        given = module or (_dotted(here.name) if name else None)
        bundle = Bundle(bundle.name, dict(_with_beside(here)))
    data = bundle.files.keys() - bundle.python_files().keys()
    return marked(bundle, Mark(given, name, package, "" if data else str(root)))


def _in_folder(folder: str, bundle: Bundle, module: str) -> tuple[str, str | None]:
    """The top-level name of a folder's bundle, and ``module`` below it; None if none is said."""
    top, _, below = module.partition(".")
    if module and top == folder:
        return folder, below
    return folder if "__init__.py" in bundle.files else "", module or None


def _with_beside(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file and, of its folder, the modules and packages that it imports, directly or not."""
    pending, seen = [path], set[Path]()
    while pending:
        here = pending.pop()
        if here in seen or not here.is_file():
            continue
        seen.add(here)
        content = here.read_bytes()
        yield str(here.relative_to(path.parent)), content
        try:
            tree = parse(here.name, content)
        except BundleError:  # it is told where it is loaded
            continue
        for top in sorted({name.partition(".")[0] for name in imports_of(tree)}):
            if top in sys.stdlib_module_names or top == "netswap":
                continue
            pending.append(path.with_name(f"{top}.py"))
            package = path.with_name(top)
            if (package / "__init__.py").is_file():
                pending += sorted(package.rglob("*.py"))


def inheriting(bundle: Bundle, before: Bundle) -> Bundle:
    """``bundle``, with its application where ``before`` has it, if it does not say where."""
    mark, earlier = mark_of(bundle), mark_of(before)
    if mark is None or mark.module is not None or earlier is None or earlier.module is None:
        return bundle
    if _file_of(bundle, earlier.module) is None:
        return bundle
    return marked(bundle, msgspec.structs.replace(mark, module=earlier.module, name=earlier.name))


def _is_application(bundle: Bundle) -> bool:
    if not any(_LOOKS_LIKE.search(content) for content in bundle.python_files().values()):
        return False
    files = list(_parsed(bundle))
    has_one = any(name in _bound(file.tree) for file in files for name in NAMES)
    return has_one and not _implements(files)


def _implements(files: list[File]) -> bool:
    """Whether a class is an implementation, or may be one: its base comes by a star."""
    stars = any(file.origins.get("*", "").startswith("netswap.") for file in files)
    return stars or bool(derived(files, IMPLEMENTATIONS))


@lru_cache(maxsize=8)
def entrance_of(bundle: Bundle) -> Entrance | None:
    """Where the application of a marked bundle is; None for a bundle without a mark.

    Raises BundleError when the mark names what is not there, or two files look alike.
    """
    mark = mark_of(bundle)
    if mark is None:
        return None
    if mark.module is not None:
        return _marked_entrance(bundle, mark)
    names = (mark.name.partition(".")[0],) if mark.name else NAMES
    files = _parsed(bundle)
    found = [(file.name, name) for file in files for name in names if name in _bound(file.tree)]
    if not found:
        _refuse(f"no module of it has {' or '.join(names)}", bundle.name, _ADVICE)
    ranked = sorted(found, key=lambda one: (*_rank(one[0]), names.index(one[1])))
    file, name = ranked[0]
    others = [one for one in ranked if one[0] != file and _rank(one[0]) == _rank(file)]
    if others:
        _refuse(f"{file} has {name} and {others[0][0]} has {others[0][1]}", file, _ADVICE)
    return Entrance(file, mark.name or name, mark)


def _parsed(bundle: Bundle) -> Iterator[File]:
    """The files that can be parsed; of the others the import will tell, if it comes to them."""
    for name, content in bundle.python_files().items():
        try:
            yield File.parsed(name, content)
        except BundleError:
            continue


def _marked_entrance(bundle: Bundle, mark: Mark) -> Entrance:
    assert mark.module is not None
    file = _file_of(bundle, mark.module)
    if file is None:
        shown = ".".join(filter(None, (mark.package, mark.module)))
        _refuse(f"there is no module {shown} in it", bundle.name, _ADVICE)
    if mark.name:
        return Entrance(file, mark.name, mark)
    bound = _bound(parse(file, bundle.files[file], Stage.LOAD))
    name = next((name for name in NAMES if name in bound), NAMES[0])
    return Entrance(file, name, mark)


def _rank(file: str) -> tuple[int, int]:
    """The less the better: near the top, in a module that looks like an entrance."""
    path = PurePosixPath(file)
    known = path.stem in _ENTRANCES
    return len(path.parts), _ENTRANCES.index(path.stem) if known else len(_ENTRANCES)


def _bound(tree: ast.Module) -> set[str]:
    """Names that the top level of a module assigns or defines."""
    found: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.id for t in targets if isinstance(t, ast.Name)}
        elif isinstance(node, (ast.If, ast.Try, ast.With)) and not _is_main(node):
            pending += ast.iter_child_nodes(node)
    return found


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.dump(node.test)


def _dotted(file: str) -> str:
    path = PurePosixPath(file).with_suffix("")
    return ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)


def _file_of(bundle: Bundle, module: str) -> str | None:
    path = module.replace(".", "/")
    places = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((place for place in places if place in bundle.files), None)


def own_module(bundle: Bundle, mark: Mark, name: str) -> str | None:
    """What an absolute import of ``name`` means within the bundle: a dotted name below it.

    None when it is somebody else's. A name of the standard library is meant as such.
    """
    top, _, rest = name.partition(".")
    if mark.package:
        return rest if top == mark.package else None
    if "__init__.py" in bundle.files or top in sys.stdlib_module_names:
        return None
    here = f"{top}.py" in bundle.files or any(f.startswith(f"{top}/") for f in bundle.files)
    return name if here else None


def reached(bundle: Bundle, entrance: Entrance) -> Mapping[str, ast.Module]:
    """The files that the application's module imports, directly or not, with their syntax.

    Raises BundleError for one that does not parse.
    """
    pending, found = list(_with_parents(bundle, entrance.module)), dict[str, ast.Module]()
    while pending:
        file = pending.pop(0)
        if file in found:
            continue
        found[file] = parse(file, bundle.files[file], Stage.LOAD)
        for name in imported(bundle, entrance.mark, file, found[file]):
            pending += _with_parents(bundle, name)
    return found


def place_of(bundle: Bundle, unpacked: Callable[[], Path]) -> Path | None:
    """The folder in which an application finds what it reads beside its code; None for no
    application.

    One that was pushed with its data has that of its own version; one that was pushed without
    looks where it lay.
    """
    entrance = entrance_of(bundle)
    if entrance is None:
        return None
    data = bundle.files.keys() - bundle.python_files().keys() - {MARK}
    return unpacked() if data or not entrance.mark.root else Path(entrance.mark.root)


def outside_of(bundle: Bundle, entrance: Entrance) -> list[str]:
    """The modules that an application's files import at once from outside of the bundle."""
    names = (
        name
        for tree in reached(bundle, entrance).values()
        for name, _ in outside_imports(tree)
        if own_module(bundle, entrance.mark, name) is None
    )
    return list(dict.fromkeys(names))


def imports_of(tree: ast.Module) -> Iterator[str]:
    """The absolute names that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


def imported(bundle: Bundle, mark: Mark, file: str, tree: ast.Module) -> Iterator[str]:
    """The bundle's own modules that a file imports anywhere, as dotted names below the bundle."""
    package = list(PurePosixPath(file).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [own_module(bundle, mark, alias.name) for alias in node.names]
            yield from (name for name in names if name is not None)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                above = package[: len(package) - node.level + 1]
                source: str | None = ".".join([*above, *filter(None, [node.module])])
            else:
                source = own_module(bundle, mark, node.module or "")
            if source is not None:
                yield source
                yield from (".".join(filter(None, (source, a.name))) for a in node.names)


def _with_parents(bundle: Bundle, module: str) -> Iterator[str]:
    """The files of a module and of the packages above it."""
    parts = module.split(".") if module else []
    for end in range(len(parts) + 1):
        file = _file_of(bundle, ".".join(parts[:end]))
        if file is not None:
            yield file


def _refuse(reason: str, file: str, advice: str) -> NoReturn:
    raise BundleError(Refusal(Stage.LOAD, reason, file, 1, advice=advice))
