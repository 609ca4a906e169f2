"""A process that carries a share of the lines. Started by the conductor; speaks ``messages``."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
import traceback
from typing import Any

import uvloop

from loadgen.lines import Traffic, now_ns
from loadgen.messages import (
    Assignment,
    Message,
    Outcome,
    Progress,
    Ready,
    Start,
    Stop,
    encode,
    receive,
)
from loadgen.progress import Recent

__all__ = ["main"]

_SLICES = 20  # of a second: looking at all operations of a second at once would be a stall of ours


def main() -> None:
    """Carry one assignment; the end of standard input gives it up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the conductor decides when to stop
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_work())


async def _work() -> None:
    loop = asyncio.get_running_loop()
    inbox = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(inbox), sys.stdin)
    assignment = await receive(inbox)
    if not isinstance(assignment, Assignment):
        return
    if ":" in assignment.plan.protocol:  # one's own may be beside where the command runs
        sys.path.insert(0, "")
    starting: asyncio.Future[int] = loop.create_future()
    traffic = Traffic(assignment.plan, assignment.index, assignment.nonce)
    carrying = asyncio.create_task(_carry(traffic, starting))
    loop.set_exception_handler(lambda _, context: _give_up(context, carrying))
    listening = asyncio.create_task(_listen(inbox, starting, traffic, carrying))
    await asyncio.wait([carrying])
    listening.cancel()
    if not carrying.cancelled():
        carrying.result()


def _give_up(context: dict[str, Any], carrying: asyncio.Task[None]) -> None:
    """A mistake of ours in a callback, or of a protocol of one's own: no fault of the server's, so
    nothing is told of the run. What the network does to a connection the line counts itself.
    """
    error = context.get("exception")
    if error is None or isinstance(error, OSError):
        return
    shown = "".join(traceback.format_exception(error))
    print(f"the load process gives up, by a mistake of its own:\n{shown}", file=sys.stderr)
    carrying.cancel()


async def _listen(
    inbox: asyncio.StreamReader,
    starting: asyncio.Future[int],
    traffic: Traffic,
    carrying: asyncio.Task[None],
) -> None:
    while (message := await receive(inbox)) is not None:
        if isinstance(message, Start):
            starting.set_result(message.at)
        elif isinstance(message, Stop):
            traffic.stop(message.at)
    carrying.cancel()


async def _carry(traffic: Traffic, starting: asyncio.Future[int]) -> None:
    await traffic.dial()
    _tell(Ready(traffic.tally))
    start = await starting
    gc.collect()
    gc.freeze()
    gc.disable()  # a run makes no cycles, and a collection would be a stall of our own
    reporting = asyncio.create_task(_report_progress(traffic))
    await traffic.run(start)
    reporting.cancel()
    columns, counted = traffic.samples.to_bytes(), traffic.counted.tobytes()
    _tell(
        Outcome(
            traffic.tally, columns, traffic.due, traffic.busy_ns, counted, traffic.paused_ns,
            traffic.members, traffic.left.tobytes(), traffic.late.tobytes(),
            traffic.waited_ns, traffic.pauses.tobytes(),
        )
    )  # fmt: skip


async def _report_progress(traffic: Traffic) -> None:
    recent, tally = Recent(traffic.rows), traffic.tally
    while traffic.plan.progress:
        for _ in range(_SLICES):
            await asyncio.sleep(1 / _SLICES)
            recent.take()
        answered = len(traffic.rows)
        latencies, worst = recent.hand_over()
        _tell(Progress(answered, tally.faults(), tally.by_version, latencies, worst, now_ns()))


def _tell(message: Message) -> None:
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
