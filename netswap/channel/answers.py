"""What a worker puts into ``Answer.data``: one shape per ``Query.what``.

================ ============================ =======================================
``Query.what``   ``Query.argument``           ``Answer.data``
================ ============================ =======================================
``status``       unused                       ``WorkerStatus``
``objects``      a selector, or empty         list of ``ObjectRow``
``inspect``      an identity within the slot  ``Inspection``, or nil: no such object
``versions``     unused                       list of ``VersionRow``
``blockers``     unused                       list of ``Blocker``
``nudge``        as ``Intervene.argument``    list of ``Acted``
``cancel``       as ``Intervene.argument``    list of ``Acted``
================ ============================ =======================================
"""

from __future__ import annotations

from typing import Any

import msgspec

from netswap.events import Acted, Blocker, Retiring

__all__ = [
    "SHAPES",
    "Inspection",
    "KindCount",
    "ObjectRow",
    "VersionRow",
    "WorkerStatus",
    "decode_answer",
]


class KindCount(msgspec.Struct, frozen=True):
    """Live objects of a kind in one worker, in all and by state version."""

    objects: int
    by_version: dict[int, int]


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker's counts; ``connections`` as in its heartbeat, ``memory`` is RSS.

    Memory in bytes; ``bundles`` counts those whose code is loaded; ``retiring`` is old code.
    """

    connections: int
    kinds: dict[str, KindCount]
    memory: int = 0
    loop: str = ""
    bundles: int = 0
    retiring: list[Retiring] = []


class ObjectRow(msgspec.Struct, frozen=True):
    """One live object. ``attributes`` are those that a selector can name, such as ``peer``."""

    identity: int
    kind: str
    version: int
    sha256: str = ""
    attributes: dict[str, str | int] = {}


class Inspection(msgspec.Struct, frozen=True):
    """One live object with its state in canonical form, as plain data."""

    identity: int
    kind: str
    version: int
    sha256: str
    implementation: str
    attributes: dict[str, str | int]
    state: dict[str, Any]


class VersionRow(msgspec.Struct, frozen=True):
    """One loaded implementation of a kind and how many objects it still has."""

    kind: str
    version: int
    sha256: str
    objects: int
    active: bool = True


SHAPES: dict[str, Any] = {
    "status": WorkerStatus,
    "objects": list[ObjectRow],
    "inspect": Inspection | None,
    "versions": list[VersionRow],
    "blockers": list[Blocker],
    "nudge": list[Acted],
    "cancel": list[Acted],
}

_DECODERS = {what: msgspec.msgpack.Decoder(shape) for what, shape in SHAPES.items()}


def decode_answer(what: str, data: bytes) -> Any:
    """The value of ``SHAPES[what]`` in ``data``.

    :raises msgspec.DecodeError: the worker sent something else.
    """
    return _DECODERS[what].decode(data)
