"""The real command against real servers: it says what they did, and its exit code says it too."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadgen.cli import main
from loadgen.conductor import conduct, deaf_to_interrupts
from loadgen.plan import Plan, PlanError
from loadgen.progress import Moment
from tests.loadgen.carried import RUNS, is_disturbed

Load = Callable[..., Any]
Serve = Callable[[str, str], int]

FAULTS = {
    "drop": "lost",
    "duplicate": "duplicated",
    "reorder": "reordered",
    "corrupt": "corrupted",
    "forget": "not_carried",
    "disconnect": "unknown",
}
OPEN = ("--connections", 2, "--rate", 1000, "--duration", "300ms", "--grace", "200ms")
CLOSED = ("--connections", 4, "--duration", "200ms")


@pytest.mark.parametrize(
    ("protocol", "fault"),
    [("verify", "reorder"), ("verify", "disconnect"), ("echo", "corrupt"), ("kv", "forget")],
)
def test_a_faulty_server_is_convicted(server: Serve, load: Load, protocol: str, fault: str) -> None:
    """Exit 10, and the fault that the server made on each connection, not another.

    All faults of all protocols, without processes: ``test_fault_table``.
    """
    done = load("--protocol", protocol, "--port", server(protocol, fault), *OPEN)
    assert done.exit_code == done.report["exit_code"] == 10
    counts = {name: done.report["counts"][name] for name in FAULTS.values()}
    assert {name for name, count in counts.items() if count} == {FAULTS[fault]}
    assert counts[FAULTS[fault]] >= 2
    dropped = 2 if fault == "disconnect" else 0
    assert done.report["connections"]["dropped"] == done.report["counts"]["dropped"] == dropped
    assert done.report["examples"]


@pytest.mark.parametrize("protocol", ["echo", "kv", "verify"])
def test_a_faithful_server_is_acquitted(server: Serve, load: Load, protocol: str) -> None:
    """Exit 0 in a closed loop with several operations open a line, in two processes."""
    port = server(protocol, "none")
    done = load("--protocol", protocol, "--port", port, *CLOSED, "--processes", 2, "--depth", 5)
    report = done.report
    assert (done.exit_code, report["verdict"], report["schema"]) == (0, "pass", "netswap/1")
    assert report["counts"]["answered"] == report["counts"]["issued"] > 0
    assert report["connections"]["connected"] == 4
    assert len(report["cpu_s"]) == 2
    assert sum(report["by_version"].values()) == (
        report["counts"]["answered"] if protocol == "verify" else 0
    )


def test_a_run_ends_when_the_last_answer_is_there(
    server: Serve, load: Load, tmp_path: Path
) -> None:
    """The grace is a bound, no pause: an open loop that is owed nothing ends. --hdr is written."""
    log = tmp_path / "run.hlog"
    line = ("--protocol", "verify", "--port", server("verify", "none"), *OPEN, "--grace", "60s")
    assert load(*line, "--hdr", log).exit_code == 0
    lines = log.read_text().splitlines()
    assert [text[:6] for text in lines] == ["#[Hist", "#[Star", '"Start', "0.000,", "Tag=se"]
    began = float(lines[1].removeprefix("#[StartTime: ").split()[0])
    assert 0 < time.time() - began < 60


def test_large_payloads_cross_whole(server: Serve, load: Load) -> None:
    """Operations larger than a socket buffer are put together and compared."""
    done = load(
        "--protocol", "echo", "--target", f"127.0.0.1:{server('echo', 'none')}",
        "--payload", 1_000_000, *CLOSED,
    )  # fmt: skip
    assert done.exit_code == 0


def test_a_stall_shows_in_an_open_loop(server: Serve, load: Load) -> None:
    """The operations that a stalled server kept waiting have the latency that they had."""
    limits = ("--fail-on", "p99>100ms", "--fail-on", "lost>0")
    done = load("--protocol", "verify", "--port", server("verify", "stall"), *OPEN, *limits,
                "--grace", "2s")  # fmt: skip
    assert done.exit_code == 11
    assert done.report["latency_us"]["max"] > 250_000
    assert len(done.report["reasons"]) == 1


def test_a_saturated_generator_is_no_proof(server: Serve, load: Load) -> None:
    """Asked for more than it can send, the command says so and blames itself."""
    done = load(
        "--protocol", "echo", "--port", server("echo", "none"),
        "--rate", 5_000_000, "--duration", "300ms", "--grace", "10s",
    )  # fmt: skip
    assert done.exit_code == 12
    assert "saturated" in done.report["reasons"][0]


def test_no_server_is_no_pass(load: Load) -> None:
    """Nobody listens: an invalid run, at once, with a sentence."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = load("--protocol", "echo", "--port", closed.getsockname()[1], "--duration", "60s")
    assert done.exit_code == 12
    assert done.report["connections"]["refused"] == 50
    assert "is the server running" in done.report["reasons"][0]


