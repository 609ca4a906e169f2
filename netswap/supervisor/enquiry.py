"""One question or order to every worker, and their answers put together."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from netswap.channel import answers, messages
from netswap.errors import UsageError
from netswap.logs import get_logger
from netswap.supervisor.slots import SILENT, Slot

__all__ = ["Enquiry"]

log = get_logger("netswap.supervisor")


LOOK = 0.2
"""Seconds between two looks at who is silent, and that such a worker has to answer."""

_Question = messages.Query | messages.Intervene | messages.Rekey


class Enquiry:
    """Sends queries and collects answers; a worker that does not answer is left out.

    It is waited for ``timeout`` seconds, or for a moment when it has been silent for a while.
    """

    def __init__(self, timeout: float = 3.0) -> None:
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[int, asyncio.Future[messages.Answer]]] = {}

    def on_answer(self, answer: messages.Answer) -> None:
        """An answer came; one that nobody waits for any more is dropped."""
        waiting = self._open.get(answer.id)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(answer)

    def on_dead(self, slot: int) -> None:
        """A worker died: nobody has to wait for its answers."""
        for number, future in self._open.values():
            if number == slot and not future.done():
                future.cancel()

    async def ask(
        self,
        slots: Iterable[Slot],
        what: str,
        argument: Callable[[int], str],
        shape: type[messages.Query | messages.Intervene] = messages.Query,
    ) -> dict[int, Any]:
        """What each worker answers, by slot, in the shape of ``answers.SHAPES[what]``.

        ``argument(slot)`` is what the worker of ``slot`` is asked about, in a message of ``shape``.

        :raises UsageError: a worker says that the argument is wrong.
        """
        asked = {slot: shape(0, what, argument(slot.number)) for slot in slots}
        return await self._collect(what, asked)

    async def put(
        self, slots: Iterable[Slot], what: str, question: messages.Rekey
    ) -> dict[int, Any]:
        """The same with one message for all; it is sent to all before this suspends."""
        return await self._collect(what, dict.fromkeys(slots, question))

    async def _collect(self, what: str, questions: Mapping[Slot, _Question]) -> dict[int, Any]:
        asked = {slot.number: self._send(slot, question) for slot, question in questions.items()}
        if not asked:
            return {}
        await self._wait({slot: asked[slot.number][1] for slot in questions})
        found: dict[int, Any] = {}
        for number, (identity, future) in asked.items():
            del self._open[identity]
            if future.done() and not future.cancelled():
                found[number] = _value(what, future.result())
        return found

    async def _wait(self, open_ones: Mapping[Slot, asyncio.Future[messages.Answer]]) -> None:
        """Until all have answered, or nobody is left who might."""
        until = time.monotonic() + self._timeout
        left = dict(open_ones)
        while left and time.monotonic() < until:
            await asyncio.wait(left.values(), timeout=min(LOOK, self._timeout))
            left = {slot: future for slot, future in left.items() if not future.done()}
            if all(slot.silence > SILENT for slot in left):
                return

    def _send(self, slot: Slot, question: _Question) -> tuple[int, asyncio.Future[messages.Answer]]:
        identity = next(self._ids)
        future: asyncio.Future[messages.Answer] = asyncio.get_running_loop().create_future()
        self._open[identity] = (slot.number, future)
        if not slot.send(msgspec.structs.replace(question, id=identity)):
            future.cancel()
        return identity, future


def _value(what: str, answer: messages.Answer) -> Any:
    if answer.error is not None:
        raise UsageError(answer.error)
    try:
        return answers.decode_answer(what, answer.data)
    except msgspec.DecodeError as error:
        log.error("unreadable answer", worker=answer.slot, what=what, reason=str(error))
        raise
