"""The bodies of the POST requests, as JSON; bytes are base64."""

from __future__ import annotations

import msgspec

from netswap.options import Options

__all__ = [
    "BODY_LIMIT",
    "BlockersRequest",
    "CertificatesRequest",
    "PromoteRequest",
    "PushRequest",
    "RollbackRequest",
    "SwapRequest",
]

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of a request's body that the server reads at most."""


class PushRequest(Options, kw_only=True, frozen=True):
    """``POST /v1/push``: ``bundles`` are ``Bundle.to_message()``."""

    bundles: list[bytes]


class SwapRequest(Options, kw_only=True, frozen=True):
    """``POST /v1/swap``: ``revision`` is a number or the start of a hash."""

    kind: str
    revision: str


class RollbackRequest(Options, kw_only=True, frozen=True):
    """``POST /v1/rollback``: without ``kind`` the last transaction, as a whole."""

    kind: str | None = None
    revision: str | None = None


class PromoteRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/promote``: what is on probation has stood it."""


class BlockersRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``POST /v1/blockers``, one of the three; ``nudge`` is an id or ``all``, ``cancel`` an id."""

    nudge: str | None = None
    cancel: str | None = None
    abort: bool = False


class CertificatesRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/certificates``: read the files again."""
