"""Every file of ``protocols/`` is a bundle by itself, as a push takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from netswap.events import Verdict
from netswap.modules import Bundle, check_source, load_bundle
from netswap.transfer import plan_transfer

FOLDER = Path(__file__).parents[2] / "protocols"
ROOMS = ("buffers", "cache", "chat", "echo", "factories", "static", "timers", "verify")
FILES = sorted(path for room in ROOMS for path in (FOLDER / room).glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_passes_the_check_and_loads_alone(path):
    """No mutable globals, nothing imported but the front door; it provides what it says."""
    bundle = Bundle.from_paths([path])
    assert check_source(bundle) == []
    loaded = load_bundle(bundle)
    assert loaded.implementations
    loaded.unload()


PAIRS = [
    ("buffers/contiguous.py", "buffers/chunked.py"),
    ("buffers/immediate.py", "buffers/coalescing.py"),
    ("cache/lru.py", "cache/mru.py"),
    ("cache/mru.py", "cache/fifo.py"),
    ("cache/lru.py", "cache/random.py"),
    ("cache/fifo.py", "cache/random.py"),
    ("chat/v1.py", "chat/v2.py"),
    ("chat/v2.py", "chat/session.py"),
    ("chat/v1.py", "chat/session.py"),
    ("echo/v1.py", "echo/v2.py"),
    ("factories/plain.py", "factories/limited.py"),
    ("timers/loop.py", "timers/wheel.py"),
    ("verify/v1.py", "verify/v2.py"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_goes_both_ways_with_the_steps_of_the_two_files(first, second):
    """Whatever is pushed on what, up and down, nothing else has to be at hand."""
    one, two = (load_bundle(Bundle.from_paths([FOLDER / name])) for name in (first, second))
    rows = [*one.migrations, *two.migrations]
    for kind in one.implementations.keys() & two.implementations.keys():
        states = [loaded.implementations[kind].state_type for loaded in (one, two)]
        for old, new in (states, states[::-1]):
            way = plan_transfer(old, new, rows)
            assert way.verdict is not Verdict.INCOMPATIBLE, way.reason
            assert way.convert(old()) == new()
    one.unload()
    two.unload()
