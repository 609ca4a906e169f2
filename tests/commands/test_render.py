"""Answers as text: what an operator reads, and what grep and awk can rely on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from netswap.commands import render

SHA = "0123456789abcdef" * 4
RESULT: dict[str, Any] = {
    "what": "push v2.py: done",
    "verdicts": [],
    "changes": [],
    "receipt": None,
    "dry_run": False,
    "only": None,
    "undo": "",
}
RECEIPT = {
    "objects": {"a.kind": 3, "b.kind": 0},
    "workers": 2,
    "blackout_us": 1234.5,
    "stall_us": 999.0,
    "convert_us": 12.0,
    "gone": 1,
    "dropped": 0,
}
WORKER = {"id": 0, "state": "serving", "pid": 7, "connections": 3, "restarts": 0}


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are of one place."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def result(**fields: Any) -> list[str]:
    """The lines of a receipt."""
    return render.receipt({**RESULT, **fields}).splitlines()


def test_a_receipt_names_verdict_revision_cost_and_the_way_back() -> None:
    """In this order, a line each."""
    verdict = {"kind": "a.kind", "old": 1, "new": 2, "verdict": "by migration",
               "reason": "steps 1 to 2", "lossy": ["seen", "name"]}  # fmt: skip
    change = {"kind": "a.kind", "new_revision": 4, "sha256": SHA}
    shown = result(verdicts=[verdict], changes=[change], receipt=RECEIPT, undo="netswap rollback")
    assert shown == [
        "push v2.py: done",
        "  a.kind  v1 → v2  by migration (steps 1 to 2), loses seen, name",
        "  a.kind  revision 4, bundle 0123456789ab",
        "  converted: a.kind 3, b.kind 0 in 2 workers",
        "  it took: 4.0 µs an object, blackout 1.23 ms, longest stall 1.00 ms, gone 1, dropped 0",
        "  undo with: netswap rollback",
    ]


def test_what_nothing_was_converted_for_has_no_cost_an_object() -> None:
    """A kind that is new has no live object that the time could be shared by."""
    took = result(receipt={**RECEIPT, "objects": {"a.kind": 0}})[-1]
    assert took.startswith("  it took: blackout 1.23 ms")
    none = {"objects": 0, "us_per_object": 0.0, "slowest": "", "slowest_us": 0.0}
    one = TRIED | {"objects": 1}
    assert list(render.rehearsal([one]))[0].startswith("  rehearsed: 1 object up")
    assert list(render.rehearsal([TRIED | none]))[1] == "  expected: longest stall 2.10 ms"


def test_an_atomic_push_says_for_how_long_nothing_was_served() -> None:
    """It is what the operator paid for it."""
    lines = result(receipt={**RECEIPT, "held_us": 45_678.0})
    assert lines[-1] == "  atomic: nothing was served for 45.68 ms"
    assert not any("atomic" in line for line in result(receipt=RECEIPT))


def test_a_dry_run_says_what_would_be_done_and_gives_no_times() -> None:
    """There was no blackout, and the revision has no number yet."""
    change = {"kind": "a.kind", "new_revision": None, "sha256": SHA}
    assert result(changes=[change], receipt=RECEIPT, dry_run=True)[1:] == [
        "  a.kind  a new revision, bundle 0123456789ab",
        "  to convert: a.kind 3, b.kind 0 in 2 workers",
    ]


def test_a_part_of_the_objects_is_told_as_such() -> None:
    """With what new objects are made of."""
    (_, only) = result(only="peer=127.0.0.1")
    assert only == "  only peer=127.0.0.1: new objects still get the committed version"


def test_a_swap_of_no_objects_is_told_in_words() -> None:
    """An empty list would be read as an error."""
    assert (
        "converted: no live objects in 2 workers" in result(receipt={**RECEIPT, "objects": {}})[1]
    )


def test_a_new_kind_has_one_version() -> None:
    """It came from nowhere."""
    line = {"kind": "k", "old": None, "new": 1, "verdict": "new", "reason": "was not there",
            "lossy": []}  # fmt: skip
    assert render.verdict(line) == "k  v1  new (was not there)"


def test_status_shows_workers_listeners_and_kinds() -> None:
    """And a transaction while one runs."""
    page: dict[str, Any] = {
        "uptime": 61.5,
        "pid": 42,
        "transaction": None,
        "listeners": [{"name": "echo", "address": "127.0.0.1:7000"},
                      {"name": "kv", "address": "127.0.0.1:6380"}],
        "workers": [{**WORKER}],
        "kinds": {"kv.store": {"version": 1, "revision": 2, "sha256": SHA, "objects": 2,
                               "by_version": {"10": 1, "9": 1}}},
    }  # fmt: skip
    text = render.status(page)
    assert text.splitlines()[:2] == [
        "up 1 min 1 s, pid 42",
        "listening: echo 127.0.0.1:7000, kv 127.0.0.1:6380",
    ]
    assert "running" not in text
    assert text.splitlines()[-1].split() == [
        "kv.store", "1", "2", "0123456789ab", "2", "v9:1", "v10:1",
    ]  # fmt: skip
    page["listeners"][0]["waits_for"] = "echo.connection"
    waiting = "echo 127.0.0.1:7000 (its clients wait for a push of echo.connection), kv"
    assert waiting in render.status(page)
    page["kinds"]["kv.store"]["pinned"] = 3
    assert "sessions of kv.store in older code: 3 (netswap blockers)" in render.status(page)
    page["transaction"] = "push v2.py"
    assert "running: push v2.py" in render.status(page)


def test_a_kind_without_code_has_dashes() -> None:
    """Such as a handle that waits for its service."""
    kinds = {"k": {"version": None, "revision": None, "sha256": "", "objects": 0, "by_version": {}}}
    page = {"uptime": 0, "pid": 1, "transaction": None, "listeners": [], "workers": [],
            "kinds": kinds}  # fmt: skip
    assert render.status(page).splitlines()[-1].split() == ["k", "-", "-", "-", "0", "-"]


@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        ({}, "-"),
        ({"stuck": True}, "does not answer"),
        ({"crash_loop": True, "stuck": True}, "crash loop, does not answer"),
    ],
)
def test_a_worker_in_trouble_has_a_remark(fields: dict[str, Any], remark: str) -> None:
    """Who looks at the table sees it."""
    assert render.workers([{**WORKER, **fields}]).splitlines()[1].endswith(f"  {remark}")


def test_a_dead_worker_has_no_process() -> None:
    """Its old number may be somebody else's."""
    row = render.workers([{**WORKER, "state": "dead", "pid": None}]).splitlines()[1]
    assert row.split() == ["0", "dead", "-", "3", "0", "-"]


