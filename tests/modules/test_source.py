"""What the source alone shows: each rule finds what it is for, and leaves the rest alone."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.events import Refusal
from netswap.modules import Bundle, check_source

GOOD = '''
"""A module that keeps every rule."""
from __future__ import annotations
import contextvars
from collections import OrderedDict, defaultdict
from types import MappingProxyType
from typing import ClassVar, Final
from msgspec import Struct
from netswap import Connection, State

__all__ = ["Talk", "Chat"]
LIMIT = 65536
NAMES: Final = frozenset({"a", "b"})
TABLE = MappingProxyType({"a": [1]})
PAIRS = (("a", 1), ("b", 2))
LATER: dict[str, int]
LINE = b"\\r\\n" * 2

class Row(Struct):
    items: list[int] = []

class Talk(State, kind="chat.connection", version=2):
    partial: bytes = b""
    seen: dict[str, int] = {}
    LIMIT: ClassVar[int]

class Chat(Connection[Talk]):
    __slots__ = []
    limit = 5

    def on_data(self, data: bytes) -> None:
        found = {}
        order = OrderedDict()
        for word in sorted(data.split()):
            found[word] = [word]
        def inner() -> None:
            nonlocal found
            found = {}
'''


def check(source: str, name: str = "v2.py") -> list[Refusal]:
    """The refusals of a bundle of one file."""
    return check_source(Bundle("kv/v2.py", {name: textwrap.dedent(source).encode()}))


def test_a_module_that_keeps_the_rules_passes() -> None:
    """Constants, fields with defaults and locals of functions are nobody's business."""
    assert check(GOOD) == []


@pytest.mark.parametrize(
    ("line", "noun"),
    [
        ("X = {}", "a dict"),
        ("X: Final = {'a': 1}", "a dict"),
        ("X = []", "a list"),
        ("X = {1, 2}", "a set"),
        ("X = [n for n in range(3)]", "a list"),
        ("X = {n for n in range(3)}", "a set"),
        ("X = {n: n for n in range(3)}", "a dict"),
        ("X = (n for n in range(3))", "a generator"),
        ("X = dict(a=1)", "a dict"),
        ("X = dict.fromkeys('ab')", "a dict"),
        ("X = list('ab')", "a list"),
        ("X = sorted('ab')", "a list"),
        ("X = set()", "a set"),
        ("X = bytearray(5)", "a bytearray"),
        ("X = dict[str, int]()", "a dict"),
        ("X = Y = []", "a list"),
        ("X, Y = {}, 1", "a dict"),
        ("X = [0] * 256", "a list"),
        ("X = {} or None", "a dict"),
        ("X = 1 if LIMIT else []", "a list"),
        ("X = (Y := [])", "a list"),
        ("X = 1\nX += []", "a list"),
        ("import collections\nX = collections.defaultdict(int)", "a defaultdict"),
        ("import collections as c\nX = c.deque()", "a deque"),
        ("from collections import Counter as C\nX = C()", "a Counter"),
        ("from collections import OrderedDict\nX = OrderedDict()", "an OrderedDict"),
        ("import weakref\nX = weakref.WeakSet()", "a WeakSet"),
        ("import array\nX = array.array('b')", "an array"),
        ("import itertools\nX = itertools.count()", "a count"),
        ("import queue\nX = queue.SimpleQueue()", "a SimpleQueue"),
        ("import threading\nX = threading.Lock()", "a Lock"),
        ("from threading import RLock\nX = RLock()", "an RLock"),
        ("import threading\nX = threading.local()", "a local"),
        ("import asyncio\nX = asyncio.Event()", "an Event"),
        ("from asyncio import Semaphore\nX = Semaphore(3)", "a Semaphore"),
        ("import asyncio\nX = asyncio.Queue()", "a Queue"),
        ("from contextvars import ContextVar\nX = ContextVar[int]('x')", "a ContextVar"),
        ("import contextvars\nX = contextvars.ContextVar('x')", "a ContextVar"),
        ("if LIMIT:\n    X = []", "a list"),
        ("try:\n    pass\nexcept OSError:\n    X = []", "a list"),
        ("with open('a') as f:\n    X = []", "a list"),
        ("for n in range(3):\n    X = []", "a list"),
        ("match LIMIT:\n    case 1:\n        X = []", "a list"),
    ],
)  # fmt: skip
def test_a_kept_mutable_value_is_refused(line: str, noun: str) -> None:
    """Whatever could split in two is refused with its name, what it is, the line and a way out."""
    source = f"LIMIT = 5\n{line}\n"
    (refusal,) = check(source)
    place = next(n for n, text in enumerate(source.splitlines(), 1) if "X" in text and n > 1)
    if "+=" in line or "import" in line:
        place = len(source.splitlines())
    assert (refusal.stage, refusal.file, refusal.line) == ("check", "v2.py", place)
    assert "X" in refusal.reason
    assert f"of the module is {noun}:" in refusal.reason
    assert refusal.advice


