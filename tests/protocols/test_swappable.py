"""Every bundled pair passes the conformance kit, on both loops: no client notices a swap.

A swap at every event boundary and at cuts of every message, up, down, there and back, with faults
at every step of it. ``make fuzz`` takes up to a thousand cuts of each; ``make every-byte`` has the
same over TLS. Every class of connection has its transcript in ``test_classes.py``.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Opcode

from netswap.testing import Difference, Do, Transcript, Wait
from tests.masked import closing
from tests.masked import frame as frame_of

from .classes import OPENING, TRANSCRIPTS, WEBSOCKET, replies_of, text

ROOT = Path(__file__).parents[2]
PROTOCOLS = ROOT / "protocols"
COUNTER = ROOT / "tests/system/pushed/counter_v1.py"
SESSIONS = [PROTOCOLS / "chat/v2.py", PROTOCOLS / "chat/session.py"]
"""The rooms of the one, the connections of the other."""
MANY = 1000
"""More than any transcript has cuts, but that of lines of 4 kB."""


def frame(sequence: int, payload: bytes = b"") -> bytes:
    """A request to verify."""
    return struct.pack("!IQQQ", 24 + len(payload), 7, sequence, 123_456_789 + sequence) + payload


def frames(data: bytes) -> list[bytes]:
    """The answers of verify, which name their version."""
    found = []
    while data:
        end = 4 + struct.unpack_from("!I", data)[0]
        found.append(data[:end])
        data = data[end:]
    return found


def encode(*words: bytes | str | float) -> bytes:
    """A command of kv."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)


def lines(data: bytes) -> list[bytes]:
    """The lines of chat. The number of a guest, who has no name yet, is that of its object."""
    return [re.sub(rb"guest[0-9.]+", b"guest", line) for line in data.splitlines(keepends=True)]


def half_a_character(difference: Difference) -> bool:
    """Version 1 of chat has shown the first half already: version 2 can't read the second."""
    return difference.got.endswith(b"! that line is not UTF-8\n")


ECHO = [
    b"hello\n",
    Do.STOP_READING,
    b"one",
    b"two",
    Wait(2),
    Do.READ_AGAIN,
    b"three",
    ("other", Do.CONNECT),
    ("other", b"four"),
    ("other", Do.CLOSE),
    Do.END,
]
ECHO_TAIL = [b"hello\n", Do.STOP_READING, b"one", b"two", Do.END]
VERIFY = [
    frame(1),
    frame(2, b"payload") + frame(3),
    Do.STOP_READING,
    frame(4) + frame(5),
    frame(6),
    Do.READ_AGAIN,
    frame(7)[:9],
    frame(7)[9:] + struct.pack("!I", 3),
]
TALK = [
    ("ann", b"/nick ann\n"),
    ("bob", b"/nick bob\n/join den\n"),
    ("ann", b"/join den\r\n"),
    ("bob", b"hi\n/who\n/dance\n"),
    ("ann", Do.STOP_READING),
    ("bob", b"one\n"),
    ("bob", b"two\n"),
    ("ann", Do.READ_AGAIN),
    ("ann", b"/quit\n"),
    ("bob", b"last words\n"),
    ("bob", Do.END),
]
GREETING = [("ann", b"/nick ann\n"), ("ann", "grüß €\n".encode()), ("ann", b"/who\n")]
LONG = [b"/nick ann\n", b"x" * 4100, b"x" * 900 + b"\nshort\n", b"\xff\n", Do.END]
KV = [
    encode("SET", "a", 1, "EX", 1) + b"PING\r\n",
    b"set \"c d\" 'x y'\n",
    encode("APPEND", "a", b"\r\n*3\r\n"),
    encode("TTL", "a") + encode("WHAT", "is"),
    Wait(0.6),
    encode("GET", "a") + encode("PTTL", "a"),
    Do.STOP_READING,
    encode("INCR", "n") + encode("LPUSH", "l", "x", "y"),
    encode("INCR", "n"),
    Do.READ_AGAIN,
    Wait(0.6),
    encode("GET", "a") + encode("KEYS", "*"),
    ("other", encode("GET", "n")),
    encode("CLIENT", "SETNAME", "me") + encode("CLIENT", "GETNAME"),
    encode("QUIT") + encode("SET", "n", "after the end"),
    ("other", encode("GET", "n")),
    ("other", b"*1\r\n$abc\r\n"),
]
TIMERS = [
    b"later 2\n",
    Wait(1),
    b"remaining \n",
    ("other", b"later 3\n"),
    Wait(2),
    b"later 1\nlater 4\n",
    ("other", Do.CLOSE),
    Wait(5),
    b"remaining \n",
]
DOOR = [b"a", ("bob", Do.CONNECT), ("bob", b"b"), ("bob", Do.END), b"c", ("eve", Do.CONNECT)]

