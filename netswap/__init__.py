"""netswap: a TCP/HTTP server whose network stack can be replaced while it carries traffic.

This is the front door for authors of protocol modules: derive from ``Connection`` (callbacks),
``Session`` (a coroutine), ``Service`` (one a worker, or clustered) or ``Part`` (one a
connection), declare what must live as a ``State``, and say with ``migration`` how an older shape
becomes a newer one. ``reference`` marks a field that moves as a pointer; ``ProtocolError`` is what
to raise when the peer's bytes are wrong.
"""

from netswap.errors import ProtocolError
from netswap.stack import Connection, Part, Service, Session
from netswap.transfer import State, migration
from netswap.transfer.state import reference

__all__ = [
    "Connection",
    "Part",
    "ProtocolError",
    "Service",
    "Session",
    "State",
    "migration",
    "reference",
]
