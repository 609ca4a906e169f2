"""A thousand WebSocket echoes at once: ``python -m benchmarks.web.echoes PORT N SECONDS``.

Each connection sends a short text, waits for it, and sends the next. Prints how many came back.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TEXT = b"sixteen bytes..."
SENT = bytes((0x81, 0x80 | len(TEXT), 0, 0, 0, 0)) + TEXT  # masked with zeros
BACK = bytes((0x81, len(TEXT))) + TEXT


class Echo(asyncio.Protocol):
    """One connection."""

    count = 0
    failed = 0
    until = 0.0

    def __init__(self) -> None:
        self.buffer = b""
        self.upgraded = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's own is one
        self.transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        """Count an echo and send the next."""
        self.buffer += data
        if not self.upgraded.done():
            head, end, self.buffer = self.buffer.partition(b"\r\n\r\n")
            if not end:
                self.buffer = head
            elif head.startswith(b"HTTP/1.1 101"):
                self.upgraded.set_result(None)
            else:
                self.upgraded.set_exception(ConnectionError(head.splitlines()[0].decode()))
            return
        while self.buffer.startswith(BACK):
            self.buffer = self.buffer[len(BACK) :]
            Echo.count += 1
            if time.monotonic() < Echo.until:
                self.transport.write(SENT)

    def connection_lost(self, error: Exception | None) -> None:
        """The server must not close."""
        if time.monotonic() < Echo.until:
            Echo.failed += 1


async def main(port: int, number: int, seconds: float) -> int:
    """Run; 1 when a connection was closed."""
    loop = asyncio.get_running_loop()
    Echo.until = time.monotonic() + 60
    echoes = []
    for _ in range(number):
        _, echo = await loop.create_connection(Echo, "127.0.0.1", port)
        await echo.upgraded
        echoes.append(echo)
    print("connected", flush=True)
    sys.stdin.readline()
    Echo.until = time.monotonic() + seconds
    for echo in echoes:
        echo.transport.write(SENT)
    await asyncio.sleep(seconds + 0.5)
    print(Echo.count, flush=True)
    return 1 if Echo.failed else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
