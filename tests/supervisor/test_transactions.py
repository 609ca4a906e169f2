"""Push, swap and rollback over real worker processes that fail in every way they can."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from netswap.errors import UsageError
from netswap.modules import Bundle
from netswap.modules.application import bundle_of
from netswap.outcome import Outcome
from netswap.probe import Probed
from netswap.supervisor import StartFailed, StateDirectoryBusy, operations
from netswap.supervisor import transaction as driver
from netswap.supervisor.transaction import SETTLE
from tests.supervisor.conftest import Serve, bundle

# The supervisor runs on asyncio's own loop: nothing of it is in the data path.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``bundle`` makes is known without a look, so workers have all of a push's time.

    How long a child of the supervisor takes to start is the machine's affair.
    """

    def run_probe(bundles: Sequence[Bundle], *_: object) -> Probed:
        names = [Path(one.name) for one in bundles]
        return Probed(kinds=[{name.parent.name: int(name.stem[1:])} for name in names])

    monkeypatch.setattr(operations, "run_probe", run_probe)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers no question is not taken for one that says nothing: it may be starved."""
    monkeypatch.setattr(driver, "SILENT", 60.0)


async def test_a_listener_that_nobody_serves_is_told(serve: Serve) -> None:
    """A mistake in its name would let its clients wait for ever, with nothing to see."""
    with capture_logs() as told:
        async with serve() as server:
            page = await server.supervisor.looks.status()
    assert page["listeners"][0]["waits_for"] == "echo.connection"
    (line,) = (line for line in told if line.get("kind") == "echo.connection")
    assert (line["listener"], line["log_level"]) == ("echo", "warning")


async def test_a_push_is_committed_in_every_worker(serve: Serve) -> None:
    """The receipt adds up over workers and says how to undo it."""
    async with serve() as server:
        result = await server.push(bundle())
        assert result.outcome is Outcome.DONE
        assert server.active == {"k": bundle().sha256}
        assert result.receipt is not None
        assert result.receipt.workers == 2
        assert result.receipt.objects == {"k": 4}
        assert result.receipt.gone == 2
        assert result.receipt.blackout_us == 30.0
        assert result.undo == "netswap rollback"
        assert [change.new_revision for change in result.changes] == [1]
        texts = [line.text for line in server.lines if line.worker == 1]
        assert "prepared" in texts
        assert any(text.startswith("swapped 2 objects") for text in texts)


async def test_pushing_what_is_active_changes_nothing(serve: Serve) -> None:
    """The same bundle again is a success, not a transaction."""
    async with serve() as server:
        await server.push(bundle())
        result = await server.push(bundle())
        assert (result.outcome, result.what) == (Outcome.DONE, "already active")
        assert len(server.supervisor.state.versions.history) == 1


@pytest.mark.parametrize(
    ("fault", "outcome", "sentence"),
    [
        ("refuse", Outcome.REFUSED, "no way"),
        ("die in prepare", Outcome.REFUSED, "worker 1 died while preparing"),
        ("silent prepare", Outcome.REFUSED, "worker 1 did not answer in time while preparing"),
        ("fail", Outcome.ROLLED_BACK, "object 7 raised"),
        ("die in swap", Outcome.ROLLED_BACK, "worker 1 died while swapping"),
        ("silent swap", Outcome.ROLLED_BACK, "worker 1 did not answer in time while swapping"),
    ],
)
@pytest.mark.usefixtures("known", "heard")
async def test_one_faulty_worker_takes_back_all(
    serve: Serve, fault: str, outcome: Outcome, sentence: str
) -> None:
    """Whatever one worker does before the commit, the old set stays, and the result says why."""
    async with serve() as server:
        await server.push(bundle(1))
        server.fault(1, fault)
        result = await server.push(bundle(2), timeout=3.0)
        assert (result.outcome, result.what) == (outcome, sentence)
        assert "worker 1" in result.where
        assert result.advice
        assert server.active == {"k": bundle(1).sha256}
        assert server.supervisor.state.versions.history[-1].outcome == outcome.value
        server.fault(1)
        await server.wait_serving()
        assert (await server.push(bundle(2))).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("fault", "outcome", "phase"),
    [
        ("hang in prepare", Outcome.REFUSED, "preparing"),
        ("hang in swap", Outcome.ROLLED_BACK, "swapping"),
        ("hang in begun swap", Outcome.MIXED, "swapping"),
        ("hang in finish", Outcome.DONE, ""),
    ],
)
@pytest.mark.usefixtures("known")
async def test_a_worker_that_hangs_holds_a_push_for_its_time_alone(
    serve: Serve, fault: str, outcome: Outcome, phase: str
) -> None:
    """Nobody waits for a silent one to go back, and only what has begun to swap may be mixed.

    It took twelve seconds more, and one that had read nothing was called mixed. Looks leave it out
    and say so, instead of waiting for it.
    """
    async with serve() as server:
        await server.push(bundle(1))
        server.fault(1, fault)
        began = time.monotonic()
        result = await server.push(bundle(2), timeout=1.5)
        assert time.monotonic() - began < 1.5 + SETTLE / 2
        assert result.outcome is outcome
        number = 2 if outcome is Outcome.DONE else 1
        assert server.active == {"k": bundle(number).sha256}
        if phase:
            said = f"worker 1 did not answer in time while {phase}: it is silent for "
            assert result.what.startswith(said)
            assert f"kill -9 {server.supervisor.fleet.slots[1].pid}" in result.advice
        looks = server.supervisor.looks
        for look in (looks.status(), looks.objects(""), looks.blockers(), looks.workers()):
            assert [row["worker"] for row in (await look)["unanswered"]] == [1]
        with pytest.raises(UsageError, match=r"worker 1 \(pid \d+\) is silent"):
            await looks.inspect("1.7")
        nudged = await server.supervisor.intervention.nudge("1.7")
        assert (nudged.outcome, "is silent" in nudged.what) == (Outcome.REFUSED, True)


def prepares(serve_folder: Path) -> list[str]:
    """What the workers were asked to prepare, in their order."""
    file = serve_folder / "prepared"
    return file.read_text().splitlines() if file.exists() else []


async def test_workers_prepare_one_after_the_other(serve: Serve, tmp_path: Path) -> None:
    """A refusal of the first spares the second; the result says what it tried."""
    async with serve() as server:
        server.fault(0, "note prepare", "refuse")
        server.fault(1, "note prepare")
        result = await server.push(bundle())
        assert result.outcome is Outcome.REFUSED
        assert prepares(tmp_path) == ["0 True False"]
        assert [(one.worker, one.failed) for one in result.rehearsal] == [(0, 2)]
        assert [line.verdict for line in result.verdicts] == ["incompatible"]
        server.fault(0, "note prepare")
        result = await server.push(bundle(), rehearse=False, allow_stale=True)
        assert result.outcome is Outcome.DONE
        assert prepares(tmp_path)[1:] == ["0 False True", "1 False True"]
        assert [one.slowest for one in result.rehearsal] == ["0.5", "1.5"]


@pytest.mark.usefixtures("known", "heard")
async def test_each_worker_has_its_own_time_to_prepare(serve: Serve) -> None:
    """The one that is asked is blamed, not those whose turn has not come."""
    async with serve() as server:
        server.fault(0, "silent prepare")
        result = await server.push(bundle(), timeout=3.0)
        reasons = [refusal.reason for refusal in result.refusals]
        assert reasons == ["worker 0 did not answer in time while preparing"]


async def test_what_ran_before_may_run_again_with_what_it_had(serve: Serve, tmp_path: Path) -> None:
    """A library that has changed on disk is no reason to refuse a rollback."""
    async with serve() as server:
        await server.push(bundle(1))
        await server.push(bundle(2))
        server.fault(0, "note prepare")
        assert (await server.rollback()).outcome is Outcome.DONE
        assert prepares(tmp_path) == ["0 True True"]


async def test_a_failure_that_cannot_be_taken_back_is_told_as_such(serve: Serve) -> None:
    """Mixed versions have their own outcome and name the worker."""
    async with serve() as server:
        server.fault(0, "stuck")
        server.fault(1, "fail")
        result = await server.push(bundle())
        assert result.outcome is Outcome.MIXED
        assert {refusal.worker for refusal in result.refusals} == {0, 1}
        assert result.advice.startswith("`netswap status` counts the objects of each version")


async def test_who_pushes_to_a_server_that_stops_is_not_told_to_wait(serve: Serve) -> None:
    """Nothing else runs that would end; it has to be started again."""
    async with serve() as server:
        await server.supervisor.operations.close()
        result = await server.push(bundle())
        assert (result.outcome, result.what) == (Outcome.CONFLICT, "the server shuts down")
        assert "start it again" in result.advice
        assert "drains" in result.state


async def test_a_worker_that_dies_after_the_commit_boots_into_the_new_set(serve: Serve) -> None:
    """Once committed, a death costs nothing but the worker's own connections."""
    async with serve() as server:
        server.fault(1, "die in finish")
        result = await server.push(bundle())
        assert result.outcome is Outcome.DONE
        server.fault(1)
        await server.wait_serving()
        page = await server.supervisor.looks.versions()
        assert [row["objects"] for row in page["versions"]] == [4]


