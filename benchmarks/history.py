"""The history of the bundled protocols, pushed change by change at a loaded server.

``python -m benchmarks.history`` starts a server with the first module of each kind, two workers
and checked load on verify, kv and echo, and pushes every change of ``tests/history`` in order, each
onto the module that it followed. Where that can't be brought back live, the server is started again
with it, and the table says so. No option is given: what is one object over all workers is atomic.
Prints what each change went in as, and the shares; exit 0 when the load saw nothing of it.

As is, automatic, by migration: as the verdict says, the weightiest of a change's kinds. Refused:
it changed the shape of a state and not its version, which is refused; then what the author would
have had to write, the next version's number, is tried as well.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import LIGHT, Load, checked_load, seen_by
from benchmarks.past import FOLLOWS, Moment, read_past
from benchmarks.servers import Netswap, netswap

__all__ = ["Outcome", "Replay", "shares"]

LOADED = ("verify", "kv", "echo")
IDLE = {"chat": 8}
LONGEST_S = 1200.0
WEIGHT = ("new", "as is", "automatic", "by migration", "incompatible", "restart owed")


class Outcome(NamedTuple):
    """How a change went in: its verdict, or ``refused``; ``adapted`` is what went in instead."""

    moment: Moment
    verdict: str
    what: str
    restarted: bool = False
    adapted: str = ""


class Replay:
    """A server with load, and the modules that are active in it by their folder."""

    def __init__(self, past: dict[int, Moment]) -> None:
        self.past = past
        self.loads: list[Load] = []
        self._first = {m.path: m for m in reversed(past.values()) if not m.follows}
        self._active: dict[str, int] = {}
        self._server: Netswap | None = None
        self._running = ExitStack()
        self._folder = Path()

    def __enter__(self) -> Replay:
        self._start(self._first)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def push(self, moment: Moment) -> Outcome:
        """Push one change onto what it followed."""
        before = self.past[moment.follows]
        restarted = not self._bring(before)
        if restarted:
            self._start({**self._first, _slot(moment): before})
        code, page = self._push(moment, moment.text)
        if code == 0:
            return Outcome(moment, _weightiest(page), "", restarted)
        what = f"{page['what']} ({page['where']})"
        code, adapted = self._push(moment, _raised(moment.text, page))
        written = _weightiest(adapted) if code == 0 else f"refused: {adapted['what']}"
        return Outcome(moment, "refused", what, restarted, written)

    def _bring(self, moment: Moment) -> bool:
        """Make a moment the active one, live; whether that can be done."""
        if self._active.get(_slot(moment)) == moment.number:
            return True
        return self._push(moment, moment.text)[0] == 0

    def _push(self, moment: Moment, text: str) -> tuple[int, dict[str, Any]]:
        assert self._server is not None
        file = self._folder / "pushed" / f"{moment.number:02}" / Path(moment.path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        code, page = self._server.run("push", str(file))
        if code == 0:
            self._active[_slot(moment)] = moment.number if text == moment.text else 0
        return code, page

    def _start(self, first: dict[str, Moment]) -> None:
        """A server that begins with these modules, and its clients."""
        self._running.close()
        self._folder = Path(self._running.enter_context(tempfile.TemporaryDirectory()))
        for path, moment in first.items():
            file = self._folder / "protocols" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(moment.text, encoding="utf-8")
        (self._folder / "protocols" / "__init__.py").touch()
        self._active = {_slot(moment): moment.number for moment in first.values()}
        self._server = self._running.enter_context(
            netswap(*LOADED, *IDLE, workers=2, home=self._folder)
        )
        for protocol in LOADED:
            load = checked_load(self._server, protocol, LONGEST_S, LIGHT, early=True)
            self.loads.append(self._running.enter_context(load))
        for protocol, count in IDLE.items():
            for _ in range(count):
                address = ("127.0.0.1", self._server.ports[protocol])
                self._running.enter_context(socket.create_connection(address))


def _slot(moment: Moment) -> str:
    """The first module of what a moment is about: a server knows it by that path."""
    path = moment.path
    while path in FOLLOWS:
        path = FOLLOWS[path]
    return path


def _weightiest(page: dict[str, Any]) -> str:
    return max((str(row["verdict"]) for row in page["verdicts"]), key=WEIGHT.index)


def _raised(text: str, page: dict[str, Any]) -> str:
    """``text`` with the version of the state that was refused raised by one."""
    kind = re.escape(str(page["refusals"][0]["kind"]))
    declared = rf'(kind="{kind}", version=)(\d+)'
    return re.sub(declared, lambda found: f"{found[1]}{int(found[2]) + 1}", text)


def shares(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Verdict to its share of the changes, in percent."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {verdict: 100 * count / counts.total() for verdict, count in counts.items()}


def main() -> int:
    """Replay, print; 0 when the load saw nothing of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.history", description=__doc__)
    parser.add_argument("--first", type=int, metavar="N", help="only the first N changes")
    past = read_past()
    changes = [moment for moment in past.values() if moment.follows]
    chosen = changes[: parser.parse_args().first]
    outcomes = []
    with Replay(past) as replay:
        for moment in chosen:
            outcomes.append(replay.push(moment))
            _print(outcomes[-1])
    seen = seen_by(replay.loads)
    new = sum(not moment.follows for moment in past.values())
    print(f"\n{len(outcomes)} changes, and {new} modules that brought a new kind:")
    for verdict, share in sorted(shares(outcomes).items()):
        print(f"  {share:5.1f} % {verdict}")
    print(seen)
    for load in replay.loads:
        print(*load.report["examples"], sep="\n", end="")
    return 0 if seen.clean else 1


def _print(outcome: Outcome) -> None:
    moment = outcome.moment
    started = ", onto a server started with what it followed" if outcome.restarted else ""
    print(f"{moment.number:3} {moment.date} {outcome.verdict:<13} {moment.title}{started}")
    if outcome.what:
        print(f"      {outcome.what}\n      with the version raised: {outcome.adapted}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
