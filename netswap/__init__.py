"""netswap: a TCP/HTTP server whose network stack can be replaced while it carries traffic.

This is the front door for authors of protocol modules: derive from ``Connection`` (callbacks),
``Session`` (a coroutine), ``Service`` (one a worker, or clustered) or ``Part`` (one a
connection), declare what must live as a ``State``, and say with ``migration`` how an older shape
becomes a newer one. ``invariant`` marks a method that says what is always true of a state,
``reference`` a field that moves as a pointer; ``ProtocolError`` is what to raise when the peer's
bytes are wrong.

The names are imported when they are first asked for: the command line passes through this door
too, and a look at the server must not wait for the stack.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netswap.errors import ProtocolError
    from netswap.stack import Connection, Part, Service, Session
    from netswap.transfer import State, invariant, migration, reference

__all__ = [
    "Connection",
    "Part",
    "ProtocolError",
    "Service",
    "Session",
    "State",
    "invariant",
    "migration",
    "reference",
]

_HOMES = dict.fromkeys(("Connection", "Part", "Service", "Session"), "netswap.stack") | {
    "ProtocolError": "netswap.errors",
    "State": "netswap.transfer",
    "invariant": "netswap.transfer",
    "migration": "netswap.transfer",
    "reference": "netswap.transfer",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
