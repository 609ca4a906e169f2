"""What new objects are made of while a transaction is under way, and how that is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from netswap.blame import blame, describe
from netswap.canary import Canary
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.ott import Entry
from netswap.stack import Host
from netswap.worker.canary import Flock

__all__ = ["Installation"]

Bound = Callable[[], AbstractContextManager[None]]


class Installation:
    """Of ``changes`` in one worker; authors' code runs within ``bound()``.

    A ``selective`` transaction changes chosen live objects and nothing that is born.
    """

    def __init__(
        self, host: Host, changes: list[Change], canary: Canary | None, selective: bool
    ) -> None:
        self._host = host
        self._changes = changes
        self._canary = canary
        self._selective = selective
        self._installed: list[str] = []
        self._flock: Flock | None = None

    def begin_canary(self, entries: list[Entry], carry: int, bound: Bound) -> list[Entry] | Refusal:
        """New connections go by the canary from now on; which of ``entries`` go first."""
        canary = self._canary
        assert canary is not None
        if canary.share == 0:
            return []
        if not canary.splits:
            return self.install(bound) or entries
        new = [change for change in self._changes if change.before is None]
        failure = None if self._selective else self._install(new, bound)
        if failure is not None:
            return failure
        news = {c.kind: c.new for c in self._changes if c.new.scope == "connection"}
        self._flock = Flock(self._host, canary, carry, news)
        chosen = self._flock.choose(entries)
        if not self._selective:
            self._host.canary = self._flock
        return chosen

    def install(self, bound: Bound) -> Refusal | None:
        """From now on new objects are made of the new code; new kinds get their service."""
        self._end_canary()
        return None if self._selective else self._install(self._changes, bound)

    def _install(self, changes: list[Change], bound: Bound) -> Refusal | None:
        for change in changes:
            if change.kind in self._installed:
                continue
            try:
                with bound():
                    self._host.install(change.new)
                self._installed.append(change.kind)
            except BaseException as error:  # authors' code, which may call sys.exit()
                file, line = blame(error, change.new)
                reason = f"{change.kind} could not start: {describe(error)}"
                self.restore()
                return Refusal(Stage.SWAP, reason, file, line, change.kind)
        return None

    def restore(self) -> None:
        """New objects are made of the old code again."""
        self._end_canary()
        for change in self._changes:
            if change.before is not None and change.kind in self._installed:
                self._host.present[change.kind] = change.before

    def uninstall(self) -> None:
        """The same, and kinds that were not there before go."""
        self.restore()
        for change in self._changes:
            if change.before is None and change.kind in self._installed:
                self._host.uninstall(change.kind)
        self._installed.clear()

    @contextmanager
    def favouring(self) -> Iterator[None]:
        """Inside a slice of the canary's swap, its new parts are made of the new code too."""
        with self._flock.favouring() if self._flock is not None else nullcontext():
            yield

    def _end_canary(self) -> None:
        self._flock = self._host.canary = None
