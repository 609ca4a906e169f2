"""One transaction in one worker: how it is prepared, swapped, then finished or reverted.

``participant`` says when each of these is due. Nothing outside this object changes before
``swap``: prepare loads code beside the present one and tries everything in a forked child.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from netswap.channel import messages
from netswap.errors import AuthorError, DeadlinePassed
from netswap.events import Refusal, Rehearsal, Stage, VerdictLine, WatchRow, WorkerReceipt
from netswap.hotswap import Change, Phase, Swap
from netswap.interpose import Interposition, Tape
from netswap.mediator import present
from netswap.ott import Entry, Selector
from netswap.stack import Host, Implementation
from netswap.worker.canary import connections_of
from netswap.worker.deadline import Deadline, left
from netswap.worker.driver import SLICE_NS, Driver
from netswap.worker.gate import Holding
from netswap.worker.installation import Installation
from netswap.worker.library import Library, classes_of
from netswap.worker.play import try_all, try_sample
from netswap.worker.rehearsal import Rehearsed, rehearse
from netswap.worker.remarks import Remarks
from netswap.worker.shadow import CONNECTIONS, INPUTS, shadow
from netswap.worker.slowly import Slowly, no_shadow
from netswap.worker.startup import Startups
from netswap.worker.together import NOTHING, Together, callers, fits_a_stroke, together
from netswap.worker.unable import hangs, placed, unable
from netswap.worker.verdicts import Judgement, judge, ordered, unsplittable
from netswap.worker.watch import POLICY, Watch

__all__ = ["Transaction"]

TRIAL_S = 3.0
"""Seconds for an import on trial, which is run twice and line by line; else it has one second."""
ALONG_S = 1.0
"""Seconds in which what a guard had taken back has to come to rest at the commit."""


class Transaction:
    """A swap of ``ask.target``'s kinds to the bundles named there."""

    def __init__(
        self, host: Host, library: Library, startups: Startups, ask: messages.Prepare
    ) -> None:
        self.ask = ask
        self._host = host
        self._library = library
        self._startups = startups
        self._slowly = Slowly(host, library, startups, ask)
        self._changes: list[Change] = []
        self._swap: Swap | None = None
        self._driver: Driver | None = None
        self._stopped: Refusal | None = None
        self._stopping = asyncio.Event()
        self._limit_s = 0.25
        self._stall_us = 0.0
        self._installation = Installation(host, self._changes, ask.canary, ask.only is not None)
        self._policy: Any = None
        self._watch: Watch | None = None
        self._holding = Holding(host, ask.tx, ask.timeout, self._changes)
        self._stroke = False

    @property
    def kinds(self) -> list[str]:
        """The kinds concerned, services before what uses them."""
        return [change.kind for change in self._changes]

    async def prepare(self) -> messages.Prepared | messages.Refused:
        """Load, judge, rehearse, start. Touches nothing; a refusal says why.

        What the machine does not give (a descriptor, a process, a file) is a refusal, too.
        """
        try:
            return await self._prepared()
        except Exception as error:
            self._host.log.exception("prepare_failed", transaction=self.ask.tx)
            return self._refused(unable(error), [], Rehearsal())

    async def _prepared(self) -> messages.Prepared | messages.Refused:
        tape = await self._recorded()
        until = self._host.loop.time() + self.ask.timeout
        refusal = self._stopped or await self._slowly.import_outside(until)
        if refusal is not None:
            return self._refused(refusal, [], Rehearsal())
        rehearsed = Rehearsed(None)
        if self.ask.rehearse:
            rehearsed = await rehearse(self._play, self._slowly.left(until))
        self._stall_us = max(self._stall_us, rehearsed.report.fork_us)
        for step in (
            functools.partial(self._load_slowly, until),
            self._take_steps,
            functools.partial(self._shadowed, tape),
            functools.partial(self._start, until),
        ):
            if rehearsed.refusal is None:
                rehearsed = await step(rehearsed)
        report = self._expected(rehearsed.report)
        if rehearsed.refusal is not None:
            return self._refused(rehearsed.refusal, rehearsed.verdicts, report)
        return self._accepted(rehearsed, report)

    async def _load_slowly(self, until: float, rehearsed: Rehearsed) -> Rehearsed:
        """What is slow of the loading; what was rehearsed says how long a step may take."""
        self._limit_s = max(self._limit_s, 4 * rehearsed.report.slowest_us / 1e6)
        self._library.use_compiled(rehearsed.compiled)
        return msgspec.structs.replace(rehearsed, refusal=await self._slowly.load(until))

    async def _start(self, until: float, rehearsed: Rehearsed) -> Rehearsed:
        """What the new code starts, unless the supervisor has given it up."""
        refusal = self._stopped or await self._slowly.start(self._changes, until)
        return msgspec.structs.replace(rehearsed, refusal=refusal)

    async def _recorded(self) -> Tape | None:
        """What some connections are asked in the time before, if a shadow run is wanted."""
        if not self.ask.shadow:
            return None
        tape = Tape(CONNECTIONS, INPUTS)
        everywhere = Interposition(self._host, tape.record)
        everywhere.place()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.ask.shadow)
        finally:
            everywhere.remove()
        return tape

    async def _shadowed(self, tape: Tape | None, rehearsed: Rehearsed) -> Rehearsed:
        """Old and new code have been asked what is on the tape."""
        if tape is None:
            return rehearsed
        if (refusal := no_shadow(self._changes)) is not None:
            return msgspec.structs.replace(rehearsed, refusal=refusal)
        found, refusal = await shadow(self._host, self._changes, tape, self.ask)
        report = msgspec.structs.replace(rehearsed.report, shadow=found)
        return msgspec.structs.replace(rehearsed, refusal=refusal, report=report)

    async def _take_steps(self, rehearsed: Rehearsed) -> Rehearsed:
        """Load and judge here, as it was rehearsed, or try a sample in its place."""
        replace = msgspec.structs.replace
        for step in self._steps():
            started = self._host.clock.monotonic_ns()
            outcome = step()
            loading_us = (self._host.clock.monotonic_ns() - started) / 1e3
            self._stall_us = max(self._stall_us, loading_us)
            if isinstance(outcome, Refusal):
                return replace(rehearsed, refusal=outcome)
            if isinstance(outcome, Judgement):
                known = rehearsed.verdicts or outcome.lines
                found = outcome.together or rehearsed.together
                rehearsed = replace(
                    rehearsed, verdicts=known, refusal=outcome.refusal, together=found
                )
            elif isinstance(outcome, Rehearsed):
                rehearsed = replace(
                    outcome, verdicts=rehearsed.verdicts, together=rehearsed.together
                )
            if rehearsed.refusal is not None:
                return rehearsed
            await asyncio.sleep(0)
        return rehearsed

    def _expected(self, report: Rehearsal) -> Rehearsal:
        """The report, with the longest time that the loop is expected to be held."""
        slice_us = SLICE_NS / 1e3 + report.slowest_us if report.objects else 0.0
        self._stall_us = max(self._stall_us, self._slowly.stall_ns / 1e3)
        stall_us = max(self._stall_us, slice_us)
        return msgspec.structs.replace(report, worker=self._host.slot, stall_us=stall_us)

    async def hold(self, ask: messages.Hold) -> messages.Held | messages.SwapFailed:
        """Serve nothing until all workers have swapped; or serve on, and say what is in the way."""
        who = callers(self._changes, self._all_classes())
        return await self._holding.hold(self._stopped, who, ask.until)

    async def serve(self) -> float:
        """Serve again, if that was held; for how many microseconds it had been."""
        return await self._holding.serve()

    async def swap(self, ask: messages.Swap) -> messages.Swapped | messages.SwapFailed:
        """Flip the canary or all that is left, or restore all and say what was in the way."""
        slot = self._host.slot
        refusal = await self._holding.settled(ask.holding, ask.until)
        swap, driver = await self._begun()
        entries = self._stopped or refusal or self._holding.too_early() or self._install(ask)
        if isinstance(entries, Refusal):
            if swap.phase is not Phase.TAKING_BACK:  # else it was stopped while it began
                swap.give_up(entries)
        else:
            swap.widen(entries)
        await driver.run(left(ask.until, self.ask.timeout))
        if swap.phase is Phase.DONE:
            return messages.Swapped(self.ask.tx, slot, self._receipt(), ask.canary)
        refusal = swap.refusal or Refusal(Stage.SWAP, "the swap did not complete")
        self._installation.uninstall()
        return messages.SwapFailed(self.ask.tx, slot, placed(refusal, slot), ask.canary)

    async def _begun(self) -> tuple[Swap, Driver]:
        """The one swap, which a canary begins and the rest widens, so that one way leads back."""
        host = self._host
        if self._swap is None or self._driver is None:
            host.longest_hold_ns = 0
            judge = host.services.get(POLICY)
            self._policy = None if judge is None else present(judge)
            self._swap = Swap(host.table, self._changes, (), host.clock, self._bounded)
            self._driver = Driver(host, self._swap, self._installation.restore, self._stroke)
            if self.ask.probation:
                take_back = self._swap.take_back_now
                self._watch = Watch(
                    host, self._changes, self._policy, take_back if self.ask.guard else None
                )
                await self._watch.enter()
        return self._swap, self._driver

    def _install(self, ask: messages.Swap) -> list[Entry] | Refusal:
        """What is born from now on is new code; the objects to convert."""
        entries = self._concerned()
        if ask.canary:
            return self._installation.begin_canary(entries, ask.carry, self._deadline)
        return self._installation.install(self._deadline) or entries

    async def watch(
        self, ask: messages.Watch, report: Callable[[list[WatchRow]], None]
    ) -> messages.Watched | messages.WatchFailed:
        """Watch the new code until the time is over, it was decided, or a rule is violated."""
        host, watch = self._host, self._watch
        assert watch is not None
        if self._stopped is not None:
            watch.end()
        await self.serve()
        refusal, rows = await watch.run(ask, report)
        self._stopped = None
        if refusal is None:
            return messages.Watched(ask.tx, host.slot, rows, ask.canary)
        return messages.WatchFailed(ask.tx, host.slot, refusal, rows, ask.canary)

    async def finish(self) -> None:
        """The transaction is committed: the way back and what nobody uses any more goes."""
        await self._leave()
        if self._swap is not None:
            self._swap.finish()
            await self._bring_along()
        if self.ask.only is None:
            self._library.active.update(self.ask.target)
        self._forget()

    async def _bring_along(self) -> None:
        """What a guard had taken back is swapped again: new code is what is committed.

        An object that can't go stays on old code, as `versions` shows, and does so alone.
        """
        assert self._swap is not None
        table = self._host.table
        rows = [row for row in self._swap.returned if row in table]
        if not rows:
            return
        rows.sort(key=lambda row: self.kinds.index(row.kind))
        swap = Swap(table, self._changes, rows, self._host.clock, self._bounded)
        await Driver(self._host, swap).run(ALONG_S)
        if swap.refusal is not None:
            fields = {"objects": len(rows), "error": swap.refusal.reason, "at": swap.refusal.where}
            self._host.log.error("left_on_old_code", **fields)

    async def revert(self, holding: Sequence[int] = ()) -> Refusal | None:
        """Bring the old code back; a refusal names what could not go back.

        Those that are ``holding`` settle first, or go back one after the other.
        """
        await self._holding.returns(holding)
        refusal = None
        if self._swap is not None and self._driver is not None:
            if self._swap.phase is Phase.DONE:
                self._installation.restore()
                self._driver.give_up(Refusal(Stage.AGREEMENT, "reverted by the supervisor"))
                await self._driver.run(self.ask.timeout)
                self._installation.uninstall()
            if self._swap.stuck:
                refusal = placed(self._swap.stuck[0], self._host.slot)
        await self._leave()
        await self.serve()
        self._forget()
        return refusal

    async def _leave(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.leave()

    def stop(self, refusal: Refusal) -> None:
        """The supervisor decided while this worker was swapping or watching, or was about to."""
        self._stopped = refusal
        self._startups.give_up(refusal)
        self._stopping.set()
        if self._watch is not None:
            self._watch.end()
        self._holding.give_up(refusal)
        working = self._swap is not None and self._swap.phase is Phase.WORKING
        if working and self._driver is not None:
            self._driver.give_up(refusal)

    def _forget(self) -> None:
        self._changes.clear()
        self._swap = self._driver = self._policy = None
        self._library.use_compiled({})
        self._library.tidy(self._host.table)

    def _deadline(self) -> Deadline:
        return Deadline(self._limit_s)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Around authors' code in a slice."""
        with self._installation.favouring(), self._deadline():
            yield

    # loading and judging

    def _steps(self) -> list[Callable[[], Any]]:
        """Loading and judging, in pieces between which the loop serves its connections."""
        bundles = dict.fromkeys(self.ask.target.values())
        loads = [functools.partial(self._load, sha) for sha in bundles]
        return [*loads, self._negotiate, *([] if self.ask.rehearse else [self._sample])]

    def _sample(self) -> Rehearsed:
        return try_sample(self._changes, self._concerned(), self._host, self.ask, self._limit_s)

    def _load(self, sha256: str) -> Refusal | None:
        try:
            with Deadline(max(1.0, self._limit_s)):
                self._library.load(sha256)
        except AuthorError as error:
            return error.refusal
        except DeadlinePassed as error:
            return hangs(error)
        return None

    def _negotiate(self) -> Judgement | Refusal:
        """The verdicts, or why there are none."""
        patience = TRIAL_S if self._library.on_trial else 1.0
        if self._library.new_applications(self.ask.target.values()):
            patience = self.ask.timeout
        try:
            with Deadline(max(patience, self._limit_s)):
                self._changes[:] = ordered(self._change(*row) for row in self.ask.target.items())
        except AuthorError as error:
            return error.refusal
        except DeadlinePassed as error:
            return hangs(error)
        live = {change.kind: self._classes(change.kind) for change in self._changes}
        ask, known = self.ask, self._host.present
        judged = judge(self._changes, known, live, ask.allow_lossy, ask.probation)
        if self._library.on_trial or not ask.rehearse:  # else the child has done it
            judged = Remarks(self._library, self._host.table, ask).on(judged, self._changes)
            judged = judged._replace(together=self._together())
        return self._no_probation() or judged

    def _together(self) -> Together:
        """What would ask something of another version for a while."""
        found = {entry.kind for entry in self._concerned()} if self.ask.only else set(self.kinds)
        rows = [change for change in self._changes if change.kind in found]
        told = together(rows, self._all_classes())
        return told if len(self._host.slots) > 1 else Together([], told.asking)

    def _all_classes(self) -> dict[str, set[type[Implementation[Any]]]]:
        """The implementations of each kind: what is present, what lives, what is to come."""
        classes = {kind: {cls, *self._classes(kind)} for kind, cls in self._host.present.items()}
        for change in self._changes:
            of_kind = classes.setdefault(change.kind, self._classes(change.kind))
            of_kind.add(change.new)
        return classes

    def _no_probation(self) -> Refusal | None:
        """Why the new code can't be on probation here, if it is to be."""
        ask = self.ask
        if ask.probation and self._host.present.get(POLICY) is None:
            reason = f"nothing judges a watch: {POLICY} is not there"
            advice = "push a policy first, such as protocols/watch/v1.py, alone and without --watch"
            return Refusal(Stage.VERDICT, reason, kind=POLICY, advice=advice)
        split = ask.canary is not None and ask.canary.share > 0 and ask.canary.splits
        # Reading sources holds the loop; once is enough, and in the child it holds nobody.
        here = self._library.on_trial or not ask.rehearse
        return unsplittable(self._changes) if split and here else None

    def _change(self, kind: str, sha256: str) -> Change:
        library = self._library
        new = library.implementation(kind, sha256)
        before = self._host.present.get(kind)
        others = self._classes(kind)
        known = [library.sha256_of(cls) for cls in others] + [library.active.get(kind, "")]
        return Change(kind, new, before, library.migrations(kind, *known, sha256))

    def _classes(self, kind: str) -> set[type[Implementation[Any]]]:
        """The implementations that live objects of a kind have now."""
        return set(classes_of(self._host.table, kind))

    def _concerned(self) -> list[Entry]:
        """The live objects to convert, in the order of the changes."""
        table = self._host.table
        rows = [row for change in self._changes for row in table.of_kind(change.kind)]
        if self.ask.only is None:
            return rows
        selector = Selector(self.ask.only)
        return [row for row in rows if row.target is not None and selector.matches(row)]

    def _counts(self) -> dict[str, int]:
        """How many objects of each kind a swap would convert."""
        if self.ask.only is not None:
            counts = dict.fromkeys(self.kinds, 0)
            for entry in self._concerned():
                counts[entry.kind] += 1
            return counts
        rows = {change.kind: classes_of(self._host.table, change.kind) for change in self._changes}
        new = {change.kind: change.new for change in self._changes}
        return {
            kind: sum(count for cls, count in classes.items() if cls is not new[kind])
            for kind, classes in rows.items()
        }

    # the forked child

    def _play(self) -> Rehearsed:
        library = self._library
        new = [sha for sha in self.ask.target.values() if not library.is_loaded(sha)]
        library.on_trial = True
        judged = self._negotiate()
        if isinstance(judged, Refusal):
            return Rehearsed(judged)
        if judged.refusal is not None:
            return Rehearsed(judged.refusal, verdicts=judged.lines)
        played = try_all(self._changes, self._concerned(), self._host, self.ask)
        compiled = library.compiled(new) if played.refusal is None else {}
        return msgspec.structs.replace(
            played, verdicts=judged.lines, compiled=compiled, together=judged.together or NOTHING
        )

    # what is reported

    def _receipt(self) -> WorkerReceipt:
        assert self._swap is not None
        assert self._driver is not None
        driver, host, held_ns = self._driver, self._host, self._holding.held_ns
        stall_us = max(driver.longest_ns / 1e3, self._stall_us)
        hold_us = max(host.longest_hold_ns, held_ns) / 1e3
        return WorkerReceipt(
            worker=host.slot,
            objects=dict(self._swap.counts),
            gone=self._swap.gone,
            blackout_us=max(stall_us, hold_us),
            stall_us=stall_us,
            convert_us=driver.cpu_ns / 1e3,
            slices=driver.slices,
            held_us=held_ns / 1e3,
            left=self._swap.left,
        )

    def _accepted(self, rehearsed: Rehearsed, report: Rehearsal) -> messages.Prepared:
        slot, counts, lines = self._host.slot, self._counts(), rehearsed.verdicts
        parts, asking = rehearsed.together
        us = report.us_per_object * sum(counts.values())
        wanted = bool(asking) and not self.ask.rolling
        self._stroke = wanted and fits_a_stroke(self._changes, self._all_classes(), us)
        if self._stroke:
            report = msgspec.structs.replace(report, stall_us=max(report.stall_us, us))
        return messages.Prepared(
            self.ask.tx,
            slot,
            lines,
            counts,
            self._choice(),
            report,
            parts,
            asking * (not self._stroke),
        )

    def _choice(self) -> int:
        """Among how many connections a canary is chosen, or how many a selector finds for it."""
        canary = self.ask.canary
        if canary is None or not canary.splits or not canary.share:
            return 0
        found = connections_of(self._concerned())
        if canary.selector is None:
            return len(found)
        selector = Selector(canary.selector)
        return sum(map(selector.matches, found))

    def _refused(
        self, refusal: Refusal, lines: list[VerdictLine], report: Rehearsal
    ) -> messages.Refused:
        self._forget()
        slot = self._host.slot
        return messages.Refused(self.ask.tx, slot, placed(refusal, self._host.slot), lines, report)
