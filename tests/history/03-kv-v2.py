"""kv.connection and kv.store, version 2: no command stalls the loop, deadlines have an index.

The part of ``kv.store`` in the home worker holds every key, so that each command is answered by
one version and a command on many keys is atomic. Connections of that worker call it; those of
other workers send it the commands of a whole chunk as one request and write what comes back.

Parsing. hiredis's reader is the fast path: it sees chunks that begin at a message boundary, and
when a chunk does not end at one (or holds an inline command, or anything odd), the reader is
thrown away and the chunk is parsed again by ``_Slow``, whose progress is plain data. So between
two callbacks the reader is always empty and a swap at any byte moves nothing that can't be
encoded. hiredis allocates what a header announces before it has come; ``_announces_much`` keeps
such chunks away from it.

What is new since version 1:

- INCR and its like say so when 64 bits would overflow.
- KEYS over many keys works in slices, each in a callback of its own. The state of the scan is
  plain data in the store, and the command stays at the head of its connection's backlog until it
  is answered, so that a swap in the middle (back to version 1 too) asks again at worst. A method
  that suspends would hold every swap for as long as the scan takes.
- Deadlines are also filed by the second in which they end. The active expiry takes what is due
  and looks at nothing else, where version 1 looks at every key with a deadline. The dict of values
  and that of deadlines are those of version 1, moved as pointers: the step between the versions
  costs the same for any number of keys, and the index is made afterwards, in slices.
- More commands, on the same types of values, so that the way back loses nothing.
- Requests to the home worker are bounded by bytes as well.
"""

# ruff: noqa: ARG001 - a handler has the parameters of a handler, used or not

from __future__ import annotations

import random
import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from copy import copy
from decimal import Decimal
from itertools import chain, islice, takewhile
from math import isinf, isnan
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import hiredis

from netswap import Connection, Service, State, migration, reference

Command = list[Any]
"""Name and arguments, all bytes; or ``[FAULT, text]``, what the parser has to say at this place."""

FAULT: Final = "fault"  # not bytes, so that no peer can send it

OK: Final = b"+OK\r\n"
NIL: Final = b"$-1\r\n"
NIL_ARRAY: Final = b"*-1\r\n"
EMPTY: Final = b"*0\r\n"
ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"
WRONGTYPE: Final = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NOT_INTEGER: Final = b"-ERR value is not an integer or out of range\r\n"
NOT_POSITIVE: Final = b"-ERR value is out of range, must be positive\r\n"
NOT_FLOAT: Final = b"-ERR value is not a valid float\r\n"
SYNTAX: Final = b"-ERR syntax error\r\n"
OVERFLOW: Final = b"-ERR increment or decrement would overflow\r\n"
NOT_RANGE: Final = b"-ERR index out of range\r\n"
TOO_LONG: Final = b"-ERR string exceeds maximum allowed size (512MB)\r\n"
NOT_SCORES: Final = b"-ERR min or max is not a float\r\n"
NO_CURSOR: Final = b"-ERR invalid cursor\r\n"
NO_KEY: Final = b"-ERR no such key\r\n"
PONG: Final = b"+PONG\r\n"
PLAIN: Final[frozenset[bytes]] = frozenset()
ANY: Final = 1 << 31
UNITS: Final = MappingProxyType(
    {
        **dict.fromkeys((b"EX", b"expire", b"setex"), (1000, False)),
        **dict.fromkeys((b"PX", b"pexpire", b"psetex"), (1, False)),
        **dict.fromkeys((b"EXAT", b"expireat"), (1000, True)),
        **dict.fromkeys((b"PXAT", b"pexpireat"), (1, True)),
    }
)
"""Option or command to its unit in ms, and whether it counts from 1970."""

STAR: Final = ord("*")
CR: Final = ord("\r")
ZERO_DIGIT: Final = ord("0")
LINE_LIMIT: Final = 65_536
ARGUMENTS_LIMIT: Final = 1_048_576
BULK_LIMIT: Final = 512 * 1_048_576
REQUESTS_LIMIT: Final = 32  # requests of one connection under way to the home worker
BATCH_LIMIT: Final = 1024  # commands in one of them
BYTES_LIMIT: Final = 4 * 1_048_576  # of arguments in all of them
SLICE: Final = 1000  # keys looked at in one callback
SCANS_LIMIT: Final = 4  # KEYS under way at once; more wait
CURSORS_LIMIT: Final = 64  # SCANs under way at once; the oldest is forgotten
SCAN_PATIENCE_MS: Final = 60_000  # after which one that nobody asks for is forgotten
WAIT: Final = -1  # in place of a scan's number: there are too many, ask again
SWEEP_SECONDS: Final = 0.25
LONGEST: Final = 2**63 - 1
BEYOND: Final = 2**63


# -- replies ------------------------------------------------------------------------------------


def bulk(value: bytes | None) -> bytes:
    """A bulk string, or nil."""
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def array(values: Iterable[bytes | None]) -> bytes:
    """An array of bulk strings."""
    parts = [bulk(value) for value in values]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def integer(value: int) -> bytes:
    """An integer reply."""
    return b":%d\r\n" % value


def error(text: str) -> bytes:
    """An error reply; line breaks in ``text`` would end it early."""
    return b"-ERR %b\r\n" % text.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace")


def wrong_arguments(name: bytes) -> bytes:
    """What redis says to a wrong number of arguments."""
    return error(f"wrong number of arguments for '{name.lower().decode('latin-1')}' command")


def unknown(command: Command) -> bytes:
    """What redis says to a command that it does not know."""
    name, *rest = (arg[:128].decode("latin-1") for arg in command)
    shown = "".join(f"'{arg}' " for arg in rest[:16])
    return error(f"unknown command '{name}', with args beginning with: {shown}")


def parse_integer(raw: bytes) -> int | None:
    """A 64-bit integer as redis writes it: no blanks, no plus sign, no leading zeros."""
    if raw.isdigit() and raw[0] != ZERO_DIGIT:
        number = int(raw) if len(raw) < 20 else BEYOND
        return number if number <= LONGEST else None
    try:
        number = int(raw) if len(raw) <= 20 else BEYOND
    except ValueError:
        return None
    return number if number >= -BEYOND and b"%d" % number == raw else None


def parse_score(raw: bytes) -> float | None:
    """A score; Python's underscores and blanks and nan are none."""
    if b"_" in raw or raw != raw.strip():
        return None
    try:
        score = float(raw)
    except ValueError:
        return None
    return None if isnan(score) else score + 0.0


def format_score(score: float) -> bytes:
    """The shortest decimal that reads back as ``score``."""
    return b"%d" % score if score.is_integer() and abs(score) < 1e17 else repr(score).encode()


# -- parsing ------------------------------------------------------------------------------------

_huge = re.compile(rb"\*[1-9]\d{7}").search
_huge_other = re.compile(rb"[>~][1-9]\d{7}").search
_token = re.compile(rb"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']+))(?=\s|$)""").match
_escape = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = MappingProxyType(dict(zip(b"nrtba", b"\n\r\t\b\a", strict=True)))
_join = b"".join


def _announces_much(data: bytes) -> bool:
    """Whether a header may announce ten million elements, for which hiredis would make room."""
    if _huge(data):
        return True
    return (b">" in data or b"~" in data) and _huge_other(data) is not None


class Talk(State, kind="kv.connection", version=2):
    """One client. What lies between the last message boundary and now is in four fields."""

    reader: Any = reference(hiredis.Reader, lambda _: b"", lambda _: hiredis.Reader())
    """Empty between two callbacks, hence the empty stand-in."""
    pending: list[bytes] = []
    """Bytes not yet understood."""
    need: int = 0
    """So many bytes more before it is worth looking at them."""
    taken: list[bytes] = []
    """Arguments of the message under way that are complete."""
    missing: int = 0
    """So many arguments of it are still to come."""

    name: bytes = b""
    backlog: list[list[Any]] = []
    """Commands that wait for the answers to earlier ones."""
    outstanding: list[list[int]] = []
    """Requests under way to the home worker: token, number of commands (0: the command at the
    head of the backlog, which stays there until it is answered) and bytes of arguments."""
    token: int = 0
    ending: bool = False
    """Close when everything is answered."""
    quit: bool = False
    """Nothing after this is answered."""
    scan: int = 0
    """The number of the scan for the KEYS at the head of the backlog; 0: not begun."""