async def test_rollback_undoes_the_last_push_as_a_whole(serve: Serve) -> None:
    """Two bundles pushed together go back together, and the history says so."""
    async with serve() as server:
        await server.push(bundle(1), bundle(1, "l"))
        await server.push(bundle(2), bundle(2, "l"))
        result = await server.rollback()
        assert result.outcome is Outcome.DONE
        assert server.active == {"k": bundle(1).sha256, "l": bundle(1, "l").sha256}
        assert server.supervisor.state.versions.history[-2].undone == ["k", "l"]


async def test_swap_brings_back_any_revision(serve: Serve) -> None:
    """By number or by hash."""
    async with serve() as server:
        await server.push(bundle(1))
        await server.push(bundle(2))
        assert (await server.swap("k", "1")).outcome is Outcome.DONE
        assert server.active == {"k": bundle(1).sha256}
        assert (await server.swap("k", bundle(2).short)).outcome is Outcome.DONE
        assert server.active == {"k": bundle(2).sha256}
        assert (await server.rollback("k", "1")).outcome is Outcome.DONE
        assert server.active == {"k": bundle(1).sha256}


async def test_an_unknown_revision_is_refused_with_the_known_ones(serve: Serve) -> None:
    """The operator is told what to type."""
    async with serve() as server:
        await server.push(bundle(1))
        result = await server.swap("k", "9")
        assert result.outcome is Outcome.REFUSED
        assert "known are 1" in result.advice


