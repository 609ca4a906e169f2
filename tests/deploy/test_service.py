"""deploy/netswap.service: systemd takes it, it drains before it kills, and it is locked up."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from netswap.config import SETTINGS

UNIT = Path(__file__).parents[2] / "deploy" / "netswap.service"

analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed")


def service() -> configparser.SectionProxy:
    """The unit's [Service]."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser documents
    parser.read_string(UNIT.read_text())
    return parser["Service"]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here, which is all that is machine's own in it."""
    copy = tmp_path / UNIT.name
    program = shutil.which("true")
    assert program
    copy.write_text(UNIT.read_text().replace("/opt/netswap/bin/netswap", program))
    return copy


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run([analyze or "", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_accepts_the_unit(unit):
    """No unknown key, no value that systemd would ignore."""
    done = analyzed("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr.replace(str(unit), "")) == (0, "")


@needs_systemd
def test_systemd_would_see_a_mistake(unit):
    """The check above can fail."""
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in analyzed("verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_the_service_is_locked_up(unit):
    """systemd's own measure of exposure, 0 to 10, stays below 2."""
    done = analyzed("security", "--no-pager", "--offline=yes", "--threshold=20", str(unit))
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_a_stop_leaves_time_to_drain():
    """systemd kills only after a drain at its default limit has ended, with time to spare."""
    drain = SETTINGS["drain"].default
    assert isinstance(drain, int)
    assert float(service()["TimeoutStopSec"]) >= 2 * drain


def test_only_the_supervisor_gets_term():
    """Workers drain when they are told to; a TERM of their own would cut the order short."""
    assert service()["KillMode"] == "mixed"
    assert service()["KillSignal"] == "SIGTERM"


def test_the_service_is_no_root():
    """It runs as a user that exists only for it, with its two directories."""
    settings = service()
    assert (settings["DynamicUser"], settings["User"]) == ("yes", "netswap")
    assert (settings["StateDirectory"], settings["RuntimeDirectory"]) == ("netswap", "netswap")