@pytest.fixture
def pusher(tmp_path: Path) -> Callable[[int], str]:
    """A stand-in for netswap that tells its words and ends with a code of choice."""

    def make(exit_code: int) -> str:
        script = tmp_path / "a netswap"
        script.write_text(f'#!/bin/sh\necho "{{\\"words\\": \\"$*\\"}}"\nexit {exit_code}\n')
        script.chmod(0o755)
        return shlex.quote(str(script))

    return make


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (20, 13)])
def test_a_push_in_the_middle(
    server: Serve, load: Load, pusher: Callable[[int], str], code: int, expected: int
) -> None:
    """The push happens during the run, is marked with what it said, and its failure is exit 13."""
    done = load(
        "--protocol", "verify", "--port", server("verify", "none"), *OPEN,
        "--netswap", pusher(code), "--socket", "s.sock", "--push-at", "100ms=some/v2.py",
    )  # fmt: skip
    (event,) = done.report["events"]
    assert done.exit_code == expected
    assert event["exit_code"] == code
    assert event["answer"] == {"words": "push --json --socket s.sock some/v2.py"}
    assert 0.1 <= event["start_s"] <= event["end_s"]
    assert event["window_us"]["max"] > 0


def test_a_push_that_can_not_be_started_fails(server: Serve, load: Load, tmp_path: Path) -> None:
    """No netswap command there: exit 13, not a crash."""
    done = load(
        "--protocol", "verify", "--port", server("verify", "none"), *OPEN,
        "--netswap", tmp_path / "nothing", "--push-at", "0s=v2.py",
    )  # fmt: skip
    assert done.exit_code == 13
    assert "can't be run" in done.report["events"][0]["stderr"]


def test_other_commands_fail_a_run_only_when_asked(server: Serve, load: Load) -> None:
    """--run-at is marked like a push; its exit code counts with --fail-on."""
    line = ("--protocol", "echo", "--port", server("echo", "none"), *CLOSED, "--run-at", "0s=false")
    assert load(*line).exit_code == 0
    assert load(*line, "--fail-on", "events_failed>0").exit_code == 11


def test_a_row_of_events(server: Serve, load: Load) -> None:
    """--every does its deeds in turn, one after the other, each marked with what it said."""
    done = load(
        "--protocol", "verify", "--port", server("verify", "none"), *OPEN,
        "--duration", "60s", "--every", "80ms",
        "--run", "echo one", "--run", "sh -c 'echo two; kill -TERM $PPID'",
    )  # fmt: skip
    events = done.report["events"]
    assert len(events) >= 2
    assert done.exit_code == 0
    assert [event["answer"] for event in events] == (["one", "two"] * len(events))[: len(events)]
    assert [round(event["at_s"] / 0.08, 6) for event in events] == [*range(1, len(events) + 1)]
    assert events[0]["window"]["operations"] > 0
    ends = [event["end_s"] for event in events]
    assert all(event["start_s"] >= end for event, end in zip(events[1:], ends, strict=False))


