"""A library's cache does not keep old code."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from netswap.worker.retirement.caches import forget_cached
from netswap.worker.retirement.references import Owned

PACKAGE = "netswap_bundle_0123456789ab"


def code(package: str) -> Any:
    """A function of a bundle's module."""
    module = types.ModuleType(f"{package}.main")
    exec("def view(): ...\nclass Item: ...", vars(module))
    return module


@pytest.fixture
def library() -> Iterator[Any]:
    """A module with caches, one of them in a class."""
    module: Any = types.ModuleType("some_library")
    text = (
        "import functools\n"
        "@functools.lru_cache\n"
        "def by_key(thing): return 1\n"
        "@functools.lru_cache(maxsize=None)\n"
        "def by_value(name): return [{'deep': things[name]}]\n"
        "class Tool:\n"
        "    @staticmethod\n"
        "    @functools.lru_cache\n"
        "    def look(thing): return 1\n"
        "things = {}\n"
    )
    exec(text, vars(module))
    module.Tool.__module__ = module.__name__
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


async def test_a_cache_with_old_code_is_cleared_and_others_are_left(library: Any) -> None:
    """By a key, deep in a value, or in a class; what the library itself has there stays."""
    old, other = code(PACKAGE), code("netswap_bundle_ba9876543210")
    owned = Owned(PACKAGE, [id(vars(old))])
    library.by_key(other.view)
    library.by_value.cache_clear()
    library.things["x"] = old.view
    library.by_value("x")
    library.things.clear()
    library.Tool.look((old.Item, 1))
    cleared = await forget_cached(owned)
    assert sorted(cleared) == ["some_library.Tool.look", "some_library.by_value"]
    assert library.by_key.cache_info().currsize == 1
    assert library.by_value.cache_info().currsize == 0
    assert await forget_cached(owned) == []


async def test_a_cached_function_of_the_old_code_itself_is_no_reason(library: Any) -> None:
    """What a cache wraps is not in the cache."""
    old = code(PACKAGE)
    library.wrapped = functools.lru_cache(old.view)
    assert await forget_cached(Owned(PACKAGE, [id(vars(old))])) == []
