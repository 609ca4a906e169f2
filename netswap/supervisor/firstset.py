"""The first set: which bundled modules a server begins with when its journal names none.

Only kinds that have no implementation yet are looked for, so a server that comes back, or that
gets one more listener, keeps what was active.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Iterable
from pathlib import Path

__all__ = ["bundled_modules", "first_paths", "kind_of_protocol", "waits_for"]

_BESIDE = {
    "http": {
        "http.app": "welcome/v1",
        "http.limits": "http/limits",
        "websocket.connection": "websocket/v1",
    }
}
"""What a protocol needs beside its connections."""

_FILES = {
    "http.app": "static/site",
    "http.static": "static/v2",
    "cache.file": "cache/file",
    "cache.policy": "cache/lru",
}
"""What files need; an application of one's own has the place of the site."""

_PARTS = {
    "buffer.receive": "buffers/contiguous",
    "buffer.send": "buffers/immediate",
    "timer.service": "timers/loop",
    "connection.factory": "factories/plain",
    "watch.policy": "watch/v1",
}


def kind_of_protocol(protocol: str) -> str:
    """The kind of the connections of a listener."""
    return f"{protocol}.connection"


def waits_for(protocol: str, active: Container[str]) -> str | None:
    """The kind that clients of a listener wait for, when no module provides it yet."""
    kind = kind_of_protocol(protocol)
    return None if kind in active else kind


def bundled_modules() -> Path:
    """The folder of the modules that come with netswap.

    :raises FileNotFoundError: they were not installed.
    """
    found = importlib.util.find_spec("protocols")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package `protocols`, which comes with netswap, is not there")
    return Path(next(iter(found.submodule_search_locations)))


def first_paths(
    protocols: Iterable[str], active: Container[str], *, files: bool = False
) -> list[Path]:
    """The modules for ``protocols`` and for what every connection needs, without what is active.

    A protocol that has no bundled module is left out: a push may bring it. With ``files`` those
    that serve a folder's files are among them.
    """
    wanted = dict(_PARTS)
    for name in protocols:
        wanted |= {kind_of_protocol(name): f"{name}/v1"} | _BESIDE.get(name, {})
    if files:
        wanted |= _FILES
    folder = bundled_modules()
    places = [folder / place for kind, place in wanted.items() if kind not in active]
    found = (_module(place) for place in places)
    return [path for path in found if path is not None]


def _module(place: Path) -> Path | None:
    """A module that is a file or a folder."""
    file = place.with_name(place.name + ".py")
    if file.is_file():
        return file
    return place if place.is_dir() else None
