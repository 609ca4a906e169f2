"""TLS in a whole server: swaps and new certificates under checked load, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.system.harness import (
    PUSHED,
    ROOT,
    Client,
    Process,
    Server,
    assert_faultless,
    run,
    until,
)

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the server's certificates."""
    return Authority(tmp_path)


def certificates(server: Server) -> list[dict[str, Any]]:
    """The rows of `netswap certificates`."""
    rows: list[dict[str, Any]] = server.look("certificates")["certificates"]
    return rows


class TlsClient(Client):
    """The same over TLS."""

    def __init__(self, server: Server, authority: Authority, protocol: str = "counter") -> None:
        super().__init__(server.ports[protocol])
        try:
            context = authority.client()
            self.sock: Any = context.wrap_socket(self.sock, server_hostname="localhost")
        except OSError:
            self.sock.close()
            raise


def test_checked_load_over_tls_with_pushes_and_new_certificates(
    make_server: Make, authority: Authority, tmp_path: Path
) -> None:
    """200 connections, swapped back and forth while certificates rotate: 0 lost.

    A quarter of them by a Unix socket; and strangers shake hands all the time, of whom none fails.
    """
    pair = authority.issue()
    path = f"unix:{tmp_path}/verify.sock"
    server = make_server(("verify",), "--listen", f"verify={path}", "--tls", f"verify={pair.word}")
    words = ["load", "run", "--protocol", "verify", "--tls", "--ca", authority.file]
    words += ["--duration", "10m", "--grace", "10s"]
    port = f"127.0.0.1:{server.ports['verify']}"
    with (
        server.starts(*words, "--connections", 150, "--rate", 750, "--target", port) as one,
        server.starts(*words, "--connections", 50, "--rate", 250, "--target", path) as two,
        ThreadPoolExecutor(1) as pool,
    ):
        until(lambda: _live(server) == 200, "all are connected")
        over = threading.Event()
        strangers = pool.submit(_shake_hands, server.ports["verify"], authority, over)
        try:
            for _ in range(2):
                server.push(ROOT / "protocols/verify/v2.py")
                authority.issue()
                assert server.netswap("certificates", "--reload").code == 0
                server.rollback()
        finally:
            over.set()
        assert strangers.result() > 10
        until(lambda: _live(server) == 200, "the strangers have gone")
        for load in (one, two):
            load.send_signal(signal.SIGTERM)
        ends = [(load.communicate(timeout=60), load.returncode) for load in (one, two)]
    for (out, err), code in ends:
        assert out, err
        report = json.loads(out)
        assert_faultless(code, report)
        assert report["counts"]["answered"] > 200
    assert not any(row["turned_away"] for row in server.look("status")["listeners"])
    assert not server.errors()


def _shake_hands(port: int, authority: Authority, over: threading.Event) -> int:
    """One new session after the other; how many."""
    context, count = authority.client(), 0
    while not over.wait(0.005):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as session,
        ):
            session.sendall(struct.pack("!IQQQ", 24, 7, 1, 123_456_790))
            assert len(session.recv(1000)) > 4
        count += 1
    return count


def _live(server: Server) -> int:
    """Connections that began with one of the certificates, the first or a later one."""
    return sum(row["connections"] for row in certificates(server))


def test_a_rotation_from_the_outside(make_server: Make, authority: Authority) -> None:
    """Shown, refused with 20, done by command and by SIGHUP, and there after a worker's death."""
    pair = authority.issue()
    server = make_server(("counter",), "--tls", f"counter={pair.word}")
    server.push(PUSHED / "counter_v1.py")
    first = certificates(server)[0]["fingerprint"]
    with TlsClient(server, authority) as old:
        assert old.ask("add 1") == "v1 1 lines, total 1"
        (row,) = certificates(server)
        assert (row["connections"], row["in_force"], row["client"]) == (1, True, "none")
        pair.cert.write_text("no PEM")
        refused = server.netswap("certificates", "--reload")
        assert refused.code == 20
        assert refused.page["where"] == str(pair.cert)
        assert certificates(server) == [row]
        authority.issue()
        assert server.netswap("certificates", "--reload").code == 0
        rows = {row["fingerprint"]: row for row in certificates(server)}
        assert rows.pop(first)["connections"] == 1
        (second,) = rows
        assert rows[second]["in_force"]
        with TlsClient(server, authority) as new:
            assert new.ask("add 1") == "v1 1 lines, total 1"
            mark = ssl.DER_cert_to_PEM_cert(new.sock.getpeercert(binary_form=True))
            assert mark in pair.cert.read_text()
        authority.issue()
        server.signal(signal.SIGHUP)
        until(lambda: second not in _in_force(server), "SIGHUP brings the third set")
        assert old.ask("add 1") == "v1 2 lines, total 2"
        dead = server.workers()[0]["pid"]
        os.kill(server.workers()[1]["pid"], signal.SIGHUP)  # no worker minds
        with Process(dead) as worker:
            worker.kill()
        server.wait_serving(without=[dead])
    for _ in range(8):
        with TlsClient(server, authority) as client:
            mark = ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True))
            assert mark in pair.cert.read_text()
            assert client.ask("add 1") == "v1 1 lines, total 1"
    shown = run("certificates", "--socket", server.socket, home=server.folder)
    assert shown.returncode == 0
    assert "days left" in shown.stdout
    assert server.netswap("status").page["listeners"][0]["tls"] is True


def _in_force(server: Server) -> set[str]:
    return {row["fingerprint"] for row in certificates(server) if row["in_force"]}


@pytest.mark.slow  # a gate in this process does the same: tests/worker/test_tls.py
def test_atomic_over_tls(make_server: Make, authority: Authority) -> None:
    """The gates of all workers hold TLS sessions too."""
    pair = authority.issue()
    server = make_server(("counter",), "--tls", f"counter={pair.word}")
    server.push(PUSHED / "counter_v1.py")
    with TlsClient(server, authority) as one, TlsClient(server, authority) as two:
        assert [one.ask("add 1"), two.ask("add 1")] == ["v1 1 lines, total 1"] * 2
        server.push(PUSHED / "counter_v2.py", "--atomic")
        assert [one.ask("add 1"), two.ask("add 1")] == ["v2 2 lines, total 2"] * 2
        server.rollback("--atomic")
        assert [one.ask("add 1"), two.ask("add 1")] == ["v1 3 lines, total 3"] * 2


@pytest.mark.parametrize("words", [("--check",), ()])
def test_a_server_with_a_broken_certificate_does_not_start(
    tmp_path: Path, authority: Authority, words: tuple[str, ...]
) -> None:
    """Usage error, with file and reason; the check before a restart finds it too."""
    pair, other = authority.issue(), authority.issue(into="other")
    done = run("serve", "--listen", "kv=127.0.0.1:0", "--tls", f"kv={pair.cert}:{other.key}",
               "--state-dir", tmp_path / "state", *words, home=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert f"kv: the key is not that of the certificate in {pair.cert}" in done.stderr
    assert str(other.key) in done.stderr
    assert "Traceback" not in done.stderr