@migration("kv.connection", 1, 2)
def connection_up(old: dict[str, Any]) -> dict[str, Any]:
    """The name becomes bytes; requests under way count for nothing in the new bound."""
    outstanding = [[token, commands, 0] for token, commands in old["outstanding"]]
    return old | {"name": old["name"].encode("latin-1"), "outstanding": outstanding}


@migration("kv.connection", 2, 1)
def connection_down(new: dict[str, Any]) -> dict[str, Any]:
    """A KEYS under way is asked for again: its reply is awaited, but not taken."""
    outstanding = [row[:2] for row in new["outstanding"] if row[1]]
    return new | {"name": new["name"].decode("latin-1"), "outstanding": outstanding}


def parse(state: Talk, data: bytes) -> list[Command]:
    """The commands that ``data`` completes, in order; ``state`` keeps what is left over."""
    if state.missing or state.pending or data[0] != STAR:
        return _Slow(state, data).commands
    reader = state.reader
    commands: list[Command] = []
    try:
        # one header with one digit, as most chunks have, needs no closer look
        if data.rfind(b"*") or data[2] != CR or b">" in data or b"~" in data:  # noqa: SIM102
            if _announces_much(data):
                return _Slow(state, data).commands
        reader.feed(data)
        while (command := reader.gets()) is not False:
            _join(command)  # raises TypeError unless all arguments are bytes
            commands.append(command)
            if not reader.has_data():
                return commands
    except (TypeError, IndexError, hiredis.HiredisError):
        pass  # the slow parser knows what it is: an inline command, a fault, or too short to tell
    state.reader = hiredis.Reader()
    return _Slow(state, data).commands


class _Slow:
    """Parses inline commands, faults, and messages that are cut by the end of a chunk."""

    def __init__(self, state: Talk, data: bytes) -> None:
        self.state = state
        self.commands: list[Command] = []
        state.pending.append(data)
        state.need -= len(data)
        if state.need <= 0:
            self._run(_join(state.pending))

    def _run(self, buffer: bytes) -> None:
        state = self.state
        state.need = 0
        position, size = 0, len(buffer)
        while position < size:
            if state.missing:
                after = self._item(buffer, position)
            elif buffer[position] == STAR:
                after = self._header(buffer, position)
            else:
                after = self._inline(buffer, position)
            if after == position:
                break
            position = after
        state.pending = [buffer[position:]] if position < size else []

    def _fault(self, text: str, buffer: bytes) -> int:
        self.commands.append([FAULT, f"Protocol error: {text}"])
        self.state.missing, self.state.taken = 0, []
        return len(buffer)

    def _line(self, buffer: bytes, start: int, end: bytes, fault: str) -> tuple[int, int]:
        """Where the line from ``start`` ends, and what to return when it does not."""
        at = buffer.find(end, start)
        if at < 0 and len(buffer) - start > LINE_LIMIT:
            return -1, self._fault(fault, buffer)
        return at, start

    def _header(self, buffer: bytes, start: int) -> int:
        end, otherwise = self._line(buffer, start, b"\r\n", "too big mbulk count string")
        if end < 0:
            return otherwise
        count = parse_integer(buffer[start + 1 : end])
        if count is None or count > ARGUMENTS_LIMIT:
            return self._fault("invalid multibulk length", buffer)
        self.state.missing, self.state.taken = max(count, 0), []
        return end + 2

    def _item(self, buffer: bytes, start: int) -> int:
        if buffer[start : start + 1] not in b"$+":
            got = buffer[start : start + 1].decode("latin-1")
            return self._fault(f"expected '$', got '{got}'", buffer)
        end, otherwise = self._line(buffer, start, b"\r\n", "too big bulk count string")
        if end < 0:
            return otherwise
        if buffer[start] == ord("+"):  # hiredis takes them for strings, so do we
            return self._take(buffer[start + 1 : end], end + 2)
        size = parse_integer(buffer[start + 1 : end])
        if size is None or not 0 <= size <= BULK_LIMIT:
            return self._fault("invalid bulk length", buffer)
        after = end + 4 + size
        if after > len(buffer):
            self.state.need = after - len(buffer)
            return start
        return self._take(buffer[end + 2 : after - 2], after)

    def _take(self, argument: bytes, after: int) -> int:
        state = self.state
        state.taken.append(argument)
        state.missing -= 1
        if not state.missing:
            self.commands.append(state.taken)
            state.taken = []
        return after

    def _inline(self, buffer: bytes, start: int) -> int:
        end, otherwise = self._line(buffer, start, b"\n", "too big inline request")
        if end < 0:
            return otherwise
        words = split_words(buffer[start:end].removesuffix(b"\r"))
        if words is None:
            return self._fault("unbalanced quotes in request", buffer)
        if words:
            self.commands.append(words)
        return end + 1


def split_words(line: bytes) -> list[bytes] | None:
    """The words of an inline command, quotes and escapes undone; None when a quote stays open."""
    if b'"' not in line and b"'" not in line:
        return line.split()
    words, position, line = [], 0, line.rstrip()
    while position < len(line):
        found = _token(line, position)
        if found is None:
            return None
        double, single, plain = found.groups()
        if double is not None:
            words.append(_escape.sub(_unescape, double))
        else:
            words.append(plain if single is None else single.replace(rb"\'", b"'"))
        position = found.end()
    return words


def _unescape(found: re.Match[bytes]) -> bytes:
    digits, letter = found.groups()
    return bytes([int(digits, 16) if digits else _ESCAPED.get(letter[0], letter[0])])


# -- the store ----------------------------------------------------------------------------------
#
# A value is bytes (string), deque (list), set, dict (hash) or list (sorted set: the dict of
# scores, and its (score, member) pairs in order or None when they have to be sorted again).

TYPES: Final[tuple[tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]], ...]] = (
    # in memory, name, to plain data and back
    (bytes, "string", bytes, bytes),
    (deque, "list", list, deque),
    (set, "set", sorted, set),
    (dict, "hash", dict, dict),
    (list, "zset", lambda value: value[0], lambda scores: [scores, None]),
)


def type_name(value: Any) -> str:
    """What TYPE says of a value, or of None."""
    return next((name for kind, name, _, _ in TYPES if type(value) is kind), "none")


def to_plain(data: dict[bytes, Any]) -> list[list[Any]]:
    """Key, type and content of every value, in what msgpack knows."""
    rows = {kind: (name, plain) for kind, name, plain, _ in TYPES}
    return [[key, rows[type(v)][0], rows[type(v)][1](v)] for key, v in data.items()]


def from_plain(plain: list[list[Any]]) -> dict[bytes, Any]:
    """The values again."""
    build = {name: back for _, name, _, back in TYPES}
    return {key: build[name](content) for key, name, content in plain}


class Keys(State, kind="kv.store", version=2):
    """Every key. All dicts move as pointers: a swap costs the same however many keys there are."""

    data: dict[bytes, Any] = reference(dict, to_plain, from_plain)
    deadlines: dict[bytes, int] = reference(dict)
    """Key to deadline in ms since 1970: absolute, so that a swap neither loses nor prolongs it."""
    due: dict[int, set[bytes]] = reference(dict, lambda _: {}, dict)
    """Second to the keys whose deadline it ends; made again from ``deadlines`` where needed."""
    unfiled: list[bytes] | None = reference(lambda: None, lambda _: None, lambda _: None)
    """Keys that may not be in ``due`` yet; None: any with a deadline."""
    swept: int = 0
    """The last second whose keys are gone."""
    scans: dict[int, Any] = reference(dict, lambda _: {}, dict)
    """KEYS under way by number; one that is unknown is begun again."""
    cursors: dict[int, Any] = reference(dict, lambda _: {}, dict)
    """SCANs under way by number: the keys there were at the start, and when it was last used."""
    last: int = 0
    """The last number given to a scan or a cursor."""


