"""The library: each bundle's code once, and only as long as somebody uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netswap.errors import BundleError
from netswap.events import Stage
from netswap.modules import Bundle, BundleStore
from netswap.ott import ObjectTranslationTable
from netswap.worker.library import Library, classes_of

MODULE = """
from netswap import Service, State, migration

class Hall(State, kind="test.hall", version={version}):
    seen: int = 0

@migration("test.hall", 1, 2)
def up(old): return old | {{"seen": {version}}}

class Rooms(Service[Hall]):
    pass
"""


class Shelf:
    """A store with two versions of a kind, and the library that reads from it."""

    def __init__(self, folder: Path) -> None:
        self.store = BundleStore(folder)
        self.v1, self.v2 = (self.put(MODULE.format(version=number)) for number in (1, 2))
        self.library = Library(folder)

    def put(self, source: str) -> str:
        """A bundle of one file; its hash."""
        return self.store.put(Bundle("hall.py", {"hall.py": source.encode()}))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A library that leaves no code in the process of the tests."""
    made = Shelf(tmp_path)
    yield made
    made.library.active.clear()
    made.library.unload_unused(())


def modules() -> set[str]:
    """The bundles' modules in this interpreter."""
    return {name for name in sys.modules if name.startswith("netswap_bundle_")}


def test_a_bundle_is_loaded_once(shelf: Shelf) -> None:
    """The same classes each time, or instances would not know their own kind."""
    library = shelf.library
    assert not library.is_loaded(shelf.v1)
    first = library.implementation("test.hall", shelf.v1)
    assert library.implementation("test.hall", shelf.v1) is first
    assert library.is_loaded(shelf.v1)
    assert library.count == 1
    assert library.sha256_of(first) == shelf.v1


def test_a_class_of_no_bundle_has_no_hash(shelf: Shelf) -> None:
    """Nothing is guessed."""
    assert not shelf.library.sha256_of(Shelf)


def test_versions_are_listed_side_by_side(shelf: Shelf) -> None:
    """What ``netswap versions`` counts."""
    library = shelf.library
    classes = [library.implementation("test.hall", sha) for sha in (shelf.v1, shelf.v2)]
    assert list(library.rows()) == [
        ("test.hall", shelf.v1, classes[0]),
        ("test.hall", shelf.v2, classes[1]),
    ]


def test_a_kind_that_a_bundle_does_not_provide_is_refused_with_what_it_does(shelf: Shelf) -> None:
    """The sentence names the bundle, the kind and the way to find the right one."""
    with pytest.raises(BundleError) as caught:
        shelf.library.implementation("chat.rooms", shelf.v1)
    refusal = caught.value.refusal
    assert refusal.stage == Stage.LOAD
    assert refusal.reason == f"the bundle {shelf.v1[:12]} provides test.hall and not chat.rooms"
    assert "netswap versions" in refusal.advice


def test_a_bundle_that_does_not_load_is_not_kept(shelf: Shelf) -> None:
    """Nothing of it stays in the process."""
    broken = shelf.put("import sys\nraise ValueError('no')\n")
    with pytest.raises(BundleError, match=r"hall\.py:2"):
        shelf.library.load(broken)
    assert not shelf.library.is_loaded(broken)
    assert modules() == set()


def test_only_what_is_active_or_alive_stays(shelf: Shelf) -> None:
    """Old code goes as soon as its last object has gone, and its modules with it."""
    library = shelf.library
    old = library.implementation("test.hall", shelf.v1)
    library.implementation("test.hall", shelf.v2)
    library.active = {"test.hall": shelf.v2}
    assert library.unload_unused([old]) == []
    assert library.unload_unused([]) == [shelf.v1]
    assert not library.is_loaded(shelf.v1)
    assert library.is_loaded(shelf.v2)
    assert {name for name in modules() if shelf.v1[:12] in name} == set()
    assert library.unload_unused([]) == []


def test_what_went_can_come_back(shelf: Shelf) -> None:
    """A rollback to it loads it anew from the store."""
    library = shelf.library
    first = library.implementation("test.hall", shelf.v1)
    library.unload_unused([])
    again = library.implementation("test.hall", shelf.v1)
    assert again is not first
    assert again.version == 1


def test_steps_of_several_bundles_are_one_set(shelf: Shelf) -> None:
    """Where two know the same step the later bundle's is taken; other kinds' are left out."""
    down = shelf.put(
        MODULE.format(version=2)
        + '@migration("test.hall", 2, 1)\ndef down(new): return new\n'
        + '@migration("test.else", 1, 2)\ndef other(old): return old\n'
    )
    library = shelf.library
    steps = {
        (row.source, row.target): row.step({})
        for row in library.migrations("test.hall", shelf.v1, None, down)
    }
    assert steps == {(1, 2): {"seen": 2}, (2, 1): {}}
    (step,) = library.migrations("test.hall", shelf.v2, shelf.v1)
    assert step.step({}) == {"seen": 1}
    assert library.migrations("test.hall") == ()


def test_code_that_a_child_compiled_is_not_compiled_again(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling a large module would be the longest stall of the loop."""
    child = Library(tmp_path)
    child.load(shelf.v1)
    compiled = child.compiled([shelf.v1, shelf.v1])
    assert compiled.keys() == {shelf.v1}
    child.unload_unused([])
    shelf.library.use_compiled(compiled)
    monkeypatch.setattr("netswap.modules.importer.compile", None, raising=False)
    assert shelf.library.implementation("test.hall", shelf.v1).version == 1


def test_the_classes_of_a_kind_are_counted(shelf: Shelf) -> None:
    """Entries that have no object yet, or no more, do not count."""
    table = ObjectTranslationTable()
    for target in (Shelf, Shelf, Library):
        table.create("k").target = target.__new__(target)
    table.create("k")
    counts = dict(classes_of(table, "k"))
    counts.pop(type(None), None)
    assert counts == {Shelf: 2, Library: 1}
    assert dict(classes_of(table, "other")) == {}
