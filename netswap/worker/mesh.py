"""The mesh: how the parts of a clustered service reach each other.

Every worker keeps one outgoing link to each other slot and sends everything on it, replies
included, so the order between two workers is the order of sending. The sockets that are connected
to belong to the supervisor and outlive a worker: what is sent to a slot whose worker has died
fails, what is sent to its starting successor waits there.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from netswap.channel import Link
from netswap.channel.messages import Cast, Join, Message, Quiet, Reply, Request
from netswap.errors import ChannelError
from netswap.quiescence import Call, Generations, call_chain, is_awaited
from netswap.stack import Host
from netswap.stack import Reply as ReplyTo
from netswap.worker.gate import Turns

__all__ = ["Links"]

RETRY_S = 0.05

# From 3.13 on a server that closes would remove the socket's path, which is the supervisor's.
_KEEP: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class Links:
    """One worker's end of the mesh; what ``Host.mesh`` is."""

    def __init__(self, host: Host, paths: dict[int, str]) -> None:
        self._host = host
        self._paths = {slot: path for slot, path in paths.items() if slot != host.slot}
        self._out: dict[int, Link] = {}
        self._in: set[Link] = set()
        self._asked: dict[int, tuple[int, ReplyTo]] = {}
        self._next = 0
        self._joined: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._server: asyncio.Server | None = None
        self.turns = Turns()
        self.said = self.answering = 0
        """What was heard and said in all; and how many questions of others are being answered."""

    async def start(self, sock: socket.socket) -> None:
        """Connect to each of the others, then accept from them on ``sock``.

        In this order, since what waits there for a dead worker's successor wants answers at once.
        """
        loop = self._host.loop
        for slot in self._paths:
            await self._connect(slot)
        self._server = await loop.create_unix_server(_Incoming.factory(self), sock=sock, **_KEEP)

    def close(self) -> None:
        """End every link; requests under way are answered with an error first."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for link in [*self._out.values(), *self._in]:
            link.close()
        for task in self._tasks:
            task.cancel()

    def cast(self, slot: int, kind: str, method: str, args: tuple[Any, ...]) -> None:
        """One way; a slot whose worker is gone has nobody to hear it."""
        self._send(slot, Cast(kind, method, list(args)))

    def request(self, slot: int, call: tuple[str, str, tuple[Any, ...]], reply: ReplyTo) -> None:
        """The answer, or what went wrong, comes in a later callback."""
        kind, method, args = call
        self._next += 1
        self._asked[self._next] = (slot, reply)
        request = Request(self._next, kind, method, list(args), is_awaited())
        error = self._send(slot, request)
        if error is not None:
            self._host.loop.call_soon(self._answered, Reply(self._next, None, error))

    def tell(self, slot: int, message: Quiet) -> None:
        """What is no call: it does not count as said."""
        if self._send(slot, message) is None:
            self.said -= 1

    def received(self, slot: int, message: Message) -> None:
        """A message from another worker."""
        if isinstance(message, Quiet):
            self.turns.heard(slot, message)
            return
        self.said += 1
        gate = self._host.gate
        if gate is not None and gate.settling:
            gate.admit(self._take, slot, message)
        elif gate is not None and gate.closed and isinstance(message, Cast | Request):
            gate.hold(self._take, slot, message)
        else:
            self._take(slot, message)

    def _take(self, slot: int, message: Message) -> None:
        if isinstance(message, Cast):
            entry = self._host.services.get(message.kind)
            if entry is not None:
                self._host.guarded(entry, message.method, *message.args)
        elif isinstance(message, Request):
            self._answer(slot, message)
        elif isinstance(message, Reply):
            self._answered(message)
        elif isinstance(message, Join):
            self._joined.add(slot)
            self._tell("on_peer_joined", slot)

    def _send(self, slot: int, message: Message) -> str | None:
        """None when it is on its way, else why not."""
        link = self._out.get(slot)
        if link is None:
            return f"worker {slot} is gone"
        try:
            link.send(message)
        except ChannelError as error:
            self._host.log.error("mesh_send_failed", to=slot, error=str(error))
            return f"worker {slot} could not be reached: {error}"
        self.said += 1
        return None

    def _answer(self, slot: int, message: Request) -> None:
        far = self._from_afar(slot) if message.awaited else None
        before = call_chain.set(() if far is None else (far,))
        value, error = self._host.answer(message.kind, message.method, message.args)
        if isinstance(value, Awaitable):
            self._spawn(self._answer_later(slot, message.id, value, far))
        else:
            self._send_reply(slot, Reply(message.id, value, error))
        call_chain.reset(before)

    def _from_afar(self, slot: int) -> Call:
        """What stands in the chain for the caller's own calls, until it has its answer."""
        generations = Generations()
        generations.draining = True
        far = Call(generations, f"worker {slot}", self._host.clock.monotonic_ns(), None)
        generations.enter(far)
        return far

    async def _answer_later(
        self, slot: int, number: int, value: Awaitable[Any], far: Call | None
    ) -> None:
        self.answering += 1
        try:
            reply = Reply(number, await value, None)
        except Exception as error:
            reply = Reply(number, None, f"{type(error).__name__}: {error}")
        finally:
            self.answering -= 1
            if far is not None:
                far.owner.leave(far)
        self._send_reply(slot, reply)

    def _send_reply(self, slot: int, reply: Reply) -> None:
        failed = self._send(slot, reply)
        if failed is not None and slot in self._out:
            self._send(slot, Reply(reply.id, None, f"{failed}: outcome unknown"))

    def _answered(self, message: Reply) -> None:
        row = self._asked.pop(message.id, None)
        if row is not None:
            reply = row[1]
            self._host.guarded(reply.entry, reply.method, reply.token, message.value, message.error)

    async def _connect(self, slot: int) -> None:
        def lost(error: Exception | None) -> None:
            self._lost(slot, error)

        link = Link(f"worker {slot}", lambda _message: None, lost)
        while not self._closing:
            try:
                await Link.to_path(self._paths[slot], link)
            except OSError as error:
                self._host.log.warning("mesh_connect_failed", to=slot, error=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                self._out[slot] = link
                link.send(Join(self._host.slot))
                return

    def _lost(self, slot: int, error: Exception | None) -> None:
        self._out.pop(slot, None)
        failed = [number for number, (asked, _) in self._asked.items() if asked == slot]
        for number in failed:
            self._answered(Reply(number, None, f"worker {slot} is gone: outcome unknown"))
        if self._closing:
            return
        if error is not None:  # an end in order is a worker's, of which the supervisor says why
            self._host.log.warning("mesh_link_lost", to=slot, error=str(error))
        if slot in self._joined:
            self._joined.discard(slot)
            self._tell("on_peer_lost", slot)
        self._spawn(self._connect(slot))

    def _tell(self, hook: str, slot: int) -> None:
        for entry in list(self._host.services.values()):
            if entry.target is not None and getattr(entry.target, "clustered", False):
                self._host.guarded(entry, hook, slot)

    def _spawn(self, work: Any) -> None:
        task = self._host.own_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Incoming:
    """A link that another worker opened: anonymous until it says Join."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._slot: int | None = None
        self.link = Link("another worker", self._message, self._lost)
        links._in.add(self.link)

    @classmethod
    def factory(cls, links: Links) -> Callable[[], Link]:
        """What ``create_unix_server`` calls for each accepted link."""
        return lambda: cls(links).link

    def _message(self, message: Message) -> None:
        if isinstance(message, Join):
            self._slot = message.slot
        if self._slot is None:
            raise ChannelError(f"{type(message).__name__} before Join on the mesh")
        self._links.received(self._slot, message)

    def _lost(self, error: Exception | None) -> None:
        self._links._in.discard(self.link)
        if error is not None:
            self._links._host.log.warning("mesh_link_broken", slot=self._slot, error=str(error))
