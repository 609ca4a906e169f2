"""chat.connection and chat.rooms, version 1: lines of UTF-8, rooms and nicknames over all workers.

``/nick NAME``, ``/join ROOM``, ``/who``, ``/quit``; anything else is said to the room as
``<nick> text``. The server's own lines begin with ``*``, its complaints with ``!``. Guests, who
never took a nick, come and go unannounced.

Order. Whatever a client sends goes through the *home* part of chat.rooms, which does one thing
after the other and casts the outcome to the parts of all workers. Casts keep their order, so all
members of a room see the same lines in the same order, their own included, whatever worker
accepted them, and a nick is taken only once. Each part knows which of its connections are in
which room. When the home is lost, the parts tell its successor who is there.

Parts of version 1 and 2 understand each other: a swap does not reach all workers at once.

Known bugs, mended in version 2: a packet is taken for whole lines and decoded by itself, so a
line or a character that is cut by a packet's end comes out as two.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Connection, Service, State

BACKLOG: Final = 1_048_576
FAREWELL_S: Final = 5.0
VERBS: Final = frozenset({"nick", "join", "who", "quit"})


# -- one client -----------------------------------------------------------------------------------


class Talk(State, kind="chat.connection", version=1):
    """Who the client is and where, as the home has it; no nick until it has answered."""

    nick: str | None = None
    room: str = "lobby"
    said: int = 0


class Chat(Connection[Talk], uses={"rooms": "chat.rooms", "input": "buffer.receive"}):
    """One client."""

    rooms: Any
    input: Any

    def on_connect(self) -> None:
        """A guest comes into the lobby."""
        nick = f"guest{self.host.slot}.{self.entry.identity}"
        self.rooms.enter(self.entry.identity, nick, self.state.room)

    def on_data(self, data: bytes) -> None:
        """Take what has come for lines; ``input`` may hold a rest from a later version."""
        self.input.feed(data)
        for line in self.input.take_all().decode("utf-8", "replace").split("\n"):
            self._obey(line.removesuffix("\r"))

    def on_eof(self) -> bool | None:
        """Leave when what was sent before has been answered."""
        self._command("quit", "")
        return True

    def on_close(self, error: Exception | None) -> None:
        """Leave the room."""
        self.rooms.leave(self.entry.identity, self.state.room)

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """Go on."""
        self.resume_reading()

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

    def _obey(self, line: str) -> None:
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


# -- all rooms ------------------------------------------------------------------------------------


class Hall(State, kind="chat.rooms", version=1):
    """``here`` is of this worker, ``members`` and ``taken`` of the home part alone."""

    here: dict[str, dict[int, str]] = {}
    """Room to the identities of this worker's connections in it, with their nicks."""
    members: dict[str, list[str]] = {}
    """``slot.identity`` of a connection to its nick and room."""
    taken: dict[str, str] = {}
    """Nick to ``slot.identity``."""
    cut_off: bool = False
    """The home is lost and not back."""


