"""Retirement: old code goes, and what keeps it is named.

``retirement`` follows each load of code that was given up. ``collection`` and ``caches`` free what
only it holds itself; ``holders`` searches a forked child for what else does, and ``references``
names that in an operator's words.
"""

from netswap.worker.retirement.retirement import Retirement, Timing

__all__ = ["Retirement", "Timing"]
