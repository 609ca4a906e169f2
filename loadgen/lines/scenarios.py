"""The table of scenarios: which way a line sends, and when its operations are due.

Each hurts where another kind of server error hides. A row has what a plan that names it gets unless
it says otherwise; adding a scenario is adding a row, and a way of sending in ``line`` if it has one
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Final, Literal

import msgspec

from loadgen.lines.line import Halves, Later, Line, Passing, Unread
from loadgen.lines.pace import Pace, Pacing, Profile, Waves, levels, slopes
from loadgen.plan import Plan, PlanError

__all__ = ["SCENARIOS", "Scenario", "complete", "without_effect"]

Asking = Literal["rate", "rates", "either", "none"]


class Scenario(msgspec.Struct, frozen=True):
    """``asking``: whether it takes a rate (open loop), several, either loop, or none at all.

    ``pace`` is made of the plan, the start (ns) and the number of the process. ``mean`` is the rate
    that the whole comes to. ``payload`` (bytes) and ``depth`` are the plan's when it has none.
    ``returns``: whether who was dropped is dialled again.
    """

    about: str
    asking: Asking
    line: type[Line] = Line
    pace: Callable[[Plan, int, int], Pacing] | None = None
    mean: Callable[[Plan], float] | None = None
    payload: int = 32
    depth: int = 1
    connections: int = 50
    returns: bool = False

    @property
    def waits(self) -> bool:
        """Whether an operation may be late because of the server: how late we are is kept apart."""
        return self.line.waits or self.returns


def _constant(plan: Plan, start: int, index: int) -> Pacing:
    return Pace(start, plan.rate or 0.0, index, plan.processes)


def _visits(plan: Plan, start: int, index: int) -> Pacing:
    return Pace(start, (plan.rate or 0.0) / plan.requests, index, plan.processes)


def _ramp(plan: Plan, start: int, index: int) -> Pacing:
    return Profile(start, slopes(plan.rates, plan.duration_ns), index, plan.processes)


def _steps(plan: Plan, start: int, index: int) -> Pacing:
    return Profile(start, levels(plan.rates, plan.duration_ns), index, plan.processes)


def _waves(plan: Plan, start: int, index: int) -> Pacing:
    return Waves(start, plan.duration_ns, len(plan.share(index)))


def _mean_ramp(plan: Plan) -> float:
    inner, outer = plan.rates[1:-1], (plan.rates[0], plan.rates[-1])
    return (sum(inner) + sum(outer) / 2) / (len(plan.rates) - 1)


def _mean_steps(plan: Plan) -> float:
    return sum(plan.rates) / len(plan.rates)


def _mean_waves(plan: Plan) -> float:
    return 2 * plan.connections / (plan.duration_ns / 1_000_000_000)


SCENARIOS: Final[dict[str, Scenario]] = {
    "steady": Scenario("a constant rate, whatever the server does", "rate", pace=_constant),
    "closed": Scenario("as fast as it goes: the next when the last is answered", "none"),
    "ramp": Scenario(
        "a rate that goes evenly from one of --rates to the next", "rates", pace=_ramp,
        mean=_mean_ramp,
    ),
    "steps": Scenario(
        "each of --rates for as long as the others", "rates", pace=_steps, mean=_mean_steps
    ),
    "churn": Scenario(
        "a new connection every --requests operations: alone sees what an accept queue loses; "
        "with a rate, connections come at their time",
        "either", line=Passing, pace=_visits,
    ),
    "loyal": Scenario(
        "as steady, and a connection that is dropped is counted and comes back, as clients do",
        "rate", pace=_constant, returns=True,
    ),
    "idle": Scenario(
        "every connection asks once in the first fifth, is silent, and asks again at the end",
        "none", pace=_waves, mean=_mean_waves,
    ),
    "slow": Scenario(
        "half of each request, and the other half --hold later", "either", line=Halves,
        pace=_constant,
    ),
    "pipeline": Scenario("many requests open on each connection", "none", depth=16),
    "bulk": Scenario(
        "large requests whose answers are not read for --hold: the server's buffers are full",
        "none", line=Unread, payload=60_000, depth=128, connections=8,
    ),
    "timer": Scenario(
        "answers that the server gives --hold later: late, early or twice", "either", line=Later,
        pace=_constant,
    ),
}  # fmt: skip

_RATE_MOST = 1_000_000_000
_WANTED: Final[dict[Asking, str]] = {
    "rate": "needs --rate",
    "rates": "needs --rates with two rates or more, and no --rate",
    "none": "has a pace of its own: leave --rate and --rates out",
    "either": "takes --rate, not --rates",
}


def complete(plan: Plan, payload: int | None, depth: int | None) -> Plan:
    """The plan with what its scenario brings; PlanError when it asks for what that has not."""
    scenario = SCENARIOS[plan.way]
    if why := next(_refusals(plan, scenario), None):
        raise PlanError(why)
    return msgspec.structs.replace(
        plan,
        scenario=plan.way,
        rate=scenario.mean(plan) if scenario.mean else plan.rate,
        payload=scenario.payload if payload is None else payload,
        depth=scenario.depth if depth is None else depth,
    )


def without_effect(plan: Plan, given: Container[str]) -> Iterator[str]:
    """Which of the options that were given a complete plan has no use for, each with who has."""
    line = SCENARIOS[plan.way].line
    passing = issubclass(line, Passing)
    closed = plan.rate is None and not line.one_at_a_time
    used = {
        "hold": (line.holds, "--scenario slow, bulk and timer"),
        "requests": (passing, "--scenario churn"),
        "depth": (passing or closed, "a run as fast as it goes, and of --scenario churn"),
        "url": (plan.protocol == "http" or ":" in plan.protocol, "--protocol http"),
    }
    for option, (has_use, who) in used.items():
        if option in given and not has_use:
            yield f"--{option} is of {who}: leave it out"


def _refusals(plan: Plan, scenario: Scenario) -> Iterator[str]:
    """Why a plan can't be carried out, each with what to write instead."""
    name, rate = plan.way, plan.rate or 0.0
    if plan.rates and not plan.scenario:
        yield "--rates are of --scenario ramp and steps: name one"
    if scenario.asking not in _askings(plan):
        yield f"--scenario {name} {_WANTED[scenario.asking]}"
    carried = plan.connections * 1_000_000_000 / max(1, plan.hold_ns)
    if scenario.line.one_at_a_time and rate > carried:
        yield (
            f"--scenario {name} carries at most {carried:g} a second with so many connections and "
            "so long a hold: use a lower --rate, more --connections or a shorter --hold"
        )
    if max(rate, *plan.rates, 0.0) > _RATE_MOST:
        yield f"a rate above {_RATE_MOST:,} a second has no distances: write a lower one"
    if scenario.line.holds and plan.hold_ns >= plan.duration_ns:
        yield f"--scenario {name} needs a --duration longer than its --hold"


def _askings(plan: Plan) -> tuple[Asking, ...]:
    """The ways of asking that a plan's rates are of; none of one rate alone, or of both kinds."""
    if plan.rates:
        return ("rates",) if len(plan.rates) > 1 and plan.rate is None else ()
    return ("none", "either") if plan.rate is None else ("rate", "either")