def test_an_event_that_does_not_end_is_ended(server: Serve, load: Load) -> None:
    """After the run an event has --timeout seconds left."""
    line = ("--protocol", "echo", "--port", server("echo", "none"), *CLOSED)
    done = load(*line, "--run-at", "0s=tail -f /dev/null", "--timeout", 0.3)
    assert done.report["events"][0]["exit_code"] is None
    assert done.exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--protocol", "gopher"),
        ("--protocol", "echo", "--server-name", "shop.example"),
        ("--protocol", "echo", "--connections", 0),
        ("--protocol", "echo", "--duration", "soon"),
        ("--protocol", "echo", "--duration", "0s"),
        ("--protocol", "echo", "--duration", "1s", "--push-at", "2s=v2.py"),
        ("--protocol", "echo", "--fail-on", "happiness<1"),
        ("--protocol", "echo", "--report", "no/such/folder/page.html"),
        ("--protocol", "echo", "--save", "."),
        ("--protocol", "echo", "--every", "1s"),
        ("--protocol", "echo", "--run", "true"),
        ("--protocol", "echo", "--every", "0s", "--run", "true"),
        ("--protocol", "echo", "--every", "1us", "--run", "true"),
        ("--protocol", "echo", "--duration", "1s", "--every", "1s", "--run", "true"),
        ("--protocol", "echo", "--save", "-"),
        ("--protocol", "echo", "--save", "no.json", "--report", "./no.json"),
        ("--protocol", "echo", "--timeout", "0s"),
        ("--protocol", "echo", "--hold", "1s"),
        ("--protocol", "echo", "--requests", 3),
        ("--protocol", "echo", "--url", "/x"),
        ("--protocol", "echo", "--rate", 10, "--depth", 2),
        ("--protocol", "echo", "--every", "1s", "--run", ""),
        ("--protocol", "echo", "--rate", "nan"),
        ("--protocol", "echo", "--rate", "inf"),
        ("--protocol", "echo", "--timeout", "nan"),
        ("--protocol", "echo", "--duration", "9" * 20),
        ("--protocol", "echo", "--target", "unix:"),
        ("--protocol", "echo", "--netswap", "'"),
        ("--protocol", "http", "--url", "no slash"),
        ("--protocol", "http", "--url", "/a\nb"),
    ],
)
def test_usage(load: Load, words: tuple[object, ...]) -> None:
    """A wrong word is exit 2 and a sentence, before anything is started."""
    done = load(*words)
    assert done.exit_code == 2
    assert "Error:" in done.stderr


def test_what_is_no_utf_8_is_a_wrong_word() -> None:
    """A name of a file, of a host or of a command that Python could not read."""
    for option in ("--host", "--target", "--run-at", "--push", "--socket"):
        done = CliRunner().invoke(main, ["run", "--protocol", "echo", option, "1s=\udcff"])
        assert done.exit_code == 2
        assert "is not UTF-8" in done.stderr


def test_a_load_process_that_dies_makes_the_run_invalid(server: Serve, load: Load) -> None:
    """What one process saw is missing, so nothing is proved, whatever the others saw."""
    done = load(
        "--protocol", "tests.loadgen.dying:Dying", "--port", server("verify", "none"), *CLOSED,
        "--processes", 2,
    )  # fmt: skip
    assert done.report["counts"]["answered"] > 0
    assert done.exit_code == 12
    assert "load process 1 was killed by SIGKILL" in done.report["reasons"][0]


