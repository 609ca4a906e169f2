"""A generator that stood still passes nobody falsely, and blames nobody."""

from __future__ import annotations

from array import array
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.conductor import Observation
from loadgen.findings import build_report
from loadgen.findings.doubt import OwnPauses
from loadgen.findings.omission import corrected
from loadgen.judging import judge, parse_threshold
from loadgen.samples import Samples
from loadgen.spread import spread
from tests.loadgen.carried import MS, served
from tests.loadgen.lines.test_pauses import Holding
from tests.loadgen.seen import pushed_at, steady_run

RUN = [(0, 10_000 * MS)]


def rows(*times: tuple[int, int, int], connection: int = 0) -> Samples:
    """When each was due, sent, and answered (ms)."""
    samples = Samples.empty()
    for row in times:
        for column, at in zip(samples, row, strict=False):
            column.append(at * MS)
        samples.connection.append(connection)
    return samples


@pytest.mark.parametrize(
    ("row", "ahead", "latency", "service"),
    [
        pytest.param((100, 100, 101), 0, 1, 1, id="before"),
        pytest.param((150, 150, 401), 0, 51, 51, id="all of it while it was open"),
        pytest.param((150, 150, 301), 0, 50, 50, id="its end"),
        pytest.param((250, 401, 402), 0, 2, 1, id="due in it, sent after it"),
        pytest.param((150, 350, 450), 0, 100, 50, id="late by itself before it, too"),
        pytest.param((300, 300, 310), 0, 0, 0, id="open in it alone"),
        pytest.param((700, 400, 910), 500, 10, 510, id="a timer that was asked late"),
        pytest.param((700, 200, 710), 500, 10, 310, id="a timer that was held meanwhile"),
        pytest.param((350, 100, 460), 250, 60, 160, id="a timer that was heard late"),
        pytest.param((320, 100, 310), 220, -10, 100, id="a timer that came before its time"),
        pytest.param((401, 401, 405), 0, 4, 4, id="after"),
        pytest.param((350, 350, 1150), 0, 650, 650, id="two of them"),
    ],
)  # fmt: skip
def test_of_an_operation_the_servers_part_is_what_is_in_no_pause(
    row: tuple[int, int, int], ahead: int, latency: int, service: int
) -> None:
    """Its process stood still from 200 to 400 ms, and from 1,000 to 1,100 ms, another elsewhere."""
    pauses = [(200 * MS, 400 * MS), (1000 * MS, 1100 * MS)]
    others = [(0, 250 * MS), (390 * MS, 1200 * MS)]
    own = OwnPauses(rows(row, connection=4), [others, pauses, []], ahead=ahead * MS)
    at_least = own.latency([0], RUN)
    from_the_send = own.service([0], RUN)
    assert at_least is not None
    assert from_the_send is not None
    assert at_least.least["max"] == latency * 1000
    assert from_the_send.least["max"] == service * 1000
    assert at_least.most["max"] == (row[2] - row[0]) * 1000, "an open loop asks it all"


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.integers(0, 300)), min_size=1),
    st.lists(st.tuples(st.integers(0, 600), st.integers(1, 200)), max_size=4),
    st.booleans(),
    st.integers(1, 100),
)
def test_what_was_measured_is_between_the_bounds(
    operations: list[tuple[int, int, int]],
    stills: list[tuple[int, int]],
    asks_on: bool,
    interval: int,
) -> None:
    """Of each percentile; without a pause there is no doubt."""
    samples = rows(*((due, due + late, due + late + took) for due, late, took in operations))
    pauses = [(at * MS, (at + long) * MS) for at, long in stills]
    own = OwnPauses(samples, [[each] for each in pauses], asks_on=asks_on, interval=interval * MS)
    everything = range(len(operations))
    no_doubt = OwnPauses(samples, [[]]).latency(range(len(operations)), RUN)
    assert no_doubt is None
    measured = [(late + took) * MS for _, late, took in operations]
    for took, doubt in (
        (measured, own.latency(everything, RUN)),
        (corrected(measured, interval * MS), own.corrected(everything, RUN)),
    ):
        assert (doubt is None) == (not stills)
        for name, value in spread(took).items() if doubt else ():
            assert (doubt.least[name] or 0) <= (value or 0) <= (doubt.most[name] or 0), name


