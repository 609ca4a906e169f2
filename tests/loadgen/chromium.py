"""A headless Chromium that has no network, driven by its DevTools protocol."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

__all__ = ["Tab", "browsing"]

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-port=0", "--proxy-server=127.0.0.1:9",
)  # fmt: skip
_STARTS_S = 20.0


class Tab:
    """One page. ``events`` are what the browser told on its own, as (method, parameters)."""

    def __init__(self, socket: ClientConnection) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._socket = socket
        self._calls = 0
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0,
                  downloadThroughput=0, uploadThroughput=0)  # fmt: skip

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask, and hear until the answer comes."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (told := self._hear()).get("id") != self._calls:
            pass
        assert "error" not in told, told
        return told["result"]

    def open(self, page: Path) -> None:
        """Go to a file, until all of it has run."""
        self.call("Page.navigate", url=page.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._hear()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; that of a promise when it is kept."""
        how = {"returnByValue": True, "awaitPromise": True}
        told = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until it holds, looked at once a frame."""
        look = f"const look = () => ({condition}) ? done() : requestAnimationFrame(look); look();"
        self.evaluate(f"new Promise((done) => {{ {look} }})")

    def _hear(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._socket.recv(timeout=_STARTS_S))
        if "method" in told:
            self.events.append((told["method"], told["params"]))
        return told


@contextmanager
def browsing(program: str, home: Path) -> Iterator[Tab]:
    """A browser with an empty profile in ``home``, ended afterwards."""
    command = [program, *_QUIET, f"--user-data-dir={home}", "about:blank"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            port = _port(process, home / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=_STARTS_S) as told:
                tabs = json.load(told)
            (address,) = (tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(address, max_size=None) as socket:
                yield Tab(socket)
        finally:
            process.terminate()


def _port(process: subprocess.Popen[bytes], file: Path) -> str:
    """The browser writes a file when it listens, and tells by nothing else."""
    until = time.monotonic() + _STARTS_S
    while time.monotonic() < until:
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        if file.exists() and (lines := file.read_text().split()):
            return lines[0]
        time.sleep(0.02)
    raise AssertionError(f"chromium does not listen after {_STARTS_S:g} s")
