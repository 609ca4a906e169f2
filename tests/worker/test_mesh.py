"""The mesh: parts of a service in several workers, over real sockets in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from netswap import Service, State
from netswap.channel import Link, messages
from netswap.errors import ChannelError
from netswap.ott import Entry
from netswap.stack import Host, Reply
from netswap.worker.mesh import Links

KIND = "test.hall"
PATIENCE = 20.0

Condition = Callable[[], bool]


async def until(condition: Condition) -> None:
    """Turn the loop until something is so; the test fails when it takes too long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


class Heard(State, kind=KIND, version=1):
    """What came, in order."""

    heard: list[Any] = []
    answers: list[Any] = []
    joined: list[int] = []
    lost: list[int] = []


class Hall(Service[Heard], clustered=True):
    """One part of a service."""

    def on_peer_joined(self, slot: int) -> None:
        """Another part is there."""
        self.state.joined.append(slot)

    def on_peer_lost(self, slot: int) -> None:
        """Another part is gone."""
        self.state.lost.append(slot)

    def hear(self, *what: Any) -> int:
        """Remember; the answer is how many there are."""
        self.state.heard.append(list(what))
        return len(self.state.heard)

    def fail(self) -> None:
        """An author's mistake."""
        raise ValueError("no such room")

    async def think(self, fails: bool) -> str:
        """Answers in a later turn."""
        await asyncio.sleep(0)
        if fails:
            raise KeyError("forgotten")
        return "thought"

    async def brood(self) -> None:
        """Never answers."""
        await asyncio.Event().wait()

    def unsayable(self) -> complex:
        """A value that no message can hold."""
        return 1j

    def answered(self, token: int, value: Any, error: str | None) -> None:
        """Where answers go."""
        self.state.answers.append((token, value, error))


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        """As expected."""
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        """Look at it."""
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        """Somebody's fault."""
        self.lines.append(("error", event, fields))


class Worker:
    """One worker's host and mesh, without a process."""

    def __init__(self, slot: int, paths: dict[int, str], sock: socket.socket) -> None:
        self.log = Log()
        self.host = Host(asyncio.get_running_loop(), self.log, slot)
        self.host.slots = tuple(sorted(paths))
        self.links = self.host.mesh = Links(self.host, paths)
        self.host.install(Hall)
        self.entry: Entry = self.host.service(KIND)
        self.sock = sock

    @property
    def state(self) -> Heard:
        """What this worker's part has heard."""
        state: Heard = self.entry.target.state
        return state

    @property
    def linked(self) -> bool:
        """Whether a link of this worker is open in either direction."""
        return bool(self.links._out or self.links._in)

    async def start(self) -> None:
        """Take part, with a descriptor of its own as a process has it."""
        await self.links.start(self.sock.dup())

    def cast(self, slot: int, *what: Any) -> None:
        """Let another part hear something."""
        self.entry.target.cluster.cast(slot, "hear", *what)

    def ask(self, slot: int, method: str, *args: Any, token: int = 0) -> None:
        """Ask another part."""
        self.entry.target.cluster.request(slot, method, args, self.entry, "answered", token)

    async def answer(self, slot: int, method: str, *args: Any) -> tuple[int, Any, str | None]:
        """Ask another part and wait for what it says."""
        self.state.answers.clear()
        self.ask(slot, method, *args, token=7)
        await until(lambda: bool(self.state.answers))
        (found,) = self.state.answers
        result: tuple[int, Any, str | None] = found
        return result


