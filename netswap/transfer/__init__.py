"""State and its way from one implementation to the next.

``state`` is what an author declares; ``invariant`` what is always true of it; ``migration`` a pure
single step between two versions of its shape; ``plan`` finds the way between two given shapes and
says what it is worth, and ``canonical`` is the encoded form that crosses processes. The room knows
no sockets, no loop and no time: it turns one plain value into another.
"""

from netswap.transfer.canonical import decode, encode
from netswap.transfer.invariant import invariant, violated
from netswap.transfer.migration import Migration, migration
from netswap.transfer.plan import Transfer, plan_transfer
from netswap.transfer.state import State, reference

__all__ = [
    "Migration",
    "State",
    "Transfer",
    "decode",
    "encode",
    "invariant",
    "migration",
    "plan_transfer",
    "reference",
    "violated",
]
