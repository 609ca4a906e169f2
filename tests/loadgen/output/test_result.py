"""A run as JSON: the structs, the schema file and real runs say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema  # type: ignore[import-untyped]  # it has no types
import msgspec
import pytest

from loadgen import output
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.output.picture import draw_picture
from loadgen.output.result import Result, build_result, json_schema, read_result
from loadgen.plan import PlanError
from tests.loadgen.seen import pushed_at, steady_run

ADDED = {"paused_s", "faults_elsewhere", "asked_s"}
SCHEMA = Path(output.__file__).with_name("result.schema.json")


@pytest.fixture(scope="module")
def valid() -> Callable[[Any], Any]:
    """What an independent validator makes of the schema file."""
    made: Callable[[Any], Any] = fastjsonschema.compile(json.loads(SCHEMA.read_text()))
    return made


def plain(*events: Any, **changes: Any) -> Any:
    """The result of a steady run, as a reader of the JSON has it."""
    seen = steady_run(3, *events)
    report = build_report(seen)
    return json.loads(json.dumps({**build_result(seen, report, judge(report)), **changes}))


def test_the_schema_file_is_that_of_the_structs() -> None:
    """Made anew with ``python -m loadgen schema > loadgen/output/result.schema.json``."""
    assert SCHEMA.read_text() == json_schema()


def test_a_real_run_is_of_the_schema(
    server: Callable[[str, str], int], load: Callable[..., Any], valid: Callable[[Any], Any]
) -> None:
    """With events, faults and a version, and no field that the schema does not know."""
    done = load(
        "--protocol", "verify", "--port", server("verify", "corrupt"), "--connections", 2,
        "--rate", 200, "--duration", "500ms", "--run-at", "100ms=false",
        "--run-at", "200ms=echo [1]",
    )  # fmt: skip
    valid(done.report)
    assert done.report["examples"]
    assert done.report.keys() == {*Result.__struct_fields__}
    assert sum(done.report["timeline"]["faults"]) == done.report["counts"]["corrupted"] > 0
    assert [event["answer"] for event in done.report["events"]] == ["", [1]]
    again = msgspec.to_builtins(msgspec.convert(done.report, Result))
    assert again == done.report


def test_a_run_without_anything_is_of_the_schema(valid: Callable[[Any], Any]) -> None:
    """Nothing was measured: nulls, not missing fields."""
    seen = steady_run(1)
    empty = type(seen)(seen.plan, None)
    report = build_report(empty)
    valid(json.loads(json.dumps(build_result(empty, report, judge(report)))))


@pytest.mark.parametrize(
    "wrong", [{"schema": "other/1"}, {"latency_us": {"p99": "slow"}}, {"events": [{}]}]
)
def test_the_schema_refuses_what_is_not_one(
    valid: Callable[[Any], Any], wrong: dict[str, Any]
) -> None:
    """It is no schema that lets everything through."""
    valid(plain(pushed_at(500)))
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        valid(plain(pushed_at(500), **wrong))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    """And what is no saved run is told, with the file's name."""
    file = tmp_path / "run.json"
    file.write_text(json.dumps(plain(pushed_at(500))))
    assert read_result(file).counts["answered"] == 3000
    file.write_text('{"schema": "netswap/1"}')
    with pytest.raises(PlanError, match="run.json is no saved run"):
        read_result(file)


RUN = plain(pushed_at(500))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file"),
        ("<!doctype html>", "malformed: .*; write one with --save"),
        (json.dumps(RUN)[:-100], "truncated; write one with --save"),
        ('{"schema": "netswap/1", "kinds": {}}', "JSON of something else; write one with --save"),
        (json.dumps({**RUN, "schema": "netswap/2"}), "schema is netswap/2, and .* reads netswap/1"),
        (json.dumps({**RUN, "rate": 3}), r"`\$.rate`; compare it with .* schema prints"),
    ],
)
def test_a_file_that_is_no_run_is_told_why(tmp_path: Path, content: str | None, words: str) -> None:
    """What it is, and what to do, in a sentence."""
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PlanError, match=words):
        read_result(file)
    with pytest.raises(PlanError, match="Is a directory"):
        read_result(tmp_path)


def test_a_run_that_an_older_version_saved_is_read(tmp_path: Path) -> None:
    """Fields were added since, each with what it is when nobody said it."""
    old = {name: value for name, value in RUN.items() if name not in ADDED}
    old["timeline"] = {name: v for name, v in RUN["timeline"].items() if name != "kinds"}
    old["events"] = [
        {name: value for name, value in event.items() if name not in {"over_s", "window"}}
        for event in RUN["events"]
    ]
    file = tmp_path / "run.json"
    file.write_text(json.dumps(old))
    read = read_result(file)
    assert (read.faults_elsewhere, read.asked_s, read.timeline.kinds) == ({}, None, {})
    assert draw_picture({"old": read}, "An old run")
