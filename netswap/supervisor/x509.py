"""What a certificate says of itself, and whether a key is its own; by the cryptography package.

It is imported here and when it is needed: a server without TLS does not pay for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from netswap.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Description", "describe", "key_of", "matches", "only_certificates"]

_PAGE = re.compile(r" See https?://\S+ for more details\.?")


class Description(msgspec.Struct, frozen=True):
    """One certificate. ``begins`` and ``ends`` are seconds since the epoch; ``broken`` a remark.

    ``fingerprint`` is the SHA-256 of its DER form, in hexadecimal.
    """

    subject: str
    issuer: str
    names: list[str]
    not_before: str
    not_after: str
    begins: float
    ends: float
    fingerprint: str
    file: str
    broken: str = ""

    def __str__(self) -> str:
        return f"{self.subject}, valid until {self.not_after}, {self.fingerprint[:16]}"


def describe(pem: bytes, file: Path) -> Description:
    """The first certificate of a chain.

    :raises UsageError: there is none, or one of them can't be read.
    """
    chain = _certificates(pem, file)
    first = chain[0]
    return Description(
        _name(first.subject),
        _name(first.issuer),
        _names(first),
        first.not_valid_before_utc.isoformat(),
        first.not_valid_after_utc.isoformat(),
        first.not_valid_before_utc.timestamp(),
        first.not_valid_after_utc.timestamp(),
        _fingerprint(first),
        str(file),
        _broken(chain),
    )


def _certificates(pem: bytes, file: Path) -> list[Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        what = f"no certificates can be read from it: {_first_line(error)}"
        raise UsageError(what, str(file), "it has to be PEM, the server's own first") from error


def _name(name: Any) -> str:
    text: str = name.rfc4514_string()
    return text or "(no name)"


def _names(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found.value]


def _fingerprint(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256

    return certificate.fingerprint(SHA256()).hex()


def _broken(chain: list[Certificate]) -> str:
    """The first link whose signer is not the next certificate."""
    for below, above in zip(chain, chain[1:], strict=False):
        if below.issuer != above.subject:
            return f"{_name(below.issuer)} signed it, and {_name(above.subject)} comes next"
    return ""


def key_of(pem: bytes, file: Path) -> Any:
    """The private key in a file.

    :raises UsageError: there is none that can be read, or it is encrypted.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, None)
    except TypeError as error:
        advice = "openssl pkey -in FILE -out PLAIN decrypts it; keep the result readable by root"
        raise UsageError("the key is encrypted", str(file), advice) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = f"no private key can be read from it: {_first_line(error)}"
        raise UsageError(what, str(file), "it has to be PEM") from error


def matches(chain: bytes, key: Any) -> bool:
    """Whether a key is that of a chain's first certificate."""
    certificate = _certificates(chain, Path())[0]
    return bool(certificate.public_key() == key.public_key())


def only_certificates(file: Path, read: Callable[[Path], bytes]) -> bytes:
    """The certificates of a file in PEM, without what else is in it.

    :raises UsageError: there are none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in _certificates(read(file), file))


def _first_line(error: Exception) -> str:
    """What a library says, without the page of its own that it names."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _PAGE.sub("", line).rstrip(".")
