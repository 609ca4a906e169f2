"""Server and client of one user meet at the same socket, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netswap import places
from netswap.config import load_config
from netswap.errors import UsageError
from netswap.places import default_socket, find_socket, make_directories


def environments(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Environments of users with more and less to go by."""
    (tmp_path / "file").touch()
    home = {"HOME": str(tmp_path / "home")}
    return {
        "home": home,
        "xdg": home | {"XDG_STATE_HOME": str(tmp_path / "xdg")},
        "relative xdg": home | {"XDG_STATE_HOME": "state"},
        "systemd": {"STATE_DIRECTORY": f"{tmp_path}/lib:{tmp_path}/other"},
        "systemd, runtime": {
            "STATE_DIRECTORY": f"{tmp_path}/lib",
            "RUNTIME_DIRECTORY": f"{tmp_path}/run",
        },
        "socket": home | {"NETSWAP_SOCKET": str(tmp_path / "socket")},
        "state": home | {"NETSWAP_STATE_DIR": str(tmp_path / "state")},
        "no home": {},
        "unwritable home": {"HOME": str(tmp_path / "file")},
        "unwritable home, runtime": {
            "HOME": str(tmp_path / "file"),
            "RUNTIME_DIRECTORY": f"{tmp_path}/run",
        },
    }


NAMES = [
    "home",
    "xdg",
    "relative xdg",
    "systemd",
    "systemd, runtime",
    "socket",
    "state",
    "no home",
    "unwritable home",
    "unwritable home, runtime",
]


@pytest.mark.parametrize("name", NAMES)
def test_client_and_server_agree_on_the_socket(tmp_path, name):
    """The same environment leads both to the same path, without the server's configuration."""
    environ = environments(tmp_path)[name] | {"TMPDIR": str(tmp_path)}
    assert default_socket(environ) == load_config(environ=environ).socket


def test_every_environment_is_tried(tmp_path):
    """The list of names and the table of environments are the same."""
    assert list(environments(tmp_path)) == NAMES


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("home", "home/.local/state/netswap/admin.sock"),
        ("xdg", "xdg/netswap/admin.sock"),
        ("relative xdg", "home/.local/state/netswap/admin.sock"),
        ("systemd", "lib/admin.sock"),
        ("systemd, runtime", "run/admin.sock"),
        ("socket", "socket"),
        ("state", "state/admin.sock"),
        ("no home", f"netswap-{os.getuid()}/admin.sock"),
        ("unwritable home", f"netswap-{os.getuid()}/admin.sock"),
    ],
)
def test_where_the_socket_is(tmp_path, name, where):
    """The environment decides in the order that the operator's guide gives."""
    environ = environments(tmp_path)[name] | {"TMPDIR": str(tmp_path)}
    assert default_socket(environ) == tmp_path / where


def test_a_directory_that_others_may_enter_is_not_trusted(tmp_path):
    """Who owns the fallback directory is who a client would talk to: it must be this user alone."""
    environ = {"TMPDIR": str(tmp_path)}
    taken = tmp_path / f"netswap-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o755)
    config = load_config(environ=environ)
    assert config.state_dir == tmp_path / f"netswap-{os.getuid()}-{os.getpid()}"
    assert f"{taken} is not this user's alone" in config.warnings[0]
    with pytest.raises(UsageError, match="give --socket or NETSWAP_SOCKET"):
        default_socket(environ)


def test_a_symbolic_link_is_not_trusted(tmp_path):
    """A link may lead anywhere, even when its target is fine."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"netswap-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not this user's alone"):
        default_socket({"TMPDIR": str(tmp_path)})


def test_directories_are_made_for_this_user_alone(tmp_path):
    """A state directory is private from its first moment, and making it again is no mistake."""
    wanted = tmp_path / "a" / "b"
    for _ in range(2):
        make_directories(wanted)
        assert wanted.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """The error says which directory and which flags to give."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/state can't be made: Not a directory.*--state-dir"):
        make_directories(tmp_path / "file" / "state")


def test_a_fallback_that_somebody_else_made_first_is_refused(tmp_path):
    """Between choosing the name and making it another user may have been quicker."""
    taken = tmp_path / f"netswap-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    with pytest.raises(UsageError, match="not this user's alone"):
        make_directories(taken)


def test_a_client_without_a_server_of_its_own_finds_the_machines(tmp_path, monkeypatch):
    """The operator of a systemd service needs no --socket; one's own server comes first."""
    service = tmp_path / "service.sock"
    monkeypatch.setattr(places, "SYSTEM_SOCKET", service)
    environ = {"HOME": str(tmp_path)}
    own = default_socket(environ)
    assert find_socket(environ) == own
    service.touch()
    assert find_socket(environ) == service
    assert find_socket(environ | {"NETSWAP_SOCKET": "/x"}) == Path("/x")
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_socket(environ) == own


def test_finding_the_socket_is_cheap():
    """A client's command imports nothing heavy to find its server."""
    heavy = "{'aiohttp', 'structlog', 'rich', 'tomllib', 'difflib', 'tempfile'}"
    code = f"import sys, netswap.places; sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
