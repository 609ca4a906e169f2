"""The trial: a live object's state goes there and back, and must be as it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from time import thread_time_ns
from typing import Any

import pytest

from netswap import Connection, Service, State, invariant, reference
from netswap.errors import DeadlinePassed
from netswap.events import Stage
from netswap.hotswap import Change
from netswap.ott import Entry
from netswap.stack import Host
from netswap.transfer import Migration
from netswap.worker import trial as trial_module
from netswap.worker.trial import Altered, OneWay, Passed, Trial, Trials, refusal_of

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
    return old | {"pairs": [list(row) for row in old["debts"].items()]}


def down(new: dict[str, Any]) -> dict[str, Any]:
    """Pairs to dict."""
    return new | {"debts": dict(new["pairs"])}


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
    assert Trial([change()], clock(100, 175)).run(entry) == Passed(75)
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
        return old | {"pairs": [list(debts.popitem())]}

    with pytest.raises(TypeError, match=r"from version 1 to 2 changed the old state; a step"):
        Trial([change(forth)], clock(0, 0)).run(entry)


def test_what_is_handed_on_by_reference_may_be_shared(entry: Entry) -> None:
    """A step that keeps a container of the old state has changed nothing."""
    same = Change(KIND, Desk1, Desk1, ())
    assert Trial([same], clock(0, 5)).run(entry) == Passed(5)


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

    assert Trial([change(forth, back)], clock(10, 30)).run(entry) == Passed(20, large=True)
    assert ways == ["up", "down"]


def test_a_failure_is_refused_with_the_object_and_what_to_do(entry: Entry) -> None:
    """The refusal names kind and entry; before the first object it knows neither."""
    refusal = refusal_of(ValueError("no"), entry, [change()])
    assert refusal.stage == Stage.PREPARE
    assert refusal.reason == f"converting {KIND} failed in the rehearsal: ValueError: no"
    assert (refusal.kind, refusal.entry) == (KIND, str(entry.identity))
    assert "nothing was touched" in refusal.advice
    assert refusal_of(ValueError("no"), None, [change()]).entry is None


def forgets(old: dict[str, Any]) -> dict[str, Any]:
    """Up, without what ann owes."""
    pairs = [list(row) for row in old["debts"].items() if row[0] != "ann"]
    return old | {"pairs": pairs}


def test_a_state_that_does_not_come_back_as_it_was_is_refused(entry: Entry) -> None:
    """The field, both values, and what a step that means it has to say."""
    with pytest.raises(Altered) as caught:
        Trial([change(forgets)], clock(0, 0)).run(entry)
    text = str(caught.value)
    assert "debts was {'ann': 3, 'bob': 4} and comes back as {'bob': 4} from version 2" in text
    assert 'lossy=["debts"]' in text


@pytest.mark.parametrize(
    ("up_gives_up", "down_gives_up", "allowed"),
    [
        ({"lossy": ("debts",)}, {}, False),
        ({}, {"lossy": ("pairs",)}, False),
        ({}, {}, True),
    ],
)
def test_what_is_given_up_need_not_come_back(
    entry: Entry, up_gives_up: Any, down_gives_up: Any, allowed: bool
) -> None:
    """A step says so in either direction, or the operator does; the report counts the object."""
    steps = (
        Migration(KIND, 1, 2, forgets, (), 1)._replace(**up_gives_up),
        Migration(KIND, 2, 1, down, (), 1)._replace(**down_gives_up),
    )
    lossy = Change(KIND, Desk2, Desk1, steps)
    passed = Trial([lossy], clock(0, 9), allow_lossy=allowed).run(entry)
    assert passed == Passed(9, altered=("debts",))


def test_what_is_made_again_from_the_rest_is_not_worth_a_word(entry: Entry) -> None:
    """A cache or a hint may come back another."""
    steps = (Migration(KIND, 1, 2, forgets, (), 1, ("debts",)), Migration(KIND, 2, 1, down, (), 1))
    assert Trial([Change(KIND, Desk2, Desk1, steps)], clock(0, 9)).run(entry) == Passed(9)


def test_an_older_version_need_not_keep_what_it_does_not_know(entry: Entry) -> None:
    """A rollback is not refused for it; the report says which fields."""

    def back(new: dict[str, Any]) -> dict[str, Any]:
        return down(new) | {"debts": {}}

    entry.target = Desk2.born(entry.target.host, entry, New([["ann", 3]]))
    older = change(back=back)._replace(new=Desk1, before=Desk2)
    trials = Trials(Trial([older], clock(0, 9)), [older], 0)
    trials.run([entry], clock(0), 9)
    assert trials.refusal() is None
    assert trials.report().altered == {f"{KIND} pairs": 1}


def test_a_rollback_whose_outcome_can_not_come_up_again_has_to_be_asked_for(entry: Entry) -> None:
    """It is told what is given up by that; with the way back a watch or a canary needs, never."""

    def back(_new: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no such pair")

    older = change(forth=back)._replace(new=Desk1, before=Desk2)
    entry.target = Desk2.born(entry.target.host, entry, New([["ann", 3]]))
    with pytest.raises(OneWay, match="from version 1 it can't come back: LookupError") as refused:
        Trial([older], clock(0, 9)).run(entry)
    advice = refusal_of(refused.value, entry, [older], 0).advice
    assert advice.startswith("--allow-lossy goes there all the same")
    passed = Trial([older], clock(0, 9), allow_lossy=True).run(entry)
    assert passed == Passed(9, altered=("pairs", "log"))
    with pytest.raises(LookupError, match="no such pair"):
        Trial([older], clock(0, 9), allow_lossy=True, probation=True).run(entry)
    entry.target = Desk1.born(entry.target.host, entry, Old({"ann": 3}))
    with pytest.raises(LookupError, match="no such pair"):
        Trial([change(back=back)], clock(0, 9), allow_lossy=True).run(entry)


def test_another_field_than_the_one_given_up_has_to_come_back(entry: Entry) -> None:
    """What is declared is meant by name."""

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        return forgets(old) | {"log": []}

    steps = (Migration(KIND, 1, 2, forth, ("debts",), 1), Migration(KIND, 2, 1, down, (), 1))
    with pytest.raises(Altered, match="log was"):
        Trial([Change(KIND, Desk2, Desk1, steps)], clock(0, 0)).run(entry)


class Odd(State, kind=KIND, version=1):
    """Values whose equality is not that of their bytes, or the other way round."""

    names: set[str] = set()
    worst: float = 0.0
    pair: Any = ()
    hidden: Any = reference(dict, lambda _: None, lambda _: {})


class OddDesk(Service[Odd]):
    """Keeps odd values."""


def test_equal_is_what_has_the_same_canonical_form(entry: Entry) -> None:
    """Sets in another order, a number that is not one, a tuple that came back as a list."""
    names = {f"name {number}" for number in range(100)}
    entry.target = OddDesk.born(
        entry.target.host, entry, Odd(names, float("nan"), (1, 2), {"a": 1})
    )
    same = Change(KIND, OddDesk, OddDesk, ())
    assert Trial([same], clock(0, 1)).run(entry) == Passed(1)


def test_an_automatic_step_drops_a_field_and_says_so(entry: Entry) -> None:
    """That is no failure: the verdict names the field, and the report counts the object."""

    class Bare(State, kind=KIND, version=2):
        log: Any = reference(list)

    class BareDesk(Service[Bare]):
        pass

    passed = Trial([Change(KIND, BareDesk, Desk1, ())], clock(0, 2)).run(entry)
    assert passed == Passed(2, altered=("debts",))


class Forgets(State, kind=KIND, version=2):
    """Without the debts, which nobody meant: they have another name."""

    owed: dict[str, int] = {}
    log: Any = reference(list)


class ForgetsDesk(Service[Forgets]):
    """Drops what is in a field."""


FORGETS = Change(KIND, ForgetsDesk, Desk1, ())


@pytest.mark.parametrize("large", [False, True])
def test_on_probation_what_is_in_a_dropped_field_has_to_come_back(
    entry: Entry, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch goes back unasked: the debts would be gone, however many they are."""
    monkeypatch.setattr("netswap.worker.trial.LARGE", 0 if large else 1000)
    with pytest.raises(Altered, match="version 2, which drops it, and a watch") as told:
        Trial([FORGETS], clock(0, 2), probation=True).run(entry)
    assert 'renamed={"debts": "..."}' in str(told.value)
    for allowed in ({}, {"allow_lossy": True, "probation": True}):
        assert Trial([FORGETS], clock(0, 2), **allowed).run(entry).large is large


