"""A service of a new kind whose start never returns."""

from netswap import Service, State


class Desk(State, kind="gallery.desk", version=1):
    rows: list[str] = []


class Clerk(Service[Desk]):
    def on_start(self) -> None:
        while True: pass  # <<