def test_many_short_ones_put_in_excuse_no_slow_one() -> None:
    """A tenth of all took a second; what a pause hid is short, and more than was measured."""
    asked = [(at, at, at + (1000 if at % 10 == 0 else 1)) for at in range(20)]
    pauses = [(at * MS, (at + 5) * MS) for at in range(2000, 8000, 6)]
    doubt = OwnPauses(rows(*asked), [pauses], asks_on=False).latency(range(20), RUN)
    assert doubt is not None
    assert doubt.most["p99"] == 1_000_000.0


def test_quick_ones_that_were_not_asked_convict_no_server() -> None:
    """A stall of 90 ms in 10 s is less than a hundredth, though half of them were not asked."""
    pauses = [(at, at + 10) for at in range(0, 9000, 20)]
    stall = 9100
    busy = [*pauses, (stall, stall + 90)]
    asked = [(at, at, at + 1) for at in range(9999) if not any(a <= at < b for a, b in busy)]
    asked += [(opens, opens, closes) for opens, closes in busy]
    still = [[(opens * MS, closes * MS) for opens, closes in pauses]]
    own = OwnPauses(rows(*asked), still, asks_on=False, interval=MS)
    doubt = own.corrected(range(len(asked)), RUN)
    assert doubt is not None
    assert doubt.least["p99"] == 1000.0
    assert doubt.least["max"] == 90_000.0


@pytest.mark.parametrize("ahead", [0, 25])
def test_what_a_backlog_met_is_counted_to_the_millisecond(ahead: int) -> None:
    """Each operation is open in hundreds of pauses; said by going through every millisecond."""
    pauses = [(at, at + 1 + at % 4) for at in range(50, 2000, 5)]
    still = [any(opens <= ms < closes for opens, closes in pauses) for ms in range(3000)]
    asked = [(due, due + due % 90, 1500 + due) for due in range(30, 900, 7)]
    own = OwnPauses(rows(*asked), [[(a * MS, b * MS) for a, b in pauses]], ahead=ahead * MS)
    for row, (due, sent, done) in enumerate(asked):
        late, waited = sum(still[due - ahead : sent]), sum(still[max(due, sent) : done])
        doubt, service = own.latency([row], RUN), own.service([row], RUN)
        assert doubt is not None
        assert service is not None
        assert doubt.least["max"] == (done - due - late - waited) * 1000
        assert service.least["max"] == (done - sent - sum(still[sent:done])) * 1000


@pytest.mark.parametrize(("processes", "number"), [(1, 200), (2, 90)])
def test_what_was_not_asked_is_put_in_for_the_process_that_stood_still(
    processes: int, number: int
) -> None:
    """An operation a millisecond while it ran; the slowest would have waited for all of it."""
    asked = [(at, at, at + 1) for at in range(1000) if not 400 <= at < 600 or processes == 2]
    each = [[(400 * MS, 600 * MS)], []][:processes]
    own = OwnPauses(rows(*asked), each, asks_on=False)
    doubt = own.latency(range(len(asked)), [(0, 1000 * MS)])
    assert doubt is not None
    assert doubt.most["max"] == 201_000.0
    unasked = [*own._unasked(len(asked), [(0, 1000 * MS)], MS)]
    assert abs(len(unasked) - number) <= 25
    assert MS < min(unasked) <= 4 * MS
    assert [*own._unasked(len(asked), [(0, 300 * MS)], MS)] == [], "nothing was missed there"
    half = [*own._unasked(100, [(500 * MS, 900 * MS)], MS)]
    assert max(half) == 101 * MS, "only what is left of the pause"
    half = [*own._unasked(100, [(100 * MS, 500 * MS)], MS)]
    assert max(half) == 201 * MS, "until its end, also where the window's is before"


def test_an_open_loop_has_asked_all_of_it() -> None:
    """Nothing is put in, but for the time from the send."""
    asked = [(at, at, at + 1) for at in range(1000)]
    own = OwnPauses(rows(*asked), [[(400 * MS, 600 * MS)]])
    latency = own.latency(range(1000), [(0, 1000 * MS)])
    service = own.service(range(1000), [(0, 1000 * MS)])
    assert latency is not None
    assert service is not None
    assert (latency.most["max"], service.most["max"]) == (1000.0, 201_000.0)


def test_what_was_asked_beside_a_pause_of_nearly_all_tells_little() -> None:
    """Ten operations in a hundredth of a second are not taken for a thousand in a second."""
    own = OwnPauses(rows(*[(at, at, at + 1) for at in range(10)]), [[(10 * MS, 1000 * MS)]])
    assert len([*own._unasked(10, [(0, 1000 * MS)], MS)]) == 99


