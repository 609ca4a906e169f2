"""The code in the README and the docs is loaded and converted, and what they name is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest

from netswap.cli import COMMANDS
from netswap.config import SETTINGS, flag
from netswap.events import Verdict
from netswap.modules import Bundle, check_source, load_bundle
from netswap.transfer import plan_transfer

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "deploy/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")),
]
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


def anchors(document: Path) -> set[str]:
    """What a link may name behind ``#``, as GitHub and others make it of a heading."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """To a file that is there, and to a heading that it has."""
    path = ROOT / document
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document: str) -> None:
    """A name with a folder of the tree in front."""
    trees = "netswap|protocols|loadgen|benchmarks|tests|docs|deploy"
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{trees})/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_document_is_in_the_readme() -> None:
    """A reader finds it from there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in DOCUMENTS[1:] if f"]({name})" not in text] == []


def test_every_option_of_a_command_is_in_a_document() -> None:
    """Where a user looks: the README, docs/, deploy/ with its commented configuration."""
    names = [*DOCUMENTS, "deploy/netswap.toml", "deploy/netswap.service"]
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    commands = [
        getattr(importlib.import_module(f"netswap.commands.{module}"), name)
        for module, name, _ in COMMANDS.values()
    ]
    options = {
        (*parameter.secondary_opts, *parameter.opts)[0]
        for command in commands
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    settings = {flag(key) for key in SETTINGS}  # all are in the commented configuration
    assert len(options) > len(settings)
    assert sorted(option for option in options - settings if option not in text) == []
