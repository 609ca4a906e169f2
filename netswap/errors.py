"""Every exception of netswap, by who broke it.

::

    NetswapError
    ├── CallerError            the operator or the calling program
    │   ├── CallCancelledError an operator ended a suspended call of a service
    │   ├── StateMovedError    old code used a state that has gone on in another shape
    │   └── UsageError         a wrong word in a command, a flag or the configuration
    ├── AuthorError            the author of a pushed module; carries a Refusal
    │   └── BundleError        the files do not make a bundle that can be loaded
    ├── PeerError              the other end of a connection
    │   ├── HttpError          its request can't be answered otherwise than with a 4xx or 5xx
    │   ├── ProtocolError      its bytes are not of the protocol; carries the reply to send
    │   └── WebSocketClosedError  it has closed its WebSocket, or is gone
    └── InternalError          netswap itself
        ├── TransitionError    an event that a table does not know in that state
        └── ChannelError       supervisor and worker can't speak to each other

Refusing a swap is a result (``events.Refusal``), not an exception: AuthorError only carries one
out of the depth of a module's own code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netswap.events import Refusal

__all__ = [
    "AuthorError",
    "BundleError",
    "CallCancelledError",
    "CallerError",
    "ChannelError",
    "DeadlinePassed",
    "HttpError",
    "InternalError",
    "NetswapError",
    "PeerError",
    "ProtocolError",
    "StateMovedError",
    "TransitionError",
    "UsageError",
    "WebSocketClosedError",
]


class NetswapError(Exception):
    """The root of the tree."""


class CallerError(NetswapError):
    """The caller asked for something that can't be."""


class UsageError(CallerError):
    """A wrong word: says what, where it stands, and what to write instead."""

    def __init__(self, what: str, where: str = "", advice: str = "") -> None:
        super().__init__(what, where, advice)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.what}{place}" + (f"; {self.advice}" if self.advice else "")


class CallCancelledError(CallerError):
    """An operator ended a call that was suspended; its caller sees this instead of a value."""

    def __init__(self, kind: str, method: str) -> None:
        super().__init__(kind, method)
        self.kind = kind
        self.method = method

    def __str__(self) -> str:
        return f"an operator cancelled {self.method}() of {self.kind}"


class StateMovedError(CallerError):
    """Code that is not present any more used a state that has gone on in another shape."""

    def __init__(self, kind: str, version: int, present: int) -> None:
        super().__init__(kind, version, present)
        self.kind = kind
        self.version = version
        self.present = present

    def __str__(self) -> str:
        return (
            f"the state of {self.kind} has gone from version {self.version} to {self.present}: "
            f"what code of version {self.version} wrote would be lost, it is not present any more"
        )


class AuthorError(NetswapError):
    """A pushed module is wrong; ``refusal`` says how and where."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    def __str__(self) -> str:
        return str(self.refusal)


class BundleError(AuthorError):
    """The pushed files do not make a bundle that can be loaded."""


class PeerError(NetswapError):
    """The other end of a connection broke the rules."""


class ProtocolError(PeerError):
    """The peer's bytes are not of the protocol.

    Raised out of a connection's callback, ``reply`` is written and the connection is closed.
    """

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message, reply)
        self.message = message
        self.reply = reply

    def __str__(self) -> str:
        return self.message


class HttpError(PeerError):
    """A request that gets this ``status`` and ``reason`` for an answer, with no fault of ours.

    ``headers`` go out beside those of a plain text.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class WebSocketClosedError(PeerError):
    """The WebSocket is closed, with this ``code`` (RFC 6455 section 7.4) and ``reason``.

    1006 is never sent: the connection was lost without a closing handshake.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the WebSocket is closed: {self.code} {self.reason}".rstrip()


class InternalError(NetswapError):
    """netswap broke its own rules: please report it."""


class TransitionError(InternalError):
    """A table has no row for this event in this state; nothing was changed."""

    def __init__(self, machine: str, state: object, event: object) -> None:
        super().__init__(machine, state, event)
        self.machine = machine
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.machine} has no transition for {self.event} in {self.state}"


class ChannelError(InternalError):
    """A message between supervisor and worker could not be sent or understood."""


class DeadlinePassed(BaseException):
    """An author's code ran longer than it may in one go; raised by a timer's signal.

    Not an Exception, so that an author's ``except Exception`` does not swallow it.
    """
