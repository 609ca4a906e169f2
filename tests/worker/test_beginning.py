"""What begins with new code is tried in the rehearsal: fresh objects, and services' starts."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netswap import Connection, Part, Service, Session, State, invariant
from netswap.channel import messages
from netswap.events import Refusal, Rehearsal
from netswap.hotswap import Change
from netswap.stack import Host
from netswap.transfer import Migration
from netswap.worker import trial
from netswap.worker.play import try_all
from protocols.timers.loop import LoopTimers

ASK = messages.Prepare(1, {}, timeout=10.0)
HALL, TALK, PART = "test.hall", "test.talk", "test.part"


class Hall1(State, kind=HALL, version=1):
    """Who is there."""

    names: list[str] = []


class Hall2(State, kind=HALL, version=2):
    """The same."""

    names: list[str] = []


class Rooms1(Service[Hall1]):
    """Keeps a name while it runs, which only one may do."""

    def on_start(self) -> None:
        assert not self.state.names, "another one has begun"
        self.state.names.append("open")

    def on_stop(self) -> None:
        self.state.names.remove("open")


@pytest.fixture
def host() -> Iterator[Host]:
    """A worker with timers, and no object of the author's."""
    loop = asyncio.new_event_loop()
    host = Host(loop, None)
    host.install(LoopTimers)
    yield host
    loop.close()


def change(new: Any, before: Any = None, up: Any = dict) -> Change:
    """To ``new`` by a step and its way back."""
    steps = (Migration(new.kind, 1, 2, up, (), 1), Migration(new.kind, 2, 1, dict, (), 1))
    return Change(new.kind, new, before, steps)


def tried(host: Host, *changes: Change) -> tuple[Refusal | None, Rehearsal]:
    """What a rehearsal says of it, with the objects that are there."""
    rows = [host.services[one.kind] for one in changes if one.kind in host.services]
    played = try_all(list(changes), rows, host, ASK)
    return played.refusal, played.report


def refused(host: Host, *changes: Change) -> str:
    """Why it is refused."""
    refusal, _ = tried(host, *changes)
    assert refusal is not None
    assert refusal.kind == changes[0].kind
    assert refusal.entry is None
    return refusal.reason


def hall(start: Callable[[Any], object], stop: Callable[[Any], object] = lambda _: None) -> Any:
    """The second version, which starts and stops like this."""

    class Rooms2(Service[Hall2]):
        def on_start(self) -> None:
            start(self)

        def on_stop(self) -> None:
            stop(self)

    return Rooms2


# kinds that nothing lives of


class Talk1(State, kind=TALK, version=1):
    """A number."""

    count: int = 0


class Talk2(State, kind=TALK, version=2):
    """The same, never without one."""

    count: int = 0

    @invariant
    def counts(self) -> bool:
        """What a fresh one does not keep."""
        return self.count > 0


class Line1(Connection[Talk1]):
    """The first version."""


class Line2(Connection[Talk2]):
    """The second."""


