"""The probe: a pushed module is looked at in a child, which may hang, exit or crash."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from netswap import probe
from netswap.events import Refusal, Stage, Verdict
from netswap.modules import Bundle
from netswap.modules.application import bundle_of
from netswap.probe import doubled, run_probe
from tests.machine import children

GOOD = """
from netswap import Service, State, migration

class Hall(State, kind="test.hall", version=1):
    names: list[str] = []

class Rooms(Service[Hall]):
    pass
"""
NEXT = """
import os, signal, sys, time
from netswap import Service, State, migration

class Hall(State, kind="test.hall", version=2):
    names: dict[str, int] = {}

@migration("test.hall", 1, 2)
def up(old):
    UP
    return {"names": dict.fromkeys(old["names"], 0)}

@migration("test.hall", 2, 1)
def down(new):
    DOWN
    return {"names": list(new["names"])}

class Rooms(Service[Hall]):
    pass
"""
STEP_UP, STEP_DOWN = 10, 15
PATIENT = 15.0
HURRY = "signal.getitimer(0)[0] < 1 or signal.setitimer(0, 0.001)"
"""Its time is over a moment after it is here: how long the child takes to get here is no matter."""


def bundle(source: str, name: str = "mine.py") -> Bundle:
    """A bundle of one file."""
    return Bundle(name, {name: source.encode()})


def second(up: str = "pass", down: str = "pass") -> Bundle:
    """Version 2, with something that its steps do first."""
    return bundle(NEXT.replace("UP", up).replace("DOWN", down))


def refused(source: str) -> Refusal:
    """The one refusal of a module that provides nothing."""
    probed = run_probe([bundle(source)], timeout=PATIENT)
    assert not any(probed.kinds)
    (refusal,) = probed.refusals
    return refusal


def runs(pid: str) -> bool:
    """Whether a process is more than a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_what_bundles_provide_is_found_in_their_order() -> None:
    """Kind and version; without others to compare with there is no verdict."""
    other = bundle(GOOD.replace("test.hall", "test.else"), "other.py")
    probed = run_probe([second(), other])
    assert probed.kinds == [{"test.hall": 2}, {"test.else": 1}]
    assert (probed.refusals, probed.verdicts) == ([], [])


def test_a_kind_that_two_bundles_provide_is_refused() -> None:
    """Both are named, also behind one that is refused. At a start the later one wins."""
    both = [bundle(GOOD, "one.py"), bundle(GOOD, "other.py")]
    for pushed, refused in ((both, 0), ([bundle("x = (\n", "bad.py"), *both], 1)):
        probed = run_probe(pushed)
        assert len(probed.refusals) == refused
        (refusal,) = doubled(pushed, probed)
        assert refusal.reason == "test.hall is provided by one.py and by other.py"
        assert refusal.advice == "push one of them"


def test_what_is_compared_with_has_to_load() -> None:
    """Its own line is to blame, as that of what is checked would be."""
    broken = Bundle("old.py", {"old.py": b"\n1 / 0\n"})
    refusal = run_probe([second()], [broken], named=True).refusals[0]
    assert (refusal.file, refusal.line) == ("old.py", 2)
    assert "ZeroDivisionError" in refusal.reason


