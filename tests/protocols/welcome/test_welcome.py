"""welcome: what a server without an application of its own says."""

from __future__ import annotations

from netswap.http import Request
from protocols.welcome.v1 import Welcome, WelcomeApp


def app() -> WelcomeApp:
    """One without a host, which it does not need."""
    new = WelcomeApp.__new__(WelcomeApp)
    new.state = Welcome()
    return new


def test_it_greets():
    """GET / is a page."""
    assert app().answer(Request("GET", b"/", "1.1", [], True)).body == b"Hello, world!"


def test_it_knows_no_other_page():
    """Anything else is 404, another method 405 with what is allowed."""
    assert app().answer(Request("GET", b"/x", "1.1", [], True)).status == 404
    refused = app().answer(Request("PUT", b"/", "1.1", [], True))
    assert refused.status == 405
    assert (b"allow", b"GET, HEAD") in refused.headers
