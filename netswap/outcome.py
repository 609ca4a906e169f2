"""How a push, swap or rollback can end, and the one table of exit codes.

Both ends of the admin API use it: the supervisor names the outcome, the command line exits by it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EXIT_CODES", "SERVER_STATE", "Outcome"]


class Outcome(StrEnum):
    """The typed end of a transaction; there is no other."""

    DONE = "done"
    USAGE = "usage"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"
    MIXED = "mixed"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    UNREACHABLE = "unreachable"


EXIT_CODES: dict[Outcome, int] = {
    Outcome.DONE: 0,
    Outcome.USAGE: 2,
    Outcome.REFUSED: 20,
    Outcome.ROLLED_BACK: 21,
    Outcome.MIXED: 22,
    Outcome.UNKNOWN: 23,
    Outcome.CONFLICT: 24,
    Outcome.UNREACHABLE: 25,
}

SERVER_STATE: dict[Outcome, str] = {
    Outcome.DONE: "the new code serves",
    Outcome.USAGE: "nothing was sent to the server",
    Outcome.REFUSED: "nothing was touched: the old code serves every connection",
    Outcome.ROLLED_BACK: "rolled back: the old code serves every connection again",
    Outcome.MIXED: "two versions serve side by side: some objects could not be brought back",
    Outcome.UNKNOWN: "not known from here: the server answers with its history when it is back",
    Outcome.CONFLICT: "another transaction runs; this one was not begun",
    Outcome.UNREACHABLE: "not known: no server answers at the socket",
}
"""What is true of the server after each outcome, for the end of an error message."""
