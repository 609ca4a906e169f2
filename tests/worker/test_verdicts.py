"""What may follow what is judged before anything is touched: structure, and the ways of state."""

from __future__ import annotations

from typing import Any

import pytest

from netswap.events import Refusal, Stage, Verdict, VerdictLine
from netswap.hotswap import Change
from netswap.stack import Connection, Part, Service
from netswap.transfer import Migration, State
from netswap.worker.verdicts import INTERFACES, judge

KIND = "chat.rooms"


class Hall1(State, kind=KIND, version=1):
    """A text."""

    text: str = ""


class Hall2(State, kind=KIND, version=2):
    """Bytes under the same name."""

    text: bytes = b""


class Hall3(State, kind=KIND, version=3):
    """One field more."""

    text: bytes = b""
    seen: int = 0


class Speaks:
    """What an author's versions have in common."""

    def say(self) -> None:
        """Clients call this."""


class Rooms1(Speaks, Service[Hall1]):
    """The first version."""

    def join(self) -> None:
        """Clients call this."""


class Rooms2(Speaks, Service[Hall2]):
    """The second version."""

    def join(self) -> None:
        """Clients call this."""


class Rooms3(Speaks, Service[Hall3]):
    """The third version."""

    def join(self) -> None:
        """Clients call this."""


class Talk(State, kind="chat.connection", version=1):
    """Nothing."""


class Talk2(State, kind="chat.connection", version=2):
    """Nothing either."""


class Chat(Connection[Talk], uses={"rooms": KIND}):
    """A client of the rooms."""


class Chat2(Connection[Talk2], uses={"rooms": KIND}):
    """Its next version."""


def encode(old: dict[str, Any]) -> dict[str, Any]:
    """Up."""
    return {"text": old["text"].encode()}


def decode(new: dict[str, Any]) -> dict[str, Any]:
    """Down."""
    return {"text": new["text"].decode()}


UP = Migration(KIND, 1, 2, encode, (), 1)
DOWN = Migration(KIND, 2, 1, decode, (), 1)
LOSSY = DOWN._replace(lossy=("seen",))
PRESENT: dict[str, Any] = {KIND: Rooms1, "chat.connection": Chat}


def verdicts(
    *changes: Change,
    present: dict[str, Any] | None = None,
    live: dict[str, list[Any]] | None = None,
    allow_lossy: bool = False,
) -> list[VerdictLine] | Refusal:
    """The judgement in a server that has rooms and a client of theirs."""
    there = PRESENT if present is None else present
    lines, refusal, _ = judge(changes, there, live or {}, allow_lossy)
    if refusal is not None:
        assert Verdict.INCOMPATIBLE in [line.verdict for line in lines]
        assert len(lines) == len(changes)
    return lines if refusal is None else refusal


def refused(outcome: list[VerdictLine] | Refusal) -> Refusal:
    """The refusal that it has to be: at the verdict, naming the kind, with advice."""
    assert isinstance(outcome, Refusal)
    assert outcome.stage == Stage.VERDICT
    assert outcome.kind is not None
    assert outcome.advice
    return outcome


def test_each_change_has_its_line() -> None:
    """Kind, verdict, reason, and the versions from and to."""
    outcome = verdicts(
        Change(KIND, Rooms2, Rooms1, (UP, DOWN)), Change("chat.connection", Chat2, Chat, ())
    )
    assert outcome == [
        VerdictLine(KIND, Verdict.BY_MIGRATION, "steps 1 to 2", 1, 2),
        VerdictLine("chat.connection", Verdict.AUTOMATIC, "the fields agree", 1, 2),
    ]


def test_the_same_version_again_is_as_it_is() -> None:
    """A mended method needs nothing."""
    outcome = verdicts(Change(KIND, Rooms1, Rooms1, ()))
    assert outcome == [VerdictLine(KIND, Verdict.AS_IS, "same format, version 1", 1, 1)]


def test_a_kind_that_was_not_there_is_new() -> None:
    """It has no version to come from."""
    outcome = verdicts(Change(KIND, Rooms2, None, ()), present={})
    assert outcome == [VerdictLine(KIND, Verdict.NEW, "a kind that was not there", None, 2)]


def test_a_change_of_type_without_a_step_is_refused() -> None:
    """The reason names the versions and the field."""
    refusal = refused(verdicts(Change(KIND, Rooms2, Rooms1, ())))
    assert "version 1 can't become version 2" in refusal.reason
    assert "the type of text changed" in refusal.reason


def test_a_change_that_could_not_be_undone_is_refused() -> None:
    """Without the step down there is no roll-back."""
    refusal = refused(verdicts(Change(KIND, Rooms2, Rooms1, (UP,))))
    assert "there is no way back from version 2 to 1" in refusal.reason
    assert "step down" in refusal.advice


