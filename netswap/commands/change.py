"""push, swap and rollback: a POST whose answer is a stream of progress and one result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from netswap.admin import AdminClient, PushRequest, RollbackRequest, SwapRequest
from netswap.admin.requests import Choices
from netswap.commands import render
from netswap.commands.ending import fail, failing, write_json
from netswap.commands.options import Link, for_all
from netswap.errors import UsageError
from netswap.outcome import Outcome

__all__ = ["push", "rollback", "swap"]

PATIENCE = 30.0
"""Seconds of silence beyond a transaction's own deadline after which its end is unknown."""

Function = Callable[..., Any]


def _choices(function: Function) -> Function:
    """The options that all three share."""
    options = [
        click.option("--dry-run", is_flag=True, help="Prepare in every worker, then stop."),
        click.option("--only", metavar="SELECTOR", help="Swap only the live objects it matches."),
        click.option("--allow-lossy", is_flag=True, help="Allow a step that gives up data."),
    ]
    for option in reversed(options):
        function = option(function)
    return for_all("10s", "Deadline of each phase of the transaction.")(function)


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, readable=True, path_type=Path)
)
@_choices
def push(paths: tuple[Path, ...], link: Link, **choices: Any) -> None:
    """Replace live code by each of PATHS (a file or a folder), all as one transaction.

    Every live object of the changed kinds gets the new code with its state, in every worker, or
    nothing is changed at all.
    """
    with failing(link):
        from netswap.modules import Bundle

        bundles = [Bundle.from_paths([path]).to_message() for path in paths]
    _change(link, "push", PushRequest(bundles=bundles, timeout=link.timeout, **choices))


@click.command()
@click.argument("target", metavar="KIND@REV")
@_choices
def swap(target: str, link: Link, **choices: Any) -> None:
    """Bring a revision of KIND that the server already has; REV is a number or part of a hash."""
    kind, at, revision = target.rpartition("@")
    with failing(link):
        if not (at and kind and revision):
            raise UsageError(f"{target!r} is not KIND@REV", "", "`netswap versions` lists both")
    request = SwapRequest(kind=kind, revision=revision, timeout=link.timeout, **choices)
    _change(link, "swap", request)


@click.command()
@click.argument("kind", required=False)
@click.option("--to", "revision", metavar="REV", help="Go to this revision of KIND.")
@_choices
def rollback(kind: str | None, revision: str | None, link: Link, **choices: Any) -> None:
    """Undo the last transaction as a whole, or the last change of KIND."""
    with failing(link):
        if revision is not None and kind is None:
            raise UsageError("--to needs a KIND", "", "netswap rollback KIND --to REV")
    request = RollbackRequest(kind=kind, revision=revision, timeout=link.timeout, **choices)
    _change(link, "rollback", request)


def _change(link: Link, resource: str, request: Choices) -> None:
    client = AdminClient(link.socket, link.timeout + PATIENCE)
    result: dict[str, Any] = {}
    with failing(link):
        for line in client.post(resource, request):
            if "outcome" in line:
                result = line
            else:
                _show(line)
    if result["outcome"] != Outcome.DONE:
        fail(result, link.as_json)
    elif link.as_json:
        write_json(result)
    else:
        click.echo(render.receipt(result))


def _show(line: dict[str, Any]) -> None:
    worker = line.get("worker")
    place = "" if worker is None else f"worker {worker}: "
    click.echo(f"  {place}{line['text']}", err=True)
