"""A certificate authority of the tests' own, by trustme: certificates of all sorts, as files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import trustme

__all__ = ["Authority", "Pair"]


class Pair(NamedTuple):
    """A certificate with its chain, and its key."""

    cert: Path
    key: Path

    @property
    def word(self) -> str:
        """As a flag names it."""
        return f"{self.cert}:{self.key}"


class Authority:
    """Signs certificates into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()

    @cached_property
    def file(self) -> Path:
        """The authority's own certificate."""
        path = self.folder / "ca.pem"
        self._ca.cert_pem.write_to_path(path)
        return path

    def issue(self, name: str = "localhost", into: str = "server", days: float = 90) -> Pair:
        """A certificate of a host, valid for ``days`` from now; the files may be there already."""
        now = datetime.now(UTC)
        begins, ends = now - timedelta(days=100), now + timedelta(days=days)
        issued = self._ca.issue_cert(name, "127.0.0.1", not_before=begins, not_after=ends)
        pair = Pair(self.folder / f"{into}.pem", self.folder / f"{into}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        return pair

    def client(self, *alpn: str, pair: Pair | None = None) -> ssl.SSLContext:
        """A client that trusts this authority alone, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=self.file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context
