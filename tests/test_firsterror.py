"""All calls are made, and the first error of theirs is raised."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

from netswap.firsterror import FirstError


class Failure(Exception):
    """What a call raises."""


def called(*outcomes: BaseException | None) -> list[int]:
    """Which calls were made, of some that raise; raises what is left of it."""
    first, made = FirstError(), []
    for number, outcome in enumerate(outcomes):
        with first:
            made.append(number)
            if outcome is not None:
                raise outcome
    first.throw()
    return made


def test_nothing_is_raised_where_nothing_failed():
    """Nor is anything left out."""
    assert called(None, None, None) == [0, 1, 2]


def test_the_first_error_is_raised_when_all_were_called():
    """Later ones are not heard of."""
    late = Failure("late")
    with pytest.raises(Failure, match="early"):
        called(None, Failure("early"), late, None)
    assert late.__traceback__ is not None  # it was raised, too


def test_what_is_no_exception_is_not_caught():
    """An interrupt ends the calls where it comes."""
    with pytest.raises(KeyboardInterrupt):
        called(Failure(), KeyboardInterrupt(), Failure())


def test_an_error_that_was_raised_is_gone_without_a_collection():
    """Its traceback has the frames in which it was kept, and none of them has it any more."""

    def fail() -> None:
        raise Failure

    def all_of(calls: list[Callable[[], None]]) -> None:
        first = FirstError()
        for call in calls:
            with first:
                call()
        first.throw()

    gc.disable()
    try:
        try:
            all_of([fail, fail])
        except Failure as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()
