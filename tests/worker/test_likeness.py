"""Which changes of a file leave a class as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netswap.modules import Bundle, load_bundle
from netswap.worker.likeness import alike

SOURCE = '''"""A store and its connection."""
from netswap import Connection, Service, State

LIMIT = 10
OTHER = 3


def clip(text):
    return text[:LIMIT]


class Kept(State, kind="a.store", version=1):
    rows: list[str] = []


class Store(Service[Kept]):
    def add(self, text):
        self.state.rows.append(clip(text))


class Talk(State, kind="a.connection", version=1):
    pass


class Chat(Connection[Talk], uses={"store": "a.store"}):
    def on_data(self, data):
        self.store.add(data.decode()[OTHER:])
'''
Load = Callable[..., Any]


@pytest.fixture
def store() -> Iterator[Load]:
    """``store(SOURCE, {"more.py": "..."})``: the class of the store in a bundle of these files."""
    loaded = []

    def load(source: str, more: dict[str, str] | None = None) -> Any:
        files = (
            {"m/__init__.py": "", "m/v1.py": source, **(more or {})} if more else {"v1.py": source}
        )
        bundle = Bundle("m", {name: text.encode() for name, text in files.items()})
        loaded.append(load_bundle(bundle))
        return loaded[-1].implementations["a.store"]

    yield load
    for one in loaded:
        one.unload()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        self.store.add(", "        self.store.add('' + "),
        ("OTHER = 3", "OTHER = 4"),
        ("A store and", "The store and"),
        ("LIMIT = 10", "LIMIT = 10  # characters\n"),
        ("    pass", "    n: int = 0"),
        ("OTHER = 3", "import json\nOTHER = 3"),
        ("text[:LIMIT]", "text[\n        :LIMIT  # characters\n    ]"),
        ("\nLIMIT", "\x0c\nLIMIT"),
    ],
    ids=["another class", "its constant", "a docstring", "a comment", "its state", "an import",
         "its layout", "a page"],
)  # fmt: skip
def test_what_a_class_does_not_lead_to_leaves_it_alike(store: Load, old: str, new: str) -> None:
    """It does not have to be split for a canary of the rest."""
    assert old in SOURCE
    assert alike(store(SOURCE), store(SOURCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("append(clip", "append('' + clip"),
        ("LIMIT = 10", "LIMIT = 11"),
        ("return text[:LIMIT]", "return text[-LIMIT:]"),
        ("rows: list[str] = []", "rows: list[str] = []\n    n: int = 0"),
        ("OTHER = 3\n", "OTHER = 3\nprint(OTHER)\n"),
        ("OTHER = 3\n", "OTHER = 3\nfor LIMIT in range(9):\n    pass\n"),
        ("def clip", "@__import__('functools').cache\ndef clip"),
    ],
    ids=["itself", "a constant of what it calls", "what it calls", "its state",
         "a statement at the top", "a second value", "a decorator"],
)  # fmt: skip
def test_what_it_leads_to_makes_it_another(store: Load, old: str, new: str) -> None:
    """However far away in the file."""
    assert old in SOURCE
    assert not alike(store(SOURCE), store(SOURCE.replace(old, new)))


def test_another_file_of_the_bundle_counts_as_a_whole(store: Load) -> None:
    """What is imported from it is not looked for."""
    source = SOURCE.replace("LIMIT = 10", "from .more import LIMIT")
    first = store(source, {"m/more.py": "LIMIT = 10\n"})
    assert not alike(first, store(source, {"m/more.py": "LIMIT = 10\nFAR = 1\n"}))
    assert alike(first, store(source + "\nFAR = 1\n", {"m/more.py": "LIMIT = 10\n"}))


def test_a_class_that_its_file_does_not_name_is_another(store: Load) -> None:
    """There is no statement to compare, so nothing is promised; it is alike to itself."""
    renamed = SOURCE + "\nStore.__name__ = 'Renamed'\n"
    one = store(renamed)
    assert alike(one, one)
    assert not alike(one, store(renamed.replace("append(clip(text))", "append(text)")))