def test_on_probation_a_dropped_field_with_its_default_is_no_loss(entry: Entry) -> None:
    """The way back makes it as it was."""
    entry.target.state.debts.clear()
    assert Trial([FORGETS], clock(0, 2), probation=True).run(entry) == Passed(2)


class Bounded(State, kind=KIND, version=2):
    """Pairs, of which there are few."""

    pairs: list[list[Any]] = []
    log: Any = reference(list)

    @invariant
    def pairs_are_few(self) -> bool:
        return len(self.pairs) < 2


class BoundedDesk(Service[Bounded]):
    """The second version, with an invariant."""


def test_the_invariants_of_the_new_class_are_asked(entry: Entry) -> None:
    """The refusal names the method with its file and line, and the object."""
    bounded = change()._replace(new=BoundedDesk)
    trials = Trials(Trial([bounded], clock(0, 0)), [bounded], slot=3)
    trials.run([entry], clock(0), 9)
    refusal = trials.refusal()
    assert refusal is not None
    assert (
        "after the conversion the invariant Bounded.pairs_are_few does not hold" in refusal.reason
    )
    assert (refusal.file or "").endswith("test_trial.py")
    assert refusal.entry == f"3.{entry.identity}"
    entry.target.state.debts.popitem()
    assert Trial([bounded], clock(0, 1)).run(entry) == Passed(1)


