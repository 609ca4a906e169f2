"""Connects the lines of one process, and counts those that can't be connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count

from msgspec.structs import replace

from loadgen.dialects import Opening, dialect
from loadgen.lines.destination import Destination
from loadgen.lines.hints import what_is_short, why_refused
from loadgen.lines.line import Crowd, Line, now_ns
from loadgen.lines.scenarios import SCENARIOS
from loadgen.lines.secure import client_context

__all__ = ["Dialling"]

_AT_ONCE = 200


class Dialling:
    """Lines of the ``crowd``, process ``index`` of its plan; each opens as ``opening`` says, with
    its own number. ``came`` is told of each that is there; ``under_way`` is how many may come yet.
    """

    def __init__(
        self, crowd: Crowd, index: int, opening: Opening, came: Callable[[Line], None]
    ) -> None:
        plan = self._plan = crowd.plan
        self.under_way = 0
        self._crowd = crowd
        self._opening = opening
        self._came = came
        self._line = SCENARIOS[plan.way].line
        self._converse = dialect(plan.protocol)
        self._destination = Destination(plan, client_context(plan.ca) if plan.tls else None)
        self._first = plan.share(index)
        self._later = count(index + len(self._first) * plan.processes, plan.processes)

    async def dial_all(self) -> None:
        """The plan's share, some at a time; a connect that fails is counted and not repeated."""
        numbers = iter(self._first)
        width = max(1, _AT_ONCE // self._plan.processes)
        await asyncio.gather(*(self._dial_each(numbers) for _ in range(width)))

    async def dial_next(self) -> Line | None:
        """One more, with a number that nobody has had; None when that failed."""
        return await self._dial(next(self._later))

    async def _dial_each(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self._dial(number)

    async def _dial(self, number: int) -> Line | None:
        self.under_way += 1
        try:
            async with asyncio.timeout(self._plan.timeout_s):
                line = await self._connect(number)
        except OSError as error:
            self._count_failed(number, error)
            return None
        finally:
            self.under_way -= 1
        self._crowd.tally.connected += 1
        if line.alive:  # it may be gone already, and has been counted then
            self._came(line)
        return line

    def _count_failed(self, number: int, error: OSError) -> None:
        tally = self._crowd.tally
        if short := what_is_short(error):
            tally.short[short] = tally.short.get(short, 0) + 1
        else:
            tally.now = now_ns()
            tally.fault("refused", number, -1, why_refused(error, tls=self._plan.tls))

    async def _connect(self, number: int) -> Line:
        made: list[Line] = []

        def factory() -> Line:
            opening = replace(self._opening, connection=number)
            made.append(self._line(self._crowd, number, self._converse(opening)))
            return made[-1]

        try:
            return await self._destination.connect(factory)
        except BaseException:
            for line in made:
                line.end()  # it may be there just now: then it is we who close it
            raise
