"""serve --static: a folder on the disk, and a download in the middle of which all is replaced."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from netswap.config import load_config
from netswap.modules import Bundle
from netswap.supervisor import Supervisor
from tests.system.harness import Server

PROTOCOLS = Path(__file__).parents[2] / "protocols"
LARGE = random.Random(3).randbytes(9_000_000)


def test_pushes_in_the_middle_of_a_download(tmp_path: Path) -> None:
    """The policy, the files and the site are replaced and rolled back; no byte is another."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www/large.bin").write_bytes(LARGE)
    server = Server(tmp_path, ["http"], "--static", str(tmp_path / "www"), "--workers", "1").start()
    try:
        with server.client("http", receive_buffer=4096) as client:
            client.send(b"GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.line().strip() == "HTTP/1.1 200 OK"
            while client.line().strip():
                pass
            server.push(PROTOCOLS / "cache/mru.py", PROTOCOLS / "static/v1.py")
            read = client.read(1_000_000)
            server.rollback()
            read += client.read(len(LARGE))
        assert hashlib.sha256(read).digest() == hashlib.sha256(LARGE).digest()
        kinds = server.kinds()
        assert (kinds["http.static"]["version"], kinds["cache.policy"]["version"]) == (2, 1)
    finally:
        server.kill()


async def test_files_take_the_place_of_a_greeting(tmp_path: Path) -> None:
    """Of a server that is started again with --static; an application that was pushed stays."""
    flags = {
        "static": (str(tmp_path),),
        "state_dir": tmp_path / "state",
        "listen": ("http=127.0.0.1:0",),
    }
    supervisor = Supervisor(load_config(flags, environ={"HOME": str(tmp_path)}))
    try:
        greeting = Bundle.from_paths([PROTOCOLS / "welcome/v1.py"]).sha256
        for active, expected in ((greeting, ["site.py"]), ("another", [])):
            bundles = supervisor._first_bundles({"http.app": active})
            names = [name for bundle in bundles for name in bundle.files]
            assert [name for name in names if name in {"site.py", "welcome.py"}] == expected
            assert "lru.py" in names
    finally:
        await supervisor.abandon()
