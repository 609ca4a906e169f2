"""What code is loaded in this worker: bundles by hash, and which of them each kind uses."""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from netswap.errors import BundleError
from netswap.events import Refusal, Retiring, Stage
from netswap.mediator import InFront, present
from netswap.modules import Bundle, BundleStore, Loaded, load_bundle
from netswap.modules.application import MARK, entrance_of, outside_of, place_of
from netswap.modules.outside import Outside
from netswap.ott import ObjectTranslationTable
from netswap.stack import Implementation
from netswap.transfer import Migration

__all__ = ["Library", "classes_of"]


def classes_of(table: ObjectTranslationTable, kind: str) -> dict[type, int]:
    """The implementations of a kind's live objects, and how many each has."""
    counts: dict[type, int] = table.classes(kind)
    if any(issubclass(cls, InFront) for cls in counts):
        rows = table.of_kind(kind)
        counts = Counter(type(present(row)) for row in rows if row.target is not None)
    return counts


Release = Callable[[Loaded, Callable[[], None]], None]


def _at_once(_loaded: Loaded, then: Callable[[], None]) -> None:
    then()


class Library:
    """Loaded bundles; ``active`` maps a kind to the bundle that its new objects come from.

    ``leaving`` is told of each bundle that is about to be given up. Before that ``release`` ends
    what its services have started, and then calls what it was given. ``on_trial`` is for a
    rehearsal's child: side effects of an import are looked for.
    """

    def __init__(
        self,
        store: Path,
        leaving: Callable[[Loaded], object] = lambda _loaded: None,
        release: Release = _at_once,
    ) -> None:
        self._store = BundleStore(store)
        self._leaving = leaving
        self._release = release
        self._loaded: dict[str, Loaded] = {}
        self._compiled: dict[str, dict[str, bytes]] = {}
        self.active: dict[str, str] = {}
        self.on_trial = False
        self.outside = Outside()
        self.outside.note()

    def load(self, sha256: str) -> Loaded:
        """The bundle's code, imported on first use. Raises BundleError."""
        loaded = self._loaded.get(sha256)
        if loaded is None:
            loaded = self.loading(sha256)
            self.adopt(loaded)
        return loaded

    def loading(self, sha256: str) -> Loaded:
        """Import the bundle's code, which nobody has before ``adopt``. For any thread."""
        bundle = self._store.get(sha256)
        place = place_of(bundle, lambda: self._store.unpacked(bundle))
        loaded = load_bundle(bundle, None, self._compiled.get(sha256), self.on_trial, place)
        if not self.on_trial:
            self.outside.note()
        return loaded

    def adopt(self, loaded: Loaded) -> None:
        """From now on this is the bundle's code."""
        self._loaded[loaded.sha256] = loaded

    def new_applications(self, bundles: Iterable[str]) -> list[str]:
        """Those of these bundles that are not loaded and seem to be applications."""
        new = [sha256 for sha256 in dict.fromkeys(bundles) if sha256 not in self._loaded]
        return [sha256 for sha256 in new if MARK.encode() in self._store.peek(sha256)]

    def import_outside(self, sha256: str) -> None:
        """Import what an application takes from elsewhere, and unpack its files. For any thread.

        What fails fails again in the application's own import, where it has a line.
        """
        bundle = self._store.get(sha256)
        entrance = entrance_of(bundle)
        place_of(bundle, lambda: self._store.unpacked(bundle))
        for name in () if entrance is None else outside_of(bundle, entrance):
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
        self.outside.note()

    def bundle(self, sha256: str) -> Bundle:
        """The bundle's files. Raises BundleError."""
        return self.load(sha256).bundle

    def compiled(self, bundles: Iterable[str]) -> dict[str, dict[str, bytes]]:
        """The code of these bundles, which are loaded here, for the parent's ``use_compiled``."""
        return {sha256: self.load(sha256).compiled() for sha256 in set(bundles)}

    def use_compiled(self, compiled: dict[str, dict[str, bytes]]) -> None:
        """Load these bundles, when it comes to that, without compiling them."""
        self._compiled = compiled

    def implementation(self, kind: str, sha256: str) -> type[Implementation[Any]]:
        """The class that a bundle provides for a kind. Raises BundleError when it has none."""
        loaded = self.load(sha256)
        found = loaded.implementations.get(kind)
        if found is None:
            provided = ", ".join(sorted(loaded.implementations))
            raise BundleError(
                Refusal(
                    Stage.LOAD,
                    f"the bundle {sha256[:12]} provides {provided} and not {kind}",
                    kind=kind,
                    advice="netswap versions shows which bundles provide a kind",
                )
            )
        return found

    def migrations(self, kind: str, *bundles: str) -> tuple[Migration, ...]:
        """The steps of a kind that these bundles know, those of the later ones in preference.

        An empty name is that of no bundle, as ``sha256_of`` gives it.
        """
        rows = (row for sha256 in bundles if sha256 for row in self.load(sha256).migrations)
        steps = {(row.source, row.target): row for row in rows if row.kind == kind}
        return tuple(steps.values())

    @property
    def count(self) -> int:
        """How many bundles' code is in this process."""
        return len(self._loaded)

    def is_loaded(self, sha256: str) -> bool:
        """Whether the bundle's code is in this process."""
        return sha256 in self._loaded

    def sha256_of(self, implementation: type) -> str:
        """The bundle that a class came from, or an empty string."""
        for sha256, loaded in self._loaded.items():
            if implementation in loaded.implementations.values():
                return sha256
        return ""

    def rows(self) -> Iterable[tuple[str, str, type[Implementation[Any]]]]:
        """Every loaded implementation, as (kind, bundle, class)."""
        for sha256, loaded in self._loaded.items():
            for kind, implementation in loaded.implementations.items():
                yield kind, sha256, implementation

    def unload_unused(self, in_use: Iterable[type]) -> list[str]:
        """Give up bundles that no kind has active and no live object comes from; which ones."""
        wanted = set(self.active.values()) | {self.sha256_of(cls) for cls in in_use}
        unused = [sha256 for sha256 in self._loaded if sha256 not in wanted]
        for sha256 in unused:
            loaded = self._loaded.pop(sha256)
            loaded.leave()
            self._release(loaded, partial(self._unload, loaded))
        return unused

    def _unload(self, loaded: Loaded) -> None:
        self._leaving(loaded)
        loaded.unload()

    def tidy(self, table: ObjectTranslationTable) -> None:
        """Give up what nothing of ``table`` is made of."""
        self.unload_unused({cls for kind in table.kinds() for cls in classes_of(table, kind)})

    @property
    def has_idle(self) -> bool:
        """Whether a bundle is loaded that no kind has active."""
        return not self._loaded.keys() <= set(self.active.values())

    def pinned(self, table: ObjectTranslationTable) -> list[Retiring]:
        """The bundles that are not active and whose code live objects have, with their number."""
        if not self.has_idle:
            return []
        counts: dict[type, int] = {}
        for kind in table.kinds():
            counts |= classes_of(table, kind)
        numbers = {
            loaded: sum(counts.get(cls, 0) for cls in loaded.implementations.values())
            for sha256, loaded in self._loaded.items()
            if sha256 not in self.active.values()
        }
        return [
            Retiring(loaded.sha256, loaded.versions(), "pinned", objects=number)
            for loaded, number in numbers.items()
            if number
        ]
