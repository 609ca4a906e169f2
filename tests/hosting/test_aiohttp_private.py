"""What is taken of aiohttp's inside is there, or is missed in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netswap.hosting.aiohttp import private
from netswap.hosting.aiohttp.private import PRIVATE, missing, require


def test_this_aiohttp_has_every_name():
    """A new aiohttp that lacks one says so here first."""
    assert not missing(), f"aiohttp has no {missing()}: see netswap/hosting/aiohttp/private.py"


def test_a_name_that_is_not_there_is_told_in_a_sentence():
    """Which name, where, and what to do."""
    names = {
        "aiohttp.web:Request": ("_finish", "_gone"),
        "aiohttp.streams": ("EMPTY_PAYLOAD", "lost"),
        "aiohttp.web:NoClass": ("x",),
    }
    assert missing(names) == [
        "aiohttp.web:Request._gone",
        "aiohttp.streams.lost",
        "aiohttp.web:NoClass.x",
    ]
    with pytest.raises(ImportError, match=r"has no aiohttp\.web:Request\._gone, .*: install"):
        require(names)


def test_no_other_name_is_used():
    """Each underscored attribute that the adapter asks of aiohttp's objects is in the table."""
    folder = Path(private.__file__).parent
    listed = {name for names in PRIVATE.values() for name in names}
    used = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(r"\b(?!self\b|cls\b)\w+\.(_[a-z]\w+)", path.read_text())
    }
    assert used
    assert used <= listed, used - listed