def test_a_kind_with_no_object_is_tried_on_a_fresh_one(host: Host) -> None:
    """A step that fails on what every new client has would fail for the first of them."""

    def up(old: dict[str, Any]) -> dict[str, Any]:
        return {"count": 1 // old["count"]}

    reason = refused(host, change(Line2, Line1, up))
    assert reason == (
        "converting a fresh test.talk failed in the rehearsal: "
        "ZeroDivisionError: integer division or modulo by zero"
    )


def test_a_fresh_object_keeps_the_invariants(host: Host) -> None:
    """Of a kind that was there, and of one that is new."""
    assert "Talk2.counts" in refused(host, change(Line2, Line1))
    assert "Talk2.counts" in refused(host, change(Line2))


@pytest.mark.parametrize("base", [Connection, Session, Part])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "known"])
def test_the_object_that_follows_a_fresh_one_is_built(
    host: Host, base: Any, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handle that can't be had shows there, and an object that can be built is none the worse."""

    class New(State, kind=PART, version=2):
        count: int = 0

    class Old(State, kind=PART, version=1):
        count: int = 0

    class Before(base[Old]):  # type: ignore[misc]
        pass

    class After(base[New], uses={"clock": "timer.service"}):  # type: ignore[misc]
        pass

    def broken(*_: Any) -> None:
        raise LookupError("no such thing")

    if base is Session:
        host.install(Input)
    before = None if is_new else Before
    refusal, report = tried(host, change(After, before))
    assert refusal is None
    assert report.objects == 0
    for name in ("_bind", "_bind_after"):
        monkeypatch.setattr(After, name, broken)
    assert "LookupError: no such thing" in refused(host, change(After, before))


class Buffer(State, kind="buffer.receive", version=1):
    """Nothing."""


class Input(Part[Buffer]):
    """What a session reads from."""


# services


def test_a_start_that_fails_is_refused_before_anything_is_touched(host: Host) -> None:
    """With the author's words; of a service that follows another, and of a new one."""

    def fails(_: Any) -> None:
        raise OSError("the desk is taken")

    says = "starting test.hall failed in the rehearsal: OSError: the desk is taken"
    assert refused(host, change(hall(fails))) == says
    host.install(Rooms1)
    assert refused(host, change(hall(fails), Rooms1)) == says
    assert "the desk is taken" in refused(host, change(hall(lambda _: None, fails), Rooms1))


def test_the_old_service_stops_before_the_new_one_starts(host: Host) -> None:
    """As in the swap; then the old one is there again, in the child as well."""
    host.install(Rooms1)
    entry = host.services[HALL]
    seen: list[list[str]] = []
    refusal, report = tried(host, change(hall(lambda new: seen.append(new.state.names)), Rooms1))
    assert (refusal, seen, report.objects) == (None, [["open"]], 1)
    assert type(entry.target) is Rooms1
    assert entry.target.state.names == ["open"]


def test_a_start_that_hangs_is_refused(host: Host) -> None:
    """Also one that sleeps: the loop would be held for as long."""
    naps = threading.Event()

    def hangs(_: Any) -> None:
        while True:
            pass

    ask = messages.Prepare(1, {}, timeout=0.2)
    refusal = try_all([change(hall(hangs))], [], host, ask).refusal
    assert refusal is not None
    assert "starting test.hall failed in the rehearsal: it hangs" in refusal.reason
    reason = refused(host, change(hall(lambda _: naps.wait(2 * trial.BLOCKED_S))))
    assert "it stood still for at least 0." in reason


@pytest.mark.parametrize("way", ["write", "connect", "bind", "run", "remove", "descriptor"])
def test_what_a_start_does_outside_is_left_to_the_swap(
    host: Host, tmp_path: Path, way: str
) -> None:
    """The old service is still in charge: nothing is done, and nothing is held against it."""
    kept = tmp_path / "kept"
    kept.write_text("old", encoding="ascii")
    after: list[str] = []
    ways: dict[str, Callable[[], object]] = {
        "write": lambda: kept.write_text("new", encoding="ascii"),
        "connect": lambda: one.connect(("127.0.0.1", 9)),
        "bind": lambda: one.bind(("127.0.0.1", 0)),
        "run": lambda: subprocess.run(["true"], check=True),
        "remove": kept.unlink,
        "descriptor": lambda: os.fstat(10_000),
    }

    def start(_: Any) -> None:
        try:
            ways[way]()
        except (ValueError, LookupError):
            after.append("handled")
        after.append("went on")

    with socket.socket() as one:
        assert tried(host, change(hall(start)))[0] is None
        assert one.getsockname() == ("0.0.0.0", 0)
    assert after == []
    assert kept.read_text(encoding="ascii") == "old"
    kept.write_text("new", encoding="ascii")  # afterwards it is allowed again


def test_a_start_finds_a_loop_and_other_workers_that_say_nothing(host: Host) -> None:
    """What it schedules is taken and not run; what it says to other workers is not sent."""
    said: list[Any] = []

    class Mesh:
        def cast(self, *words: Any) -> None:
            said.append(words)

        request = cast

    async def later() -> None:
        said.append("ran")

    made: list[Any] = []

    def start(new: Any) -> None:
        made.append(asyncio.get_running_loop().create_task(later()))
        new.timers.arm("tick", 1)
        new.cluster.broadcast("hello")
        new.cluster.request(1, "hello", (), new.entry, "heard", 0)

    host.slots = (0, 1)
    mesh: Any = Mesh()
    host.mesh = mesh
    assert tried(host, change(hall(start)))[0] is None
    assert (said, host.mesh) == ([], mesh)
    for task in made:
        task.cancel()
    host.loop.run_until_complete(asyncio.gather(*made, return_exceptions=True))


def test_a_service_finds_the_new_ones_of_its_set(host: Host) -> None:
    """A service of a new kind is begun, and there, before what uses it."""

    class Desk(State, kind="test.desk", version=1):
        rows: list[str] = []

    class Clerk(Service[Desk]):
        def take(self, row: str) -> None:
            self.state.rows.append(row)

    class Rooms2(Service[Hall2], uses={"desk": "test.desk"}):
        def on_start(self) -> None:
            self.desk.take("hall")

    host.install(Rooms1)
    refusal, _ = tried(host, change(Clerk), change(Rooms2, Rooms1))
    assert refusal is None
