"""The load generator: an independent witness of what a server does to its clients.

It imports nothing of the program that it watches, so that no mistake is made twice.
In reading order:

- ``plan``        what was asked for: who, how many, how fast, how long, what happens meanwhile
- ``continuity``  what every answer must prove; counts every fault (no I/O)
- ``dialects``    the protocols, as conversations of bytes (no I/O)
- ``alarm``       wakes an open loop on time, finer than the event loop's own timers
- ``pace``        when each operation of an open loop is due (no I/O)
- ``line``        sockets: one connection, and the ways in which it can send
- ``secure``      TLS of which one half can be closed
- ``hints``      why a connection failed, and what to write instead
- ``scenarios``   the table: which way, and when
- ``rounds``      the open loop; ``visits`` are connections that come and go
- ``pauses``      whether the generator itself stood still, or had no processor
- ``traffic``     the lines of one process, from the connect to the end; ``dialling`` connects them
- ``worker``      a process that carries a share of the lines; it speaks ``messages``
- ``conductor``   starts the processes together, runs the ``events``, merges the outcomes exactly
- ``samples``     the data model: raw facts, a row an operation
- ``windows``     what was open around each event, and when nothing happened (no I/O)
- ``effects``     until when an event is seen: drops, answers of old code (no I/O)
- ``versions``    whether a connection went back to older code; ``counter`` the shared one (no I/O)
- ``staleness`` whether old code still answers after a push is done (no I/O)
- ``fanout``      what the members of a room must have heard of each other (no I/O)
- ``report``      what is derived afterwards from the raw facts; ``spread`` are its percentiles, and
  ``doubt`` is what our own pauses make of them (no I/O)
- ``verdict``     the table of exit codes; ``thresholds`` are those of ``--fail-on``, on ``metrics``
  of the report, and of ``views`` of it without what is ours
- ``summary``     the report for a person, in the words of ``wording``; ``cli`` the command
- ``progress``    what is told while the run goes on; ``live`` shows it, ``sparkline`` draws it
- ``timeline``    the run by time, in buckets that lose no spike (no I/O)
- ``result``      the run as JSON, with its schema; ``comparison`` sets two side by side
- ``picture``     the time lines of several runs as an SVG; elements are made by ``markup``
- ``hdr``         the raw times as an HdrHistogram log (no I/O)
- ``page``        the report as one file for a browser

Latency is counted from the intended time of an operation, not from when it could be sent: a server
that stalls can't slow the clock that measures it. The service time stands apart.
"""

from loadgen.conductor import conduct
from loadgen.plan import Event, Plan, PlanError
from loadgen.report import Report, build_report
from loadgen.verdict import Verdict, judge

__all__ = ["Event", "Plan", "PlanError", "Report", "Verdict", "build_report", "conduct", "judge"]
