"""Workers that have settled have nothing on its way between them, and will send nothing more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from netswap.channel.messages import Quiet
from netswap.worker.gate.settling import Settling, Turns

HOPS = 6
"""So often a question leads to another one, at most."""


@dataclass
class Peer:
    """One worker: its links to the others, in order, and what it has settled so far."""

    slot: int
    links: dict[tuple[int, int], deque[Quiet | int]]
    said: int = 0
    answering: int = 0
    turns: Turns = field(default_factory=Turns)
    settling: Settling | None = None
    waits: bool = False

    def tell(self, slot: int, message: Quiet) -> None:
        self.links[self.slot, slot].append(message)

    def ask(self, slot: int, hops: int) -> None:
        """A question that will lead to so many others."""
        self.said += 1
        self.links[self.slot, slot].append(hops)

    def hear(self, slot: int, onward: int) -> None:
        """The next of what another worker has sent; a question is passed on to ``onward``."""
        message = self.links[slot, self.slot].popleft()
        if isinstance(message, Quiet):
            self.turns.heard(slot, message)
            return
        self.said += 1
        if message and onward != self.slot:
            self.ask(onward, message - 1)

    @property
    def over(self) -> bool:
        return self.settling is not None and self.settling.over

    def go_on(self) -> None:
        """Take a turn, or see whether all others have taken it."""
        assert self.settling is not None
        if not self.waits:
            self.settling.take_turn(0)
            self.waits = True
        elif self.settling.heard_all():
            self.waits = False


class Workers:
    """All of them, and what can happen next."""

    def __init__(self, count: int) -> None:
        slots = range(count)
        self.links: dict[tuple[int, int], deque[Quiet | int]] = {
            (a, b): deque() for a in slots for b in slots if a != b
        }
        self.all = [Peer(slot, self.links) for slot in slots]

    def begin(self, tx: int) -> None:
        for peer in self.all:
            peer.settling = Settling(peer, peer.slot, range(len(self.all)), tx)
            peer.waits = False

    def possible(self, onward: int) -> list[Callable[[], None]]:
        """Messages arrive, and turns are taken."""
        arrivals: list[Callable[[], None]] = [
            lambda a=a, b=b: self.all[b].hear(a, onward)  # type: ignore[misc]
            for (a, b), link in self.links.items()
            if link
        ]
        return arrivals + [peer.go_on for peer in self.all if not peer.over]

    def asked(self) -> list[int]:
        """The questions that are on their way."""
        return [one for link in self.links.values() for one in link if isinstance(one, int)]


QUESTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, HOPS)), max_size=12
)


@given(st.integers(2, 4), QUESTIONS, st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_who_has_settled_is_asked_nothing_more(
    count: int, questions: list[tuple[int, int, int]], seed: int
) -> None:
    """Whatever was being asked when it began, and in whichever order it arrives, twice over."""
    workers, random = Workers(count), Random(seed)
    for tx in (1, 1, 2):  # the way back of a transaction settles once more
        for asker, asked, hops in questions:
            if asker % count != asked % count:
                workers.all[asker % count].ask(asked % count, hops)
        workers.begin(tx)
        while not all(peer.over for peer in workers.all):
            onward = random.randrange(count)
            random.choice(workers.possible(onward))()
            if any(peer.over for peer in workers.all):
                assert not workers.asked()
        assert len({peer.turns.mine for peer in workers.all}) == 1


def test_a_turn_that_was_not_idle_is_not_the_last() -> None:
    """Two are needed at least, and one more for what was heard in between."""
    workers = Workers(2)
    workers.begin(1)
    one, other = workers.all
    for peer in workers.all:
        peer.go_on()
    one.ask(1, 0)
    for peer, slot in ((other, 0), (other, 0), (one, 1)):
        peer.hear(slot, 0)
    for peer in workers.all:
        peer.go_on()
        assert not peer.over
        peer.go_on()
    for peer, slot in ((other, 0), (one, 1)):
        peer.hear(slot, 0)
        peer.go_on()
        assert not peer.over, "it was asked in the turn before"


def test_what_comes_behind_the_last_word_is_of_after():
    """Seen at the message itself: the next one of the same read may be of code that has flipped."""
    links: dict[tuple[int, int], deque[Quiet | int]] = {(0, 1): deque(), (1, 0): deque()}
    one, other = Peer(0, links), Peer(1, links)
    for peer in (one, other):
        peer.settling = Settling(peer, peer.slot, (0, 1), 1)
    for _ in range(2):  # the first turn of anybody is never idle
        for peer in (one, other):
            peer.settling.take_turn(0)
        assert not one.settling.ended
        one.hear(1, 1)
        other.hear(0, 0)
        other.settling.heard_all()
    assert other.over
    assert one.settling.ended, "before it has looked"
    assert not one.over
