"""The Promela model of the agreement: ``agreement.pml`` with the rows of the server's own tables.

``python -m tests.machines.promela`` prints it, for spin.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from netswap.channel import messages
from netswap.supervisor import phases
from netswap.supervisor.phases import Phase, Step
from netswap.worker import participant
from netswap.worker.participant import Act, Input, State

__all__ = ["rendered"]

TEMPLATE = Path(__file__).with_name("agreement.pml")
ASKS = ["Prepare", "SwapCanary", "WatchCanary", "Swap", "Watch", "Finish", "Revert", "Hold"]
ANSWERS = ["Prepared", "Refused", "SwappedCanary", "Swapped", "SwapFailed", "WatchedCanary"]
ANSWERS += ["Watched", "WatchFailed", "Finished", "Reverted", "RevertedStuck", "Held", "NOTHING"]
MARKED = (messages.Swapped, messages.Watched)
"""Answers that say whether they are about the canary; what failed is a failure either way."""


def rendered() -> str:
    """The whole model, of the tables as they are now."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for section, lines in _sections().items():
        begin, end = f"/* begin {section} */", f"/* end {section} */"
        pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
        rows = "\n    ".join([begin, *lines, end])
        text, count = pattern.subn(lambda _, rows=rows: rows, text)
        assert count == 1, f"agreement.pml has {count} sections {section}"
    return text


def _sections() -> dict[str, Iterable[str]]:
    return {
        "names": _names(),
        "coordinator": [
            f":: phase == P_{phase.name} && step == {step.name} -> next = P_{target.name}"
            for (phase, step), target in phases.TRANSITIONS.items()
        ],
        "entries": [
            f":: phase == P_{phase.name} -> " + "; ".join(act.name for act in acts)
            for phase, acts in phases.ON_ENTRY.items()
        ],
        "votes": _votes(),
        "participant": [
            f":: state[i] == {state.name} && input == I_{reading.name} -> " + _row(*row)
            for (state, reading), row in participant.TRANSITIONS.items()
        ],
    }


def _row(following: State, acts: tuple[Act, ...]) -> str:
    return "; ".join([f"state[i] = {following.name}", *(f"A_{act.name}(i)" for act in acts)])


def _names() -> Iterable[str]:
    yield f"mtype = {{ {', '.join(ASKS + ANSWERS)} }};"
    yield f"mtype = {{ P_NOWHERE, {', '.join(f'P_{phase.name}' for phase in Phase)} }};"
    yield f"mtype = {{ NO_STEP, {', '.join(step.name for step in Step)} }};"
    yield f"mtype = {{ {', '.join(state.name for state in State)} }};"
    yield f"mtype = {{ NO_INPUT, {', '.join(f'I_{reading.name}' for reading in Input)} }};"
    asking = " ".join(f"|| (p) == P_{phase.name}" for phase in phases.YES)
    yield f"#define ASKING(p) {asking}"
    working = [state.name for state in State if state.endswith("ing")]
    yield f"#define WORKING_STATES(s) {' '.join(f'|| (s) == {name}' for name in working)}"


def _votes() -> Iterable[str]:
    for phase, no in phases.NO.items():
        yield f":: phase == P_{phase.name} && message == {no.__name__} -> step = NO"
    for phase, yes in phases.YES.items():
        mark = "Canary" if phase in phases.OF_CANARY and yes in MARKED else ""
        yield f":: phase == P_{phase.name} && message == {yes.__name__}{mark} -> YES(i)"
    yield ":: phase == P_REVERTING && message == RevertedStuck -> stuck = stuck | BIT(i); YES(i)"


if __name__ == "__main__":
    sys.stdout.write(rendered())
