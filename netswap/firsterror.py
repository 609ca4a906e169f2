"""The first error of several calls, all of which are made."""

from __future__ import annotations

from typing import Self

__all__ = ["FirstError"]


class FirstError:
    """Catches the Exceptions of every ``with`` block that it guards, and keeps the first::

    first = FirstError()
    for call in calls:
        with first:
            call()
    first.throw()
    """

    __slots__ = ("_error",)

    def __init__(self) -> None:
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if self._error is None:
            self._error = error
        return True

    def throw(self) -> None:
        """Raise it, if there is one."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback has this frame: a circle that only a collection opens
