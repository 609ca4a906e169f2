"""What is asked for is understood, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from loadgen.judging import parse_threshold
from loadgen.plan import (
    Event,
    Plan,
    PlanError,
    parse_duration,
    parse_event,
    parse_host,
    parse_target,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 5 * 10**8),
        ("10s", 10**10),
        ("2m", 12 * 10**10),
        ("1.5", 15 * 10**8),
        ("7us", 7000),
    ],
)
def test_durations(text: str, expected: int) -> None:
    """A number and a unit; a number alone is seconds."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "host", ["", "a..b", "z" * 64, "http://x", "a b", "x/y", "x\n", "u@h", "[::1]"]
)
def test_what_is_no_host(host: str) -> None:
    """It is refused before the run: a lookup would fail in each load process."""
    with pytest.raises(PlanError, match="is no name of a host"):
        parse_host(host)
    with pytest.raises(PlanError):
        parse_target(f"[{host}]:80")


@pytest.mark.parametrize("host", ["localhost", "::1", "fe80::1%lo", "höst.example", "a.b.", "a_b"])
def test_what_may_be_a_host(host: str) -> None:
    """Whether there is one, the resolver knows."""
    assert parse_host(host) == host


def test_events() -> None:
    """A push names a path, which may hold spaces and equal signs; a run names a command."""
    assert parse_event("push", "3s=a b/v=2.py") == Event("push", 3 * 10**9, ("a b/v=2.py",))
    assert parse_event("run", "1s=kill -9 '4 2'") == Event("run", 10**9, ("kill", "-9", "4 2"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:80", ("localhost", 80, "")),
        ("[::1]:7000", ("::1", 7000, "")),
        ("unix:/run/x", ("localhost", 0, "/run/x")),
    ],
)
def test_targets(text: str, expected: tuple[str, int, str]) -> None:
    """Host and port, IPv6 in brackets, or the path of a Unix socket; shown as they were given."""
    assert parse_target(text) == expected
    host, port, path = expected
    plan = Plan(protocol="kv", host=host, port=port, path=path, connections=1, duration_ns=1)
    assert plan.target == text


@pytest.mark.parametrize(
    ("text", "us"), [("p99>0", 0.0), ("p99>5us", 5.0), ("p99 > 5ms", 5e3), ("p99>=0.5s", 5e5)]
)
def test_limits(text: str, us: float) -> None:
    """A time is in microseconds, unless it says otherwise."""
    assert parse_threshold(text).limit == us


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_duration, "fast"),
        (parse_duration, "-1s"),
        (parse_duration, "1h"),
        (partial(parse_event, "push"), "v2.py"),
        (partial(parse_event, "push"), "3s="),
        (partial(parse_event, "run"), "1s=echo 'open"),
        (parse_target, "localhost"),
        (parse_target, "localhost:0"),
        (parse_threshold, "p99"),
        (parse_threshold, "speed>3"),
        (parse_threshold, "lost>3ms"),
        (parse_threshold, "p99>5"),
    ],
)
def test_nonsense_is_refused(parse: Callable[[str], object], text: str) -> None:
    """What can't be understood is named in the refusal."""
    with pytest.raises(PlanError) as refused:
        parse(text)
    assert text.removeprefix("1s=").partition(">")[0] in str(refused.value).replace('"', "")


def test_shares_cover_every_connection_once() -> None:
    """Each connection number belongs to one process, and shares differ by one at most."""
    plan = Plan(protocol="echo", host="h", port=1, connections=11, duration_ns=1, processes=3)
    shares = [plan.share(index) for index in range(3)]
    assert sorted(number for share in shares for number in share) == list(range(11))
    assert {len(share) for share in shares} == {3, 4}
