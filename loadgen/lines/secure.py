"""TLS of which one half can be closed, as TCP's: what the server says after our own end is heard.

TLS has two halves (RFC 8446, 6.1): each side says *close notify* when it sends no more, and reads
on until the other one has said so. The event loop's transports know the end of both alone.
``Session`` does the two things that they lack; ``SSLContext.sslobject_class`` puts it under them.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

__all__ = ["client_context", "close_half"]


class Session(ssl.SSLObject):
    """What a transport reads from; ``bytes`` when it asks for them, else a count in its buffer."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """The end of the server's half is the end of what is to be read, also when ours was first:
        there OpenSSL has an error for it, with which the transport throws away what came before it.
        """
        try:
            return super().read(len, buffer)
        except ssl.SSLZeroReturnError:
            return b"" if buffer is None else 0

    def end(self) -> None:
        """Say that no more is sent."""
        with suppress(ssl.SSLWantReadError):  # the server has not said it, too
            self.unwrap()


def client_context(ca: str) -> ssl.SSLContext:
    """Of the lines; ``ca`` is a file of whom to trust, nothing: whom the system trusts."""
    context = ssl.create_default_context(cafile=ca or None)
    context.sslobject_class = Session
    return context


def close_half(transport: asyncio.Transport) -> None:
    """Our half of a connection that ``client_context`` has made; the server's is heard on."""
    session = transport.get_extra_info("ssl_object")
    assert isinstance(session, Session)
    session.end()
    transport.pause_reading()
    transport.resume_reading()  # before it reads on, the transport sends what a session has to say
