"""The canonical form: a state as bytes that any process and any version can hold.

It carries the kind and version beside the encoded fields and never the name of a class, so old
code need not be there to read it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Container
from typing import Any, Final

import msgspec

from netswap.blame import describe
from netswap.transfer.state import State

__all__ = ["Encoded", "decode", "encode", "fields_of", "plain"]

_REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for what MessagePack can't carry."""


class Encoded(msgspec.Struct, frozen=True):
    """The state of one object: msgpack map of field names to values."""

    kind: str
    version: int
    payload: bytes


def fields_of(state: State) -> dict[str, Any]:
    """The fields by name, values by pointer."""
    return msgspec.structs.asdict(state)


def encode(state: State, without: Container[str] = ()) -> Encoded:
    """The canonical form of ``state``, but for the fields ``without``.

    Raises TypeError with the field whose value can't be encoded, whatever a stand-in raises for
    its own.
    """
    fields = {name: value for name, value in fields_of(state).items() if name not in without}
    for name in state.__references__.keys() & fields.keys():
        fields[name] = state.__references__[name].to_canonical(fields[name])
    try:
        payload = msgspec.msgpack.encode(fields)
    except _REFUSALS as error:
        raise TypeError(f"{type(state).__name__}.{_unplain(fields)}") from error
    return Encoded(state.__kind__, state.__version__, payload)


def _unplain(fields: dict[str, Any]) -> str:
    """The first field that can't be encoded, and why."""
    for name, value in fields.items():
        try:
            msgspec.msgpack.encode(value)
        except _REFUSALS as error:
            return f"{name} can't be encoded: {error}"
    return "fields can't be encoded together"


def plain(state: State) -> dict[str, Any]:
    """The fields as plain data, to be looked at; of one that can't be encoded, why, as text."""
    names = state.__struct_fields__
    found: dict[str, Any] = {}
    for name in names:
        others = [other for other in names if other != name]
        try:
            payload = encode(state, others).payload
        except Exception as error:  # a stand-in is made by authors' code
            found[name] = f"{reprlib.repr(getattr(state, name))} ({describe(error)})"
        else:
            found |= msgspec.msgpack.decode(payload, strict=False)
    return found


def decode(encoded: Encoded, cls: type[State]) -> State:
    """A state of class ``cls`` from its canonical form; what that has not is as in a fresh one.

    Raises ValueError for another kind or version, msgspec.ValidationError for a wrong type.
    """
    if (encoded.kind, encoded.version) != (cls.__kind__, cls.__version__):
        raise ValueError(
            f"{encoded.kind} version {encoded.version} is not "
            f"{cls.__kind__} version {cls.__version__}"
        )
    raw: dict[str, msgspec.Raw] = msgspec.msgpack.decode(
        encoded.payload, type=dict[str, msgspec.Raw]
    )
    moved = {name: raw.pop(name) for name in list(raw) if name in cls.__references__}
    state: State = msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=cls)
    for name, value in moved.items():
        marker = cls.__references__[name]
        setattr(state, name, marker.from_canonical(msgspec.msgpack.decode(value, strict=False)))
    return state
