"""A server and a protocol of one's own, as docs/load.md shows them."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from loadgen.dialects import dialect
from loadgen.findings import build_report
from loadgen.judging import judge
from tests.loadgen.carried import carried, served, undisturbed

PAGE = Path(__file__).parents[2] / "docs" / "load.md"


def shown(name: str) -> str:
    """The page's module of this name."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if block.startswith(f'"""{name}:'))
    return str(code)


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module of the page, where it can be imported; its name and its class's."""
    (tmp_path / "lines.py").write_text(shown("lines.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lines:Lines"
    sys.modules.pop("lines", None)


class Lines(asyncio.Protocol):
    """Says what it is told, but for a part of it: ``spoilt``."""

    def __init__(self, spoilt: bytes = b"") -> None:
        self.spoilt = spoilt

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(data.replace(self.spoilt, b"") if self.spoilt else data)


@pytest.mark.parametrize(("spoilt", "exit_code"), [(b"", 0), (b"0:7\n", 10)])
@pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop's transports derive from nothing
async def test_the_documented_protocol(documented: str, spoilt: bytes, exit_code: int) -> None:
    """It acquits a server that says the lines again, and misses the one that is lost."""
    seen = await undisturbed(lambda: served(lambda: Lines(spoilt), protocol=documented, rate=200.0))
    assert judge(build_report(seen)).exit_code == exit_code
    assert seen.tally.issued == 60
    assert seen.tally.lost == bool(spoilt)


async def test_the_documented_server() -> None:
    """It does all that the load generator asks of one."""
    names: dict[str, web.Application] = {}
    exec(compile(shown("app.py"), "app.py", "exec"), names)
    runner = web.AppRunner(names["app"])
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    seen = await undisturbed(lambda: carried(port, protocol="http", rate=200.0))
    await runner.cleanup()
    assert judge(build_report(seen)).exit_code == 0
    assert seen.tally.answered == 60


@pytest.mark.parametrize(
    ("name", "why"),
    [("gopher", "is none of"), ("no_such:Class", "can't be had"), ("json:none", "can't be had"),
     ("json:__name__", "no class"), (":Lines", "is none of"), ("json:", "is none of")],
)  # fmt: skip
def test_a_protocol_that_is_none(name: str, why: str) -> None:
    """The sentence says what is wrong with the name."""
    with pytest.raises(ValueError, match=why):
        dialect(name)


HALF = """
from loadgen.dialects import Conversation

class Half(Conversation):
    def request(self, intended, sent): return b"x"
"""


def test_a_protocol_that_lacks_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named before the run, in which nothing could be judged."""
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="'half:Half' has no receive"):
        dialect("half:Half")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("x = 1\ny = 1 / 0\n", "mine.py:2 raises ZeroDivisionError: division by zero"),
        ("def f(:\n", "invalid syntax .mine.py, line 1"),
        ("raise SystemExit(3)\n", "mine.py:1 raises SystemExit: 3"),
    ],
)
def test_a_protocol_that_can_not_be_imported(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the line, as of a mistake in the command: nothing has begun."""
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=why):
        dialect("mine:Lines")
