"""What a peer is called, from what its transport or its proxy says."""

from __future__ import annotations

from typing import Any

__all__ = ["address_of", "host_of"]


def host_of(peername: Any) -> str:
    """A host without its port; of a Unix socket's peer the user without the process."""
    if isinstance(peername, tuple):
        return str(peername[0])
    name = str(peername or "local")
    return name.rpartition(":")[0] if name.startswith("unix:") else name


def address_of(peername: Any) -> str:
    """The whole of it: a host with its port, or as it was given."""
    if not isinstance(peername, tuple):
        return str(peername or "local")
    host = host_of(peername)
    return f"[{host}]:{peername[1]}" if ":" in host else f"{host}:{peername[1]}"
