"""TLS between the kit's clients and its worker: real sessions, whose client owns every byte.

A client seals what it sends in records. A piece of a step that was cut is a record of its own; or
a step is sealed as a whole, in two records, and the *wire* is cut (``send_wire``): there is a swap
while the session holds a part of a record, of which the connection knows nothing yet, perhaps
behind a record that it has got.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any, Final, NamedTuple

from netswap.errors import UsageError
from netswap.testing.client import CHUNK, Client
from netswap.testing.transcript import halves, sealed_size
from netswap.tls import Context, Terms, context_of

__all__ = ["Keys", "SealedClient", "make_keys"]

NAME: Final = "localhost"
PADDING: Final = b"\xa5" * 66_000
"""More than a transport takes before it tells the session above it to pause."""


class Keys(NamedTuple):
    """What both ends of a session begin with; TLS 1.3, whose records have one size."""

    server: Context
    client: ssl.SSLContext


def make_keys() -> Keys:
    """A certificate of this check's own.

    Raises UsageError when trustme, which makes it, is not installed.
    """
    try:
        import trustme
    except ImportError as error:
        what = 'over="tls" needs a certificate, and trustme, which makes one, is not installed'
        raise UsageError(what, "", "pip install trustme") from error
    authority = trustme.CA()
    pair = authority.issue_cert(NAME).private_key_and_cert_chain_pem.bytes()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Keys(context_of(Terms(pair, "check_swappable", minimum="1.3")), client)


class SealedClient(Client):
    """A client whose bytes go through a session; ``shaken`` when its handshake is done.

    It answers a close, so that a session that the server ends is over at once.
    """

    most_unsent = 1
    """A session pauses when there are so many, not when there are more: with 0 for ever."""

    def __init__(self, name: str, slot: int, context: ssl.SSLContext) -> None:
        super().__init__(name, slot)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._in, self._out, server_hostname=NAME)
        self._wire = b""
        self._padding = 0
        self.shaken = False

    def greet(self) -> None:
        """Begin the handshake."""
        self._shake()

    def send(self, data: bytes) -> None:
        """In a record of its own."""
        self.said = True
        self._seal(data)
        self.move()

    def send_wire(self, data: bytes, start: int, end: int) -> None:
        """Bytes ``start`` to ``end`` of the records of ``data``, which come one after the other."""
        self.said = True
        if not start:
            self._wire = self._sealed(data)
        self._unsent += self._wire[start:end]
        if end >= len(self._wire):
            self._wire = b""
            self._speak()
        self.move()

    def _sealed(self, data: bytes) -> bytes:
        self._speak()
        for half in halves(data):
            self._write(half)
        wire = self._out.read()
        assert len(wire) in (0, sealed_size(len(data))), "a record has another size than foretold"
        return wire

    def _seal(self, data: bytes) -> None:
        self._write(data)
        self._speak()

    def _write(self, data: bytes) -> None:
        """After a close nobody reads it any more, which the client learns by reading."""
        with suppress(ssl.SSLError):
            self._session.write(data)

    def _speak(self) -> None:
        """What the session has to say goes out, but not into the middle of a record."""
        if not self._wire:
            self._unsent += self._out.read()

    def _shake(self) -> None:
        try:
            self._session.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        self._speak()

    def _take(self, data: bytes) -> None:
        self._in.write(data)
        if not self.shaken:
            self._shake()
        if self.shaken:
            self._read()

    def _read(self) -> None:
        try:
            while plain := self._session.read(CHUNK):
                self._hear(plain)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            self.ended = f"broken off: {error.reason}"
            return
        self.ended = "closed"
        self._finish()

    def _hear(self, plain: bytes) -> None:
        dropped = min(self._padding, len(plain))
        assert plain[:dropped] == PADDING[:dropped], "something was written in front of the padding"
        self._padding -= dropped
        self.heard += plain[dropped:]

    def _cut_off(self, data: Any) -> str:
        """An end without a close is none: anybody could have cut the wire."""
        return "reset" if data else "cut off"

    def _finish(self) -> None:
        """A close: this side says no more."""
        with suppress(ssl.SSLError):
            self._session.unwrap()
        self._speak()

    def _stop(self) -> None:
        """The transport below the session is full, too, so that the session keeps all and says so.

        What it keeps by then is padding.
        """
        super()._stop()
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self._padding += len(PADDING)
            transport.write(PADDING)
