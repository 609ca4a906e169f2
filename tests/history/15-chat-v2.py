"""chat.connection and chat.rooms, version 2: whole lines, and a history.

``/nick NAME``, ``/join ROOM``, ``/who``, ``/quit``; anything else is said to the room as
``<nick> text``. The server's own lines begin with ``*``, its complaints with ``!``. Guests, who
never took a nick, come and go unannounced. Who joins a room is shown what was said last.

Order. Whatever a client sends goes through the *home* part of chat.rooms, which does one thing
after the other and casts the outcome to the parts of all workers. Casts keep their order, so all
members of a room see the same lines in the same order, their own included, whatever worker
accepted them, and a nick is taken only once. Each part knows which of its connections are in
which room. When the home is lost, the parts tell its successor who is there; the history is gone.

Parts of version 1 and 2 understand each other: a swap does not reach all workers at once.

A line ends with LF and not with a packet: what is left over stays in ``input``, which moves on
its own. A line over ``LINE_LIMIT`` bytes is skipped to its end, with a complaint.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Connection, ProtocolError, Service, State, migration

BACKLOG: Final = 1_048_576
FAREWELL_S: Final = 5.0
HISTORY: Final = 20
"""Lines kept of a room."""
HISTORIES: Final = 1000
"""Rooms of which lines are kept: the newest ones."""
LINE_LIMIT: Final = 4096
VERBS: Final = frozenset({"nick", "join", "who", "quit"})


# -- one client -----------------------------------------------------------------------------------


class Talk(State, kind="chat.connection", version=2):
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


class Chat(
    Connection[Talk],
    uses={"rooms": "chat.rooms", "input": "buffer.receive", "output": "buffer.send"},
):
    """One client."""

    rooms: Any
    input: Any
    output: Any

    def on_connect(self) -> None:
        """A guest comes into the lobby."""
        nick = f"guest{self.host.slot}.{self.entry.identity}"
        self.rooms.enter(self.entry.identity, nick, self.state.room)

    def on_data(self, data: bytes) -> None:
        """Obey the lines that are whole."""
        self.input.feed(data)
        while (line := self._next_line()) is not None:
            self._obey(line)

    def on_eof(self) -> bool | None:
        """Obey what has no line end; leave when all that was sent has been answered."""
        rest = self.input.take_all()
        if not self.state.skipping:
            self._obey(rest)
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

    def _next_line(self) -> bytes | None:
        """The next line that is not too long, or None when more has to come."""
        while not self.state.skipping or self._skip():
            try:
                line: bytes | None = self.input.take_line(LINE_LIMIT)
            except ProtocolError:
                self.state.skipping = True
                self._command("complain", f"a line has at most {LINE_LIMIT} bytes")
            else:
                return line
        return None

    def _skip(self) -> bool:
        """Drop what belongs to a line that was too long; says whether its end was there."""
        _, end, rest = self.input.take_all().partition(b"\n")
        self.input.feed(rest)
        self.state.skipping = not end
        return bool(end)

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


# -- all rooms ------------------------------------------------------------------------------------


class Hall(State, kind="chat.rooms", version=2):
    """``here`` is of this worker; ``people``, ``taken`` and ``history`` of the home part alone."""

    here: dict[str, dict[int, str]] = {}
    """Room to the identities of this worker's connections in it, with their nicks."""
    people: dict[str, dict[str, str]] = {}
    """``slot.identity`` of a connection to its "nick" and "room"."""
    taken: dict[str, str] = {}
    """Nick to ``slot.identity``."""
    cut_off: bool = False
    """The home is lost and not back."""
    history: dict[str, list[bytes]] = {}
    """Room to the lines that were said last."""


@migration("chat.rooms", 1, 2)
def rooms_up(old: dict[str, Any]) -> dict[str, Any]:
    """Members get names for what is known of them."""
    members = old["members"].items()
    return old | {"people": {who: {"nick": nick, "room": room} for who, (nick, room) in members}}


@migration("chat.rooms", 2, 1, lossy=["history"])
def rooms_down(new: dict[str, Any]) -> dict[str, Any]:
    """The history has no place in version 1."""
    people = new["people"].items()
    return new | {"members": {who: [person["nick"], person["room"]] for who, person in people}}


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
            if who in self.state.people:
                continue
            nick = wanted
            while nick in self.state.taken:
                nick += "_"
            self.state.people[who] = {"nick": nick, "room": room}
            self.state.taken[nick] = who
            if nick != wanted:
                self.cluster.cast(slot, "place", identity, nick, room)
                self._tell(who, f"* you are {nick} now, {wanted} was taken")

    def perform(self, slot: int, identity: int, verb: str, argument: str) -> None:
        """Do what a connection wants."""
        who = f"{slot}.{identity}"
        if who in self.state.people:
            getattr(self, f"_do_{verb}")(who, argument)
        elif verb == "quit":
            self.cluster.cast(slot, "finish", identity)

    def gone(self, slot: int, identity: int) -> None:
        """A connection is closed, or about to."""
        found = self.state.people.pop(f"{slot}.{identity}", None)
        if found is None:
            return
        nick, room = found["nick"], found["room"]
        del self.state.taken[nick]
        if not nick.startswith("guest"):
            self._say(room, f"* {nick} left")

    def _do_say(self, who: str, text: str) -> None:
        nick, room = self._whois(who)
        self._say(room, f"<{nick}> {text}")
        self._remember(room, f"<{nick}> {text}\n".encode())

    def _do_nick(self, who: str, wanted: str) -> None:
        nick, room = self._whois(who)
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
        nick, before = self._whois(who)
        fault = _fault_of_name(room)
        if fault is not None:
            self._tell(who, f"! {fault}")
            return
        self._put(who, nick, room)
        if before != room:
            self._say(before, f"* {nick} left")
        slot, identity = _place_of(who)
        said = b"".join(self.state.history.get(room, ()))
        if said:
            self.cluster.cast(slot, "tell", identity, said)
        self._say(room, f"* {nick} joined {room}")

    def _do_who(self, who: str, _argument: str) -> None:
        room = self._whois(who)[1]
        people = self.state.people.values()
        there = sorted(person["nick"] for person in people if person["room"] == room)
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
            for who in [who for who in self.state.people if _place_of(who)[0] == slot]:
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
        self.state.people[who] = {"nick": nick, "room": room}
        slot, identity = _place_of(who)
        self.cluster.cast(slot, "place", identity, nick, room)

    def _whois(self, who: str) -> tuple[str, str]:
        person = self.state.people[who]
        return person["nick"], person["room"]

    def _remember(self, room: str, line: bytes) -> None:
        history = self.state.history
        lines = history.pop(room, [])
        history[room] = [*lines[1 - HISTORY :], line]
        if len(history) > HISTORIES:
            del history[next(iter(history))]

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
