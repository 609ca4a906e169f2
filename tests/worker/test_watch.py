"""The watch of one worker: what is counted, what is judged, and that it ends when it is decided."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from netswap.canary import WHOLE, Canary
from netswap.channel import messages
from netswap.events import Stage, WatchRow
from netswap.stack import Host
from netswap.worker.watch import Watch
from tests.worker.one_worker import OneWorker, hear, say
from tests.worker.test_transaction import KIND, TALK, busy, served

MOODY = (
    TALK.replace(
        "        self.state.count += 1\n",
        """\
        if data == b"raise\\n":
            raise ValueError("no such mood")
        if data == b"refuse\\n":
            raise ProtocolError("not a word", b"refused\\n")
        if data == b"sleep\\n":
            import time
            time.sleep(0.6)
        self.state.count += 1
""",
    )
    .replace("v1 %d", "new %d")
    .replace("import Connection", "import Connection, ProtocolError")
)
RAISES = "mine.py:12"
POLICY = """
from netswap import Service, State

class Limits(State, kind="watch.policy", version=VERSION):
    pass

class Mine(Service[Limits]):
    def judge(self, figures):
        ANSWER
"""


def policy(answer: str, version: int = 1) -> str:
    """A policy of the test's own."""
    return POLICY.replace("VERSION", str(version)).replace("ANSWER", answer)


def watched(worker: OneWorker, seconds: float = 60.0, guard: bool = True, **how: Any) -> Any:
    """Swap the moody version in and let it be watched; one client of it."""
    served(worker)
    client = worker.connect()
    assert say(client, b"a\n") == b"v1 1\n"
    swap(worker, MOODY, guard=guard)
    worker.send(messages.Watch(1, seconds, **how))
    worker.until(lambda: say(client, b"b\n").startswith(b"new"))
    return client


def swap(worker: OneWorker, source: str, kind: str = KIND, tx: int = 1, guard: bool = True) -> None:
    """Prepare and swap, on probation."""
    kinds = {kind: worker.put(source)}
    worker.send(messages.Prepare(tx, kinds, timeout=20.0, probation=True, guard=guard))
    worker.expect(messages.Prepared)
    worker.send(messages.Swap(tx))
    worker.expect(messages.Swapped)


def last_of(worker: OneWorker) -> Any:
    """The end of a watch, after the reports on its way."""
    answer: Any = worker.expect(messages.Watching | messages.Watched)
    while isinstance(answer, messages.Watching):
        answer = worker.expect(messages.Watching | messages.Watched)
    return answer


def new_row(rows: list[WatchRow]) -> WatchRow:
    """The one of the version on watch."""
    (row,) = [row for row in rows if row.on_watch]
    return row


def test_a_watch_that_nothing_happens_in_ends_well(either: OneWorker) -> None:
    """With what was counted, of the connections that were there and of those that came."""
    client = watched(either, 1.5, interval=0.3)
    born = either.connect()
    asked, said = 0, list[messages.Message]()
    while not said or isinstance(said[-1], messages.Watching):
        assert say(client, b"x\n").startswith(b"new")
        assert say(born, b"x\n").startswith(b"new")
        asked += 2
        said += either.heard()
    seen, answer = said[0], said[-1]
    assert isinstance(seen, messages.Watching)
    assert isinstance(answer, messages.Watched)
    assert (seen.tx, seen.slot, seen.canary) == (1, 0, False)
    row = new_row(answer.rows)
    assert (row.kind, row.version, row.errors, row.objects) == (KIND, 1, 0, 2)
    assert asked - 2 <= row.calls, "all but the last two were surely asked before its end"
    assert 0 < row.mean_us <= row.max_us
    assert row.memory > 1 << 20
    assert row.stall_ms >= 0
    either.send(messages.Finish(1))
    either.expect(messages.Finished)
    assert say(client, b"x\n").startswith(b"new")


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_watch_that_was_left_is_gone(guarded: bool) -> None:
    """At once, and with it all that it knew of the new code."""
    host = Host(asyncio.get_running_loop(), None)
    watch = Watch(host, [], None, (lambda _states: None) if guarded else None)
    await watch.enter()
    await watch.leave()
    left = weakref.ref(watch)
    gc.disable()
    try:
        del watch
        assert left() is None
    finally:
        gc.enable()


