"""A probe: load pushed bundles in a child process first, under a deadline, and look at them there.

Importing a module runs its author's code, which may hang, exit, print or take the process down.
So neither the supervisor nor the command line imports one: they start this module as a child,
``python -m netswap.probe``, hand it the bundles and read what it found. The workers import only
what has passed here.

In the child an alarm interrupts what takes too long, so that the refusal names the line that
hangs; the parent's own deadline is for code that can't be interrupted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Final

import msgspec

from netswap.blame import Place, author_file, place_of_death, tell_where_it_dies
from netswap.confine import confine, leave_room, scratch
from netswap.events import Refusal, Stage, Verdict, VerdictLine
from netswap.interpreter import look_here_last, python_module

if TYPE_CHECKING:
    from netswap.modules import Bundle, Loaded
    from netswap.transfer import Migration, State

__all__ = ["Probed", "doubled", "main", "run_probe"]

_GRACE = 0.8
"""Seconds in which a child whose time is over says what it has found, or where it is."""
STDERR = 2


class Probed(msgspec.Struct):
    """What the child found: per pushed bundle the kinds that it provides, with their versions; of
    one that is refused there are none, and of a child that died there is no bundle.
    """

    kinds: list[dict[str, int]] = []
    refusals: list[Refusal] = []
    verdicts: list[VerdictLine] = []


class _Job(msgspec.Struct):
    """What the child is given: bundles as messages; ``known`` are those to compare with.

    ``named``: these were named for that, so a kind that is only there is left behind. Below
    ``folder`` the files of applications are, by their hashes. ``until`` is when ``timeout`` is
    over, on the machine's monotonic clock.
    """

    bundles: list[bytes]
    known: list[bytes]
    timeout: float
    named: bool = False
    folder: str = ""
    until: float = 0.0


def run_probe(
    bundles: Iterable[Bundle],
    known: Iterable[Bundle] = (),
    timeout: float = 10.0,
    named: bool = False,
) -> Probed:
    """Load ``bundles`` in a child and report; blocks for ``timeout`` and a second.

    The start of the child counts, so that an operator waits no longer than was asked for.

    With ``known``, every kind that a known bundle provides too is compared: verdict up and down,
    and a round trip of the default state. ``named``: a kind that only they provide is told, too.
    """
    with tempfile.TemporaryDirectory(prefix="netswap-probe-") as folder:
        return _run_probe(list(bundles), known, _Job([], [], timeout, named, folder))


def doubled(bundles: Iterable[Bundle], probed: Probed) -> Iterator[Refusal]:
    """A kind that two of the bundles provide: at a start the later one wins, else none may."""
    seen: dict[str, str] = {}
    for bundle, kinds in zip(bundles, probed.kinds, strict=False):
        for kind in kinds:
            if kind in seen:
                reason = f"{kind} is provided by {seen[kind]} and by {bundle.name}"
                yield Refusal(Stage.LOAD, reason, kind=kind, advice="push one of them")
            seen[kind] = bundle.name


def _run_probe(bundles: list[Bundle], known: Iterable[Bundle], job: _Job) -> Probed:
    job.until = time.monotonic() + job.timeout
    job.bundles, job.known = ([b.to_message() for b in some] for some in (bundles, known))
    timeout = job.timeout
    # Files, not pipes: a process that the module started could keep a pipe open.
    with os.fdopen(scratch(), "w+b") as answer, os.fdopen(scratch(), "w+b") as noise:
        child = subprocess.Popen(
            python_module("netswap.probe"),
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=noise,
            start_new_session=True,
        )
        try:
            left = max(job.until - time.monotonic(), 0.0)
            child.communicate(msgspec.msgpack.encode(job), left + _GRACE)
        except subprocess.TimeoutExpired:
            reason = f"loading did not end within {timeout:g} s and could not be interrupted"
            file, line = _place_of_hanging(child, noise)
            return _failed(reason, file or _names(bundles), line)
        finally:
            _kill_session(child)
        return _found(child.returncode, answer, noise, _names(bundles))


def _found(status: int, answer: IO[bytes], noise: IO[bytes], names: str) -> Probed:
    """What the child has written before it ended."""
    answer.seek(0)
    noise.seek(0)
    try:
        return msgspec.msgpack.decode(answer.read(), type=Probed)
    except msgspec.DecodeError:
        return _died(status, noise.read().decode(errors="replace"), names)


def _place_of_hanging(child: subprocess.Popen[bytes], noise: IO[bytes]) -> Place:
    """Where the child is: it is made to crash, which faulthandler reports even out of C code."""
    child.send_signal(signal.SIGABRT)
    with suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
    noise.seek(0)
    return place_of_death(noise.read().decode(errors="replace"))


def _kill_session(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever the author's module started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _names(bundles: Iterable[Bundle]) -> str:
    return ", ".join(bundle.name for bundle in bundles)


def _died(status: int, noise: str, names: str) -> Probed:
    """A child that ended without an answer; faulthandler has said where, if it could."""
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    file, line = place_of_death(noise)
    return _failed(f"the process that loads it died ({how})", file or names, line)


def _failed(reason: str, file: str, line: int | None) -> Probed:
    advice = "import it by hand to see more: python -X faulthandler FILE"
    return Probed(refusals=[Refusal(Stage.LOAD, reason, file, line, advice=advice)])


# -- in the child --


def main() -> None:
    """The child: a job on stdin, what was found on stdout; authors' prints go to stderr."""
    answer = os.dup(1)
    os.dup2(STDERR, 1)
    leave = tell_where_it_dies(STDERR)
    sys.addaudithook(_stay_inside)
    look_here_last()
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Job)
    probed = Probed()
    _unpack(job)
    limits = confine(capture=False)._replace(output=STDERR)
    try:
        with _alarm(job.timeout, job.until - time.monotonic()):
            _probe(job, probed)
    except TimeoutError as error:  # between two bundles, or before the first
        probed.refusals.append(_late(error))
    flood = limits.flooded()
    leave_room()
    if flood:
        probed.refusals = [_flooded(flood, probed.refusals)]
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(msgspec.msgpack.encode(probed))
    # Threads that a module left behind must not keep the child.
    leave(0)


