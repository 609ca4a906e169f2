"""The limits of a child process in which an author's code runs for the first time.

A crash or an endless loop ends the child alone. An allocation, an output or a file without end
would hurt the machine, so the child gets *soft* limits before that code runs: what passes one
raises MemoryError or OSError at the author's line. Who catches a MemoryError calls ``leave_room``
before anything else: it lifts the limits again, so that the child can still say what happened.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from netswap.blame import describe

__all__ = ["OUTPUT_BYTES", "Confinement", "confine", "leave_room", "scratch"]

OUTPUT_BYTES = 64 * 1024
"""What stdout and stderr take together, and the size of any file that the child writes."""

_MIB = 1024 * 1024
_LEAST = 256 * _MIB
"""Bytes that a child may use beyond what it began with, however small that was."""
_before: dict[int, tuple[int, int]] = {}
"""The limits of this process before ``confine``, soft and hard."""
_ballast = bytearray()
"""Let go first: where memory has run out, not even an integer may be left to lift a limit with."""


class Confinement(NamedTuple):
    """The limits that are in force: ``memory`` in bytes beyond the start, and the captured output.

    ``output`` is the descriptor of what goes to stdout and stderr, or -1.
    """

    memory: int
    output: int

    def explain(self, error: BaseException) -> str:
        """``describe``, and for one of the limits which it was."""
        if isinstance(error, MemoryError):
            return (
                f"{describe(error)}: it asked for more than {self.memory // _MIB} MiB beyond what "
                "the process had"
            )
        return describe(error)

    def flooded(self) -> str:
        """That the output was cut, as a sentence; empty when it was not."""
        _flush()
        if self.output < 0 or os.fstat(self.output).st_size < OUTPUT_BYTES:
            return ""
        return f"it wrote more than {OUTPUT_BYTES // 1024} KiB to stdout and stderr"

    def said(self) -> str:
        """The first line of the captured output, at most 200 characters."""
        _flush()
        if self.output < 0:
            return ""
        first = os.pread(self.output, 4096, 0).decode(errors="replace").strip().partition("\n")[0]
        return first[:200]


def confine(capture: bool) -> Confinement:
    """Limit this process, for good; with ``capture`` stdout and stderr go to a scratch file.

    It may use as much memory again as it has, at least 256 MiB and at most half of what the
    machine can give; the kernel ends it before any other process should that be too much.
    """
    memory = _allowance()
    _ballast.extend(bytes(8 * _MIB))
    with contextlib.suppress(OSError):  # not everywhere, and no more than a precaution
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _soften(resource.RLIMIT_CORE, 0)
    _soften(resource.RLIMIT_AS, _pages()[0] + memory)
    output = _captured() if capture else -1
    _soften(resource.RLIMIT_FSIZE, OUTPUT_BYTES)
    return Confinement(memory, output)


def leave_room() -> None:
    """Lift what ``confine`` has limited, so that what was found can be told; else do nothing."""
    _ballast.clear()
    for limit, values in _before.items():
        resource.setrlimit(limit, values)


def scratch() -> int:
    """The descriptor of a file without a name; in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("netswap-scratch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _soften(limit: int, value: int) -> None:
    soft, hard = _before[limit] = resource.getrlimit(limit)
    if soft >= 0:
        value = min(value, soft)
    resource.setrlimit(limit, (value if hard < 0 else min(value, hard), hard))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or none
            stream.flush()


def _captured() -> int:
    """Send stdout and stderr to a file. Not flushed before: what is buffered is the parent's."""
    output = scratch()
    os.dup2(output, 1)
    os.dup2(output, 2)
    return output


def _allowance() -> int:
    wanted = max(_LEAST, _pages()[1])
    available = _available()
    return wanted if available is None else max(min(wanted, available // 2), _LEAST // 8)


def _pages() -> tuple[int, int]:
    """The size of this process's address space and what of it is resident, in bytes."""
    size, resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]
    page = resource.getpagesize()
    return int(size) * page, int(resident) * page


def _available() -> int | None:
    """What the machine can give without swapping, in bytes; None where it does not say."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
