"""What reaches beyond a module is refused by its source, and what only looks like it is not."""

from __future__ import annotations

import textwrap

import pytest

from netswap.events import Refusal
from netswap.modules import Bundle, check_source


def check(source: str) -> list[Refusal]:
    """The refusals of a bundle of one file."""
    return check_source(Bundle("v2.py", {"v2.py": textwrap.dedent(source).encode()}))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import netswap.ott", "imports netswap.ott"),
        ("from netswap import worker", "imports netswap.worker"),
        ("from netswap.transfer import plan_transfer", "imports netswap.transfer.plan_transfer"),
        ("def up(old):\n    import netswap.hotswap as h", "imports netswap.hotswap"),
        ("import asyncio\nasyncio.sleep = None", "changes asyncio.sleep"),
        ("import asyncio as a\ndef f():\n    a.tasks.x = 1", "changes asyncio.tasks.x"),
        ("import os\nos.environ['TZ'] = 'UTC'", "changes os.environ"),
        ("import sys\ndel sys.modules['x']", "changes sys.modules"),
        ("import sys\nsys.x += 1", "changes sys.x"),
        ("from netswap import Connection\nConnection.write = 1", "netswap.Connection.write"),
        ("import json\nsetattr(json, 'loads', 1)", "changes json"),
        ("import json\ndelattr(json, 'loads')", "changes json"),
        ("import gc\ngc.get_objects()", "calls gc.get_objects"),
        ("try: pass\nexcept BaseException: pass", "catches everything"),
        ("def f():\n    while 1:\n        try: pass\n        except: continue", "catches"),
        ("try: pass\nexcept (OSError, BaseException) as e: print(e)", "catches everything"),
        ("from gc import get_referrers as g\ndef f():\n    g()", "calls gc.get_referrers"),
    ],
)  # fmt: skip
def test_what_belongs_to_all_is_left_alone(source: str, says: str) -> None:
    """Netswap's inner rooms, what was imported, and the objects of others: refused by line."""
    (refusal,) = check(source)
    assert says in refusal.reason
    assert (refusal.stage, refusal.line) == ("check", len(source.splitlines()))
    assert refusal.advice


@pytest.mark.parametrize(
    "source",
    [
        "from netswap import Connection, State, migration",
        "from netswap.testing import check_swappable",
        "import asyncio\ndef f(asyncio):\n    asyncio.x = 1",
        "from os import environ\ndef f():\n    environ = make()\n    environ['a'] = 1",
        "class Row: pass\ndef f():\n    Row.x = 1",
        "def f(self):\n    self.state.rows['a'] = 1",
        "import gc\nprint(gc.isenabled())",
        "try: pass\nexcept Exception: pass",
        "try: pass\nexcept BaseException:\n    print(1)\n    raise",
        "def f(thing):\n    setattr(thing, 'x', 1)",
    ],
)
def test_what_is_its_own_is_its_own(source: str) -> None:
    """The front door, locals, parameters, own classes: an alarm could not be switched off."""
    assert check(source) == []


HEAD = "from netswap import Connection, Service, State\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("class A(Connection):\n    def __del__(self): pass", "A.__del__"),
        ("class B(Service): pass\nclass A(B):\n    def __del__(self): pass", "A.__del__"),
        ("class A(State):\n    def __del__(self): pass", "A.__del__"),
        ("class A(Connection):\n    __slots__ = ('x',)", "slots of its own, ('x',)"),
        ("class A(Connection):\n    __slots__ = NAMES", "slots of its own, NAMES"),
    ],
)
def test_what_ends_with_an_object_does_not_cross(source: str, says: str) -> None:
    """Slots and a ``__del__`` of an implementation are refused, through any number of bases."""
    (refusal,) = check(HEAD + source)
    assert says in refusal.reason
    assert refusal.line == len((HEAD + source).splitlines())


def test_other_classes_may_have_both() -> None:
    """A plain class of the module is nobody's predecessor; empty slots are what it gets anyway."""
    source = "class A:\n    __slots__ = ('x',)\n    def __del__(self): pass\n"
    assert check(HEAD + source + "class C(Connection):\n    __slots__ = ()\n") == []
