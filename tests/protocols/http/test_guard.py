"""http.connection on watch: what fails in a new version is undone, whatever was under way."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from netswap.interpose import Guard, Interposition, Protection
from netswap.interpose.guard import Firing
from netswap.interpose.monitor import Figures
from netswap.mediator import present
from protocols.http import limits, v2
from tests.protocols.http import answering
from tests.protocols.http.test_http import KIND, get, parsed


def failing(method: str, *, first: bool) -> Any:
    """A version whose ``method`` raises, before or after all that it does."""

    def fails(self: Any, *words: Any) -> Any:
        if not first:
            getattr(v2.HttpConnection, method)(self, *words)
        raise ValueError(f"{method} fails")

    return type("Failing", (v2.HttpConnection,), {method: fails, "__module__": __name__})


class Watch:
    """Guards in front of connections and the application, and the way back."""

    def __init__(self, server: Any, bad: Any) -> None:
        self.server = server
        self.bad = bad
        self.fired: list[Firing] = []
        self.swap = server.prepare(SimpleNamespace(Failing=bad))
        self.swap.slice(10**10)
        protection = Protection(nullcontext, self._on_watch, self._take_back, self.fired.append)
        guard = lambda entry: (  # noqa: E731 - what stands in front of an object, if anything
            Guard(Figures(), protection) if entry.kind in (KIND, "http.app") else None
        )
        self.everywhere = Interposition(server.host, guard)
        self.everywhere.place()

    def _on_watch(self, entry: Any) -> bool:
        return type(present(entry)) is self.bad

    def _take_back(self, states: Any) -> Any:
        return self.swap.take_back_now(states)


POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
REST = b"2\r\nde\r\n0\r\n\r\n" + get(b"/item/a") + get(b"/") + get(b"/long") + get(b"/item/b")
REST += get(b"/", b"Connection: close\r\n")
METHODS = ["on_data", "answer_start", "answer_body", "answer_end", "answer_whole", "proceed"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("method", METHODS)
async def test_no_client_notices_a_version_that_fails(serve, method, first):
    """With a body half read by a coroutine and others in the queue: nothing is lost or doubled."""
    server = await serve(v2, limits, answering, kind=KIND)
    client = await server.connect()
    await client.send(POST)
    watch = Watch(server, failing(method, first=first))
    await client.send(REST)
    found = parsed(await client.read_all())
    long = b"".join(b"%05d\n" % number * 100 for number in range(20))
    bodies = [b"abcde", b"a", b"hello", long, b"b", b"hello"]
    assert found == [(200, body) for body in bodies]
    assert watch.fired
    assert {firing.method for firing in watch.fired} <= {method, "data_received"}
    assert all(firing.answered for firing in watch.fired)
    watch.everywhere.remove()
    server.log.errors.clear()
