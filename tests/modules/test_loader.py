"""The loader: versions live side by side, every failure names the author's line, nothing stays."""

from __future__ import annotations

import asyncio
import gc
import inspect
import linecache
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netswap.events import Refusal
from netswap.modules import Bundle, BundleError, Loaded, load_bundle

GOOD = """\
from netswap import Service, State, migration

class Hall(State, kind="test.hall", version=2):
    names: list[str] = []

@migration("test.hall", 1, 2)
def up(old):
    return old

class Rooms(Service[Hall]):
    def answer(self) -> str:
        return "VERSION"

    def broken(self) -> None:
        raise ValueError("on purpose")
"""
KINDLESS = "from netswap import Service, State\n"
# A second implementation of the kind of GOOD, whole by itself.
OTHER = GOOD.replace("class Rooms", "class Others")


def bundle_of(source: str, **siblings: str) -> Bundle:
    """A bundle with ``v2.py`` and, by stem, its siblings."""
    files = {"v2": source, **siblings}
    return Bundle("kv/v2.py", {f"{stem}.py": text.encode() for stem, text in files.items()})


OUTER = {"v2.py", "kv/v2.py"}  # of the files below, those that define the implementation

Traces = tuple[frozenset[str], frozenset[str], int]


def traces() -> Traces:
    """What a bundle may leave in the interpreter."""
    modules = frozenset(name for name in sys.modules if name.startswith("netswap_bundle_"))
    lines = frozenset(name for name in linecache.cache if "@" in name)
    return modules, lines, len(sys.meta_path)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Every test leaves the interpreter as it found it."""
    before = traces()
    yield
    assert traces() == before


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    """GOOD, loaded for one test."""
    loaded = load_bundle(bundle_of(GOOD))
    yield loaded
    loaded.unload()


def refusal_of(bundle: Bundle) -> Refusal:
    """Why the loader refuses ``bundle``; nothing may be left of it."""
    before = traces()
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert traces() == before
    refusal = caught.value.refusal
    assert refusal.stage == "load"
    assert refusal.advice
    return refusal


def test_a_bundle_provides_its_implementations_and_steps(loaded: Loaded) -> None:
    """The classes by kind, the migrations, and the modules by file."""
    assert list(loaded.implementations) == ["test.hall"]
    assert loaded.implementations["test.hall"].__name__ == "Rooms"
    assert loaded.implementations["test.hall"].version == 2
    assert [(row.source, row.target) for row in loaded.migrations] == [(1, 2)]
    assert loaded.modules["v2.py"].__name__ == f"netswap_bundle_{loaded.sha256[:12]}.v2"


def test_versions_live_side_by_side(loaded: Loaded) -> None:
    """Two bundles with the same file name do not touch each other."""
    other = load_bundle(bundle_of(GOOD.replace("VERSION", "other")))
    classes = [each.implementations["test.hall"] for each in (loaded, other)]
    assert [cls.answer(None) for cls in classes] == ["VERSION", "other"]  # type: ignore[attr-defined]
    other.unload()
    assert classes[0].answer(None) == "VERSION"  # type: ignore[attr-defined]


def test_what_is_imported_from_elsewhere_is_not_provided() -> None:
    """A base class that is imported does not become an implementation of this bundle."""
    source = "from netswap import *\nfrom .base import Rooms as Base\n" + GOOD.split("\n", 1)[1]
    source = source.replace("test.hall", "test.own")
    loaded = load_bundle(bundle_of(source, base=GOOD))
    assert sorted(loaded.implementations) == ["test.hall", "test.own"]
    loaded.unload()


def test_a_traceback_shows_the_right_source(loaded: Loaded) -> None:
    """The file name carries the hash and the line is the one of that version."""
    cls: Any = loaded.implementations["test.hall"]
    try:
        cls.broken(None)
    except ValueError:
        text = traceback.format_exc()
    assert f'File "v2.py@{loaded.sha256[:12]}", line 15, in broken' in text
    assert 'raise ValueError("on purpose")' in text
    linecache.checkcache()
    assert inspect.getsource(loaded.modules["v2.py"]) == GOOD
    assert 'raise ValueError("on purpose")' in inspect.getsource(cls)


def test_the_root_stands_in_front_of_the_file_names() -> None:
    """Tracebacks can show where the author's file lies."""
    loaded = load_bundle(bundle_of(GOOD), Path("protocols/kv"))
    cls: Any = loaded.implementations["test.hall"]
    shown = f"protocols/kv/v2.py@{loaded.sha256[:12]}"
    assert cls.answer.__code__.co_filename == shown
    assert inspect.getsourcefile(cls.answer) == shown
    loaded.unload()


