"""What is derived afterwards from the raw facts (no I/O).

- ``windows``   what was open around each event, and when nothing happened
- ``effects``   until when an event is seen: drops, answers of old code
- ``versions``  whether a connection went back to older code; ``counter`` the shared one
- ``staleness`` whether, and for how long, old code still answers after an event
- ``omission``  what a closed loop does not see of a stall
- ``doubt``     what our own pauses may have made of a latency
- ``report``    all of them together
- ``timeline``  the run by time, in buckets that lose no spike
- ``hdr``       the raw times as an HdrHistogram log
- ``wording``   figures as a person reads them
"""

from loadgen.findings.report import (
    PERCENTILES,
    EventReport,
    Rate,
    Report,
    Spread,
    build_report,
)

__all__ = ["PERCENTILES", "EventReport", "Rate", "Report", "Spread", "build_report"]
