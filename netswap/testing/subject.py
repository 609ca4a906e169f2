"""What is tested: two versions of some kinds, and the code that stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from netswap.errors import BundleError, UsageError
from netswap.events import Verdict
from netswap.hotswap import Change
from netswap.modules import Bundle, Loaded, check_source, load_bundle
from netswap.stack import Connection, Implementation
from netswap.supervisor.firstset import first_paths
from netswap.transfer import Migration, Transfer, plan_transfer
from netswap.worker.verdicts import ordered

__all__ = ["NEW", "OLD", "Code", "Subject", "load_subject", "other"]

OLD, NEW = "old", "new"

Code = str | Path | Bundle | Sequence[str | Path]
"""A file, a folder, several of them as one bundle, or a bundle."""

Kinds = dict[str, type[Implementation[Any]]]


def other(version: str) -> str:
    """The one that is not ``version``."""
    return OLD if version == NEW else NEW


class Subject(NamedTuple):
    """``of[OLD]`` and ``of[NEW]`` are what the versions provide; ``served`` what clients get."""

    of: dict[str, Kinds]
    names: dict[str, str]
    beside: Kinds
    migrations: tuple[Migration, ...]
    served: str
    hints: frozenset[str] = frozenset()
    """``kind.field`` of what only saves work, so that a round trip may forget it."""

    def first(self, version: str) -> list[Change]:
        """What a worker begins with that has only ever seen ``version``, in a good order."""
        kinds = self.beside | self.of[OLD] | self.of[version]
        return ordered(Change(kind, cls, None, ()) for kind, cls in kinds.items())

    def changes(self, to: str, present: Kinds) -> list[Change]:
        """What a swap to ``to`` changes in a worker that has ``present``.

        Back to old code only what it provides: what new code brought besides stays.
        """
        wanted = self.of[to]
        return ordered(
            Change(kind, cls, present.get(kind), self.migrations) for kind, cls in wanted.items()
        )

    def way(self, kind: str, source: str, target: str) -> Transfer:
        """How the state of a kind that both provide crosses."""
        old, new = self.of[source][kind].state_type, self.of[target][kind].state_type
        return plan_transfer(old, new, self.migrations)

    @property
    def common(self) -> list[str]:
        """The kinds that both versions provide."""
        return [kind for kind in self.of[OLD] if kind in self.of[NEW]]

    def __str__(self) -> str:
        return f"{self.names[OLD]} -> {self.names[NEW]}"


@contextmanager
def load_subject(
    old: Code,
    new: Code,
    beside: Iterable[Code] = (),
    hints: Iterable[str] = (),
    served: str = "",
) -> Iterator[Subject]:
    """Load everything and give it up afterwards; ``served`` is the kind that clients get, if said.

    Raises BundleError for a module that a push would refuse, UsageError for a pair that is none.
    """
    loaded: list[Loaded] = []
    try:
        subject = _subject([old, new, *beside], served, loaded)
        yield subject._replace(hints=frozenset(hints))
    finally:
        for one in loaded:
            one.unload()


def _subject(codes: Sequence[Code], served: str, loaded: list[Loaded]) -> Subject:
    bundles = [_bundle(code) for code in codes]
    loaded.extend(map(_load, bundles))
    provided = {kind for one in loaded for kind in one.implementations}
    loaded.extend(_load(_bundle(path)) for path in first_paths((), provided))
    first, second, *others = loaded
    of = {OLD: dict(first.implementations), NEW: dict(second.implementations)}
    standing = {kind: cls for one in others for kind, cls in one.implementations.items()}
    steps = tuple(step for one in loaded for step in one.migrations)
    names = {OLD: bundles[0].name, NEW: bundles[1].name}
    subject = Subject(of, names, standing, steps, _served(of, standing, served))
    _refuse_no_pair(subject)
    return subject


def _bundle(code: Code) -> Bundle:
    if isinstance(code, Bundle):
        return code
    paths = [code] if isinstance(code, (str, Path)) else code
    return Bundle.from_paths([Path(path) for path in paths])


def _load(bundle: Bundle) -> Loaded:
    refusals = check_source(bundle)
    if refusals:
        raise BundleError(refusals[0])
    return load_bundle(bundle)


def _served(of: dict[str, Kinds], standing: Kinds, wanted: str) -> str:
    """The kind of the connection under test: the versions' own, else the one beside them."""
    if wanted:
        return _known({**standing, **of[NEW], **of[OLD]}, wanted)
    for kinds in (of[OLD], of[NEW], standing):
        found = [kind for kind, cls in kinds.items() if issubclass(cls, Connection)]
        if len(found) == 1:
            return found[0]
        if found:
            what = f"several connections: {', '.join(found)}"
            advice = 'say which one clients get, served="..."; or test one at a time'
            raise UsageError(what, "", advice)
    raise UsageError(
        "no connection uses what is tested", "", "give a module with one in beside=[...]"
    )


def _known(kinds: Kinds, wanted: str) -> str:
    found = [kind for kind, cls in kinds.items() if issubclass(cls, Connection)]
    if wanted not in found:
        what = f"served={wanted!r} is none of the connections: {', '.join(found)}"
        raise UsageError(what, "", "name one of them, or give its module in beside=[...]")
    return wanted


def _refuse_no_pair(subject: Subject) -> None:
    if not subject.common:
        kinds = [", ".join(subject.of[version]) for version in (OLD, NEW)]
        raise UsageError(f"{kinds[0]} and {kinds[1]} have no kind in common", str(subject))
    if subject.of[OLD] == subject.of[NEW]:
        raise UsageError("old and new are the same code", str(subject))
    for kind in subject.common:
        for source in (OLD, NEW):
            way = subject.way(kind, source, other(source))
            if way.verdict is Verdict.INCOMPATIBLE:
                what = f"{kind} can't go from {source} to {other(source)}: {way.reason}"
                raise UsageError(what, str(subject))
