"""The bodies of the POST requests, as JSON; bytes are base64."""

from __future__ import annotations

import msgspec

__all__ = [
    "BODY_LIMIT",
    "BlockersRequest",
    "CertificatesRequest",
    "Choices",
    "PromoteRequest",
    "PushRequest",
    "RollbackRequest",
    "SwapRequest",
]

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of a request's body that the server reads at most."""


class Choices(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all three may be told; ``timeout``, ``watch``, ``by_hand`` and ``shadow`` in seconds."""

    dry_run: bool = False
    timeout: float | None = None
    only: str | None = None
    allow_lossy: bool = False
    canary: str | None = None
    watch: float | None = None
    by_hand: float | None = None
    guard: bool = True
    shadow: float | None = None
    expect_diff: bool = False
    rehearse: bool = True
    allow_stale: bool = False
    atomic: bool = False
    rolling: bool = False


class PushRequest(Choices, kw_only=True):
    """``POST /v1/push``: ``bundles`` are ``Bundle.to_message()``."""

    bundles: list[bytes]


class SwapRequest(Choices, kw_only=True):
    """``POST /v1/swap``: ``revision`` is a number or the start of a hash."""

    kind: str
    revision: str


class RollbackRequest(Choices, kw_only=True):
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
