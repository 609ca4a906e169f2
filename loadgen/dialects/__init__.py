"""The protocols as conversations: bytes out, bytes in, every answer judged. No I/O.

``DIALECTS`` maps a protocol's name to what opens the conversation of one connection. Each is a
module, but for ``echo`` and ``verify``, which are ``framed``; ``chunks`` cuts chunked bodies for
``http``, and ``conversation`` is what all have in common.
"""

from collections.abc import Callable
from importlib import import_module
from traceback import extract_tb
from typing import cast

from loadgen.dialects.chat import Chat
from loadgen.dialects.conversation import Conversation, Opening
from loadgen.dialects.counter import SharedCounter
from loadgen.dialects.framed import Echo, Verify
from loadgen.dialects.http import Http
from loadgen.dialects.kv import KeyValue
from loadgen.dialects.websocket import WebSocket

__all__ = ["DIALECTS", "Conversation", "Opening", "dialect"]

DIALECTS: dict[str, Callable[[Opening], Conversation]] = {
    "chat": Chat,
    "counter": SharedCounter,
    "echo": Echo,
    "http": Http,
    "kv": KeyValue,
    "verify": Verify,
    "websocket": WebSocket,
}


def dialect(name: str) -> Callable[[Opening], Conversation]:
    """One of the table, or one's own as ``MODULE:NAME``; ValueError says what is wrong with it."""
    if name in DIALECTS:
        return DIALECTS[name]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{name!r} is none of {', '.join(DIALECTS)}; one's own is MODULE:NAME")
    try:
        own = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"the protocol {name!r} can't be had: {error}") from error
    except (Exception, SystemExit) as error:
        at = extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"the protocol {name!r} can't be had: {at.filename}:{at.lineno} raises "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(own):
        raise ValueError(f"the protocol {name!r} is no class that takes an Opening")
    if wanting := sorted(getattr(own, "__abstractmethods__", ())):
        raise ValueError(f"the protocol {name!r} has no {' and no '.join(wanting)}")
    return cast(Callable[[Opening], Conversation], own)
