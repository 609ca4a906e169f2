"""Steps: a coroutine whose every step, from one wait to the next, runs inside of something.

A step that hangs holds the loop, and no task beside it can end it: what bounds it has to be around
the step itself. Between the steps it must not be there, since other code runs then.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

__all__ = ["Around", "in_steps"]

T = TypeVar("T")
Around = Callable[[], AbstractContextManager[Any]]
"""Makes what is around one step."""


@types.coroutine
def in_steps(work: Coroutine[Any, Any, T], around: Around) -> Generator[Any, Any, T]:
    """Await ``work``, each step in a new ``around()``; what it returns or raises."""
    call: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            with around():
                yielded = call(value)
        except StopIteration as end:
            returned: T = end.value
            return returned
        try:
            value = yield yielded
        except BaseException as error:  # thrown on into the work: it may be its cancellation
            call, value = work.throw, error
        else:
            call = work.send
