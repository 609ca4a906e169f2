"""What a machine may lack, where a test that needs it is skipped and says so; what it tells."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

__all__ = ["children", "need_index", "needs_ipv6", "raise_descriptor_limit"]


def children() -> set[str]:
    """The numbers of this process's children, ended ones too that nobody has waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for each in lists for pid in each.read_text().split()}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def need_index(said: str) -> None:
    """Skip when pip has ``said`` that it could reach no package index."""
    if "NewConnectionError" in said:
        pytest.skip("pip reaches no package index from here")


def raise_descriptor_limit(wanted: int) -> None:
    """So many may be open in this process, and in those that it starts; skip where not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        pytest.skip(f"a process may open {hard} files here, and not {wanted} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
