"""The way between two shapes is found, judged before it is walked, and never guessed."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.events import Verdict
from netswap.transfer import Migration, State, Transfer, plan_transfer
from netswap.transfer.state import reference
from tests.transfer.conftest import Pushed

KIND = "chat.connection"


class V1(State, kind=KIND, version=1):
    """A text and a nickname."""

    text: str = ""
    nick: str = ""
    items: list[int] = []


class V1Again(State, kind=KIND, version=1):
    """The same shape from another module, its fields in another order."""

    items: list[int] = []
    nick: str = ""
    text: str = ""


class V2(State, kind=KIND, version=2, renamed={"nick": "name"}):
    """The nickname has another name, and there is a count."""

    text: str = ""
    name: str = ""
    items: list[int] = []
    seen: int = 5


class V3(State, kind=KIND, version=3):
    """The text became bytes."""

    partial: bytes = b""
    name: str = ""
    items: list[int] = []
    seen: int = 0


class V4(State, kind=KIND, version=4):
    """One field less, one more."""

    partial: bytes = b""
    name: str = ""
    items: list[int] = []
    room: str = "lobby"


def up(old: dict[str, Any]) -> dict[str, Any]:
    """Text to bytes."""
    return old | {"partial": old["text"].encode()}


def down(new: dict[str, Any]) -> dict[str, Any]:
    """Bytes to text."""
    return new | {"text": new["partial"].decode()}


UP = Migration(KIND, 2, 3, up, (), 1)
DOWN = Migration(KIND, 3, 2, down, (), 1)
PAIR = (UP, DOWN)


def step(source: int, target: int, outcome: Any, lossy: tuple[str, ...] = ()) -> Migration:
    """A step that gives what it is told to, on top of what it is given."""

    def walk(old: dict[str, Any]) -> Any:
        return old | outcome if isinstance(outcome, dict) else outcome

    return Migration(KIND, source, target, walk, lossy, 1)


def verdict(way: Transfer) -> tuple[Verdict, str]:
    """What the plan says."""
    return way.verdict, way.reason


def test_the_same_shape_of_the_same_version_crosses_as_it_is() -> None:
    """By reference: a new struct around the same values, whatever their order."""
    way = plan_transfer(V1, V1Again, ())
    assert verdict(way) == (Verdict.AS_IS, "same format, version 1")
    old = V1("a", "b", [1])
    new: Any = way.convert(old)
    assert (new.text, new.nick, type(new)) == ("a", "b", V1Again)
    assert new.items is old.items


def test_another_shape_under_the_same_number_is_refused() -> None:
    """The reason names what changed and the number to give it."""

    class Changed(State, kind=KIND, version=1):
        text: bytes = b""
        nick: str = ""

    way = plan_transfer(V1, Changed, ())
    assert way.verdict is Verdict.INCOMPATIBLE
    assert "(items, text)" in way.reason
    assert "make it version=2" in way.reason


def test_adding_dropping_and_renaming_need_no_code() -> None:
    """There and back, with defaults for what was not there."""
    way = plan_transfer(V1, V2, ())
    assert verdict(way) == (Verdict.AUTOMATIC, "adds seen; renames nick")
    assert way.convert(V1("a", "b", [1])) == V2("a", "b", [1], 5)
    back = plan_transfer(V2, V1, ())
    assert verdict(back) == (Verdict.AUTOMATIC, "drops seen; renames name")
    assert back.convert(V2("a", "b", [1], 7)) == V1("a", "b", [1])


def test_a_new_name_that_later_versions_repeat_is_kept_on_every_way() -> None:
    """A version that goes on saying how a field was once called has it there and back."""

    class First(State, kind="k", version=1):
        lines: int = 0

    class Second(State, kind="k", version=2, renamed={"lines": "count"}):
        count: int = 0

    class Third(State, kind="k", version=3, renamed={"lines": "count"}):
        count: int = 0
        seen: int = 0

    class Fourth(State, kind="k", version=4, renamed={"lines": "count", "count": "total"}):
        total: int = 0

    versions: tuple[tuple[type[State], str], ...] = (
        (First, "lines"),
        (Second, "count"),
        (Third, "count"),
        (Fourth, "total"),
    )
    for old, before in versions:
        for new, after in versions:
            way = plan_transfer(old, new, ())
            assert getattr(way.convert(old(**{before: 7})), after) == 7, (old, new)
            assert before not in way.given_up
    assert plan_transfer(Third, Second, ()).reason == "drops seen"


def test_renaming_in_a_circle_ends() -> None:
    """Two names that became each other are no reason to look for ever."""

    class Old(State, kind="k", version=1):
        x: int = 1

    class New(State, kind="k", version=2, renamed={"x": "y", "y": "x"}):
        z: int = 2

    assert plan_transfer(Old, New, ()).convert(Old(7)) == New(2)
    assert plan_transfer(New, Old, ()).convert(New(7)) == Old(1)


def test_names_that_are_handed_on_need_a_step() -> None:
    """Whether they have been handed on already nobody could tell of the version after it."""

    class Old(State, kind="k", version=1):
        x: int = 1
        y: int = 2

    class Swapped(State, kind="k", version=2, renamed={"x": "y", "y": "x"}):
        x: int = 1
        y: int = 2

    class Shifted(State, kind="k", version=2, renamed={"x": "y", "y": "z"}):
        y: int = 2
        z: int = 3

    for new in (Swapped, Shifted):
        way = plan_transfer(Old, new, ())
        assert way.verdict is Verdict.INCOMPATIBLE
        assert way.reason.startswith("x would become y, which gets another name itself: write @mig")
    steps = (Migration("k", 1, 2, lambda old: {"x": old["y"], "y": old["x"]}, (), 1),)
    assert plan_transfer(Old, Swapped, steps).convert(Old(10, 20)) == Swapped(20, 10)


def test_a_name_that_is_given_anew_needs_a_step() -> None:
    """On the way down two fields would become one, and in a later version nobody knows which is."""

    class Old(State, kind="k", version=1):
        user: str = ""

    class New(State, kind="k", version=2, renamed={"user": "user_id"}):
        user_id: str = ""
        user: str = "display name"

    class Newer(State, kind="k", version=3, renamed={"user": "user_id"}):
        user_id: str = ""
        user: str = ""

    assert plan_transfer(Old, New, ()).convert(Old("u1")) == New("u1", "display name")
    for old, new, hop in ((New, Old, '"k", 2, 1'), (New, Newer, '"k", 2, 3')):
        way = plan_transfer(old, new, ())
        assert way.verdict is Verdict.INCOMPATIBLE
        assert "would both become user" in way.reason
        assert way.reason.endswith(f"write @migration({hop})")
    down = Migration("k", 2, 1, lambda old: {"user": old["user_id"]}, ("user",), 1)
    assert plan_transfer(New, Old, (down,)).convert(New("u1", "U")) == Old("u1")


def test_a_field_that_may_have_another_name_now_is_told() -> None:
    """Without renamed= what is in it would be dropped, which nobody meant."""

    class Ledger(State, kind="k", version=1):
        lines: dict[str, int] = {}
        seen: bool = False

    class Renamed(State, kind="k", version=2):
        sums: dict[str, int] = {}

    hint = 'if lines is sums now, renamed={"lines": "sums"} would keep what is in it'
    assert plan_transfer(Ledger, Renamed, ()).reason == f"adds sums; drops lines, seen; {hint}"


def test_a_version_more_without_a_change_is_automatic() -> None:
    """The reason says that there is nothing to do."""

    class Next(State, kind="k", version=2):
        a: int = 1

    class First(State, kind="k", version=1):
        a: int = 1

    assert verdict(plan_transfer(First, Next, ())) == (Verdict.AUTOMATIC, "the fields agree")


class Text1(State, kind="text", version=1):
    """A text."""

    text: str = ""


class Text2(State, kind="text", version=2):
    """The same name, another type."""

    text: bytes = b""


@pytest.mark.parametrize(("old", "new"), [(Text1, Text2), (Text2, Text1)])
def test_a_change_of_type_without_a_step_is_refused(old: Any, new: Any) -> None:
    """Never guessed, in neither direction; the reason names the field and the step to write."""
    way = plan_transfer(old, new, ())
    assert way.verdict is Verdict.INCOMPATIBLE
    assert "the type of text changed" in way.reason
    assert f'@migration("text", {old.__version__}, {new.__version__})' in way.reason
    with pytest.raises(TypeError, match="the type of text changed"):
        way.convert(old())


def test_a_written_step_is_taken() -> None:
    """By migration, there and back, leaving the old state whole."""
    old = V2("héllo", "n", [1], 2)
    way = plan_transfer(V2, V3, PAIR)
    assert verdict(way) == (Verdict.BY_MIGRATION, "steps 2 to 3")
    new = way.convert(old)
    assert new == V3("héllo".encode(), "n", [1], 2)
    assert old == V2("héllo", "n", [1], 2)
    assert plan_transfer(V3, V2, PAIR).convert(new) == old


def test_steps_of_another_kind_are_not_taken() -> None:
    """A step belongs to its kind alone."""
    other = UP._replace(kind="kv.store")
    assert plan_transfer(V2, V3, (other,)).verdict is Verdict.AUTOMATIC


def test_a_one_way_step_is_refused_on_the_way_back_when_it_would_lose_something() -> None:
    """What was transformed can't be brought back by a default."""
    way = plan_transfer(V3, V2, (UP,))
    assert way.verdict is Verdict.INCOMPATIBLE
    assert "there is a step up and none down, and text would be lost" in way.reason
    assert f'write @migration("{KIND}", 3, 2)' in way.reason


