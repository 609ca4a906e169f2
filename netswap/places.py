"""Where a server keeps its state and its socket when nobody said so.

A server started with nothing set must work, also under a random uid, without HOME, on a read-only
tree; and a client started by the same user must find its socket by the same rules without reading
the server's configuration. So a default that can't be written falls back to a directory under the
temporary one which belongs to the user and whose name is known. It is used only when nobody else
can have made it or can enter it: whoever owns the socket's directory is who a client talks to.

Imported by every command of the client: it must stay cheap.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from netswap.errors import UsageError

__all__ = [
    "default_socket",
    "default_state_dir",
    "find_socket",
    "is_writable",
    "make_directories",
    "socket_below",
    "usable_state_dir",
]

SYSTEM_SOCKET = Path("/run/netswap/admin.sock")
"""Where the systemd unit puts the socket: tried by clients that have no server of their own."""


def default_state_dir(environ: Mapping[str, str]) -> Path | None:
    """Where state belongs by the environment's rules, writable or not; None without a HOME."""
    if given := environ.get("STATE_DIRECTORY"):  # systemd.exec(5): several, separated by colons
        return Path(given.partition(":")[0])
    for variable, below in (("XDG_STATE_HOME", "netswap"), ("HOME", ".local/state/netswap")):
        if environ.get(variable, "").startswith("/"):
            return Path(environ[variable], below)
    return None


def _temporary_dir(environ: Mapping[str, str]) -> Path:
    """The user's own directory for when there is no better one; its name is known to clients."""
    return Path(environ.get("TMPDIR") or "/tmp", f"netswap-{os.getuid()}")


def is_writable(directory: Path) -> bool:
    """Whether the directory can be written, or made where it is missing.

    ``os.path.exists``, because ``Path.exists`` raises below a directory that can't be entered.
    """
    existing = next(filter(os.path.exists, (directory, *directory.parents)), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _is_ours_alone(directory: Path) -> bool:
    """Whether nobody else can have put the directory there (it may be missing) or can enter it."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return is_writable(directory)
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and not found.st_mode & 0o077


def usable_state_dir(environ: Mapping[str, str]) -> tuple[Path, str]:
    """The state directory when none was asked for, and a warning, or an empty one."""
    preferred = default_state_dir(environ)
    if preferred is not None and is_writable(preferred):
        return preferred, ""
    reason = "there is no HOME" if preferred is None else f"{preferred} can't be written"
    fallback = _temporary_dir(environ)
    if not _is_ours_alone(fallback):
        reason += f" and {fallback} is not this user's alone"
        fallback = fallback.with_name(f"{fallback.name}-{os.getpid()}")
    return fallback, f"{reason}: state is kept in {fallback} and may not outlive the machine"


def default_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a server puts its socket that was told nothing about it but by the environment.

    Raises UsageError when that is a place which only the server knows.
    """
    if given := environ.get("NETSWAP_SOCKET"):
        return Path(given)
    if given := environ.get("NETSWAP_STATE_DIR"):
        return socket_below(Path(given), environ)
    preferred = default_state_dir(environ)
    if preferred is None or not is_writable(preferred):
        preferred = _temporary_dir(environ)
        if "RUNTIME_DIRECTORY" not in environ and not _is_ours_alone(preferred):
            what = f"no server to be found: {preferred} is not this user's alone"
            raise UsageError(what, "", "give --socket or NETSWAP_SOCKET")
    return socket_below(preferred, environ)


def socket_below(state_dir: Path, environ: Mapping[str, str]) -> Path:
    """The socket that goes with a state directory: below systemd's runtime directory if any."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or state_dir, "admin.sock")


def make_directories(*directories: Path) -> None:
    """Make each directory that is missing, for this user alone.

    Raises UsageError naming the one that can't be made or that another user made first.
    """
    for directory in directories:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            what = f"{directory} can't be made: {error.strerror}"
            raise UsageError(what, "", "give --state-dir and --socket") from error
        if directory.name.startswith(f"netswap-{os.getuid()}") and not _is_ours_alone(directory):
            raise UsageError(f"{directory} is not this user's alone", "", "remove it")


def find_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a client looks for its server: its own user's, else the machine's service.

    The answer need not exist: it is then the place where the user's server would put it.
    """
    own = default_socket(environ)
    if "NETSWAP_SOCKET" in environ or os.path.exists(own):
        return own
    return SYSTEM_SOCKET if os.path.exists(SYSTEM_SOCKET) else own