def _late(error: TimeoutError) -> Refusal:
    advice = "give it a longer --timeout"
    return Refusal(Stage.LOAD, str(error), advice=advice)


def _flooded(flood: str, refusals: list[Refusal]) -> Refusal:
    """Output without end, at the line that could not write more if that is known."""
    first = next(iter(refusals), Refusal(Stage.LOAD, ""))
    return msgspec.structs.replace(first, reason=flood, advice="take the output out")


def _stay_inside(event: str, arguments: tuple[object, ...]) -> None:
    """An import that would end its server, or go on twice, is stopped at its line.

    This process has a session of its own, so all others of it were started from here.
    """
    doing = _OUTSIDE.get(event)
    if doing is None or not _is_an_authors(sys._getframe(1)):
        return
    if event == "resource.prlimit" and arguments[-1] is None:  # it only reads
        return
    from netswap.errors import BundleError

    if event in ("os.kill", "os.killpg"):
        to, number = arguments
        assert isinstance(to, int)
        with suppress(ProcessLookupError):
            if not number or (to != -1 and os.getsid(abs(to)) == os.getsid(0)):
                return
    advice = "a module only defines classes when it is imported: take it out"
    raise BundleError(Refusal(Stage.LOAD, f"its import {doing}", advice=advice))


def _is_an_authors(frame: FrameType | None) -> bool:
    """Whether a bundle's code is what does this, and not this module's."""
    while frame is not None and author_file(frame.f_code.co_filename) is None:
        frame = frame.f_back
    return frame is not None


_OUTSIDE: Final = {
    "os.exec": "makes another program of its process",
    "os.fork": "forks its process",
    "os.forkpty": "forks its process",
    "os.kill": "sends a signal to a process that is not its own",
    "os.killpg": "sends a signal to processes that are not its own",
    "resource.prlimit": "changes a limit of its process, which all clients of a worker share",
    "resource.setrlimit": "changes a limit of its process, which all clients of a worker share",
}
"""Audit events, and what is said of them."""


