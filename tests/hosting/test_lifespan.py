"""The lifespan: the table, and what becomes of an application that does not keep to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from typing import Any

import pytest

from netswap.errors import DeadlinePassed, TransitionError
from netswap.hosting.asgi.lifespan import TRANSITIONS, Event, Lifespan, Phase
from netswap.stack import Host


class Log:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.rows.append((event, fields))


def lifespan(app: Any) -> Lifespan:
    """That of an application."""
    return Lifespan(app, Host(asyncio.get_running_loop(), Log()))


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
async def test_nothing_moves_but_by_the_table(phase: Phase, event: Event) -> None:
    """What is legal goes where the table says, what is not raises and changes nothing."""
    one = lifespan(None)
    one.phase = phase
    if (phase, event) in TRANSITIONS:
        one._move(event)
        assert one.phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(TransitionError):
            one._move(event)
        assert one.phase is phase


def saying(*said: str, before: Any = None, then: Any = None) -> Any:
    """An application that answers what it is told with these, and raises if it is told to."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if before is not None:
            raise before
        for event in said:
            await receive()
            await send({"type": event, "message": f"{event}!"})
        if then is not None:
            raise then

    return app


async def test_it_starts_and_stops_once() -> None:
    """With what the application has put into its state; it hears of nothing but that."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        scope["state"]["pool"] = 1
        for answer in (Event.STARTED, Event.STOPPED):
            heard.append((await receive())["type"])
            await send({"type": str(answer)})

    one = lifespan(app)
    await one.start(nullcontext)
    assert (one.phase, one.state, heard) == (Phase.SERVING, {"pool": 1}, ["lifespan.startup"])
    await one.stop()
    assert (one.phase, heard) == (Phase.ENDED, ["lifespan.startup", "lifespan.shutdown"])


@pytest.mark.parametrize(
    ("said", "then", "error"),
    [
        (Event.START_FAILED, None, RuntimeError("lifespan.startup.failed!")),
        (Event.START_FAILED, OSError("no pool"), OSError("no pool")),
        (Event.START_FAILED, SystemExit(3), RuntimeError("it called sys.exit(3)")),
        (Event.STARTED, OSError("no pool"), OSError("no pool")),
        (Event.STARTED, SystemExit(3), RuntimeError("it called sys.exit(3)")),
    ],
)
async def test_a_start_that_fails_is_told_with_the_reason(
    said: Event, then: Any, error: Exception
) -> None:
    """What was raised says more than the message; stopping it then does nothing."""
    one = lifespan(saying(said, then=then))
    with pytest.raises(type(error)) as raised:
        await one.start(nullcontext)
    assert str(raised.value) == str(error)
    await one.stop()


@pytest.mark.parametrize("error", [None, KeyError("type"), TypeError("only http")])
async def test_one_that_knows_no_lifespan_is_served_without(error: Any) -> None:
    """The log says so, with what it has raised."""
    one = lifespan(saying(before=error))
    await one.start(nullcontext)
    ((event, fields),) = one._host.log.rows
    assert event == "lifespan_unsupported"
    assert (str(error) if error else "returned") in fields["error"]
    await one.stop()


async def test_one_that_sends_something_else_is_served_without() -> None:
    """As an application does that does not look at the scope."""
    one = lifespan(saying("http.response.start"))
    await one.start(nullcontext)
    assert "no transition for http.response.start in starting" in one._host.log.rows[0][1]["error"]
    await one.stop()


async def test_a_start_that_is_given_up_is_cancelled() -> None:
    """And has undone what it began when the stop returns."""
    undone: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            undone.append(True)

    one = lifespan(app)
    work = asyncio.ensure_future(one.start(nullcontext))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await one.stop()
    assert undone == [True]


@pytest.mark.parametrize(
    ("then", "error"), [(None, "lifespan.shutdown.failed!"), (OSError("busy"), "busy")]
)
async def test_a_stop_that_fails_is_told(then: Any, error: str) -> None:
    """What was raised says more than the message."""
    one = lifespan(saying(Event.STARTED, Event.STOP_FAILED, then=then))
    await one.start(nullcontext)
    with pytest.raises((RuntimeError, OSError), match=error):
        await one.stop()


async def test_one_that_has_failed_meanwhile_is_told_at_the_stop() -> None:
    """It can't be asked to clean up."""
    fails = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": str(Event.STARTED)})
        await fails.wait()
        raise OSError("meanwhile")

    one = lifespan(app)
    await one.start(nullcontext)
    fails.set()
    await asyncio.wait([one._task])  # type: ignore[list-item]  # it was started
    with pytest.raises(OSError, match="meanwhile"):
        await one.stop()


async def test_one_that_has_returned_is_stopped_in_silence() -> None:
    """It has nothing to clean up."""
    one = lifespan(saying(Event.STARTED))
    await one.start(nullcontext)
    await one.stop()


async def test_a_step_of_a_start_is_bounded_and_one_of_the_stop_is_not() -> None:
    """What holds the loop too long is a failure, not a sign that it knows no lifespans."""
    entered: list[str] = []
    one = lifespan(saying(Event.STARTED, Event.STOPPED))

    @contextmanager
    def limit() -> Iterator[None]:
        entered.append(str(one.phase))
        yield

    await one.start(limit)
    await one.stop()
    assert set(entered) == {"starting"}

    @contextmanager
    def passed() -> Iterator[None]:
        yield
        raise DeadlinePassed

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)

    two = lifespan(waits)
    with pytest.raises(DeadlinePassed):
        await two.start(passed)
    await two.stop()
