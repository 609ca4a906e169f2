"""Limits: how much and how long a client of HTTP may.

Numbers that both versions of ``http.connection`` and of ``http.limits`` understand. Fields are
added at the end, with a default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from netswap.errors import HttpError

if TYPE_CHECKING:
    from netswap.http.message import Request

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True):
    """Bytes and seconds.

    ``head``: of one head, at most 64 KiB. ``body``: of one request's body. ``head_s``: for one
    head. ``body_s`` and ``body_least``: in each such span so many bytes of a body have to come, as
    long as the server reads. ``idle_s``: between two requests, or for taking something of an
    answer. ``linger_s``: after the last answer a client may still send so long, which is not
    looked at. ``queue``: requests that wait behind one that is being answered. ``waiting``: bytes
    of a body that wait to be read, and of answers that wait to be sent. ``drain``: so much of a
    body that nobody wanted is read to its end, so that the connection can be kept.
    """

    head: int = 65_536
    body: int = 1 << 30
    head_s: float = 20.0
    body_s: float = 20.0
    body_least: int = 1024
    idle_s: float = 75.0
    linger_s: float = 5.0
    queue: int = 32
    waiting: int = 65_536
    drain: int = 65_536

    def check_length(self, request: Request) -> None:
        """Raises HttpError (413) for a body that is, or says that it is, too long."""
        self.check_size(max(request.head.length, request.body.seen))

    def check_size(self, size: int) -> None:
        """Raises HttpError (413) for so many bytes of one body, if they are too many."""
        if size > self.body:
            raise HttpError(413, f"the body is longer than {self.body} bytes")
