"""chat.connection, version 3: that of version 2 as a coroutine, for those who think in ``await``.

The rooms are those of version 2. A swap stops ``run`` where it waits for a line and starts the
other version around the state; what was read of a line stays in ``input``. The state is that of
version 2, so both ways are automatic.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from netswap import ProtocolError, Session, State, migration

BACKLOG: Final = 1_048_576
FAREWELL_S: Final = 5.0
LINE_LIMIT: Final = 4096
VERBS: Final = frozenset({"nick", "join", "who", "quit"})


class Talk(State, kind="chat.connection", version=3):
    """Who the client is and where, as the home has it; no nick is an empty one."""

    nick: str = ""
    room: str = "lobby"
    said: int = 0
    skipping: bool = False
    """What comes until the next line end belongs to a line that was too long."""


@migration("chat.connection", 1, 2)
def name_up(old: dict[str, Any]) -> dict[str, Any]:
    """No nick is an empty nick."""
    return old | {"nick": old["nick"] or ""}


@migration("chat.connection", 2, 1)
def name_down(new: dict[str, Any]) -> dict[str, Any]:
    """No nick is None."""
    return new | {"nick": new["nick"] or None}


class Chat(Session[Talk], uses={"rooms": "chat.rooms", "output": "buffer.send"}):
    """One client."""

    rooms: Any
    output: Any

    async def run(self) -> None:
        """Obey line after line; at the end, wait until the home has answered them all."""
        while not self.at_end:
            line = await self._next_line()
            if line is not None:
                self._obey(line)
            await self.swap_point(self.drained())
        self._command("quit", "")
        await self.swap_point(asyncio.Event().wait())

    async def _next_line(self) -> bytes | None:
        """The next line; None for what was too long, or the rest of it."""
        if self.state.skipping:
            _, end, rest = (await self.swap_point(self.read_some())).partition(b"\n")
            self.input.feed(rest)
            self.state.skipping = not end
            return None
        try:
            return await self.swap_point(self.read_line(LINE_LIMIT))
        except ProtocolError:
            self.state.skipping = True
            self._command("complain", f"a line has at most {LINE_LIMIT} bytes")
            return None

    def on_connect(self) -> None:
        """A guest comes into the lobby."""
        nick = f"guest{self.host.slot}.{self.entry.identity}"
        self.rooms.enter(self.entry.identity, nick, self.state.room)

    def on_close(self, error: Exception | None) -> None:
        """Leave the room."""
        self.rooms.leave(self.entry.identity, self.state.room)

    def placed(self, nick: str, room: str) -> None:
        """The home says who and where this client is."""
        self.state.nick, self.state.room = nick, room

    def tell(self, line: bytes) -> None:
        """Show a line; a client that has left too much unread is closed."""
        if self.writing_paused and self.transport.get_write_buffer_size() > BACKLOG:
            self.abort()
        else:
            self.write(line)

    def finish(self) -> None:
        """Everything is answered."""
        self.close()

    def _obey(self, raw: bytes) -> None:
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            self._command("complain", "that line is not UTF-8")
            return
        word, _, argument = line.partition(" ")
        if not line.startswith("/"):
            if line:
                self.state.said += 1
                self._command("say", line)
        elif word[1:] in VERBS:
            self._command(word[1:], argument.strip())
        else:
            self._command("complain", f"there is no {word}, only /nick /join /who /quit")

    def _command(self, verb: str, argument: str) -> None:
        if verb == "quit":
            self.timers.arm("finish", FAREWELL_S)
        self.rooms.command(self.entry.identity, verb, argument)
