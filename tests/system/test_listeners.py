"""Listeners of every sort in one server: ports of IPv4 and IPv6, and Unix sockets."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.authority import Authority
from tests.machine import needs_ipv6
from tests.system.harness import PUSHED, Client, Server, until

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]


@needs_ipv6
def test_unix_sockets_and_ipv6_are_served_selected_and_swapped(
    make_server: Make, tmp_path: Path
) -> None:
    """Each has its name in status, its peer in a selector, and every push; the file goes."""
    path = tmp_path / "x.sock"
    words = ("--listen", f"counter=unix:{path}?mode=660", "--listen", "counter=[::1]:0")
    server = make_server({"counter": 0}, *words)
    server.push(PUSHED / "counter_v1.py")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listeners = {row["name"]: row["address"] for row in server.look("status")["listeners"]}
    assert listeners["counter-2"] == f"unix:{path}"
    port = int(re.fullmatch(r"\[::1\]:(\d+)", listeners["counter-3"])[1])  # type: ignore[index]
    with server.client("counter") as four, Client(str(path)) as unix, Client(("::1", port)) as six:
        clients = {"127.0.0.1": four, f"unix:{os.getuid()}": unix, "::1": six}
        for client in clients.values():
            assert client.ask("add 1") == "v1 1 lines, total 1"
        for peer, client in clients.items():
            (row,) = server.look(f"objects?selector={quote(f'peer={peer}')}")["objects"]
            assert row["attributes"]["address"] == client.address
        done = server.push(PUSHED / "counter_v2.py", "--only", f"address={unix.address}")
        assert done["receipt"]["objects"] == {"counter.connection": 1}
        answers = [client.ask("add 1") for client in (four, unix, six)]
        assert [answer.split()[0] for answer in answers] == ["v1", "v2", "v1"]
        server.push(PUSHED / "counter_v2.py")
        assert six.ask("add 1") == "v2 3 lines, total 3"
    until(lambda: server.kinds()["counter.connection"]["objects"] == 0, "they are gone")
    server.stop()
    assert not path.exists()


def test_behind_a_proxy(make_server: Make, tmp_path: Path) -> None:
    """Who is behind it is the peer; who is no proxy is turned away and counted."""
    path = tmp_path / "x.sock"
    words = ["--listen", f"counter=unix:{path}", "--proxy", "counter=192.0.2.0/24"]
    words += ["--proxy", "counter-2=unix"]
    server = make_server({"counter": 0}, *words)
    server.push(PUSHED / "counter_v1.py")
    with Client(str(path)) as client:
        client.send(b"PROXY TCP6 2001:db8::7 ::1 5000 443\r\nadd 1\n")
        assert client.line() == "v1 1 lines, total 1"
        (row,) = server.look(f"objects?selector={quote('peer=2001:db8::7')}")["objects"]
        assert row["attributes"]["address"] == "[2001:db8::7]:5000"
        with server.client("counter") as stranger:
            stranger.send(b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 443\r\nadd 1\n")
            with suppress(ConnectionResetError):
                assert stranger.rest() == b""
        listeners = {row["name"]: row for row in server.look("status")["listeners"]}
        assert listeners["counter"]["turned_away"] == {"proxy": 1}
        assert listeners["counter-2"]["proxy"] == ["unix"]
    assert not server.errors()


HAPROXY = """
global
    log stderr format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen line
    bind {folder}/line.sock
    server one 127.0.0.1:{port} send-proxy
listen binary
    bind {folder}/binary.sock
    server one 127.0.0.1:{port} send-proxy-v2 proxy-v2-options unique-id
listen four
    bind 127.0.0.1:{four}
    server one 127.0.0.1:{port} send-proxy-v2 check
"""


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_behind_a_real_haproxy_with_tls_passed_through(make_server: Make, tmp_path: Path) -> None:
    """What a proxy of others' sends is read, in front of a handshake that it does not end."""
    authority = Authority(tmp_path)
    words = ("--tls", f"counter={authority.issue().word}", "--proxy", "counter=127.0.0.1")
    server = make_server({"counter": 0}, *words)
    server.push(PUSHED / "counter_v1.py")
    with socket.create_server(("127.0.0.1", 0)) as free:
        four = free.getsockname()[1]
    text = HAPROXY.format(folder=tmp_path, port=server.ports["counter"], four=four)
    (tmp_path / "haproxy.cfg").write_text(text)
    log = (tmp_path / "haproxy.log").open("w")
    with log, subprocess.Popen(["haproxy", "-f", tmp_path / "haproxy.cfg"], stderr=log) as proxy:
        try:
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(_tls_client(at, authority))
                    for at in (str(tmp_path / "line.sock"), str(tmp_path / "binary.sock"), four)
                ]
                for client in clients:
                    assert client.ask("add 1") == "v1 1 lines, total 1"
                address = quote(f"address={clients[2].address}")
                (row,) = server.look(f"objects?selector={address}")["objects"]
                assert row["attributes"]["tls"] == "TLSv1.3"
                server.push(PUSHED / "counter_v2.py")
                for client in clients:
                    assert client.ask("add 1") == "v2 2 lines, total 2"
        finally:
            proxy.kill()
    (row,) = server.look("status")["listeners"]
    assert row["turned_away"].keys() <= {"handshake"}, "only checks, which do not speak TLS"
    assert not server.errors()


def _tls_client(at: Any, authority: Authority) -> Client:
    """A client of the proxy, as soon as that answers."""

    def dial() -> Client | None:
        try:
            return Client(at)
        except OSError:
            return None

    client: Client = until(dial, "haproxy answers")
    client.sock = authority.client().wrap_socket(client.sock, server_hostname="localhost")
    return client
