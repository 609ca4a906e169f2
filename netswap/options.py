"""What a push, swap or rollback may be told, from the command line down to the plan.

One struct for all of the way: what is sent to the admin API is it, and what a worker has to know of
it is copied to ``messages.Prepare``, in whose words a worker of another release may speak.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from netswap.canary import Canary
from netswap.errors import UsageError
from netswap.ott import Selector

__all__ = ["Options"]

LONGEST_S = 3600.0
"""Seconds that each of the times may be at most."""


class Options(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """``timeout``, ``watch``, ``by_hand`` and ``shadow`` are in seconds.

    ``timeout`` is for each phase, None for the configured one. ``only`` is a selector, ``canary``
    what ``Canary.parse`` reads. ``watch`` is how long all of it is on probation, ``by_hand`` how
    long a canary waits for an operator to promote it. ``guard``: a call that fails meanwhile is
    answered by the old code. ``shadow`` is how long connections are recorded before old and new
    code are asked the same; ``expect_diff``: they may answer differently. Without ``rehearse`` only
    a sample is tried; ``allow_stale``: a library that has changed on disk is no reason to refuse.
    ``atomic``: nothing is served while the workers swap, which is so by itself when a kind with a
    part in every worker changes, or kinds that ask each other and are too many for one stroke,
    unless it is ``rolling``.
    """

    dry_run: bool = False
    timeout: float | None = None
    only: str | None = None
    allow_lossy: bool = False
    canary: str | None = None
    watch: float | None = None
    by_hand: float | None = None
    guard: bool = True
    shadow: float | None = None
    expect_diff: bool = False
    rehearse: bool = True
    allow_stale: bool = False
    atomic: bool = False
    rolling: bool = False

    TIMES: ClassVar[tuple[str, ...]] = ("timeout", "watch", "by_hand", "shadow")

    def check(self) -> None:
        """Look at them together, before anything is asked for.

        :raises UsageError: two exclude each other, a time is none, or a text can't be read.
        """
        for name in self.TIMES:
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds <= LONGEST_S:
                raise UsageError(f"{name} is more than 0 and at most {LONGEST_S:.0f} seconds")
        for is_so, what, advice in (
            (self.atomic and self.rolling, *_ATOMIC_ROLLING),
            (self.atomic and self.canary is not None, *_ATOMIC_CANARY),
            (self.by_hand is not None and self.canary is None, *_BY_HAND_ALONE),
            (self.only is not None and not self.only.strip(" ,"), *_ONLY_NOTHING),
        ):
            if is_so:
                raise UsageError(what, "", advice)
        if self.canary is not None:
            Canary.parse(self.canary)
        if self.only is not None:
            Selector.of_operator(self.only)


_ATOMIC_ROLLING = ("--atomic and --rolling exclude each other", "leave one of them out")
_ATOMIC_CANARY = (
    "--atomic and --canary exclude each other: a canary serves beside the old code",
    "--watch goes with both",
)
_ONLY_NOTHING = (
    "--only names nothing, and would be a push of everything",
    "write a selector such as listener=kv, or leave it out",
)
_BY_HAND_ALONE = ("--by-hand needs a canary", "netswap push --canary 10% --by-hand 10m")
