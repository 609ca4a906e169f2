"""``check_swappable``: every case of every transcript on every loop, judged."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from netswap.errors import UsageError
from netswap.testing.cases import FAMILIES, Case, Scope, cases_of, cuts_of
from netswap.testing.judge import Difference, Replies, Seen, Turn, explain, whole
from netswap.testing.loops import LOOPS, ManualLoop
from netswap.testing.play import Play
from netswap.testing.report import Failure, NotSwappable, Report
from netswap.testing.sealed import Keys, make_keys
from netswap.testing.subject import NEW, OLD, Code, Subject, load_subject
from netswap.testing.transcript import Cut, Transcript
from netswap.testing.world import Restless

__all__ = ["check_swappable"]

PLAIN, TLS = "plain", "tls"

MOST_FAILURES: Final = 3
"""After so many a check ends: they are most often one and the same."""


WIRES: Final[dict[str, Callable[[], Keys | None]]] = {PLAIN: lambda: None, TLS: make_keys}
"""What bytes go over, to what makes the keys for it."""


@dataclass(frozen=True)
class Options:
    """How a pair is checked; see ``check_swappable``."""

    beside: Iterable[Code] = ()
    replies: Replies | None = None
    expect: Callable[[Difference], bool] | None = None
    workers: int = 1
    loops: Sequence[str] = tuple(LOOPS)
    over: str | Sequence[str] = PLAIN
    served: str = ""
    due: float = 0.0
    tried: Collection[str] = tuple(FAMILIES)
    limit: int = 150
    hints: Iterable[str] = ()


def check_swappable(old: Code, new: Code, *transcripts: Any, **options: Any) -> Report:
    """Swap between ``old`` and ``new`` wherever it can be while clients act, on both loops.

    ``old`` and ``new`` are files, folders or bundles; a transcript is a ``Transcript``, or the
    steps of one (``[b"hello\\n", Wait(5), Do.END]``). Options:

    * ``beside``: modules that stay what they are; the bundled stack is there anyway. A pair
      without a connection (a buffer, a service) needs one here that uses it.
    * ``replies``: a function that cuts what one step is answered into whole replies. With it
      the versions may answer differently, but each reply is of one version, in order: of the old
      one before the swap, of the new one after. Without it they have to answer alike.
    * ``expect``: is asked about each ``Difference`` that is left, and says whether the author
      wants it.
    * ``workers``: how many; connections of the first client are accepted by the last one.
    * ``served``: the kind of connection that clients get, when there are several: one that begins
      as another and becomes it is reached by a transcript that goes through that.
    * ``loops``: "asyncio", "uvloop"; both if not said.
    * ``over``: "plain", "tls", or both; plain if not said. Over TLS each piece is a record of its
      own, and there is a swap behind every byte of the wire too, inside of records.
    * ``due``: so many seconds also pass in the middle of a swap at every cut, with what is due.
    * ``hints``: ``kind.field`` of what only saves work and may be forgotten by a round trip.
    * ``tried``: what is tried, of "swaps", "wire", "meanwhile", "due", "bystander" and "faults".
    * ``limit``: cuts of one transcript that are tried, evenly spread when there are more.

    Raises NotSwappable (an AssertionError) with the simplest cases that fail, BundleError for a
    module that a push would refuse, UsageError for a pair or a transcript that is none.
    """
    chosen = Options(**options)
    plays = [_named(given, index) for index, given in enumerate(transcripts, 1)]
    if not plays:
        what = "no transcript: give what a client sends"
        raise UsageError(what, "", 'check_swappable(old, new, [b"hello\\n", ...])')
    if asyncio._get_running_loop() is not None:
        what = "check_swappable runs loops of its own"
        raise UsageError(what, "", "call it from a plain function, not from a coroutine")
    over = [chosen.over] if isinstance(chosen.over, str) else chosen.over
    keys = [WIRES[wire]() for wire in _known("over", over, WIRES)]
    _known("tried", chosen.tried, FAMILIES)
    code = load_subject(old, new, chosen.beside, chosen.hints, chosen.served)
    with _undisturbed(), code as subject:
        report = Report(str(subject))
        for where in product(chosen.loops, keys):
            _Checker(where, subject, chosen, report).check(plays)
    if report.failures:
        raise NotSwappable(report)
    return report


def _known(option: str, given: Collection[str], known: Collection[str]) -> Collection[str]:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        what = f"{option}={list(given)!r}: what there is is {', '.join(known)}"
        raise UsageError(what, "", f"{option}={[next(iter(known))]}, for one")
    return given


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The caller's random numbers go on as if nothing had been, and its garbage is left alone.

    Plays leave much garbage; each search for it would look through all that was there before.
    """
    chance, frozen = random.getstate(), gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        random.setstate(chance)
        if not frozen:
            gc.unfreeze()


