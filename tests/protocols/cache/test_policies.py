"""cache.policy: which file goes first, and what crosses from one policy to the next."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.hotswap import Change, Phase, Swap
from netswap.http import Request
from netswap.http.message import Head
from netswap.stack import Host
from protocols.cache import fifo, lru, mru
from protocols.cache import file as cached_file
from protocols.cache import random as at_random
from protocols.static import v1
from tests.protocols.conftest import Log, implementations, steps

POLICIES = {"lru": lru, "mru": mru, "fifo": fifo, "random": at_random}
KIND = "cache.policy"


def hosted(*modules: Any) -> Host:
    host = Host(None, Log())  # type: ignore[arg-type]  # nothing here needs a loop
    for module in modules:
        for cls in implementations(module).values():
            host.install(cls)
    return host


def push(host: Host, module: Any) -> None:
    """Swap the policy, as a worker does."""
    new = implementations(module)[KIND]
    change = Change(KIND, new, host.present[KIND], steps(module))
    swap = Swap(host.table, [change], list(host.table.of_kind(KIND)), host.clock, _no_deadline)
    host.present[KIND] = new
    while swap.phase is Phase.SWAPPING:
        swap.step()
    assert swap.phase is Phase.DONE, swap.refusal
    swap.finish()


events = st.lists(
    st.tuples(st.sampled_from(["entered", "used", "left", "victim"]), st.integers(0, 6).map(str)),
    max_size=40,
)


@pytest.mark.parametrize("name", POLICIES)
@given(events)
def test_a_policy_against_its_definition(name, events):
    """The victim is the one that the policy's name says, whatever came, was used and left."""
    host = hosted(POLICIES[name])
    policy: Any = host.services[KIND].target
    entered: OrderedDict[str, None] = OrderedDict()
    used: OrderedDict[str, None] = OrderedDict()
    for event, key in events:
        if event == "victim":
            expected = {
                "lru": lambda: {next(iter(used))},
                "mru": lambda: {next(reversed(used))},
                "fifo": lambda: {next(iter(entered))},
                "random": lambda: set(entered),
            }[name]
            assert policy.victim() in (expected() if entered else {None})
        elif event == "left":
            policy.left(key)
            entered.pop(key, None)
            used.pop(key, None)
        elif event == "used" and key in entered:
            policy.used(key)
            used.move_to_end(key)
        elif event == "entered" and key not in entered:
            policy.entered(key)
            entered[key] = used[key] = None
    assert set(policy.state.order) == set(entered)
