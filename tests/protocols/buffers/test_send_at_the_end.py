"""buffer.send: what a connection says to its client's end arrives, whichever version sends it."""

from __future__ import annotations

import pytest

from netswap import Connection, State
from protocols.buffers import coalescing, immediate

KIND = "test.connection"


class Nothing(State, kind=KIND, version=1):
    """Nothing to carry."""

    quiet: bool = False


class Polite(Connection[Nothing], uses={"output": "buffer.send"}):
    """Says how much came, at the end of it."""

    def on_data(self, data):
        """Nothing to say yet."""

    def on_eof(self):
        """Answers, and lets the stack close."""
        self.write(b"goodbye")


class Protocol:
    """A module for the server: the connection under test."""

    Polite = Polite


@pytest.mark.parametrize("module", [immediate, coalescing])
async def test_what_on_eof_writes_is_sent_before_the_close(serve, module):
    """The connection closes after the flush when on_eof does not return True."""
    server = await serve(Protocol, module, kind=KIND)
    client = await server.connect()
    await client.send(b"hello")
    await client.finish()
    assert await client.read_all() == b"goodbye"
