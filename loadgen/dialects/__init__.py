"""The protocols as conversations: bytes out, bytes in, every answer judged. No I/O.

``DIALECTS`` maps a protocol's name to what opens the conversation of one connection.
"""

from collections.abc import Callable

from loadgen.dialects.conversation import Conversation, Opening
from loadgen.dialects.framed import Echo, Verify
from loadgen.dialects.http import Http
from loadgen.dialects.kv import KeyValue
from loadgen.dialects.websocket import WebSocket

__all__ = ["DIALECTS", "Conversation", "Opening"]

DIALECTS: dict[str, Callable[[Opening], Conversation]] = {
    "echo": Echo,
    "http": Http,
    "kv": KeyValue,
    "verify": Verify,
    "websocket": WebSocket,
}
