"""What a confined child may not have without end is refused it at the line that asks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from netswap import confine

HEAD = """
import os, resource, sys
from netswap.confine import confine, leave_room
told = os.dup(1)
limits = confine(capture=True)
"""


def confined(body: str) -> str:
    """What a confined process tells through a copy of its stdout."""
    source = HEAD + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_memory_has_an_end_and_the_message_says_so() -> None:
    """The limit is beyond what the process had; what was taken is free again."""
    said = confined("""
        try:
            held = []
            while True:
                held.append(bytearray(1 << 20))
        except MemoryError as error:
            count = len(held)
            del held
            os.write(told, f"{count} {limits.explain(error)}".encode())
    """)
    count, _, sentence = said.partition(" ")
    assert 200 < int(count) < 2000
    assert "MemoryError: memory ran out: it asked for more than 256 MiB beyond" in sentence


def test_output_has_an_end_and_does_not_reach_the_parent() -> None:
    """A flood raises where it is written; a line is kept for the report."""
    said = confined("""
        print("first words")
        os.write(told, limits.flooded().encode() or b"not flooded\\n")
        try:
            while True:
                print("x" * 1000, flush=True)
        except OSError:
            os.write(told, f"{limits.flooded()}; {limits.said()}".encode())
            sys.stdout = None
    """)
    assert said == ("not flooded\nit wrote more than 64 KiB to stdout and stderr; first words")


def test_a_file_has_an_end_until_room_is_made() -> None:
    """The child's own answer may be bigger than what an author may write."""
    said = confined("""
        file = os.memfd_create("x")
        os.write(file, bytes(65536))
        try:
            os.write(file, b"x")
        except OSError as error:
            os.write(told, error.strerror.encode() + b"\\n")
        leave_room()
        os.write(told, str(os.write(file, bytes(100000))).encode())
    """)
    assert said == "File too large\n100000"


def test_a_crash_leaves_no_core_and_the_child_goes_first() -> None:
    """Should the machine run out of memory, the kernel takes the child and no worker."""
    said = confined("""
        score = open("/proc/self/oom_score_adj").read().strip()
        os.write(told, f"{resource.getrlimit(resource.RLIMIT_CORE)[0]} {score}".encode())
    """)
    assert said == "0 1000"


@pytest.mark.parametrize(
    ("resident", "available", "allowed"),
    [(10, 10_000, 256), (1000, 10_000, 1000), (4000, 5000, 2500), (4000, 10, 32), (999, None, 999)],
)
def test_the_allowance_is_bounded_by_what_there_is(
    monkeypatch: pytest.MonkeyPatch, resident: int, available: int | None, allowed: int
) -> None:
    """As much again as is resident, at least 256 MiB, at most half of what is available."""
    mib = 1 << 20
    monkeypatch.setattr(confine, "_pages", lambda: (1, resident * mib))
    there = None if available is None else available * mib
    monkeypatch.setattr(confine, "_available", lambda: there)
    assert confine._allowance() == allowed * mib


def test_without_capture_the_output_stays_as_it_is() -> None:
    """Where somebody else has redirected it already."""
    source = "from netswap.confine import confine\nlimits = confine(capture=False)\nprint('here')\n"
    source += "assert (limits.output, limits.flooded(), limits.said()) == (-1, '', '')\n"
    assert subprocess.check_output([sys.executable, "-c", source]) == b"here\n"


def test_a_scratch_file_needs_no_name_in_memory_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be written and read where the system has no memory files."""
    monkeypatch.delattr(os, "memfd_create")
    file = confine.scratch()
    os.write(file, b"x")
    assert os.pread(file, 9, 0) == b"x"
    os.close(file)
