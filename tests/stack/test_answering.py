"""The reply of a ProtocolError that another bundle's code raises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from netswap import errors
from netswap.stack import Connection, Service
from netswap.transfer import State
from tests.protocols.conftest import Server

KIND = "asking.connection"


class Rules(State, kind="asking.rules", version=1):
    """None."""


class Asked(State, kind=KIND, version=1):
    """Nothing."""


class Strict(Service[Rules]):
    """Bears nothing."""

    def judge(self, data: bytes) -> None:
        """Refuse it."""
        raise errors.ProtocolError("never", b"no: " + data)


class Asking(Connection[Asked], uses={"rules": "asking.rules"}):
    """Its own module knows of no ProtocolError."""

    def on_data(self, data: bytes) -> None:
        """Ask."""
        self.rules.judge(data)


async def test_what_a_service_refuses_is_answered_on_every_loop() -> None:
    """uvloop closes the socket before it tells anybody; then the client saw the end alone."""
    modules: list[Any] = [SimpleNamespace(cls=Strict), SimpleNamespace(cls=Asking)]
    server = Server(modules, KIND, {})
    try:
        await server.start()
        client = await server.connect()
        await client.send(b"x", read=False)
        assert await client.read_all() == b"no: x"
    finally:
        await server.stop()
