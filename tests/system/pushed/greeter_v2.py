"""greeter.connection, version 2: remembers who was there."""

from __future__ import annotations

from typing import Any

from netswap import Session, State, migration


class Greeting(State, kind="greeter.connection", version=2):
    names: list[bytes] = []


@migration("greeter.connection", 1, 2)
def up(old: dict[str, Any]) -> dict[str, Any]:
    return {"names": [b"somebody"] * old["met"]}


@migration("greeter.connection", 2, 1)
def down(new: dict[str, Any]) -> dict[str, Any]:
    return {"met": len(new["names"])}


class Greeter(Session[Greeting]):
    async def run(self) -> None:
        while name := await self.swap_point(self.read_line()):
            self.state.names.append(name)
            self.write(b"v2 hello %s, number %d\n" % (name, len(self.state.names)))