def test_objects_and_one_object() -> None:
    """What an object is and, for one, what it holds."""
    row = {
        "id": "0.7",
        "kind": "k",
        "version": 1,
        "sha256": "",
        "attributes": {"peer": "a", "n": 2},
    }
    table = render.objects([row, {**row, "attributes": {}}]).splitlines()
    assert table[1].split() == ["0.7", "k", "1", "-", "peer=a", "n=2"]
    assert table[2].split()[-1] == "-"
    one = {**row, "implementation": "Echo", "state": {"text": "a\nb", "n": 3}}
    assert render.inspection(one).splitlines()[-4:] == [
        "n              2",
        "state:",
        r"  text = 'a\nb'",
        "  n = 3",
    ]


def test_versions_and_history() -> None:
    """Each with its time, what is active, and what was undone."""
    row = {"kind": "k", "number": 2, "version": 1, "sha256": SHA, "active": True, "objects": 5,
           "time": 0, "bundle": ""}  # fmt: skip
    table = render.versions([row, {**row, "active": False, "bundle": "v2.py"}]).splitlines()
    assert table[1].split() == [
        "k", "2", "1", "0123456789ab", "active", "5", "1970-01-01", "00:00:00", "-",
    ]  # fmt: skip
    assert table[2].split()[4::4] == ["-", "v2.py"]
    changes = [
        {"kind": "a", "old_revision": None, "new_revision": 1},
        {"kind": "b", "old_revision": 3, "new_revision": None},
    ]
    done = {"tx": 1, "time": 0, "outcome": "done", "command": "push a b", "changes": changes,
            "undone": True}  # fmt: skip
    (_, line) = render.history([done]).splitlines()
    assert "done (undone)  push a b  a -→1, b 3→?" in line


