"""A service of a new kind whose start fails: its port is taken, its file is not there."""

from netswap import Service, State


class Desk(State, kind="gallery.desk", version=1):
    rows: list[str] = []


class Clerk(Service[Desk]):
    def on_start(self) -> None:
        raise OSError("the desk is taken")  # <<
