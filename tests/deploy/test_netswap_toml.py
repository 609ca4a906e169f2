"""deploy/*.toml: what is documented is what is read, and stands there with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from netswap.config import SETTINGS, check
from netswap.places import default_state_dir, socket_below

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = {"STATE_DIRECTORY": "/var/lib/netswap", "RUNTIME_DIRECTORY": "/run/netswap"}
"""What systemd sets for the unit: the defaults of the two directories follow from it."""


def documented() -> dict[str, object]:
    """The settings of netswap.toml with every one of them uncommented, by dotted key."""
    text = (DEPLOY / "netswap.toml").read_text()
    table = tomllib.loads(re.sub(r"(?m)^#(?=\S)", "", text))
    return table | {f"log.{key}": value for key, value in table.pop("log").items()}


def test_the_file_as_it_is_changes_nothing(tmp_path):
    """Installing the commented file is the same as having none."""
    environ = {"HOME": str(tmp_path)}
    with_file, without = (check({}, file, environ) for file in (DEPLOY / "netswap.toml", None))
    assert with_file.problems == ()
    assert with_file == without


def test_every_setting_is_documented():
    """No setting has to be found in the source."""
    assert documented().keys() == SETTINGS.keys()


def test_every_setting_stands_at_its_default():
    """Uncommenting a line changes nothing either."""
    found = {
        "state_dir": str(default_state_dir(UNIT)),
        "socket": str(socket_below(Path("/elsewhere"), UNIT)),
    }
    defaults = {key: setting.default for key, setting in SETTINGS.items()} | found
    assert documented() == defaults


def test_every_setting_is_explained():
    """Each line has a comment above it, its own or its section's."""
    text = (DEPLOY / "netswap.toml").read_text()
    blocks = text.split("\n\n")
    bare = [block for block in blocks if not re.search(r"(?m)^# ", block)]
    assert not bare


def test_the_container_listens_outside_and_on_nothing_new(tmp_path):
    """The image serves what a server without configuration serves, to the outside."""
    config = check({}, DEPLOY / "container.toml", {"HOME": str(tmp_path)}).config
    assert config is not None
    served = {name: str(*addresses) for name, addresses in config.listen.items()}
    default = SETTINGS["listen"].default
    assert isinstance(default, dict)
    expected = {name: at.replace("127.0.0.1", "0.0.0.0") for name, at in default.items()}
    assert served == expected
