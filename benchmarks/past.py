"""The history of the bundled modules, as text that ships with the repository.

``tests/history`` has every change of ``protocols/`` in order: ``index.toml`` says when, why, which
file and what it follows; a first text is kept as a file, a later one as a patch. A change is a file
that became another, or a new implementation of a kind that had one; the first module of a kind
follows nothing. ``python -m benchmarks.past`` writes it all again from a clone with its history.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.servers import ROOT

__all__ = ["Moment", "read_past"]

PAST = ROOT / "tests" / "history"
FOLLOWS = {
    "buffers/chunked.py": "buffers/contiguous.py",
    "buffers/coalescing.py": "buffers/immediate.py",
    "chat/session.py": "chat/v2.py",
    "chat/v2.py": "chat/v1.py",
    "echo/v2.py": "echo/v1.py",
    "factories/limited.py": "factories/plain.py",
    "kv/v2.py": "kv/v1.py",
    "timers/wheel.py": "timers/loop.py",
    "verify/v2.py": "verify/v1.py",
}
"""The module that a new file of a kind takes the place of."""

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


class Moment(NamedTuple):
    """One change: ``text`` is the module from then on, ``follows`` the number of the one before."""

    number: int
    date: str
    subject: str
    path: str
    follows: int
    text: str

    @property
    def title(self) -> str:
        """``kv/v2.py: KEYS in slices``, shortened."""
        return f"{self.path}: {self.subject}"[:72]


def read_past() -> dict[int, Moment]:
    """Every moment by its number, in order."""
    rows = tomllib.loads((PAST / "index.toml").read_text(encoding="utf-8"))["change"]
    found: dict[int, Moment] = {}
    for row in rows:
        kept = (PAST / row.pop("kept")).read_text(encoding="utf-8")
        text = patched(found[row["follows"]].text, kept) if kept.startswith("---") else kept
        found[row["number"]] = Moment(text=text, **row)
    return found


def patched(text: str, patch: str) -> str:
    """``text`` with a unified diff applied; AssertionError when it is for another text."""
    lines, out, at = text.splitlines(keepends=True), [], 0
    for line in patch.splitlines(keepends=True)[2:]:
        hunk = _HUNK.match(line)
        if hunk:
            start = int(hunk[1]) - (hunk[2] != "0")
            out += lines[at:start]
            at = start
        elif line.startswith("+"):
            out.append(line[1:])
        else:
            assert lines[at] == line[1:], (at, line)
            out += lines[at : at + 1] if line.startswith(" ") else []
            at += 1
    return "".join(out + lines[at:])


def main() -> None:
    """Write the index, the texts and the patches."""
    PAST.mkdir(exist_ok=True)
    for old in PAST.iterdir():
        old.unlink()
    index = ["# The changes of protocols/, written by `python -m benchmarks.past`.\n"]
    for moment, before in _changes():
        stem = f"{moment.number:02}-{moment.path.replace('/', '-').removesuffix('.py')}"
        kept = f"{stem}.patch" if before else f"{stem}.py"
        (PAST / kept).write_text(_diff(before, moment) if before else moment.text, encoding="utf-8")
        rows = {**moment._asdict(), "kept": kept}
        del rows["text"]
        index.append("\n[[change]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in rows.items()))
    (PAST / "index.toml").write_text("".join(index), encoding="utf-8")


def _changes() -> Iterator[tuple[Moment, str]]:
    """Each moment, with the text that the same path had before, if it had one."""
    last: dict[str, tuple[int, str]] = {}
    number = 0
    for commit in _git("log", "--reverse", "--format=%H", "--", "protocols").split():
        date, subject = _git("show", "-s", "--format=%as%n%s", commit).strip().split("\n")
        for path in sorted(_files(commit), key=_place):
            text = _git("show", f"{commit}:protocols/{path}")
            number += 1
            follows, before = last.get(path, (0, ""))
            follows = follows or last.get(FOLLOWS.get(path, ""), (0, ""))[0]
            last[path] = number, text
            yield Moment(number, date, subject, path, follows, text), before


def _place(path: str) -> tuple[int, str]:
    """What another module follows comes first."""
    before = FOLLOWS.get(path)
    return (1 + _place(before)[0] if before else 0), path


def _files(commit: str) -> list[str]:
    names = _git("show", "--format=", "--name-only", "--relative=protocols", commit).split()
    return [name for name in names if name.endswith(".py") and "__init__" not in name]


def _diff(before: str, moment: Moment) -> str:
    lines = before.splitlines(keepends=True), moment.text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, moment.path, moment.path))


def _toml(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return str(value) if isinstance(value, int) else f'"{escaped}"'


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
