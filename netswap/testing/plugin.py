"""pytest's way in: the fixture ``check_swappable``, found by an entry point.

::

    def test_swappable(check_swappable):
        check_swappable("v1.py", "v2.py", [b"hello\\n", b"bye\\n"])

Paths are looked for beside the test's file first, then below pytest's root directory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netswap.testing.report import Report

__all__ = ["check_swappable"]


@pytest.fixture
def check_swappable(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``netswap.testing.check_swappable`` with paths as an author writes them."""
    from netswap.testing.check import check_swappable as check

    folders = (request.path.parent, request.config.rootpath)

    def checked(old: Any, new: Any, *transcripts: Any, **options: Any) -> Report:
        beside = [_found(code, folders) for code in options.pop("beside", ())]
        pair = (_found(old, folders), _found(new, folders))
        return check(*pair, *transcripts, beside=beside, **options)

    return checked


def _found(code: Any, folders: tuple[Path, ...]) -> Any:
    """A path, or each of several, made absolute; a bundle is left as it is."""
    if isinstance(code, (list, tuple)):
        return [_found(one, folders) for one in code]
    if not isinstance(code, (str, Path)):
        return code
    places = [folder / code for folder in folders]
    return next((place for place in places if place.exists()), Path(code))
