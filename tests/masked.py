"""Frames of a WebSocket as a client sends them, masked the same each time."""

from __future__ import annotations

import zlib

from websockets.frames import Close, Opcode

__all__ = ["closing", "deflated", "frame"]

MASK = b"\1\2\3\4"


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True, rsv1: bool = False) -> bytes:
    """One frame, which may break the rules."""
    size = len(data)
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data))
    return bytes([first, length[0] | 0x80]) + length[1:] + MASK + masked


def deflated(data: bytes) -> bytes:
    """The payload of a message as a client compresses it that keeps no window."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def closing(code: int, reason: str = "") -> bytes:
    """A close."""
    return frame(Opcode.CLOSE, Close(code, reason).serialize())
