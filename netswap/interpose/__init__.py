"""Interposers: what stands in front of live objects for as long as it is wanted there.

They go in and out between two callbacks of the loop, with no quiescence, and cost nothing while
none is there. ``Monitor`` counts, ``Guard`` makes every call of a version on watch an attempt that
can be undone; an ``Interposition`` is one in front of each object that something finds; a ``Tape``
has what some connections were called with.
"""

from netswap.interpose.guard import Firing, Guard, Protection
from netswap.interpose.interposer import put_in, take_out
from netswap.interpose.interposition import Interposition
from netswap.interpose.monitor import Figures, Monitor
from netswap.interpose.record import Tape, Window

__all__ = [
    "Figures",
    "Firing",
    "Guard",
    "Interposition",
    "Monitor",
    "Protection",
    "Tape",
    "Window",
    "put_in",
    "take_out",
]
