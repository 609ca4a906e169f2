"""Bad modules, pushed one after the other at a loaded server: what each was told.

``python -m benchmarks.gallery [NAME...]`` starts a server with two workers and checked load on
verify and kv, pushes every module of ``tests/bad_modules`` (or those named) and prints the table:
module, what is wrong with it, where the pipeline stopped it, exit code, file and line, message.
Exit 0 when each ended as ``gallery.toml`` says, the load saw nothing of it, and no old code is left
in any worker ``GONE_S`` seconds later at the latest.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import LIGHT, Load, checked_load, seen_by
from benchmarks.servers import ROOT, Netswap, netswap

__all__ = ["Bad", "Ending", "faults", "read_gallery"]

GALLERY = ROOT / "tests" / "bad_modules"
MARK = b"# <<"
"""What a line ends with that the message has to name (any of them, where several do)."""
LONGEST_S = 600.0
GONE_S = 30.0
PAUSE_S = 0.5
COUNTER = ROOT / "tests" / "system" / "pushed" / "counter_v1.py"


class Bad(NamedTuple):
    """A module of the gallery, and how a push of it has to end."""

    name: str
    about: str
    code: int
    stage: str
    says: str
    lines: tuple[int, ...]
    words: tuple[str, ...] = ()
    made: str = ""

    def path(self, folder: Path) -> Path:
        """Its file or folder; those that are not kept are made in ``folder``."""
        if self.made:
            return _MADE[self.made](folder / f"{self.name}.py")
        file = GALLERY / f"{self.name}.py"
        return file if file.exists() else file.with_suffix("")


class Ending(NamedTuple):
    """How a push has ended."""

    code: int
    stage: str
    where: str
    what: str

    @classmethod
    def of(cls, code: int, page: dict[str, Any]) -> Ending:
        """From a command's exit code and its JSON."""
        refusals = page.get("refusals") or [{}]
        return cls(code, refusals[0].get("stage", ""), page.get("where", ""), page.get("what", ""))


def read_gallery() -> list[Bad]:
    """All of it, in the order in which it is pushed."""
    table = tomllib.loads((GALLERY / "gallery.toml").read_text(encoding="utf-8"))
    return [_bad(name, **row) for name, row in table.items()]


def faults(bad: Bad, ending: Ending) -> list[str]:
    """In what the ending is not the one that the gallery asks for."""
    found = []
    if ending.code != bad.code:
        found.append(f"exit code {ending.code} and not {bad.code}")
    if ending.stage != bad.stage:
        found.append(f"stopped at {ending.stage or 'nothing'} and not at {bad.stage}")
    if bad.says not in ending.what:
        found.append(f"the message does not say {bad.says!r}")
    if not any(f".py:{line}" in f"{ending.where}," for line in bad.lines):
        found.append(f"names {ending.where or 'no place'} and not line {bad.lines}")
    return found


def _bad(name: str, about: str = "", line: int = 0, words: Sequence[str] = (), **row: Any) -> Bad:
    files = [*GALLERY.glob(f"{name}.py"), *sorted(GALLERY.glob(f"{name}/*.py"))]
    lines = [line] if line else [n for file in files for n in _marked(file)]
    return Bad(name, about or _docstring(files[0]), lines=tuple(lines), words=tuple(words), **row)


def _marked(file: Path) -> Iterator[int]:
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if line.endswith(MARK):
            yield number


def _docstring(file: Path) -> str:
    """The first line that is one."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(line for line in lines if line.startswith('"""')).strip('"')


def _large(path: Path) -> Path:
    path.write_text("ROWS = (\n" + '    "0123456789",\n' * 600_000 + ")\n", encoding="utf-8")
    return path


_MADE = {"large": _large}


def main() -> int:
    """Push, print; 0 when all ended as they should."""
    parser = argparse.ArgumentParser(prog="benchmarks.gallery", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    gallery = [bad for bad in read_gallery() if not names or bad.name in names]
    wrong = 0
    with _loaded_server() as (server, loads), tempfile.TemporaryDirectory() as folder:
        for bad in gallery:
            path = str(bad.path(Path(folder)))
            ending = Ending.of(*server.run("push", path, *bad.words))
            found = faults(bad, ending)
            wrong += bool(found)
            print(f"{bad.name}: {bad.about}\n    {ending.code} at {ending.stage}, ", end="")
            print(f"{ending.where}: {ending.what[:200]}", *found, sep="\n    ", flush=True)
        left = _old_code_left(server)
    seen = seen_by(loads)
    print(
        f"\n{len(gallery)} modules, {wrong} not as they should; {seen}; old code left: {len(left)}"
    )
    for row in left:
        print(
            f"    worker {row['worker']}, {row['sha256'][:12]} {row['standing']}", *row["held_by"]
        )
    return 0 if not wrong and seen.clean and not left else 1


def _old_code_left(server: Netswap) -> list[dict[str, Any]]:
    """What is left in the workers of what was pushed; waits for it to go."""
    until = time.monotonic() + GONE_S
    while True:
        rows: list[dict[str, Any]] = server.run("status")[1]["retiring"]
        if not rows or time.monotonic() > until:
            return rows
        time.sleep(PAUSE_S)


@contextmanager
def _loaded_server() -> Iterator[tuple[Netswap, list[Load]]]:
    """Two workers, load on two protocols, and idle clients of a third."""
    with netswap("verify", "kv", "counter", workers=2) as server, ExitStack() as stack:
        server.run("push", str(COUNTER))
        loads = [
            stack.enter_context(checked_load(server, protocol, LONGEST_S, LIGHT, early=True))
            for protocol in ("verify", "kv")
        ]
        for _ in range(8):
            address = ("127.0.0.1", server.ports["counter"])
            client = stack.enter_context(socket.create_connection(address))
            client.sendall(b"add 1\n")
            client.recv(64)  # it has a state to be lost
        yield server, loads


if __name__ == "__main__":
    sys.exit(main())