@pytest.mark.parametrize(
    "files",
    [
        {"v2.py": "from .shapes import Hall", "shapes.py": "HALL"},
        {"v2.py": "from . import shapes\nHall = shapes.Hall", "shapes.py": "HALL"},
        {"__init__.py": "", "v2.py": "from .deep.shapes import Hall", "deep/shapes.py": "HALL"},
        {"kv/v2.py": "from ..shapes import Hall", "shapes.py": "HALL"},
        {"kv/v2.py": "from ..chat.v2 import Hall", "chat/v2.py": "HALL"},
        {"v2.py": "from . import Hall", "__init__.py": "HALL"},
        {"v2.py": "from .deep import Hall", "deep/__init__.py": "from .a import Hall",
         "deep/a.py": "HALL"},
    ],
)  # fmt: skip
def test_relative_imports_work(files: dict[str, str]) -> None:
    """Files pushed together import each other relatively, at any depth."""
    hall = GOOD.split("@migration", maxsplit=1)[0]
    rooms = "\nfrom netswap import Service\nclass Rooms(Service[Hall]): pass\n"
    texts = {
        name: text.replace("HALL", hall) + (rooms if name in OUTER else "")
        for name, text in files.items()
    }
    loaded = load_bundle(Bundle("b", {name: text.encode() for name, text in texts.items()}))
    assert list(loaded.implementations) == ["test.hall"]
    loaded.unload()


def test_a_late_import_inside_a_function_works(loaded: Loaded) -> None:
    """While a bundle is loaded, its functions may still import its modules."""
    source = GOOD.replace('return "VERSION"', "from . import words\n        return words.WORD")
    late = load_bundle(bundle_of(source, words="WORD = 5\n"))
    cls: Any = late.implementations["test.hall"]
    assert cls.answer(None) == 5
    late.unload()


def test_data_files_are_resources() -> None:
    """importlib.resources reads a bundle's data files, which are on no disk."""
    source = (
        "from importlib.resources import files\n"
        "TOP = files(__package__)\n"
        "TEXT = (TOP / 'pages' / 'a.html').read_text()\n"
        "RAW = TOP.joinpath('pages/a.html').read_bytes()\n"
        "NAMES = tuple(node.name for node in TOP.joinpath('pages').iterdir())\n"
        "THERE = TOP.joinpath('pages').is_dir(), TOP.joinpath('nowhere').is_dir()\n"
    )
    files = {"my-app/v2.py": (source + GOOD).encode(), "my-app/pages/a.html": b"<p>\n"}
    loaded = load_bundle(Bundle("b", files))
    module: Any = loaded.modules["my-app/v2.py"]
    with pytest.raises(FileNotFoundError):
        (module.TOP / "pages" / "b.html").read_text()
    assert (module.TEXT, module.RAW) == ("<p>\n", b"<p>\n")
    assert (module.NAMES, module.THERE) == (("a.html",), (True, False))
    loaded.unload()


@pytest.mark.parametrize("name", ["my-proto.py", "2nd.py", "v2.1.py", ".hidden.py", "class.py"])
def test_any_file_name_can_be_loaded(name: str) -> None:
    """A name that no import statement could have is loaded under one that could."""
    loaded = load_bundle(Bundle("b", {name: GOOD.encode()}))
    assert loaded.modules[name].__name__.rpartition(".")[2].isidentifier()
    loaded.unload()