HTTP_BESIDE = [PROTOCOLS / "http/limits.py", ROOT / "tests/protocols/http/answering.py"]


def get(path: str, *more: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


def post(path: str, *chunks: str) -> bytes:
    """A request whose body comes in chunks."""
    rows = [f"{len(chunk):x};x=y\r\n{chunk}\r\n" for chunk in chunks]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return "".join([head, *rows, "0\r\nTrailer: z\r\n\r\n"]).encode()


def answers(data: bytes) -> list[bytes]:
    """Answers of http, without the time at which they were given."""
    undated = re.sub(rb"date: [^\r]*\r\n", b"", data)
    return [part for part in re.split(rb"(?=HTTP/1\.1 )", undated) if part]


def frames_of_guests(data: bytes) -> list[bytes]:
    """Frames of a WebSocket; of a guest, who has no name yet, not how many of it there are."""
    return [re.sub(rb"guest[0-9.]+", b"guest", reply) for reply in replies_of(data)]


CHAT_OPENING = OPENING.replace(b"/calls", b"/chat")
BROWSERS = [
    ("ann", CHAT_OPENING + text("/nick ann")),
    ("bob", CHAT_OPENING),
    ("bob", text("/nick bob") + text("/join den")),
    ("ann", text("/jo", fin=False)),
    ("ann", frame_of(Opcode.CONT, b"in den")),
    ("bob", text("gr\u00fc\u00df")[:9]),
    ("ann", Do.STOP_READING),
    ("bob", text("gr\u00fc\u00df")[9:] + text("/who")),
    ("ann", Do.READ_AGAIN),
    ("ann", text("/quit") + closing(1000)),
    ("bob", text("alone")),
    ("bob", Do.END),
]
HTTP_OPTIONS: dict[str, Any] = {
    "beside": HTTP_BESIDE,
    "replies": answers,
}
HTTP_BODIES = [
    get("/", "X-Long: " + "y" * 40),
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nhello, world",
    post("/echo", "abc", "de"),
    post("/length", "abc", "de") + get("/item/a") + get("/", method="HEAD") + get("/item/b"),
    get("/", "Connection: upgrade", "Upgrade: h2c") + get("/nowhere"),
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    b"abc" + b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    get("/", "Connection: close") + get("/"),
]
HTTP_LATER = [
    get("/slow/2") + get("/item/a") + get("/"),
    get("/slow/1")[:20],
    Wait(1),
    get("/slow/1")[20:] + get("/drip"),
    Wait(1),
    Wait(2),
    ("other", get("/drip")),
    ("other", Do.END),
    ("third", post("/length", "abcde")[:80]),
    ("third", Do.END),
    ("half", get("/slow/1") + get("/item/a") + get("/")),
    ("half", Do.END),
    ("gone", get("/slow/5")),
    ("gone", Do.CLOSE),
    Wait(3),
    Wait(80),
]
HTTP_STOPPED = [
    get("/") + get("/long"),
    Do.STOP_READING,
    get("/long") + get("/"),
    get("/item/a") + get("/long"),
    Do.READ_AGAIN,
    get("/", "Connection: close"),
]
HTTP_REFUSED = [
    ("folded", get("/item/a") + get("/", "X: y", " z")),
    ("late", get("/")[:9]),
    ("size", post("/echo", "abc")[:-30] + b"no size\r\n"),
    Wait(25),
    Wait(10),
]

PAIRS: dict[str, tuple[str, str, list[list[Any]], dict[str, Any]]] = {
    "echo": ("echo/v1", "echo/v2", [ECHO], {}),
    "echo, which mends the tail": (
        "echo/v1",
        "echo/v2",
        [ECHO_TAIL],
        {"replies": lambda data: [data]},
    ),
    "verify": ("verify/v1", "verify/v2", [VERIFY], {"replies": frames}),
    "chat": ("chat/v1", "chat/v2", [TALK], {"replies": lines}),
    "chat, which mends characters": (
        "chat/v1",
        "chat/v2",
        [GREETING],
        {"replies": lines, "expect": half_a_character},
    ),
    "chat as a session": ("chat/v2", "chat/session", [TALK, GREETING, LONG], {}),
    "chat from packets to a session": (
        "chat/v1",
        "chat/session",
        [TALK],
        {"replies": lines, "limit": len(TALK) + 1},  # boundaries: version 1 takes packets for lines
    ),
    "chat over WebSocket": (
        "chat/v1",
        "chat/v2",
        [BROWSERS],
        {
            "beside": [PROTOCOLS / f"{name}.py" for name in ("http/limits", "http/v2", "chat/web")],
            "served": "http.connection",
            "replies": frames_of_guests,
        },
    ),
    "kv": ("kv/v1", "kv/v2", [KV], {}),
    "kv away from home": ("kv/v1", "kv/v2", [KV], {"workers": 2}),
    "http": ("http/v1", "http/v2", [HTTP_BODIES, HTTP_LATER, HTTP_REFUSED], HTTP_OPTIONS),
    "http to a client that does not read": ("http/v1", "http/v2", [HTTP_STOPPED], HTTP_OPTIONS),
    "websocket": (
        "websocket/v1",
        "websocket/v2",
        [TRANSCRIPTS[name] for name in WEBSOCKET],
        {
            "beside": [*HTTP_BESIDE, PROTOCOLS / "http/v2.py"],
            "served": "http.connection",
            "replies": replies_of,
        },
    ),
    "receive buffers": (
        "buffers/contiguous",
        "buffers/chunked",
        [TALK],
        {"beside": [PROTOCOLS / "chat/v2.py"], "hints": ["buffer.receive.searched"]},
    ),
    "receive buffers of a session": (
        "buffers/contiguous",
        "buffers/chunked",
        [GREETING, LONG],
        {"beside": SESSIONS, "hints": ["buffer.receive.searched"]},
    ),
    "send buffers": (
        "buffers/immediate",
        "buffers/coalescing",
        [TALK],
        {"beside": [PROTOCOLS / "chat/v2.py"]},
    ),
    "timers": ("timers/loop", "timers/wheel", [TIMERS], {"beside": [COUNTER]}),
    "factories": (
        "factories/plain",
        "factories/limited",
        [DOOR],
        {"beside": [PROTOCOLS / "echo/v2.py"]},
    ),
}
pytestmark = pytest.mark.timeout(600)  # thousands of plays, on a machine that may be busy
CUTS = {"asyncio": 6, "uvloop": 12}
BOTH_LOOPS = pytest.mark.parametrize("loop", CUTS)


LATER = ("http to a client that does not read", "websocket")
"""Such clients are swapped in ``test_classes.py``; here it is about faults in the swap."""


def _param(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow) if name in LATER else name


def checked(check_swappable: Any, name: str, loop: str, limit: int) -> Any:
    old, new, transcripts, options = PAIRS[name]
    pair = (PROTOCOLS / f"{old}.py", PROTOCOLS / f"{new}.py")
    return check_swappable(*pair, *transcripts, loops=[loop], **{"limit": limit, **options})


@BOTH_LOOPS
@pytest.mark.parametrize("name", [_param(name) for name in PAIRS])
def test_no_client_notices_a_swap_of(check_swappable: Any, name: str, loop: str) -> None:
    """Boundaries, and cuts spread over all messages: on asyncio's own loop half as many."""
    report = checked(check_swappable, name, loop, limit=CUTS[loop])
    assert report.plays[loop] > 100
    assert bool(report.explained) == ("expect" in PAIRS[name][3])


def aborted(difference: Difference) -> bool:
    """Version 1 of echo aborts at the end of the stream, which over TLS can be seen."""
    ends = difference.got_end, difference.old_end, difference.new_end
    return "cut off" in ends and difference.got in (difference.old, difference.new)


@pytest.mark.slow
@BOTH_LOOPS
@pytest.mark.parametrize("name", PAIRS)
def test_no_client_notices_a_swap_over_tls_of(check_swappable: Any, name: str, loop: str) -> None:
    """A piece is a record of its own, and records are cut."""
    old, new, transcripts, options = PAIRS[name]
    more: dict[str, Any] = {"limit": 12, "over": "tls"} | options
    if name.startswith("echo"):
        more["expect"] = aborted
    pair = (PROTOCOLS / f"{old}.py", PROTOCOLS / f"{new}.py")
    report = check_swappable(*pair, *transcripts, loops=[loop], **more)
    assert report.plays[f"{loop} over TLS"] > 100


@pytest.mark.fuzz
@BOTH_LOOPS
@pytest.mark.parametrize("name", PAIRS)
def test_no_client_notices_a_swap_at_any_byte_of(
    check_swappable: Any, name: str, loop: str
) -> None:
    """Every byte of every message."""
    report = checked(check_swappable, name, loop, limit=MANY)
    cuts = [len(Transcript(steps).cuts) for steps in PAIRS[name][2]]
    assert report.possible == sum(cuts)
    assert report.cuts == sum(min(count, PAIRS[name][3].get("limit", MANY)) for count in cuts)
