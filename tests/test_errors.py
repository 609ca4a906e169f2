"""The tree of exceptions: as its docstring draws it, each with a sentence made of its data."""

from __future__ import annotations

import re

import pytest

from netswap import errors
from netswap.errors import NetswapError
from netswap.events import Refusal, Stage

SENTENCES = [
    (errors.UsageError("no such kind"), "no such kind"),
    (errors.UsageError("no such kind", "word 2", "write x"), "no such kind (word 2); write x"),
    (
        errors.BundleError(Refusal(Stage.LOAD, "it raised", "v2.py", 3)),
        "refused at load: it raised (v2.py:3)",
    ),
    (
        errors.StateMovedError("http.app", 1, 2),
        "the state of http.app has gone from version 1 to 2: "
        "what code of version 1 wrote would be lost, it is not present any more",
    ),
    (
        errors.CallCancelledError("kv.store", "scan"),
        "an operator cancelled scan() of kv.store",
    ),
    (errors.ProtocolError("too long", b"-ERR\r\n"), "too long"),
    (
        errors.TransitionError("swap", "done", "give up"),
        "swap has no transition for give up in done",
    ),
]


def drawn() -> dict[str, str]:
    """Each class of the picture with the one above it."""
    above = [""]
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}([│ ├└─]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            found[match[2]] = above[depth]
            above[depth + 1 :] = [match[2]]
    return found


def test_the_picture_is_the_tree() -> None:
    """Who reads the docstring knows what to catch."""
    classes = {name: getattr(errors, name) for name in errors.__all__}
    tree = {
        name: cls.__bases__[0].__name__ if cls is not NetswapError else ""
        for name, cls in classes.items()
        if issubclass(cls, NetswapError)
    }
    assert drawn() == tree


def test_only_the_deadline_is_outside_of_the_tree() -> None:
    """An author's ``except Exception`` does not swallow it."""
    outside = [
        name for name in errors.__all__ if not issubclass(getattr(errors, name), NetswapError)
    ]
    assert outside == ["DeadlinePassed"]
    assert not issubclass(errors.DeadlinePassed, Exception)


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_the_sentence_is_made_of_the_data(error: NetswapError, sentence: str) -> None:
    """It says what and where, and what to do if that is known."""
    assert str(error) == sentence


def test_an_error_carries_its_data() -> None:
    """Programs need not read sentences."""
    error = errors.ProtocolError("too long", b"-ERR\r\n")
    assert (error.message, error.reply) == ("too long", b"-ERR\r\n")
    refusal = Refusal(Stage.LOAD, "no")
    assert errors.AuthorError(refusal).refusal is refusal
