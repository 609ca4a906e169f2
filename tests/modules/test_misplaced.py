"""What is pushed and could not run is refused by its name, and owes a restart where that helps."""

from __future__ import annotations

import pytest

from netswap.events import Refusal, Stage
from netswap.modules import Bundle, check_source

GOOD = b"""
from netswap import Service, State

class Hall(State, kind="test.hall", version=1):
    names: tuple[str, ...] = ()

class Rooms(Service[Hall]):
    pass
"""


def refused(**files: bytes) -> list[Refusal]:
    """The refusals of a folder with these files; __ stands for a slash, _DOT_ for a dot."""
    named = {name.replace("__", "/").replace("_DOT_", "."): text for name, text in files.items()}
    return check_source(Bundle("folder", {"rooms.py": GOOD} | named))


@pytest.mark.parametrize("suffix", ["so", "cpython-311-x86_64-linux-gnu.so", "pyd", "pyc"])
def test_compiled_code_owes_a_restart(suffix: str) -> None:
    """No import finds it in a bundle: what stands in for it would run in silence."""
    (refusal,) = check_source(Bundle("f", {"rooms.py": GOOD, f"fast.{suffix}": b"\x7fELF"}))
    assert refusal.reason == f"restart owed: fast.{suffix} is compiled code, which no swap replaces"
    assert (refusal.stage, refusal.file) == (Stage.VERDICT, f"fast.{suffix}")
    assert "restart" in refusal.advice


@pytest.mark.parametrize(
    "files",
    [
        ("netswap/__init__.py", "netswap/ott.py"),
        ("vendor/netswap/__init__.py",),
        ("hotswap.py", "mediator.py", "ott.py", "quiescence.py"),
    ],
)
def test_a_netswap_of_its_own_owes_a_restart(files: tuple[str, ...]) -> None:
    """`import netswap` finds the one that runs, whatever lies beside the module."""
    bundle = Bundle("f", {"rooms.py": GOOD} | dict.fromkeys(files, b""))
    reasons = [refusal.reason for refusal in check_source(bundle)]
    assert reasons == ["restart owed: it brings a netswap of its own, which no swap replaces"]


@pytest.mark.parametrize(
    "line",
    [
        b"import shared",
        b"from shared import X",
        b"def f():\n    import shared.inner",
        b"import deep",
    ],
)
def test_a_file_of_the_push_is_not_imported_by_an_absolute_name(line: bytes) -> None:
    """That would find another file, or the one on the server's disk."""
    files = {"rooms.py": GOOD + line, "shared.py": b"X = 1", "deep/__init__.py": b""}
    (refusal,) = check_source(Bundle("f", files))
    assert "and that is not the" in refusal.reason
    assert "of this push" in refusal.reason
    assert (refusal.file, refusal.line) == ("rooms.py", GOOD.count(b"\n") + 1 + line.count(b"\n"))
    assert "from . import" in refusal.advice


def test_names_of_the_library_and_relative_names_are_meant_as_such() -> None:
    """A file may be called types.py; data files are welcome."""
    text = GOOD + b"import types\nfrom . import shared\nfrom .types import Y\nimport msgspec\n"
    files = {"rooms.py": text, "types.py": b"Y = 1", "shared.py": b"X = 1", "table.json": b"{}"}
    assert check_source(Bundle("f", files)) == []