class Rooms(Service[Hall], clustered=True):
    """The part of one worker."""

    # what connections call

    def enter(self, identity: int, nick: str, room: str) -> None:
        """A connection is here."""
        self.place(identity, nick, room)
        if not self.state.cut_off:
            self.cluster.cast(self.cluster.home, "rejoin", self.host.slot, [[identity, nick, room]])

    def command(self, identity: int, verb: str, argument: str) -> None:
        """A connection wants something of the home."""
        if not self.state.cut_off:
            self.cluster.cast(
                self.cluster.home, "perform", self.host.slot, identity, verb, argument
            )
        elif verb == "quit":
            self.finish(identity)
        else:
            self.tell(identity, b"! the rooms are out of reach for a moment, please say it again\n")

    def leave(self, identity: int, room: str) -> None:
        """A connection is closed."""
        self._unplace(identity, room)
        self.cluster.cast(self.cluster.home, "gone", self.host.slot, identity)

    # what the home calls

    def place(self, identity: int, nick: str, room: str) -> None:
        """A connection of this worker is in ``room`` as ``nick``."""
        connection = self._connection(identity)
        if connection is None:
            return
        self._unplace(identity, connection.state.room)
        connection.placed(nick, room)
        self.state.here.setdefault(room, {})[identity] = nick

    def say(self, room: str, line: bytes) -> None:
        """Show a line to all of a room."""
        for identity in list(self.state.here.get(room, ())):
            self.tell(identity, line)

    def tell(self, identity: int, line: bytes) -> None:
        """Show a line to one."""
        connection = self._connection(identity)
        if connection is not None:
            connection.tell(line)

    def finish(self, identity: int) -> None:
        """Close a connection after what it was told."""
        connection = self._connection(identity)
        if connection is not None:
            connection.finish()

    # what the parts call at the home

    def rejoin(self, slot: int, rows: list[list[Any]]) -> None:
        """These connections (identity, nick, room) are there; who was there already stays."""
        for identity, wanted, room in rows:
            who = f"{slot}.{identity}"
            if who in self.state.members:
                continue
            nick = wanted
            while nick in self.state.taken:
                nick += "_"
            self.state.members[who] = [nick, room]
            self.state.taken[nick] = who
            if nick != wanted:
                self.cluster.cast(slot, "place", identity, nick, room)
                self._tell(who, f"* you are {nick} now, {wanted} was taken")

    def perform(self, slot: int, identity: int, verb: str, argument: str) -> None:
        """Do what a connection wants."""
        who = f"{slot}.{identity}"
        if who in self.state.members:
            getattr(self, f"_do_{verb}")(who, argument)
        elif verb == "quit":
            self.cluster.cast(slot, "finish", identity)

    def gone(self, slot: int, identity: int) -> None:
        """A connection is closed, or about to."""
        found = self.state.members.pop(f"{slot}.{identity}", None)
        if found is None:
            return
        nick, room = found
        del self.state.taken[nick]
        if not nick.startswith("guest"):
            self._say(room, f"* {nick} left")

    def _do_say(self, who: str, text: str) -> None:
        nick, room = self.state.members[who]
        self._say(room, f"<{nick}> {text}")

    def _do_nick(self, who: str, wanted: str) -> None:
        nick, room = self.state.members[who]
        fault = _fault_of_name(wanted)
        if fault is None and self.state.taken.get(wanted, who) != who:
            fault = f"the nick {wanted} is taken"
        if fault is not None:
            self._tell(who, f"! {fault}")
            return
        del self.state.taken[nick]
        self.state.taken[wanted] = who
        self._put(who, wanted, room)
        self._say(room, f"* {nick} is now {wanted}")

    def _do_join(self, who: str, room: str) -> None:
        nick, before = self.state.members[who]
        fault = _fault_of_name(room)
        if fault is not None:
            self._tell(who, f"! {fault}")
            return
        self._put(who, nick, room)
        if before != room:
            self._say(before, f"* {nick} left")
        self._say(room, f"* {nick} joined {room}")

    def _do_who(self, who: str, _argument: str) -> None:
        room = self.state.members[who][1]
        there = sorted(nick for nick, where in self.state.members.values() if where == room)
        self._tell(who, f"* in {room}: {', '.join(there)}")

    def _do_complain(self, who: str, text: str) -> None:
        self._tell(who, f"! {text}")

    def _do_quit(self, who: str, _argument: str) -> None:
        slot, identity = _place_of(who)
        self.gone(slot, identity)
        self.cluster.cast(slot, "finish", identity)

    # the cluster

    def on_peer_lost(self, slot: int) -> None:
        """Another worker's connections are gone; if it was the home, wait for its successor."""
        if slot == self.cluster.home:
            self.state.cut_off = True
        if self.cluster.is_home:
            for who in [who for who in self.state.members if _place_of(who)[0] == slot]:
                self.gone(*_place_of(who))

    def on_peer_joined(self, slot: int) -> None:
        """Tell the home who is here."""
        if slot == self.cluster.home:
            self.state.cut_off = False
            here = self.state.here.items()
            rows = [[who, nick, room] for room, there in here for who, nick in there.items()]
            self.cluster.cast(slot, "rejoin", self.host.slot, rows)

    # inside

    def _put(self, who: str, nick: str, room: str) -> None:
        self.state.members[who] = [nick, room]
        slot, identity = _place_of(who)
        self.cluster.cast(slot, "place", identity, nick, room)

    def _say(self, room: str, text: str) -> None:
        line = f"{text}\n".encode()
        self.cluster.cast(self.host.slot, "say", room, line)
        self.cluster.broadcast("say", room, line)

    def _tell(self, who: str, text: str) -> None:
        slot, identity = _place_of(who)
        self.cluster.cast(slot, "tell", identity, f"{text}\n".encode())

    def _connection(self, identity: int) -> Any:
        entry = self.host.table.find(identity)
        return entry.target if entry is not None else None

    def _unplace(self, identity: int, room: str) -> None:
        there = self.state.here.get(room, {})
        if there.pop(identity, None) is not None and not there:
            del self.state.here[room]


def _place_of(who: str) -> tuple[int, int]:
    slot, _, identity = who.partition(".")
    return int(slot), int(identity)


def _fault_of_name(name: str) -> str | None:
    if not 1 <= len(name) <= 32:
        return "a name has 1 to 32 characters"
    if not name.isprintable() or " " in name or name.startswith("/"):
        return "a name has no blanks and does not begin with a slash"
    return None