def test_a_failure_under_guard_is_answered_by_the_old_version(either: OneWorker) -> None:
    """No client sees it, and the watch has failed at once with file and line."""
    client = watched(either)
    assert say(client, b"raise\n").startswith(b"v1 ")
    failed = either.expect(messages.WatchFailed)
    refusal = failed.refusal
    assert (refusal.stage, refusal.kind, refusal.worker) == (Stage.WATCH, KIND, 0)
    assert "the guard fired once" in refusal.reason
    assert "ValueError: no such mood" in refusal.reason
    assert refusal.where.startswith(RAISES)
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert say(client, b"x\n").startswith(b"v1 ")


def test_only_the_first_slow_call_costs_its_time(either: OneWorker) -> None:
    """The watch has failed by then: what was sent meanwhile does not reach the new code."""
    client = watched(either)
    others = [either.connect() for _ in range(3)]
    for other in others:
        assert say(other, b"a\n").startswith(b"new")
    for one in (client, *others):
        one.sendall(b"sleep\n")
    assert all(hear(one).startswith(b"v1 ") for one in (client, *others))
    assert "did not end within 0.5 s" in either.expect(messages.WatchFailed).refusal.reason
    assert either.log.count("guard_fired") == 1
    assert say(either.connect(), b"raise\n").startswith(b"v1 ")
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert [say(one, b"x\n").split()[0] for one in others] == [b"v1"] * 3


def test_a_policy_that_bears_it_lets_the_others_go_on(worker: OneWorker) -> None:
    """What fails goes back alone, and comes along when the rest is committed."""
    worker.active["watch.policy"] = worker.put(policy("return None"), "policy.py")
    client = watched(worker)
    other = worker.connect()
    for one in (client, other):
        assert say(one, b"a\n").startswith(b"new")
        assert say(one, b"raise\n").startswith(b"v1 ")
        assert say(one, b"raise\n").startswith(b"v1 ")
    assert worker.log.count("guard_fired") == 2
    assert say(worker.connect(), b"a\n") == b"new 1\n"
    worker.send(messages.Finish(1))
    worker.expect(messages.Watched)
    worker.expect(messages.Finished)
    assert [say(one, b"a\n").split()[0] for one in (client, other)] == [b"new", b"new"]


def test_what_fails_after_a_good_watch_goes_back_alone_until_the_commit(worker: OneWorker) -> None:
    """It is decided then: the others stay, and it comes along."""
    client = watched(worker, 0.1)
    other = worker.connect()
    last_of(worker)
    assert say(client, b"raise\n").startswith(b"v1 ")
    assert say(other, b"a\n") == b"new 1\n"
    worker.send(messages.Finish(1))
    worker.expect(messages.Finished)
    assert say(client, b"a\n").startswith(b"new ")


def test_what_a_guard_can_only_watch_is_counted(worker: OneWorker) -> None:
    """An operator does not take a connection with much state for a protected one."""
    served(worker)
    clients = [worker.connect() for _ in range(3)]
    for client in clients:
        say(client, b"a\n")
    long = MOODY.replace("data.decode().strip()", "data.decode().strip() * 20_000")
    swap(worker, long)
    worker.send(messages.Watch(1, 60.0))
    for number in (2, 3, 4):  # grown, found to have grown, not copied any more
        assert [say(client, b"b\n") for client in clients[:2]] == [b"new %d\n" % number] * 2
    worker.send(messages.Finish(1))
    row = new_row(worker.expect(messages.Watched).rows)
    assert (row.objects, row.unguarded) == (3, 2)
    worker.expect(messages.Finished)


