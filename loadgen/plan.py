"""What was asked for: a frozen record that travels to the worker processes as it is."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = [
    "PORTS",
    "Event",
    "Plan",
    "PlanError",
    "every",
    "parse_command",
    "parse_duration",
    "parse_event",
    "parse_host",
    "parse_rates",
    "parse_target",
]

PORTS = {
    "chat": 7001,
    "counter": 6380,
    "echo": 7000,
    "http": 8080,
    "kv": 6380,
    "verify": 7002,
    "websocket": 8080,
}

_UNITS_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "": 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|)")

EventKind = Literal["push", "run"]


_LONGEST_NS = 366 * 86_400 * 10**9
_EVENTS_MOST = 10_000
_DEEDS: dict[EventKind, str] = {"push": "PATH", "run": "COMMAND"}


class PlanError(ValueError):
    """What was asked for can't be; the sentence says what to write instead."""


class Event(msgspec.Struct, frozen=True):
    """Something that happens to the server at a set time of the run.

    ``words`` is the path of a push, or the command of a run, already split. One of a row
    (``--every``) waits for the one before it, however late that makes it.
    """

    kind: EventKind
    at_ns: int
    words: tuple[str, ...]
    in_row: bool = False


def every(period_ns: int, deeds: Sequence[Event], duration_ns: int) -> tuple[Event, ...]:
    """One deed each period until the end, in turn."""
    if period_ns * _EVENTS_MOST < duration_ns:
        raise PlanError(f"more than {_EVENTS_MOST:,} events: use a longer --every")
    if period_ns >= duration_ns:
        raise PlanError("--every would come round after the end of the run: use a shorter one")
    return tuple(
        msgspec.structs.replace(deeds[number % len(deeds)], at_ns=at_ns, in_row=True)
        for number, at_ns in enumerate(range(period_ns, duration_ns, period_ns))
    )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Without a ``rate`` the loop is closed, with ``depth`` operations open on each line.

    ``rate`` is operations a second over all lines; ``payload`` bytes an operation; ``grace_ns`` the
    time in which an operation may still be answered after the end before it counts as lost;
    ``timeout_s`` the longest wait for one connect, and for an event after the end of the run. A
    ``path`` is that of a Unix socket, instead of host and port. With ``tls`` the server's
    certificate has to be of ``server_name``, or else of ``host``, signed by one of the file ``ca``,
    or of the system's.

    ``scenario`` is a row of the table in ``scenarios``; without one it is steady when there is a
    rate, closed when there is none. ``rates`` are the corners of a ramp or the levels of steps,
    ``requests`` how many operations a passing connection asks, ``hold_ns`` how long a request is
    left half sent, answers are left unread, or an answer is asked to wait. ``url`` is for http.
    ``settle_ns`` is how long the window of an event goes on after its end and its last trace.
    """

    protocol: str
    host: str
    port: int
    connections: int
    duration_ns: int
    rate: float | None = None
    processes: int = 1
    payload: int = 32
    depth: int = 1
    grace_ns: int = 2_000_000_000
    timeout_s: float = 10.0
    progress: bool = False
    path: str = ""
    tls: bool = False
    ca: str = ""
    events: tuple[Event, ...] = ()
    scenario: str = ""
    rates: tuple[float, ...] = ()
    requests: int = 10
    hold_ns: int = 1_000_000_000
    url: str = "/echo"
    settle_ns: int = 500_000_000
    server_name: str = ""

    @property
    def way(self) -> str:
        """Its scenario, or what a run is without one."""
        return self.scenario or ("closed" if self.rate is None else "steady")

    @property
    def target(self) -> str:
        """Where it goes, as the command line takes it."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def share(self, index: int) -> range:
        """The connection numbers that process ``index`` begins with. What it dials later goes on in
        the same steps, so a number tells whose it is.
        """
        return range(index, self.connections, self.processes)


def parse_duration(text: str) -> int:
    """``500ms``, ``10s``, ``2m``, ``1.5`` (seconds) as nanoseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise PlanError(f"{text!r} is not a duration: write 500ms, 10s or 2m")
    duration = int(float(match[1]) * _UNITS_NS[match[2]])
    if duration > _LONGEST_NS:
        raise PlanError(f"{text!r} is longer than a year: write 500ms, 10s or 2m")
    return duration


def parse_event(kind: EventKind, text: str) -> Event:
    """``3s=PATH`` or ``5s=COMMAND WITH WORDS``."""
    when, equals, what = text.partition("=")
    if not equals or not what.strip():
        raise PlanError(f"{text!r} names no time and deed: write 3s={_DEEDS[kind]}")
    words = (what,) if kind == "push" else parse_command(what)
    return Event(kind, parse_duration(when), words)


def parse_command(command: str) -> tuple[str, ...]:
    """The words of a command, split as a shell would; no shell runs it."""
    if not command.strip():
        raise PlanError("an empty command does nothing: write 'COMMAND WITH WORDS'")
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise PlanError(f"{command!r} can't be split into words: {error}") from error


def parse_rates(text: str) -> tuple[float, ...]:
    """``100,1000,100``: operations a second over all connections; none when empty."""
    try:
        rates = tuple(float(each) for each in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise PlanError(f"{text!r} are no rates: write 100,1000,100") from error
    if any(not 0 <= rate < math.inf for rate in rates) or (rates and not any(rates)):
        raise PlanError(f"{text!r} are no rates: none is below 0, and not all are 0")
    return rates


def parse_host(text: str) -> str:
    """A name or an address: what can be looked up."""
    try:
        known = len(text.encode("idna")) > 0
    except UnicodeError:  # an empty label, or one that is too long
        known = False
    if not known or not text.isprintable() or set(text) & set(" /@?#[]"):
        raise PlanError(f"{text!r} is no name of a host: write localhost, 127.0.0.1 or ::1")
    return text


def parse_target(text: str) -> tuple[str, int, str]:
    """``HOST:PORT``, also ``[::1]:7000``, or ``unix:PATH``: host, port and path."""
    if text.startswith("unix:"):
        if text == "unix:":
            raise PlanError(f"{text!r} names no socket: write unix:PATH")
        return "localhost", 0, text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise PlanError(f"{text!r} is not a target: write HOST:PORT or unix:PATH")
    return parse_host(host.removeprefix("[").removesuffix("]")), int(port), ""