def _named(given: Any, index: int) -> Transcript:
    steps = [given] if isinstance(given, bytes) else given
    made = steps if isinstance(steps, Transcript) else Transcript(steps)
    if not made.clients:
        raise UsageError(f"transcript {index} has no step of a client")
    return made if made.name else replace_name(made, f"transcript {index}")


def replace_name(transcript: Transcript, name: str) -> Transcript:
    """The same steps under a name."""
    return Transcript(transcript.steps, name)


class _Checker:
    """All transcripts on one loop, plain or with keys over TLS."""

    def __init__(
        self, where: tuple[str, Keys | None], subject: Subject, options: Options, report: Report
    ) -> None:
        self._loop_name, self.keys = where
        self.name = self._loop_name if self.keys is None else f"{self._loop_name} over TLS"
        over_tls = self.keys is not None
        self.scope = Scope(options.limit, over_tls, options.due, options.tried)
        self.subject = subject
        self.options = options
        self.report = report
        self.loop: ManualLoop
        self._alone: dict[tuple[Transcript, str, tuple[Cut, ...]], Seen] = {}

    def check(self, transcripts: list[Transcript]) -> None:
        """Play everything; failures go into the report."""
        self.loop = LOOPS[self._loop_name]()
        try:
            for transcript in transcripts:
                self._check(transcript)
                self._alone.clear()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _check(self, transcript: Transcript) -> None:
        report, scope = self.report, self.scope
        report.cuts += len(cuts_of(transcript, scope))
        report.possible += len(cuts_of(transcript, scope._replace(limit=sys.maxsize)))
        if not self._answers_alike(transcript):
            return
        for case in cases_of(transcript, self.scope):
            if len(report.failures) >= MOST_FAILURES:
                return
            play = self._play(case)
            complaint = self._complaint(play)
            if complaint:
                self._fail(case, complaint)

    def _answers_alike(self, transcript: Transcript) -> bool:
        """Whether each version serves the transcript by itself, and both as the author says."""
        for version in (OLD, NEW):
            seen = self._reference(transcript, version, ())
            mends = version == OLD and self.options.replies is not None
            wrong = seen.problems + ([] if mends else [f"logged: {e}" for e in seen.errors])
            if wrong:
                self._fail(Case(f"{version} alone", transcript, version), wrong[0])
                return False
        if self.options.replies is None:
            return self._same(transcript)
        return True

    def _same(self, transcript: Transcript) -> bool:
        one, two = (self._reference(transcript, version, ()) for version in (OLD, NEW))
        for place in product(transcript.clients, range(len(transcript.steps) + 2)):
            if one.of(*place) == two.of(*place):
                continue
            difference = self._difference(transcript, place, two)
            if not self._expected(difference):
                text = f"{difference}\nif that is meant, say how answers are cut: replies="
                self._fail(Case("the versions answer differently", transcript, OLD), text)
                return False
        return True

    def _play(self, case: Case, cuts: Iterable[Cut] = ()) -> Play:
        random.seed(0)
        self.loop.begin_anew()
        play = Play(self.loop, self.subject, case, self.options.workers, self.keys)
        try:
            self.loop.run_until_complete(play.run(cuts))
        except Restless as error:
            play.seen.problems.append(str(error))
            self.loop.run_until_complete(play.world.close())
        except BaseException:
            self.loop.run_until_complete(play.world.close())
            raise
        self.report.plays[self.name] += 1
        return play

    def _reference(self, transcript: Transcript, version: str, cuts: tuple[Cut, ...]) -> Seen:
        key = (transcript, version, cuts)
        if key not in self._alone:
            play = self._play(Case("alone", transcript, version), cuts)
            self._alone[key] = play.seen
            objects = max(self.scope.objects, play.objects)
            self.scope = self.scope._replace(objects=objects)
        return self._alone[key]

    def _complaint(self, play: Play) -> str:
        """What is wrong with a play, or an empty text."""
        seen, cuts = play.seen, play.case.cuts
        if seen.problems:
            return "\n".join(seen.problems[:5])
        complaint = self._compared(play, (), play.stages, play.turns)
        if complaint and any(cut.byte for cut in cuts) and self._minds_cuts(play, cuts):
            return self._compared_when_cut(play, cuts) and complaint
        return complaint

    def _minds_cuts(self, play: Play, cuts: tuple[Cut, ...]) -> bool:
        """Whether a version answers otherwise when the transcript comes in these pieces."""
        for version in (OLD, NEW):
            one, two = (self._reference(play.case.transcript, version, c) for c in ((), cuts))
            if (one.heard, one.ended) != (two.heard, two.ended):
                return True
        return False

    def _compared_when_cut(self, play: Play, cuts: tuple[Cut, ...]) -> str:
        """For versions that take packets for messages: each answers as it does to these pieces.

        Or the client sees what it would have seen without a swap. What such a version makes of a
        message of which it has got some pieces, and the other version the rest, is nobody's to
        say: several swaps within messages are not judged.
        """
        if len(cuts) > 1:
            self.report.unjudged += 1
            return ""
        no_turns = {name: [Turn(0, 0)] * len(turns) for name, turns in play.turns.items()}
        return self._compared(play, cuts, play.stages, play.turns) and self._compared(
            play, cuts, play.stages[:1], no_turns
        )

    def _compared(
        self,
        play: Play,
        cuts: tuple[Cut, ...],
        stages: Sequence[str],
        turns: Mapping[str, Sequence[Turn]],
    ) -> str:
        """Against what each version alone answers when the steps are cut like this."""
        seen, transcript = play.seen, play.case.transcript
        alone = {v: self._reference(transcript, v, cuts) for v in (OLD, NEW)}
        replies = self.options.replies or whole
        for place in explain(seen, alone, stages, turns, replies):
            difference = self._difference(transcript, place, seen, cuts)
            if not self._expected(difference):
                return _with_errors(difference, seen)
        known = {error for one in alone.values() for error in one.errors}
        strange = [error for error in seen.errors if error not in known]
        return f"an error that neither version alone has: {strange[0]}" if strange else ""

    def _difference(
        self, transcript: Transcript, at: tuple[str, int], got: Seen, cuts: tuple[Cut, ...] = ()
    ) -> Difference:
        client, row = at
        alone = [self._reference(transcript, version, cuts) for version in (OLD, NEW)]
        parts = [
            one.since(client, row) if row == got.blurred else one.of(client, row)
            for one in (got, *alone)
        ]
        (heard, ends), late = zip(*parts, strict=True), row == got.blurred
        sent = _sent(transcript, row) + (" and whatever comes later" if late else "")
        return Difference(client, row - 1, sent, *heard, *ends)

    def _expected(self, difference: Difference) -> bool:
        expect = self.options.expect
        if expect is None or not expect(difference):
            return False
        self.report.explained += 1
        return True

    def _fail(self, case: Case, text: str) -> None:
        row = Failure(self.name, case.transcript.name, str(case), text)
        self.report.failures.append(row)


def _sent(transcript: Transcript, row: int) -> str:
    if not row:
        return "when it has connected"
    steps = transcript.steps
    return str(steps[row - 1]) if row <= len(steps) else "after the last step"


def _with_errors(difference: Difference, seen: Seen) -> str:
    return "\n".join([str(difference), *(f"  logged: {error}" for error in seen.errors[:3])])
