"""httptools on bare uvloop: ``python -m benchmarks.web.bare PORT``.

It looks at everything that a server has to look at, target, headers and keep-alive, and at
nothing else: no limits, no routes, no queue, no date.
"""

from __future__ import annotations

import asyncio
import sys

import httptools
import uvloop

HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!"


class Bare(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport
    parser: httptools.HttpRequestParser
    target: bytes
    headers: list[tuple[bytes, bytes]]
    size: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make a parser."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's own is one
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self.parser.feed_data(data)

    def on_url(self, target: bytes) -> None:
        """A request begins."""
        self.target = target
        self.headers = []
        self.size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it."""
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        """Count it."""
        self.size += len(data)

    def on_message_complete(self) -> None:
        """Answer."""
        if self.target == b"/length":
            body = b"%d" % self.size
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(body) + body)
        else:
            self.transport.write(HELLO)
        if not self.parser.should_keep_alive():
            self.transport.close()


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
