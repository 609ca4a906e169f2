"""cache.policy: which file goes first, and what crosses from one policy to the next."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.http import Request
from netswap.http.message import Head
from netswap.stack import Host
from protocols.cache import fifo, lru, mru
from protocols.cache import file as cached_file
from protocols.cache import random as at_random
from protocols.static import v1
from tests.protocols.conftest import Log, implementations

POLICIES = {"lru": lru, "mru": mru, "fifo": fifo, "random": at_random}
KIND = "cache.policy"


def hosted(*modules: Any) -> Host:
    host = Host(None, Log())  # type: ignore[arg-type]  # nothing here needs a loop
    for module in modules:
        for cls in implementations(module).values():
            host.install(cls)
    return host


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


async def test_the_order_crosses_from_policy_to_policy(serve):
    """Each goes on with what the one before knew; what has come under random stands at the end."""
    server = await serve(lru, kind="none")
    policy = server.host.services[KIND]
    for key in "abcd":
        policy.target.entered(key)
    policy.target.used("a")
    assert policy.target.victim() == "b"
    await server.swap(mru)
    assert policy.target.victim() == "a"
    await server.swap(fifo)
    assert policy.target.victim() == "b"
    await server.swap(at_random)
    policy.target.left("c")
    policy.target.entered("e")
    assert {policy.target.victim() for _ in range(200)} == set("bdae")
    await server.swap(lru)
    assert list(policy.target.state.order) == list("bdae")
    assert policy.target.victim() == "b"


def ask(files: Any, name: str) -> None:
    head = Head("GET", b"/", "/" + name, b"", "1.1", ())
    assert files.answer(Request(head), name).status == 200


def folder_of(tmp_path: Path, count: int) -> Path:
    for number in range(count):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 976)  # and 1,024 beside them
    return tmp_path


@pytest.mark.parametrize("name", POLICIES)
async def test_memory_is_bounded_and_accounted_for(serve, tmp_path, name):
    """Whatever is asked for, in the middle of pushes too: no file too many, no object left over."""
    server = await serve(cached_file, POLICIES[name], v1, kind="none")
    files = server.host.services["http.static"]
    files.target.state.root = str(folder_of(tmp_path, 12))
    files.target.state.most = 10_000
    for number in range(60):
        ask(files.target, f"{number * number % 12}.txt")
        state = files.target.state
        assert state.held == 2000 * len(state.known) <= 10_000
        assert server.host.table.count("cache.file") == len(state.known)
        assert set(server.host.services[KIND].target.state.order) == set(state.known)
        if number % 10 == 9:
            await server.swap(*(POLICIES[row] for row in POLICIES if row == name), v1, cached_file)
    files.target.clear()


@pytest.mark.parametrize(("name", "hits"), [("lru", 0), ("fifo", 0), ("mru", 32)])
async def test_a_loop_over_more_than_fits(serve, tmp_path, name, hits):
    """The worst case of LRU, for which one pushes MRU: ten rounds over six files, five fit."""
    server = await serve(cached_file, lru, v1, kind="none")
    await server.swap(POLICIES[name])
    files = server.host.services["http.static"].target
    files.state.root = str(folder_of(tmp_path, 6))
    files.state.most = 10_000
    found = 0
    for number in range(60):
        found += f"{number % 6}.txt" in files.state.known
        ask(files, f"{number % 6}.txt")
    assert found == hits or name == "mru" and found >= hits
    files.clear()


async def test_a_policy_that_knows_nothing_of_what_is_there(serve, tmp_path):
    """The bound holds; what a policy has heard of and is not there is taken from its list."""
    server = await serve(cached_file, lru, v1, kind="none")
    files = server.host.services["http.static"].target
    files.state.root = str(folder_of(tmp_path, 8))
    files.state.most = 10_000
    policy = server.host.services[KIND].target
    for number in range(5):
        ask(files, f"{number}.txt")
    policy.state.order.clear()
    policy.entered("never there")
    ask(files, "5.txt")
    ask(files, "6.txt")
    assert files.state.held == 10_000
    assert list(policy.state.order) == ["6.txt"]
    files.clear()
