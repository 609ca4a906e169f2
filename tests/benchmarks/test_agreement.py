"""What the witness benchmark makes of its figures: pure arithmetic, without a tool or a server."""

from __future__ import annotations

import pytest

from benchmarks.witness.agreement import apart, exact, little, medians, noise, server_side
from benchmarks.witness.recorder import Stamp, name_of
from benchmarks.witness.tools import SHARES, Run, percentiles
from loadgen.continuity import Tally
from loadgen.dialects import DIALECTS, Opening
from loadgen.samples import Samples

US = 1_000


def run(rate=100.0, cpu_us=10.0, mean_us=1000.0, **latency):
    return Run(rate, cpu_us, {share: latency.get(share, 1000.0) for share in SHARES}, mean_us)


def seen(*rows):
    """Operations as the load generator has them: the connection, when sent, when done (us)."""
    samples = Samples.empty()
    for connection, sent, done in rows:
        samples.intended.append(sent * US)
        samples.sent.append(sent * US)
        samples.done.append(done * US)
        samples.version.append(-1)
        samples.connection.append(connection)
    return samples


def stamp(name, received, answered):
    return Stamp(name, received * US, answered * US)


def test_the_median_is_of_each_figure():
    """A round that was quick and busy gives its rate to one median and its time to another."""
    rounds = [run(rate=1, p99=9), run(rate=3, cpu_us=7, p99=5), run(rate=2, mean_us=8, p99=7)]
    middle = medians(rounds)
    assert (middle.rate, middle.cpu_us, middle.mean_us) == (2, 10, 1000)
    assert middle.latency["p99"] == 7


def test_percentiles_are_told_apart_as_ratios():
    """The first to the second."""
    ratios = apart(run(p50=300.0).latency, run(p50=200.0).latency)
    assert ratios["p50"] == 1.5
    assert {ratios[share] for share in SHARES if share != "p50"} == {1.0}


def test_the_noise_is_the_widest_of_the_tools_that_disagree_with_themselves():
    """Between two runs of one tool; what another tool says is no noise."""
    quiet, loud = (
        [run(p99=100.0), run(p99=110.0)],
        [run(p99=900.0), run(p99=1800.0), run(p99=1000.0)],
    )
    assert noise([quiet, loud])["p99"] == 2.0
    assert noise([quiet, loud])["p50"] == 1.0
    assert noise([quiet])["p99"] == pytest.approx(1.1)


@pytest.mark.parametrize(("forgotten", "ratio"), [(0, 1.0), (30, 0.7)])
def test_little_finds_a_tool_that_forgets_operations(forgotten, ratio):
    """50 connections, each answered in 1 ms, are 50,000 a second; less is told than was done."""
    told = run(rate=50_000 * (100 - forgotten) / 100, mean_us=1000.0)
    assert little([told], 50) == pytest.approx(ratio)
    assert little([told, told, run(rate=1.0)], 50) == pytest.approx(ratio), "the median"


def test_two_witnesses_of_the_same_operations():
    """By connection and number; how much longer each took for the client."""
    ours = seen((0, 100, 400), (1, 110, 500), (0, 500, 900))
    stamps = [stamp("0:1", 520, 880), stamp("1:0", 150, 450), stamp("0:0", 130, 370)]
    both = exact(ours, stamps)
    assert (both.both, both.alone, both.out_of_order) == (3, 0, 0)
    assert (both.difference["p50"], both.difference["max"]) == (60.0, 90.0)
    assert (both.ours["max"], both.theirs["max"]) == (400.0, 360.0)


@pytest.mark.parametrize(
    ("stamps", "alone"),
    [
        ([stamp("0:0", 110, 190)], 1),  # the server never saw the second
        ([stamp("0:0", 110, 190), stamp("0:1", 210, 290), stamp("0:2", 310, 390)], 1),
        ([stamp("0:0", 110, 190), stamp("9:1", 210, 290)], 2),  # each has one of its own
        ([], 2),
    ],
)
def test_an_operation_that_one_alone_has_seen_is_counted(stamps, alone):
    """Whoever of the two it was."""
    assert exact(seen((0, 100, 200), (0, 200, 300)), stamps).alone == alone


def test_the_last_request_of_another_client_is_nobodys_to_have_seen():
    """h2load ends with requests open: their answers are stamped in the next run."""
    stamps = [stamp("", 10, 105), stamp("0:0", 110, 190)]
    both = exact(seen((0, 100, 200)), stamps)
    assert (both.both, both.alone) == (1, 0)


@pytest.mark.parametrize(
    ("received", "answered"),
    [(90, 150), (110, 210), (160, 150)],
    ids=["received before it was sent", "answered after it was done", "answered before received"],
)
def test_times_that_can_not_be_are_found(received, answered):
    """Sent, received, answered, done: no other order is possible on one clock."""
    sound = exact(seen((0, 100, 200)), [stamp("0:0", 100, 200)])
    assert sound.out_of_order == 0
    assert exact(seen((0, 100, 200)), [stamp("0:0", received, answered)]).out_of_order == 1


def test_the_servers_side_is_from_received_to_answered():
    """By nearest rank, microseconds; of nothing it is nothing."""
    stamps = [stamp(str(k), 0, k + 1) for k in range(100)]
    told = server_side(stamps)
    assert (told["p50"], told["p99"], told["max"]) == (50.0, 99.0, 100.0)
    assert set(percentiles([]).values()) == {0.0}


def test_the_recorder_finds_the_name_of_a_question():
    """Where the load generator's http has written it; another tool's question has none."""
    talk = DIALECTS["http"](Opening(3, 32, "a0f1", Tally()))
    for number in range(2):
        body = talk.request(0, 0).partition(b"\r\n\r\n")[2]
        assert name_of(body) == f"3:{number}"
    assert name_of(b"x" * 32) == ""
