"""What an operator sees: every look as plain data for JSON, with ``schema`` in front.

Object ids are ``SLOT.IDENTITY``, since identities are counted within a worker.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from netswap.channel import answers
from netswap.errors import UsageError
from netswap.ott import Selector
from netswap.supervisor.certificates import Certificates
from netswap.supervisor.firstset import waits_for
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.lifecycle import WorkerState
from netswap.supervisor.listening import Listener, Listeners
from netswap.supervisor.operations import Operations
from netswap.supervisor.slots import Slot
from netswap.supervisor.state import StateDirectory
from netswap.supervisor.transaction import local_selector
from netswap.supervisor.versions import Transaction

__all__ = ["SCHEMA", "Looks"]

SCHEMA = "netswap/1"
_OBJECT_ID = re.compile(r"(\d+)\.(\d+)")


class Looks:
    """Nothing here changes anything."""

    def __init__(
        self,
        state: StateDirectory,
        fleet: Fleet,
        operations: Operations,
        listeners: Listeners,
        certificates: Certificates,
    ) -> None:
        self._certificates = certificates
        self._state = state
        self._fleet = fleet
        self._operations = operations
        self._listeners = listeners
        self._started = time.time()
        self.pid = os.getpid()

    async def status(self) -> dict[str, Any]:
        """The whole server at a glance."""
        found = await self._ask("status")
        return _page(
            pid=self.pid,
            uptime=round(time.time() - self._started, 3),
            workers=[self._worker(slot, found.get(slot.number)) for slot in self._fleet.slots],
            kinds=self._kinds(found),
            listeners=[self._listener(one, found) for one in self._listeners.all],
            transaction=self._operations.running,
            retiring=_retiring(found),
            unanswered=await self._unanswered(found),
        )

    def _listener(self, one: Listener, found: dict[int, answers.WorkerStatus]) -> dict[str, Any]:
        away: Counter[str] = Counter()
        for status in found.values():
            away.update(status.turned_away.get(one.name, {}))
        return {
            "name": one.name,
            "protocol": one.protocol,
            "address": str(one.address),
            "tls": one.name in self._certificates.force,
            "proxy": one.proxy,
            "turned_away": dict(away),
            "waits_for": waits_for(one.protocol, self._state.versions.active),
        }

    def _worker(self, slot: Slot, status: answers.WorkerStatus | None) -> dict[str, Any]:
        alive = slot.state is not WorkerState.DEAD
        return {
            "id": slot.number,
            "pid": slot.pid if alive else None,
            "connections": slot.connections if status is None else status.connections,
            "state": (WorkerState.STARTING if slot.pid is None else slot.state).value,
            "restarts": slot.restarts,
            "crash_loop": slot.backoff.crash_loop,
            "stuck": slot.silent,
        }

    def _kinds(self, found: dict[int, answers.WorkerStatus]) -> dict[str, dict[str, Any]]:
        versions = self._state.versions
        counted = {kind for status in found.values() for kind in status.kinds}
        return {
            kind: {
                "version": versions.version_of.get((kind, sha)),
                "revision": versions.revision(kind, sha),
                "sha256": sha,
                **_count(kind, found),
            }
            for kind in sorted(counted | set(versions.active))
            for sha in [versions.active.get(kind, "")]
        }

    async def objects(self, selector: str) -> dict[str, Any]:
        """Live objects that ``selector`` matches, at most 10,000 a worker.

        :raises UsageError: it is not a selector, or names an attribute that there is not.
        """
        Selector.of_operator(selector)
        found = await self._ask("objects", lambda slot: local_selector(selector, slot))
        rows = [
            {"id": f"{slot}.{row.identity}", **_plain(row, "identity")}
            for slot, answer in sorted(found.items())
            for row in answer
        ]
        return _page(objects=rows, unanswered=await self._unanswered(found))

    async def inspect(self, identity: str) -> dict[str, Any]:
        """One object with its state.

        :raises UsageError: there is no such object.
        """
        parsed = _OBJECT_ID.fullmatch(identity)
        if parsed is None:
            raise UsageError(f"{identity!r} is not SLOT.NUMBER", "", "`netswap objects` lists ids")
        slot = int(parsed[1])
        chosen = [one for one in self._fleet.serving() if one.number == slot]
        found = await self._fleet.enquiry.ask(chosen, "inspect", lambda _slot: parsed[2])
        if chosen and slot not in found:
            (stuck,) = await self._fleet.stuck([slot])
            raise UsageError(str(stuck), "", "`netswap workers` shows when it answers again")
        if found.get(slot) is None:
            raise UsageError(f"no object {identity} lives", "", "`netswap objects` lists ids")
        return _page(object={"id": identity, **_plain(found[slot], "identity")})

    async def versions(self) -> dict[str, Any]:
        """Every revision of every kind, and how many objects still are of it."""
        found, status = await asyncio.gather(self._ask("versions"), self._ask("status"))
        live: dict[tuple[str, str], int] = {}
        for answer in found.values():
            for row in answer:
                live[row.kind, row.sha256] = live.get((row.kind, row.sha256), 0) + row.objects
        versions = self._state.versions
        rows = [
            {
                **msgspec.to_builtins(row),
                "active": versions.active.get(kind) == row.sha256,
                "objects": live.get((kind, row.sha256), 0),
            }
            for kind, rows in sorted(versions.revisions.items())
            for row in rows
        ]
        unanswered = await self._unanswered(found)
        return _page(versions=rows, retiring=_retiring(status), unanswered=unanswered)

    async def workers(self) -> dict[str, Any]:
        """The worker slots."""
        found = await self._ask("status")
        unanswered = await self._unanswered(found)
        doing = {row["worker"]: row["doing"] for row in unanswered}
        rows = []
        for slot in self._fleet.slots:
            one = found.get(slot.number)
            row = {**self._worker(slot, one), "answers": one is not None}
            if one is not None:
                row |= {"memory": one.memory, "loop": one.loop, "bundles": one.bundles}
            if slot.number in doing:
                row["doing"] = doing[slot.number]
            rows.append(row)
        return _page(workers=rows, unanswered=unanswered)

    async def history(self) -> dict[str, Any]:
        """The transactions, the latest first; see ``versions`` for how many are kept."""
        rows = [
            {
                **msgspec.to_builtins(row),
                "changes": [self._change(change) for change in row.changes],
                "outcome": "running" if self._runs(row) else row.outcome,
            }
            for row in reversed(self._state.versions.history)
        ]
        return _page(transactions=rows)

    def _runs(self, row: Transaction) -> bool:
        """Whether it is under way: it has no end yet, and no crash is why."""
        latest = row is self._state.versions.history[-1] and row.outcome == "interrupted"
        return latest and row.time >= self._started and self._operations.running is not None

    def _change(self, change: Any) -> dict[str, Any]:
        versions = self._state.versions
        old = versions.revision(change.kind, change.old) if change.old else None
        row: dict[str, Any] = msgspec.to_builtins(change)
        row["old_revision"] = old
        row["new_revision"] = versions.revision(change.kind, change.new)
        return row

    async def blockers(self) -> dict[str, Any]:
        """Suspended calls that a swap would have to wait for."""
        found = await self._ask("blockers")
        rows = [
            {"worker": slot, **msgspec.to_builtins(row)}
            for slot, answer in sorted(found.items())
            for row in answer
        ]
        return _page(blockers=rows, unanswered=await self._unanswered(found))

    async def _ask(
        self, what: str, argument: Callable[[int], str] = lambda _slot: ""
    ) -> dict[int, Any]:
        return await self._fleet.enquiry.ask(self._fleet.serving(), what, argument)

    async def _unanswered(self, found: Collection[int]) -> list[dict[str, Any]]:
        """The workers that serve and are not in what was ``found``, and what they do instead."""
        missing = [slot.number for slot in self._fleet.serving() if slot.number not in found]
        return [msgspec.to_builtins(row) for row in await self._fleet.stuck(missing)]


def _retiring(found: dict[int, answers.WorkerStatus]) -> list[dict[str, Any]]:
    """Old code that is still in a worker."""
    return [
        {"worker": slot, **msgspec.to_builtins(row)}
        for slot, status in sorted(found.items())
        for row in status.retiring
    ]


def _page(**fields: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, **fields}


def _plain(row: msgspec.Struct, without: str) -> dict[str, Any]:
    """``row`` as data that JSON can hold; bytes become text, escaped where they are none."""
    plain: dict[str, Any] = _readable(msgspec.structs.asdict(row))
    plain.pop(without)
    return plain


def _readable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {str(_readable(key)): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_readable(item) for item in value]
    return value


def _count(kind: str, found: dict[int, answers.WorkerStatus]) -> dict[str, Any]:
    rows = [status.kinds[kind] for status in found.values() if kind in status.kinds]
    by_version: dict[str, int] = {}
    for row in rows:
        for version, number in row.by_version.items():
            by_version[str(version)] = by_version.get(str(version), 0) + number
    return {
        "objects": sum(row.objects for row in rows),
        "by_version": by_version,
        "pinned": sum(row.pinned for row in rows),
    }
