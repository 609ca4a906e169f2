"""The command line: exit codes, words for every failure, and JSON that programs can rely on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from netswap.cli import COMMANDS, root
from netswap.commands import render
from netswap.outcome import EXIT_CODES, SERVER_STATE, Outcome

ROOT = Path(__file__).parents[1]
CHANGES = {"push": ["protocols"], "swap": ["k@1"], "rollback": [], "promote": []}
LOOKS = ["status", "objects", "inspect 0.1", "versions", "workers", "history", "blockers"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(root, list(arguments))


@contextmanager
def server(path: Path, answer: bytes) -> Iterator[None]:
    """A server that answers one request with ``answer``, whatever it was."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def speak() -> None:
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(20)
            data = b""
            while b"\r\n\r\n" not in data:
                data += accepted.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(body) < length:
                body += accepted.recv(65536)
            accepted.sendall(answer)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        speaker.join(20)
        listening.close()


def ending(outcome: str, **fields: Any) -> bytes:
    result = {
        "schema": "netswap/1",
        "outcome": outcome,
        "what": "object 7 raised",
        "where": "v2.py:9, worker 1",
        "state": "as it was",
        "advice": "mend it",
        "dry_run": False,
        "only": None,
        "changes": [],
        "verdicts": [],
        "receipt": None,
        "refusals": [],
        "undo": "",
        **fields,
    }
    progress = b'{"phase":"preparing","text":"prepared","worker":1}\n'
    return b"HTTP/1.0 200 OK\r\n\r\n" + progress + json.dumps(result).encode() + b"\n"


def test_every_outcome_has_a_code_of_its_own_and_a_sentence() -> None:
    """One table; nothing is missing from it and no code is there twice."""
    assert set(EXIT_CODES) == set(SERVER_STATE) == set(Outcome)
    assert len(set(EXIT_CODES.values())) == len(Outcome)
    assert EXIT_CODES == {
        "done": 0,
        "usage": 2,
        "refused": 20,
        "rolled back": 21,
        "mixed": 22,
        "unknown": 23,
        "conflict": 24,
        "unreachable": 25,
    }


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("command", CHANGES)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_every_outcome_of_every_change_exits_by_the_table(
    tmp_path: Path, outcome: Outcome, command: str, as_json: bool
) -> None:
    """What the server says decides the exit code; a failure has what, where, state and advice."""
    path = tmp_path / "s"
    file = tmp_path / "v2.py"
    file.write_text("x = 1\n")
    words = [str(file)] if command == "push" else CHANGES[command]
    with server(path, ending(outcome.value)):
        flags = ["--json"] if as_json else []
        result = invoke(command, *words, "--socket", str(path), *flags)
    assert result.exit_code == EXIT_CODES[outcome]
    assert "worker 1: prepared" in result.stderr
    if as_json:
        page = json.loads(result.stdout)
        assert (page["schema"], page["outcome"]) == ("netswap/1", outcome.value)
    elif outcome is Outcome.DONE:
        assert "object 7 raised" in result.stdout
    else:
        assert result.stdout == ""
        for part in ("object 7 raised", "v2.py:9, worker 1", "as it was", "mend it"):
            assert part in result.stderr


@pytest.mark.parametrize("command", [*LOOKS, "push protocols", "swap k@1", "rollback"])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_without_a_server_every_command_exits_with_25(
    tmp_path: Path, command: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says where it looked and how to start one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols" / "a.py").write_text("x = 1\n")
    words = [*command.split(), "--socket", str(tmp_path / "none")]
    result = invoke(*words, *(["--json"] if as_json else []))
    assert result.exit_code == EXIT_CODES[Outcome.UNREACHABLE]
    if as_json:
        page = json.loads(result.stdout)
        assert page["schema"] == "netswap/1"
        assert page["where"] == str(tmp_path / "none")
    else:
        assert "netswap serve" in result.stderr


def test_a_server_that_breaks_off_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    """The operator is sent to the history, not told that it failed."""
    path = tmp_path / "s"
    with server(path, ending("done").rpartition(b'{"schema')[0]):
        result = invoke("rollback", "--socket", str(path))
    assert result.exit_code == EXIT_CODES[Outcome.UNKNOWN]
    assert "netswap history" in result.stderr


@pytest.mark.parametrize("words", ["status", "status --json", "check README.md"])
def test_an_interrupt_has_a_code_of_its_own(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither a usage error nor the failure of anything."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netswap.commands.look.AdminClient", interrupt)
    monkeypatch.setattr("netswap.probe.run_probe", interrupt)
    done = invoke(*words.split())
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    "words",
    [
        ["push"],
        ["push", "no/such/file.py"],
        ["push", "{file}", "--canary", "10"],
        ["push", "{file}", "--watch", "0"],
        ["push", "{file}", "--by-hand", "10m"],
        ["swap", "k@1", "--canary", "101%"],
        ["rollback", "--by-hand", "10m"],
        ["promote", "v2.py"],
        ["push", "{file}", "--timeout", "soon"],
        ["swap", "no-revision"],
        ["swap", "@1"],
        ["rollback", "--to", "2"],
        ["nonsense"],
        ["serve", "--listen", "echo"],
        ["serve", "--workers", "0"],
        ["serve", "--check", "--loop", "none"],
    ],
)
def test_a_wrong_word_is_a_usage_error(tmp_path: Path, words: list[str]) -> None:
    """Exit code 2, before anything is asked of a server. Options that would do nothing are none."""
    file = tmp_path / "v2.py"
    file.write_text("x = 1\n")
    result = invoke(*(word.format(file=file) for word in words))
    assert result.exit_code == EXIT_CODES[Outcome.USAGE]
    assert result.stderr


