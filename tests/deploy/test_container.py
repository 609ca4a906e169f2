"""deploy/Containerfile: its steps, run in a clean folder, make a server that runs as anybody.

There is no container engine where the tests run, so this file reads the instructions and does what
they say under a folder of its own; then it starts the image's command as a uid without an account,
without HOME, on a tree that this uid can't write.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.machine import need_index

ROOT = Path(__file__).parents[2]
UID = 54_321
# what setpriv itself starts may still enter everything; what that starts may not: hence env
AS_ANYBODY = ["setpriv", f"--reuid={UID}", "--regid=0", "--clear-groups", "env"]
ABSOLUTE = re.compile(r"(?<![\w./])/(?=(?:etc|opt|src|var)\b)")
LISTEN = ("--listen", "echo=127.0.0.1:0", "--listen", "kv=127.0.0.1:0")

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
    pytest.mark.timeout(300),
]


class Image:
    """A folder in which the instructions of a Containerfile were carried out."""

    def __init__(self, folder: Path, python: str) -> None:
        self.root = folder / "root"
        self.environ: dict[str, str] = {}
        self.command: list[str] = []
        self.user = ""
        self._stages: dict[str, Path] = {}
        self._stage = ""
        self._workdir = self.root
        self._shims = folder / "shims"
        self._shims.mkdir()
        (self._shims / "python3").symlink_to(python)

    def build(self, containerfile: Path) -> None:
        """Carry out each instruction; one that this class does not know is an error."""
        text = re.sub(r"\\\n", " ", containerfile.read_text())
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                getattr(self, f"_do_{word.lower()}")(rest.strip())

    def under_root(self, text: str) -> str:
        """A path or a command of the image, as it is called from outside."""
        return ABSOLUTE.sub(f"{self.root}/", text)

    def _do_from(self, rest: str) -> None:
        if self.root.exists():
            self._stages[self._stage] = self.root.rename(self.root.with_name(self._stage))
        self._stage = rest.partition(" AS ")[2] or "last"
        self.root.mkdir()
        self._workdir = self.root

    def _do_workdir(self, rest: str) -> None:
        self._workdir = Path(self.under_root(rest))
        self._workdir.mkdir(parents=True)

    def _do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = ROOT
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).partition("=")[2]]
        folder = target.endswith("/") or len(sources) > 1
        for source in sources:
            inside = Path(self.under_root(target)) if target[0] == "/" else self._workdir / target
            wanted = inside / Path(source).name if folder else inside
            wanted.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (origin / source.lstrip("/")).is_dir() else shutil.copy
            copy(origin / source.lstrip("/"), wanted, **_as_it_is(copy))

    def _do_run(self, rest: str) -> None:
        environ = os.environ | {"PATH": f"{self._shims}:{os.environ['PATH']}"}
        command = ["sh", "-ec", self.under_root(rest)]
        done = subprocess.run(
            command, cwd=self._workdir, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            need_index(done.stdout + done.stderr)
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"

    def _do_env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environ[name] = ":".join(map(self.under_root, value.split(":")))

    def _do_user(self, rest: str) -> None:
        self.user = rest

    def _do_entrypoint(self, rest: str) -> None:
        self.command += json.loads(rest)

    _do_cmd = _do_entrypoint

    def _do_volume(self, rest: str) -> None:
        assert Path(self.under_root(rest)).is_dir()

    def _do_expose(self, rest: str) -> None:
        assert all(map(str.isdecimal, rest.split()))

    def _do_stopsignal(self, rest: str) -> None:
        assert rest == "SIGTERM"


def _as_it_is(copy: Any) -> dict[str, Any]:
    ignored = shutil.ignore_patterns("__pycache__")
    return {"symlinks": True, "ignore": ignored} if copy is shutil.copytree else {}


def python_for_all() -> str:
    """A Python that a user without an account can run; one below /root is none."""
    good = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for name in (os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
        done = subprocess.run(
            [*AS_ANYBODY, name, "-c", good], cwd="/", capture_output=True, check=False
        )
        if done.returncode == 0:
            return name
    pytest.skip("no Python 3.11 or newer that other users may run")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image, built once."""
    with tempfile.TemporaryDirectory(prefix="netswap-image-") as folder:
        Path(folder).chmod(0o755)
        built = Image(Path(folder), python_for_all())
        built.build(ROOT / "deploy" / "Containerfile")
        yield built


@pytest.fixture
def temporary(image: Image) -> Iterator[Path]:
    """What ``--tmpfs /tmp`` gives: the one place that anybody may write."""
    folder = image.root / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def run(image: Image, temporary: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image, as ``podman exec`` would."""
    environ = image.environ | {"TMPDIR": str(temporary)}
    assert "HOME" not in environ
    return subprocess.run(
        [*AS_ANYBODY, *command], cwd="/", env=environ, capture_output=True, text=True, check=False
    )


@contextmanager
def server(image: Image, temporary: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The image's command as anybody: its ready line, and what it said when it has ended."""
    environ = image.environ | {"TMPDIR": str(temporary)}
    said: list[str] = []
    command = [*AS_ANYBODY, *image.command, "--json", "--workers", "2", *LISTEN]
    log = temporary / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, cwd="/", env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield json.loads(line), said
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
            said += log.read_text().splitlines()
    assert code == 0, said


def echoed(address: str, data: bytes) -> bytes:
    """What an echo server makes of data."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(data)
        return client.recv(len(data), socket.MSG_WAITALL)


def files(image: Image) -> set[Path]:
    """What is in the image but for the two places that may be written."""
    allowed = {image.root / "tmp", image.root / "var"}
    return {path for path in image.root.rglob("*") if not allowed & {path, *path.parents}}


def test_the_image_runs_as_no_root(image):
    """A uid of its own, of group 0 as a uid without an account has it."""
    uid, _, gid = image.user.partition(":")
    assert int(uid) > 0
    assert gid == "0"


def test_the_image_brings_its_configuration(image, temporary):
    """The command finds the file that the image carries, and it is right."""
    done = run(image, temporary, *image.command, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert image.environ["NETSWAP_CONFIG"].endswith("/etc/netswap/netswap.toml")


def test_anybody_can_run_it_without_a_home_on_a_read_only_tree(image, temporary):
    """It serves, is administered, keeps its state in the volume and writes nothing else."""
    before = files(image)
    with server(image, temporary) as (ready, _):
        assert echoed(ready["listeners"]["echo"], b"anybody\n") == b"anybody\n"
        status = run(image, temporary, "netswap", "status", "--json")
        assert status.returncode == 0, status.stderr
        workers = json.loads(status.stdout)["workers"]
        assert [worker["state"] for worker in workers] == ["serving", "serving"]
    volume = image.root / "var" / "lib" / "netswap"
    assert ready["admin"] == str(volume / "admin.sock")
    assert any(volume.rglob("journal*"))
    assert files(image) == before


def test_a_volume_that_cannot_be_written_is_a_warning(image, temporary):
    """It serves all the same, says where its state went instead, and a client finds it there."""
    volume = image.root / "var" / "lib" / "netswap"
    volume.chmod(0o700)
    try:
        with server(image, temporary) as (ready, said):
            assert echoed(ready["listeners"]["echo"], b"anybody\n") == b"anybody\n"
            assert run(image, temporary, "netswap", "status").returncode == 0
    finally:
        volume.chmod(0o770)
    assert ready["admin"] == str(temporary / f"netswap-{UID}" / "admin.sock")
    assert any(f"{volume} can't be written" in line for line in said)
