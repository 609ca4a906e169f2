"""Methods that the stack could not call are refused, at their line; odd ones are not."""

from __future__ import annotations

from typing import Any

import pytest

from netswap.events import Refusal
from netswap.modules import Bundle, BundleError, load_bundle

MODULE = """\
import functools
from dataclasses import dataclass
from netswap import Connection, Part, Service, Session, State
class Talk(State, kind="hooks.thing", version=1):
    said: int = 0
"""
DATA = "class Chat(Connection[Talk]):\n    "
RUN = "class Chat(Session[Talk]):\n    "
HALL = "class Hall(Service[Talk]):\n    "

WRONG = [
    (DATA + "def on_data(self): pass", 7, "Chat.on_data can't be called as on_data(self, data)"),
    (DATA + "def on_data(self, a, b): pass", 7, "Chat.on_data can't be called as on_data"),
    (DATA + "on_data = lambda self: None", 7, "Chat.on_data can't be called as on_data"),
    (DATA + "async def on_data(self, data): pass", 7, "Chat.on_data is async def, and nobody"),
    (DATA + "def on_data(self, data): yield", 7, "Chat.on_data is a generator, and nobody"),
    (DATA + "on_data = None", 6, "Chat.on_data is a NoneType, not a method"),
    (
        DATA + "@property\n    def on_data(self): pass",
        6,
        "Chat.on_data is a property, not a method",
    ),
    (DATA + "@staticmethod\n    def on_data(d): pass", 6, "Chat.on_data is a staticmethod, not"),
    (DATA + "def on_connect(self, x): pass", 7, "Chat.on_connect can't be called as on_connect"),
    (
        DATA + "def on_close(self): pass",
        7,
        "Chat.on_close can't be called as on_close(self, error)",
    ),
    (RUN + "run: int", 6, "Chat has no run"),
    (RUN + "async def run(self, more): pass", 7, "Chat.run can't be called as run(self)"),
    (RUN + "async def run(self): yield", 7, "Chat.run is an asynchronous generator, and nobody"),
    (HALL + "async def on_start(self): pass", 7, "Hall.on_start is async def, and nobody"),
    (HALL + "async def on_prepare(cls): pass", 7, "Hall.on_prepare can't be called as on_prepare"),
    (HALL + "@classmethod\n    async def on_prepare(cls): pass", 7, "Hall.on_prepare can't be"),
    (HALL + "def __init__(self): pass", 7, "Hall.__init__ is never called"),
    (HALL + "def __getattr__(self, name): pass", 7, "Hall.__getattr__ would stand between"),
    (
        "class Two:\n    def __eq__(self, o): pass\n" + "class Hall(Two, Service[Talk]): pass",
        7,
        "__eq__",
    ),
    ("@dataclass(init=False)\n" + HALL + "x = 1", 7, "Hall.__eq__ would make two objects one"),
]

RIGHT = [
    DATA + "def on_data(self, data, more=None): pass",
    DATA + "def on_data(self, *args): pass",
    DATA + "def on_data(self, chunk, /): pass",
    DATA + "on_data = lambda self, data: None",
    DATA + "on_data = functools.partialmethod(lambda self, how, data: None, 'how')",
    DATA + "@functools.singledispatchmethod\n    def on_data(self, data): pass",
    DATA + "def __len__(self): return 0\n    def __bool__(self): return False",
    "class Speaks:\n    def on_data(self, data): pass\nclass Chat(Speaks, Connection[Talk]): pass",
    RUN + "def run(self): return self.talk()\n    async def talk(self): pass",
    HALL + "@classmethod\n    async def on_prepare(cls, host): pass",
    "class Piece(Part[Talk]):\n    def __repr__(self): return 'piece'",
]


def load(source: str) -> Refusal | None:
    """Why a module of this text is refused, if it is."""
    try:
        load_bundle(Bundle("m.py", {"m.py": (MODULE + source + "\n").encode()})).unload()
    except BundleError as error:
        return error.refusal
    return None


@pytest.mark.parametrize(("source", "line", "reason"), WRONG)
def test_what_the_stack_can_not_call_is_refused(source: str, line: int, reason: str) -> None:
    """With the line of the method, or of the class where it is no function."""
    refusal = load(source)
    assert refusal is not None
    assert reason in refusal.reason
    assert (refusal.file, refusal.line) == ("m.py", line)
    assert refusal.advice


@pytest.mark.parametrize("source", RIGHT)
def test_what_it_can_call_is_the_authors_business(source: str) -> None:
    """More parameters with defaults, other names, mixins, partials, a function that is awaited."""
    assert load(source) is None


def test_two_steps_of_one_way_are_refused() -> None:
    """One of them would win, and nobody would know which."""
    step = '@migration("hooks.thing", 1, 2)\ndef up(old): return old\n'
    refusal = load("from netswap import migration\n" + HALL + "x = 1\n" + step + step)
    assert refusal is not None
    assert refusal.reason == "a second step of hooks.thing from 1 to 2"
    assert "m.py:9" in refusal.advice
    assert refusal.line == 11


@pytest.mark.parametrize(
    ("uses", "source", "answers"),
    [
        ("", "import netswap\ndef check(): raise netswap.ProtocolError('no', b'no')\n", True),
        (
            "",
            "def check():\n    from netswap import ProtocolError\n    raise ProtocolError('no')\n",
            True,
        ),
        (", uses={'lines': 'buffer.receive'}", "check = None\n", True),
        (", uses={'desk': 'other.desk'}", "check = None\n", True),
        ("", "check = None\n", False),
    ],
)
def test_a_refusal_by_whatever_the_bundle_calls_is_answered(
    uses: str, source: str, answers: bool
) -> None:
    """uvloop closes the socket before it says so, so something is put around ``on_data``."""
    chat = f"class Chat(Connection[Talk]{uses}):\n    def on_data(self, data): check()\n"
    files = {"__init__.py": "from .chat import Chat\n", "check.py": source}
    files["chat.py"] = MODULE + "from .check import check\n" + chat
    loaded = load_bundle(Bundle("m", {name: text.encode() for name, text in files.items()}))
    cls: Any = loaded.implementations["hooks.thing"]
    assert (cls.data_received is not cls.on_data) == answers
    loaded.unload()
