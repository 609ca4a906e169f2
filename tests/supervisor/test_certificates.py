"""Certificates: read with every mistake named, in force in all workers or in none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netswap.errors import UsageError
from netswap.outcome import Outcome
from netswap.supervisor.certificates import read_files
from netswap.tls import TlsFiles, context_of
from tests.anybody import anybody
from tests.authority import Authority, Pair
from tests.supervisor.conftest import Serve, Server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs into the test's folder."""
    return Authority(tmp_path)


def encrypted(pair: Pair) -> Path:
    """The key with a passphrase."""
    path = pair.key.with_suffix(".enc")
    words = ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:x", "-out", path]
    subprocess.run(words, check=True, capture_output=True)
    return path


def text(path: Path, content: str = "no PEM") -> Path:
    """A file that is no certificate."""
    path.write_text(content)
    return path


Bad = Callable[[Authority], dict[str, Any]]
BAD: dict[str, tuple[Bad, str, str]] = {
    "missing": (lambda a: {"cert": a.folder / "none"}, "can't be read: No such file", "none"),
    "no PEM": (lambda a: {"cert": text(a.folder / "x")}, "no certificates can be read from", "x"),
    "no key": (lambda a: {"key": text(a.folder / "x")}, "no private key can be read from it", "x"),
    "strange key": (
        lambda a: {"key": a.issue(into="other").key},
        "the key is not that of the certificate in .*server.pem",
        "other.key",
    ),
    "encrypted key": (
        lambda a: {"key": encrypted(a.issue(into="other"))}, "the key is encrypted", "other.enc",
    ),
    "no authority": (
        lambda a: {"client_ca": text(a.folder / "x")}, "no certificates can be read from it", "x",
    ),
    "ciphers": (lambda _: {"ciphers": "ROT13"}, "OpenSSL refuses it: .*ciphers", "server.pem"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_file(
    tmp_path: Path, authority: Authority, case: str
) -> None:
    """In a sentence, before anything is touched."""
    bad, sentence, file = BAD[case]
    pair = authority.issue()
    settings = {"cert": pair.cert, "key": pair.key} | bad(authority)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_files(TlsFiles(**settings), "echo")
    assert caught.value.where == str(tmp_path / file)
    assert "https://" not in caught.value.what


def test_a_key_that_this_user_may_not_read(authority: Authority) -> None:
    """Says so, with the file."""
    pair = authority.issue()
    pair.cert.chmod(0o644)
    pair.key.chmod(0)
    refused = pytest.raises(UsageError, match=r"can't be read: Permission denied .*server.key")
    with anybody(pair.key), refused:
        read_files(TlsFiles(cert=pair.cert, key=pair.key), "echo")


def test_one_file_may_have_both(authority: Authority) -> None:
    """The chain and its key, in either order; nothing of it is left open or on a disk."""
    pair = authority.issue()
    both = pair.cert.with_name("both.pem")
    before = len(os.listdir("/proc/self/fd"))
    for first, second in (pair, pair[::-1]):
        both.write_bytes(first.read_bytes() + second.read_bytes())
        read = read_files(TlsFiles(cert=both), "http")
        assert read.terms.alpn == ["http/1.1"]
        context_of(read.terms)
    assert len(os.listdir("/proc/self/fd")) == before
    assert "PRIVATE" not in repr(read)


def test_what_is_shown_of_a_certificate(authority: Authority) -> None:
    """Subject, issuer, names, times, and the fingerprint that openssl says."""
    pair = authority.issue("a.example")
    shown = read_files(TlsFiles(cert=pair.cert, key=pair.key), "echo").description
    words = ["openssl", "x509", "-in", str(pair.cert), "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert shown.fingerprint == said.partition("=")[2].strip().replace(":", "").lower()
    assert shown.names == ["a.example", "127.0.0.1"]
    assert "trustme" in shown.subject
    assert "trustme" in shown.issuer
    assert 89 < (shown.ends - shown.begins) / 86_400 - 100 < 91


def server_of(pair: Pair) -> dict[str, TlsFiles]:
    """The setting of one listener."""
    return {"echo": TlsFiles(cert=pair.cert, key=pair.key)}


async def marks(server: Server) -> dict[str, int]:
    """How many workers have each certificate; the first 8 letters."""
    rows = (await server.supervisor.show_certificates())["certificates"]
    return {row["fingerprint"][:8]: row["connections"] for row in rows if row["connections"]}


def mark(pair: Pair) -> str:
    """The start of a certificate's fingerprint."""
    return read_files(TlsFiles(cert=pair.cert, key=pair.key), "echo").terms.fingerprint[:8]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_reload_reaches_every_worker_and_their_successors(
    serve: Serve, authority: Authority
) -> None:
    """The files are read once; a worker that starts later has what is in force."""
    pair = authority.issue()
    old = mark(pair)
    async with serve(tls=server_of(pair)) as server:
        assert await marks(server) == {old: 2}
        new = mark(authority.issue())
        result = await server.supervisor.reload_certificates()
        assert result.outcome is Outcome.DONE
        assert new in result.remarks[0]
        assert await marks(server) == {new: 2}
        pair.key.write_text("broken from here on")
        server.supervisor.fleet.slots[0].kill()
        await server.supervisor.fleet.wait_changed()
        await server.wait_serving()
        assert await marks(server) == {new: 2}
        (row,) = (await server.supervisor.show_certificates())["certificates"]
        assert row["in_force"]
        assert row["days_left"] == 89


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuse rekey", "echo: no memory"),
        ("silent rekey", "it did not answer in time"),
        ("file", "no certificates can be read from it"),
    ],
)
async def test_one_that_can_not_keeps_all_where_they_are(
    serve: Serve, authority: Authority, fault: str, reason: str
) -> None:
    """Exit 20: every worker has what it had, and so has the next one."""
    pair = authority.issue()
    old = mark(pair)
    async with serve(tls=server_of(pair)) as server:
        server.supervisor.fleet.enquiry._timeout = 0.5
        authority.issue()
        if fault == "file":
            pair.cert.write_text("no PEM")
        server.fault(1, fault)
        result = await server.supervisor.reload_certificates()
        assert result.outcome is Outcome.REFUSED
        assert reason in result.what
        assert "nothing was changed" in result.state
        assert result.advice
        assert result.where == (str(pair.cert) if fault == "file" else "worker 1")
        server.fault(1)
        assert await marks(server) == {old: 2}
        mended = mark(authority.issue())  # what was built in the others is of no use now
        assert (await server.supervisor.reload_certificates()).outcome is Outcome.DONE
        assert await marks(server) == {mended: 2}


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_worker_that_dies_meanwhile_is_no_reason_to_refuse(
    serve: Serve, authority: Authority
) -> None:
    """Its successor begins with what is in force by then."""
    pair = authority.issue()
    async with serve(tls=server_of(pair)) as server:
        new = mark(authority.issue())
        server.fault(0, "die in rekey")
        result = await server.supervisor.reload_certificates()
        server.fault(0)
        assert result.outcome is Outcome.DONE
        await server.wait_serving()
        assert await marks(server) == {new: 2}


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_without_tls_there_is_nothing_to_reload(serve: Serve) -> None:
    """That is refused with what to do, and shown as an empty list."""
    async with serve() as server:
        result = await server.supervisor.reload_certificates()
        assert result.outcome is Outcome.REFUSED
        assert "--tls" in result.advice
        assert (await server.supervisor.show_certificates())["certificates"] == []


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_an_expired_certificate_is_a_warning(serve: Serve, authority: Authority) -> None:
    """It is in force all the same: nothing is better than what the operator has."""
    pair = authority.issue()
    async with serve(tls=server_of(pair)) as server:
        authority.issue(days=-1)
        result = await server.supervisor.reload_certificates()
        assert result.outcome is Outcome.DONE
        assert "has expired at" in result.remarks[1]
        (row,) = [
            row
            for row in (await server.supervisor.show_certificates())["certificates"]
            if row["in_force"]
        ]
        assert row["days_left"] < 0
