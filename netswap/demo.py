"""The whole story in under a minute, told by the commands that a user would type.

A server of two workers carries checked load on ``verify`` and ``kv`` while new versions are
pushed, one push is taken back, a broken module is refused and one that fails later is taken back
by the watch. Every line that is printed comes
from what really ran: the server, the pushes and the load generator are processes of their own.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from netswap.interpreter import python_module

__all__ = ["main"]

READY_S = 30.0
LOAD_S = 600
"""Seconds after which the load ends by itself; the story ends it before."""
CHATTERS = 20
LOADS = (("verify", 200, 2000), ("kv", 50, 2000))
SERVED = ("echo", "chat", "kv", "verify")
BROKEN = '''"""verify, version 3: its migration stumbles over connections that have answered."""
from netswap import Connection, State, migration


class Tally(State, kind="verify.connection", version=3):
    answered: int = 0


@migration("verify.connection", 2, 3)
def up(old):
    return {"answered": 1 // 0}


@migration("verify.connection", 3, 2)
def down(new):
    return {}


class Verify(Connection[Tally]):
    def on_data(self, data):
        self.write(data)
'''
SOUND = "        state.answered, state.digest = answered, LENGTH.pack(rolling)\n"
FAILS = """\
        if answered % 50 == 49:
            raise RuntimeError("every fiftieth request")