def test_a_mutable_class_attribute_is_refused() -> None:
    """All objects of a version would share it, and no other version's."""
    (refusal,) = check(
        """
        from netswap import Connection
        class Chat(Connection):
            class Inner:
                cache = {}
        """
    )
    assert refusal.line == 5
    assert "cache of the class Inner is a dict" in refusal.reason


def test_a_class_variable_of_a_state_is_refused() -> None:
    """A default is copied for every object, a class variable is not."""
    refusals = check(
        """
        from typing import ClassVar
        from netswap import State
        class Talk(State, kind="k", version=1):
            names: ClassVar[list[str]] = []
            rooms = {}
        """
    )
    assert [refusal.line for refusal in refusals] == [5, 6]


@pytest.mark.parametrize(
    "header",
    [
        "from netswap import State\nclass Talk(State, kind='k', version=1):",
        "from netswap import State as S\nclass Talk(S, kind='k', version=1):",
        "import netswap\nclass Talk(netswap.State, kind='k', version=1):",
        "import netswap as n\nclass Shape(n.State): pass\nclass Talk(Shape, kind='k', version=1):",
    ],
)
def test_a_state_field_without_default_is_refused(header: str) -> None:
    """Objects that live now need a value for a new field; the line is the field's."""
    source = f"{header}\n    nick: str\n    seen: int = 0\n"
    (refusal,) = check(source)
    assert "Talk.nick has no default" in refusal.reason
    assert refusal.line == len(source.splitlines()) - 1


def test_a_state_is_known_across_the_files_of_a_bundle() -> None:
    """A base class in a sibling file makes a state, too."""
    files = {
        "shapes.py": b"from netswap import State\nclass Shape(State):\n    pass\n",
        "v2.py": b"from .shapes import Shape\nclass Talk(Shape):\n    nick: str\n",
    }
    (refusal,) = check_source(Bundle("kv", files))
    assert (refusal.file, refusal.line) == ("v2.py", 3)


def test_another_class_of_the_name_state_is_none() -> None:
    """Only netswap's State has to have defaults."""
    assert check("class State: pass\nclass Talk(State):\n    nick: str\n") == []


def test_a_written_global_is_refused() -> None:
    """A function that writes a module's name is refused at its global statement."""
    (refusal,) = check(
        """
        COUNT = 0
        def count():
            global COUNT
            COUNT += 1
        """
    )
    assert refusal.line == 4
    assert "writes COUNT of the module" in refusal.reason


def test_a_name_of_the_module_hides_the_builtin() -> None:
    """A function of the module's own that is called dict is not the builtin."""
    assert check("def dict(): return 1\nX = dict()\n") == []


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"x = 1\ndef f(:\n", 2, "does not parse"),
        (b"x = (\n", 1, "does not parse"),
        (b"x = 1\nreturn 5\n", 2, "does not parse"),
        (b"x = 1\n\n\xff\xfe\n", 3, "not text: byte 0xff is not utf-8"),
        (b"\x89PNG\r\n\x1a\n", 1, "not text: byte 0x89"),
        (b"x = 1\ny = 2\0\n", 2, "not text: it holds a zero byte"),
        (b"# coding: nonsense\nx = 1\n", 1, "not text: unknown encoding"),
        (b"\x7fELF\x02\x01\x01\0", 1, "not text"),
        (b"<html>\n<body>hello</body>\n", 1, "does not parse"),
    ],
)
def test_what_is_no_python_is_refused_by_line(content: bytes, line: int, reason: str) -> None:
    """Binary, another language and broken Python are refused with file and line."""
    (refusal,) = check_source(Bundle("b", {"v2.py": content}))
    assert (refusal.file, refusal.line) == ("v2.py", line)
    assert reason in refusal.reason


