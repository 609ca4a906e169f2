"""The reply of a ProtocolError that is raised while bytes are taken.

uvloop closes the socket before it reports what a callback raised, so the reply has to be written
inside of the callback. That costs a call for each chunk of bytes; a class whose calls can't come to
a ProtocolError does not pay it. What it uses may be swapped for code that raises one, so a class
that uses anything pays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from netswap.errors import ProtocolError

__all__ = ["answering", "may_refuse"]


def may_refuse(hook: Callable[..., Any]) -> bool:
    """Whether the module of ``hook`` has ProtocolError, as far as its globals show."""
    known: dict[str, Any] | None = getattr(hook, "__globals__", None)
    return known is None or ProtocolError in known.values()


def answering(hook: Callable[..., Any]) -> Callable[..., Any]:
    """``hook`` with an answer to ProtocolError."""
    name = getattr(hook, "__name__", "on_data")

    def answering(self: Any, data: bytes) -> Any:
        try:
            return hook(self, data)
        except ProtocolError as error:
            self.host.failed(self, error, name)
            return None

    return functools.update_wrapper(answering, hook)
