"""Which files a kind's code is made of, and what differs between two bundles of it."""

from __future__ import annotations

from netswap.modules import Bundle
from netswap.modules.relations import Relations, differences

FILES = {
    "__init__.py": b"",
    "a.py": b"from .shared import X\n",
    "b.py": b"def f():\n    from .deep.inner import Y\n",
    "c.py": b"import json\n",
    "shared.py": b"from . import base\nX = 1\n",
    "base.py": b"Z = 1\n",
    "deep/__init__.py": b"",
    "deep/inner.py": b"from ..base import Z\nfrom .... import beyond\nY = 1\n",
    "table.json": b"{}",
}


def relations(**changed: bytes) -> Relations:
    """Those of the files, some of them otherwise."""
    return Relations(Bundle("f", FILES | {f"{name}.py": text for name, text in changed.items()}))


def files_of(module: str) -> set[str]:
    """The files of a module, named as it is in another bundle."""
    return set(relations().files_of(f"netswap_bundle_0123456789ab.{module}"))


def test_imports_are_followed_through_files_and_folders() -> None:
    """In functions too; the packages above a file are run with it."""
    assert files_of("a") == {"__init__.py", "a.py", "shared.py", "base.py"}
    assert files_of("b") == {"__init__.py", "b.py", "deep/__init__.py", "deep/inner.py", "base.py"}
    assert files_of("c") == {"__init__.py", "c.py"}


def test_a_change_of_what_is_shared_is_a_change_of_all_that_import_it() -> None:
    """And of nothing else; a comment is no change."""
    new = relations(base=b"Z = 2\n", c=b"# said otherwise\nimport   json\n")

    def changed(module: str) -> list[str]:
        name = f"netswap_bundle_0123456789ab.{module}"
        return differences(relations().content_of(name), new.content_of(name))

    assert changed("a") == changed("b") == changed("deep.inner") == ["base.py"]
    assert changed("c") == []
    assert differences({"x": "1"}, {"y": "1"}) == ["x", "y"]


def test_a_data_file_counts_for_every_kind_and_anothers_code_for_none() -> None:
    """Nobody can say who reads data; who runs a Python file is in the imports."""
    found = relations().content_of("netswap_bundle_0123456789ab.c")
    assert found.keys() == {"__init__.py", "c.py", "table.json"}
    assert found["table.json"] == b"{}".hex()
