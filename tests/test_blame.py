"""The author's line is found in any exception, and an exception is told in one line."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from netswap.blame import accuse, author_file, blame, describe, to_mend

BUNDLED = "chat/v2.py@0123456789ab"


def caught(source: str, filename: str, call: Callable[[], object] = lambda: None) -> BaseException:
    """What running ``source`` under a file name raises."""
    try:
        exec(compile(source, filename, "exec"), {"call": call})
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize(
    ("filename", "author"),
    [
        (BUNDLED, "chat/v2.py"),
        ("a@b@0123456789ab", "a@b"),
        ("chat/v2.py", None),
        ("chat/v2.py@0123", None),
        ("chat/v2.py@0123456789AB", None),
        ("@0123456789ab", None),
    ],
)
def test_a_bundled_file_is_known_by_its_name(filename: str, author: str | None) -> None:
    """Name, at-sign, twelve hexadecimal digits."""
    assert author_file(filename) == author


def test_the_innermost_bundled_line_is_to_blame() -> None:
    """Frames of netswap and of libraries below it are not the author's."""
    error = caught("def f():\n    call()\n\nf()\n", BUNDLED, lambda: 1 // 0)
    assert blame(error) == ("chat/v2.py", 2)


def test_a_step_is_to_be_mended_where_one_failed() -> None:
    """Where nothing of the author's ran, what an object holds is in the way."""
    assert to_mend(caught("1 / 0\n", BUNDLED)).startswith("mend the step")
    assert "netswap inspect" in to_mend(TypeError("n can't be encoded"))


def test_of_two_bundled_files_the_inner_one_is_to_blame() -> None:
    """A helper module of the bundle is named when it is what raised."""

    def inner() -> None:
        raise caught("\n\n1 / 0\n", "chat/lines.py@0123456789ab")

    assert blame(caught("\ncall()\n", BUNDLED, inner)) == ("chat/lines.py", 3)


def test_without_a_bundled_frame_nobody_is_to_blame() -> None:
    """The fault is not the author's."""
    assert blame(caught("1 / 0", "somewhere.py")) == (None, None)
    assert blame(ValueError("never raised")) == (None, None)


def test_source_that_does_not_parse_is_blamed_at_its_line() -> None:
    """There is no frame yet; the error itself has the place."""
    assert blame(caught("a = 1\nb = = 2\n", BUNDLED)) == ("chat/v2.py", 2)


def test_source_that_a_bundle_compiles_is_blamed_on_the_bundle() -> None:
    """Its ``eval`` of wrong text is the author's line, not a line of the text."""
    assert blame(caught("\n\neval('1 +')\n", BUNDLED)) == ("chat/v2.py", 3)


class Unspeakable(Exception):
    """Its own text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too  long\n  a line"), "ValueError: too long a line"),
        (KeyError("nick"), "KeyError: 'nick'"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (Unspeakable(), "Unspeakable: and then RuntimeError for its text"),
        (ValueError("a\udcffb"), "ValueError: a\\udcffb"),
        (ValueError("x" * 1_000_000), f"ValueError: {'x' * 2_000}…"),
    ],
)
def test_an_exception_is_told_in_one_line(error: BaseException, line: str) -> None:
    """Type and text, whatever the text is made of."""
    assert describe(error) == line


def test_a_function_that_returned_nonsense_is_accused() -> None:
    """Nothing of the author's is on the stack, but the line of the function is known."""
    module = ModuleType("accused")
    module.__file__ = BUNDLED
    text = "\n@print\ndef f():\n    pass\n"
    exec(compile(text.replace("@print", ""), BUNDLED, "exec"), module.__dict__)
    sys.modules["accused"] = module
    linecache.cache[BUNDLED] = (len(text), None, text.splitlines(keepends=True), BUNDLED)
    try:
        assert blame(accuse(TypeError("no dict"), module.f)) == ("chat/v2.py", 3)
    finally:
        del sys.modules["accused"], linecache.cache[BUNDLED]