class Mesh:
    """The supervisor's part: sockets and paths that outlive the workers."""

    def __init__(self, folder: Path, count: int) -> None:
        self.paths = {slot: str(folder / f"{slot}") for slot in range(count)}
        self.socks = {slot: socket.socket(socket.AF_UNIX) for slot in self.paths}
        self.workers: list[Worker] = []
        for slot, sock in self.socks.items():
            sock.bind(self.paths[slot])
            sock.listen()
            sock.setblocking(False)

    async def worker(self, slot: int) -> Worker:
        """A slot's worker, which has joined."""
        made = Worker(slot, self.paths, self.socks[slot])
        self.workers.append(made)
        await made.start()
        return made

    async def pair(self) -> tuple[Worker, Worker]:
        """Two workers that have heard of each other."""
        one, two = await self.worker(0), await self.worker(1)
        await until(lambda: one.state.joined == [1] and two.state.joined == [0])
        return one, two

    async def close(self) -> None:
        """End the workers, then the sockets."""
        for worker in self.workers:
            worker.links.close()
        await until(lambda: not any(worker.linked for worker in self.workers))
        for sock in self.socks.values():
            sock.close()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Sockets for two slots."""
    made = Mesh(tmp_path, 2)
    yield made
    await made.close()


async def test_the_parts_hear_of_each_other(mesh: Mesh) -> None:
    """Each is told once."""
    one, two = await mesh.pair()
    assert (one.state.joined, two.state.joined) == ([1], [0])
    assert one.state.lost == two.state.lost == []


async def test_what_one_sends_arrives_in_order(mesh: Mesh) -> None:
    """Casts and requests are one stream; plain data keeps its type, tuples arrive as lists."""
    one, two = await mesh.pair()
    sent = [[number] for number in range(500)]
    for (number,) in sent:
        one.cast(1, number)
    kinds = [None, True, 2, 2.5, "text", b"\xff", {"k": [1]}]
    assert await one.answer(1, "hear", *kinds, (1, 2)) == (7, 501, None)
    assert two.state.heard == [*sent, [*kinds, [1, 2]]]


async def test_both_ask_at_once_and_each_gets_its_own_answers(mesh: Mesh) -> None:
    """Numbers of the one are not mistaken for the other's."""
    one, two = await mesh.pair()
    for token in range(50):
        one.ask(1, "hear", "from one", token=token)
        two.ask(0, "hear", "from two", token=100 + token)
    await until(lambda: len(one.state.answers) == len(two.state.answers) == 50)
    assert one.state.answers == [(token, token + 1, None) for token in range(50)]
    assert two.state.answers == [(100 + token, token + 1, None) for token in range(50)]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("fail", "ValueError: no such room"),
        ("unheard_of", "AttributeError: "),
        ("_bind", "worker 1 has no test.hall with a method _bind"),
    ],
)
async def test_a_failure_there_is_an_answer_here(mesh: Mesh, method: str, error: str) -> None:
    """The asker gets a sentence and the link lives on."""
    one, _ = await mesh.pair()
    token, value, said = await one.answer(1, method)
    assert (token, value) == (7, None)
    assert said is not None
    assert said.startswith(error)
    assert await one.answer(1, "hear", 1) == (7, 1, None)


async def test_an_answer_that_can_not_be_sent_is_an_error_to_the_asker(mesh: Mesh) -> None:
    """Nobody waits for ever, and the link lives on."""
    one, two = await mesh.pair()
    _, value, error = await one.answer(1, "unsayable")
    assert value is None
    assert error is not None
    assert "can't be encoded" in error
    assert "outcome unknown" in error
    assert "mesh_send_failed" in [event for _, event, _ in two.log.lines]
    assert await one.answer(1, "hear", 1) == (7, 1, None)


async def test_an_async_method_answers_when_it_is_done(mesh: Mesh) -> None:
    """Those that are quicker are not held up."""
    one, _ = await mesh.pair()
    one.ask(1, "brood", token=1)
    assert await one.answer(1, "think", False) == (7, "thought", None)
    assert await one.answer(1, "think", True) == (7, None, "KeyError: 'forgotten'")


async def test_a_kind_that_is_not_there_is_an_error(mesh: Mesh) -> None:
    """As between a push in one worker and in the other."""
    one, _ = await mesh.pair()
    one.links.request(1, ("test.else", "hear", ()), Reply(one.entry, "answered", 8))
    await until(lambda: bool(one.state.answers))
    assert one.state.answers == [(8, None, "worker 1 has no test.else with a method hear")]


async def test_an_asker_that_is_gone_gets_nothing(mesh: Mesh) -> None:
    """Its reply is dropped and harms nobody."""
    one, two = await mesh.pair()
    other = one.host.table.create("test.connection", one.entry.target)
    one.entry.target.cluster.request(1, "hear", (), other, "answered", 1)
    one.host.table.remove(other)
    assert await one.answer(1, "hear") == (7, 2, None)
    assert one.log.lines == []