def test_other_encodings_are_text() -> None:
    """A declared encoding and a byte order mark are Python's own rules."""
    latin = "# coding: latin-1\nname = 'é'\n".encode("latin-1")
    marked = b"\xef\xbb\xbfname = 1\n"
    assert check_source(Bundle("b", {"a.py": latin, "b.py": marked})) == []


def test_files_that_are_no_python_are_data() -> None:
    """A bundle may carry data beside its modules, but it needs a module."""
    assert check_source(Bundle("b", {"a.py": b"", "logo.png": b"\x89PNG"})) == []
    (refusal,) = check_source(Bundle("b", {"notes.txt": b"hello"}))
    assert str(refusal) == "refused at check: it is not Python (notes.txt:1)"
    (refusal,) = check_source(Bundle("kv", {}))
    assert str(refusal) == "refused at check: the bundle is empty (kv:1)"


def test_all_files_are_reported_in_order() -> None:
    """One run names everything, by file and line."""
    files = {"b.py": b"X = []\nY = {}\n", "a.py": b"def f(:\n"}
    found = [(refusal.file, refusal.line) for refusal in check_source(Bundle("b", files))]
    assert found == [("a.py", 1), ("b.py", 1), ("b.py", 2)]


@pytest.mark.parametrize("depth", [100, 500, 900, 1_500, 2_500, 20_000])
@pytest.mark.parametrize("shape", ["{}1", "X = {}1", "X = {}a()", "class A(State):\n    x: {}1"])
@pytest.mark.parametrize("part", ["(", "-", "1+", "not ", "a.", "a[", "lambda: "])
def test_deep_nesting_does_no_harm(shape: str, part: str, depth: int) -> None:
    """Source that exhausts the parser is refused or passed, never a crash."""
    assert len(check(shape.format(part * depth))) <= 1


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_content_gives_refusals(content: bytes) -> None:
    """Whatever the bytes, the check answers with refusals that name a line of the file."""
    for refusal in check_source(Bundle("b", {"v2.py": content})):
        assert refusal.file == "v2.py"
        assert refusal.line is not None
        assert 1 <= refusal.line <= content.count(b"\n") + content.count(b"\r") + 2


@pytest.mark.parametrize(
    ("signature", "name"),
    [("a, seen=[]", "seen"), ("seen={}, /", "seen"), ("*, a=1, seen=set()", "seen")],
)
def test_a_mutable_default_is_refused(signature: str, name: str) -> None:
    """All calls would share it: what one object adds all others see."""
    (refusal,) = check(f"def up({signature}):\n    pass\n")
    assert f"the default of {name} in up is a" in refusal.reason
    assert refusal.line == 1


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ("def __init__(self): self.rows = []", True),
        ("def add(self, row): self.last = row", True),
        ("def add(self, row): self.count += 1", True),
        ("def __init__(self, limit): self.limit = limit", False),
        ("def find(self, row): return row", False),
        ("x: int = 5", False),
    ],
)
def test_a_kept_object_that_changes_is_refused(body: str, refused: bool) -> None:
    """A registry is one whatever its class is called; what stays as it was made is none."""
    found = check(f"class Registry:\n    {body}\n\nROWS = Registry()\n")
    assert [row.line for row in found] == ([4] if refused else [])
    assert all("ROWS is an object of Registry, which changes" in row.reason for row in found)


def test_a_field_of_a_state_may_be_such_an_object() -> None:
    """A default is made anew for every object."""
    assert not check(
        """
        from msgspec import Struct
        from netswap import State
        class Row(Struct):
            n: int = 0
            def bump(self): self.n += 1
        class Talk(State, kind="k", version=1):
            row: Row = Row()
        """
    )


def test_a_file_that_no_parser_reads_in_time_is_refused() -> None:
    """A parser can't be interrupted: more than a megabyte is not given to it."""
    (refusal,) = check("X = (\n" + "    1,\n" * 200_000 + ")\n")
    assert "larger than 1024 kB" in refusal.reason