def test_new_code_is_guarded_before_its_watch_begins(either: OneWorker) -> None:
    """The other workers may still be swapping; what fails meanwhile fails the watch."""
    served(either)
    client = either.connect()
    assert say(client, b"a\n") == b"v1 1\n"
    swap(either, MOODY)
    assert say(client, b"b\n") == b"new 2\n"
    assert say(client, b"raise\n") == b"v1 3\n"
    either.send(messages.Watch(1, 60.0))
    assert "the guard fired once" in either.expect(messages.WatchFailed).refusal.reason
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert say(client, b"x\n") == b"v1 4\n"


def test_what_fails_before_its_watch_begins_fails_the_watch(either: OneWorker) -> None:
    """Also without a guard: from its first call on new code is counted."""
    served(either)
    client, other = either.connect(), either.connect()
    say(client, b"a\n")
    swap(either, MOODY, guard=False)
    assert say(client, b"raise\n") == b""
    assert say(other, b"a\n").startswith(b"new")
    either.send(messages.Watch(1, 60.0))
    refusal = either.expect(messages.WatchFailed).refusal
    assert "failed once" in refusal.reason
    assert refusal.where.startswith(RAISES)


def test_a_failure_without_guard_costs_that_connection_alone(either: OneWorker) -> None:
    """The others go back with their state."""
    other = watched(either, guard=False)
    client = either.connect()
    assert say(client, b"raise\n") == b""
    refusal = either.expect(messages.WatchFailed).refusal
    assert "failed once" in refusal.reason
    assert "ValueError: no such mood" in refusal.reason
    assert refusal.where.startswith(RAISES)
    either.send(messages.Revert(1))
    either.expect(messages.Reverted)
    count = int(say(other, b"x\n").split()[1])
    assert say(other, b"x\n") == b"v1 %d\n" % (count + 1)


def test_a_call_that_holds_the_loop_violates(worker: OneWorker) -> None:
    """How long it may take is the policy's word."""
    client = watched(worker, guard=False)
    assert say(client, b"sleep\n").startswith(b"new ")
    failed = worker.expect(messages.WatchFailed)
    assert "one call took" in failed.refusal.reason
    assert failed.refusal.where.startswith("mine.py:9")
    assert new_row(failed.rows).max_us > 500_000


def test_a_peer_that_breaks_the_rules_is_no_error(worker: OneWorker) -> None:
    """It is told off, and the watch goes on."""
    client = watched(worker, guard=False)
    refused = worker.connect()
    assert say(refused, b"refuse\n") == b"refused\n"
    assert say(client, b"x\n").startswith(b"new")
    worker.send(messages.Finish(1))
    assert new_row(worker.expect(messages.Watched).rows).errors == 0
    worker.expect(messages.Finished)


def test_a_session_that_fails_is_counted(worker: OneWorker) -> None:
    """Its coroutine is a task, and no call that a monitor would see."""
    served(worker)
    client = worker.connect("busy")
    say(client, b"a\n")
    source = busy(1).replace('if line == b"stay"', 'if line == b"fail" and 1 // 0')
    swap(worker, source, "busy.connection")
    worker.send(messages.Watch(1, 60.0))
    assert say(client, b"a\n") == b"v1 2\n"
    say(client, b"fail\n")
    refusal = worker.expect(messages.WatchFailed).refusal
    assert "ZeroDivisionError" in refusal.reason
    assert refusal.where.startswith("mine.py:13")


def test_old_and_new_are_counted_side_by_side(worker: OneWorker) -> None:
    """A canary's figures are next to those of the version before."""
    served(worker)
    clients = [worker.connect() for _ in range(4)]
    for client in clients:
        say(client, b"a\n")
    half = Canary.parse("50%")
    worker.canary(1, half, messages.Prepared, talk_connection=worker.put(MOODY))
    worker.send(messages.Swap(1, True, WHOLE - 1))
    worker.expect(messages.Swapped)
    worker.send(messages.Watch(1, 60.0, 0.1, canary=True))
    worker.expect(messages.Watching)
    answers = [say(client, b"b\n").split()[0] for client in clients]
    assert sorted(answers) == [b"new", b"new", b"v1", b"v1"]
    worker.send(messages.Revert(1))
    answer = last_of(worker)
    worker.expect(messages.Reverted)
    assert answer.canary
    assert [(row.on_watch, row.objects, row.calls) for row in answer.rows] == [
        (True, 2, 2),
        (False, 2, 2),
    ]


