"""TLS: what the operator says of a listener, what of it travels to the workers, and its context.

Theory. ``TlsFiles`` names files; the supervisor alone reads them, once for all workers, and sends
their bytes along (``Terms``). So the key may be root's, files that are replaced one after the other
can't give two workers two pairs, and a worker that starts later has the set that is in force, even
when the files are broken by then. OpenSSL reads a chain from a path only: the bytes lie in an
anonymous file (memfd) for the moment in which a context is built, never on a disk.

A context is whole and never changed: certificate, client certificates, ALPN, versions and ciphers
are of one set. A session keeps the context that it began with.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from netswap.errors import UsageError

__all__ = [
    "CLIENTS",
    "TLS_PATHS",
    "Context",
    "Terms",
    "TlsFiles",
    "context_of",
    "read_tls",
    "unread_authorities",
]

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CLIENTS = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
"""Whether a client shows a certificate; an optional one is checked too when it comes."""
HANDSHAKE_S = 10.0
TLS_PATHS = ("cert", "key", "client_ca")


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one listener.

    ``cert`` is a PEM file with the chain, the server's own certificate first; ``key`` is its key
    (None: in the same file). ``client_ca`` signs clients' certificates. ``alpn`` None is the
    protocol's own list. ``ciphers`` is OpenSSL's list for TLS 1.2; ``handshake`` in seconds.
    """

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None
    client: str = ""
    alpn: tuple[str, ...] | None = None
    minimum: str = "1.2"
    ciphers: str = ""
    handshake: float = HANDSHAKE_S

    @property
    def asks(self) -> str:
        """Key of ``CLIENTS``: with a ``client_ca`` a certificate is required, unless it is said."""
        return self.client or ("required" if self.client_ca is not None else "none")


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What one listener's sessions begin with, as it travels; ``chain`` has the key in it, in PEM.

    ``fingerprint`` is the SHA-256 of the certificate in hexadecimal. Never logged.
    """

    chain: bytes
    fingerprint: str
    client_ca: str = ""
    client: str = "none"
    alpn: list[str] = []
    minimum: str = "1.2"
    ciphers: str = ""
    handshake: float = HANDSHAKE_S

    def __repr__(self) -> str:
        return f"<terms {self.fingerprint[:16]}>"


class Context(ssl.SSLContext):
    """A context that knows its terms."""

    terms: Terms


def context_of(terms: Terms) -> Context:
    """Build a whole context.

    :raises UsageError: OpenSSL does not take a part; the advice names the setting.
    """
    made = Context(ssl.PROTOCOL_TLS_SERVER)
    made.terms = terms
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.minimum_version = _MINIMUM[terms.minimum]
    for part, take in _PARTS.items():
        try:
            take(made, terms)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise UsageError(f"OpenSSL refuses it: {reason}", "", f"look at `{part}`") from error
    return made


def _take_chain(context: Context, terms: Terms) -> None:
    fd = os.memfd_create("netswap-tls")
    with os.fdopen(fd, "wb") as file:
        file.write(terms.chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _take_clients(context: Context, terms: Terms) -> None:
    if terms.client_ca:
        context.load_verify_locations(cadata=terms.client_ca)
    context.verify_mode = CLIENTS[terms.client]


def _take_alpn(context: Context, terms: Terms) -> None:
    if terms.alpn:
        context.set_alpn_protocols(terms.alpn)


def _take_ciphers(context: Context, terms: Terms) -> None:
    if terms.ciphers:
        context.set_ciphers(terms.ciphers)


_PARTS: dict[str, Callable[[Context, Terms], None]] = {
    "ciphers": _take_ciphers,  # before the chain, whose key's strength they judge
    "cert and key": _take_chain,
    "client_ca": _take_clients,
    "alpn": _take_alpn,
}


# -- the setting --


def read_tls(value: object, seconds: Callable[[object], float]) -> dict[str, TlsFiles]:
    """The listeners of a TOML table, of repeated flags, or of a variable; ValueError if it is none.

    A flag is ``NAME=CERT:KEY``, or ``NAME=FILE`` with both in it. ``seconds`` reads a duration.
    """
    if isinstance(value, dict):
        return {name: _of_table(name, table, seconds) for name, table in value.items()}
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ValueError(f"{value!r} is not a table of listeners")
    return dict(_of_word(str(word)) for word in words)


def _of_word(word: str) -> tuple[str, TlsFiles]:
    name, _, files = word.partition("=")
    cert, colon, key = files.partition(":")
    if not name or not cert or (colon and not key):
        raise ValueError(f"{word!r} is not LISTENER=CERT:KEY")
    return name, TlsFiles(cert=Path(cert), key=Path(key) if key else None)


def _of_table(name: str, table: object, seconds: Callable[[object], float]) -> TlsFiles:
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not a table with cert and key")
    fields: dict[str, Any] = dict(table)
    if "handshake" in fields:
        fields["handshake"] = seconds(fields["handshake"])
    try:
        files = msgspec.convert(fields, TlsFiles, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: {error}") from error
    _refuse_contradictions(name, files)
    return files


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | os.PathLike) and os.fspath(value):
        return Path(value)
    raise ValueError(f"{value!r} is not a path")


def _refuse_contradictions(name: str, files: TlsFiles) -> None:
    if files.minimum not in _MINIMUM:
        raise ValueError(f"{name}: minimum {files.minimum!r} is none of {', '.join(_MINIMUM)}")
    if files.asks not in CLIENTS:
        raise ValueError(f"{name}: client {files.client!r} is none of {', '.join(CLIENTS)}")
    if files.asks != "none" and files.client_ca is None:
        raise ValueError(f"{name}: client is {files.client!r}, and no client_ca says who signs")
    if any(not word or len(word) > 255 for word in files.alpn or ()):
        raise ValueError(f"{name}: alpn {files.alpn!r} has a name of 0 or over 255 letters")


@contextmanager
def unread_authorities() -> Iterator[None]:
    """A context that is made inside trusts nobody: the system's authorities are not read for it.

    That takes a tenth of a second, and aiohttp does it when it is imported, for its client.
    """
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before
