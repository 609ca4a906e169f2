"""A worker: one process, one loop, one object translation table.

In reading order: ``process`` answers the supervisor, message by message; ``library`` knows what
code is loaded; ``participant`` is the worker's part in the agreement, as a table; ``transaction``
carries one swap through prepare, swap, finish or revert, with ``rehearsal`` (the same in a forked
child first), ``deadline`` (authors' code can't run for ever) and ``driver`` (slices between the
loop's callbacks); ``mesh`` reaches the other workers; ``looks`` answers questions; ``kinship``
lets nobody outlive whose work it does. Started by the supervisor as ``python -m netswap.worker``.
"""

from netswap.worker.process import Worker

__all__ = ["Worker"]
