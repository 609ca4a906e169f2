"""What has come over a WebSocket and was not received yet, and who waits for it."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

__all__ = ["Mailbox"]

HIGH_WATER: Final = 65_536
"""Bytes of messages that wait to be received; beyond it the client is not read."""
MANY: Final = 64
"""Or so many messages."""


class Mailbox:
    """The messages of a channel."""

    __slots__ = ("messages", "steady", "waiter")

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        """What has come and was not received."""
        self.steady = False
        """It is open, its coroutine stays, and no connection waits for its messages to be taken:
        then there is nothing to ask before the next is. Found by ``poll``, ended by any change."""
        self.waiter: Any = None
        """The future that a coroutine waits for which has to be told of a message."""

    def deliver(self, message: str | bytes) -> bool:
        """A message has come; says what ``full`` says."""
        messages = self.messages
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if messages or len(message) > HIGH_WATER:
            messages.append(message)
            return self.full
        messages.append(message)
        return False

    @property
    def full(self) -> bool:
        """Whether so much waits to be received that the client should not be read."""
        messages = self.messages
        found = len(messages) > MANY or sum(map(len, messages)) > HIGH_WATER
        if found:
            self.steady = False
        return found

    def _wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
