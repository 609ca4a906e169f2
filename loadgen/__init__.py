"""The load generator: an independent witness of what a server does to its clients.

It imports nothing of the program that it watches, so that no mistake is made twice.
In reading order:

- ``plan``        what was asked for: who, how many, how fast, how long, what happens meanwhile
- ``continuity``  what every answer must prove; counts every fault (no I/O)
- ``dialects``    the protocols, as conversations of bytes (no I/O)
- ``samples``     the data model: raw facts, a row an operation; ``spread`` are percentiles of some
- ``fanout``      what the members of a room must have heard of each other (no I/O)
- ``lines``       connections, and when and how each sends
- ``worker``      a process that carries a share of the lines; it speaks ``messages``
- ``conductor``   starts the processes together, runs the ``events``, merges the outcomes exactly;
  ``execution`` runs an event's command within bounds
- ``progress``    what is told while the run goes on
- ``findings``    what is derived afterwards from the raw facts (no I/O)
- ``judging``     the verdict and its exit code, and the limits of ``--fail-on``
- ``output``      the run as text, JSON, page, picture or live view; ``cli`` is the command
- ``plain``       makes words of others safe to print

Latency is counted from the intended time of an operation, not from when it could be sent: a server
that stalls can't slow the clock that measures it. The service time stands apart.
"""

from loadgen.conductor import conduct
from loadgen.findings import Report, build_report
from loadgen.judging import Verdict, judge
from loadgen.plan import Event, Plan, PlanError

__all__ = ["Event", "Plan", "PlanError", "Report", "Verdict", "build_report", "conduct", "judge"]
