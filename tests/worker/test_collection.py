"""What libraries make around old code is collected with it, however old it is."""

from __future__ import annotations

import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netswap.worker.retirement.collection import collect_owned
from netswap.worker.retirement.references import Owned

PACKAGE = "netswap_bundle_0123456789ab"


def decorated(function: Callable[[], None]) -> Callable[[], None]:
    """As a library decorates."""

    @functools.wraps(function)
    def call() -> None:
        function()

    return call


def route(function: Callable[[], None]) -> type:
    """As a framework does that makes a class for each function."""
    return type("Route", (), {"__module__": __name__, "call": staticmethod(function)})


@pytest.fixture(autouse=True)
def _no_full_collection() -> Iterator[None]:
    """None comes by itself."""
    gc.disable()
    yield
    gc.enable()


def given_up(wrap: Callable[[Any], Any]) -> tuple[weakref.ref[Any], Owned]:
    """A bundle's module that nobody has any more; its function, and whose that is."""
    space = vars(types.ModuleType(f"{PACKAGE}.main"))
    exec("def view(): ...", space)
    plain = weakref.ref(space["view"])
    space["view"] = wrap(space["view"])
    return plain, Owned(PACKAGE, [id(space)])


@pytest.mark.parametrize("wrap", [decorated, route])
async def test_what_a_library_made_for_it_does_not_keep_it(
    wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector has seen all of it often: it is of the oldest."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this())
    plain, owned = given_up(wrap)
    for item in [plain()]:
        gc.collect()  # all that lives is old now
        assert item is not None
    del item
    gc.collect(0)
    assert plain() is not None
    await collect_owned((one for one in [plain()] if one is not None), owned)
    assert plain() is None


def _this() -> types.ModuleType:
    module = types.ModuleType(__name__)
    vars(module).update(globals())
    return module
