"""The code in the README and the docs is loaded, compared and converted, not only read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netswap.events import Verdict
from netswap.modules import Bundle, check_source, load_bundle
from netswap.transfer import plan_transfer

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def modules(document: str) -> list[str]:
    """The code blocks of a document that are modules of their own."""
    blocks = _BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    return [block for block in blocks if "from netswap import" in block]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/http.md", "docs/modules.md", "docs/safety.md"]
)
def test_code_blocks_load_as_modules(document: str) -> None:
    """Every module that the documents show passes the check and defines what it says."""
    blocks = modules(document)
    assert blocks
    for number, block in enumerate(blocks):
        bundle = Bundle(f"block{number}.py", {f"block{number}.py": block.encode()})
        assert check_source(bundle) == []
        if any(word in block for word in ("def on_data", "def run", "@websocket")):
            loaded = load_bundle(bundle)
            assert loaded.implementations
            loaded.unload()


def test_counter_of_the_readme_goes_up_and_down() -> None:
    """The README's two versions convert into each other, and the way down says what it loses."""
    loaded = [
        load_bundle(Bundle(f"v{n}.py", {f"v{n}.py": block.encode()}))
        for n, block in enumerate(modules("README.md"), 1)
    ]
    first, second = loaded
    old = first.implementations["counter.connection"].state_type
    new = second.implementations["counter.connection"].state_type
    up = plan_transfer(old, new, second.migrations)
    down = plan_transfer(new, old, second.migrations)
    assert up.verdict is down.verdict is Verdict.BY_MIGRATION
    assert down.lossy == ("counted",)
    there = up.convert(old(lines=7))
    assert there.counted == {"lines": 7, "bytes": 0}
    assert down.convert(there) == old(lines=7)
    for one in loaded:
        one.unload()
