"""What a worker could not do itself is not put down to the module."""

from __future__ import annotations

import errno

import pytest

from netswap.worker.unable import unable


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (MemoryError(), "MemoryError: memory ran out"),
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread"),
    ],
)
def test_a_machine_that_is_short_of_something_is_to_be_seen_to(error: Exception, what: str) -> None:
    """The same push may go in afterwards."""
    refusal = unable(error)
    assert refusal.reason == f"the worker could not prepare it: {what}"
    assert refusal.advice.startswith("see to its memory, descriptors, processes and disk")
    assert (refusal.file, refusal.kind) == (None, None)


@pytest.mark.parametrize("error", [KeyError("kv.store"), RuntimeError("no such state")])
def test_a_fault_of_netswap_is_called_one(error: Exception) -> None:
    """Its author would look in vain for what to mend."""
    refusal = unable(error)
    assert refusal.reason.startswith("netswap failed while it prepared it, and not the module: ")
    assert "report" in refusal.advice
    assert "mend" not in refusal.advice
