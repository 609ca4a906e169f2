"""Which line of an author's file is to blame for an exception.

A bundle's code is compiled under the file name ``NAME@HASH`` (12 hexadecimal digits), so that
versions of one file can be told apart in a traceback. The last such frame is the author's line.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

__all__ = [
    "SHOWN",
    "Place",
    "accuse",
    "author_file",
    "blame",
    "defined_at",
    "describe",
    "mild",
    "place_of_death",
    "tell_where_it_dies",
    "to_mend",
]

SHOWN = "__netswap_shown__"
"""In the globals of a module whose ``__file__`` is a real one: the file name that its code has."""
_ACCUSED = "accused"
_LONGEST = 2_000
"""Characters of an exception's text that are told."""
_BUNDLED = re.compile(r"^(?P<file>.+)@[0-9a-f]{12}$")
_FRAME = re.compile(r'File "(?P<file>[^"]+)@[0-9a-f]{12}", line (?P<line>\d+)')


def author_file(filename: str) -> str | None:
    """The author's name of a bundled file, or None for any other code."""
    match = _BUNDLED.match(filename)
    return match["file"] if match else None


def mild(error: BaseException) -> Exception:
    """``error``, or what stands for one that would end the process: out of a task it does that."""
    if isinstance(error, Exception):
        return error
    what = (
        f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"raised {error!r}"
    )
    return RuntimeError(f"it {what}").with_traceback(error.__traceback__)


Error = TypeVar("Error", bound=BaseException)
Place = tuple[str | None, int | None]


def blame(error: BaseException, suspect: type | None = None) -> Place:
    """File and line of the innermost bundled frame of ``error``, else of what was accused of it.

    That is what ``accuse`` named, else ``suspect``. (None, None) when nothing of it is bundled.
    """
    if isinstance(error, SyntaxError) and error.filename and author_file(error.filename):
        return author_file(error.filename), error.lineno
    accused: Callable[..., Any] | type | None = getattr(error, _ACCUSED, suspect)
    found: Place = (None, None) if accused is None else defined_at(accused)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = author_file(frame.f_code.co_filename)
        if name is not None:
            found = name, line
    return found


def to_mend(error: BaseException) -> str:
    """What to do about an object that could not be converted: a step failed, or none was there."""
    if blame(error) != (None, None):
        return "mend the step and push again"
    return "`netswap inspect` shows what the object holds; write a step for it, or a wider type"


def accuse(error: Error, function: Callable[..., Any]) -> Error:
    """``error``: nothing of the author's runs when it is raised, but ``function`` is why it is."""
    setattr(error, _ACCUSED, function)
    return error


def defined_at(thing: Callable[..., Any] | type) -> Place:
    """File and line of a bundled class or function; (None, None) for any other."""
    module = sys.modules.get(thing.__module__)
    shown = getattr(module, SHOWN, None) or getattr(module, "__file__", None) or ""
    name = author_file(shown)
    if name is None:
        return None, None
    called = thing.__name__
    begin = re.compile(rf"\s*(class|(async )?def)\s+{called}\b|{called}\s*(:|=[^=])")
    lines = enumerate(linecache.getlines(shown), 1)
    return name, next((number for number, line in lines if begin.match(line)), 1)


def describe(error: BaseException) -> str:
    """One line: the type and text of an exception, whose text may be made by an author's code.

    It can be sent: a text has no end that we know, and may hold what UTF-8 has no bytes for.
    """
    if isinstance(error, MemoryError) and not error.args:
        return "MemoryError: memory ran out"
    try:
        text = " ".join(str(error).split())
    except Exception as second:
        text = f"and then {type(second).__name__} for its text"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    text = text.encode(errors="backslashreplace").decode()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def tell_where_it_dies(descriptor: int) -> Callable[[int], NoReturn]:
    """From now on the end of this process leaves its frames there, unless it is the ordinary one.

    That is a crash, an ``os._exit`` and a kill by itself. Returns the ``os._exit`` that says
    nothing. Can't be taken back: for a child that ends soon.
    """
    faulthandler.enable(descriptor, all_threads=False)
    leave = os._exit
    me = os.getpid()

    def killed(event: str, arguments: tuple[Any, ...]) -> None:
        # no handler sees this signal; a pid of 0 or below is a group that may hold this process
        if event not in ("os.kill", "os.killpg") or arguments[1] != signal.SIGKILL:
            return
        if arguments[0] in (me, 0, -1, -os.getpgrp(), os.getpgrp()):
            faulthandler.dump_traceback(descriptor, all_threads=False)

    sys.addaudithook(killed)

    def told(status: int) -> NoReturn:
        faulthandler.dump_traceback(descriptor, all_threads=False)
        leave(status)

    os._exit = told
    return leave


def place_of_death(told: str) -> Place:
    """The bundled frame in what ``tell_where_it_dies`` has left."""
    place = _FRAME.search(told)
    return (place["file"], int(place["line"])) if place else (None, None)