def paused(
    *pauses: tuple[int, int], rate: float | None = 1000.0, slow: dict[int, int] | None = None
) -> Observation:
    """Six seconds with a push at 2 s, a window from 1.9 to 2.7 s; we stood still in these (ms)."""
    seen = steady_run(6, pushed_at(2000), slow=slow)
    seen.plan = msgspec.structs.replace(seen.plan, rate=rate)
    seen.samples.version[:] = array("l", [1] * 6000)
    seen.pauses = [array("q", [at * MS for pause in pauses for at in pause])]
    seen.paused_ns = max((b - a for a, b in pauses), default=0) * MS
    if rate is None:
        for row in reversed(range(len(seen.samples.done))):
            if any(a <= row < b for a, b in pauses):
                for column in seen.samples:
                    del column[row]
    else:
        for row, due in enumerate(seen.samples.intended):
            for opens, closes in pauses:
                if opens * MS <= due < closes * MS:
                    seen.samples.sent[row] = max(seen.samples.sent[row], closes * MS)
                    seen.samples.done[row] = max(seen.samples.done[row], closes * MS + MS)
    return seen


SLOW = dict.fromkeys(range(2000, 2060), 120)
"""Operations that a server kept for 120 ms, most of it before a pause."""
IN_PUSH, ELSEWHERE = (2100, 2200), (4000, 4150)


@pytest.mark.parametrize(
    ("asked", "limit", "code"),
    [
        pytest.param({}, "window.p99>50ms", 0, id="no pause"),
        pytest.param({"slow": SLOW}, "window.p99>50ms", 11, id="a slow server"),
        pytest.param({"pauses": [IN_PUSH]}, "window.p99>50ms", 12, id="late by a pause"),
        pytest.param({"pauses": [IN_PUSH]}, "p99>30ms", 12, id="of the run"),
        pytest.param({"pauses": [IN_PUSH]}, "window.p99>150ms", 0, id="as long as the limit"),
        pytest.param({"pauses": [IN_PUSH], "slow": SLOW}, "window.p99>50ms", 11, id="and slow"),
        pytest.param({"pauses": [ELSEWHERE]}, "window.p99>50ms", 0, id="in another window"),
        pytest.param({"pauses": [ELSEWHERE]}, "null.max>50ms", 12, id="of a quiet window"),
        pytest.param({"pauses": [ELSEWHERE], "slow": SLOW}, "excess.p99>50ms", 12,
                     id="a quiet window that was not quiet hides the excess"),
        pytest.param({"pauses": [IN_PUSH]}, "excess.p99>50ms", 12, id="an excess of ours"),
        pytest.param({"slow": SLOW}, "excess.p99>50ms", 11, id="an excess of the server's"),
    ],
)  # fmt: skip
def test_a_limit_with_a_rate(asked: dict[str, Any], limit: str, code: int) -> None:
    """What is late by a pause of ours convicts nobody; all was asked, so what holds holds."""
    verdict = judge(build_report(paused(*asked.pop("pauses", []), **asked)),
                    [parse_threshold(limit)])  # fmt: skip
    assert verdict.exit_code == code, verdict.reasons


def test_a_pause_of_one_process_excuses_no_answer_of_another() -> None:
    """Even numbers are those of process 0, which stood still."""
    for first, code in ((2100, 12), (2101, 11)):
        seen = steady_run(6, pushed_at(2000), slow=dict.fromkeys(range(first, 2200, 2), 120))
        seen.pauses = [array("q", [2100 * MS, 2240 * MS]), array("q")]
        assert judge(build_report(seen), [parse_threshold("window.p99>50ms")]).exit_code == code


@pytest.mark.parametrize(
    ("long", "limit", "busy", "code"),
    [
        pytest.param(120, "window.p99>50ms", 0.1, 11, id="a stall"),
        pytest.param(120, "window.p99>101ms", 0.1, 12, id="but for two short waits"),
        pytest.param(120, "window.p99>99ms", 0.1, 11, id="more than those"),
        pytest.param(120, "window.p99>99ms", 0.6, 11, id="without a rest, too"),
        pytest.param(20, "window.p99>5ms", 0.1, 12, id="a slow server is none"),
    ],
)
def test_a_stall_is_blamed_where_the_pauses_were_elsewhere(
    long: int, limit: str, busy: float, code: int
) -> None:
    """Of two fifths of the run we had no processor; the longest wait, 150 ms, was in no window."""
    seen = paused(ELSEWHERE, slow=dict.fromkeys(range(2000, 2060), long))
    seen.waited_ns, seen.busy_ns = [2_400 * MS], [round(6_000 * MS * busy)]
    verdict = judge(build_report(seen), [parse_threshold(limit)])
    assert verdict.exit_code == code, verdict.reasons