@contextmanager
def _alarm(timeout: float, left: float) -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {timeout:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _probe(job: _Job, probed: Probed) -> None:
    from netswap.errors import BundleError
    from netswap.modules import Bundle

    for message in job.bundles:
        probed.kinds.append({})
        try:
            loaded = _load(Bundle.from_message(message), probed, Path(job.folder))
            if loaded is None:
                continue
            probed.kinds[-1] = {k: i.version for k, i in loaded.implementations.items()}
            _compare(loaded, job, probed)
        except BundleError as error:
            probed.refusals.append(error.refusal)
        except TimeoutError as error:
            probed.refusals.append(_late(error))
    if job.named and not probed.refusals:
        try:
            _left_behind(job, probed)
        except BundleError as error:
            probed.refusals.append(error.refusal)


def _unpack(job: _Job) -> None:
    """Applications find their files, which are larger than the child may write after this."""
    from netswap.errors import BundleError
    from netswap.modules import Bundle
    from netswap.modules.application import place_of

    for message in [*job.bundles, *job.known]:
        with suppress(BundleError):  # it is refused when it is its turn
            bundle = Bundle.from_message(message)
            place = Path(job.folder, bundle.short)
            if place_of(bundle, lambda place=place: place) == place:  # type: ignore[misc]
                bundle.unpack(place)


def _load(bundle: Bundle, probed: Probed, folder: Path) -> Loaded | None:
    from netswap.modules import check_source, load_bundle
    from netswap.modules.application import place_of

    refusals = check_source(bundle)
    probed.refusals += refusals
    if refusals:
        return None
    place = place_of(bundle, lambda: folder / bundle.short)
    if place is not None:  # get_event_loop() at import finds one, as in a worker
        asyncio.set_event_loop(asyncio.new_event_loop())
    return load_bundle(bundle, None, on_trial=True, place=place)


def _load_known(bundle: Bundle, job: _Job) -> Loaded:
    from netswap.modules import load_bundle
    from netswap.modules.application import place_of

    place = place_of(bundle, lambda: Path(job.folder, bundle.short))
    return load_bundle(bundle, None, place=place)


def _compare(loaded: Loaded, job: _Job, probed: Probed) -> None:
    from netswap.modules import Bundle
    from netswap.modules.application import MARK

    known = job.known
    left = set(loaded.implementations) if known else set()
    for message in known:
        bundle = Bundle.from_message(message)
        text = b"\n".join(bundle.files.values())
        if MARK not in bundle.files and not any(kind.encode() in text for kind in left):
            continue
        other = _load_known(bundle, job)
        for kind in left & set(other.implementations):
            left.discard(kind)
            _compare_kind(kind, other, loaded, probed)
    for kind in sorted(left):
        version = loaded.implementations[kind].version
        probed.verdicts.append(
            VerdictLine(kind, Verdict.NEW, _of_no_other(loaded, kind), None, version)
        )


def _of_no_other(loaded: Loaded, kind: str) -> str:
    remark: str = getattr(loaded.implementations[kind], "remark", "")
    return remark or "there is no other version to compare with"


def _compare_kind(kind: str, old: Loaded, new: Loaded, probed: Probed) -> None:
    from netswap.blame import defined_at
    from netswap.transfer import plan_transfer

    before, after = old.implementations[kind].state_type, new.implementations[kind].state_type
    steps = [*old.migrations, *new.migrations]
    up = plan_transfer(before, after, steps)
    reason = getattr(new.implementations[kind], "remark", "") or up.reason
    if up.verdict is Verdict.AS_IS:
        reason = f"{reason}; {_what_changed(kind, old, new)}"
    probed.verdicts.append(
        VerdictLine(kind, up.verdict, reason, up.source, up.target, list(up.lossy))
    )
    ways = ((before, after), (after, before))
    file, line = defined_at(after)
    probed.refusals += [
        refusal if refusal.file else msgspec.structs.replace(refusal, file=file, line=line)
        for source, target in ways
        if (refusal := _round_trip(kind, source, target, steps)) is not None
    ]


def _what_changed(kind: str, old: Loaded, new: Loaded) -> str:
    from netswap.modules.relations import Relations, what_changed

    before, after = (
        Relations(one.bundle).content_of(one.implementations[kind].__module__) for one in (old, new)
    )
    return what_changed(before, after)


def _left_behind(job: _Job, probed: Probed) -> None:
    """Kinds of the other version that the new one has not: a server keeps their old code."""
    from netswap.modules import Bundle

    provided = {kind for kinds in probed.kinds for kind in kinds}
    for message in job.known:
        other = _load_known(Bundle.from_message(message), job)
        for kind, cls in other.implementations.items():
            if kind not in provided:
                reason = "not in what is checked: a server keeps its old code"
                line = VerdictLine(kind, Verdict.AS_IS, reason, cls.version, cls.version)
                probed.verdicts.append(line)


def _round_trip(
    kind: str, source: type[State], target: type[State], steps: list[Migration]
) -> Refusal | None:
    """Take a default state across and through its canonical form, or say why it does not go."""
    from netswap.blame import blame, describe
    from netswap.transfer import decode, encode, plan_transfer

    way = plan_transfer(source, target, steps)
    title = f"version {way.source} to {way.target}"
    if way.verdict is Verdict.INCOMPATIBLE:
        return Refusal(Stage.VERDICT, f"{title}: {way.reason}", kind=kind)
    try:
        state = way.convert(source())
        if encode(decode(encode(state), target)) != encode(state):
            return Refusal(Stage.CHECK, f"{title}: the canonical form differs after a round trip")
    except (Exception, SystemExit) as error:
        file, line = blame(error)
        return Refusal(Stage.CHECK, f"{title}: {describe(error)}", file, line, kind)
    return None


if __name__ == "__main__":
    main()
