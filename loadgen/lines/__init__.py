"""Connections, and when and how each sends.

- ``line``        one connection, and the ways in which it can send: whole, in halves,
  unread, later, in passing
- ``secure``      TLS of which one half can be closed
- ``destination`` where the server is; ``hints`` why a connection failed, and what to write instead
- ``pace``        when each operation of an open loop is due (no I/O)
- ``alarm``       wakes an open loop on time, finer than the event loop's own timers
- ``rounds``      the open loop over all lines; ``visits`` are connections that come and go,
  ``returning`` those that stay and come back, ``following`` those that follow one that was closed
- ``scenarios``   the table: which way, and when
- ``pauses``      whether the generator itself stood still, or had no processor
- ``traffic``     the lines of one process, from the connect to the end; ``dialling`` connects them
"""

from loadgen.lines.line import now_ns
from loadgen.lines.scenarios import SCENARIOS, complete, without_effect
from loadgen.lines.traffic import Traffic

__all__ = ["SCENARIOS", "Traffic", "complete", "now_ns", "without_effect"]