def test_every_class_that_lives_is_judged_not_only_the_present_one() -> None:
    """An object of an older version has to find its way as well."""
    change = Change(KIND, Rooms3, Rooms2, ())
    assert isinstance(verdicts(change), list)
    refusal = refused(verdicts(change, live={KIND: [Rooms2, Rooms1]}))
    assert "version 1 can't become version 3" in refusal.reason
    assert isinstance(verdicts(change._replace(migrations=(UP, DOWN)), live={KIND: [Rooms1]}), list)


def test_what_loses_something_has_to_be_asked_for() -> None:
    """The refusal names the fields and the option; with it the line names them."""
    change = Change(KIND, Rooms1, Rooms2, (UP, LOSSY))
    refusal = refused(verdicts(change))
    assert "version 2 to 1 loses seen" in refusal.reason
    assert "--allow-lossy" in refusal.advice
    outcome = verdicts(change, allow_lossy=True)
    assert isinstance(outcome, list)
    assert outcome[0].lossy == ["seen"]


def test_a_lossy_way_back_is_no_obstacle() -> None:
    """Going forward loses nothing."""
    assert isinstance(verdicts(Change(KIND, Rooms2, Rooms1, (UP, LOSSY))), list)


def test_a_used_kind_has_to_be_provided() -> None:
    """By what is there, or by the same push."""
    change = Change("chat.connection", Chat, None, ())
    refusal = refused(verdicts(change, present={}))
    assert f"Chat uses {KIND} as rooms, and nothing provides it" in refusal.reason
    assert isinstance(verdicts(change, Change(KIND, Rooms1, None, ()), present={}), list)


def test_the_scope_of_a_kind_stays() -> None:
    """A service can't become a part of each connection."""

    class Rooms(Part[Hall1]):
        pass

    refusal = refused(verdicts(Change(KIND, Rooms, Rooms1, ())))
    assert "belong to a worker, those of Rooms to another object" in refusal.reason


def test_a_connection_that_heard_has_to_hear() -> None:
    """Without ``on_data`` each client that sends something would be dropped."""

    class Hears(Connection[Hall1]):
        def on_data(self, data: bytes) -> None:
            pass

    class Deaf(Connection[Hall1]):
        pass

    class Piece(Part[Hall1]):
        pass

    kind = "chat.connection"
    refusal = refused(verdicts(Change(kind, Deaf, Hears, ()), present={kind: Hears}))
    assert "Deaf has no on_data" in refusal.reason
    assert isinstance(verdicts(Change(kind, Deaf, Deaf, ()), present={kind: Deaf}), list)
    refusal = refused(verdicts(Change(kind, Piece, Hears, ()), present={kind: Hears}))
    assert "belong to a connection, those of Piece to another object" in refusal.reason


class Silent(Service[Hall1]):
    """Has lost what clients call."""


def test_methods_that_clients_call_stay() -> None:
    """Also those that came from an author's own base class; all that are missing are named."""
    refusal = refused(verdicts(Change(KIND, Silent, Rooms1, ())))
    assert "Silent lacks join, say, which clients of chat.rooms call" in refusal.reason


class Narrow(Rooms1):
    """Its ``join`` asks for what nobody gives, its ``say`` may be given more."""

    def join(self, where: str) -> None:  # type: ignore[override]
        """Clients call this with nothing."""

    def say(self, *words: str, loud: bool = False) -> None:
        """As before, and otherwise."""


def test_methods_that_clients_call_take_what_they_give() -> None:
    """More with a default is no obstacle."""
    refusal = refused(verdicts(Change(KIND, Narrow, Rooms1, ())))
    assert "Narrow.join(self, where) can't be called as clients" in refusal.reason
    both = (Change(KIND, Narrow, Rooms1, ()), Change("chat.connection", Chat2, Chat, ()))
    assert isinstance(verdicts(*both), list)
    assert isinstance(verdicts(Change(KIND, Rooms1, Narrow, ())), list) is False


def test_methods_may_go_when_all_clients_change_too() -> None:
    """In one transaction nobody is left who calls them."""
    outcome = verdicts(Change(KIND, Silent, Rooms1, ()), Change("chat.connection", Chat2, Chat, ()))
    assert isinstance(outcome, list)


@pytest.mark.parametrize("kind", sorted(INTERFACES))
def test_what_the_stack_calls_is_asked_of_every_implementation(kind: str) -> None:
    """New kinds included: a buffer that can't be fed is refused before it is used."""

    class Shape(State, kind=kind, version=1):
        pass

    bases: Any = (Part if kind.startswith("buffer.") else Service)[Shape]

    class Empty(bases):  # type: ignore[misc]
        pass

    refusal = refused(verdicts(Change(kind, Empty, None, ()), present={}))
    assert f"lacks {', '.join(INTERFACES[kind])}, which clients" in refusal.reason
