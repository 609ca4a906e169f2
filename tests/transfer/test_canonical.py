"""The canonical form: what is encoded is decoded, by any class of the same kind and version."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.transfer import State, decode, encode
from netswap.transfer.canonical import Encoded, plain
from netswap.transfer.state import reference
from tests.transfer.conftest import Pushed

KIND = "kv.store"


class Store(State, kind=KIND, version=3):
    """A bit of everything."""

    data: dict[bytes, bytes] = {}
    names: list[str] = []
    due: dict[int, float] = {}
    tags: set[str] = set()
    nick: str | None = None
    count: int = 0
    chunks: deque[bytes] = reference(deque, list, deque)
    pairs: tuple[tuple[int, str], ...] = ()


STORES = st.builds(
    Store,
    data=st.dictionaries(st.binary(), st.binary(), max_size=4),
    names=st.lists(st.text(), max_size=4),
    due=st.dictionaries(st.integers(0, 2**40), st.floats(allow_nan=False), max_size=4),
    tags=st.sets(st.text(), max_size=4),
    nick=st.none() | st.text(),
    count=st.integers(-(2**63), 2**64 - 1),
    chunks=st.lists(st.binary(), max_size=4).map(deque),
    pairs=st.lists(st.tuples(st.integers(0, 9), st.text()), max_size=3).map(tuple),
)


@given(STORES)
def test_a_state_survives_its_canonical_form(store: Store) -> None:
    """Values and their types are the same afterwards, references by their stand-ins."""
    encoded = encode(store)
    again = decode(encoded, Store)
    assert again == store
    assert type(again) is Store
    assert isinstance(again.chunks, deque)
    assert decode(encode(again), Store) == store


@given(STORES)
def test_the_canonical_form_is_itself_plain(store: Store) -> None:
    """It crosses a process as a message, and names kind and version but no class."""
    encoded = encode(store)
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(encoded), type=Encoded)
    assert crossed == encoded
    assert (crossed.kind, crossed.version) == (KIND, 3)
    assert b"Store" not in encode(Store()).payload


@pytest.mark.parametrize("wrong", [("kv.other", 3), (KIND, 2)])
def test_another_kind_or_version_is_refused(wrong: tuple[str, int]) -> None:
    """A state is never read as what it is not."""
    encoded = msgspec.structs.replace(encode(Store()), kind=wrong[0], version=wrong[1])
    with pytest.raises(ValueError, match=f"{wrong[0]} version {wrong[1]} is not {KIND} version 3"):
        decode(encoded, Store)


def test_a_value_of_a_wrong_type_is_refused() -> None:
    """The error names the field."""
    payload = msgspec.msgpack.encode({"count": "many"})
    with pytest.raises(msgspec.ValidationError, match=r"\$\.count"):
        decode(Encoded(KIND, 3, payload), Store)


class Loose(State, kind="loose", version=1):
    """Anything may be put in here."""

    good: int = 1
    anything: Any = None


@pytest.mark.parametrize("value", [print, lambda: 1, object(), sys, 2**70])
def test_a_value_that_can_not_be_encoded_is_refused_by_name(value: object) -> None:
    """A callable that got into a field of type Any is found when the state is encoded."""
    with pytest.raises(TypeError, match=r"Loose\.anything can't be encoded: "):
        encode(Loose(anything=value))


def test_what_a_stand_in_raises_is_not_hidden() -> None:
    """A parser that can't say what it has read so far is the author's to mend."""

    class Parser(State, kind="p", version=1):
        reader: Any = reference(object, lambda _: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        encode(Parser())


def test_old_code_need_not_be_there_to_read_it(pushed: Pushed) -> None:
    """What one load of a module encoded, another load decodes into its own classes."""
    source = """
        import enum, msgspec
        from netswap import State
        class Colour(enum.Enum):
            RED = "red"
        class Row(msgspec.Struct):
            name: str = ""
        class Table(State, kind="k", version=1):
            rows: list[Row] = []
            colour: Colour | None = None
        """
    one, two = pushed(source), pushed(source)
    again: Any = decode(encode(one.Table([one.Row("a")], one.Colour.RED)), two.Table)
    assert type(again.rows[0]) is two.Row
    assert again.colour is two.Colour.RED


def test_a_state_that_has_no_canonical_form_can_be_looked_at() -> None:
    """Each field that can't be encoded says so beside what it holds; the others are as ever."""

    class Odd(State, kind="k", version=1):
        count: int = 0
        tree: list[Any] = []
        made: Any = reference(list, lambda _value: 1 // 0, list)
        name: str = ""

    odd = Odd(2**70, [], [1], "ann")
    odd.tree.append(odd.tree)
    shown = plain(odd)
    assert shown["name"] == "ann"
    assert shown["count"].startswith("1180591620717411303424 (TypeError: Odd.count can't be")
    assert "tree can't be encoded: maximum recursion depth" in shown["tree"]
    assert shown["made"].startswith("[1] (ZeroDivisionError")
    assert plain(Odd(1)) | {"made": 0} == {"count": 1, "tree": [], "made": 0, "name": ""}
