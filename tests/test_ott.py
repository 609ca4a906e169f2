"""The table: rows are found by identity, kind, version and selector, and gone when removed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netswap.errors import UsageError
from netswap.ott import ATTRIBUTES, Entry, ObjectTranslationTable, Selector

KINDS = ("kv.connection", "kv.store", "timer.service")


class Thing:
    """What a row may point to."""

    def __init__(self, kind: str, version: int, **attributes: str | int) -> None:
        self.kind = kind
        self.version = version
        self._attributes = attributes

    def attributes(self) -> dict[str, str | int]:
        """What a selector may ask about."""
        return self._attributes


def row(version: int = 1, **attributes: str | int) -> Entry:
    """A row of the kind kv.connection with identity 7."""
    return Entry(7, "kv.connection", Thing("kv.connection", version, **attributes))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("kind=kv.connection", True),
        ("kind!=kv.connection", False),
        ("kind=kv.store", False),
        ("id=7", True),
        ("id!=7", False),
        ("id<7", False),
        ("id<=7", True),
        ("id>=7", True),
        ("id>6", True),
        ("version<10", True),
        ("version>=2", True),
        ("version>10", False),
        ("peer=127.0.0.1", True),
        ("peer!=127.0.0.2", True),
        ("peer<128", True),
        ("port>900", True),
        ("port=-5", False),
        ("depth=-3", True),
        ("depth>-4", True),
        (" kind = kv.connection , version < 10 ", True),
        ("kind=kv.connection,version>2", False),
        ("", True),
    ],
)
def test_a_condition_compares_numbers_as_numbers_and_the_rest_as_text(
    text: str, holds: bool
) -> None:
    """Every operator does what it says, on numbers (10 is not less than 9) and on text."""
    entry = row(2, peer="127.0.0.1", port=1000, depth=-3)
    assert Selector(text).matches(entry) is holds


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", ["abc", "--5", "1.5", "²", "1e3"])
def test_a_number_is_never_compared_with_text(operator: str, value: str) -> None:
    """A version that is no whole number matches nothing and is no error."""
    assert not Selector(f"version{operator}{value}").matches(row())


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
def test_an_attribute_that_an_object_lacks_never_matches(operator: str) -> None:
    """Also "not equal" is not true of what is not there."""
    assert not Selector(f"room{operator}lobby").matches(row())


@pytest.mark.parametrize(
    "text", ["kind", "=x", "kind=", "KIND=x", "kind~x", "a b=c", "kind=x,nonsense", "version<1 2"]
)
def test_a_wrong_condition_is_refused_with_its_place(text: str) -> None:
    """The error names the condition, the whole selector, and how to write one."""
    with pytest.raises(UsageError) as caught:
        Selector(text)
    assert caught.value.where == f"selector {text!r}"
    assert text.rpartition(",")[2].strip() in caught.value.what
    assert "NAME=VALUE" in caught.value.advice


def test_a_name_that_no_object_has_is_the_operators_error() -> None:
    """Nothing found would be no answer to a misspelled name; those that there are follow."""
    with pytest.raises(UsageError) as caught:
        Selector.of_operator("kind=kv.connection,verison<2")
    assert caught.value.what.startswith("no object has an attribute 'verison': there are kind, ")
    assert Selector.of_operator(",".join(f"{name}=1" for name in ATTRIBUTES)).conditions


def test_a_value_may_hold_operators() -> None:
    """Only the first operator divides; the value may hold more of them."""
    assert Selector("name=a=b<c").matches(row(name="a=b<c"))


def test_a_selector_knows_the_kind_that_it_is_limited_to() -> None:
    """Only equality limits to a kind."""
    assert Selector("version<2,kind=kv.store").kind() == "kv.store"
    assert Selector("kind!=kv.store").kind() is None


def test_rows_without_an_object_are_not_selected() -> None:
    """A handle whose object is yet to come matches nothing."""
    table = ObjectTranslationTable()
    table.create("kv.store")
    assert table.select(Selector("")) == []
    assert table.select(Selector("kind=kv.store")) == []
    assert table.by_version("kv.store") == {}


def test_a_row_is_removed_once() -> None:
    """The second time is our error."""
    table = ObjectTranslationTable()
    entry = table.create("kv.store", Thing("kv.store", 1))
    table.remove(entry)
    with pytest.raises(KeyError):
        table.remove(entry)


def test_handles_of_a_removed_row_point_to_nothing() -> None:
    """A late call finds no object instead of a dead one, and the identity finds no row."""
    table = ObjectTranslationTable()
    entry = table.create("kv.store", Thing("kv.store", 1))
    table.remove(entry)
    assert entry.target is None
    assert table.find(entry.identity) is None
    assert entry not in table


def test_rows_may_come_and_go_while_the_table_is_walked() -> None:
    """Walking sees the rows that there were at its beginning."""
    table = ObjectTranslationTable()
    first = [table.create("kv.store", Thing("kv.store", 1)) for _ in range(3)]
    seen = []
    for entry in table:
        seen.append(entry)
        table.remove(entry)
        table.create("kv.store", Thing("kv.store", 2))
    assert seen == first
    assert len(table) == 3


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_a_usage_error(text: str) -> None:
    """No text crashes the parser or the match."""
    try:
        selector = Selector(text)
    except UsageError:
        return
    assert selector.matches(row(2, peer="::1", port=1)) in {True, False}


class TableMachine(RuleBasedStateMachine):
    """The table against a dict of what should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ObjectTranslationTable()
        self.model: dict[int, tuple[Entry, str, int | None]] = {}
        self.used: set[int] = set()

    @rule(kind=st.sampled_from(KINDS), version=st.none() | st.integers(1, 3))
    def create(self, kind: str, version: int | None) -> None:
        """A row with an object, or with one that is to follow."""
        target = None if version is None else Thing(kind, version)
        entry = self.table.create(kind, target)
        assert entry.identity not in self.used, "an identity was used twice"
        assert entry.identity == self.table.newest
        self.used.add(entry.identity)
        self.model[entry.identity] = (entry, kind, version)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """An object closes."""
        identity = data.draw(st.sampled_from(sorted(self.model)))
        self.table.remove(self.model.pop(identity)[0])
        assert self.table.find(identity) is None

    @precondition(lambda self: self.model)
    @rule(data=st.data(), version=st.integers(1, 3))
    def flip(self, data: st.DataObject, version: int) -> None:
        """A swap changes the one pointer."""
        identity = data.draw(st.sampled_from(sorted(self.model)))
        entry, kind, _ = self.model[identity]
        entry.target = Thing(kind, version)
        self.model[identity] = (entry, kind, version)

    def expected(self, chosen: Any) -> list[Entry]:
        """The rows of the model for which ``chosen`` holds, oldest first."""
        return [row[0] for _, row in sorted(self.model.items()) if chosen(row)]

    @invariant()
    def agrees(self) -> None:
        """Every way to look gives what the model says."""
        assert list(self.table) == self.expected(lambda _: True)
        assert len(self.table) == len(self.model)
        assert self.table.kinds() == sorted({kind for _, kind, _ in self.model.values()})
        for kind in KINDS:
            rows = self.expected(lambda row, kind=kind: row[1] == kind)
            assert self.table.of_kind(kind) == rows
            assert self.table.count(kind) == len(rows)
            versions = [v for _, k, v in self.model.values() if k == kind and v is not None]
            assert self.table.by_version(kind) == {v: versions.count(v) for v in versions}
            chosen = self.table.select(Selector(f"kind={kind},version<3"))
            assert chosen == self.expected(
                lambda row, kind=kind: row[1] == kind and (row[2] or 3) < 3
            )
        for identity, (entry, _, _) in self.model.items():
            assert self.table.find(identity) is entry
            assert entry in self.table


TestTable = TableMachine.TestCase
