"""Which line of an author's file is to blame for an exception.

A bundle's code is compiled under the file name ``NAME@HASH`` (12 hexadecimal digits), so that
versions of one file can be told apart in a traceback. The last such frame is the author's line.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

__all__ = [
    "author_file",
    "blame",
    "defined_at",
    "describe",
    "place_of_death",
    "tell_where_it_dies",
]

_BUNDLED = re.compile(r"^(?P<file>.+)@[0-9a-f]{12}$")
_FRAME = re.compile(r'File "(?P<file>[^"]+)@[0-9a-f]{12}", line (?P<line>\d+)')


def author_file(filename: str) -> str | None:
    """The author's name of a bundled file, or None for any other code."""
    match = _BUNDLED.match(filename)
    return match["file"] if match else None


Place = tuple[str | None, int | None]


def blame(error: BaseException, suspect: type | None = None) -> Place:
    """File and line of the innermost bundled frame of ``error``, else those of ``suspect``.

    (None, None) when neither is bundled.
    """
    if isinstance(error, SyntaxError) and error.filename and author_file(error.filename):
        return author_file(error.filename), error.lineno
    found: Place = (None, None) if suspect is None else defined_at(suspect)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = author_file(frame.f_code.co_filename)
        if name is not None:
            found = name, line
    return found


def defined_at(cls: type) -> Place:
    """File and line of a bundled class; (None, None) for any other."""
    shown = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    name = author_file(shown)
    if name is None:
        return None, None
    begin = re.compile(rf"\s*class\s+{cls.__name__}\b")
    lines = enumerate(linecache.getlines(shown), 1)
    return name, next((number for number, line in lines if begin.match(line)), 1)


def describe(error: BaseException) -> str:
    """One line: the type and text of an exception, whose text may be made by an author's code."""
    try:
        text = " ".join(str(error).split())
    except Exception as second:
        text = f"and then {type(second).__name__} for its text"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def tell_where_it_dies(descriptor: int) -> Callable[[int], NoReturn]:
    """From now on a crash or an ``os._exit`` of this process leaves its frames there.

    Returns the ``os._exit`` that says nothing.
    """
    faulthandler.enable(descriptor, all_threads=False)
    leave = os._exit

    def told(status: int) -> NoReturn:
        faulthandler.dump_traceback(descriptor, all_threads=False)
        leave(status)

    os._exit = told
    return leave


def place_of_death(told: str) -> Place:
    """The bundled frame in what ``tell_where_it_dies`` has left."""
    place = _FRAME.search(told)
    return (place["file"], int(place["line"])) if place else (None, None)
