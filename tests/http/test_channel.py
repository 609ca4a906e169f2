"""A channel: the table, and what does not need a connection."""

from __future__ import annotations

from itertools import product

import pytest

from netswap.errors import TransitionError, WebSocketClosedError
from netswap.http import Channel
from netswap.http.phases import TRANSITIONS, Event, Phase
from netswap.ott import Entry


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_nothing_moves_but_by_the_table(phase, event):
    """What is legal goes where the table says, what is not raises and changes nothing."""
    channel = Channel()
    channel.phase = phase
    if (phase, event) in TRANSITIONS:
        channel._move(event)
        assert channel.phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(TransitionError):
            channel._move(event)
        assert channel.phase is phase


async def test_what_has_come_before_the_end_is_still_received():
    """Then whoever receives is told of the end, each time."""
    channel = Channel()
    channel.deliver("one")
    channel.deliver(b"two")
    assert channel.end(4000, "enough")
    assert not channel.end(1006)
    assert [await channel.receive(), await channel.receive()] == ["one", b"two"]
    for _ in range(2):
        with pytest.raises(WebSocketClosedError, match="4000 enough"):
            await channel.receive()
    with pytest.raises(WebSocketClosedError):
        channel.send_nowait("too late")


def test_what_is_carried_is_plain_data():
    """A callable or an object of the application would keep its code alive."""
    channel = Channel()
    carried = {"seen": [1, 2], "name": "x"}
    channel.carry = carried
    carried["seen"].append(3)
    assert channel.carry == {"seen": [1, 2], "name": "x"}
    with pytest.raises(TypeError):
        channel.carry = lambda: None
    assert channel.carry["name"] == "x"


def test_the_plain_form_is_all_there_is():
    """And what ``keep`` gives makes the same channel as it was."""
    channel = Channel()
    channel.carry = 5
    channel.deliver("one")
    plain = Channel.to_canonical(channel)
    assert Channel.to_canonical(Channel.from_canonical(plain)) == plain
    again = Channel.keep(channel)
    channel.deliver(b"two")
    channel.end(1000)
    assert Channel.to_canonical(channel) != plain
    assert again() is channel
    assert Channel.to_canonical(channel) == plain


async def test_what_is_steady_ends_with_any_change():
    """Else a message would be taken without asking who is to have it, or who waits for that."""
    for change in (
        lambda channel: channel.end(1000),
        lambda channel: channel.close(1000),
        lambda channel: channel.follow(None),
        lambda channel: channel.deliver("x" * 70_000),
        lambda channel: [channel.deliver("x") for _ in range(65)],
        lambda channel: channel.keep()(),
    ):
        channel = Channel()
        channel.phase = Phase.OPEN
        assert channel.poll(None) is None
        assert channel.steady
        change(channel)
        assert not channel.steady


class Older:
    """A connection that can't be given a text as UTF-8."""

    writing_paused = True

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []

    def channel_send(self, data: str | bytes) -> None:
        """As ever."""
        self.sent.append(data)


class Newer(Older):
    """One that can."""

    writing_paused = False

    def channel_text(self, payload: bytes) -> None:
        """UTF-8."""
        self.sent.append(payload)


@pytest.mark.parametrize(("make", "sent"), [(Older, "grüß"), (Newer, "grüß".encode())])
async def test_a_text_at_hand_goes_as_its_connection_takes_it(make, sent):
    """And it is said whether the client takes it."""
    channel = Channel()
    channel.phase = Phase.OPEN
    channel.entry = Entry(1, "websocket.connection", make())
    assert channel.poll(None) is None
    assert channel.send_text("grüß".encode()) is make.writing_paused
    assert channel.entry.target.sent == [sent]
