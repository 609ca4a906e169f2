"""Links over real socketpairs and Unix sockets, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from netswap.channel import FrameError, Link, LinkClosed, LinkOverload, encode_frame, messages

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on the loop under test."""
    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(asyncio.wait_for(main, 20))

    return runner


class End:
    """One end of a link that remembers what it was told."""

    def __init__(self, name: str = "peer", limit: int = 1 << 20) -> None:
        self.received: asyncio.Queue[messages.Message] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.link = Link(name, self.received.put_nowait, self.lost.set_result, limit)


async def pair(limit: int = 1 << 20) -> tuple[End, End]:
    left, right = socket.socketpair()
    ends = End(limit=limit), End()
    await Link.over(left, ends[0].link)
    await Link.over(right, ends[1].link)
    return ends


async def end(*ends: End) -> None:
    for one in ends:
        one.link.close()
        await one.lost


def test_what_is_flushed_is_in_the_socket_of_the_peer(run: Run) -> None:
    """However long the peer does not read; nobody waits for one that is gone."""

    async def main() -> None:
        left, theirs = socket.socketpair()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # on every machine
        one = End()
        await Link.over(left, one.link)
        for number in range(800):
            one.link.send(messages.Query(number, "x" * 1000))
        flushed = asyncio.ensure_future(one.link.flushed())
        await asyncio.sleep(0)
        assert one.link.waiting
        assert not flushed.done()
        other = End()
        await Link.over(theirs, other.link)
        await flushed
        assert not one.link.waiting
        one.link.send(messages.Query(0, "x" * 1_000_000))
        flushed = asyncio.ensure_future(one.link.flushed())
        other.link.abort()
        await flushed
        await one.lost
        await other.lost

    run(main())


def test_messages_keep_their_order_both_ways(run: Run) -> None:
    """What is sent arrives once each, in order, in both directions."""

    async def main() -> None:
        left, right = await pair()
        for number in range(200):
            left.link.send(messages.Swap(number))
            right.link.send(messages.Finish(number))
        assert [await right.received.get() for _ in range(200)] == [
            messages.Swap(number) for number in range(200)
        ]
        assert [await left.received.get() for _ in range(200)] == [
            messages.Finish(number) for number in range(200)
        ]
        await end(left, right)

    run(main())


def test_close_delivers_what_was_queued(run: Run) -> None:
    """An orderly close loses nothing and is told as None on both sides."""

    async def main() -> None:
        left, right = await pair()
        left.link.send(messages.Cast("k", "m", [b"x" * 300_000]))
        left.link.close()
        assert await right.received.get() == messages.Cast("k", "m", [b"x" * 300_000])
        assert await right.lost is None
        assert await left.lost is None
        with pytest.raises(LinkClosed, match="Swap was not sent"):
            left.link.send(messages.Swap(1))

    run(main())


def test_send_before_the_link_is_up_is_refused(run: Run) -> None:
    """A message is never dropped in silence."""

    async def main() -> None:
        with pytest.raises(LinkClosed):
            End().link.send(messages.Swap(1))

    run(main())


def test_overload_is_reported_and_queues_nothing(run: Run) -> None:
    """A peer that does not read costs bounded memory; what was accepted still arrives."""

    async def main() -> None:
        left, right = socket.socketpair()
        sender = End("worker 1", limit=1 << 20)
        await Link.over(left, sender.link)
        accepted = 0
        chunk = messages.Cast("k", "m", [b"x" * 65536])
        while sender.link.waiting + 70_000 < 1 << 20:
            sender.link.send(chunk)
            accepted += 1
        with pytest.raises(LinkOverload, match="worker 1 does not read"):
            sender.link.send(messages.Cast("k", "m", [b"x" * 80_000]))
        assert sender.link.waiting <= 1 << 20
        receiver = End()
        await Link.over(right, receiver.link)
        for _ in range(accepted):
            await receiver.received.get()
        await end(sender, receiver)
        assert receiver.received.empty()

    run(main())


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"\xff\xff\xff\xff", "longer than"),
        (b"\x00\x00\x00\x01\xc1", "unreadable frame"),
        (encode_frame(messages.Swap(1))[:-1], "cut off in the middle"),
    ],
)
def test_bad_bytes_end_the_link_with_the_reason(run: Run, stream: bytes, sentence: str) -> None:
    """The other side of a link is told why it ended."""

    async def main() -> None:
        left, right = socket.socketpair()
        receiver = End()
        await Link.over(right, receiver.link)
        left.sendall(stream)
        left.close()
        error = await receiver.lost
        assert isinstance(error, FrameError)
        assert sentence in str(error)

    run(main())


def test_an_exception_in_the_receiver_ends_the_link_and_is_told(run: Run) -> None:
    """A receiver that fails at one message is not fed the next one."""

    async def main() -> None:
        left, right = socket.socketpair()
        seen: list[messages.Message] = []

        def explode(message: messages.Message) -> None:
            seen.append(message)
            raise ValueError("no")

        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        await Link.over(right, Link("peer", explode, lost.set_result))
        left.sendall(encode_frame(messages.Swap(1)) + encode_frame(messages.Swap(2)))
        assert isinstance(await lost, ValueError)
        assert seen == [messages.Swap(1)]
        left.close()

    run(main())


def test_link_over_a_unix_socket_path(run: Run, tmp_path: Path) -> None:
    """The mesh: a link connects to a listening Unix socket and speaks the same frames."""

    async def main() -> None:
        accepted = End()
        path = str(tmp_path / "mesh")
        server = await asyncio.get_running_loop().create_unix_server(lambda: accepted.link, path)
        caller = End()
        await Link.to_path(path, caller.link)
        caller.link.send(messages.Join(3))
        assert await accepted.received.get() == messages.Join(3)
        await end(caller, accepted)
        server.close()

    run(main())
