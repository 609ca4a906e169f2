"""What an operator does about suspended calls: nudge them, or end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from netswap.errors import UsageError
from netswap.events import Acted
from netswap.mediator import present
from netswap.stack import Host

__all__ = ["Interventions"]


class Interventions:
    """One row for each ``Intervene.what``; every act is logged."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._acts: dict[str, Callable[[Any, int | None], list[Acted]]] = {
            "nudge": lambda target, call: target.nudge_suspended(call),
            "cancel": lambda target, call: target.cancel_suspended(call),
        }

    def answer(self, what: str, argument: str) -> bytes:
        """What became of it, as msgpack. Raises KeyError and ValueError for what has no sense."""
        identity, _, number = argument.partition("#")
        act = self._acts[what]
        found: list[Acted] = []
        for target in self._targets(identity):
            found += act(target, int(number) if number else None)
        for one in found:
            self._host.log.info(
                "intervened", what=what, id=one.id, kind=one.kind, done=one.done, outcome=one.what
            )
        return msgspec.msgpack.encode(found)

    def _targets(self, identity: str) -> list[Any]:
        if not identity:
            return [target for row in self._host.table if (target := present(row)) is not None]
        row = self._host.table.find(int(identity))
        if row is None or present(row) is None:
            raise UsageError(f"no object {self._host.slot}.{identity} lives")
        return [present(row)]
