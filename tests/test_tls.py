"""Contexts: whole, checked part by part, and nothing of a key is left lying about."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netswap.errors import UsageError
from netswap.tls import Terms, context_of, unread_authorities
from tests.authority import Authority


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    """Terms with nothing special about them."""
    pair = Authority(tmp_path).issue()
    return Terms(pair.cert.read_bytes() + pair.key.read_bytes(), "mark")


def test_a_context_is_as_strict_as_it_is_told(terms: Terms, tmp_path: Path) -> None:
    """TLS 1.2 at least; everything else as its terms say."""
    context = context_of(terms)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION
    authority = Authority(tmp_path)
    strict = msgspec.structs.replace(
        terms, minimum="1.3", client="required", client_ca=authority.file.read_text()
    )
    context = context_of(strict)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    assert context.terms is strict


@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ({"chain": b"no PEM"}, "cert and key"),
        ({"ciphers": "ROT13"}, "ciphers"),
        ({"client_ca": "no PEM", "client": "required"}, "client_ca"),
    ],
)
def test_a_part_that_openssl_refuses_is_named(
    terms: Terms, part: dict[str, Any], setting: str
) -> None:
    """By the setting that it came from; no descriptor is left of the try."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UsageError, match="OpenSSL refuses it") as caught:
        context_of(msgspec.structs.replace(terms, **part))
    assert caught.value.advice == f"look at `{setting}`"
    assert os.listdir("/proc/self/fd") == before


def test_terms_travel_and_are_not_shown(terms: Terms) -> None:
    """What is encoded is what arrives; a log that prints them has no key in it."""
    sent = msgspec.msgpack.encode(terms)
    assert msgspec.msgpack.decode(sent, type=Terms) == terms
    assert repr(terms) == str(terms) == "<terms mark>"


@pytest.mark.parametrize("said", [None, "elsewhere.pem"])
def test_authorities_are_left_unread(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    """A context that is made meanwhile trusts nobody; afterwards all is as it was."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if said is not None:
        monkeypatch.setenv("SSL_CERT_FILE", said)
    with unread_authorities():
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 0
    assert os.environ.get("SSL_CERT_FILE") == said


def test_a_server_starts_without_reading_them() -> None:
    """Of what it imports, aiohttp would have read them for a client that the server has not."""
    code = (
        "import netswap.commands.serve, aiohttp.connector as c\n"
        "print(c._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509_ca'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "0\n"
