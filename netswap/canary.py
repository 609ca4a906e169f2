"""The canary: which live objects, and which new connections, go first.

A share is an exact one. Every connection adds the share to a sum, and the one that fills the sum
goes first; so ``10%`` is every tenth, in one worker or over all of them when each begins with what
the ones before it left over.
"""

from __future__ import annotations

import re

import msgspec

from netswap.errors import UsageError
from netswap.ott import Selector

__all__ = ["WHOLE", "Canary"]

WHOLE = 10_000
"""A share is counted in ten-thousandths; this is all of it."""

_SHARE = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?\s*%")
_WORKER = re.compile(r"\s*worker\s*=\s*(\d+)\s*")


class Canary(msgspec.Struct, frozen=True, array_like=True):
    """``share`` in ten-thousandths of what ``selector`` matches, in one ``worker`` or in all."""

    text: str
    share: int = WHOLE
    worker: int | None = None
    selector: str | None = None

    @classmethod
    def parse(cls, text: str) -> Canary:
        """``10%``, ``worker=0``, or a selector, which may have ``worker=0`` as one condition.

        :raises UsageError: it is none of these.
        """
        share = _SHARE.fullmatch(text.strip())
        if share is not None:
            return cls(
                text, _share(text, int(share[1]) * 100 + int((share[2] or "0").ljust(2, "0")))
            )
        parts = [part for part in text.split(",") if part.strip()]
        workers = [int(found[1]) for part in parts if (found := _WORKER.fullmatch(part))]
        rest = ",".join(part for part in parts if _WORKER.fullmatch(part) is None)
        if len(workers) > 1 or not parts:
            raise UsageError(f"{text!r} is not a canary", "", _ADVICE)
        try:
            Selector.of_operator(rest)
        except UsageError as error:
            raise UsageError(error.what, f"canary {text!r}", _ADVICE) from error
        return cls(text, WHOLE, workers[0] if workers else None, rest or None)

    @property
    def splits(self) -> bool:
        """Whether objects of one worker are on both sides."""
        return self.selector is not None or self.share < WHOLE

    def carry(self, before: int) -> int:
        """What a worker's sum begins with when ``before`` connections are in those before it.

        The very first connection fills the sum: a canary of few objects is one, not none.
        """
        return (WHOLE - 1 + before * self.share) % WHOLE


_ADVICE = "write a share such as 10%, worker=0, or a selector such as peer=127.0.0.1"


def _share(text: str, share: int) -> int:
    if not 0 < share <= WHOLE:
        raise UsageError(f"{text!r} is not more than 0% and at most 100%", "", _ADVICE)
    return share
