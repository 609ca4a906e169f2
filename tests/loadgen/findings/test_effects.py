"""How long an event lasts: until the last drop, or the last answer of old code."""

from __future__ import annotations

import pytest

from loadgen.findings import build_report
from loadgen.findings.effects import LOOKED_FOR, last_traces
from loadgen.findings.wording import stands_out
from loadgen.samples import UNVERSIONED, Samples
from tests.loadgen.seen import go_wrong, pushed_at, steady_run

MS = 1_000_000
DEEDS = [(1000 * MS, 1010 * MS), (5000 * MS, 5010 * MS)]


def rows(*told: tuple[int, int, int]) -> Samples:
    """Answers: the connection, the version, when it was asked (ms)."""
    samples = Samples.empty()
    for connection, version, sent in told:
        samples.intended.append(sent * MS)
        samples.sent.append(sent * MS)
        samples.done.append((sent + 1) * MS)
        samples.version.append(version)
        samples.connection.append(connection)
    return samples


def ends(samples: Samples, *gone_ms: int) -> list[int]:
    return [at // MS for at in last_traces(DEEDS, samples, [at * MS for at in gone_ms])]


def test_without_a_trace_an_event_ends_with_its_command() -> None:
    """The same version before and after, or none told, and nobody dropped."""
    assert ends(rows()) == [1010, 5010]
    assert ends(rows((0, 1, 900), (0, 1, 2000), (1, 1, 2100))) == [1010, 5010]
    assert ends(rows((0, UNVERSIONED, 900), (0, 2, 2000), (0, UNVERSIONED, 2500))) == [1010, 5010]


def test_a_drop_is_of_the_event_before_it() -> None:
    """The latest counts; one before all events is of none, and one much later neither."""
    late = 5010 + LOOKED_FOR // MS
    assert ends(rows(), 10, 2500, 4999, 1700, 6000) == [4999, 6000]
    assert ends(rows(), late, late + 1) == [1010, late]


def test_old_code_that_still_answers_is_a_trace() -> None:
    """When it was asked last, not when new code was asked first: who asks seldom tells nothing."""
    swapped = rows((0, 1, 990), (0, 1, 1400), (0, 2, 1500), (1, 1, 900), (1, 2, 4800))
    assert ends(swapped) == [1400, 5010]


def test_those_who_come_and_go_show_it_together() -> None:
    """Each has one version only: the first of the old ones' last is the trace."""
    coming = rows((0, 1, 900), (1, 1, 1200), (2, 2, 1300), (3, 1, 1600), (4, 2, 1700), (5, 2, 4000))
    assert ends(coming) == [1600, 5010]


def test_two_versions_side_by_side_are_no_trace() -> None:
    """A push to some connections only is over when it is over, however long both versions serve."""
    both = rows(*((connection, 1 + connection, at) for at in range(900, 4900, 100)
                  for connection in (0, 1)))  # fmt: skip
    assert ends(both) == [1010, 5010]


@pytest.mark.parametrize("at", [2100, 3900])
def test_a_drop_after_the_command_is_in_the_events_window(at: int) -> None:
    """It makes the event stand out, whatever the latency; the other event does not."""
    seen = steady_run(10, pushed_at(1000), pushed_at(6000))
    del seen.samples.version[:], seen.samples.connection[:]
    go_wrong(seen, "dropped", at)
    report = build_report(seen)
    first, second = report.events
    assert (first.faults, second.faults) == ({"dropped": 1}, {})
    assert first.over_s == at / 1000
    assert first.around is not None
    assert first.around.closes_s == first.over_s + 0.5
    assert (stands_out(first, report), bool(stands_out(second, report))) == (True, False)
    assert report.worst_event is first
    assert report.elsewhere == {}
