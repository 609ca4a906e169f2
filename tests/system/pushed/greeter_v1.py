"""greeter.connection, version 1: a session that answers every line with how many there were."""

from __future__ import annotations

from netswap import Session, State


class Greeting(State, kind="greeter.connection", version=1):
    met: int = 0


class Greeter(Session[Greeting]):
    async def run(self) -> None:
        while name := await self.swap_point(self.read_line()):
            self.state.met += 1
            self.write(b"v1 hello %s, number %d\n" % (name, self.state.met))