"""


@dataclass(frozen=True)
class Scene:
    """A command of the story: what is typed, the exit code that it has to end with, and why."""

    why: str
    words: tuple[str, ...]
    expected: int = 0


def main(arguments: Sequence[str]) -> int:
    """Tell the story; 0 when everything ended as it should, 1 when something did not, 2 usage."""
    unknown = [word for word in arguments if word != "--json"]
    if unknown:
        print(f"netswap demo takes --json only, not {unknown[0]}", file=sys.stderr)
        return 2
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="netswap-demo-"))
    try:
        with as_file(files("protocols")) as protocols, _server(folder) as ports:
            outcome = _story(folder, protocols, ports, quiet="--json" in arguments)
    finally:
        shutil.rmtree(folder)
    outcome["seconds"] = round(time.monotonic() - started, 1)
    _close(outcome, as_json="--json" in arguments)
    return 0 if outcome["ok"] else 1


def _story(folder: Path, protocols: Path, ports: dict[str, int], quiet: bool) -> dict[str, Any]:
    broken, failing = _bad_modules(folder, protocols)
    say = (lambda *_: None) if quiet else print
    chatters = [socket.create_connection(("127.0.0.1", ports["chat"])) for _ in range(CHATTERS)]
    say(f"Two workers serve {', '.join(f'{name} on {port}' for name, port in ports.items())}.")
    with _loads(ports) as loads:
        _announce(say)
        _wait_connected(folder, sum(connections for _, connections, _ in LOADS) + len(chatters))
        scenes = []
        for scene in _scenes(protocols, broken, failing):
            scenes.append(_play(scene, folder, say))
            time.sleep(0.8)
        say("\nThe load ends. What its clients saw, through all of this:")
        reports = [_report(load) for load in loads]
    for chatter in chatters:
        chatter.close()
    ok = all(s["as_expected"] for s in scenes) and all(r["exit_code"] == 0 for r in reports)
    return {"schema": "netswap/1", "ok": ok, "scenes": scenes, "loads": reports}


def _bad_modules(folder: Path, protocols: Path) -> tuple[Path, Path]:
    """One that is refused, and one that fails when it is asked."""
    broken, failing = folder / "broken.py", folder / "failing.py"
    broken.write_text(BROKEN, encoding="utf-8")
    sound = (protocols / "verify/v2.py").read_text(encoding="utf-8")
    failing.write_text(sound.replace(SOUND, SOUND + FAILS), encoding="utf-8")
    return broken, failing


def _announce(say: Any) -> None:
    for name, connections, rate in LOADS:
        say(f"{connections} connections of checked load on {name}, {rate:,} operations a second.")
    say(f"{CHATTERS} people are in the chat.")


def _scenes(protocols: Path, broken: Path, failing: Path) -> Iterator[Scene]:
    def push(*names: str) -> tuple[str, ...]:
        return ("push", *(str(protocols / name / "v2.py") for name in names))

    yield Scene("verify gets larger frames and another shape of state.", push("verify"))
    yield Scene("kv and echo go together, as one transaction.", push("kv", "echo"))
    yield Scene("Second thoughts: both go back, with all their state.", ("rollback",))
    yield Scene("And forward again.", push("kv", "echo"))
    yield Scene("chat gets history.", push("chat"))
    yield Scene("A module that can't convert what lives is refused.", ("push", str(broken)), 20)
    yield Scene(
        "One that fails later goes to a few first; their requests are answered by the old code.",
        ("push", str(failing), "--canary", "10%", "--watch", "20s"),
        21,
    )
    yield Scene("Receive buffers become chunked.", ("push", str(protocols / "buffers/chunked.py")))


def _play(scene: Scene, folder: Path, say: Any) -> dict[str, Any]:
    shown = " ".join(_short(word) for word in scene.words)
    say(f"\n{scene.why}\n$ netswap {shown}")
    code, result = _netswap(folder, *scene.words)
    for line in _told(code, result):
        say(f"  {line}")
    return {
        "command": f"netswap {shown}",
        "exit_code": code,
        "as_expected": code == scene.expected,
        "result": result,
    }


def _short(word: str) -> str:
    path = Path(word)
    return "/".join(path.parts[-3:]) if path.is_absolute() and path.suffix == ".py" else word


def _told(code: int, result: dict[str, Any]) -> Iterator[str]:
    """The receipt, or the refusal, in a few lines."""
    for verdict in result.get("verdicts", ()) if code == 0 else ():
        old = f"v{verdict['old']} → " if verdict["old"] is not None else ""
        yield f"{verdict['kind']}: {old}v{verdict['new']}, {verdict['verdict']}"
    receipt = result.get("receipt")
    if code == 0 and receipt:
        count = sum(receipt["objects"].values())
        yield (
            f"{count} live objects converted, blackout {receipt['blackout_us'] / 1000:.2f} ms, "
            f"dropped {receipt['dropped']}"
        )
    if code != 0:
        yield f"exit {code}: {result.get('what', 'no result')}"
        yield from (f"{name}: {result[name]}" for name in ("where", "state") if result.get(name))


def _close(outcome: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(outcome))
        return
    for report in outcome["loads"]:
        counts = report["counts"]
        faults = ", ".join(f"{name} {counts[name]}" for name in _FAULTS)
        print(f"  {report['protocol']:<7}{counts['answered']:,} answered: {faults}")
        for reason in report["reasons"]:
            print(f"         {report['verdict']}: {reason}")
    verdict = "All as it should be" if outcome["ok"] else "NOT as it should be: see above"
    print(f"\n{verdict}, in {outcome['seconds']:g} s.")


_FAULTS = ("lost", "duplicated", "reordered", "corrupted", "not_carried", "dropped")


def _netswap(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [*python_module("netswap"), *words, "--socket", str(folder / "admin"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {"what": done.stderr.strip()}


@contextmanager
def _loads(ports: dict[str, int]) -> Iterator[list[subprocess.Popen[str]]]:
    """Checked load on each protocol; none of it outlives the story, however that ends."""
    loads = [_load(name, ports[name], *how) for name, *how in LOADS]
    try:
        yield loads
    finally:
        for load in loads:
            load.kill()
            load.communicate()


def _report(load: subprocess.Popen[str]) -> dict[str, Any]:
    """End the load in order: what it saw."""
    load.terminate()
    report: dict[str, Any] = json.loads(load.communicate(timeout=60)[0].strip().splitlines()[-1])
    return report


def _load(protocol: str, port: int, connections: int, rate: int) -> subprocess.Popen[str]:
    words = [*python_module("loadgen"), "run", "--protocol", protocol, "--port", str(port)]
    words += ["--connections", str(connections), "--rate", str(rate)]
    words += ["--duration", f"{LOAD_S}s", "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, int]]:
    words = [*python_module("netswap"), "serve", "--json", "--workers", "2"]
    words += ["--state-dir", str(folder / "state"), "--socket", str(folder / "admin")]
    for name in SERVED:
        words += ["--listen", f"{name}=127.0.0.1:0"]
    log = folder / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        yield _wait_ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_ready(process: subprocess.Popen[str], log: Path) -> dict[str, int]:
    """The ports that it has, which nobody else had in between."""
    assert process.stdout is not None
    watchdog = time.monotonic() + READY_S
    for line in process.stdout:
        if "ready" in line:
            listeners: dict[str, str] = json.loads(line)["listeners"]
            return {name: int(at.rpartition(":")[2]) for name, at in listeners.items()}
        if time.monotonic() > watchdog:
            break
    raise SystemExit(f"the server did not start:\n{log.read_text(encoding='utf-8')}")


def _wait_connected(folder: Path, wanted: int) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        workers = _netswap(folder, "status")[1].get("workers", ())
        if sum(worker["connections"] for worker in workers) >= wanted:
            return
        time.sleep(0.1)
    raise SystemExit(f"not {wanted} connections within {READY_S:g} s")