@pytest.mark.parametrize(
    ("source", "stage", "reason", "line"),
    [
        ("x = (\n", Stage.CHECK, "never closed", 1),
        ("TABLE = {}\n", Stage.CHECK, "TABLE", 1),
        ("x = 1\nraise ValueError('no')\n", Stage.LOAD, "ValueError: no", 2),
        ("import sys\nsys.exit(0)\n", Stage.LOAD, "SystemExit", 2),
        ("import os\nos._exit(0)\n", Stage.LOAD, "exit status 0", 2),
        ("import os\nos.abort()\n", Stage.LOAD, f"signal {signal.SIGABRT.value}", 2),
        ("import os\nos.kill(os.getpid(), 9)\n", Stage.LOAD, "signal 9", 2),
        ("import os\nos.killpg(0, 9)\n", Stage.LOAD, "signal 9", 2),
        ("import os\nos.kill(os.getppid(), 18)\n", Stage.LOAD, "signal to a process that is", 2),
        ("import os\nos.killpg(os.getpgid(os.getppid()), 18)\n", Stage.LOAD, "to processes", 2),
        ("import os\nos.fork()\n", Stage.LOAD, "forks its process", 2),
        ("import os\nos.execv('/bin/true', ['true'])\n", Stage.LOAD, "another program", 2),
        ("import resource as r\nr.setrlimit(7, (9, 9))\n", Stage.LOAD, "changes a limit", 2),
        (f"import signal\nwhile True:\n    {HURRY}\n", Stage.LOAD, "not done after", None),
    ],
    ids=[
        "syntax",
        "global",
        "raises",
        "exits",
        "leaves",
        "crashes",
        "kill",
        "group",
        "parent",
        "others",
        "fork",
        "exec",
        "limit",
        "hangs",
    ],
)
def test_what_does_not_load_is_refused_with_its_line(
    source: str, stage: str, reason: str, line: int | None
) -> None:
    """Whatever it does to the process that loads it."""
    refusal = refused(source)
    assert reason in refusal.reason
    assert refusal.file == "mine.py"
    assert refusal.line in ({line} if line else {2, 3})
    assert refusal.stage == stage


TIMES = "import os, signal; from itertools import chain, repeat\n"
HERE = "os.write(2, b'here')"
OVER = "signal.setitimer(0, 0.001)"


class Awaited(subprocess.Popen[bytes]):
    """A child whose time is over when the module has written a line, and then a moment more."""

    def communicate(self, input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002
        assert self.stdin is not None
        self.stdin.write(input)
        self.stdin.close()
        deadline = time.monotonic() + PATIENT
        while not os.fstat(self.noise).st_size:
            assert time.monotonic() < deadline, "the module has not begun"
            os.sched_yield()
        with pytest.raises(subprocess.TimeoutExpired):
            self.wait(0.1)
        raise subprocess.TimeoutExpired(self.args, timeout or 0.0)

    def __init__(self, *words: Any, stderr: Any, **how: Any) -> None:
        self.noise = stderr.fileno()
        super().__init__(*words, stderr=stderr, **how)


@pytest.mark.parametrize(
    "deaf",
    [
        f"{TIMES}signal.pthread_sigmask(0, {{14}})\nwhile {HERE}: {OVER}; signal.pause()\n",
        f"{TIMES}timer = map(signal.setitimer, (0,), (0.001,))\n"
        f"{HERE}; all(chain(timer, repeat(1)))\n",
    ],
    ids=["the signal", "C code"],
)
def test_code_that_can_not_be_interrupted_is_ended(
    monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """The caller has its answer in time, with the line, and the child is gone."""
    monkeypatch.setattr(probe.subprocess, "Popen", Awaited)
    monkeypatch.setattr(probe, "_GRACE", PATIENT)
    refusal = refused(deaf)
    assert refusal.reason == "loading did not end within 15 s and could not be interrupted"
    assert (refusal.file, refusal.line) == ("mine.py", 3)


def test_prints_of_a_module_do_not_spoil_the_answer() -> None:
    """Neither by print nor by the descriptor."""
    noise = "import os\nprint('hello')\nos.write(1, b'hello')\n"
    assert run_probe([bundle(noise + GOOD)]).kinds == [{"test.hall": 1}]


def test_a_limit_that_is_only_read_is_no_reason_to_refuse() -> None:
    """Either function says how many files there may be."""
    reads = "import resource\nFILES = resource.prlimit(0, 7), resource.getrlimit(7)\n"
    assert run_probe([bundle(reads + GOOD)]).refusals == []


def test_what_a_module_started_does_not_outlive_the_probe(tmp_path: Path) -> None:
    """A process that it left behind is ended with the session, and nobody waits for it."""
    told = tmp_path / "pid"
    start = "import subprocess, pathlib\n"
    start += "child = subprocess.Popen(['sleep', '600'])\n"
    start += f"pathlib.Path({str(told)!r}).write_text(str(child.pid))\n"
    assert "its import started the process" in refused(start + GOOD).reason
    deadline = time.monotonic() + PATIENT
    while runs(told.read_text()):
        assert time.monotonic() < deadline, "it still runs"
        os.sched_yield()


def test_one_bad_bundle_does_not_hide_the_others() -> None:
    """Every reason to refuse is told at once."""
    probed = run_probe([bundle("x = (\n", "a.py"), bundle(GOOD), bundle("raise OSError\n", "b.py")])
    assert [refusal.file for refusal in probed.refusals] == ["a.py", "b.py"]
    assert probed.kinds == [{}, {"test.hall": 1}, {}]


def test_versions_are_compared_with_those_that_are_known() -> None:
    """A verdict for each kind, also for one that is new."""
    new = bundle(GOOD.replace("test.hall", "test.else"), "other.py")
    probed = run_probe([second(), new], [bundle(GOOD)])
    assert probed.refusals == []
    assert [(line.kind, line.verdict, line.old, line.new) for line in probed.verdicts] == [
        ("test.hall", Verdict.BY_MIGRATION, 1, 2),
        ("test.else", Verdict.NEW, None, 1),
    ]


@pytest.mark.parametrize("step", ["up", "down"])
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("sys.exit()", "SystemExit"),
        (f"{HURRY}; time.sleep(600)", "TimeoutError: not done after 15 s"),
        ("return {'names': 3}", "names"),
    ],
    ids=["raises", "exits", "hangs", "wrong type"],
)
def test_a_step_is_tried_each_way_and_named_with_its_line(
    step: str, does: str, reason: str
) -> None:
    """A step down that fails is found before anybody needs it."""
    probed = run_probe([second(**{step: does})], [bundle(GOOD)], timeout=PATIENT)
    versions = "1 to 2" if step == "up" else "2 to 1"
    refusal = next(one for one in probed.refusals if versions in one.reason)
    assert reason in refusal.reason
    assert refusal.file == "mine.py"
    if "return" not in does:
        assert refusal.line == (STEP_UP if step == "up" else STEP_DOWN)


