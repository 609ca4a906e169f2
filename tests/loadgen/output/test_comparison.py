"""Two runs side by side: the ratios are exact, and the verdict is of the one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from loadgen.cli import main
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.output.comparison import METRICS, compare, parse_limit, render_comparison
from loadgen.output.result import Result, build_result
from loadgen.plan import PlanError
from tests.loadgen.seen import pushed_at, steady_run


def result(slow: dict[int, int] | None = None, exit_code: int = 0, **changes: Any) -> Result:
    """A run of three seconds with a push."""
    seen = steady_run(3, pushed_at(1000, exit_code), slow=slow)
    for name, value in changes.items():
        setattr(seen.tally if hasattr(seen.tally, name) else seen, name, value)
    report = build_report(seen)
    return msgspec.convert(build_result(seen, report, judge(report)), Result)


SLOW = dict.fromkeys(range(1000, 1100), 3)  # 100 of 3,000 took 3 ms, within the push's window


def test_the_ratio_is_the_second_to_the_first() -> None:
    """Percentiles of the runs, of their curves, of their windows."""
    rows = {row.metric: row for row in compare(result(), result(SLOW)).rows}
    assert (rows["p99"].first, rows["p99"].second, rows["p99"].ratio) == (1000.0, 3000.0, 3.0)
    assert rows["p50"].ratio == rows["rate"].ratio == rows["null.max"].ratio == 1.0
    assert rows["window.p99"].ratio == 3.0
    assert rows["faults"].ratio is None
    assert rows.keys() == METRICS.keys()


def test_faults_are_compared_by_kind() -> None:
    """Those that there were; a kind that neither run had is in the JSON alone."""
    comparison = compare(result(lost=2), result(lost=6))
    rows = {row.metric: row for row in comparison.rows}
    assert (rows["lost"].ratio, rows["dropped"].first, rows["dropped"].ratio) == (3.0, 0.0, None)
    shown = [line.split()[0] for line in render_comparison(comparison).splitlines()]
    assert ("lost" in shown, "dropped" in shown) == (True, False)


def test_closes_in_order_are_compared_and_are_no_fault() -> None:
    """A ratio of their own, that can be limited; not told where neither run had one."""
    comparison = compare(result(closed=2), result(closed=6), [parse_limit("closed>2")])
    row = next(row for row in comparison.rows if row.metric == "closed")
    assert (row.first, row.second, row.ratio) == (2.0, 6.0, 3.0)
    assert comparison.verdict.reasons == ["closed>2: it is 3"]
    lines = [line.split() for line in render_comparison(comparison).splitlines()]
    assert ["closed", "2", "6", "3.00"] in lines
    assert ["faults", "0", "0", "-"] in lines
    assert "closed" not in render_comparison(compare(result(), result()))


ANOTHER = msgspec.structs.replace(result(), payload=64)


@pytest.mark.parametrize(
    ("first", "second", "limits", "code"),
    [
        (result(), result(SLOW), [], 0),
        (result(), result(SLOW), ["p99>3"], 0),
        (result(), result(SLOW), ["p99>2.9"], 11),
        (result(SLOW), result(), ["p99>1"], 0),
        (result(), result(), ["faults>1"], 11),  # nothing to nothing is no ratio
        (result(), ANOTHER, ["p99>9"], 12),
        (result(), msgspec.structs.replace(result(), scenario="churn"), [], 12),
        (result(trouble=["a process died"]), result(), [], 12),
        (result(), result(trouble=["a process died"]), [], 12),
        (result(), result(exit_code=20), ["p99>0.1"], 13),
        (result(), result(exit_code=20, lost=1), [], 10),
        (result(lost=1), result(), [], 0),  # what the first lost, the second does no more
    ],
)
def test_verdicts(first: Result, second: Result, limits: list[str], code: int) -> None:
    """10 and 13 are the second's own, 12 is no comparison, 11 a limit: the first of the table."""
    verdict = compare(first, second, [parse_limit(limit) for limit in limits]).verdict
    assert verdict.exit_code == code
    assert bool(verdict.reasons) == bool(code)


@pytest.mark.parametrize("text", ["p99", "p99>", "joy>1", "p99>1ms"])
def test_a_limit_that_is_none(text: str) -> None:
    """A ratio has no unit, and a metric has to be there."""
    with pytest.raises(PlanError):
        parse_limit(text)


def test_the_command(tmp_path: Path) -> None:
    """Two files, a table or JSON, the exit code of the verdict; a file that is none is usage."""
    names = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for name, kept in zip(names, (result(), result(SLOW)), strict=True):
        Path(name).write_bytes(msgspec.json.encode(kept))
    command = CliRunner()
    table = command.invoke(main, ["compare", *names])
    assert table.exit_code == 0
    rows = [line.split() for line in table.output.splitlines()]
    assert ["p99", "1", "ms", "3", "ms", "3.00"] in rows
    told = command.invoke(main, ["compare", *names, "--json", "--fail-on", "p99>2"])
    assert told.exit_code == 11
    assert json.loads(told.output)["reasons"] == ["p99>2: it is 3"]
    assert command.invoke(main, ["compare", names[0], str(tmp_path / "c")]).exit_code == 2
