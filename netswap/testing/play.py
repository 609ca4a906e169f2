"""One play: a transcript in a fresh world, cut and swapped as a case says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from netswap.mediator import present
from netswap.testing.carried import Snapshot, differences, shared, snapshot, unsound
from netswap.testing.cases import Case, Move
from netswap.testing.client import Client
from netswap.testing.judge import Seen, Turn
from netswap.testing.loops import ManualLoop
from netswap.testing.push import Push
from netswap.testing.sealed import Keys, SealedClient
from netswap.testing.subject import NEW, Subject
from netswap.testing.transcript import Cut, Do, Step, Wait, sealed_size
from netswap.testing.world import World

__all__ = ["Play"]

Act = Callable[[], Awaitable[None]]


class Play:
    """Afterwards ``seen`` is what the clients saw, ``stages`` the versions that served in order.

    ``turns`` says for each client which of them may have answered it when. Row 0 is for the
    connecting, the last for what came after the last step.
    """

    def __init__(
        self,
        loop: ManualLoop,
        subject: Subject,
        case: Case,
        workers: int,
        keys: Keys | None = None,
    ) -> None:
        self.case = case
        self.steps = case.transcript.steps
        self.world = World(loop, subject, case.begins, workers, keys)
        self.seen = Seen(len(self.steps) + 1)
        self.stages = [case.begins]
        self.turns: dict[str, list[Turn]] = {name: [] for name in case.transcript.clients}
        self.objects = 0
        """How many objects at the end a swap would concern."""
        self._stopped: dict[str, int] = {}
        self._last: tuple[Move, Snapshot] | None = None

    async def run(self, cuts: Iterable[Cut] = ()) -> None:
        """Play it; ``cuts`` are further places where bytes are cut. Raises Restless."""
        cuts = {*cuts, *self.case.cuts}
        for name in self.case.transcript.present:
            await self.world.connect(name)
        await self.world.settle()
        self._end_of_row(0, 0)
        for index, step in enumerate(self.steps):
            await self._step(index, step, sorted(cut for cut in cuts if cut.step == index))
        await self._moves(Cut(len(self.steps)), len(self.steps))
        await self._end()

    async def _end(self) -> None:
        stage = self._stage
        for name, client in self.world.clients.items():
            if client.stopped and not client.ended:
                client.do(Do.READ_AGAIN)
            else:
                self._stopped.pop(name, None)
        await self.world.settle()
        self._end_of_row(len(self.steps) + 1, stage)
        concerned = self.world.subject.of[NEW]
        self.objects = sum(entry.kind in concerned for entry in self.world.entries())
        self.seen.problems += [f"left over at the end: {left}" for left in await self.world.close()]
        self.seen.errors += self.world.log.errors

    @property
    def _stage(self) -> int:
        return len(self.stages) - 1

    async def _step(self, index: int, step: Step, cuts: list[Cut]) -> None:
        row = index + 1
        meanwhile = await self._moves(Cut(index), index)
        stage = self._stage
        for piece in _pieces(step, cuts):
            if piece.start:
                await self._moves(Cut(index, piece.start, piece.wire), row)
            act = partial(self._act, step, piece)
            await (self._move(meanwhile, act, row) if meanwhile is not None else act())
            await self.world.settle()
            meanwhile = None
        self._end_of_row(row, stage)
        if step.what is Do.READ_AGAIN:
            self._stopped.pop(step.client, None)

    async def _act(self, step: Step, piece: Piece) -> None:
        what, client = step.what, self.world.clients.get(step.client)
        if isinstance(what, Wait):
            await self.world.pass_time(what.seconds)
        elif what is Do.CONNECT:
            await self.world.connect(step.client)
        elif client is not None and isinstance(what, bytes):
            _send(client, what, piece)
        elif client is not None and isinstance(what, Do):
            if what is Do.STOP_READING:
                self._stopped[step.client] = self._stage
            client.do(what)

    async def _moves(self, cut: Cut, row: int) -> Move | None:
        """The swaps at a cut; one that a step is to come in the middle of is returned."""
        for move in self.case.moves:
            if move.at == cut:
                if move.meanwhile is not None:
                    return move
                await self._move(move, None, row)
                self._note(row)
        return None

    async def _move(self, move: Move, act: Act | None, row: int) -> None:
        world = self.world
        before = snapshot(world)
        common = {} if move.at.byte else shared(world)
        sliced = act is not None or (move.fault is not None and move.fault.sliced)
        push = Push(world, move.to, sliced)
        with move.fault.around(push) if move.fault else nullcontext():
            task = push.start(revert=move.back)
            if act is not None:
                while push.slices < (move.meanwhile or 0) and not task.done():
                    await asyncio.sleep(0)
                await act()
            if await push.finish(task) and self.seen.blurred is None:
                self.seen.blurred = row
        await world.settle()
        self._outcome(push, move, before, act is not None)
        if not move.at.byte:
            self._problems(t for _, t in shared(world).items() - common.items())

    def _outcome(self, push: Push, move: Move, before: Snapshot, acted: bool) -> None:
        begins = self.stages[-1]
        self._problems(f"an object could not go back: {refusal}" for refusal in push.stuck)
        if push.refusal is not None and move.fault is None:
            self._problems([f"the swap was {push.refusal}"])
        restored = push.refusal is not None or move.back
        self.stages += _served(begins, move.to, restored, acted)
        self._problems(self._strangers(push))
        if restored and not acted:
            self._problems(differences(self.world, before, begins))
        if self._last is not None and self._last[0].at == move.at and not acted:
            self._problems(differences(self.world, self._last[1], move.to))
        self._last = (move, before)
        self._problems(unsound(self.world))

    def _strangers(self, push: Push) -> list[str]:
        """Objects that are not of the code that the swap has left present."""
        rows = (
            (change, part.host.present.get(change.kind), entry, type(present(entry)))
            for part in push.parts
            for change in part.changes
            for entry in part.host.table.of_kind(change.kind)
            if present(entry) is not None
        )
        return [
            f"{change.kind} {entry.identity} is of {'new' if cls is change.new else 'other'} code, "
            "as no object of its kind should be after the swap"
            for change, now, entry, cls in rows
            if cls is not now
        ]

    def _problems(self, problems: Iterable[str]) -> None:
        self.seen.problems += problems

    def _note(self, row: int) -> None:
        """What was heard since is of this row."""
        for name, client in self.world.clients.items():
            if client.heard:
                self.seen.note(name, row, bytes(client.heard))
                client.heard.clear()
            if client.ended and name not in self.seen.ended:
                self.seen.ended[name] = (row, client.ended)

    def _end_of_row(self, row: int, first: int) -> None:
        self._note(row)
        for name, turns in self.turns.items():
            turns.append(Turn(min(first, self._stopped.get(name, first)), self._stage))


class Piece(NamedTuple):
    """A part of a step, or with ``wire`` of its records."""

    start: int
    end: int
    wire: bool = False


def _pieces(step: Step, cuts: list[Cut]) -> list[Piece]:
    """The parts of a step when it is cut in these places: all on the wire, or none."""
    inside = [cut for cut in cuts if cut.byte]
    wire = any(cut.wire for cut in inside)
    edges = [0, *(cut.byte for cut in inside), sealed_size(step.size) if wire else step.size]
    return [Piece(start, end, wire) for start, end in pairwise(edges)]


def _send(client: Client, data: bytes, piece: Piece) -> None:
    if piece.wire:
        assert isinstance(client, SealedClient)
        client.send_wire(data, piece.start, piece.end)
    else:
        client.send(data[piece.start : piece.end])


def _served(begins: str, to: str, restored: bool, acted: bool) -> list[str]:
    """The versions that may have served in a swap's course, after the one that did before."""
    if not restored:
        return [to]
    return [to, begins] if acted else []
