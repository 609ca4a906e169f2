"""welcome: what a server without an application of its own says."""

from __future__ import annotations

import asyncio

import pytest

from netswap.http import HttpError
from netswap.http.message import Body, Head, Request
from protocols.welcome.v1 import Welcome, WelcomeApp


def app() -> WelcomeApp:
    """One without a host, which it does not need."""
    new = WelcomeApp.__new__(WelcomeApp)
    new.state = Welcome()
    return new


def test_it_greets():
    """GET / is a page."""
    assert app().answer(Request(Head("GET", b"/", "/", b"", "1.1", ()))).body == b"Hello, world!"


def test_it_knows_no_other_page():
    """Anything else is 404, another method 405 with what is allowed."""
    assert app().answer(Request(Head("GET", b"/x", "/x", b"", "1.1", ()))).status == 404
    refused = app().answer(Request(Head("PUT", b"/", "/", b"", "1.1", ())))
    assert refused.status == 405
    assert (b"allow", b"GET, HEAD") in refused.headers


def asked_later(query: bytes) -> Request:
    """A question whose answer is to come later."""
    head = Head("POST", b"/later?" + query, "/later", query, "1.1", ())
    return Request(head, Body.whole(b"asked"))


async def test_it_answers_later():
    """The body comes back after so many milliseconds, by the clock of the loop, and not before."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await app().answer(asked_later(b"ms=30"))
    assert round(loop.time() - began, 3) >= 0.03  # the clock of uvloop has whole milliseconds
    assert (answer.status, answer.body) == (200, b"asked")
    assert answer.headers == [(b"x-version", b"1")]


@pytest.mark.parametrize("query", [b"", b"ms=soon", b"ms=-1", b"ms=70000", b"ms=1&ms=2"])
async def test_it_refuses_what_is_no_time(query: bytes):
    """400 says what it takes."""
    with pytest.raises(HttpError, match="ms"):
        await app().answer(asked_later(query))
