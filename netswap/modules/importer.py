"""One bundle as Python's import system sees it: a finder and loader on ``sys.meta_path``.

A bundle with hash H is the package ``netswap_bundle_<first 12 digits of H>``; ``kv/v2.py`` in it
is the module ``kv.v2`` below that package. Nothing is read from a disk: the importer serves the
modules, their source (also to ``linecache``, as ``kv/v2.py@<12 digits>``) and the data files.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import io
import linecache
import marshal
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType
from typing import Final, NoReturn, cast

from netswap.blame import SHOWN
from netswap.errors import BundleError
from netswap.events import Refusal, Stage
from netswap.keeping import INSTALLATION, abandon
from netswap.modules.application import Entrance, entrance_of, own_module
from netswap.modules.bundle import Bundle
from netswap.modules.data import BundleResources
from netswap.modules.redirect import asked_by, own_builtins
from netswap.modules.syntax import read_text
from netswap.transfer.state import BUNDLED

__all__ = ["Importer", "Unit", "forget_generic_aliases", "package_name", "refuse"]

_INIT: Final = "__init__.py"


@dataclass(frozen=True)
class Unit:
    """One module to be; a package has a ``folder``, and a ``file`` if that has an ``__init__``."""

    module: str
    file: str = ""
    shown: str = ""
    text: str = ""
    folder: str | None = None

    @property
    def lines(self) -> list[str]:
        # not splitlines(): Python's lines end only where a line ends in universal newline mode
        return io.StringIO(self.text, newline=None).readlines()


class Importer(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of one bundle; ``shown`` maps shown file names to the real.

    ``place`` is the folder in which an application's files can be read.
    """

    def __init__(
        self,
        bundle: Bundle,
        root: Path | None,
        compiled: Mapping[str, bytes] | None = None,
        package: str | None = None,
        place: Path | None = None,
    ) -> None:
        self.bundle = bundle
        self.entrance = entrance_of(bundle)
        self._compiled = compiled or {}
        self._code: dict[str, CodeType] = {}
        self._place = place
        self.package = package or package_name(bundle)
        self._builtins = (
            None if self.entrance is None else own_builtins(self.package, self._own_module)
        )
        self.units = {unit.module: unit for unit in _units(bundle, self.package, root)}
        self.shown = {unit.shown: unit.file for unit in self.units.values() if unit.file}

    def install(self) -> None:
        sys.meta_path.insert(0, self)  # before the finders that ask the disk
        for unit in self.units.values():
            if unit.file:
                # no time of change: linecache never looks for such a file on the disk
                linecache.cache[unit.shown] = (len(unit.text), None, unit.lines, unit.shown)

    def remove(self) -> None:
        """Take the bundle out of the interpreter; what still runs goes on running."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        below = f"{self.package}."
        for name in [n for n in sys.modules if n == self.package or n.startswith(below)]:
            del sys.modules[name]
        if self._builtins is not None:
            abandon(self._builtins[INSTALLATION])
        # another load of the same bundle shows its source under the same names
        others = [one for one in sys.meta_path if isinstance(one, Importer)]
        for shown in self.shown:
            if not any(shown in other.shown for other in others):
                linecache.cache.pop(shown, None)
        forget_generic_aliases()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        unit = self.units.get(fullname)
        if unit is None:
            self._refuse_detour(fullname)
            return None
        origin: str | None = unit.shown or None
        if self._place is not None and unit.file:
            origin = str(self._place / unit.file)
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=origin, is_package=unit.folder is not None
        )
        spec.has_location = bool(unit.shown)
        if self._place is not None and unit.folder is not None:
            # what looks for a package's data goes by its path; its modules are found here first
            spec.submodule_search_locations = [str(self._place / unit.folder)]
        return spec

    def _own_module(self, name: str) -> str | None:
        mark = cast("Entrance", self.entrance).mark
        return own_module(self.bundle, mark, name)

    def _refuse_detour(self, fullname: str) -> None:
        """The bundle's own module by a way that leads to a copy on the disk."""
        if self._builtins is None or self._own_module(fullname) is None:
            return
        if asked_by(self._builtins):
            text = f"{fullname} is a module of this push: import it by an import statement"
            raise ImportError(text, name=fullname)

    def exec_module(self, module: ModuleType) -> None:
        if self._builtins is not None:
            module.__dict__["__builtins__"] = self._builtins
            module.__dict__[SHOWN] = self._unit(module.__name__).shown
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, fullname: str) -> CodeType:
        """A module's code, compiled once: on trial it is imported twice, and then told."""
        if fullname not in self._code:
            self._code[fullname] = self._made_code(fullname)
        return self._code[fullname]

    def _made_code(self, fullname: str) -> CodeType:
        unit = self._unit(fullname)
        if (code := self._compiled.get(self.below(fullname))) is not None:
            return cast("CodeType", marshal.loads(code))
        return compile(unit.text, unit.shown or "<folder>", "exec", dont_inherit=True)

    def below(self, fullname: str) -> str:
        """A module's name within the bundle, whatever the package of this load is called."""
        return fullname.removeprefix(self.package)

    def get_source(self, fullname: str) -> str:
        return self._unit(fullname).text

    def is_package(self, fullname: str) -> bool:
        return self._unit(fullname).folder is not None

    def get_resource_reader(self, fullname: str) -> BundleResources:
        return BundleResources(self.bundle.files, self._unit(fullname).folder or "")

    def _unit(self, fullname: str) -> Unit:
        try:
            return self.units[fullname]
        except KeyError:
            raise ImportError(f"{fullname} is not in the bundle", name=fullname) from None


