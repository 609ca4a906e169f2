"""The trial: a live object's state goes there and back, and must be as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from netswap import Service, State, reference
from netswap.events import Stage
from netswap.hotswap import Change
from netswap.ott import Entry
from netswap.stack import Host
from netswap.transfer import Migration
from netswap.worker import trial as trial_module
from netswap.worker.trial import Trial, refusal_of

KIND = "test.desk"


class Old(State, kind=KIND, version=1):
    """Names and what they owe."""

    debts: dict[str, int] = {}
    log: Any = reference(list)


class New(State, kind=KIND, version=2):
    """The same as pairs."""

    pairs: list[list[Any]] = []
    log: Any = reference(list)


class Desk1(Service[Old]):
    """The first version."""


class Desk2(Service[New]):
    """The second version."""


def up(old: dict[str, Any]) -> dict[str, Any]:
    """Dict to pairs."""
    return {"pairs": [list(row) for row in old["debts"].items()]}


def down(new: dict[str, Any]) -> dict[str, Any]:
    """Pairs to dict."""
    return {"debts": dict(new["pairs"])}


@pytest.fixture
def entry() -> Iterator[Entry]:
    """A desk that lives, with something in it."""
    loop = asyncio.new_event_loop()
    host = Host(loop, None)
    row = host.table.create(KIND)
    row.target = Desk1.born(host, row, Old({"ann": 3, "bob": 4}, ["a"]))
    yield row
    loop.close()


def change(forth: Any = up, back: Any = down) -> Change:
    """From the first version to the second by these steps."""
    steps = (Migration(KIND, 1, 2, forth, (), 1), Migration(KIND, 2, 1, back, (), 1))
    return Change(KIND, Desk2, Desk1, steps)


def clock(*times: int) -> Any:
    """A clock that shows these times, then no other."""
    return iter(times).__next__


def test_a_state_goes_there_and_back(entry: Entry) -> None:
    """What counts is how long the way there took; the object is as it was."""
    before = entry.target
    assert Trial([change()], clock(100, 175)).run(entry) == 75
    assert entry.target is before
    assert before.state == Old({"ann": 3, "bob": 4}, ["a"])


def test_the_way_back_starts_from_the_canonical_form(entry: Entry) -> None:
    """A state that can't be written down and read again is no state."""

    class Odd:
        pass

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        return {"pairs": [[Odd(), 1]]}

    with pytest.raises(TypeError, match="Odd"):
        Trial([change(forth)], clock(0, 0)).run(entry)


def test_a_step_that_fails_on_the_way_back_fails_the_trial(entry: Entry) -> None:
    """A push that can't be undone is not begun."""

    def back(new: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("debts")

    with pytest.raises(KeyError, match="debts"):
        Trial([change(back=back)], clock(0, 0)).run(entry)


def test_a_step_that_changes_what_it_was_given_is_found(entry: Entry) -> None:
    """After an abort the old object would serve on with a state that was half taken apart."""

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        debts = old["debts"]
        return {"pairs": [list(debts.popitem())]}

    with pytest.raises(TypeError, match=r"from version 1 to 2 changed the old state; a step"):
        Trial([change(forth)], clock(0, 0)).run(entry)


def test_what_is_handed_on_by_reference_may_be_shared(entry: Entry) -> None:
    """A step that keeps a container of the old state has changed nothing."""
    same = Change(KIND, Desk1, Desk1, ())
    assert Trial([same], clock(0, 5)).run(entry) == 5


def test_a_large_state_is_not_encoded(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps run there and back all the same; its canonical form would take seconds."""
    monkeypatch.setattr(trial_module, "LARGE", 1)
    monkeypatch.setattr(trial_module, "encode", None)
    monkeypatch.setattr(trial_module, "decode", None)
    ways: list[str] = []

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        ways.append("up")
        return up(old)

    def back(new: dict[str, Any]) -> dict[str, Any]:
        ways.append("down")
        return down(new)

    assert Trial([change(forth, back)], clock(10, 30)).run(entry) == 20
    assert ways == ["up", "down"]


def test_a_failure_is_refused_with_the_object_and_what_to_do(entry: Entry) -> None:
    """The refusal names kind and entry; before the first object it knows neither."""
    refusal = refusal_of(ValueError("no"), entry, [change()])
    assert refusal.stage == Stage.PREPARE
    assert refusal.reason == f"converting {KIND} failed in the rehearsal: ValueError: no"
    assert (refusal.kind, refusal.entry) == (KIND, str(entry.identity))
    assert "nothing was touched" in refusal.advice
    assert refusal_of(ValueError("no"), None, [change()]).entry is None
