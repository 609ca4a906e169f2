"""The phases of a channel.

::

    Opening ──attach──▶ Open ──close──▶ Closing ──end──▶ Closed
       ├──close──▶ Closing (attach changes nothing)         ▲
       └──end───────────────────────────────────────────────┘  (from every phase)
"""

from __future__ import annotations

from enum import StrEnum, auto

__all__ = ["TRANSITIONS", "Event", "Phase"]


class Phase(StrEnum):
    """How far a WebSocket is."""

    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Event(StrEnum):
    """What moves it on."""

    ATTACH = auto()
    CLOSE = auto()
    END = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.OPENING, Event.ATTACH): Phase.OPEN,
    (Phase.OPENING, Event.CLOSE): Phase.CLOSING,
    (Phase.OPENING, Event.END): Phase.CLOSED,
    (Phase.OPEN, Event.CLOSE): Phase.CLOSING,
    (Phase.OPEN, Event.END): Phase.CLOSED,
    (Phase.CLOSING, Event.ATTACH): Phase.CLOSING,
    (Phase.CLOSING, Event.CLOSE): Phase.CLOSING,
    (Phase.CLOSING, Event.END): Phase.CLOSED,
    (Phase.CLOSED, Event.CLOSE): Phase.CLOSED,
    (Phase.CLOSED, Event.END): Phase.CLOSED,
}