async def test_two_pushes_at_once_conflict(serve: Serve) -> None:
    """The second one is refused at once and the first one is not disturbed."""
    async with serve() as server:
        first = asyncio.create_task(server.push(bundle(1)))
        await asyncio.sleep(0)
        second = await server.push(bundle(2))
        assert second.outcome is Outcome.CONFLICT
        assert "push k/v1.py" in second.what
        assert (await first).outcome is Outcome.DONE


async def test_a_dry_run_leaves_no_trace(serve: Serve) -> None:
    """Prepared everywhere, swapped nowhere, journaled nowhere."""
    async with serve() as server:
        result = await server.push(bundle(), dry_run=True)
        assert (result.outcome, result.dry_run) == (Outcome.DONE, True)
        assert server.active == {}
        assert server.supervisor.state.versions.history == []


@pytest.mark.parametrize(
    ("content", "sentence", "line"),
    [
        (b"def broken(:\n", "", 1),
        (b"\x00\xff\xfe not python", "", None),
        (b"raise RuntimeError('at import')\n", "at import", 1),
        (b"import sys\nsys.exit(3)\n", "", 2),
        (b"x = 1\n", "", None),
        (b"import os\nos._exit(4)\n", "exit status 4", None),
        (b"import signal\nwhile True:\n    signal.setitimer(0, 0.01); signal.pause()\n", "", 3),
    ],
    ids=["syntax", "binary", "raises", "exits", "nothing", "dies", "hangs"],
)
async def test_a_bad_module_is_refused_before_any_worker_hears_of_it(
    serve: Serve, content: bytes, sentence: str, line: int | None
) -> None:
    """The supervisor and the workers never import it."""
    async with serve() as server:
        result = await server.push(Bundle("bad.py", {"bad.py": content}))
        assert result.outcome is Outcome.REFUSED
        assert sentence in result.what
        if line is not None:
            assert f"bad.py:{line}" in result.where
        assert not any(line.worker is not None for line in server.lines)


async def test_two_bundles_may_not_provide_the_same_kind(serve: Serve) -> None:
    """Which one would win is not guessed."""
    async with serve() as server:
        result = await server.push(bundle(1), bundle(2))
        assert result.outcome is Outcome.REFUSED
        assert "k is provided by k/v1.py and by k/v2.py" in result.what


