"""The demo: its scenes are commands that exist, and it tells only what really happened.

The whole story runs in tests/test_package.py, from an installed wheel.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from netswap import demo
from netswap.cli import COMMANDS, root
from netswap.demo import BROKEN, LOADS, SERVED, Scene
from netswap.modules import Bundle
from netswap.outcome import EXIT_CODES
from netswap.probe import run_probe

ROOT = Path(__file__).parents[1]
BROKEN_FILE = Path("broken.py")
FAILING_FILE = Path("failing.py")
SCENES = [*demo._scenes(ROOT / "protocols", BROKEN_FILE, FAILING_FILE)]
RECEIPT = {"objects": {"kv.connection": 50, "kv.store": 2}, "blackout_us": 1500.0, "dropped": 0}


def word(scene: Scene) -> str:
    """A name for the test's report."""
    return " ".join(Path(word).name for word in scene.words)


@pytest.mark.parametrize("scene", SCENES, ids=word)
def test_a_scene_is_a_command_with_words_that_it_takes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed can be typed, and the files are there."""
    monkeypatch.chdir(tmp_path)
    BROKEN_FILE.touch()
    FAILING_FILE.touch()
    name, *words = scene.words
    assert name in COMMANDS
    command = root.get_command(root.make_context("netswap", ["status"]), name)
    assert command is not None
    command.make_context(name, words)
    assert scene.why
    assert scene.expected in EXIT_CODES.values()


def test_the_story_has_a_push_a_way_back_and_a_refusal() -> None:
    """Everything ends with 0 but the broken module, and the one that fails on watch."""
    codes = {(scene.words[0], scene.expected) for scene in SCENES}
    assert codes == {("push", 0), ("rollback", 0), ("push", 20), ("push", 21)}
    broken, failing = [scene for scene in SCENES if scene.expected]
    assert broken.words == ("push", str(BROKEN_FILE))
    assert failing.words[:2] == ("push", str(FAILING_FILE))


def test_the_module_that_fails_later_is_one_that_serves_but_for_one_line() -> None:
    """Else the scene would show a push like any other."""
    sound = (ROOT / "protocols/verify/v2.py").read_text()
    assert sound.count(demo.SOUND) == 1


def test_what_is_pushed_is_under_load_or_at_least_served() -> None:
    """A push that touches no object would show nothing."""
    pushed = {Path(word).parent.name for scene in SCENES for word in scene.words[1:]} - {""}
    assert pushed - {"buffers"} <= set(SERVED)
    assert {name for name, *_ in LOADS} <= pushed


def test_the_broken_module_is_broken_in_its_step_alone() -> None:
    """It would load; only a live object shows what is wrong with it."""
    probed = run_probe([Bundle("broken.py", {"broken.py": BROKEN.encode()})])
    assert probed.kinds == [{"verify.connection": 3}]
    assert probed.refusals == []


def test_a_wrong_word_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    """With 2, and no server to wait for."""
    assert demo.main(["--fast"]) == 2
    assert "takes --json only, not --fast" in capsys.readouterr().err


def test_a_receipt_is_told_in_a_line_for_each_kind_and_one_for_the_cost() -> None:
    """Versions, how many objects, how long, and what was dropped."""
    verdicts = [
        {"kind": "kv.store", "old": 1, "new": 2, "verdict": "by migration"},
        {"kind": "a.kind", "old": None, "new": 1, "verdict": "new"},
    ]
    assert [*demo._told(0, {"verdicts": verdicts, "receipt": RECEIPT})] == [
        "kv.store: v1 → v2, by migration",
        "a.kind: v1, new",
        "52 live objects converted, blackout 1.50 ms, dropped 0",
    ]


def test_a_refusal_is_told_with_its_code_place_and_state() -> None:
    """And nothing that would look like success, even when there is a receipt."""
    result = {"what": "no", "where": "b.py:11", "state": "untouched", "receipt": RECEIPT,
              "verdicts": [{}]}  # fmt: skip
    assert [*demo._told(20, result)] == ["exit 20: no", "where: b.py:11", "state: untouched"]
    assert [*demo._told(1, {})] == ["exit 1: no result"]


def test_a_scene_that_ends_otherwise_is_not_as_expected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A push that should have been refused and was not is a failure of the story."""
    monkeypatch.setattr(demo, "_netswap", lambda *words: (0, {"words": words}))
    said: list[str] = []
    told = demo._play(Scene("Because.", ("push", "/a/b/c/d.py"), 20), tmp_path, said.append)
    assert (told["exit_code"], told["as_expected"]) == (0, False)
    assert told["command"] == "netswap push b/c/d.py"
    assert said == ["\nBecause.\n$ netswap push b/c/d.py"]
    assert demo._play(Scene("", ("rollback",)), tmp_path, said.append)["as_expected"]


def test_the_ports_are_those_that_the_server_has_got(tmp_path: Path) -> None:
    """A demo beside a server harms neither."""
    ready = '{"ready": true, "listeners": {"kv": "127.0.0.1:7", "echo": "127.0.0.1:8"}}'
    words = ["echo", ready]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert demo._wait_ready(process, tmp_path / "log") == {"kv": 7, "echo": 8}


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    """Instead of a story that hangs."""
    log = tmp_path / "server.log"
    log.write_text("address in use")
    with (
        subprocess.Popen(["true"], stdout=subprocess.PIPE, text=True) as process,
        pytest.raises(SystemExit, match="address in use"),
    ):
        demo._wait_ready(process, log)


def test_a_load_that_is_no_pass_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """ "See above" has something to see, although no client was hurt: the machine was too busy."""
    counts = dict.fromkeys(demo._FAULTS, 0) | {"answered": 7}
    load = {"protocol": "kv", "counts": counts, "verdict": "invalid run",
            "reasons": ["the generator stood still for 0.34 s"]}  # fmt: skip
    demo._close({"loads": [load], "ok": False, "seconds": 3}, as_json=False)
    told = capsys.readouterr().out
    assert "invalid run: the generator stood still for 0.34 s" in told
    assert "NOT as it should be: see above" in told
