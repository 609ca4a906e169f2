"""Why a connection was not made or was ended, and what to write instead where that can be told."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

__all__ = ["what_is_short", "why_dropped", "why_refused"]

_ALERT = re.compile(rb"\x15\x03[\x00-\x04]")  # the record of an alert: RFC 8446, 5.1
_OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
_QUESTIONS: tuple[tuple[type[OSError], str], ...] = (
    (ConnectionRefusedError, "is the server running?"),
    (FileNotFoundError, "is the server running?"),
    (TimeoutError, "is the server running?"),
    (socket.gaierror, "is that its name?"),
)
"""What whoever can't connect at all should look at first."""
_NO_TLS = (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, TimeoutError)


def what_is_short(error: OSError) -> str:
    """What we had too little of for a connect, as the system says it; nothing: it is the server."""
    return os.strerror(error.errno) if error.errno in _OURS else ""


def why_refused(error: OSError, *, tls: bool) -> str:
    """Of a connect that failed; ``tls``: whether it was one of TLS."""
    silent = isinstance(error, TimeoutError)
    said = str(error) or ("no answer to the connect" if silent else "the server closed it")
    if not tls or not isinstance(error, _NO_TLS):
        asked = (question for kind, question in _QUESTIONS if isinstance(error, kind))
        return ": ".join((said, *list(asked)[:1]))
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{said}; name with --ca FILE whom to trust, with --host of whom the certificate is"
    return f"{said}; does the server speak TLS there? Without --tls it is asked plainly"


def why_dropped(error: Exception | None, said: bytes, *, tls: bool, first: bool) -> str:
    """``said`` are its last bytes; ``first``: nobody has had an answer until now."""
    why = str(error or "") or "the server closed the connection"
    if tls:
        return why
    if _ALERT.match(said):
        return f"{why} with an alert of TLS: ask with --tls"
    return f"{why} before any answer: if it speaks TLS, ask with --tls" if first else why
