"""Answers to the supervisor's questions about this worker's objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from netswap.channel import answers
from netswap.mediator import present
from netswap.ott import Entry, Selector
from netswap.stack import Host
from netswap.transfer.canonical import plain
from netswap.worker.gauges import resident_bytes
from netswap.worker.library import Library, classes_of
from netswap.worker.retirement import Retirement
from netswap.worker.startup import Startups

__all__ = ["Door", "Looks"]


class Door(NamedTuple):
    """What the acceptors know."""

    certificates: Callable[[], list[answers.CertificateRow]]
    turned_away: Callable[[], dict[str, dict[str, int]]]


class Looks:
    """One method for each ``Query.what``."""

    def __init__(
        self, host: Host, library: Library, retirement: Retirement, startups: Startups, door: Door
    ) -> None:
        self._door = door
        self._host = host
        self._library = library
        self._retirement = retirement
        self._startups = startups
        self._by_name: dict[str, Callable[[str], Any]] = {
            "status": self._status,
            "objects": self._objects,
            "inspect": self._inspect,
            "versions": self._versions,
            "blockers": self._blockers,
            "certificates": lambda _argument: door.certificates(),
        }

    def answer(self, what: str, argument: str) -> bytes:
        """The answer as msgpack. Raises KeyError for an unknown look, UsageError for a selector."""
        return msgspec.msgpack.encode(self._by_name[what](argument))

    def connections(self) -> int:
        """How many accepted sockets live."""
        return sum(
            self._host.table.count(kind)
            for kind in self._host.table.kinds()
            if kind.endswith(".connection")
        )

    def _status(self, _argument: str) -> answers.WorkerStatus:
        counts = {kind: self._count_of(kind) for kind in self._host.table.kinds()}
        # a handle without an object may be left of a push that was taken back: no kind of ours
        known = {kind for kind, count in counts.items() if count.objects} | set(self._host.present)
        kinds = {kind: counts.get(kind) or self._count_of(kind) for kind in known}
        return answers.WorkerStatus(
            self.connections(),
            kinds,
            resident_bytes(),
            _library_of(self._host.loop),
            self._library.count,
            [
                *self._library.pinned(self._host.table),
                *self._startups.rows(),
                *self._retirement.rows(),
            ],
            self._door.turned_away(),
        )

    def _count_of(self, kind: str) -> answers.KindCount:
        by_version: dict[int, int] = {}
        for cls, count in classes_of(self._host.table, kind).items():
            version: int = cls.version  # type: ignore[attr-defined]  # an Implementation
            by_version[version] = by_version.get(version, 0) + count
        service = present(self._host.services[kind]) if kind in self._host.services else None
        pinned = 0 if service is None else service.pinned_sessions()
        return answers.KindCount(sum(by_version.values()), by_version, pinned)

    def _objects(self, selector: str) -> list[answers.ObjectRow]:
        rows = self._host.table.select(Selector(selector))
        hashes: dict[type, str] = {}
        return [self._row(entry, hashes) for entry in rows]

    def _row(self, entry: Entry, hashes: dict[type, str]) -> answers.ObjectRow:
        target = present(entry)
        cls = type(target)
        if cls not in hashes:
            hashes[cls] = self._library.sha256_of(cls)
        return answers.ObjectRow(
            entry.identity, entry.kind, target.version, hashes[cls], target.attributes()
        )

    def _inspect(self, identity: str) -> answers.Inspection | None:
        entry = self._host.table.find(int(identity)) if identity.isdigit() else None
        if entry is None or entry.target is None:
            return None
        target = present(entry)
        return answers.Inspection(
            entry.identity,
            entry.kind,
            target.version,
            self._library.sha256_of(type(target)),
            type(target).__qualname__,
            target.attributes(),
            plain(target.state),
        )

    def _versions(self, _argument: str) -> list[answers.VersionRow]:
        active = self._library.active
        return [
            answers.VersionRow(kind, cls.version, sha, self._count(cls), active.get(kind) == sha)
            for kind, sha, cls in self._library.rows()
        ]

    def _count(self, cls: Any) -> int:
        return classes_of(self._host.table, cls.kind).get(cls, 0)

    def _blockers(self, _argument: str) -> list[Any]:
        found = []
        for entry in self._host.table:
            if entry.target is not None:
                found.extend(present(entry).blockers())
        return found


def _library_of(loop: asyncio.AbstractEventLoop) -> str:
    """Whose loop it is, which may be one of a class of our own: ``uvloop`` or ``asyncio``."""
    modules = (cls.__module__.partition(".")[0] for cls in type(loop).__mro__)
    return next(module for module in modules if module in {"asyncio", "uvloop"})
