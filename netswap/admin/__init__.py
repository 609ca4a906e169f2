"""The admin API: HTTP over a Unix socket that only the server's user (and root) may use.

``requests`` is what is sent, ``client`` the command line's side, ``server`` the supervisor's side
(aiohttp), ``socket`` how the socket comes to be. A look is a GET and changes nothing; what changes
something is a POST whose answer is a stream: one JSON line per step, the result as the last.

The door opens the client's side only: a command line that has to start in under 100 ms can't
afford aiohttp, so a server is imported from ``netswap.admin.server``.
"""

from netswap.admin.client import AdminClient, BadRequest, Interrupted, Unreachable
from netswap.admin.requests import (
    PromoteRequest,
    PushRequest,
    RollbackRequest,
    SwapRequest,
)

__all__ = [
    "AdminClient",
    "BadRequest",
    "Interrupted",
    "PromoteRequest",
    "PushRequest",
    "RollbackRequest",
    "SwapRequest",
    "Unreachable",
]