async def test_a_dead_worker_gets_a_successor_with_the_same_sockets(serve: Serve) -> None:
    """A slot keeps its descriptors; siblings do not notice."""
    async with serve() as server:
        slots = server.supervisor.fleet.slots
        before = [slot.pid for slot in slots]
        assert before[0] is not None
        os.kill(before[0], signal.SIGKILL)
        while slots[0].pid == before[0] or len(server.supervisor.fleet.serving()) < 2:
            await server.supervisor.fleet.wait_changed()
        assert slots[0].restarts == 1
        assert slots[1].pid == before[1]


async def test_a_silent_worker_is_reported_then_killed_and_replaced(serve: Serve) -> None:
    """A stuck loop is seen, because heartbeats come from the loop."""
    async with serve(silent_report=0.5, silent_kill=1.0) as server:
        slot = server.supervisor.fleet.slots[1]
        before = slot.pid
        server.fault(1, "no heartbeat")
        while slot.pid == before:
            await server.supervisor.fleet.wait_changed()
            server.fault(1)
        await server.wait_serving()


async def test_workers_that_die_before_they_are_ready_fail_the_start(serve: Serve) -> None:
    """A server that can't serve says so instead of trying for ever."""
    async with serve(ready=False) as server:
        server.fault(0, "die at start")
        with pytest.raises(StartFailed, match="worker 0 dies again and again"):
            await server.supervisor.start()


async def test_a_restarted_server_serves_what_was_committed(serve: Serve) -> None:
    """The journal is the memory."""
    async with serve() as server:
        await server.push(bundle(1))
        await server.push(bundle(2))
        await server.supervisor.stop()
    async with serve() as server:
        assert server.active == {"k": bundle(2).sha256}
        assert (await server.rollback()).outcome is Outcome.DONE
        assert server.active == {"k": bundle(1).sha256}


async def test_two_servers_do_not_share_a_state_directory(serve: Serve) -> None:
    """The second one says who holds it and what to do."""
    async with serve():
        with pytest.raises(StateDirectoryBusy, match=rf"pid {os.getpid()}.*--state-dir"):
            async with serve():
                pass


async def test_what_is_loaded_at_the_first_start_is_revision_one(
    serve: Serve, tmp_path: Path
) -> None:
    """It is part of what a server begins with, so it can't be undone."""
    file = tmp_path / "mine.py"
    file.write_bytes(bundle().files["v1.py"])
    async with serve(load=(file,)) as server:
        assert list(server.active) == ["k"]
        assert (await server.rollback()).outcome is Outcome.REFUSED


async def test_of_a_kind_that_a_start_has_twice_the_later_one_serves(
    serve: Serve, tmp_path: Path
) -> None:
    """As when ``--load`` names a later version of what is bundled; a push of both is refused."""
    for version in (1, 2):
        (tmp_path / f"v{version}.py").write_bytes(bundle(version).files[f"v{version}.py"])
    async with serve(load=(tmp_path / "v1.py", tmp_path / "v2.py")) as server:
        assert server.active == {"k": bundle_of(tmp_path / "v2.py").sha256}


async def test_a_first_module_that_is_broken_fails_the_start(serve: Serve, tmp_path: Path) -> None:
    """The sentence names the file and the line, and what to do."""
    file = tmp_path / "mine.py"
    file.write_text("x = (\n")
    async with serve(ready=False, load=(file,)) as server:
        with pytest.raises(StartFailed, match=r"mine\.py:1") as failed:
            await server.supervisor.start()
        said = str(failed.value)
        assert "\n  server: none was started\n  next:   mend the file and start again" in said


async def test_stop_drains_and_kills_who_does_not_end(serve: Serve) -> None:
    """The limit is finite, and it is kept."""
    async with serve() as server:
        server.fault(1, "no drain")
        async with asyncio.timeout(20):
            await server.supervisor.stop()
        assert [slot.state.value for slot in server.supervisor.fleet.slots] == ["dead", "dead"]
        assert (await server.push(bundle())).outcome is Outcome.CONFLICT


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
async def test_a_server_that_can_start_no_process_refuses_a_push(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nothing was touched, and that is what is said; the next push goes in."""

    def short(*_: object) -> Probed:
        raise error

    async with serve() as server:
        with monkeypatch.context() as patch:
            patch.setattr(operations, "run_probe", short)
            result = await server.push(bundle())
        assert result.outcome is Outcome.REFUSED
        assert str(error).removeprefix("[Errno 24] ") in result.what
        assert result.advice
        assert (await server.push(bundle())).outcome is Outcome.DONE
