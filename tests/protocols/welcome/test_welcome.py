"""welcome: what a server without an application of its own says."""

from __future__ import annotations

from netswap.http.message import Head, Request
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
