"""How commands end: every failure in the same four parts, and the exit code of its outcome.

::

    netswap: what went wrong
      where:  worker 1, kv.store, v2.py:31
      server: nothing was touched: the old code serves every connection
      next:   mend it, try it with `netswap push --dry-run`, push it again
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import msgspec

from netswap.admin import BadRequest, Interrupted, Unreachable
from netswap.commands.options import Link
from netswap.commands.render import watch
from netswap.errors import AuthorError, CallerError, UsageError
from netswap.outcome import EXIT_CODES, SERVER_STATE, Outcome

__all__ = ["SCHEMA", "end", "fail", "failing", "say", "usage", "write_json"]

SCHEMA = "netswap/1"


def say(text: str, *, err: bool = False) -> None:
    """On stdout, or on stderr; an outcome stands, and is the exit code, also when nobody reads on
    or the disk is full.
    """
    try:
        click.echo(text, err=err)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # else Python says the rest again when it ends
            os.dup2(nowhere.fileno(), (sys.stderr if err else sys.stdout).fileno())
        if not err and not isinstance(error, BrokenPipeError):
            say(f"netswap: the result can't be written: {error.strerror}", err=True)


def write_json(page: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    say(msgspec.json.encode({"schema": SCHEMA, **page}).decode())


def end(outcome: str) -> NoReturn:
    """Exit as the table says."""
    raise click.exceptions.Exit(EXIT_CODES[Outcome(outcome)])


def fail(result: dict[str, Any], as_json: bool) -> NoReturn:
    """Say ``result``, on stdout as JSON or on stderr in words, and exit by its outcome."""
    if as_json:
        write_json(result)
    else:
        say("\n".join(_sentences(result)), err=True)
        if result.get("watch"):
            say(watch(result["watch"]), err=True)
    end(result["outcome"])


def _sentences(result: dict[str, Any]) -> Iterator[str]:
    yield f"netswap: {result['what']}"
    parts = (("where", "where"), ("server", "state"), ("next", "advice"))
    for title, key in parts:
        if result.get(key):
            yield f"  {title + ':':<8}{result[key]}"
    refusals = result.get("refusals", [])
    for detail in {row["detail"]: None for row in refusals if row.get("detail")}:
        yield from ("    " + line for line in detail.splitlines())
    for refusal in refusals[1:]:
        place = refusal.get("file") or ""
        place += f":{refusal['line']}" if refusal.get("line") else ""
        worker = f"worker {refusal['worker']}: " if refusal.get("worker") is not None else ""
        yield f"  also:   {worker}{refusal['reason']}" + (f" ({place})" if place else "")


def _result(outcome: Outcome, what: str, where: str = "", advice: str = "") -> dict[str, Any]:
    state = SERVER_STATE[outcome]
    return {
        "outcome": outcome.value,
        "what": what,
        "where": where,
        "state": state,
        "advice": advice,
    }


def usage(what: str, advice: str) -> dict[str, Any]:
    """The result of a command line that is none."""
    return _result(Outcome.USAGE, what, "", advice)


def _of_unreachable(error: Unreachable) -> dict[str, Any]:
    what = f"no server: {error.reason}"
    return _result(Outcome.UNREACHABLE, what, str(error.path), error.advice)


def _of_interrupted(error: Interrupted) -> dict[str, Any]:
    advice = (
        "`netswap history` says whether it was committed, `netswap status` whether it still runs"
    )
    return _result(Outcome.UNKNOWN, str(error), str(error.path), advice)


def _of_bad_request(error: BadRequest) -> dict[str, Any]:
    result = _result(Outcome.USAGE, error.what, "", error.advice)
    return {**result, "state": "nothing was changed"}


def _of_author(error: AuthorError) -> dict[str, Any]:
    refusal = error.refusal
    return _result(Outcome.REFUSED, refusal.reason, refusal.where, refusal.advice)


def _of_usage(error: UsageError) -> dict[str, Any]:
    return _result(Outcome.USAGE, error.what, error.where, error.advice)


def _of_caller(error: CallerError) -> dict[str, Any]:
    return {**_result(Outcome.USAGE, str(error)), "state": ""}


_READERS: dict[type[Exception], Callable[[Any], dict[str, Any]]] = {
    Unreachable: _of_unreachable,
    Interrupted: _of_interrupted,
    BadRequest: _of_bad_request,
    AuthorError: _of_author,
    UsageError: _of_usage,
    CallerError: _of_caller,
}


@contextmanager
def failing(link: Link, state: str = "") -> Iterator[None]:
    """Turns every error that a command can meet into its ending; ``state``, if that is known."""
    try:
        yield
    except tuple(_READERS) as error:
        reader = next(read for kind, read in _READERS.items() if isinstance(error, kind))
        result = reader(error)
        fail({**result, "state": state or result["state"]}, link.as_json)
