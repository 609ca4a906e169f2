"""Which line of an author's file is to blame for an exception.

A bundle's code is compiled under the file name ``NAME@HASH`` (12 hexadecimal digits), so that
versions of one file can be told apart in a traceback. The last such frame is the author's line.
"""

from __future__ import annotations

import re
import traceback

__all__ = ["author_file", "blame", "describe"]

_BUNDLED = re.compile(r"^(?P<file>.+)@[0-9a-f]{12}$")


def author_file(filename: str) -> str | None:
    """The author's name of a bundled file, or None for any other code."""
    match = _BUNDLED.match(filename)
    return match["file"] if match else None


def blame(error: BaseException) -> tuple[str | None, int | None]:
    """File and line of the innermost bundled frame of ``error``; (None, None) without one."""
    if isinstance(error, SyntaxError) and error.filename and author_file(error.filename):
        return author_file(error.filename), error.lineno
    found: tuple[str | None, int | None] = (None, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = author_file(frame.f_code.co_filename)
        if name is not None:
            found = name, line
    return found


def describe(error: BaseException) -> str:
    """One line: the type and text of an exception, whose text may be made by an author's code."""
    try:
        text = " ".join(str(error).split())
    except Exception as second:
        text = f"and then {type(second).__name__} for its text"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
