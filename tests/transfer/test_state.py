"""A state is checked where it is declared: named, versioned, with defaults, and plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from netswap.transfer import State
from netswap.transfer.state import reference, shape_of
from tests.transfer.conftest import Pushed


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ('kind="", version=1', "names its kind"),
        ("version=1", "names its kind"),
        ('kind="k", version=0', "whole number from 1 up to 2147483647, not 0"),
        ('kind="k", version="2"', "whole number from 1 up to 2147483647, not '2'"),
        ('kind="k", version=True', "whole number from 1 up to 2147483647, not True"),
        ('kind="k"', "whole number from 1 up to 2147483647, not None"),
    ],
)
def test_kind_and_version_are_stamped_in_the_state(pushed: Pushed, head: str, says: str) -> None:
    """Without both, the class is refused at its own line."""
    with pytest.raises(TypeError, match=says):
        pushed(f"from netswap import State\nclass Talk(State, {head}):\n    a: int = 1\n")


def test_every_field_has_a_default(pushed: Pushed) -> None:
    """Objects that live now need a value; the error names the field."""
    with pytest.raises(TypeError, match=r"Talk\.nick has no default"):
        pushed("from netswap import State\nclass Talk(State, kind='k', version=1):\n  nick: str\n")


@pytest.mark.parametrize("default", ["Seen()", "([],)"])
def test_a_default_that_can_change_is_refused(pushed: Pushed, default: str) -> None:
    """Every object would have the same one, and a client would see what others do."""
    source = (
        "from dataclasses import dataclass\nfrom netswap import State\n"
        "@dataclass(eq=False)\nclass Seen:\n    count: int = 0\n"
        f"class Talk(State, kind='k', version=1):\n    seen: Seen | tuple = {default}\n"
    )
    with pytest.raises(TypeError, match=r"Talk\.seen has a default that all objects would share"):
        pushed(source)
    frozen = source.replace("eq=False", "frozen=True").replace("([],)", "(1,)")
    assert pushed(frozen)


@pytest.mark.parametrize(
    "declared",
    [
        "Callable[[], None] = print",
        "dict[str, Callable[[], None]] = {}",
        "list[object] = []",
        "socket.socket | None = None",
    ],
)
def test_what_can_not_be_encoded_is_refused_by_name(pushed: Pushed, declared: str) -> None:
    """Callables, sockets and the like, also inside containers."""
    source = (
        "import socket\nfrom collections.abc import Callable\nfrom netswap import State\n"
        f"class Talk(State, kind='k', version=1):\n    bad: {declared}\n"
    )
    with pytest.raises(TypeError, match=r"Talk\.bad can't be encoded \(.+\); declare it with ref"):
        pushed(source)


@pytest.mark.parametrize(
    "option",
    [
        "frozen=True",
        "kw_only=True",
        "array_like=True",
        "tag=True",
        "rename='camel'",
        "forbid_unknown_fields=True",
    ],
)
def test_options_that_change_how_fields_cross_are_refused(pushed: Pushed, option: str) -> None:
    """With rename='camel', say, values would silently become defaults."""
    with pytest.raises(TypeError, match=f"the option {option.partition('=')[0]}="):
        pushed(
            "from netswap import State\n"
            f"class Talk(State, kind='k', version=1, {option}):\n    some_name: int = 1\n"
        )


def test_a_field_crosses_under_its_own_name(pushed: Pushed) -> None:
    """A second name for the encoded form would lose the value."""
    with pytest.raises(TypeError, match=r"Talk\.a is encoded as 'b'"):
        pushed(
            "import msgspec\nfrom netswap import State\n"
            "class Talk(State, kind='k', version=1):\n"
            "    a: int = msgspec.field(default=1, name='b')\n"
        )


def test_a_reference_may_be_anything_and_is_made_by_its_factory() -> None:
    """Each object gets its own; a callable class is no obstacle."""

    class Parser(State, kind="k", version=1):
        reader: Callable[[], int] = reference(lambda: lambda: 1, lambda _: None)

    one, two = Parser(), Parser()
    assert one.reader() == 1
    assert one.reader is not two.reader
    assert set(Parser.__references__) == {"reader"}


def test_references_are_inherited() -> None:
    """A state may extend another one and keeps what moves by pointer."""

    class First(State, kind="k", version=1):
        held: list[int] = reference(list)

    class Second(First, kind="k", version=2):
        more: int = 0

    assert set(Second.__references__) == {"held"}
    assert (First.__version__, Second.__version__) == (1, 2)


def test_shapes_are_equal_whatever_module_they_come_from(pushed: Pushed) -> None:
    """Two loads of one source have one shape, and a field more makes another."""
    source = """
        import enum, msgspec
        from netswap import State
        class Colour(enum.Enum):
            RED = 1
        class Row(msgspec.Struct):
            name: str = ""
            above: "Row | None" = None
        class Table(State, kind="k", version=1):
            rows: dict[str, list[Row]] = {}
            colour: Colour = Colour.RED
        """
    one, two, three = pushed(source), pushed(source), pushed(source.replace("RED = 1", "RED = 2"))
    assert shape_of(one.Table) == shape_of(two.Table)
    assert shape_of(one.Table) != shape_of(three.Table)


def test_what_the_encoded_form_leaves_out_or_names_is_of_the_shape(pushed: Pushed) -> None:
    """Else a default that changes would change what live objects hold, and nobody would see it."""

    def shape(options: str, default: int) -> Any:
        source = f"""
            import msgspec
            from netswap import State
            class Inner(msgspec.Struct{options}):
                n_n: int = {default}
            class Outer(State, kind="k", version=1):
                x: Inner = msgspec.field(default_factory=Inner)
            """
        return shape_of(pushed(source).Outer)

    plain, omitting = shape("", 0), shape(", omit_defaults=True", 0)
    assert plain == shape("", 5)
    assert omitting == shape(", omit_defaults=True", 0)
    assert omitting != shape(", omit_defaults=True", 5)
    assert plain != shape(", rename='camel'", 0)


def test_a_struct_is_no_state_by_itself() -> None:
    """State is a struct that has a kind; its subclasses without one are only bases."""

    class Common(State):
        a: int = 1

    class Talk(Common, kind="k", version=1):
        b: int = 2

    assert issubclass(Talk, msgspec.Struct)
    assert not hasattr(Common, "__kind__")
    assert Talk(1, 2) == Talk()


def test_plain_data_of_every_sort_is_allowed() -> None:
    """Scalars, containers, and what is made of them."""

    class Plain(State, kind="k", version=1):
        a: int | None = None
        b: bytes = b""
        c: bytearray = msgspec.field(default_factory=bytearray)
        d: dict[bytes, tuple[int, ...]] = {}
        e: frozenset[str] = frozenset()
        f: float = 0.0
        g: Any = None

    assert Plain().d == {}