async def test_the_loss_of_a_peer_answers_what_it_was_asked(mesh: Mesh) -> None:
    """With an error that says what is not known, and the parts are told once."""
    one, two = await mesh.pair()
    for token in (1, 2):
        one.ask(1, "brood", token=token)
    await until(lambda: len(two.links._tasks) == 2)
    two.links.close()
    await until(lambda: one.state.lost == [1])
    gone = "worker 1 is gone: outcome unknown"
    assert one.state.answers == [(1, None, gone), (2, None, gone)]
    assert one.links._asked == {}


async def test_a_successor_is_found_by_itself(mesh: Mesh) -> None:
    """What is sent to it arrives, and both sides have joined anew; its answers come too."""
    one, two = await mesh.pair()
    two.links.close()
    await until(lambda: one.state.lost == [1])
    after = await mesh.worker(1)
    await until(lambda: one.state.joined == [1, 1] and after.state.joined == [0])
    assert await one.answer(1, "hear", "to the successor") == (7, 1, None)
    assert await after.answer(0, "hear", "from the successor") == (7, 1, None)
    assert after.state.heard == [["to the successor"]]
    assert (one.state.lost, after.state.lost) == ([1], [])


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_link_that_broke_is_logged_and_one_that_ended_is_not(
    mesh: Mesh, in_order: bool
) -> None:
    """A line of every worker about every other that stops would say nothing."""
    one, two = await mesh.pair()
    if in_order:
        two.links.close()
    else:
        one.links._out[1].abort(ChannelError("nonsense"))
    await until(lambda: one.state.lost == [1])
    rows = [("mesh_link_lost", {"to": 1, "error": "nonsense"})]
    said = [(event, fields) for _, event, fields in one.log.lines]
    assert said == ([] if in_order else rows)


async def test_what_was_asked_while_a_successor_starts_waits_for_it(mesh: Mesh) -> None:
    """The socket is the supervisor's: it takes the question, and the successor answers it."""
    one, two = await mesh.pair()
    two.links.close()
    await until(lambda: one.state.lost == [1] and 1 in one.links._out)
    one.ask(1, "hear", token=3)
    assert one.state.answers == []
    await mesh.worker(1)
    await until(lambda: bool(one.state.answers))
    assert one.state.answers == [(3, 1, None)]


async def test_a_worker_alone_can_not_send(mesh: Mesh) -> None:
    """Before the mesh is up a question is answered in a later callback, a cast is heard by none."""
    one = Worker(0, mesh.paths, mesh.socks[0])
    one.cast(1, "nobody")
    one.ask(1, "hear", token=4)
    assert one.state.answers == []
    await until(lambda: bool(one.state.answers))
    assert one.state.answers == [(4, None, "worker 1 is gone")]


async def test_a_stranger_on_the_mesh_is_cut_off(mesh: Mesh) -> None:
    """Who has not said who it is is not heard."""
    one, _ = await mesh.pair()
    lost: list[Exception | None] = []
    stranger = await Link.to_path(mesh.paths[0], Link("0", lambda _: None, lost.append))
    stranger.send(messages.Cast(KIND, "hear", ["psst"]))
    await until(lambda: bool(lost))
    assert one.state.heard == []
    (line,) = one.log.lines
    assert line[1] == "mesh_link_broken"
    assert "Cast before Join" in line[2]["error"]


async def test_to_itself_a_part_speaks_without_the_mesh(mesh: Mesh) -> None:
    """In a later callback, like to any other."""
    one = Worker(0, mesh.paths, mesh.socks[0])
    one.cast(0, "mine")
    assert one.state.heard == []
    assert await one.answer(0, "hear", "too") == (7, 2, None)
    assert await one.answer(0, "think", False) == (7, "thought", None)


async def test_closing_answers_what_is_under_way(mesh: Mesh) -> None:
    """A worker that drains leaves nobody waiting."""
    one, two = await mesh.pair()
    one.ask(1, "brood", token=5)
    one.links.close()
    await until(lambda: bool(one.state.answers))
    assert one.state.answers == [(5, None, "worker 1 is gone: outcome unknown")]
    assert one.state.lost == []
    await until(lambda: two.state.lost == [0])


async def test_the_sockets_outlive_the_workers(mesh: Mesh) -> None:
    """They are the supervisor's, path included."""
    one, two = await mesh.pair()
    one.links.close()
    two.links.close()
    await until(lambda: not (one.linked or two.linked))
    assert all(Path(path).is_socket() for path in mesh.paths.values())
