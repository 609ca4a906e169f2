"""The servers, each with the application, started and reloaded in its own way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import ROOT, free_port

__all__ = ["PEERS", "Peer", "Running", "SITE", "certificate", "find"]

SITE = Path(__file__).with_name("site.py")
READY_S = 30.0


class Ports(NamedTuple):
    """Where a server listens, plain and TLS, and an upstream of it."""

    plain: int
    tls: int
    upstream: int


class Folder(NamedTuple):
    """Where a server works: the application is ``site_app.py`` in it."""

    path: Path

    @property
    def site(self) -> Path:
        """The application's file."""
        return self.path / "site_app.py"

    @property
    def cert(self) -> str:
        """The certificate's file."""
        return str(self.path / "cert.pem")

    @property
    def key(self) -> str:
        """The key's file."""
        return str(self.path / "key.pem")

    def write_site(self, version: int) -> None:
        """Make the application one of this version."""
        text = SITE.read_text(encoding="utf-8")
        self.site.write_text(text.replace("VERSION = 1", f"VERSION = {version}", 1))

    def break_site(self) -> None:
        """Make the application one that does not import."""
        self.site.write_text("import a_module_that_is_not_there\n")


class Peer(NamedTuple):
    """A server. ``plain`` and ``tls`` are its commands; None: one process serves both."""

    name: str
    program: str
    get: str
    plain: Callable[[str, Folder, Ports], list[str]]
    tls: Callable[[str, Folder, Ports], list[str]] | None
    signal: signal.Signals | None = signal.SIGHUP
    proxies: bool = False


def _uvicorn(program: str, folder: Folder, ports: Ports) -> list[str]:  # noqa: ARG001 - they share a shape
    return [program, "site_app:app", "--port", str(ports.plain), "--workers", "2"]


def _uvicorn_tls(program: str, folder: Folder, ports: Ports) -> list[str]:
    tls = ["--ssl-certfile", folder.cert, "--ssl-keyfile", folder.key]
    return [program, "site_app:app", "--port", str(ports.tls), "--workers", "2", *tls]


def _granian(program: str, folder: Folder, ports: Ports) -> list[str]:  # noqa: ARG001 - they share a shape
    words = ["--interface", "asgi", "--workers", "2", "--port", str(ports.plain)]
    return [program, *words, "site_app:app"]


def _granian_tls(program: str, folder: Folder, ports: Ports) -> list[str]:
    words = ["--interface", "asgi", "--workers", "2", "--port", str(ports.tls)]
    tls = ["--ssl-certificate", folder.cert, "--ssl-keyfile", folder.key]
    return [program, *words, *tls, "site_app:app"]


def _hypercorn(program: str, folder: Folder, ports: Ports) -> list[str]:
    plain = ["--insecure-bind", f"127.0.0.1:{ports.plain}"]
    tls = ["--bind", f"127.0.0.1:{ports.tls}", "--certfile", folder.cert, "--keyfile", folder.key]
    return [program, "-w", "2", *plain, *tls, "site_app:app"]


def _gunicorn(program: str, folder: Folder, ports: Ports) -> list[str]:  # noqa: ARG001 - they share a shape
    return [program, "-k", "asgi", "-w", "2", "-b", f"127.0.0.1:{ports.plain}", "site_app:app"]


def _gunicorn_tls(program: str, folder: Folder, ports: Ports) -> list[str]:
    words = ["-b", f"127.0.0.1:{ports.tls}", "--certfile", folder.cert, "--keyfile", folder.key]
    return [program, "-k", "asgi", "-w", "2", *words, "site_app:app"]


def _nginx(program: str, folder: Folder, ports: Ports) -> list[str]:
    config = folder.path / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 2;
