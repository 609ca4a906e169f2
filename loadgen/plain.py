"""Words of others as a line that can stand among ours: on a terminal they could draw anything."""

from __future__ import annotations

import re

__all__ = ["plain_words"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


def plain_words(text: str, most: int = 0) -> str:
    """Without escape sequences, control characters and ends of lines; cut behind ``most``
    characters, if that is said.
    """
    shown = (letter if letter.isprintable() else " " for letter in _ESCAPES.sub("", text))
    words = " ".join("".join(shown).split())
    return f"{words[: most - 1]}…" if 0 < most < len(words) else words
