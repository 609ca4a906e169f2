"""Processes of our own run the files that netswap and its libraries are made of, and no others.

``python -m`` looks first in the folder where it is started: there somebody's file ``queue.py`` or
``attr.py`` would be imported in the place of Python's own. So our processes look there last, for
what is found nowhere else: modules that lie beside an application.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["look_here_last", "python_module"]


def python_module(name: str) -> list[str]:
    """The words that run a module of netswap's in a process of its own."""
    safely = [] if _here() == str(Path(__file__).parents[1]) else ["-P"]
    return [sys.executable, *safely, "-m", name]


def look_here_last() -> None:
    """From now on modules are found where the process was started, too."""
    here = _here()
    if here and here not in sys.path:
        sys.path.append(here)


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the folder is gone, and with it what was to be found there
        return ""
