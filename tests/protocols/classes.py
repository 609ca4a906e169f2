"""The classes of connection that a swap must not hurt: what plays each of them, and who is of it.

A transcript is what one client does; ``CLASSES`` names those that play a class, and says how a
live connection shows that it is of it. A ``Census`` looks at every connection before each swap of
a check, so that what the table says is counted and not believed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from websockets.frames import Opcode
from websockets.protocol import State as Closing

from netswap.stack import Connection
from netswap.testing import Do, Wait
from netswap.testing.cases import Move
from netswap.testing.play import Play
from tests.masked import closing, deflated, frame

__all__ = ["CLASSES", "OPENING", "TRANSCRIPTS", "WEBSOCKET", "Census", "replies_of", "text"]

# -- what clients do --


def asking(method: str, path: str, *more: str) -> bytes:
    """A head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


OPENING = asking(
    "GET",
    "/calls",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Extensions: permessage-deflate",
)
SESSION = OPENING.replace(b"/calls", b"/session")
CHUNKED = asking("POST", "/length", "Transfer-Encoding: chunked")
HELLO = asking("GET", "/")
LONG = asking("GET", "/long")
SQUEEZED = deflated(b"ab" * 9)


def text(data: str, *, fin: bool = True) -> bytes:
    """A message, or its first fragment."""
    return frame(Opcode.TEXT, data.encode(), fin)


TRANSCRIPTS: dict[str, list[Any]] = {
    "idle": [HELLO, Wait(1), HELLO, Wait(40), Wait(80)],
    "silent": [("late", Do.CONNECT), Wait(1), ("late", HELLO), ("never", Do.CONNECT), Wait(160)],
    "heads": [asking("GET", "/item/a", "X: y") + HELLO[:5], HELLO[5:], HELLO[:9], Wait(21)],
    "bodies": [asking("POST", "/length", "Content-Length: 9") + b"abc", b"defghi" + HELLO],
    "chunks": [CHUNKED + b"3;x=y\r\nab", b"c\r\n2\r\nde\r\n0\r\n", b"T: z\r\n\r\n" + HELLO],
    "in flight": [asking("GET", "/slow/2"), Wait(1), HELLO[:7], Wait(1), HELLO[7:]],
    "pipelined": [asking("GET", "/slow/1") + HELLO, asking("GET", "/item/b") + HELLO, Wait(2)],
    "long": [asking("GET", "/drip"), Wait(1), HELLO, Wait(2), Wait(1)],
    "unread": [HELLO, Do.STOP_READING, LONG, HELLO + LONG[:8], LONG[8:], Wait(1), Do.READ_AGAIN],
    "ended": [HELLO, Do.STOP_READING, LONG, HELLO, Do.END, Wait(1), Do.READ_AGAIN],
    "ended in flight": [asking("GET", "/drip") + HELLO, Do.END, Wait(2), Wait(2)],
    "socket": [OPENING[:40], OPENING[40:] + text("a"), text("one ", fin=False) + text("b")[:3]],
    "fragments": [
        OPENING,
        text("one ", fin=False) + frame(Opcode.PING, b"p"),
        frame(Opcode.CONT, b"t\xc3", False) + frame(Opcode.CONT, b"\xbc")[:4],
        frame(Opcode.CONT, b"\xbc")[4:] + frame(Opcode.BINARY, SQUEEZED[:3], False, rsv1=True),
        frame(Opcode.CONT, SQUEEZED[3:]) + text("last"),
    ],
    "pings": [
        OPENING,
        text("a"),
        Wait(20),
        text("b")[:4],
        text("b")[4:] + frame(Opcode.PONG, b"netswap"),
        Wait(20),
        Wait(21),
        Wait(11),
    ],
    "closed by us": [OPENING, text("end"), text("late") + closing(4000)[:3], closing(4000)[3:]],
    "closed by the client": [SESSION, text("a") + closing(1000, "bye"), Wait(11)],
    "unread socket": [
        OPENING,
        Do.STOP_READING,
        text("a"),
        text("b") + frame(Opcode.PING, b"p"),
        text("end")[:5],
        Wait(1),
        Do.READ_AGAIN,
        text("end")[5:],
        closing(4000),
    ],
    "ended socket": [OPENING, Do.STOP_READING, text("a"), text("b")[:3], Do.END, Do.READ_AGAIN],
}
TRANSCRIPTS["socket"].append(text("b")[3:])
WEBSOCKET = [name for name, steps in TRANSCRIPTS.items() if b"Upgrade" in repr(steps).encode()]
"""Those that go through an upgrade."""


def replies_of(data: bytes) -> list[bytes]:
    """Answers of HTTP, without the time at which they were given; frames of a WebSocket.

    Nor with whether an answer says that it is the last: after its end, a client that did not read
    may be told or not, by when that was read.
    """
    undated = re.sub(rb"(date: [^\r]*|connection: close)\r\n", b"", data)
    found = [part for part in re.split(rb"(?=HTTP/1\.1 )", undated) if part]
    return [piece for part in found for piece in _apart(part)]


def _apart(part: bytes) -> Iterator[bytes]:
    """The head of an upgrade and the frames behind it; each of the frames."""
    if part.startswith(b"HTTP/1.1 101 "):
        head, end, part = part.partition(b"\r\n\r\n")
        yield head + end
    while part[:1] in FRAMES and len(part) > 1 and part[1] < 126:
        size = 2 + part[1]
        yield part[:size]
        part = part[size:]
    if part:
        yield part