def test_a_server_that_is_not_started_sends_nothing_to_another() -> None:
    """What is wrong with the words of `serve` leaves no server to speak of."""
    result = invoke("serve", "--drain", "soon")
    assert result.exit_code == EXIT_CODES[Outcome.USAGE]
    assert "server: none was started" in result.stderr


@pytest.mark.parametrize("words", [("--help",), ("load", "schema")])
def test_a_full_disk_is_told_in_a_sentence(words: tuple[str, ...]) -> None:
    """Of a result that can't be written nobody wants to see where in netswap that was."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "netswap", *words], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode in (1, 2)
    assert done.stderr.rstrip().endswith("the result can't be written: No space left on device")
    assert "Traceback" not in done.stderr


def test_serve_check_names_every_problem() -> None:
    """All at once, so that nobody mends them one by one."""
    result = invoke("serve", "--check", "--workers", "0", "--loop", "none")
    assert "--workers" in result.stderr
    assert "--loop" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_its_help(name: str) -> None:
    """Help names the command's own options, and the group's table is not stale."""
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.name == name
    if name not in ("load", "demo"):
        assert invoke(name, "--help").exit_code == 0
        options = {option for param in command.params for option in param.opts}
        assert {"--json", "--socket", "--timeout"} <= options


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=ROOT
    )


STATUS: dict[str, Any] = {
    "pid": 1, "uptime": 1.5, "workers": [{
        "id": 0, "pid": 2, "connections": 3, "state": "serving", "restarts": 0,
        "crash_loop": False, "stuck": False,
    }],
    "kinds": {"kv.store": {
        "version": 1, "revision": 1, "sha256": "0" * 64, "objects": 1, "by_version": {"1": 1},
        "pinned": 0,
    }},
    "listeners": [], "transaction": None, "retiring": [],
}  # fmt: skip


@pytest.mark.parametrize("answered", [False, True])
def test_a_look_imports_nothing_that_is_slow(tmp_path: Path, answered: bool) -> None:
    """It has to start in under 100 ms, whether a server is there or not."""
    code = (
        "import sys\nfrom netswap.cli import main\n"
        "slow = {'aiohttp', 'structlog', 'rich', 'uvloop', 'asyncio', 'ssl', 'netswap.supervisor'}"
        "\ntry: main()\n"
        "finally: print('slow:', *sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    page = b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(STATUS).encode()
    with server(tmp_path / "s", page) if answered else nullcontext():
        done = run("-c", code, "status", "--socket", str(tmp_path / "s"))
    assert done.returncode == (0 if answered else 25)
    assert ("kv.store" in done.stdout) is answered
    assert done.stderr.splitlines()[-1] == "slow:"


GOOD = """
from netswap import Service, State

class Hall(State, kind="hall", version=1):
    n: int = 0

class Rooms(Service[Hall]):
    pass
"""

HANGS = """
import signal
while True:
    signal.getitimer(0)[0] < 1 or signal.setitimer(0, 0.001)
"""
"""Its time is over as soon as it hangs: how long Python takes to start is the machine's affair."""


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (GOOD, 0, "hall  v1  new"),
        ("x = (\n", 20, "mine.py:1"),
        (HANGS, 20, "mine.py:"),
        ("import os\nos._exit(3)\n", 20, "exit status 3"),
        (GOOD.replace("int = 0", "int"), 20, "default"),
        (GOOD + "CACHE = {}\n", 20, "CACHE"),
    ],
    ids=["good", "syntax", "hangs", "dies", "no default", "global"],
)
def test_check_needs_no_server(tmp_path: Path, content: str, code: int, sentence: str) -> None:
    """It says what a push would say, also of a module that hangs."""
    file = tmp_path / "mine.py"
    file.write_text(content)
    done = run("-m", "netswap", "check", str(file), "--timeout", "20s")
    assert done.returncode == code, done.stderr
    assert sentence in done.stdout + done.stderr


