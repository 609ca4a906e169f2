"""Modules as a push makes them: source that is run under a bundle's module name."""

from __future__ import annotations

import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

Pushed = Callable[[str], ModuleType]


@pytest.fixture
def pushed() -> Iterator[Pushed]:
    """Run source as a bundle's module; gone after the test."""
    made: list[str] = []

    def push(source: str) -> ModuleType:
        module = ModuleType(f"netswap_bundle_{len(made):012x}.pushed")
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        text, shown = textwrap.dedent(source), f"pushed.py@{len(made):012x}"
        linecache.cache[shown] = (len(text), None, text.splitlines(keepends=True), shown)
        exec(compile(text, shown, "exec"), vars(module))
        return module

    yield push
    for name in made:
        del sys.modules[name]
    for number in range(len(made)):
        linecache.cache.pop(f"pushed.py@{number + 1:012x}", None)
