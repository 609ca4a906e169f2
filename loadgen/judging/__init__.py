"""What a run comes to.

- ``verdict``    the table of exit codes; the first rule that finds a reason gives the verdict
- ``thresholds`` those of ``--fail-on``, on the ``metrics`` of a report, and of ``views`` of it
  without what is ours
"""

from loadgen.judging.thresholds import parse_threshold
from loadgen.judging.verdict import PASS, RULES, USAGE, Verdict, judge

__all__ = ["PASS", "RULES", "USAGE", "Verdict", "judge", "parse_threshold"]
