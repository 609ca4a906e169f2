"""The conformance kit: does a new version take over, at any moment, without a client noticing?

``check_swappable(old, new, transcript)`` plays what a client sends to a worker in this process,
again and again, with a swap at every event boundary and behind every byte, in both directions and
with faults in the swap, on asyncio's loop and on uvloop, and compares what the client saw.

In reading order: ``transcript`` is what clients do (bytes, ``Wait``, ``Do``) and where it can be
cut; ``loops`` are both loops with their time in the test's hands (``ManualClock``); ``subject``
loads the code; ``world`` is the worker, with real transports over socket pairs; ``push`` one swap
in it and ``faults`` what goes wrong there; ``cases`` lists what is tried and ``play`` plays it;
``judge`` says what the client may have seen, ``carried`` what states must have kept; ``check`` is
the whole and ``report`` what it says; ``plugin`` is pytest's way in.

The names are imported when they are first asked for: pytest loads the plugin of everybody who has
netswap installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netswap.testing.check import check_swappable
    from netswap.testing.judge import Difference
    from netswap.testing.loops import ManualClock
    from netswap.testing.report import NotSwappable, Report
    from netswap.testing.transcript import Do, Transcript, Wait

__all__ = [
    "Difference",
    "Do",
    "ManualClock",
    "NotSwappable",
    "Report",
    "Transcript",
    "Wait",
    "check_swappable",
]

_HOMES = {
    "Difference": "judge",
    "Do": "transcript",
    "ManualClock": "loops",
    "NotSwappable": "report",
    "Report": "report",
    "Transcript": "transcript",
    "Wait": "transcript",
    "check_swappable": "check",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