@pytest.mark.parametrize("ask", [messages.Finish(1), messages.Revert(1)], ids=["finish", "revert"])
def test_a_decision_ends_the_watch(worker: OneWorker, ask: messages.Message) -> None:
    """Whoever decides does not wait for its time to be over, nor leaves a guard in place."""
    client = watched(worker)
    worker.send(ask)
    assert new_row(worker.expect(messages.Watched).rows).objects == 1
    worker.expect(messages.Finished | messages.Reverted)
    assert say(client, b"x\n").startswith(b"new" if ask == messages.Finish(1) else b"v1")


def test_a_decision_in_one_piece_with_the_watch_is_heard(worker: OneWorker) -> None:
    """The watch that was asked for has not begun by then."""
    served(worker)
    swap(worker, MOODY)
    worker.send(messages.Watch(1, 60.0), messages.Finish(1))
    worker.expect(messages.Watched)
    worker.expect(messages.Finished)


@pytest.mark.parametrize(
    ("answer", "reason", "place"),
    [
        ("raise KeyError('figures')", "KeyError: 'figures'", "policy.py:9"),
        ("return figures['no such']", "KeyError: 'no such'", "policy.py:9"),
        ("raise SystemExit(3)", "SystemExit", "policy.py:9"),
        ("while True: pass", "did not end within 0.25 s", "policy.py:9"),
    ],
    ids=["raises", "asks for what is not there", "exits", "hangs"],
)
def test_a_policy_that_fails_is_a_failed_watch(
    worker: OneWorker, answer: str, reason: str, place: str
) -> None:
    """Nothing can be said of the new code then; the policy's line is named."""
    worker.active["watch.policy"] = worker.put(policy(answer), "policy.py")
    served(worker)
    swap(worker, MOODY)
    worker.send(messages.Watch(1, 60.0))
    refusal = worker.expect(messages.WatchFailed).refusal
    assert refusal.reason.startswith("the policy that judges the watch failed: ")
    assert reason in refusal.reason
    assert refusal.where.startswith(f"{place}, watch.policy")


def test_a_push_of_the_policy_is_judged_by_the_old_one(worker: OneWorker) -> None:
    """The next push is judged by the new one."""
    judged = "return 'too new' if figures['version'] == 3 else None"
    worker.active["watch.policy"] = worker.put(policy(judged), "policy.py")
    served(worker)
    for tx, version, end in ((1, 3, messages.WatchFailed), (2, 2, messages.Watched)):
        swap(worker, policy("return 'never'", version), "watch.policy", tx)
        worker.send(messages.Watch(tx, 0.3))
        worker.expect(end)
        worker.send(messages.Revert(tx) if end is messages.WatchFailed else messages.Finish(tx))
        worker.expect(messages.Reverted if end is messages.WatchFailed else messages.Finished)
    swap(worker, MOODY, tx=3)
    worker.send(messages.Watch(3, 60.0))
    assert worker.expect(messages.WatchFailed).refusal.reason == f"{KIND} version 1: never"


def test_without_a_policy_there_is_no_probation(worker: OneWorker) -> None:
    """It is refused before anything is touched, with what to push first."""
    del worker.active["watch.policy"]
    served(worker)
    worker.send(messages.Prepare(1, {KIND: worker.put(MOODY)}, probation=True))
    refusal = worker.expect(messages.Refused).refusal
    assert "nothing judges a watch" in refusal.reason
    assert "protocols/watch/v1.py" in refusal.advice
