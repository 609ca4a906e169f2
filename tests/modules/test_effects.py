"""What an import does beside defining is found at its line, in a process that is thrown away."""

from __future__ import annotations

import ast
import subprocess
import sys

import msgspec
import pytest

from netswap.events import Refusal, Stage
from netswap.modules import Bundle
from netswap.modules.effects import Lookout, import_others, outside_imports

GOOD = """
from netswap import Service, State

class Hall(State, kind="test.hall", version=1):
    names: tuple[str, ...] = ()

class Rooms(Service[Hall]):
    pass
"""

EFFECTS = {
    "environment": ("os.environ['X_TRY'] = '1'", "changed the environment variable X_TRY"),
    "signal": ("signal.signal(signal.SIGTERM, print)", "changed the handler of SIGTERM"),
    "file": ("FILE = open('/dev/null')", "opened the descriptor"),
    "socket": ("SOCK = socket.socket()", "opened the descriptor"),
    "process": ("CHILD = subprocess.Popen(['true'])", "started the process"),
    "exit": ("atexit.register(print)", "registered a function to be called at exit"),
    "planted module": ("sys.modules['x_try'] = json", "planted the module x_try"),
    "replaced module": ("sys.modules['json'] = os", "planted the module json"),
    "path": ("sys.path.append('/x_try')", "changed sys.path"),
    "hook": ("sys.excepthook = print", "changed sys.excepthook"),
    "stdout": ("sys.stdout = sys.stderr", "changed sys.stdout"),
    "recursion": ("sys.setrecursionlimit(5000)", "changed the recursion limit"),
    "collector": ("gc.disable()", "changed the garbage collector"),
    "directory": ("os.chdir('/')", "changed the working directory"),
    "mask": ("os.umask(0o123)", "changed the file mode mask"),
    "interval timer": ("signal.setitimer(2, 1e6)", "started the timer ITIMER_PROF"),
    "time-out": ("socket.setdefaulttimeout(5)", "changed the default time-out of sockets"),
    "log": ("logging.root.addHandler(logging.NullHandler())", "added a handler to the logger root"),
    "patched function": ("json.dumps = len", "changed json.dumps from outside"),
    "patched class": ("json.JSONDecodeError = ValueError", "changed json.JSONDecodeError"),
    "registered": ("copyreg.dispatch_table[Hall] = len", "changed copyreg.dispatch_table"),
    "planted": ("json.mine = Hall", "changed json.mine from outside"),
    "in a call": ("def act():\n    os.chdir('/')\nact()", "changed the working directory"),
    "in a class": ("class C:\n    os.chdir('/')", "changed the working directory"),
    "in a branch": ("if True:\n    os.chdir('/')", "changed the working directory"),
    "in a handler": ("try:\n    1 / 0\nexcept ArithmeticError:\n    os.chdir('/')", "changed the"),
}
PLACE = {"in a call": 2, "in a branch": 1, "in a handler": 3}
"""Lines between the first of the source and the one that is to be named."""

CHILD = """
import os, sys
import msgspec
from netswap.errors import BundleError
from netswap.modules import Bundle, load_bundle
refusals = []
try:
    load_bundle(Bundle.from_message(sys.stdin.buffer.read()), on_trial=True)
except BundleError as error:
    refusals.append(error.refusal)
os.write(1, msgspec.json.encode(refusals))
os._exit(0)
"""
"""Loads a bundle on trial without looking at its source first, which refuses most of this too."""

IMPORTS = "import atexit, copyreg, gc, json, logging, os, signal, socket, subprocess, sys\n"


def tried(source: str, **others: str) -> list[Refusal]:
    """The refusals of a module with this at its end."""
    files = {"mine.py": source.encode()}
    files |= {f"{name}.py": text.encode() for name, text in others.items()}
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(
        command, input=Bundle("mine", files).to_message(), capture_output=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=list[Refusal])


@pytest.mark.parametrize("name", EFFECTS)
def test_a_side_effect_is_refused_at_its_line(name: str) -> None:
    """Also one that a function or a class body has: the line of the top level is named."""
    source, says = EFFECTS[name]
    before = f"{IMPORTS}{GOOD}X = 1\n"
    (refusal,) = tried(f"{before}{source}\nY = 2\n")
    assert refusal.stage == Stage.LOAD
    assert f"its import {says}" in refusal.reason or says in refusal.reason
    line = before.count("\n") + 1 + PLACE.get(name, 0)
    assert (refusal.file, refusal.line) == ("mine.py", line)
    assert refusal.advice


def test_a_module_that_only_defines_is_left_alone() -> None:
    """What it imports from elsewhere may do as it likes: it is imported once a process."""
    quiet = (
        "import asyncio.subprocess, concurrent.futures.thread, multiprocessing.util\n"
        "import logging, re, typing, zoneinfo\n"
        "LOG = logging.getLogger(__name__)\nWORD = re.compile('a+b')\n"
        "try:\n    import tomllib\nexcept ImportError:\n    tomllib = None\n"
        "if typing.TYPE_CHECKING:\n    import nowhere_at_all\n"
    )
    assert tried(quiet + GOOD) == []


def test_the_effect_of_a_file_beside_it_is_that_file_s() -> None:
    """The line of the file that did it, not of the one that imported it."""
    other = "import os\nX = 1\nos.environ['X_TRY'] = '1'\n"
    (refusal,) = tried(f"from . import other\n{GOOD}", other=other)
    assert (refusal.file, refusal.line) == ("other.py", 3)


def test_what_can_be_imported_once_only_is_refused() -> None:
    """It registers a name in an object elsewhere, which nothing here looks into."""
    source = (
        "import logging\nclass Mine(logging.Logger):\n    pass\n"
        "if getattr(logging.root, 'taken', False):\n    raise ValueError('registered twice')\n"
        "logging.root.taken = True\n"
    )
    (refusal,) = tried(source + GOOD)
    assert "registered twice" in refusal.reason
    assert (refusal.file, refusal.line) == ("mine.py", 5)


def test_what_is_imported_from_elsewhere_is_found_by_its_text() -> None:
    """Top level only, absolute names only, nothing that is for types."""
    tree = ast.parse(
        "import a.b, c\nfrom d import e\nfrom . import f\nif x:\n    import g\n"
        "def h():\n    import i\nif TYPE_CHECKING:\n    import j\nelse:\n    import k\n"
    )
    found = [("a.b", 1), ("c", 1), ("d", 2), ("g", 5), ("k", 11)]
    assert sorted(outside_imports(tree)) == found
    assert import_others([ast.parse("import json, nowhere_at_all")]) == ["json"]


def test_the_tracer_that_was_there_is_back() -> None:
    """A debugger or a measurement of coverage goes on."""

    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with Lookout({}, (), "none"):
            pass
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
