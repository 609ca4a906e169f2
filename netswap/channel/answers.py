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
``certificates`` unused                       list of ``CertificateRow``
``rekey``        a ``Rekey``                  ``Rekeyed``
================ ============================ =======================================
"""

from __future__ import annotations

from typing import Any

import msgspec

from netswap.events import Acted, Blocker, Retiring

__all__ = [
    "SHAPES",
    "CertificateRow",
    "Inspection",
    "KindCount",
    "ObjectRow",
    "Rekeyed",
    "VersionRow",
    "WorkerStatus",
    "decode_answer",
]


class KindCount(msgspec.Struct, frozen=True):
    """Live objects of a kind in one worker, in all and by state version.

    ``pinned`` counts sessions that stay in code which is not present any more.
    """

    objects: int
    by_version: dict[int, int]
    pinned: int = 0


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker's counts; ``connections`` as in its heartbeat, ``memory`` is RSS.

    Memory in bytes; ``bundles`` counts those whose code is loaded; ``retiring`` is old code;
    ``turned_away`` has, by listener, how many never became connections, by the reason.
    """

    connections: int
    kinds: dict[str, KindCount]
    memory: int = 0
    loop: str = ""
    bundles: int = 0
    retiring: list[Retiring] = []
    turned_away: dict[str, dict[str, int]] = {}


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


class CertificateRow(msgspec.Struct, frozen=True):
    """How many live connections of a listener began with the certificate of a fingerprint."""

    listener: str
    fingerprint: str
    connections: int


class Rekeyed(msgspec.Struct, frozen=True):
    """What became of a ``Rekey``: ``error`` says why the terms of ``listener`` can't be used."""

    listener: str = ""
    error: str | None = None


SHAPES: dict[str, Any] = {
    "status": WorkerStatus,
    "objects": list[ObjectRow],
    "inspect": Inspection | None,
    "versions": list[VersionRow],
    "blockers": list[Blocker],
    "nudge": list[Acted],
    "cancel": list[Acted],
    "certificates": list[CertificateRow],
    "rekey": Rekeyed,
}

_DECODERS = {what: msgspec.msgpack.Decoder(shape) for what, shape in SHAPES.items()}


def decode_answer(what: str, data: bytes) -> Any:
    """The value of ``SHAPES[what]`` in ``data``.

    :raises msgspec.DecodeError: the worker sent something else.
    """
    return _DECODERS[what].decode(data)