@pytest.mark.parametrize(
    ("pauses", "limit", "code"),
    [
        pytest.param([IN_PUSH], "window.p99>50ms", 12, id="an eighth of it was not seen"),
        pytest.param([IN_PUSH], "window.p50>50ms", 0, id="half of it was"),
        pytest.param([IN_PUSH], "window.p99>150ms", 0, id="it was not so long"),
        pytest.param([IN_PUSH], "p99>30ms", 12, id="a sixtieth of the run"),
        pytest.param([(2100, 2140)], "p99>30ms", 0, id="less than the hundredth left out"),
        pytest.param([(2100, 2140)], "max>30ms", 12, id="which the slowest is not"),
        pytest.param([ELSEWHERE], "window.p99>50ms", 0, id="in another window"),
        pytest.param([(2100, 2140), (2300, 2340)], "window.p99>30ms", 12, id="two of them"),
        pytest.param([IN_PUSH], "service_p99>30ms", 12, id="from the send"),
        pytest.param([IN_PUSH], "rate<990", 12, id="as many as it had the time for"),
        pytest.param([IN_PUSH], "rate<1100", 11, id="fewer than that"),
    ],
)
def test_a_limit_in_a_closed_loop(pauses: list[tuple[int, int]], limit: str, code: int) -> None:
    """What nobody asked may have been slow: a limit that it could have missed is not passed."""
    verdict = judge(build_report(paused(*pauses, rate=None)), [parse_threshold(limit)])
    assert verdict.exit_code == code, verdict.reasons


def test_a_pause_of_one_process_of_two_is_half_a_pause() -> None:
    """The other one asked on: what is missing of the rate is not ours alone."""
    seen = paused(IN_PUSH, rate=None)
    seen.plan = msgspec.structs.replace(seen.plan, processes=2)
    assert judge(build_report(seen), [parse_threshold("rate<995")]).exit_code == 11


def test_a_quiet_window_in_which_a_closed_loop_saw_nothing_proves_no_excess() -> None:
    """It may have been as slow as the window of the push."""
    seen = paused(ELSEWHERE, rate=None, slow=SLOW)
    assert judge(build_report(seen), [parse_threshold("excess.p99>50ms")]).exit_code == 12


def test_the_reason_says_what_it_may_have_been() -> None:
    """Both figures, how often and how long we stood still, and what to do."""
    (late,) = judge(build_report(paused(IN_PUSH)), [parse_threshold("window.max>50ms")]).reasons
    assert late == (
        "window.max>50ms: it is 101 ms, but 1 ms from the send: the generator was late, not the "
        "server; use a machine with time to spare, or more --processes"
    )
    seen = paused((2100, 2140), (2300, 2340), rate=None)
    (blind,) = judge(build_report(seen), [parse_threshold("window.max>30ms")]).reasons
    assert blind == (
        "window.max>30ms: it is 1 ms, but may have been 41 ms in 2 pauses, the longest 40 ms, in "
        "which the generator stood still and saw nothing; use a machine with time to spare, or "
        "more --processes, or a --rate"
    )


def test_two_versions_may_have_answered_longer_than_we_saw() -> None:
    """The first answer of new code was read when a pause was over."""
    seen = paused((2950, 3050))
    seen.samples.version[3000:] = array("l", [2] * 3000)
    seen.samples.version[3100] = 1
    seen.samples.connection[:] = array("i", range(6000))
    report = build_report(seen)
    assert report.events[0].settled.overlap == 49_010_000
    for limit, code in (("overlap>40ms", 11), ("overlap>140ms", 12), ("overlap>150ms", 0)):
        assert judge(report, [parse_threshold(limit)]).exit_code == code, limit


@pytest.mark.asyncio(loop_factories=["uvloop"])  # a load process always runs on it
async def test_a_pause_that_leaves_the_run_valid_proves_no_limit() -> None:
    """The loop of the lines stands still for a sixth of a second, within a question."""
    seen = await served(partial(Holding, 160), connections=1)
    report = build_report(seen)
    limits = {"max>100ms": 12, "max>1s": 0, "answered<2": 0, "answered>2": 11}
    found = {text: judge(report, [parse_threshold(text)]).exit_code for text in limits}
    assert report.paused_s >= 0.25 or found == limits