def test_a_one_way_step_that_changes_values_alone_is_refused_on_the_way_back() -> None:
    """Seconds that became milliseconds do not become seconds again by themselves."""

    class Seconds(State, kind="wait", version=1):
        wait: int = 0

    class Milliseconds(State, kind="wait", version=2):
        wait: int = 0

    up = Migration("wait", 1, 2, lambda old: {"wait": old["wait"] * 1000}, (), 1)
    assert plan_transfer(Seconds, Milliseconds, [up]).verdict is Verdict.BY_MIGRATION
    way = plan_transfer(Milliseconds, Seconds, [up])
    assert way.verdict is Verdict.INCOMPATIBLE
    assert "changes values alone" in way.reason


def test_a_one_way_step_that_only_adds_needs_no_way_back() -> None:
    """Dropping what was added needs no code."""

    class Wide(State, kind=KIND, version=2):
        text: str = ""
        nick: str = ""
        items: list[int] = []
        length: int = 0

    count = step(1, 2, {"length": 3})
    assert plan_transfer(V1, Wide, (count,)).convert(V1("abc")) == Wide("abc", length=3)
    assert plan_transfer(Wide, V1, (count,)).convert(Wide("abc", length=3)) == V1("abc")


def test_a_long_way_is_found_from_single_steps() -> None:
    """Version 1 to 4 and back, with one written step in the middle of automatic ones."""
    renamed = Migration(KIND, 1, 2, lambda old: old | {"name": old["nick"]}, (), 1)
    back = Migration(KIND, 2, 1, lambda new: new | {"nick": new["name"]}, (), 1)
    steps = (*PAIR, renamed, back)
    way = plan_transfer(V1, V4, steps)
    assert verdict(way) == (Verdict.BY_MIGRATION, "steps 1 to 2, 2 to 3")
    assert way.convert(V1("a", "n", [1])) == V4(b"a", "n", [1], "lobby")
    down_way = plan_transfer(V4, V1, steps)
    assert verdict(down_way) == (Verdict.BY_MIGRATION, "steps 3 to 2, 2 to 1")
    assert down_way.convert(V4(b"a", "n", [1], "x")) == V1("a", "n", [1])