FRAMES = {b"\x81", b"\x82", b"\x88", b"\x89", b"\x8a", b"\xc2"}
"""With what frames of a server begin: whole, one deflated; no line of our answers does."""

# -- who is of which class --


class Place(NamedTuple):
    """A connection before a swap; ``due`` are seconds that pass in its middle."""

    connection: Any
    client: Any
    due: float

    @property
    def state(self) -> Any:
        """That of the connection."""
        return self.connection.state

    @property
    def web(self) -> bool:
        """Whether HTTP is spoken."""
        return bool(self.connection.kind == "http.connection")

    @property
    def receiving(self) -> Any:
        """The request whose body has not come whole, if any."""
        return self.state.wire.receiving if self.web else None

    @property
    def open_frames(self) -> Any:
        """The WebSocket's, before a closing handshake."""
        return None if self.web or not self.state.frames.open else self.state.frames


def _is_idle(place: Place) -> bool:
    state = place.state
    return (
        place.web and not (state.wire.begun or state.current or state.queue) and place.client.said
    )


def _is_in_head(place: Place) -> bool:
    return place.web and place.state.wire.begun and place.receiving is None


def _is_in_body(place: Place) -> bool:
    found = place.receiving
    return found is not None and found.header(b"content-length") is not None


def _is_in_chunk(place: Place) -> bool:
    found = place.receiving
    return found is not None and found.header(b"transfer-encoding") is not None and found.body.seen


def _is_in_flight(place: Place) -> bool:
    return place.web and place.state.current is not None and place.receiving is None


def _is_being_written(place: Place) -> bool:
    return place.web and place.state.current is not None and place.state.current.phase == "started"


def _is_full(place: Place) -> bool:
    unsent = place.connection.transport.get_write_buffer_size()
    return place.client.stopped and place.connection.writing_paused and unsent > 0


def _is_quiet(place: Place) -> bool:
    frames = place.open_frames
    return frames is not None and not (frames._message or frames._frame or _is_pinged(place))


def _is_pinged(place: Place) -> bool:
    state = place.state
    return place.open_frames is not None and bool(getattr(state, "silent", 0) or _pinged(state))


def _pinged(state: Any) -> bool:
    return bool(getattr(state, "pinged", False))


def _is_closing(place: Place) -> bool:
    return not place.web and place.state.frames._protocol.state is not Closing.OPEN


def _has_timers_due(place: Place) -> bool:
    names = ("idle", "head_late", "keepalive", "close_late")
    left = [place.connection.timers.remaining(name) for name in names]
    return any(seconds is not None and seconds <= place.due for seconds in left)


class Class(NamedTuple):
    """Those that play it, and how a connection shows that it is of it."""

    transcripts: list[str]
    includes: Callable[[Place], Any]


CLASSES: dict[str, Class] = {
    "idle keep-alive": Class(["idle"], _is_idle),
    "accepted, nothing sent yet": Class(["silent"], lambda place: not place.client.said),
    "half a request head": Class(["heads", "in flight", "socket"], _is_in_head),
    "half a body": Class(["bodies"], _is_in_body),
    "chunked body inside a chunk": Class(["chunks"], _is_in_chunk),
    "request in flight": Class(
        ["in flight", "pipelined", "long", "ended in flight"], _is_in_flight
    ),
    "pipelined requests": Class(["pipelined"], lambda place: place.web and place.state.queue),
    "long response being written": Class(["long", "unread", "ended in flight"], _is_being_written),
    "client that stopped reading with the write buffer full": Class(
        ["unread", "unread socket", "ended", "ended socket"], _is_full
    ),
    "half-closed by the client": Class(
        ["ended", "ended in flight"], lambda place: place.connection.half_closed
    ),
    "WebSocket idle": Class(["pings", "closed by us"], _is_quiet),
    "WebSocket with a fragmented message under way": Class(
        ["fragments", "socket"], lambda place: place.open_frames and place.open_frames._message
    ),
    "WebSocket with a ping outstanding": Class(["pings"], _is_pinged),
    "WebSocket in its closing handshake": Class(
        ["closed by us", "closed by the client"], _is_closing
    ),
    "TLS": Class([*TRANSCRIPTS], lambda place: place.connection.tls is not None),
    "timers due inside the swap": Class(["idle", "heads", "pings"], _has_timers_due),
}
"""By the names of the list."""


class Row(NamedTuple):
    """Where something was counted: over what, on which loop, from which version."""

    name: str
    transcript: str
    wire: str
    loop: str
    begins: str


class Census:
    """Counts, by ``Row``, the ``swaps`` under connections of a class, and their different cuts."""

    def __init__(self) -> None:
        self.swaps: Counter[Row] = Counter()
        self.cuts: defaultdict[Row, set[Any]] = defaultdict(set)

    def note(self, play: Play, move: Move, act: Any) -> None:
        """Before a swap."""
        what = act.args[0].what if act is not None else None
        due = what.seconds if isinstance(what, Wait) else 0.0
        loop = "uvloop" if "uvloop" in str(type(play.world.loop).__mro__) else "asyncio"
        wire = "plain" if play.world.keys is None else "tls"
        where = (play.case.transcript.name, wire, loop, play.stages[-1])
        for client in play.world.clients.values():
            if isinstance(client.connection, Connection):
                place = Place(client.connection, client, due)
                for name in (name for name, row in CLASSES.items() if row.includes(place)):
                    self.swaps[Row(name, *where)] += 1
                    self.cuts[Row(name, *where)].add((move.at, play.steps))
