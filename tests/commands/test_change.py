"""A change is waited for as long as a worker may be silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netswap.admin import PushRequest
from netswap.commands import change as commands
from netswap.commands.options import Link

RESULT = {
    "outcome": "done", "what": "done", "verdicts": [], "changes": [], "receipt": None,
    "only": None, "undo": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("shadow", "silent"),
    [(None, 60.0), (3.0, 60.0 + 3.0 + 60.0)],
)
def test_a_shadow_run_takes_its_recording_and_a_second_time_out(
    shadow: float | None, silent: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsal has the time-out, and so has the play in the child behind it."""
    waits = []

    class Client:
        def __init__(self, _path: Path, timeout: float) -> None:
            waits.append(timeout)

        def post(self, _resource: str, _request: Any) -> list[dict[str, Any]]:
            return [RESULT]

    monkeypatch.setattr(commands, "AdminClient", Client)
    link = Link(tmp_path / "s", 60.0, as_json=True)
    commands.change(link, "push", PushRequest(bundles=[], shadow=shadow))
    assert waits == [silent + commands.PATIENCE]
