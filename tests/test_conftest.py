"""The checks of conftest.py fail what they should fail, on both loops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py").read_text()

FAILING = {
    "a task that is still running": (
        "async def test(): kept.append(asyncio.ensure_future(asyncio.Event().wait()))",
        "tasks left over",
    ),
    "an exception in a task that nobody awaits": (
        """
        async def broken(): raise ValueError("unseen")
        async def test():
            asyncio.ensure_future(broken())
            await asyncio.sleep(0)
        """,
        "unseen",
    ),
    "an exception in a callback of the loop": (
        """
        async def test():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)
        """,
        "ZeroDivisionError",
    ),
    "a listener that still listens": (
        """
        async def test():
            kept.append(await asyncio.start_server(print, "127.0.0.1", 0))
        """,
        "descriptors left open",
    ),
    "a descriptor of a plain test": (
        "def test(): kept.append(os.open('/dev/zero', os.O_RDONLY))",
        "left open or running",
    ),
    "a child process": (
        "def test(): kept.append(subprocess.Popen(['sleep', '10']))",
        "left open or running.*sleep 10",
    ),
    "a coroutine that was never awaited": (
        """
        async def forgotten(): pass
        def test(): forgotten()
        """,
        "never awaited",
    ),
}


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Run the text of a test module under this project's settings and conftest."""
    settings = request.config.rootpath / "pyproject.toml"
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)  # coverage has nothing of ours to measure there
    pytester.makeconftest(CONFTEST.replace("PATIENCE = 20.0", "PATIENCE = 0.05"))
    pytester.path.joinpath("pyproject.toml").write_text(settings.read_text())

    def run(text: str) -> pytest.RunResult:
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        body = "\n".join(line[indent:] for line in lines)
        end = """
def teardown_module():
    for child in kept:
        if isinstance(child, subprocess.Popen):
            child.kill()
            child.wait()
"""
        pytester.makepyfile(f"import asyncio, os, subprocess\nkept = []\n{body}\n{end}")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider")

    return run


@pytest.mark.parametrize("what", FAILING)
def test_what_is_left_behind_fails_the_test(run, what):
    """A leak is an error of the test that made it, not of a later one."""
    text, sentence = FAILING[what]
    result = run(text)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.re_match_lines([f".*{sentence}.*"])


def test_a_clean_test_passes_on_both_loops(run):
    """What closes what it opened is left alone."""
    run(
        """
        async def test():
            server = await asyncio.start_server(print, "127.0.0.1", 0)
            server.close()
            await server.wait_closed()
        """
    ).assert_outcomes(passed=2)


def test_a_provoked_error_can_be_looked_at(run):
    """``loop_errors`` shows what reached the handler, and an emptied one is no failure."""
    run(
        """
        async def test(loop_errors):
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)
            assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
        """
    ).assert_outcomes(passed=2)


def test_a_test_runs_once_on_a_loop_of_each_kind(run):
    """The two runs of an asynchronous test are on different loops: uvloop's and asyncio's."""
    run(
        """
        import uvloop
        seen = []
        async def test(): seen.append(type(asyncio.get_running_loop()))
        def test_both():
            assert len(seen) == 2
            assert uvloop.Loop in seen
            assert any(issubclass(loop, asyncio.SelectorEventLoop) for loop in seen)
        """
    ).assert_outcomes(passed=3)
