"""Starts the workers together, runs the events beside them, merges the outcomes exactly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from loadgen.continuity import Tally
from loadgen.events import EventRecord, carry_out, wait_for
from loadgen.fanout import Member
from loadgen.messages import Assignment, Outcome, Progress, Ready, Start, Stop, encode, receive
from loadgen.plan import Event, Plan, PlanError
from loadgen.progress import Moment, OnProgress, merge_progress
from loadgen.samples import Samples

__all__ = ["Observation", "conduct", "deaf_to_interrupts"]

_END_S = 5.0
_OVERDUE_NS = 60_000_000_000  # after the end and all graces, and half of the duration: it is stuck
_GRACES = 4  # at most, one after the other: visits, followers, answers, over TLS the last words
_LOOK_S = 0.5
_START_MARGIN = 100_000_000  # ns: the start reaches every worker before it is due
_SPARE_DESCRIPTORS = 64


class Observation(msgspec.Struct):
    """All that was seen, before anything is derived from it.

    ``start`` is None when nothing was sent, because nobody could connect. ``trouble`` are sentences
    about ourselves: what makes the run invalid whatever the server did. ``counted`` are the values
    that the shared counter gave, from 0; ``paused_ns`` is the longest that a process stood still;
    ``members`` what those of a room heard; ``left`` who is gone, and when, in pairs; ``late`` how
    late we were ourselves (ns) in a scenario whose operations wait for the server, too;
    ``asked_ns`` the duration that was asked for, of a run that was ended before it; ``waited_ns``
    for how long each process had no processor; ``pauses`` of each process from when to when it may
    have stood still, in pairs (ns).
    """

    plan: Plan
    start: int | None = None
    tally: Tally = msgspec.field(default_factory=Tally)
    samples: Samples = msgspec.field(default_factory=Samples.empty)
    due: int = 0
    busy_ns: list[int] = msgspec.field(default_factory=list)
    events: list[EventRecord] = msgspec.field(default_factory=list)
    trouble: list[str] = msgspec.field(default_factory=list)
    counted: array[int] = msgspec.field(default_factory=lambda: array("q"))
    paused_ns: int = 0
    members: list[Member] = msgspec.field(default_factory=list)
    left: array[int] = msgspec.field(default_factory=lambda: array("q"))
    late: array[int] = msgspec.field(default_factory=lambda: array("q"))
    asked_ns: int = 0
    waited_ns: list[int] = msgspec.field(default_factory=list)
    pauses: list[array[int]] = msgspec.field(default_factory=list)


class _Worker:
    """The conductor's end of one worker process."""

    def __init__(self, process: asyncio.subprocess.Process, index: int) -> None:
        self.process = process
        self.index = index
        self.progress = Progress(0, 0)
        self.ready = False
        self.tally = Tally()
        self.outcome: Outcome | None = None
        self.overdue = False

    def tell(self, message: Assignment | Start | Stop) -> None:
        """Send; a worker that is gone is noticed when it is heard."""
        assert self.process.stdin is not None
        self.process.stdin.write(encode(message))

    async def hear(self, last: type[Ready] | type[Outcome]) -> None:
        """Take what it says, up to and with its ``last`` word; or until it is gone."""
        assert self.process.stdout is not None
        while (message := await receive(self.process.stdout)) is not None:
            match message:
                case Progress():
                    self.progress = message
                case Ready():
                    self.ready, self.tally = True, message.tally
                case Outcome():
                    self.outcome, self.tally = message, message.tally
            if isinstance(message, last):
                return

    def end_overdue(self) -> None:
        """It should have said its last word long ago."""
        if not self.overdue and self.process.returncode is None:
            self.overdue = True
            self.process.kill()

    async def end(self) -> None:
        """Close its standard input, which ends it, and wait; one that does not end is killed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def conduct(
    plan: Plan, pushing: list[str], on_progress: OnProgress | None = None
) -> Observation:
    """One whole run. ``pushing`` is the push command up to the path. SIGTERM before the start, when
    there is nothing to be judged, cancels it.
    """
    _check_descriptors(plan)
    seen = Observation(plan)
    workers: list[_Worker] = []
    with _stopped_by_term(seen, workers):
        async with _working(plan, workers):
            await _all(worker.hear(Ready) for worker in workers)
            if any(worker.tally.connected for worker in workers):
                seen.start = time.monotonic_ns() + _START_MARGIN
                for worker in workers:
                    worker.tell(Start(seen.start))
                await _run(seen, workers, pushing, on_progress)
    for worker in workers:
        _merge(seen, worker)
    return seen


@contextlib.contextmanager
def _stopped_by_term(seen: Observation, workers: list[_Worker]) -> Iterator[None]:
    """SIGTERM ends the run in order, before its time: what it did until then is judged. When it is
    over there is nothing to be ended.
    """
    loop, conducting = asyncio.get_running_loop(), asyncio.current_task()
    assert conducting is not None

    def stop() -> None:
        if seen.start is None:
            conducting.cancel()
            return
        now = time.monotonic_ns()
        duration = max(1, now - (seen.start or now))
        if duration < seen.plan.duration_ns:
            seen.asked_ns = seen.plan.duration_ns
            seen.plan = msgspec.structs.replace(seen.plan, duration_ns=duration)
            for worker in workers:
                worker.tell(Stop(now))

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _run(
    seen: Observation,
    workers: list[_Worker],
    pushing: list[str],
    on_progress: OnProgress | None,
) -> None:
    plan, start = seen.plan, seen.start or 0
    row = asyncio.Lock()
    happening = [
        asyncio.create_task(_happen(event, plan, pushing, start, row)) for event in plan.events
    ]
    telling = asyncio.create_task(_tell_progress(seen, workers, happening, on_progress))
    try:
        await _hear_outcomes(seen, workers)
        each = zip(plan.events, happening, strict=True)
        end = seen.plan.duration_ns  # it may have been ended before the end that was planned
        records = await asyncio.gather(*(task for event, task in each if event.at_ns < end))
        seen.events.extend(record for record in records if record is not None)
    finally:
        for task in (telling, *happening):
            task.cancel()
        await asyncio.gather(telling, *happening, return_exceptions=True)


async def _hear_outcomes(seen: Observation, workers: list[_Worker]) -> None:
    """Whoever is stuck, stopped or flooded by its server, is ended long after the run."""
    hearing = {asyncio.create_task(worker.hear(Outcome)): worker for worker in workers}
    working = {*hearing}
    try:
        while working:
            _, working = await asyncio.wait(working, timeout=_LOOK_S)
            if time.monotonic_ns() > (seen.start or 0) + _longest_ns(seen.plan):
                for task in working:
                    hearing[task].end_overdue()
        await _all(hearing)
    finally:
        for task in hearing:
            task.cancel()


def _longest_ns(plan: Plan) -> int:
    return plan.duration_ns * 3 // 2 + _GRACES * plan.grace_ns + _OVERDUE_NS


async def _happen(
    event: Event, plan: Plan, pushing: list[str], start: int, row: asyncio.Lock
) -> EventRecord | None:
    """In a row one waits for the other (the lock lets them in as they come, which is in order); one
    whose turn comes after the end does not happen.
    """
    limit_s = _seconds(plan.duration_ns - event.at_ns) + plan.timeout_s
    await wait_for(start + event.at_ns)
    async with row if event.in_row else contextlib.nullcontext():
        if event.in_row and time.monotonic_ns() > start + plan.duration_ns:
            return None
        return await carry_out(event, pushing, limit_s)


def _merge(seen: Observation, worker: _Worker) -> None:
    seen.tally.add(worker.tally)
    seen.pauses.append(array("q"))
    if worker.outcome is not None:
        seen.samples.add_bytes(worker.outcome.samples)
        seen.counted.frombytes(worker.outcome.counted)
        seen.members.extend(worker.outcome.members)
        seen.left.frombytes(worker.outcome.left)
        seen.late.frombytes(worker.outcome.late)
        seen.due += worker.outcome.due
        seen.busy_ns.append(worker.outcome.busy_ns)
        seen.waited_ns.append(worker.outcome.waited_ns)
        seen.pauses[-1].frombytes(worker.outcome.pauses)
        seen.paused_ns = max(seen.paused_ns, worker.outcome.paused_ns)
    elif seen.start is not None or not worker.ready:
        seen.trouble.append(
            f"load process {worker.index} {_how_it_ended(worker)}, what it saw is lost"
        )


def _how_it_ended(worker: _Worker) -> str:
    code = worker.process.returncode
    if worker.overdue:
        return "was stopped or stuck long after the end, and was ended"
    if code is None or code >= 0:
        return "died: standard error has its words"
    return f"was killed by {signal.Signals(-code).name}"


@contextlib.asynccontextmanager
async def _working(plan: Plan, workers: list[_Worker]) -> AsyncIterator[None]:
    """Fills the list, and ends all that are in it."""
    nonce = secrets.token_hex(4)
    try:
        with deaf_to_interrupts():
            for index in range(plan.processes):
                workers.append(_Worker(await _spawn(), index))
                workers[-1].tell(Assignment(plan, index, nonce))
        yield
    finally:
        await _all(worker.end() for worker in workers)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C at a terminal goes to all processes: those that begin now inherit that they don't
    hear it, since they could not say so themselves before Python has started. We hear it behind.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _spawn() -> asyncio.subprocess.Process:
    root = str(Path(__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join((root, inherited)) if inherited else root
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a file of somebody's where it is started is not taken for a module of Python's
        "-m",
        "loadgen.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


async def _tell_progress(
    seen: Observation,
    workers: list[_Worker],
    happening: Sequence[asyncio.Task[EventRecord | None]],
    on_progress: OnProgress | None,
) -> None:
    moment = Moment(seconds=0.0, duration_s=0.0, answered=0, faults=0)
    while on_progress is not None:
        await asyncio.sleep(1.0)
        now = time.monotonic_ns() - (seen.start or 0)
        told = merge_progress([worker.progress for worker in workers], _seconds(now), moment)
        moment = _with_events(told, seen.plan, happening, now)
        on_progress(moment)


def _with_events(
    moment: Moment, plan: Plan, happening: Sequence[asyncio.Task[EventRecord | None]], now: int
) -> Moment:
    """``now``: ns since the start."""
    pairs = list(zip(plan.events, happening, strict=True))
    ended = [task.result() for _, task in pairs if task.done()]
    return msgspec.structs.replace(
        moment,
        duration_s=_seconds(plan.duration_ns),
        happened=tuple(record for record in ended if record is not None),
        happening=tuple(e for e, task in pairs if e.at_ns <= now and not task.done()),
    )


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*steps)


def _seconds(duration_ns: int) -> float:
    return duration_ns / 1_000_000_000


def _check_descriptors(plan: Plan) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = hard - _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and len(plan.share(0)) > room:
        needed = -(-plan.connections // room)
        raise PlanError(
            f"{plan.connections} connections in {plan.processes} process(es) need more than the "
            f"{hard} descriptors that a process may have: use --processes {needed}"
        )
