"""The command line's side of the admin API: HTTP/1.0 on a plain socket.

HTTP/1.0, since then an answer ends where the connection ends, which is all that a stream of lines
needs; and a plain socket, since importing an HTTP library costs more than the whole look.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from netswap.errors import CallerError

__all__ = ["AdminClient", "BadRequest", "Interrupted", "Unreachable"]

_CONNECT_TIMEOUT = 5.0


class Unreachable(CallerError):
    """No server answers at the socket, or it does not let this user in."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)
        self.path = path
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"no server at {self.path}: {self.reason}"


class Interrupted(CallerError):
    """The connection ended after the request was sent and before its result came."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"the server at {self.path} did not say how it ended: {self.reason}"


class BadRequest(CallerError):
    """The server refuses the request as such: ``what``, and what to do instead."""

    def __init__(self, status: int, what: str, advice: str) -> None:
        super().__init__(status, what, advice)
        self.status = status
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return self.what


class AdminClient:
    """Speaks to the server at ``path``; ``timeout`` is the longest silence, in seconds."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    def get(self, resource: str, **query: str) -> dict[str, Any]:
        """One look, as the JSON object that the server answers.

        :raises Unreachable: no server answers.
        :raises BadRequest: it does not understand the question.
        """
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        target = f"{resource}?{words}" if words else resource
        try:
            with _Exchange(self._path, self._timeout, f"GET /v1/{target}", b"") as exchange:
                return exchange.page()
        except Interrupted as error:
            advice = "its log says more; `netswap workers` shows stuck workers"
            raise Unreachable(self._path, error.reason, advice) from error

    def post(self, resource: str, body: msgspec.Struct) -> Iterator[dict[str, Any]]:
        """The lines that the server answers, as they come; the last one is the result.

        :raises Unreachable: no server answers; nothing was sent.
        :raises BadRequest: it refuses the request as such.
        :raises Interrupted: the lines end before the result.
        """
        data = msgspec.json.encode(body)
        with _Exchange(self._path, self._timeout, f"POST /v1/{resource}", data) as exchange:
            yield from exchange.lines()


class _Exchange:
    """One request and its answer."""

    def __init__(self, path: Path, timeout: float, request: str, body: bytes) -> None:
        self._path = path
        self._socket = _connect(path)
        self._file = self._socket.makefile("rb")
        self._socket.settimeout(timeout)
        head = f"{request} HTTP/1.0\r\nHost: netswap\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            self._socket.sendall(head.encode() + body)
        except ConnectionError:
            # The server may refuse a body before it has read all of it: its answer says why.
            return
        except OSError as error:
            self.__exit__(None, None, None)
            raise Interrupted(path, _reason(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def page(self) -> dict[str, Any]:
        """The body as one JSON object."""
        status = self._status()
        page = self._decode(self._read_all())
        _refuse(status, page)
        return page

    def lines(self) -> Iterator[dict[str, Any]]:
        """The body as JSON lines, the last of which has ``outcome``."""
        status = self._status()
        line: dict[str, Any] = {}
        while raw := self._readline():
            line = self._decode(raw)
            _refuse(status, line)
            yield line
        if "outcome" not in line:
            raise Interrupted(self._path, "the connection ended")

    def _status(self) -> int:
        words = self._readline().split()
        if len(words) < 2 or not words[1].isdigit():
            raise Interrupted(self._path, "the connection ended" if not words else "it is no HTTP")
        while self._readline().strip():
            pass
        return int(words[1])

    def _readline(self) -> bytes:
        try:
            return self._file.readline()
        except OSError as error:
            raise Interrupted(self._path, _reason(error)) from error

    def _read_all(self) -> bytes:
        try:
            return self._file.read()
        except OSError as error:
            raise Interrupted(self._path, _reason(error)) from error

    def _decode(self, data: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Interrupted(self._path, "the answer is cut off") from error


def _refuse(status: int, page: dict[str, Any]) -> None:
    if status != 200:
        raise BadRequest(status, str(page.get("error", page)), str(page.get("advice", "")))


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_CONNECT_TIMEOUT)
    try:
        sock.connect(os.fspath(path))
    except OSError as error:
        sock.close()
        reason, advice = _UNREACHABLE.get(type(error), (_reason(error), _START))
        raise Unreachable(path, reason, advice) from error
    return sock


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)


_START = "start one with `netswap serve`, or name its socket with --socket"
_UNREACHABLE: dict[type[OSError], tuple[str, str]] = {
    FileNotFoundError: ("there is no such socket", _START),
    ConnectionRefusedError: ("nobody listens: the server that made it is gone", _START),
    PermissionError: ("this user may not use it", "use the server's user, or root"),
}