pid {folder.path}/nginx.pid; error_log {folder.path}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder.path}/b; proxy_temp_path {folder.path}/p;
  fastcgi_temp_path {folder.path}/f; uwsgi_temp_path {folder.path}/u;
  scgi_temp_path {folder.path}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{ports.plain};
    listen 127.0.0.1:{ports.tls} ssl;
    ssl_certificate {folder.cert}; ssl_certificate_key {folder.key};
    location / {{
      proxy_pass http://127.0.0.1:{ports.upstream}; proxy_http_version 1.1;
      proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
""",
        encoding="ascii",
    )
    return [program, "-c", str(config), "-p", str(folder.path)]


def _haproxy(program: str, folder: Folder, ports: Ports) -> list[str]:
    pem = folder.path / "both.pem"
    pem.write_text(Path(folder.cert).read_text() + Path(folder.key).read_text())
    config = folder.path / "haproxy.cfg"
    config.write_text(
        f"""defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{ports.plain}
  bind 127.0.0.1:{ports.tls} ssl crt {pem}
  default_backend b
backend b
  server s 127.0.0.1:{ports.upstream}
""",
        encoding="ascii",
    )
    return [program, "-W", "-db", "-f", str(config)]


def _netswap(program: str, folder: Folder, ports: Ports) -> list[str]:
    words = ["serve", "--workers", "2", "--app", f"{folder.site}:app"]
    words += ["--state-dir", str(folder.path / "state"), "--socket", str(folder.path / "s")]
    words += [
        "--listen",
        f"http=127.0.0.1:{ports.plain}",
        "--listen",
        f"http=127.0.0.1:{ports.tls}",
    ]
    return [program, *words, "--tls", f"http-2={folder.cert}:{folder.key}"]


PEERS = (
    Peer("netswap", "netswap", "it comes with this", _netswap, None, None),
    Peer("uvicorn", "uvicorn", "pip install uvicorn[standard]", _uvicorn, _uvicorn_tls),
    Peer("granian", "granian", "pip install granian[reload]", _granian, _granian_tls),
    Peer("hypercorn", "hypercorn", "pip install hypercorn", _hypercorn, None),
    Peer("gunicorn", "gunicorn", "pip install gunicorn", _gunicorn, _gunicorn_tls),
    Peer("nginx", "nginx", "apt-get install nginx-light", _nginx, None, signal.SIGHUP, True),
    Peer(
        "HAProxy",
        "haproxy",
        "apt-get install haproxy",
        _haproxy,
        None,
        signal.SIGUSR2,
        proxies=True,
    ),
)


def find(peer: Peer, folder: Path | None) -> str | None:
    """Where a peer's program is: in the folder of peers, beside this Python, or on the path."""
    places = [str(folder)] if folder else []
    places.append(str(Path(sys.executable).parent))
    return shutil.which(peer.program, path=os.pathsep.join([*places, os.environ["PATH"]]))


def certificate(folder: Path) -> None:
    """A certificate for localhost, made by openssl."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(words, check=True, capture_output=True)


class Running:
    """A peer that serves, in a folder of its own, with whatever stands behind it."""

    def __init__(self, peer: Peer, program: str, path: Path, upstream: str | None) -> None:
        self.peer = peer
        self.program = program
        self.folder = Folder(path)
        self.ports = Ports(free_port(), free_port(), free_port())
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folder.write_site(1)
        certificate(path)
        if peer.proxies:
            assert upstream is not None
            ports = self.ports._replace(plain=self.ports.upstream)
            self._upstream = self._start(_uvicorn(upstream, self.folder, ports))
        commands = [peer.plain, peer.tls]
        self.mains = [
            self._start(command(program, self.folder, self.ports))
            for command in commands
            if command is not None
        ]

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        log = (self.folder.path / "log").open("ab")
        process = subprocess.Popen(
            words,
            cwd=self.folder.path,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(self.folder.path)},
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def reload(self, version: int | None) -> str:
        """Bring in another version of the application, None for one that does not import.

        What the server says about it, if it says something. Of a proxy the configuration is read
        again, a wrong one for None.
        """
        if self.peer.proxies:
            return self._reload_proxy(version is None)
        if version is None:
            self.folder.break_site()
        else:
            self.folder.write_site(version)
        if self.peer.signal is None:
            words = [self.program, "push", str(self.folder.site), "--socket"]
            done = subprocess.run(
                [*words, str(self.folder.path / "s")],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            return f"exit {done.returncode}"
        for process in self.mains:
            process.send_signal(self.peer.signal)
        return ""

    def _reload_proxy(self, wrong: bool) -> str:
        if wrong:
            (config,) = (*self.folder.path.glob("*.cfg"), *self.folder.path.glob("*.conf"))
            config.write_text(config.read_text() + "\nnonsense here\n")
        assert self.peer.signal is not None
        for process in self.mains:
            process.send_signal(self.peer.signal)
        return ""

    def stop(self) -> None:
        """End it, with all that it has started."""
        for process in reversed(self.processes):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                continue
    try:
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlive their parent
    except ProcessLookupError:
        return
    time.sleep(0.1)