def test_what_a_way_loses_is_reported() -> None:
    """All lossy steps on the way are named, and none of the other direction."""
    steps = (
        step(1, 2, {}),
        step(2, 1, {}, ("seen",)),
        step(2, 3, {"partial": b""}),
        step(3, 2, {"text": ""}, ("partial",)),
    )
    assert plan_transfer(V3, V1, steps).lossy == ("partial", "seen")
    assert plan_transfer(V1, V3, steps).lossy == ()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("partial", "text", "bytes"),
        ("partial", None, "bytes"),
        ("partial", [1], "bytes"),
        ("name", b"bytes", "str"),
        ("name", 5, "str"),
        ("seen", "7", "int"),
        ("seen", 7.0, "int"),
        ("seen", True, "int"),
        ("items", ["a"], "int"),
        ("items", "abc", "array"),
    ],
)
def test_a_value_of_a_wrong_type_after_a_step_is_refused(
    field: str, value: object, expected: str
) -> None:
    """Also text for bytes; the error names the field."""
    way = plan_transfer(V2, V3, (step(2, 3, {"partial": b""} | {field: value}), DOWN))
    with pytest.raises(msgspec.ValidationError, match=rf"Expected `{expected}`.*\$\.{field}"):
        way.convert(V2())


def test_bytes_of_any_sort_stay_bytes() -> None:
    """A bytearray from a step fits a field of bytes."""
    way = plan_transfer(V2, V3, (step(2, 3, {"partial": bytearray(b"x")}), DOWN))
    assert way.convert(V2()) == V3(b"x", "", [], 5)