def test_old_code_is_told_of_with_what_holds_it() -> None:
    """A line each, and a line for each chain; the whole of a server says that there is some."""
    row = {"worker": 1, "kinds": {"k": 1, "l": 2}, "sha256": SHA, "standing": "held", "age": 65.0,
           "objects": 0, "held_by": ["json.hooks → function f (v1.py:3)"]}  # fmt: skip
    rows = [row, {**row, "standing": "pinned", "objects": 3, "held_by": []}]
    assert render.retiring(rows).splitlines() == [
        "worker 1: old code k v1, l v2 (bundle 0123456789ab) was given up 1 min 5 s ago "
        "and is still there",
        "  held by json.hooks → function f (v1.py:3)",
        "worker 1: old code k v1, l v2 (bundle 0123456789ab) is that of 3 live objects",
    ]
    (draining,) = render.retiring([{**rows[1], "standing": "draining"}]).splitlines()
    assert draining.endswith("ends when 3 calls have ended and what it has started has stopped")
    assert render.retiring([]) == ""
    page = {"uptime": 1, "pid": 7, "transaction": None, "listeners": [], "workers": [], "kinds": {}}
    assert "old code" not in render.status({**page, "retiring": rows[1:]})
    last = render.status({**page, "retiring": rows}).splitlines()[-1]
    assert last == "old code is held in 1 places: netswap versions"


def test_blockers_name_the_line_and_how_long() -> None:
    """What an operator has to look for."""
    row = {"worker": 1, "kind": "k", "entry": "1.5", "where": "v2.py:31", "age": 12.345}
    shown = render.blockers([row]).splitlines()[1]
    assert shown.split() == ["1", "k", "1.5", "v2.py:31", "12.3", "s"]


@pytest.mark.parametrize("show", [render.workers, render.objects, render.versions, render.history])
def test_a_table_of_nothing_is_its_head(show: Any) -> None:
    """A program that skips one line finds none."""
    assert len(show([]).splitlines()) == 1


TRIED: dict[str, Any] = {
    "worker": 0, "objects": 30, "seconds": 0.25, "us_per_object": 4.0, "slowest": "0.7",
    "slowest_us": 90.0, "stall_us": 2100.0, "fork_us": 1500.0, "large": 0, "untried": 0,
    "altered": {}, "failed": 0, "failures": [], "sample": False, "output": "",
}  # fmt: skip


def test_a_rehearsal_says_what_it_tried_and_what_it_expects() -> None:
    """All workers together: sums, the mean over all objects, and the worst."""
    other = TRIED | {"worker": 1, "objects": 10, "us_per_object": 8.0, "slowest": "1.9"}
    other |= {"slowest_us": 120.0, "stall_us": 900.0}
    assert list(render.rehearsal([TRIED, other])) == [
        "  rehearsed: 40 objects up and down again in 0.50 s, fork 1.50 ms",
        "  expected: 5.0 µs an object, 120 µs the slowest (1.9), longest stall 2.10 ms",
    ]
    assert list(render.rehearsal([])) == []


def test_what_a_rehearsal_could_not_try_is_said() -> None:
    """Too large, no time, not as it was, printed; and that there was none."""
    row = TRIED | {"large": 2, "untried": 5, "altered": {"k last": 3}, "output": "hello"}
    assert list(render.rehearsal([row]))[2:] == [
        "  worker 0: 2 objects were too large to compare",
        "  worker 0: 5 objects had no time left to be tried: give it a longer --timeout",
        "  worker 0: going back would not restore k last of 3 objects",
        "  worker 0: it prints: hello",
    ]
    (first, *_) = render.rehearsal([TRIED | {"sample": True}])
    assert first == "  no rehearsal: a sample of 30 objects was converted in the workers"
