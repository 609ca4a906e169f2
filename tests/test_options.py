"""What a push may be told: looked at together, before anything is asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netswap.admin import RollbackRequest
from netswap.errors import UsageError
from netswap.options import Options

CANARY = {"canary": "10%"}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"atomic": True, "rolling": True}, "--atomic and --rolling"),
        ({"atomic": True, **CANARY}, "serves beside the old code"),
        ({"by_hand": 60.0}, "needs a canary"),
        ({"canary": "101%"}, "at most 100%"),
        ({"only": "nonsense"}, "'nonsense' is not a condition"),
        ({"only": ""}, "would be a push of everything"),
        ({"only": " , "}, "would be a push of everything"),
        ({"timeout": 0.0}, "timeout is more than 0"),
        ({"watch": -1.0}, "watch is more than 0"),
        ({"by_hand": 3601.0, **CANARY}, "at most 3600 seconds"),
        ({"shadow": float("nan")}, "shadow is more than 0"),
    ],
)
def test_what_can_not_be_is_refused(told: dict[str, Any], said: str) -> None:
    """With the words of the command line, which the advice is in, too."""
    with pytest.raises(UsageError, match=said):
        Options(**told).check()


@pytest.mark.parametrize(
    "told",
    [{}, {"atomic": True, "watch": 5.0}, {"by_hand": 60.0, **CANARY}, {"rolling": True, **CANARY}],
)
def test_what_goes_together_is_sent_as_it_is(told: dict[str, Any]) -> None:
    """What was not said is not sent: a server of another release has its own mind about that."""
    asked = RollbackRequest(kind="k", **told)
    asked.check()
    assert msgspec.json.decode(msgspec.json.encode(asked)) == {"kind": "k", **told}