@pytest.mark.parametrize("outcome", [None, [], "text", 5])
def test_a_step_returns_a_dict(outcome: object) -> None:
    """The error names the step and what it gave instead."""
    way = plan_transfer(V2, V3, (step(2, 3, outcome), DOWN))
    with pytest.raises(TypeError, match=f"walk returned {type(outcome).__name__}, not a dict"):
        way.convert(V2())


def test_what_a_step_raises_comes_out() -> None:
    """The swap turns it into a refusal with file and line."""
    way = plan_transfer(V2, V3, (UP, DOWN))
    bad: Any = V2()
    bad.text = 5
    with pytest.raises(AttributeError):
        way.convert(bad)


def test_a_step_that_changes_its_dict_does_not_change_the_old_object() -> None:
    """The old object serves on if the swap fails."""

    def greedy(old: dict[str, Any]) -> dict[str, Any]:
        old["partial"] = old.pop("text").encode()
        old["seen"] = old.pop("items").copy()[0]
        old["items"] = []
        return old

    state = V2("a", "n", [1])
    way = plan_transfer(V2, V3, (Migration(KIND, 2, 3, greedy, (), 1), DOWN))
    assert way.convert(state) == V3(b"a", "n", [], 1)
    assert state == V2("a", "n", [1])


def test_unknown_keys_are_dropped() -> None:
    """A step may leave what the new shape has no place for."""
    way = plan_transfer(V2, V3, (step(2, 3, {"partial": b"", "surplus": object()}), DOWN))
    assert way.convert(V2()) == V3(seen=5)


@given(st.text(), st.text(), st.lists(st.integers(-(2**63), 2**63)))
def test_up_and_down_gives_what_there_was(text: str, nick: str, items: list[int]) -> None:
    """Round trips over every version keep all that both have."""
    steps = (
        *PAIR,
        Migration(KIND, 1, 2, lambda old: old | {"name": old["nick"]}, (), 1),
        Migration(KIND, 2, 1, lambda new: new | {"nick": new["name"]}, (), 1),
    )
    first = V1(text, nick, items)
    for other in (V1Again, V2, V3, V4):
        there = plan_transfer(V1, other, steps).convert(first)
        assert plan_transfer(other, V1, steps).convert(there) == first


# references


class Reader:
    """A parser that can't be encoded; its stand-in is what it has read."""

    def __init__(self, read: bytes = b"") -> None:
        self.read = read


