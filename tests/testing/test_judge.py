"""What a client may have seen: each reply of one version, in order, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netswap.testing import Difference
from netswap.testing.judge import Seen, Turn, explain, whole

LINES = bytes.splitlines


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def seen(*rows: bytes, ended: tuple[int, str] | None = None) -> Seen:
    made = Seen(len(rows) - 1)
    for index, row in enumerate(rows):
        made.note("client", index, row)
    if ended is not None:
        made.ended["client"] = ended
    return made


OLD = seen(b"o1\no2\n", b"o3\n", b"o4\n")
NEW = seen(b"n1\nn2\n", b"n3\n", b"n4\n")
ALONE = {"old": OLD, "new": NEW}
IN_THE_MIDDLE = [Turn(0, 0), Turn(0, 1), Turn(1, 1)]


def found(
    got: Seen, turns: list[Turn], stages: tuple[str, ...] = ("old", "new"), replies=lines
) -> list[tuple[str, int]]:
    return list(explain(got, ALONE, stages, {"client": turns}, replies))


def test_before_the_swap_the_old_one_answers_and_after_it_the_new_one() -> None:
    """In the step of the swap either."""
    assert not found(seen(b"o1\no2\n", b"o3\n", b"n4\n"), IN_THE_MIDDLE)
    assert not found(seen(b"o1\no2\n", b"n3\n", b"n4\n"), IN_THE_MIDDLE)
    assert found(seen(b"n1\nn2\n", b"n3\n", b"n4\n"), IN_THE_MIDDLE) == [("client", 0)]
    assert found(seen(b"o1\no2\n", b"o3\n", b"o4\n"), IN_THE_MIDDLE) == [("client", 2)]


def test_a_step_is_answered_by_both_only_reply_by_reply_and_never_back() -> None:
    """Old before new; no reply twice, none left out, none made of two."""
    turns = [Turn(0, 1), Turn(1, 1), Turn(1, 1)]
    assert not found(seen(b"o1\nn2\n", b"n3\n", b"n4\n"), turns)
    for wrong in (b"n1\no2\n", b"o1\no1\n", b"o1\n", b"o1\nn1\nn2\n", b"o1n2\n", b"o2\nn1\n"):
        assert found(seen(wrong, b"n3\n", b"n4\n"), turns) == [("client", 0)], wrong
    assert found(seen(b"o1\nn2\n", b"n3\n", b"n4\n"), turns, replies=whole) == [("client", 0)]


def test_a_swap_that_is_taken_back_ends_with_the_old_one() -> None:
    """Old, new, old; but not new, old, new."""
    turns = [Turn(0, 2), Turn(2, 2), Turn(2, 2)]
    stages = ("old", "new", "old")
    assert not found(seen(b"n1\no2\n", b"o3\n", b"o4\n"), turns, stages)
    assert not found(seen(b"o1\nn2\n", b"o3\n", b"o4\n"), turns, stages)
    assert found(seen(b"n1\no2\n", b"n3\n", b"o4\n"), turns, stages) == [("client", 1)]


def test_an_end_that_neither_version_makes_is_found() -> None:
    """And one that comes in another step than theirs."""
    got = seen(b"o1\no2\n", b"o3\n", b"n4\n", ended=(1, "closed"))
    assert found(got, IN_THE_MIDDLE) == [("client", 1)]


def test_all_that_is_wrong_is_told() -> None:
    """After a difference that the author expects the rest is looked at, too."""
    got = seen(b"?", b"o3\n", b"?")
    assert found(got, IN_THE_MIDDLE) == [("client", 0), ("client", 2)]


@given(st.integers(0, 4), st.data())
def test_any_one_swap_is_explained_and_any_changed_byte_is_not(cut: int, data: st.DataObject):
    """Of four replies the first ones are old, the others new; where the swap fell is known."""
    replies = [b"o1\n", b"o2\n", b"o3\n", b"o4\n"][:cut] + [b"n1\n", b"n2\n", b"n3\n", b"n4\n"][
        cut:
    ]
    rows = [b"".join(replies[:2]), replies[2], replies[3]]
    step = 0 if cut < 2 else cut - 1
    turns = [Turn(int(i > step), int(i >= step)) for i in range(3)]
    assert not found(seen(*rows), turns)
    row = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(rows[row]) - 1))
    rows[row] = rows[row][:at] + b"?" + rows[row][at + 1 :]
    assert found(seen(*rows), turns) == [("client", row)]


def test_a_difference_is_shown_where_it_begins() -> None:
    """What was expected, or what both versions answer, and the bytes around the place."""
    same = b"x" * 200
    alike = Difference("bob", 2, "bob sends b'a'", same + b"1", same + b"2", same + b"2")
    assert str(alike).splitlines() == [
        "bob, in step 3 (bob sends b'a'):",
        f"  expected  (180 bytes) ...{b'x' * 20 + b'2'!r}",
        f"  got       (180 bytes) ...{b'x' * 20 + b'1'!r}",
    ]
    unlike = Difference("bob", -1, "when it has connected", b"", b"o", b"n", "closed")
    assert str(unlike).splitlines() == [
        "bob, when it has connected:",
        "  old alone b'o'",
        "  new alone b'n'",
        "  got       nothing, then it was closed",
    ]