def package_name(bundle: Bundle) -> str:
    return f"{BUNDLED}{bundle.short}"


def _units(bundle: Bundle, package: str, root: Path | None) -> Iterator[Unit]:
    """Every module of the bundle, folders without an ``__init__`` first."""
    files: dict[str, str] = {}
    for file in bundle.python_files():
        name = _module_name(package, file)
        if name in files:
            refuse(f"it would be the same module as {files[name]}", file)
        files[name] = file
    if not files:
        refuse("it is not Python", next(iter(bundle.files), bundle.name))
    packages = _packages(package, files.values())
    for name in sorted(packages.keys() - files.keys()):
        yield Unit(name, folder=packages[name])
    for name, file in files.items():
        if name in packages and PurePosixPath(file).name != _INIT:
            refuse("there is a folder of the same name", file)
        text = read_text(file, bundle.files[file], Stage.LOAD)
        shown = f"{file if root is None else root / file}@{bundle.short}"
        yield Unit(name, file, shown, text, packages.get(name))


def _packages(package: str, files: Iterable[str]) -> dict[str, str]:
    """The folders above the files, as packages; the bundle's own folder is the empty string."""
    folders = {folder for file in files for folder in PurePosixPath(file).parents}
    named = {folder: "" if folder == PurePosixPath() else str(folder) for folder in folders}
    return {_module_name(package, str(folder / _INIT)): name for folder, name in named.items()}


def _module_name(package: str, file: str) -> str:
    path = PurePosixPath(file)
    names = path.parent.parts if path.name == _INIT else path.with_suffix("").parts
    return ".".join((package, *map(_identifier, names)))


def _identifier(part: str) -> str:
    """``part`` as a name that an import statement can have."""
    name = "".join(char if char.isidentifier() or char.isdigit() else "_" for char in part)
    return name if name.isidentifier() else f"_{name}"


def refuse(
    reason: str,
    file: str | None,
    line: int = 1,
    advice: str = "mend the bundle and push again",
) -> NoReturn:
    raise BundleError(Refusal(Stage.LOAD, reason, file, line, advice=advice))


def forget_generic_aliases() -> None:
    """Empty typing's caches: ``Connection[Talk]`` is kept there, and with it Talk's module."""
    for clear in getattr(typing, "_cleanups", ()):
        clear()