class P1(State, kind="parser", version=1):
    """A reader that moves as a pointer."""

    reader: Reader = reference(Reader, lambda reader: reader.read, Reader)
    chunks: deque[bytes] = reference(deque, list, deque)


class P1Again(State, kind="parser", version=1):
    """The same shape in another class."""

    reader: Reader = reference(Reader, lambda reader: reader.read, Reader)
    chunks: deque[bytes] = reference(deque, list, deque)


class P2(State, kind="parser", version=2):
    """The same reader and one field more."""

    reader: Reader = reference(Reader, lambda reader: reader.read, Reader)
    chunks: deque[bytes] = reference(deque, list, deque)
    count: int = 3


@pytest.mark.parametrize(("old", "new"), [(P1, P1Again), (P1, P2), (P2, P1)])
def test_references_move_as_pointers(old: Any, new: Any) -> None:
    """The very same object, within a version and between two."""
    state = old(Reader(b"abc"), deque([b"x"]))
    moved: Any = plan_transfer(old, new, ()).convert(state)
    assert moved.reader is state.reader
    assert moved.chunks is state.chunks


def test_a_step_may_replace_a_reference() -> None:
    """It sees the pointer and may hand on another one."""

    def renew(old: dict[str, Any]) -> dict[str, Any]:
        return old | {"reader": Reader(old["reader"].read + b"!")}

    way = plan_transfer(P1, P2, (Migration("parser", 1, 2, renew, (), 1),))
    moved: Any = way.convert(P1(Reader(b"abc")))
    assert moved.reader.read == b"abc!"


# what a bundle defines itself

SOURCE = """
    import enum, msgspec
    from dataclasses import dataclass
    from netswap import State, reference

    class Colour(enum.Enum):
        RED = "red"

    class Row(msgspec.Struct):
        name: str = ""
        data: bytes = b""
        above: "Row | None" = None

    @dataclass
    class Pair:
        one: int = 1

    class Own:
        def __init__(self, read=b""):
            self.read = read

    class Table(State, kind="table", version=VERSION):
        row: Row | None = None
        rows: dict[bytes, list[Row]] = {}
        colour: Colour = Colour.RED
        pair: Pair | None = None
        own: Own = reference(Own, lambda own: own.read, Own)
        shared: list[int] = reference(list)
    """


@pytest.mark.parametrize("version", [1, 2])
def test_classes_of_a_bundle_become_those_of_the_new_one(pushed: Pushed, version: int) -> None:
    """Structs, enums, dataclasses and referenced objects do not keep the old module alive."""
    one = pushed(SOURCE.replace("VERSION", "1"))
    two = pushed(SOURCE.replace("VERSION", str(version)))
    inner = one.Row("b", b"\xff", one.Row("c"))
    old = one.Table(
        one.Row("a"), {b"\xfe": [inner]}, one.Colour.RED, one.Pair(4), one.Own(b"xy"), [1]
    )
    new: Any = plan_transfer(one.Table, two.Table, ()).convert(old)
    assert new == two.Table(
        two.Row("a"),
        {b"\xfe": [two.Row("b", b"\xff", two.Row("c"))]},
        two.Colour.RED,
        two.Pair(4),
        new.own,
        old.shared,
    )
    assert new.colour is two.Colour.RED
    assert type(new.own) is two.Own
    assert new.own.read == b"xy"
    assert new.shared is old.shared
    assert old.row == one.Row("a")


def test_steps_see_a_bundles_own_structs_as_plain_data(pushed: Pushed) -> None:
    """A step can't know the old module's class, so it gets dicts."""
    one, two = pushed(SOURCE.replace("VERSION", "1")), pushed(SOURCE.replace("VERSION", "2"))

    def rename(old: dict[str, Any]) -> dict[str, Any]:
        return old | {"row": old["row"] | {"name": "new"}}

    steps = (Migration("table", 1, 2, rename, (), 1), Migration("table", 2, 1, rename, (), 1))
    new: Any = plan_transfer(one.Table, two.Table, steps).convert(one.Table(one.Row("old")))
    assert new.row == two.Row("new")