class Wakes(Connection[Old]):
    """Has a method that a timer may name."""

    def wake(self) -> None:
        """For a timer."""


class Sleeps(Connection[New]):
    """Has no such method any more."""


class Armed:
    """A connection's timers, one of which is armed."""

    def remaining(self, name: str) -> float | None:
        """Seconds until it fires."""
        return 5.0 if name == "wake" else None


@pytest.mark.parametrize(("new", "says"), [(Sleeps, "its timer wake is armed"), (Wakes, "")])
def test_an_armed_timer_has_to_find_its_method(entry: Entry, new: Any, says: str) -> None:
    """It keeps a name, which the new version must know."""
    old: Any = Wakes.__new__(Wakes)
    old.state, old._timers, entry.target = Old(), Armed(), old
    trials = Trials(Trial([change()._replace(new=new)], clock(0, 0)), [change()], 0)
    trials.run([entry], clock(0), 9)
    reasons = [failure.reason for failure in trials.failures]
    assert (says in reasons[0]) if says else not reasons


def test_all_objects_are_tried_and_the_first_failures_named(entry: Entry) -> None:
    """One reason may be met by thousands, and others behind it are to be found in the same go."""
    host = entry.target.host

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        if old["debts"]["bob"] % 2:
            raise ValueError("odd")
        return up(old)

    rows = []
    for number in range(60):
        row = host.table.create(KIND)
        row.target = Desk1.born(host, row, Old({"bob": number}))
        rows.append(row)
    gone = host.table.create(KIND)
    ticks = iter(range(10_000)).__next__
    trials = Trials(Trial([change(forth)], ticks), [change(forth)], slot=1)
    trials.run([*rows, gone], ticks, 10_000)
    report, refusal = trials.report(), trials.refusal()
    assert refusal is not None
    assert (report.objects, report.failed, report.untried) == (30, 30, 0)
    assert [failure.entry for failure in report.failures] == [
        f"1.{row.identity}" for row in rows[1:20:2]
    ]
    assert f"(and 29 more objects: 1.{rows[3].identity}, " in refusal.reason
    assert refusal.reason.endswith("…)")
    assert report.us_per_object == 0.001
    assert report.slowest_us == 0.001


def test_objects_for_which_there_is_no_time_are_counted(entry: Entry) -> None:
    """Nobody takes them for tried."""
    trials = Trials(Trial([change()], clock(0, 1)), [change()], 0)
    trials.run([entry, entry, entry], clock(5, 10, 11), 9)
    assert (trials.report().objects, trials.report().untried) == (1, 2)


@pytest.mark.parametrize("error", [DeadlinePassed("late"), MemoryError()])
def test_what_may_not_go_on_ends_the_trials(entry: Entry, error: BaseException) -> None:
    """Time and memory are over for all of them."""

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        raise error

    trials = Trials(Trial([change(forth)], lambda: 0), [change(forth)], 0)
    trials.run([entry, entry], lambda: 0, 9)
    assert trials.report().failed == 1


@pytest.mark.parametrize("build", [True, False], ids=["in the child", "on the loop"])
def test_a_step_that_stands_still_is_refused(entry: Entry, build: bool) -> None:
    """It takes no processor time, and would hold the loop; one is enough to know.

    On the loop nothing is tried twice: there its deadline ends it.
    """
    naps: list[int] = []

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        naps.append(1)
        threading.Event().wait(1.5 * trial_module.BLOCKED_S)
        return up(old)

    trials = Trials(Trial([change(forth)], thread_time_ns, build=build), [change(forth)], 0)
    trials.run([entry, entry], lambda: 0, 9)
    report, refusal = trials.report(), trials.refusal()
    if not build:
        assert (report.failed, refusal, len(naps)) == (0, None, 2)
        return
    assert (report.failed, len(naps)) == (1, 2)
    assert refusal is not None
    assert (
        "converting test.desk failed in the rehearsal: it stood still for at least 0.1"
        in refusal.reason
    )
    assert refusal.entry == f"0.{entry.identity}"


def test_a_step_that_computes_for_long_does_not_stand_still(entry: Entry) -> None:
    """Nor one that waits for its processor: it is tried again, and then it is known."""

    def forth(old: dict[str, Any]) -> dict[str, Any]:
        until = thread_time_ns() + int(1.5e9 * trial_module.BLOCKED_S)
        while thread_time_ns() < until:
            pass
        return up(old)

    trials = Trials(Trial([change(forth)], lambda: 0, build=True), [change(forth)], 0)
    trials.run([entry], lambda: 0, 9)
    assert trials.report().failed == 0
