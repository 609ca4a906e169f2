"""The supervisor: sockets, workers, and the agreement by which all of them change or none does.

Reading order: ``supervisor`` (start and stop), ``operations`` (push, swap, rollback, promote) and
``running`` (the one under way), ``agreement`` (the two-phase decision, pure) and ``transaction``
(its driver), ``versions`` (what the journal means, pure), ``fleet``, ``slots`` and ``lifecycle``
(workers), ``listening`` (sockets), ``enquiry`` and ``looks`` (what is seen), ``intervention``
(nudge and cancel), ``state`` (the directory), ``firstset`` (the first start).

It never imports an author's code and is never in the data path.
"""

from netswap.supervisor.listening import ListenError
from netswap.supervisor.looks import SCHEMA
from netswap.supervisor.results import Progress, Result
from netswap.supervisor.state import StateDirectoryBusy
from netswap.supervisor.supervisor import StartFailed, Supervisor

__all__ = [
    "SCHEMA",
    "ListenError",
    "Progress",
    "Result",
    "StartFailed",
    "StateDirectoryBusy",
    "Supervisor",
]