def test_other_encodings_are_loaded() -> None:
    """A declared encoding is honoured."""
    content = b"# coding: latin-1\nNAME = '\xe9'\n" + GOOD.encode()
    loaded = load_bundle(Bundle("b", {"v2.py": content}))
    assert vars(loaded.modules["v2.py"])["NAME"] == "é"
    loaded.unload()


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("x = 1\ndef f(:\n", 2, "does not parse"),
        ("x = 1\nreturn 5\n", 2, "does not parse"),
        ("x = 1\n1 / 0\n", 2, "its import raised ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('k')\nf()\n", 2, "KeyError: 'k'"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("raise GeneratorExit\n", 1, "GeneratorExit"),
        ("import asyncio\nraise asyncio.CancelledError\n", 2, "CancelledError"),
        ("def f():\n    f()\nf()\n", 2, "RecursionError"),
        ("x = 1\nimport no_such_package\n", 2, "No module named 'no_such_package'"),
        ("x = 1\nfrom .shapes import Hall\n", 2, "No module named '.shapes'"),
        ("from . import shapes\n", 1, "cannot import name 'shapes' from '.'"),
        ("eval('1 +')\n", 1, "its import raised SyntaxError"),
        ("x: int = 1\n", 1, "it provides no implementation"),
        ("", 1, "it provides no implementation"),
        ("class A:\n    def __str__(self): return 1\nprint(A())\n", 3, "TypeError"),
        ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E\n", 3, "E (and"),
        (KINDLESS + "class Hall(State, kind='', version=1): pass\n", 2, "names its kind"),
        (KINDLESS + "class Hall(State, kind='k', version=0): pass\n", 2, "has a version"),
        (KINDLESS + "class Hall(State, kind='k', version=2**31): pass\n", 2, "has a version"),
        (
            KINDLESS + "class Hall(State, kind='k@1', version=1): pass\n",
            2,
            "can't have '@' in its name",
        ),
        (KINDLESS + "class Hall(State, kind='k', version=1):\n    x: int\n", 2, "no default"),
        (KINDLESS + "\nclass Rooms(Service): pass\n", 3, "Rooms has no kind, because it names no"),
        (KINDLESS + "class Hall(State): pass\nclass R(Service[Hall]): pass\n", 3, ""),
    ],
)
def test_every_failure_names_the_authors_line(source: str, line: int, reason: str) -> None:
    """Whatever goes wrong at import is one sentence with file, line and what to do."""
    refusal = refusal_of(bundle_of(source))
    assert (refusal.file, refusal.line) == ("v2.py", line)
    assert reason in refusal.reason
    assert "netswap_bundle_" not in str(refusal)
    assert "\n" not in str(refusal)


def test_the_innermost_file_is_named() -> None:
    """A failure inside a sibling is shown there, a syntax error as well."""
    caller = "from .inner import f\nf()\n"
    raising = refusal_of(bundle_of(caller, inner="def f():\n    1 / 0\n"))
    assert (raising.file, raising.line) == ("inner.py", 2)
    broken = refusal_of(bundle_of(caller, inner="x = 1\ndef f(:\n"))
    assert (broken.file, broken.line) == ("inner.py", 2)


def test_a_refusal_carries_the_authors_traceback() -> None:
    """The way to the error is a note, from the author's first line on."""
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle_of("def f():\n    1 / 0\nf()\n"))
    (note,) = caught.value.__notes__
    assert note.splitlines()[1].startswith('  File "v2.py@')
    assert "1 / 0" in note
    assert "importlib" not in note


def test_an_endless_text_is_cut() -> None:
    """An exception with a huge text still gives one sentence."""
    assert len(refusal_of(bundle_of("raise ValueError('x' * 10**6)\n")).reason) < 500


def test_two_implementations_of_a_kind_are_refused() -> None:
    """Which one was meant can't be guessed: both are named, in one file or in two."""
    twice = GOOD + "\nclass Others(Service[Hall]): pass\n"
    refusal = refusal_of(bundle_of(twice))
    assert refusal.reason == "Others implements test.hall, and so does Rooms (v2.py:10)"
    assert (refusal.file, refusal.line) == ("v2.py", 17)
    refusal = refusal_of(bundle_of(GOOD, other=OTHER))
    assert "Rooms implements test.hall, and so does Others (other.py:10)" in refusal.reason


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"notes.txt": b"hello"}, "it is not Python"),
        ({}, "it is not Python"),
        ({"v2.py": b"\x89PNG\r\n"}, "it is not text"),
        ({"v2.py": b"x = 1\0"}, "it is not text"),
        ({"a-b.py": b"", "a_b.py": b""}, "it would be the same module as a-b.py"),
        ({"kv.py": b"", "kv/v2.py": b""}, "there is a folder of the same name"),
    ],
)
def test_files_that_make_no_modules_are_refused(files: dict[str, bytes], reason: str) -> None:
    """What can't be imported at all is refused before anything runs."""
    assert reason in refusal_of(Bundle("b", files)).reason


