"""The opening handshake of a WebSocket (RFC 6455 section 4.2), on the ``websockets`` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request as Opening
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from netswap.errors import HttpError
from netswap.http.message import Request

__all__ = ["Shaken", "is_asked_for", "shake", "subprotocols_of"]

VERSION: Final = b"13"
_UPGRADE: Final = (
    (b"upgrade", b"websocket"),
    (b"connection", b"upgrade"),
    (b"sec-websocket-version", VERSION),
)
_OURS: Final = frozenset({b"date", b"content-type", b"content-length", b"connection"})
_DEFLATE: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


class Shaken(NamedTuple):
    """What was agreed on: the answer's headers, and the window bits if messages are deflated."""

    headers: list[tuple[bytes, bytes]]
    subprotocol: str | None
    compression: tuple[int, int] | None


def is_asked_for(request: Request) -> bool:
    """Whether the client wants a WebSocket, be it well said or not."""
    upgrade = request.header(b"upgrade") or b""
    return request.upgrade and upgrade.strip().lower() == b"websocket"


def subprotocols_of(request: Request) -> list[str]:
    """What the client would like to speak, best first."""
    rows = [value for name, value in request.headers if name == b"sec-websocket-protocol"]
    words = b",".join(rows).decode("latin-1").split(",")
    return [word.strip() for word in words if word.strip()]


def shake(request: Request, subprotocols: Sequence[str] = (), compress: bool = True) -> Shaken:
    """Agree to a WebSocket that ``request`` asks for; of ``subprotocols`` the first is preferred.

    Raises HttpError: 426 when it asks for none or for another version, 400, 405 or 505 when it
    asks in a wrong way.
    """
    if not request.upgrade or request.body.size or not request.body.complete:
        raise HttpError(426, "here is a WebSocket, ask for an upgrade to one", _UPGRADE)
    version = request.header(b"sec-websocket-version")
    if version is not None and version.strip() != VERSION:
        raise HttpError(426, f"only version {VERSION.decode()} is spoken here", _UPGRADE)
    wanted = subprotocols_of(request)
    ours = [Subprotocol(name) for name in subprotocols if name in wanted]
    protocol = ServerProtocol(
        extensions=[_DEFLATE] if compress else None, subprotocols=ours or None
    )
    answer = protocol.accept(_opening(request))
    if answer.status_code != 101:
        raise HttpError(answer.status_code, _reason(protocol), _headers(answer.headers))
    agreed = next((row for row in protocol.extensions if isinstance(row, PerMessageDeflate)), None)
    return Shaken(
        _rows(answer.headers),
        protocol.subprotocol,
        None if agreed is None else (agreed.remote_max_window_bits, agreed.local_max_window_bits),
    )


def _opening(request: Request) -> Opening:
    headers = Headers()
    for name, value in request.headers:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    target = request.target.decode("latin-1")
    return Opening(target, headers, request.method, f"HTTP/{request.version}")


def _reason(protocol: ServerProtocol) -> str:
    error: BaseException | None = protocol.handshake_exc
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__
    return "; ".join(words)


def _headers(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """What the package has to say beside a plain text; of an upgrade, how to ask for one."""
    if "Upgrade" in headers:
        return _UPGRADE
    return tuple(row for row in _rows(headers) if row[0] not in _OURS)


def _rows(headers: Headers) -> list[tuple[bytes, bytes]]:
    rows = headers.raw_items()
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in rows]