@migration("kv.store", 1, 2)
def store_up(old: dict[str, Any]) -> dict[str, Any]:
    """Both dicts stay what they are; the index is made in slices afterwards."""
    return {"data": old["data"], "deadlines": old["expires"]}


@migration("kv.store", 2, 1)
def store_down(new: dict[str, Any]) -> dict[str, Any]:
    """The index follows from the deadlines, so nothing is lost without it."""
    return {"data": new["data"], "expires": new["deadlines"]}


class Store(Service[Keys], clustered=True):
    """The home part answers commands; the others pass them on."""

    def execute(self, command: Command) -> bytes | None:
        """The reply to one command; None when the store has no such command."""
        try:
            handler, least, most = COMMANDS[command[0]]
        except (KeyError, IndexError):
            return self._execute_folded(command)
        if least <= len(command) <= most:
            return handler(self, command)
        return wrong_arguments(command[0])

    def _execute_folded(self, command: Command) -> bytes | None:
        if not command:
            return b""
        if command[0] == FAULT or (name := command[0].upper()) not in COMMANDS:
            return None
        return self.execute([name, *command[1:]])

    def execute_many(self, commands: list[Command]) -> bytes:
        """The replies to commands from another worker, joined."""
        replies = ((self.execute(command), command) for command in commands)
        return _join([unknown(c) if reply is None else reply for reply, c in replies])

    def forward(self, method: str, arguments: tuple[Any, ...], entry: Any, token: int) -> None:
        """Ask the home part for ``entry``, whose ``on_reply`` gets the answer."""
        cluster = self.cluster
        cluster.request(cluster.home, method, arguments, entry, "on_reply", token)

    def keys(self, pattern: bytes, scan: int | None = None) -> bytes | int:
        """The reply to KEYS, or the number to ask again with until there is one.

        ``scan`` is 0 at first; who gives none (version 1) gets the reply at once.
        """
        if scan is None or (scan <= 0 and len(self.state.data) <= SLICE):
            keys = self.matching(pattern, list(self.state.data))
            return b"*%d\r\n%b" % (len(keys), _join(map(bulk, keys)))
        scans = self.state.scans
        if scan not in scans:
            if len(scans) >= SCANS_LIMIT:
                return WAIT
            scan = self.next_number()
            scans[scan] = [list(self.state.data), 0, [], 0]
        reply = self._keys_slice(pattern, scans[scan])
        if reply is None:
            return scan
        del scans[scan]
        return reply

    def _keys_slice(self, pattern: bytes, scan: list[Any]) -> bytes | None:
        left, found, parts, _ = scan
        keys = self.matching(pattern, left[-SLICE:])
        del left[-SLICE:]
        parts.append(_join(map(bulk, keys)))
        scan[1:] = [found + len(keys), parts, self.now()]
        return None if left else b"*%d\r\n%b" % (scan[1], _join(parts))

    def matching(self, pattern: bytes, keys: list[bytes]) -> list[bytes]:
        """Those of ``keys`` that live and match."""
        match, now = glob(pattern), self.now()
        data, deadlines = self.state.data, self.state.deadlines
        return [k for k in keys if match(k) and k in data and deadlines.get(k, LONGEST) > now]

    def next_number(self) -> int:
        """A number for a new scan or cursor; the sweep forgets it when nobody asks for it."""
        self.state.last += 1
        if self.timers.remaining("expire") is None:
            self.timers.arm("expire", SWEEP_SECONDS)
        return self.state.last

    def now(self) -> int:
        """Wall-clock ms: deadlines outlive the process's monotonic clock."""
        return self.host.clock.time_ns() // 1_000_000

    def look(self, key: bytes) -> Any:
        """The value of a living key, or None."""
        state = self.state
        if state.deadlines and state.deadlines.get(key, LONGEST) <= self.now():
            self.drop(key)
        return state.data.get(key)

    def drop(self, key: bytes) -> bool:
        """Forget a key; says whether it was there."""
        if self.state.deadlines:
            self.unset_deadline(key)
        return self.state.data.pop(key, None) is not None

    def deadline(
        self, amount: bytes, unit: int, absolute: bool, command: bytes, positive: bool = True
    ) -> int | bytes:
        """``amount`` units of ms from now (or 1970) as a deadline, or the error to answer."""
        number = parse_integer(amount)
        if number is None:
            return NOT_INTEGER
        deadline = number * unit + (0 if absolute else self.now())
        if (positive and number <= 0) or not -LONGEST <= deadline <= LONGEST:
            return error(f"invalid expire time in '{command.lower().decode()}' command")
        return deadline

    def set_deadline(self, key: bytes, deadline: int) -> None:
        """Let ``key`` die at ``deadline`` (ms since 1970)."""
        self.unset_deadline(key)
        if not self.state.deadlines:
            self.timers.arm("expire", SWEEP_SECONDS)
        self.state.deadlines[key] = deadline
        self._file(key, deadline)

    def _file(self, key: bytes, deadline: int) -> None:
        state = self.state
        second = max(end_of(deadline), state.swept + 1)
        state.due.setdefault(second, set()).add(key)

    def unset_deadline(self, key: bytes) -> bool:
        """Let ``key`` live on; says whether it had a deadline."""
        state = self.state
        deadline = state.deadlines.pop(key, None)
        if deadline is None:
            return False
        second = end_of(deadline)
        keys = state.due.get(second)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del state.due[second]
        return True

    def left(self, key: bytes) -> int:
        """Milliseconds to live; -2 no such key, -1 no deadline."""
        if self.look(key) is None:
            return -2
        deadline = self.state.deadlines.get(key)
        return -1 if deadline is None else deadline - self.now()

    def on_start(self) -> None:
        """Take up the sweeping where the predecessor left it."""
        if self.state.deadlines and self.timers.remaining("expire") is None:
            self.timers.arm("expire", SWEEP_SECONDS)

    def expire(self) -> None:
        """Do a slice of the housekeeping (a timer's call), and the next soon if there is more."""
        state = self.state
        done = self._file_slice() and self._sweep_slice()
        oldest = self.now() - SCAN_PATIENCE_MS
        for table in (state.scans, state.cursors):
            for number in [n for n, row in table.items() if row[-1] < oldest]:
                del table[number]
        if not done:
            self.host.call_soon(self.entry, "expire")
        elif state.deadlines or state.scans or state.cursors:
            self.timers.arm("expire", SWEEP_SECONDS)

    def _file_slice(self) -> bool:
        """File deadlines that came from version 1; says whether all are filed."""
        state = self.state
        if state.unfiled is None:
            state.unfiled = list(state.deadlines)
        for key in state.unfiled[-SLICE:]:
            deadline = state.deadlines.get(key)
            if deadline is not None:
                self._file(key, deadline)
        del state.unfiled[-SLICE:]
        return not state.unfiled

    def _sweep_slice(self) -> bool:
        """Drop keys that are due; says whether those of all past seconds are gone."""
        state = self.state
        now = self.now()
        budget = SLICE
        for second in self._past(now // 1000):
            keys = state.due.get(second, set())
            while keys and budget:
                key = keys.pop()
                budget -= 1
                if state.deadlines.get(key, LONGEST) <= now:
                    state.deadlines.pop(key)
                    state.data.pop(key, None)
            if keys:
                return False
            state.due.pop(second, None)
            state.swept = second
        return True

    def _past(self, now: int) -> Iterable[int]:
        """The seconds after the last one that was swept, up to ``now``."""
        state = self.state
        if now - state.swept <= len(state.due) + 3600:
            return range(state.swept + 1, now + 1)
        return [*sorted(second for second in state.due if second <= now), now]


def end_of(deadline: int) -> int:
    """The first whole second at which a deadline in ms has passed."""
    return -(-deadline // 1000)


def glob(pattern: bytes) -> Callable[[bytes], Any]:
    """redis's glob (``* ? [a-c] [^a] \\x``) as a predicate on keys."""
    if pattern == b"*":
        return lambda _: True
    segments = [b""]
    for part in re.findall(rb"\\.|\[\^?(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL):
        if part == b"*":
            segments.append(b"")
        else:
            segments[-1] += _glob_part(part)
    first, *middle, last = segments if len(segments) > 1 else (*segments, b"")
    # atomic groups: the first place where a segment fits will do, so no pattern is slow
    text = first + _join(b"(?>.*?%b)" % segment for segment in middle)
    try:
        return re.compile(text + b".*" * (len(segments) > 1) + last, re.DOTALL).fullmatch
    except re.error:  # a range from high to low
        return lambda _: False


def _glob_part(part: bytes) -> bytes:
    if part == b"?":
        return b"."
    if part[:1] != b"[" or len(part) == 1:
        return re.escape(part[-1:])
    caret, inside = re.fullmatch(rb"\[(\^?)(.*)\]", part, re.DOTALL).groups()  # type: ignore[union-attr]  # it is how parts are cut
    body = re.sub(rb"\\(.)|([^-])", lambda m: re.escape(m[1] or m[2]), inside, flags=re.DOTALL)
    return b"[" + caret + body + b"]" if body else (b"." if caret else b"(?!)")


# -- commands: each takes the store and the command, and returns the reply ----------------------

Handler = Callable[["Store", Command], bytes]


def _get(store: Store, command: Command) -> bytes:
    state = store.state
    key = command[1]
    value = store.look(key) if state.deadlines else state.data.get(key)
    if value is None:
        return NIL
    if type(value) is not bytes:
        return WRONGTYPE
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _set(store: Store, command: Command) -> bytes:
    if len(command) > 3:
        return _set_with_options(store, command)
    state = store.state
    state.data[command[1]] = command[2]
    if state.deadlines:
        store.unset_deadline(command[1])
    return OK


def _set_with_options(store: Store, command: Command) -> bytes:
    _, key, value, *words = command
    flags: set[bytes] = set()
    deadline: int | bytes | None = None
    rest = iter(words)
    for word in map(bytes.upper, rest):
        if word in UNITS and deadline is None:
            amount = next(rest, None)
            if amount is None:
                return SYNTAX
            deadline = store.deadline(amount, *UNITS[word], b"set")
        elif word in (b"NX", b"XX", b"GET", b"KEEPTTL"):
            flags.add(word)
        else:
            return SYNTAX
    if {b"NX", b"XX"} <= flags or (b"KEEPTTL" in flags and deadline is not None):
        return SYNTAX
    return deadline if isinstance(deadline, bytes) else put(store, key, value, deadline, flags)


def put(
    store: Store,
    key: bytes,
    value: bytes,
    deadline: int | None = None,
    flags: AbstractSet[bytes] = PLAIN,
) -> bytes:
    """SET with NX, XX, GET and KEEPTTL in ``flags``."""
    old = store.look(key)
    if b"GET" in flags and old is not None and type(old) is not bytes:
        return WRONGTYPE
    done = (b"NX" not in flags or old is None) and (b"XX" not in flags or old is not None)
    if done:
        store.state.data[key] = value
        if deadline is not None:
            store.set_deadline(key, deadline)
        elif b"KEEPTTL" not in flags:
            store.unset_deadline(key)
    if b"GET" in flags:
        return bulk(old)
    return OK if done else NIL


def _setnx(store: Store, command: Command) -> bytes:
    return ONE if put(store, command[1], command[2], None, frozenset({b"NX"})) is OK else ZERO


def _setex(store: Store, command: Command) -> bytes:
    name, key, amount, value = command
    deadline = store.deadline(amount, *UNITS[name.lower()], name)
    return deadline if isinstance(deadline, bytes) else put(store, key, value, deadline)


def _getset(store: Store, command: Command) -> bytes:
    return put(store, command[1], command[2], None, frozenset({b"GET"}))


def _getdel(store: Store, command: Command) -> bytes:
    reply = _get(store, command)
    if reply is not WRONGTYPE:
        store.drop(command[1])
    return reply


def _mget(store: Store, command: Command) -> bytes:
    values = map(store.look, command[1:])
    return array(value if type(value) is bytes else None for value in values)


def _mset(store: Store, command: Command) -> bytes:
    if not len(command) % 2:
        return wrong_arguments(command[0])
    state = store.state
    state.data.update(zip(command[1::2], command[2::2], strict=True))
    for key in command[1::2] if state.deadlines else ():
        store.unset_deadline(key)
    return OK


def _append(store: Store, command: Command) -> bytes:
    value = store.look(command[1])
    if value is not None and type(value) is not bytes:
        return WRONGTYPE
    value = store.state.data[command[1]] = (value or b"") + command[2]
    return integer(len(value))


def _strlen(store: Store, command: Command) -> bytes:
    value = store.look(command[1])
    return integer(len(value or b"")) if value is None or type(value) is bytes else WRONGTYPE


def count(store: Store, key: bytes, step: int) -> bytes:
    """INCRBY of any sign."""
    state = store.state
    value = store.look(key) if state.deadlines else state.data.get(key)
    if value is not None and type(value) is not bytes:
        return WRONGTYPE
    number = 0 if value is None else parse_integer(value)
    if number is None:
        return NOT_INTEGER
    number += step
    if not -BEYOND <= number <= LONGEST:
        return OVERFLOW
    text = state.data[key] = b"%d" % number
    return b":%b\r\n" % text


def _incr(store: Store, command: Command) -> bytes:
    return count(store, command[1], 1)


def _decr(store: Store, command: Command) -> bytes:
    return count(store, command[1], -1)


def _incrby(store: Store, command: Command) -> bytes:
    step = parse_integer(command[2])
    return NOT_INTEGER if step is None else count(store, command[1], step)


def _decrby(store: Store, command: Command) -> bytes:
    step = parse_integer(command[2])
    if step is None:
        return NOT_INTEGER
    return error("decrement would overflow") if step == -BEYOND else count(store, command[1], -step)


# keys


def _del(store: Store, command: Command) -> bytes:
    return integer(sum(store.look(key) is not None and store.drop(key) for key in command[1:]))


def _exists(store: Store, command: Command) -> bytes:
    return integer(sum(store.look(key) is not None for key in command[1:]))


def _type(store: Store, command: Command) -> bytes:
    return b"+%b\r\n" % type_name(store.look(command[1])).encode()


def _randomkey(store: Store, command: Command) -> bytes:
    data = store.state.data
    while data:
        key = next(islice(data, random.randrange(min(len(data), 100)), None))
        if store.look(key) is not None:
            return bulk(key)
    return NIL


def _rename(store: Store, command: Command) -> bytes:
    _, old, new = command
    value = store.look(old)
    if value is None:
        return NO_KEY
    deadline = store.state.deadlines.get(old)
    store.drop(old)
    store.drop(new)
    store.state.data[new] = value
    if deadline is not None:
        store.set_deadline(new, deadline)
    return OK


def _expire(store: Store, command: Command) -> bytes:
    name, key, amount = command
    deadline = store.deadline(amount, *UNITS[name.lower()], name, positive=False)
    if isinstance(deadline, bytes):
        return deadline
    if store.look(key) is None:
        return ZERO
    if deadline <= store.now():
        store.drop(key)
    else:
        store.set_deadline(key, deadline)
    return ONE


def _pttl(store: Store, command: Command) -> bytes:
    return integer(store.left(command[1]))


def _ttl(store: Store, command: Command) -> bytes:
    left = store.left(command[1])
    return integer(left if left < 0 else (left + 500) // 1000)


def _persist(store: Store, command: Command) -> bytes:
    store.look(command[1])
    return ONE if store.unset_deadline(command[1]) else ZERO


# containers: ``within`` finds one and drops it when it is left empty; ``make`` makes one

Answer = Callable[[Any, Command], bytes]


def within(kind: type, missing: bytes, answer: Answer) -> Handler:
    """The handler of a command on the container at its first argument; ``missing``: none there."""

    def handle(store: Store, command: Command) -> bytes:
        value: Any = store.look(command[1])
        if value is None:
            return missing
        found: type = type(value)
        if found is not kind:
            return WRONGTYPE
        reply = answer(value, command)
        if not (value[0] if kind is list else value):
            store.drop(command[1])
        return reply

    return handle


def make(store: Store, key: bytes, kind: type, factory: Callable[[], Any]) -> Any:
    """The container at ``key``, a new one if there is none, None if it is of another kind."""
    state = store.state
    value = store.look(key) if state.deadlines else state.data.get(key)
    if value is None:
        value = state.data[key] = factory()
    return value if type(value) is kind else None


def popping(kind: type, one: bytes, many: bytes, pop: Callable[[Any], bytes]) -> Handler:
    """The handler of a pop; ``one`` and ``many`` say that nothing is there, by form of command."""

    def handle(store: Store, command: Command) -> bytes:
        number = 1 if len(command) == 2 else parse_integer(command[2])
        if number is None or number < 0:
            return NOT_POSITIVE
        value: Any = store.look(command[1])
        if value is None:
            return one if len(command) == 2 else many
        found: type = type(value)
        if found is not kind:
            return WRONGTYPE
        if len(command) == 2:
            reply = bulk(pop(value))
        else:
            reply = array([pop(value) for _ in range(min(number, len(value)))])
        if not value:
            store.drop(command[1])
        return reply

    return handle


def _size(value: Any, command: Command) -> bytes:
    return integer(len(value))


def bounds(start: int, stop: int, size: int) -> tuple[int, int]:
    """redis's inclusive range as Python's, within 0 and ``size``."""
    low = max(start + size if start < 0 else start, 0)
    high = min(stop + size if stop < 0 else stop, size - 1) + 1
    return (low, high) if low < high else (0, 0)


def ranged(handler: Handler) -> Handler:
    """The third and fourth word are integers, whatever is at the key."""

    def handle(store: Store, command: Command) -> bytes:
        if parse_integer(command[2]) is None or parse_integer(command[3]) is None:
            return NOT_INTEGER
        return handler(store, command)

    return handle


def _lpush(store: Store, command: Command) -> bytes:
    items = make(store, command[1], deque, deque)
    if items is None:
        return WRONGTYPE
    items.extendleft(command[2:])
    return b":%d\r\n" % len(items)


def _rpush(store: Store, command: Command) -> bytes:
    items = make(store, command[1], deque, deque)
    if items is None:
        return WRONGTYPE
    items.extend(command[2:])
    return b":%d\r\n" % len(items)


def _lrange(items: deque[bytes], command: Command) -> bytes:
    return array(islice(items, *bounds(int(command[2]), int(command[3]), len(items))))


def _lindex(items: deque[bytes], command: Command) -> bytes:
    at = parse_integer(command[2])
    if at is None:
        return NOT_INTEGER
    return bulk(items[at]) if -len(items) <= at < len(items) else NIL


def _sadd(store: Store, command: Command) -> bytes:
    members = make(store, command[1], set, set)
    if members is None:
        return WRONGTYPE
    before = len(members)
    members.update(command[2:])
    return integer(len(members) - before)


def _srem(members: set[bytes], command: Command) -> bytes:
    before = len(members)
    members.difference_update(command[2:])
    return integer(before - len(members))


def _contains(value: Any, command: Command) -> bytes:
    return ONE if command[2] in value else ZERO


def _hset(store: Store, command: Command) -> bytes:
    if len(command) % 2:
        return wrong_arguments(command[0])
    fields = make(store, command[1], dict, dict)
    if fields is None:
        return WRONGTYPE
    before = len(fields)
    if len(command) == 4:
        fields[command[2]] = command[3]
    else:
        fields.update(zip(command[2::2], command[3::2], strict=True))
    return integer(len(fields) - before)


def _hmset(store: Store, command: Command) -> bytes:
    reply = _hset(store, command)
    return OK if reply[:1] == b":" else reply


def _hdel(fields: dict[bytes, bytes], command: Command) -> bytes:
    return integer(sum(fields.pop(name, None) is not None for name in command[2:]))


def _hmget(store: Store, command: Command) -> bytes:
    nothing = b"*%d\r\n" % (len(command) - 2) + NIL * (len(command) - 2)
    return within(dict, nothing, lambda fields, c: array(map(fields.get, c[2:])))(store, command)


def _zadd(store: Store, command: Command) -> bytes:
    if len(command) % 2:
        return SYNTAX
    scores = [parse_score(raw) for raw in command[2::2]]
    if None in scores:
        return NOT_FLOAT
    zset = make(store, command[1], list, lambda: [{}, None])
    if zset is None:
        return WRONGTYPE
    before = len(zset[0])
    for member, score in zip(command[3::2], scores, strict=True):
        rank(zset, member, score)
    return integer(len(zset[0]) - before)


def rank(zset: list[Any], member: bytes, score: float | None) -> bool:
    """Give a member its score, or with None take it out; says whether it was there."""
    scores, order = zset
    old = scores.get(member)
    if score == old:
        return old is not None
    if order is not None and old is not None:
        del order[bisect_left(order, (old, member))]
    if score is None:
        del scores[member]
        return True
    scores[member] = score
    if order is not None:
        insort(order, (score, member))
    return old is not None


def in_order(zset: list[Any]) -> list[tuple[float, bytes]]:
    """The (score, member) pairs in order; sorted when they are first asked for."""
    if zset[1] is None:
        zset[1] = sorted((score, member) for member, score in zset[0].items())
    return zset[1]  # type: ignore[no-any-return]  # a plain list has no types for its places


def _zrem(zset: list[Any], command: Command) -> bytes:
    return integer(sum(rank(zset, member, None) for member in command[2:]))


def _zscore(zset: list[Any], command: Command) -> bytes:
    score = zset[0].get(command[2])
    return NIL if score is None else bulk(format_score(score))


def _zpopmin(zset: list[Any], command: Command) -> bytes:
    out = in_order(zset)[: int(command[2]) if len(command) > 2 else 1]
    del zset[1][: len(out)]
    for _, member in out:
        del zset[0][member]
    return with_scores(out)


def _zpopmin_checked(store: Store, command: Command) -> bytes:
    number = parse_integer(command[2]) if len(command) > 2 else 1
    if number is None or number < 0:
        return NOT_POSITIVE
    return within(list, EMPTY, _zpopmin)(store, command)


def with_scores(pairs: Iterable[tuple[float, bytes]]) -> bytes:
    """Members and scores in turn."""
    return array(chain.from_iterable((member, format_score(score)) for score, member in pairs))


def _zrange(zset: list[Any], command: Command) -> bytes:
    if len(command) > 4 and command[4].upper() != b"WITHSCORES":
        return SYNTAX
    low, high = bounds(int(command[2]), int(command[3]), len(zset[0]))
    pairs = in_order(zset)[low:high]
    return with_scores(pairs) if len(command) > 4 else array(member for _, member in pairs)


# new in version 2


def _scan(store: Store, command: Command) -> bytes:
    cursor = parse_integer(command[1])
    if cursor is None or cursor < 0:
        return NO_CURSOR
    options = dict(zip(map(bytes.upper, command[2::2]), command[3::2], strict=False))
    amount = parse_integer(options.pop(b"COUNT", b"10"))
    pattern, kind = options.pop(b"MATCH", b"*"), options.pop(b"TYPE", None)
    if amount is None:
        return NOT_INTEGER
    if options or len(command) % 2 or amount < 1:
        return SYNTAX
    page = _scan_page(store, cursor, min(amount, SLICE))
    if page is None:
        return NO_CURSOR
    following, keys = page
    keys = store.matching(pattern, keys)
    if kind is not None:
        wanted = kind.lower().decode("latin-1")
        keys = [key for key in keys if type_name(store.state.data[key]) == wanted]
    return b"*2\r\n%b%b" % (bulk(b"%d" % following), array(keys))


def _scan_page(store: Store, cursor: int, amount: int) -> tuple[int, list[bytes]] | None:
    """The next cursor and its keys. A cursor is a number of ``cursors`` and a place in its keys."""
    state = store.state
    number, place = divmod(cursor, BEYOND >> 31)
    if not cursor:
        if len(state.data) <= amount:
            return 0, list(state.data)
        if len(state.cursors) >= CURSORS_LIMIT:
            del state.cursors[next(iter(state.cursors))]
        number = store.next_number()
        state.cursors[number] = [list(state.data), store.now()]
    row = state.cursors.get(number)
    if row is None:
        return None
    row[1] = store.now()
    place += amount
    if place < len(row[0]):
        return number * (BEYOND >> 31) + place, row[0][place - amount : place]
    del state.cursors[number]
    return 0, row[0][place - amount :]


def _expiretime(store: Store, command: Command) -> bytes:
    left = store.left(command[1])
    return integer(left if left < 0 else (store.state.deadlines[command[1]] + 500) // 1000)


def _pexpiretime(store: Store, command: Command) -> bytes:
    left = store.left(command[1])
    return integer(left if left < 0 else store.state.deadlines[command[1]])


def _copy(store: Store, command: Command) -> bytes:
    _, source, target, *words = command
    if [word.upper() for word in words] not in ([], [b"REPLACE"]):
        return SYNTAX
    if source == target:
        return error("source and destination objects are the same")
    value = store.look(source)
    if value is None or (store.look(target) is not None and not words):
        return ZERO
    store.drop(target)
    store.state.data[target] = [dict(value[0]), None] if type(value) is list else copy(value)
    if source in store.state.deadlines:
        store.set_deadline(target, store.state.deadlines[source])
    return ONE


ENCODINGS: Final = MappingProxyType(
    {"list": b"quicklist", "set": b"hashtable", "hash": b"hashtable", "zset": b"skiplist"}
)


def _object(store: Store, command: Command) -> bytes:
    if len(command) != 3 or command[1].upper() != b"ENCODING":
        return error(f"unknown subcommand '{command[1].decode('latin-1')}'. Try OBJECT HELP.")
    value = store.look(command[2])
    if value is None:
        return NIL
    if type(value) is not bytes:
        return bulk(ENCODINGS[type_name(value)])
    if parse_integer(value) is not None:
        return bulk(b"int")
    return bulk(b"embstr" if len(value) <= 44 else b"raw")


def _getex(store: Store, command: Command) -> bytes:
    words = [word.upper() for word in command[2:]]
    deadline: int | bytes | None = None
    if len(words) == 2 and words[0] in UNITS:
        deadline = store.deadline(words[1], *UNITS[words[0]], b"getex")
    elif words not in ([], [b"PERSIST"]):
        return SYNTAX
    reply = _get(store, command[:2])
    if reply is NIL or reply is WRONGTYPE:
        return reply
    if isinstance(deadline, bytes):
        return deadline
    if deadline is not None:
        store.set_deadline(command[1], deadline)
    elif words:
        store.unset_deadline(command[1])
    return reply


def _msetnx(store: Store, command: Command) -> bytes:
    if not len(command) % 2:
        return wrong_arguments(command[0])
    if any(store.look(key) is not None for key in command[1::2]):
        return ZERO
    _mset(store, command)
    return ONE


def _getrange(store: Store, command: Command) -> bytes:
    start, stop = map(parse_integer, command[2:])
    if start is None or stop is None:
        return NOT_INTEGER
    value = store.look(command[1])
    if value is not None and type(value) is not bytes:
        return WRONGTYPE
    value = value or b""
    if start < 0 and stop < 0 and start > stop:
        return bulk(b"")
    low, high = bounds(start, max(stop, -len(value)) if stop < 0 else stop, len(value))
    return bulk(value[low:high])


def _setrange(store: Store, command: Command) -> bytes:
    at = parse_integer(command[2])
    if at is None:
        return NOT_INTEGER
    if at < 0:
        return error("offset is out of range")
    value = store.look(command[1])
    if value is not None and type(value) is not bytes:
        return WRONGTYPE
    value, piece = value or b"", command[3]
    if not piece:
        return integer(len(value))
    if at + len(piece) > BULK_LIMIT:
        return TOO_LONG
    value = value[:at].ljust(at, b"\0") + piece + value[at + len(piece) :]
    store.state.data[command[1]] = value
    return integer(len(value))


def _incrbyfloat(store: Store, command: Command) -> bytes:
    value = store.look(command[1])
    if value is not None and type(value) is not bytes:
        return WRONGTYPE
    old, step = parse_score(value or b"0"), parse_score(command[2])
    if old is None or step is None:
        return NOT_FLOAT
    if isinf(old + step) or isinf(old) or isinf(step):
        return error("increment would produce NaN or Infinity")
    total = Decimal((value or b"0").decode()) + Decimal(command[2].decode())
    text = format(total, "f").encode()  # decimals, so that 0.1 and 0.2 make 0.3
    text = text.rstrip(b"0").rstrip(b".") if b"." in text else text
    store.state.data[command[1]] = b"0" if text == b"-0" else text
    return bulk(store.state.data[command[1]])


def _lset(store: Store, command: Command) -> bytes:
    items = store.look(command[1])
    if items is None:
        return NO_KEY
    if type(items) is not deque:
        return WRONGTYPE
    at = parse_integer(command[2])
    if at is None:
        return NOT_INTEGER
    if not -len(items) <= at < len(items):
        return NOT_RANGE
    items[at] = command[3]
    return OK


def _lrem(store: Store, command: Command) -> bytes:
    number = parse_integer(command[2])
    return NOT_INTEGER if number is None else within(deque, ZERO, _lrem_some)(store, command)


def _lrem_some(items: deque[bytes], command: Command) -> bytes:
    wanted, before = command[3], len(items)
    number = int(command[2])
    left = abs(number) or before
    kept: deque[bytes] = deque()
    for item in items if number >= 0 else reversed(items):
        if item == wanted and left:
            left -= 1
        else:
            kept.append(item)
    items.clear()
    items.extend(kept if number >= 0 else reversed(kept))
    return integer(before - len(items))


def combining(operation: Callable[..., set[bytes]]) -> Handler:
    """The handler of SINTER and its like: a key that is not there is an empty set."""

    def handle(store: Store, command: Command) -> bytes:
        sets = [store.look(key) for key in command[1:]]
        if any(members is not None and type(members) is not set for members in sets):
            return WRONGTYPE
        return array(operation(*(members or set() for members in sets)))

    return handle


def _hincrby(store: Store, command: Command) -> bytes:
    step = parse_integer(command[3])
    if step is None:
        return NOT_INTEGER
    value = store.look(command[1])
    if value is not None and type(value) is not dict:
        return WRONGTYPE
    number = parse_integer((value or {}).get(command[2], b"0"))
    if number is None:
        return error("hash value is not an integer")
    if not -BEYOND <= number + step <= LONGEST:
        return OVERFLOW
    make(store, command[1], dict, dict)[command[2]] = b"%d" % (number + step)
    return integer(number + step)


def _zrangebyscore(store: Store, command: Command) -> bytes:
    low, high = _edge(command[2], 0), _edge(command[3], 1)
    words = [word.upper() for word in command[4:]]
    scores = b"WITHSCORES" in words
    rest = [word for word in words if word != b"WITHSCORES"]
    if low is None or high is None:
        return NOT_SCORES
    if len(words) - len(rest) > 1 or (rest and (len(rest) != 3 or rest[0] != b"LIMIT")):
        return SYNTAX
    limits = [parse_integer(word) for word in rest[1:]] or [0, -1]
    offset, number = limits
    if offset is None or number is None:
        return NOT_INTEGER
    value = store.look(command[1])
    if value is not None and type(value) is not list:
        return WRONGTYPE
    order = in_order(value) if value is not None else []
    pairs = order[bisect_left(order, low, key=_place) : bisect_left(order, high, key=_place)]
    pairs = [] if offset < 0 else pairs[offset : offset + number if number >= 0 else None]
    return with_scores(pairs) if scores else array(member for _, member in pairs)


def _place(pair: tuple[float, bytes]) -> tuple[float, int]:
    """Where a pair stands among edges: they lie before (0) or behind (1) all pairs of a score."""
    return pair[0], 0


def _edge(raw: bytes, side: int) -> tuple[float, int] | None:
    """One end of a range of scores: ``1``, ``(1``, ``-inf``; ``side`` is 0 for the lower end."""
    exclusive = raw[:1] == b"("
    score = parse_score(raw[1:] if exclusive else raw)
    return None if score is None else (score, side ^ exclusive)


# the server


def _ping(store: Store, command: Command) -> bytes:
    return PONG if len(command) == 1 else bulk(command[1])


def _time(store: Store, command: Command) -> bytes:
    seconds, rest = divmod(store.host.clock.time_ns(), 1_000_000_000)
    return array([b"%d" % seconds, b"%d" % (rest // 1000)])


def _flush(store: Store, command: Command) -> bytes:
    state = store.state
    for table in (state.data, state.deadlines, state.due, state.unfiled or []):
        table.clear()
    return OK


def _command(store: Store, command: Command) -> bytes:
    return integer(len(COMMANDS) // 2) if command[1:] and command[1].upper() == b"COUNT" else EMPTY


def _config(store: Store, command: Command) -> bytes:
    if command[1].upper() != b"GET":
        return error("the settings can't be changed")
    wanted = [glob(pattern.lower()) for pattern in command[2:]]
    found = [row for row in SETTINGS.items() if any(match(row[0]) for match in wanted)]
    return array(chain.from_iterable(found))


def _info(store: Store, command: Command) -> bytes:
    keys, dying = len(store.state.data), len(store.state.deadlines)
    return bulk(
        b"# Server\r\nredis_version:7.0.0\r\nkv_version:%d\r\n\r\n"
        b"# Keyspace\r\ndb0:keys=%d,expires=%d,avg_ttl=0\r\n" % (store.version, keys, dying)
    )


SETTINGS: Final = MappingProxyType(
    {b"save": b"", b"appendonly": b"no", b"databases": b"1", b"maxmemory": b"0"}
)

_ROWS: Final[tuple[tuple[str, Handler, int, int], ...]] = (
    # names, handler, least and most words with the name
    ("PING", _ping, 1, 2),
    ("ECHO", lambda _, c: bulk(c[1]), 2, 2),
    ("TIME", _time, 1, 1),
    ("DBSIZE", lambda store, _: integer(len(store.state.data)), 1, 1),
    ("FLUSHDB FLUSHALL", _flush, 1, 2),
    ("COMMAND", _command, 1, ANY),
    ("CONFIG", _config, 3, ANY),
    ("INFO", _info, 1, ANY),
    ("GET", _get, 2, 2),
    ("SET", _set, 3, ANY),
    ("SETNX", _setnx, 3, 3),
    ("SETEX PSETEX", _setex, 4, 4),
    ("GETSET", _getset, 3, 3),
    ("GETDEL", _getdel, 2, 2),
    ("MGET", _mget, 2, ANY),
    ("MSET", _mset, 3, ANY),
    ("APPEND", _append, 3, 3),
    ("STRLEN", _strlen, 2, 2),
    ("INCR", _incr, 2, 2),
    ("DECR", _decr, 2, 2),
    ("INCRBY", _incrby, 3, 3),
    ("DECRBY", _decrby, 3, 3),
    ("DEL UNLINK", _del, 2, ANY),
    ("EXISTS", _exists, 2, ANY),
    ("TYPE", _type, 2, 2),
    ("RANDOMKEY", _randomkey, 1, 1),
    ("RENAME", _rename, 3, 3),
    ("EXPIRE PEXPIRE EXPIREAT PEXPIREAT", _expire, 3, 3),
    ("TTL", _ttl, 2, 2),
    ("PTTL", _pttl, 2, 2),
    ("PERSIST", _persist, 2, 2),
    ("LPUSH", _lpush, 3, ANY),
    ("RPUSH", _rpush, 3, ANY),
    ("LPOP", popping(deque, NIL, NIL_ARRAY, deque.popleft), 2, 3),
    ("RPOP", popping(deque, NIL, NIL_ARRAY, deque.pop), 2, 3),
    ("LLEN", within(deque, ZERO, _size), 2, 2),
    ("LRANGE", ranged(within(deque, EMPTY, _lrange)), 4, 4),
    ("LINDEX", within(deque, NIL, _lindex), 3, 3),
    ("SADD", _sadd, 3, ANY),
    ("SREM", within(set, ZERO, _srem), 3, ANY),
    ("SMEMBERS", within(set, EMPTY, lambda members, _: array(members)), 2, 2),
    ("SISMEMBER", within(set, ZERO, _contains), 3, 3),
    ("SCARD", within(set, ZERO, _size), 2, 2),
    ("SPOP", popping(set, NIL, EMPTY, set.pop), 2, 3),
    ("HSET", _hset, 4, ANY),
    ("HMSET", _hmset, 4, ANY),
    ("HGET", within(dict, NIL, lambda fields, c: bulk(fields.get(c[2]))), 3, 3),
    ("HMGET", _hmget, 3, ANY),
    ("HDEL", within(dict, ZERO, _hdel), 3, ANY),
    ("HGETALL", within(dict, EMPTY, lambda v, _: array(chain.from_iterable(v.items()))), 2, 2),
    ("HLEN", within(dict, ZERO, _size), 2, 2),
    ("HEXISTS", within(dict, ZERO, _contains), 3, 3),
    ("ZADD", _zadd, 4, ANY),
    ("ZREM", within(list, ZERO, _zrem), 3, ANY),
    ("ZSCORE", within(list, NIL, _zscore), 3, 3),
    ("ZCARD", within(list, ZERO, lambda zset, _: integer(len(zset[0]))), 2, 2),
    ("ZPOPMIN", _zpopmin_checked, 2, 3),
    ("ZRANGE", ranged(within(list, EMPTY, _zrange)), 4, 5),
    # new in version 2
    ("SCAN", _scan, 2, ANY),
    ("EXPIRETIME", _expiretime, 2, 2),
    ("PEXPIRETIME", _pexpiretime, 2, 2),
    ("COPY", _copy, 3, 4),
    ("OBJECT", _object, 2, 3),
    ("GETEX", _getex, 2, 4),
    ("MSETNX", _msetnx, 3, ANY),
    ("GETRANGE SUBSTR", _getrange, 4, 4),
    ("SETRANGE", _setrange, 4, 4),
    ("INCRBYFLOAT", _incrbyfloat, 3, 3),
    ("LSET", _lset, 4, 4),
    ("LREM", _lrem, 4, 4),
    ("SINTER", combining(set.intersection), 2, ANY),
    ("SUNION", combining(set.union), 2, ANY),
    ("SDIFF", combining(set.difference), 2, ANY),
    ("HINCRBY", _hincrby, 4, 4),
    ("HKEYS", within(dict, EMPTY, lambda fields, _: array(fields)), 2, 2),
    ("HVALS", within(dict, EMPTY, lambda fields, _: array(fields.values())), 2, 2),
    ("ZRANGEBYSCORE", _zrangebyscore, 4, 8),
)

COMMANDS: Final = MappingProxyType(
    {
        spelling.encode(): row[1:]
        for row in _ROWS
        for name in row[0].split()
        for spelling in (name, name.lower())
    }
)
"""Both common spellings, so that neither is folded at each command."""


# -- the connection -----------------------------------------------------------------------------


def _quit(client: Client, command: Command) -> bytes:
    client.state.quit = True
    return OK


def _reset(client: Client, command: Command) -> bytes:
    client.state.name = b""
    return b"+RESET\r\n"


def _select(client: Client, command: Command) -> bytes:
    number = parse_integer(command[1])
    if number is None:
        return NOT_INTEGER
    return error("DB index is out of range") if number else OK


def _keys(client: Client, command: Command) -> bytes | int:
    return client.store.keys(command[1], client.state.scan)


def _auth(client: Client, command: Command) -> bytes:
    return error(
        "AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )


def _hello(client: Client, command: Command) -> bytes:
    version = parse_integer(command[1]) if len(command) > 1 else 2
    if version is None:
        return error("Protocol version is not an integer or out of range")
    if version != 2:
        return b"-NOPROTO unsupported protocol version\r\n"
    about = (b"server", b"redis", b"version", b"7.0.0", b"mode", b"standalone", b"role", b"master")
    rows = b"".join(map(bulk, about))
    identity = integer(client.entry.identity)
    return b"*14\r\n%b%b:2\r\n%b%b%b*0\r\n" % (
        rows, bulk(b"proto"), bulk(b"id"), identity, bulk(b"modules"),
    )  # fmt: skip


def _client(client: Client, command: Command) -> bytes:
    row = _CLIENT.get(command[1].upper())
    if row is None or len(command) != row[1]:
        return error(f"unknown subcommand '{command[1].decode('latin-1')}'. Try CLIENT HELP.")
    return row[0](client, command)


def _client_setname(client: Client, command: Command) -> bytes:
    if any(not 33 <= byte <= 126 for byte in command[2]):
        return error("Client names cannot contain spaces, newlines or special characters.")
    client.state.name = command[2]
    return OK


_CLIENT: Final = MappingProxyType(
    {
        b"SETNAME": (_client_setname, 3),
        b"GETNAME": (lambda client, _: bulk(client.state.name or None), 2),
        b"ID": (lambda client, _: integer(client.entry.identity), 2),
        b"SETINFO": (lambda _client, _: OK, 4),
    }
)

OWN: Final[MappingProxyType[bytes, tuple[Callable[[Any, Command], Any], int, int]]] = (
    MappingProxyType(
        {
            b"QUIT": (_quit, 1, ANY),
            b"RESET": (_reset, 1, 1),
            b"SELECT": (_select, 2, 2),
            b"AUTH": (_auth, 2, 3),
            b"HELLO": (_hello, 1, ANY),
            b"CLIENT": (_client, 2, ANY),
            b"KEYS": (_keys, 2, 2),
        }
    )
)
"""What the store does not know: the connection's own commands, and the one that it may split."""


class Client(Connection[Talk], uses={"store": "kv.store"}):
    """Parses, has commands answered in order, and answers those about the connection itself."""

    if TYPE_CHECKING:
        store: Store

    def on_data(self, data: bytes) -> None:
        """Answer everything that this chunk completes with one write."""
        state, host = self.state, self.host
        commands = parse(state, data)
        if host.slot != host.slots[0] or state.backlog:
            state.backlog += filter(None, commands)
            self.resume()
            return
        self._answer(commands)

    def _answer(self, commands: list[Command]) -> None:
        """In the home worker: by direct calls."""
        execute = self.store.execute
        replies = []
        turn = iter(commands)
        for command in turn:
            reply = execute(command)
            if reply is None:
                own = self._own(command)
                if isinstance(own, int):
                    self._wait_for_keys(own, [command, *turn])
                    break
                reply, self.state.scan = own, 0
                if self.state.quit:
                    replies.append(reply)
                    break
            replies.append(reply)
        self.write(_join(replies))
        if self.state.quit:
            self.close()

    def _wait_for_keys(self, scan: int, commands: list[Command]) -> None:
        """The first command is a KEYS that is not done: go on in a later callback."""
        self.state.scan, self.state.backlog = scan, commands
        self.pause_reading()
        self.host.call_soon(self.entry, "resume")

    def resume(self) -> None:
        """Go on with the commands that wait."""
        state, host = self.state, self.host
        if host.slot == host.slots[0]:
            waiting, state.backlog = state.backlog, []
            self._answer(waiting)
            self._settle()
            return
        while state.backlog and self._has_room() and self._next():
            pass
        self._settle()

    def _has_room(self) -> bool:
        outstanding = self.state.outstanding
        sent = sum(row[2] for row in outstanding)
        return len(outstanding) < REQUESTS_LIMIT and sent < BYTES_LIMIT

    def _settle(self) -> None:
        """Close when all is answered, and read only when nothing waits."""
        state = self.state
        if state.quit or (state.ending and not state.backlog and not state.outstanding):
            self.close()
        elif state.backlog:
            self.pause_reading()
        elif not self.writing_paused:
            self.resume_reading()

    def _next(self) -> bool:
        """Send what comes next to the home worker, or answer it; False when it has to wait."""
        backlog = self.state.backlog
        if is_own(backlog[0]):
            return self._own_turn()
        batch = list(takewhile(lambda command: not is_own(command), backlog[:BATCH_LIMIT]))
        del backlog[: len(batch)]
        size = sum(len(word) for command in batch for word in command)
        self._request("execute_many", (batch,), [len(batch), size])
        return True

    def _own_turn(self) -> bool:
        state = self.state
        if state.outstanding:
            return False
        command = state.backlog[0]
        if is_keys(command):
            self._request("keys", (command[1], state.scan), [0, 0])
            return False
        del state.backlog[0]
        self.write(self._own(command))
        return not state.quit

    def _request(self, method: str, arguments: tuple[Any, ...], counts: list[int]) -> None:
        state = self.state
        state.token += 1
        state.outstanding.append([state.token, *counts])
        self.store.forward(method, arguments, self.entry, state.token)

    def on_reply(self, token: int, value: Any, error_text: str | None) -> None:
        """The home worker's answer to a request, in the order of the requests."""
        outstanding = self.state.outstanding
        while outstanding and outstanding[0][0] <= token:  # a version that is gone may have asked
            asked, commands, _ = outstanding.pop(0)
            text = error_text if asked == token else "the answer was lost: outcome unknown"
            if not commands:
                self._keys_answered(value, text)
            else:
                self.write(value if text is None else error(text) * commands)
        self.resume()

    def _keys_answered(self, value: Any, text: str | None) -> None:
        state = self.state
        if text is None and isinstance(value, int):
            state.scan = value
            return
        state.scan = 0
        del state.backlog[0]
        self.write(value if text is None else error(text))

    def on_eof(self) -> bool | None:
        """Answer what is under way before closing."""
        self.on_drain()
        return True

    def on_drain(self) -> None:
        """The server is about to stop, or the peer has said all: close when all is answered."""
        self.state.ending = True
        if not self.state.outstanding and not self.state.backlog:
            self.close()

    def on_pause_writing(self) -> None:
        """A peer that does not read is not read from."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """It reads again."""
        if not self.state.backlog:
            self.resume_reading()

    def _own(self, command: Command) -> Any:
        """The reply to a command that the store does not know; a number: KEYS is not done."""
        if command[0] == FAULT:
            self.state.quit = True
            return error(command[1])
        row = OWN.get(command[0].upper())
        if row is None:
            return unknown(command)
        if row[1] <= len(command) <= row[2]:
            return row[0](self, command)
        return wrong_arguments(command[0])


def is_own(command: Command) -> bool:
    """Whether a command is about the connection itself, or is KEYS."""
    return command[0] == FAULT or command[0].upper() in OWN


def is_keys(command: Command) -> bool:
    """Whether it is a well-formed KEYS, which the connection asks for by itself."""
    return len(command) == 2 and command[0] != FAULT and command[0].upper() == b"KEYS"