def test_an_interrupt_is_not_a_refusal() -> None:
    """Ctrl-C during an import is the operator's, and leaves nothing behind either."""
    with pytest.raises(KeyboardInterrupt):
        load_bundle(bundle_of("raise KeyboardInterrupt\n"))


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("def wait():\n    HOOK.wait()\nThread(target=wait).start()\n", 4),
        ("thread = Thread(target=HOOK.wait)\nthread.start()\n", 4),
    ],
)
def test_a_thread_left_running_is_refused(
    start: str, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread outlives the refusal of its module, so an import must not start one."""
    hook = threading.Event()
    place = types.ModuleType("netswap_test_hook")
    place.HOOK = hook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "netswap_test_hook", place)
    imports = "from threading import Thread\nfrom netswap_test_hook import HOOK\n"
    before = set(sys._current_frames())
    try:
        refusal = refusal_of(bundle_of(imports + start + GOOD))
    finally:
        hook.set()
    assert "its import started a thread that still runs" in refusal.reason
    assert (refusal.file, refusal.line) == ("v2.py", line)
    while set(sys._current_frames()) - before:
        gc.collect()


def test_a_thread_that_has_ended_is_no_reason() -> None:
    """What an import finishes by itself is its own business."""
    source = "import threading\nT = threading.Thread(target=int)\nT.start()\nT.join()\ndel T\n"
    load_bundle(bundle_of(source + GOOD)).unload()


async def test_a_task_left_running_is_refused_and_cancelled() -> None:
    """A task made at import would run refused code."""
    source = "import asyncio\nasync def tick(): await asyncio.sleep(60)\n"
    start = "asyncio.get_running_loop().create_task(tick())\n"
    before = asyncio.all_tasks()
    refusal = refusal_of(bundle_of(source + start + GOOD))
    assert "its import started a task" in refusal.reason
    assert (refusal.file, refusal.line) == ("v2.py", 3)
    (task,) = asyncio.all_tasks() - before
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_loaded_bundle_is_shared(loaded: Loaded) -> None:
    """A second load gives the same classes, which stay until both holders have given them up."""
    again = load_bundle(bundle_of(GOOD))
    assert again is not loaded
    assert again.implementations["test.hall"] is loaded.implementations["test.hall"]
    name = loaded.modules["v2.py"].__name__
    again.unload()
    again.unload()
    assert name in sys.modules


def test_a_bundle_loaded_anew_is_fresh() -> None:
    """After the last unload the same bundle gives new classes."""
    first = load_bundle(bundle_of(GOOD))
    first.unload()
    second = load_bundle(bundle_of(GOOD))
    assert second.implementations["test.hall"] is not first.implementations["test.hall"]
    second.unload()


def test_unloaded_code_goes_on_working() -> None:
    """Objects that still live keep their code after an unload."""
    loaded = load_bundle(bundle_of(GOOD))
    cls: Any = loaded.implementations["test.hall"]
    loaded.unload()
    assert cls.answer(None) == "VERSION"


@pytest.mark.parametrize("field", ["list[str] = []", "Optional[Union[int, str]] = None"])
def test_an_unloaded_module_dies(field: str) -> None:
    """After unload() and the last reference nothing keeps a module or a class alive."""
    source = "from typing import *\n" + GOOD.replace("list[str] = []", field)
    loaded = load_bundle(bundle_of(source + "def f(rooms: Optional[Rooms]) -> None: ...\n"))
    dying: list[weakref.ref[Any]] = [
        weakref.ref(loaded.modules["v2.py"]),
        weakref.ref(loaded.implementations["test.hall"]),
    ]
    loaded.unload()
    del loaded
    gc.collect()
    assert [ref() for ref in dying] == [None, None]


def test_a_refused_module_dies() -> None:
    """A kept BundleError does not keep the refused module."""
    dead: list[int] = []
    place: Any = types.ModuleType("netswap_test_place")
    place.watch = lambda module: weakref.finalize(module, dead.append, 1)
    sys.modules["netswap_test_place"] = place
    source = "import sys, netswap_test_place\nnetswap_test_place.watch(sys.modules[__name__])\n"
    try:
        with pytest.raises(BundleError) as caught:
            load_bundle(bundle_of(source + "1 / 0\n"))
    finally:
        del sys.modules["netswap_test_place"]
    gc.collect()
    assert dead == [1]
    assert caught.value.refusal.line == 3


def test_many_cycles_leave_nothing() -> None:
    """200 loads, unloads and refusals leave modules, source cache and object counts flat."""

    def cycle(number: int) -> None:
        load_bundle(bundle_of(GOOD.replace("VERSION", str(number)))).unload()
        with pytest.raises(BundleError):
            load_bundle(bundle_of(f"{number} / 0\n"))

    cycle(0)
    gc.collect()
    before = traces(), len(sys.modules), len(linecache.cache), _count_modules()
    for number in range(200):
        cycle(number)
    gc.collect()
    assert (traces(), len(sys.modules), len(linecache.cache), _count_modules()) == before


def _count_modules() -> int:
    return sum(isinstance(item, types.ModuleType) for item in gc.get_objects())