def test_check_compares_with_the_bundled_module() -> None:
    """A new version of a bundled kind gets its verdict and its round trips."""
    done = run("-m", "netswap", "check", "protocols/kv/v2.py", "--json")
    page = json.loads(done.stdout)
    assert done.returncode == 0
    assert {line["kind"]: line["verdict"] for line in page["verdicts"]} == {
        "kv.connection": "by migration",
        "kv.store": "by migration",
    }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Callable[..., Any]]]:
    """A real server in its own process, and a way to ask it."""
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = "serve --workers 2 --listen echo=127.0.0.1:0 --listen later=127.0.0.1:0 --drain 60s"
    state = ["--state-dir", str(tmp_path / "state")]
    process = subprocess.Popen(
        [sys.executable, "-m", "netswap", *words.split(), *state],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
        cwd=tmp_path,
    )

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        path = str(tmp_path / "state" / "admin.sock")
        return run("-m", "netswap", *words, "--socket", path)

    try:
        yield process, ask
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(90)
def test_serve_from_ready_to_drained(
    served: tuple[subprocess.Popen[str], Callable[..., Any]], tmp_path: Path
) -> None:
    """One ready line with every address; a listener without code waits for a push; TERM drains.

    Signals by which other servers open their logs or upgrade end nothing.
    """
    process, ask = served
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("netswap ready: 2 workers, echo 127.0.0.1:")
    page = json.loads(ask("status", "--json").stdout)
    assert page["pid"] == process.pid
    assert [row["state"] for row in page["workers"]] == ["serving", "serving"]
    assert page["kinds"]["echo.connection"]["revision"] == 1
    assert "later.connection" not in page["kinds"]
    bad = tmp_path / "bad.py"
    bad.write_text("def broken(:\n")
    pids = [row["pid"] for row in page["workers"]]
    for pid, number in product((process.pid, *pids), (signal.SIGUSR1, signal.SIGUSR2)):
        os.kill(pid, number)
    assert ask("push", str(bad)).returncode == EXIT_CODES[Outcome.REFUSED]
    assert [row["pid"] for row in json.loads(ask("workers", "--json").stdout)["workers"]] == pids
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert ask("status").returncode == EXIT_CODES[Outcome.UNREACHABLE]


def test_a_second_signal_ends_it_at_once(
    served: tuple[subprocess.Popen[str], Callable[..., Any]],
) -> None:
    """An operator who can't wait does not have to."""
    process, _ = served
    assert process.stdout is not None
    address = process.stdout.readline().partition("echo 127.0.0.1:")[2].partition(",")[0]
    with socket.create_connection(("127.0.0.1", int(address)), timeout=20) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "long before the drain's limit"


def test_an_address_in_use_is_told_with_its_protocol(tmp_path: Path) -> None:
    """The server does not start half."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"echo=127.0.0.1:{other.getsockname()[1]}"
        done = run("-m", "netswap", "serve", "--listen", listen, "--state-dir", str(tmp_path / "s"))
    assert done.returncode == 1
    assert "echo can't listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_is_as_wide_as_its_cells() -> None:
    """Plain columns, which grep and awk understand."""
    assert render.table(("A", "B"), [("long cell", 1), ("x", 22)]).splitlines() == [
        "A          B",
        "long cell  1",
        "x          22",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations_have_the_units_that_matter(seconds: float, text: str) -> None:
    """An uptime can be read at a glance."""
    assert render.duration(seconds) == text


def test_a_receipt_says_what_changed_and_how_to_undo_it() -> None:
    """Verdict, objects, blackout, stall, gone, dropped, revision, undo."""
    result = {
        "what": "push kv/v2.py: done",
        "verdicts": [
            {"kind": "k", "verdict": "by migration", "reason": "steps 1 to 2", "old": 1, "new": 2,
             "lossy": ["seen"]}
        ],
        "changes": [{"kind": "k", "new_revision": 2, "sha256": "ab" * 32}],
        "receipt": {"objects": {"k": 7}, "workers": 2, "blackout_us": 1500.0, "stall_us": 400.0,
                    "convert_us": 21.0, "gone": 1, "dropped": 0},
        "dry_run": False,
        "only": None,
        "undo": "netswap rollback",
    }  # fmt: skip
    assert render.receipt(result).splitlines() == [
        "push kv/v2.py: done",
        "  k  v1 → v2  by migration (steps 1 to 2), loses seen",
        "  k  revision 2, bundle abababababab",
        "  converted: k 7 in 2 workers",
        "  it took: 3.0 µs an object, blackout 1.50 ms, longest stall 0.40 ms, gone 1, dropped 0",
        "  undo with: netswap rollback",
    ]


@pytest.mark.parametrize(
    "words",
    [
        "push",
        "push /no/such/file",
        "push --bogus x",
        "push --watch -3s README.md",
        "rollback a b",
        "inspect",
        "no-such-command",
        "serve extra",
    ],
)
def test_a_wrong_command_line_is_json_too(words: str) -> None:
    """Whoever reads stdout finds one object whatever went wrong; without --json it is in words."""
    result = invoke(*words.split(), "--json")
    page = json.loads(result.stdout)
    assert (page["schema"], page["outcome"], result.exit_code) == ("netswap/1", "usage", 2)
    assert page["what"] in invoke(*words.split()).stderr
    assert "--help` says what it takes" in page["advice"]
