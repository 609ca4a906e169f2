"""The kinds of parameters that the command line takes: each is read by a function of our own."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loadgen.dialects import dialect
from loadgen.plan import PlanError, parse_duration

__all__ = ["DURATION", "NUMBER", "OUTPUT", "PROTOCOL", "SECONDS", "TEXT", "URL", "Parsed"]


class Parsed(click.ParamType[object]):
    """A parameter read by one of our own functions; what it refuses is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """The parsed value; defaults are parsed already."""
        if not isinstance(value, str):
            return value
        try:
            value.encode()
            return self._parse(value)
        except UnicodeEncodeError:  # what Python could not read it keeps as half characters
            self.fail(f"{value!r} is not UTF-8: write it so, or set PYTHONUTF8=1", param, ctx)
        except PlanError as error:
            self.fail(str(error), param, ctx)


def _parse_protocol(name: str) -> str:
    """Its name, when it can be had; one's own may be beside where the command runs."""
    if ":" in name and "" not in sys.path:
        sys.path.insert(0, "")
    try:
        dialect(name)
    except ValueError as error:
        raise PlanError(str(error)) from error
    return name


def _parse_output(text: str) -> Path:
    """Where a file can be written: known before a run, not after it."""
    path = Path(text)
    if text == "-":
        raise PlanError("- is no file: --json prints the result to standard output")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PlanError(f"{text!r} can't be written: is its folder there?")
    return path


def _parse_seconds(text: str) -> float:
    """A time above 0, in seconds."""
    seconds = parse_duration(text) / 1_000_000_000
    if not seconds:
        raise PlanError(f"{text!r} is no time above 0: write 500ms, 10s or 2m")
    return seconds


def _parse_number(text: str) -> float:
    """A rate: above 0, and finite."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise PlanError(f"{text!r} is no number above 0")
    return number


def _parse_url(url: str) -> str:
    """What can stand in the first line of a request: else it's no server that would be wrong."""
    if not url.startswith("/") or not all("!" <= letter <= "~" for letter in url):
        raise PlanError(f"{url!r} is no path of http: write /path?query, percent-encoded")
    return url


NUMBER = Parsed("number", _parse_number)
DURATION = Parsed("duration", parse_duration)
OUTPUT = Parsed("file", _parse_output)
TEXT = Parsed("text", str)
PROTOCOL = Parsed("protocol", _parse_protocol)
SECONDS = Parsed("duration", _parse_seconds)
URL = Parsed("path", _parse_url)
