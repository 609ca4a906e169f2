"""A shadow run on a real server: what clients ask meanwhile is asked of old and new code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Client, Server

pytestmark = pytest.mark.timeout(120)

ECHO = '''
"""echo.connection, version 2, as it should be and otherwise."""
from netswap import Connection, State


class Seen(State, kind="echo.connection", version=2):
    """Nothing is kept."""


class Echo(Connection[Seen]):
    EXPECTED
    def on_data(self, data: bytes) -> None:
        self.write(data.CHANGED)

    def on_eof(self) -> bool:
        self.close()
        return True
'''
LOUD = ECHO.replace("CHANGED", "upper()")


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """Echo on two workers."""
    return make_server(["echo"])


@contextmanager
def talking(server: Server, clients: int = 8) -> Iterator[None]:
    """Clients that say a word after the other and get what they said, whatever is pushed."""
    ended = threading.Event()
    wrong: list[str] = []

    def talk(client: Client, number: int) -> None:
        said = 0
        while not ended.wait(0.005):
            word = f"word{number}-{said}"
            answer = client.ask(word)
            if answer not in (word, word.upper()):
                wrong.append(answer)
            said += 1

    speakers = [server.client("echo") for _ in range(clients)]
    threads = [threading.Thread(target=talk, args=(c, n)) for n, c in enumerate(speakers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
        for speaker in speakers:
            speaker.close()
    assert not wrong


def pushed(folder: Path, text: str, expected: str = "") -> Path:
    """A module of the test's own."""
    path = folder / "loud.py"
    path.write_text(text.replace("EXPECTED", expected))
    return path


def test_a_difference_is_refused_with_its_diff(server: Server, tmp_path: Path) -> None:
    """Exit 20, the class's line, the lines that differ; the old code goes on."""
    with talking(server):
        answer = server.netswap("push", pushed(tmp_path, LOUD), "--shadow", "0.5s")
    assert answer.code == 20, answer
    assert "recorded connections are answered otherwise" in answer.page["what"]
    assert "loud.py:10" in answer.page["where"]
    assert "--expect-diff" in answer.page["advice"]
    rows = answer.page["refusals"][0]["detail"].splitlines()
    assert any(row.startswith("-word") for row in rows)
    assert any(row.startswith("+WORD") for row in rows)
    assert server.kinds()["echo.connection"]["version"] == 1


@pytest.mark.parametrize("how", ["the operator", "the class"])
def test_a_difference_that_is_expected_goes_in(server: Server, tmp_path: Path, how: str) -> None:
    """By a flag, or by what the new version says of itself."""
    reason = 'expected_diff = "loud on purpose"\n' if how == "the class" else ""
    words: list[Any] = ["--expect-diff"] if how == "the operator" else []
    with talking(server):
        server.push(pushed(tmp_path, LOUD, reason), "--shadow", "0.5s", *words)
    with server.client("echo") as client:
        assert client.ask("hello") == "HELLO"


def test_what_answers_alike_goes_in(server: Server, tmp_path: Path) -> None:
    """Every worker has played some inputs, or the run would have shown nothing."""
    with talking(server):
        path = pushed(tmp_path, ECHO.replace(".CHANGED", ""))
        answer = server.netswap("push", path, "--shadow", "0.5s", "--dry-run")
    assert answer.code == 0, answer
