"""The house: imports point down, a room has one door, a module imports alone and is small."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREES = ("netswap", "protocols", "loadgen")

# From the ground up. A room imports rooms of lower layers only; those of one layer are strangers.
LAYERS = [
    {"blame", "clock", "duration", "events", "firsterror", "interpreter", "outcome"},
    {"errors"},
    {
        "address",
        "confine",
        "folders",
        "lifecycle",
        "logs",
        "places",
        "tls",
        "unixsocket",
    },
    {"config", "keeping"},
    {"ott", "quiescence", "mediator", "steps", "transfer"},
    {"canary", "hotswap"},
    {"options", "stack"},
    {"http"},
    {"hosting"},
    {"netswap"},  # the front door, for authors: no room of the house comes in by it
    {"interpose"},
    {"modules"},
    {"channel", "probe"},
    {"supervisor", "worker"},
    {"admin", "testing"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LAYER = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

MECHANISM = ("hotswap", "mediator", "ott", "quiescence", "transfer")
OUTSIDE_OF_MECHANISM = {"asyncio", "selectors", "socket", "threading", "time", "uvloop"}

NAMES_AT_A_DOOR = 8
WIDER = {
    "netswap": "what an author writes a module with, the invariant being the ninth word",
    "netswap.http": "what an author of an application writes it with, and what a connection needs",
    "netswap.interpose": "each interposer comes with the record that it fills",
    "netswap.transfer": "the author's four words beside the mechanism's six",
}
"""Doors that give two names more, each with its reason."""
MORE = {"netswap.http": 14}
"""Or so many."""
SIDE_DOORS = {
    "netswap.admin.requests": "who looks has no need of them",
    "netswap.admin.server": "aiohttp's server is imported by who serves",
    "netswap.admin.socket": "the same",
    "netswap.http.accesslog": "a worker has it, and connections reach it by their host",
    "netswap.http.channel": "hosting makes implementations of the kind that a channel asks",
    "netswap.http.exchange": "an adapter tells its application how far an answer is",
    "netswap.http.handshake": "an adapter tells its application what a client has asked for",
    "netswap.http.lines": "adapters put heads together and have them judged; authors do not",
    "netswap.http.message": "adapters take the heads of requests apart; authors do not",
    "netswap.modules.application": "what a push marks, and a worker finds again",
    "netswap.modules.effects": "a rehearsal's child looks at what the steps leave behind",
    "netswap.modules.importer": "only a retirement empties what typing keeps of a bundle",
    "netswap.modules.outside": "only a worker keeps libraries, of which some are stale",
    "netswap.modules.relations": "only verdicts tell which files have changed",
    "netswap.stack.hands": "interposers and trials hold what an object holds; authors do not",
    "netswap.stack.host": "what a service has started is the worker's to keep",
    "netswap.stack.service": "whether a service prepares itself is the worker's to know",
    "netswap.supervisor.application": "who serves looks whether the files have changed",
    "netswap.supervisor.certificates": "serve --check reads the files, and supervises nothing",
    "netswap.supervisor.firstset": "check and the kit begin with what a server begins with",
    "netswap.transfer.canonical": "a look shows also what has no canonical form",
    "netswap.transfer.state": "a bundle's package has the name by which a state knows it",
    "netswap.worker.accepting": "the kit begins a session of TLS as a worker does",
    "netswap.worker.driver": "the kit drives a swap as a worker does",
    "netswap.worker.verdicts": "the same",
}
"""Modules that are imported by their own names from other rooms, each with its reason."""
LINES = 500
LONGER: dict[str, str] = {
    "protocols.http.v2": "one file is pushed, and it holds a whole connection",
    "protocols.kv.v1": "one file is pushed, and it holds a whole command set",
    "protocols.kv.v2": "one file is pushed, and it holds a whole command set",
}
"""Modules that may be longer than ``LINES``, each with its reason."""

FORBIDDEN_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

UNTESTED_ALONE = {
    "__main__": "passes on to cli",
    "clock": "the machine's clocks under a name",
    "events": "records without behaviour but their sentences, which the tests of every room read",
}
"""Rooms without a test file of their own, each with its reason."""

ELSEWHERE = {"deploy", "machines", "system"}
"""Folders of tests that are not about one room."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the trees by its dotted name; a room's ``__init__`` has the room's name."""
    found = {}
    for tree in TREES:
        for path in sorted((ROOT / tree).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def syntax(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports(name: str, *, at_start: bool = False) -> Iterator[tuple[str, int]]:
    """What a module imports, with line numbers; ``at_start``: only when it is itself imported."""
    nodes = syntax(name).body if at_start else ast.walk(syntax(name))
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield (whole if whole in modules() else source), node.lineno


def room(name: str) -> str:
    """``netswap.stack.host`` is in the room ``stack``; ``netswap`` alone is the front door."""
    return name.split(".")[1] if "." in name else name


def of(tree: str) -> list[str]:
    """The modules of one tree."""
    return [name for name in modules() if name.split(".")[0] == tree]


def at(name: str, line: int) -> str:
    """A place to click on."""
    return f"{modules()[name].relative_to(ROOT)}:{line}"


def test_every_room_has_a_layer():
    """A new room is put there before it is imported anywhere, and one that is gone is not there."""
    assert {room(name) for name in of("netswap")} == LAYER.keys()


def test_imports_point_down():
    """No room imports one of its own height or above, in functions and for types neither."""
    wrong = [
        f"{at(name, line)}: {room(name)} imports {imported}"
        for name in of("netswap")
        for imported, line in imports(name)
        if imported.split(".")[0] == "netswap"
        and room(imported) != room(name)
        and LAYER[room(imported)] >= LAYER[room(name)]
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_no_module_is_in_an_import_cycle():
    """Within a room too, modules can be read in some order."""
    graph = {
        name: {imported for imported, _ in imports(name, at_start=True) if imported in modules()}
        for name in modules()
    }
    # a room's door imports what is in the room, and everything in it comes by way of the door
    TopologicalSorter({name: wants - {name} for name, wants in graph.items()}).prepare()


def test_the_mechanism_knows_no_sockets_and_no_time():
    """The mechanism says what to do and when a deadline has passed; drivers do it."""
    wrong = [
        f"{at(name, line)}: {imported}"
        for name in of("netswap")
        if room(name) in MECHANISM
        for imported, line in imports(name)
        if imported.split(".")[0] in OUTSIDE_OF_MECHANISM
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_protocols_come_in_by_the_front_doors():
    """What is swapped is written as any author would write it, HTTP by its own door."""
    wrong = [
        f"{at(name, line)}: {imported}"
        for name in of("protocols")
        for imported, line in imports(name)
        if imported.split(".")[0] in {"netswap", "loadgen"}
        and imported not in {"netswap", "netswap.http"}
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_the_load_generator_is_an_independent_witness():
    """It shares no code with what it judges."""
    wrong = [
        f"{at(name, line)}: {imported}"
        for name in of("loadgen")
        for imported, line in imports(name)
        if imported.split(".")[0] in {"netswap", "protocols"}
    ]
    assert not wrong, "\n".join(["", *wrong])


def doors() -> list[str]:
    """The rooms that are packages."""
    return [name for name, path in modules().items() if path.name == "__init__.py"]


@pytest.mark.parametrize("name", doors())
def test_a_room_has_one_small_door(name):
    """A package explains itself in a docstring and gives at most eight names."""
    tree = syntax(name)
    assert ast.get_docstring(tree), f"{name} has no docstring"
    lists = [
        node.value
        for node in tree.body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(target, ast.Name) and target.id == "__all__"
    ]
    assert lists or len(tree.body) == 1, f"{name} has no __all__"
    names = [name for value in lists for name in ast.literal_eval(value)]
    assert len(names) <= NAMES_AT_A_DOOR + MORE.get(name, 2 if name in WIDER else 0)


def given(name: str) -> set[str]:
    """What a module lists in ``__all__``."""
    for node in syntax(name).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return set(ast.literal_eval(node.value))
    return set()


def test_modules_take_what_others_give():
    """What is imported from a module is in its ``__all__``, or is a module itself."""
    wrong = [
        f"{at(name, node.lineno)}: {node.module} does not list {alias.name}"
        for name in modules()
        for node in ast.walk(syntax(name))
        if isinstance(node, ast.ImportFrom) and node.module in modules()
        for alias in node.names
        if f"{node.module}.{alias.name}" not in modules() and alias.name not in given(node.module)
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_rooms_are_entered_by_their_doors():
    """What is not at a door, a room's or a smaller one's within, is taken past it for a reason."""
    inside = {
        imported: at(name, line)
        for name in of("netswap")
        for imported, line in imports(name)
        if imported.count(".") > 1 and imported in modules() and room(imported) != room(name)
        for door, _, inner in [imported.rpartition(".")]
        if inner not in given(door)
    }
    assert inside.keys() == SIDE_DOORS.keys(), inside


def test_every_module_has_a_docstring():
    """The first thing in a file is what it is for."""
    wanting = [name for name in modules() if not ast.get_docstring(syntax(name))]
    assert not wanting


def test_modules_are_small():
    """A file can be read in one go, or has a reason here."""
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    long = {name: count for name, count in lines.items() if count > LINES}
    assert long.keys() == LONGER.keys()


def test_names_say_something():
    """No module is named for being useful."""
    empty = [name for name in modules() if FORBIDDEN_NAMES & set(name.split("."))]
    assert not empty


ALONE = """
import gc, os, sys
import aiohttp.web, asyncio, click, hiredis, httptools, msgspec, rich.traceback, structlog, uvloop

gc.freeze()
for name in sys.argv[1:]:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.dup2(writing, 1), os.dup2(writing, 2), os.close(writing), os.close(reading)
        __import__(name)
        sys.exit()
    os.close(writing)
    with open(reading) as saying:
        said = saying.read()
    _, status = os.waitpid(child, 0)
    if said or status:
        print(f"{name}: {said or os.waitstatus_to_exitcode(status)}")
"""
"""An interpreter with nothing of ours, forked for each name: libraries took most of the time."""


@pytest.mark.parametrize("which", ["doors", pytest.param("modules", marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_each_imports_alone(which: str):
    """Each as the first of ours: no hidden order, no output, nothing but an import."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    every = [name for name in modules() if not name.endswith("__main__")]
    doors = {name.rpartition(".")[0] for name in every}
    names = every if which == "modules" else [name for name in every if name in doors]
    command = [sys.executable, "-W", "error", "-c", ALONE, *names]
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr


def test_every_room_has_tests():
    """tests/ mirrors the tree: a package has a folder with tests, a module a file."""
    wanting = []
    for name in {room(name) for name in of("netswap")} - UNTESTED_ALONE.keys() - {"netswap"}:
        folder, file = ROOT / "tests" / name, ROOT / "tests" / f"test_{name}.py"
        if not file.exists() and not any(folder.glob("test_*.py")):
            wanting.append(name)
    assert not wanting


def test_folders_of_tests_are_folders_of_the_tree():
    """A folder of tests stands where its subject does."""
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/**/test_*.py")
    }
    strange = [
        folder
        for folder in folders
        if folder.parts[0] not in ELSEWHERE
        and not (ROOT / folder).is_dir()
        and not (ROOT / "netswap" / folder).exists()
    ]
    assert not strange


def tracked() -> dict[str, str]:
    """The text files that git knows, by path."""
    listing = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout: no list of files")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def test_the_tree_names_no_package_index():
    """Pins are by name, version and hash: where packages come from is the machine's business."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    known = shown.stdout + " ".join(value for key, value in os.environ.items() if "INDEX" in key)
    hosts = set(re.findall(r"://(?:[^/@\s']*@)?([^/:\s']+)", known)) - {"pypi.org"}
    words = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links", "/simple" + "/"]
    wrong = [
        f"{path}: {word}"
        for path, text in tracked().items()
        for word in [*words, *hosts]
        if word in text
    ]
    assert not wrong