def test_a_missing_step_is_refused_at_the_class(tmp_path: Path) -> None:
    """There is no line of a step to name, so it is that of the state."""
    alone = GOOD.replace("version=1", "version=2").replace("list[str] = []", "dict[str, int] = {}")
    probed = run_probe([bundle(alone)], [bundle(GOOD)])
    up, down = probed.refusals
    assert (up.stage, up.kind, up.file, up.line) == (Stage.VERDICT, "test.hall", "mine.py", 4)
    assert up.reason.startswith("version 1 to 2: ")
    assert down.reason.startswith("version 2 to 1: ")


def test_no_process_and_no_descriptor_is_left() -> None:
    """Each probe closes its pipes and reaps its child."""
    before = os.listdir("/proc/self/fd"), children()
    run_probe([bundle("import os\nos._exit(1)\n")])
    assert (os.listdir("/proc/self/fd"), children()) == before


def test_an_application_finds_its_data_and_a_loop_and_says_what_it_is(tmp_path: Path) -> None:
    """As in a worker; data may be larger than what the child may write."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "big.txt").write_bytes(b"x" * 300_000)
    (folder / "main.py").write_text(
        "import asyncio\n"
        "from pathlib import Path\n"
        "loop = asyncio.get_event_loop()\n"
        "items = list((Path(__file__).parent / 'big.txt').read_text())\n"
        "def app(request): ...\n"
    )
    probed = run_probe([bundle_of(folder)], [bundle_of(folder)])
    assert probed.refusals == []
    assert probed.kinds == [{"http.app": 1}]
    (line,) = probed.verdicts
    assert line.verdict == "as is"
    assert line.reason.startswith("function of the request, which keeps its own state; none of")
