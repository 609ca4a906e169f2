"""What a run comes to.

- ``verdict``    the table of exit codes; the first rule that finds a reason gives the verdict
- ``thresholds`` the limits of ``--fail-on``, and who missed one: the server or the generator
- ``metrics``    what a limit can be about, read from a report
- ``views``      the report without the generator's own lateness and pauses
"""

from loadgen.judging.thresholds import parse_threshold
from loadgen.judging.verdict import PASS, RULES, USAGE, Verdict, judge

__all__ = ["PASS", "RULES", "USAGE", "Verdict", "judge", "parse_threshold"]