def test_progress_is_told_each_second(server: Serve) -> None:
    """A caller hears what there is while the run goes on: of the second, and of all until then."""
    plan = Plan(
        protocol="echo", host="127.0.0.1", port=server("echo", "none"), connections=2,
        duration_ns=60_000_000_000, rate=100, progress=True,
    )  # fmt: skip
    told: list[Moment] = []

    def hear(moment: Moment) -> None:
        told.append(moment)
        if moment.answered:  # the load processes have told, too
            os.kill(os.getpid(), signal.SIGTERM)

    seen = asyncio.run(conduct(plan, [], hear))
    assert (told[0].faults, told[0].duration_s) == (0, 60.0)
    assert told[0].seconds >= 0.8
    assert seen.tally.answered == seen.tally.issued >= told[-1].answered > 0


def test_where_it_is_started_only_a_protocol_of_one_s_own_is_found(
    server: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of somebody's there, with a name of Python's, is imported by nobody."""
    (tmp_path / "queue.py").write_text("raise RuntimeError('not Python's')\n")
    (tmp_path / "mine.py").write_text("from loadgen.dialects.framed import Echo\n")
    monkeypatch.chdir(tmp_path)
    plan = Plan(
        protocol="mine:Echo", host="127.0.0.1", port=server("echo", "none"), connections=2,
        duration_ns=200_000_000, rate=100,
    )  # fmt: skip
    assert asyncio.run(conduct(plan, [])).tally.answered == 20


def test_faults_have_their_times(server: Serve) -> None:
    """What goes wrong does so at a time of the run: when it was heard, or was due and lost."""
    plan = Plan(
        protocol="verify", host="127.0.0.1", port=server("verify", "corrupt"), connections=2,
        duration_ns=300_000_000, rate=400,
    )  # fmt: skip
    seen = asyncio.run(conduct(plan, []))
    assert len(seen.tally.fault_times) == seen.tally.faults() == 2
    assert seen.start is not None
    assert all(0 < at - seen.start < 2_000_000_000 for at in seen.tally.fault_times)


def test_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process can't hold is refused before the run, with the number that can."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1064))
    plan = Plan(protocol="echo", host="h", port=1, connections=2500, duration_ns=1)
    with pytest.raises(PlanError, match="use --processes 3"):
        asyncio.run(conduct(plan, []))


@pytest.mark.parametrize("pace", [(), ("--rate", 500), ("--rate", 0.5)])
def test_told_to_end(
    server: Serve, command_line: Callable[..., list[str]], tmp_path: Path, pace: tuple[object, ...]
) -> None:
    """SIGTERM ends a run in order, and what it did until then is judged."""
    sign = tmp_path / "sign"
    os.mkfifo(sign)
    line = command_line(
        "--protocol", "verify", "--port", server("verify", "none"), "--duration", "60s", *pace,
        "--processes", 2, "--connections", 4, "--run-at", f"200ms=cp /dev/null {sign}", "--json",
        "--run-at", "50s=false",
    )  # fmt: skip
    for _ in range(RUNS):
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
            sign.read_bytes()
            running.send_signal(signal.SIGTERM)
            stdout, _ = running.communicate(timeout=60)
        report = json.loads(stdout)
        if not is_disturbed(report["reasons"]):
            break
    assert (running.returncode, report["verdict"]) == (0, "pass"), report
    assert report["counts"]["issued"] == report["counts"]["answered"] > 0
    assert 0.1 < report["duration_s"] < 30
    assert report["asked_s"] == 60
    assert len(report["events"]) == 1


def test_a_load_process_that_begins_hears_no_interrupt() -> None:
    """Ctrl-C while Python starts there would be a traceback: the conductor decides when to stop."""
    interrupts_itself = [sys.executable, "-c", "import os; os.kill(os.getpid(), 2); print(1)"]
    with deaf_to_interrupts():
        assert subprocess.run(interrupts_itself, capture_output=True, check=False).stdout == b"1\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_interrupt_at_any_time_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while words are read or a report is built, and of every command."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for place, words in (
        ("loadgen.cli.push_command", ["run", "--protocol", "echo"]),
        ("loadgen.cli.json_schema", ["schema"]),
    ):
        monkeypatch.setattr(place, interrupt)
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 130
        assert done.stderr.startswith("interrupted: nothing is proved")


def test_interrupted(server: Serve, command_line: Callable[..., list[str]], tmp_path: Path) -> None:
    """An interrupt ends the run and its processes, and is no pass."""
    sign = tmp_path / "sign"
    os.mkfifo(sign)
    line = command_line(
        "--protocol", "echo", "--port", server("echo", "none"), "--duration", "60s",
        "--run-at", f"0s=cp /dev/null {sign}",
    )  # fmt: skip
    # a shell's background job ignores interrupts, and so would everything that it starts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        sign.read_bytes()  # returns when the run is under way
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "nothing is proved" in stderr


def test_a_mistake_of_a_protocol_of_ones_own_is_no_fault_of_the_server(
    server: Serve, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What raises within the load process makes the run invalid, and is told with its place."""
    (tmp_path / "clumsy.py").write_text(CLUMSY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = load("--protocol", "clumsy:Clumsy", "--port", server("echo", "none"), *CLOSED)
    assert (done.exit_code, done.report["counts"]["dropped"]) == (12, 0), done.report["reasons"]
    assert "clumsy.py" in done.stderr
    assert "KeyError" in done.stderr


CLUMSY = """
from loadgen.dialects.framed import Echo

class Clumsy(Echo):
    def receive(self, data):
        raise KeyError("mine")
"""


def test_a_full_disk_hides_neither_the_verdict_nor_the_other_files(
    server: Serve, load: Load, tmp_path: Path
) -> None:
    """A file that can't be written is told and makes no pass, and what was found stays found."""
    line = ("--protocol", "echo", *CLOSED, "--hdr", "/dev/full", "--save", tmp_path / "kept")
    for fault, exit_code in (("corrupt", 10), ("none", 2)):
        done = load(*line, "--port", server("echo", fault))
        assert done.exit_code == exit_code
        assert "/dev/full can't be written: No space left" in done.stderr
        assert json.loads((tmp_path / "kept").read_bytes()) == done.report


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        pytest.param("exec {} > /dev/full", "the result can't be written: No space", id="full"),
        pytest.param("{} | exec >&-", "", id="nobody listens"),
        pytest.param("exec {} 2>&-", "", id="no standard error"),
    ],
)
def test_who_does_not_hear_the_verdict_has_its_files(
    command_line: Callable[..., list[str]], tmp_path: Path, shell: str, said: str
) -> None:
    """The exit code is the verdict's, and what was to be kept is kept."""
    kept = tmp_path / "kept"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        words = command_line("--protocol", "echo", "--port", port, "--save", kept, "--json")
        line = f"set -o pipefail; {shell.format(shlex.join(words))}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 12, done.stderr
    assert json.loads(kept.read_bytes())["exit_code"] == 12
    assert (said in done.stderr) if said else not done.stderr


def test_told_to_end_before_the_start(command_line: Callable[..., list[str]]) -> None:
    """SIGTERM while connections are made: there is nothing to be judged, and that is said."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        line = command_line("--protocol", "echo", "--port", port, "--tls", "--connections", 1)
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as running:
            accepted, _ = mute.accept()  # the handshake that follows is never answered
            with accepted:
                running.send_signal(signal.SIGTERM)
                _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "nothing is proved" in stderr


def test_told_to_end_when_it_is_over(
    command_line: Callable[..., list[str]], tmp_path: Path
) -> None:
    """SIGTERM while a file is written takes nothing from it, nor from the exit code."""
    kept = tmp_path / "kept"
    os.mkfifo(kept)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        line = command_line("--protocol", "echo", "--port", port, "--save", kept)
        with (
            subprocess.Popen(line, stdout=subprocess.DEVNULL) as running,
            kept.open() as reading,  # when the run is over, and not before
        ):
            running.send_signal(signal.SIGTERM)
            result = json.loads(reading.read())
    assert running.returncode == result["exit_code"] == 12
