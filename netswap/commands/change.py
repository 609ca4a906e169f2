"""push, swap, rollback and promote: a POST whose answer is a stream of progress and one result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from netswap.admin import (
    AdminClient,
    Interrupted,
    PromoteRequest,
    PushRequest,
    RollbackRequest,
    SwapRequest,
)
from netswap.commands import render
from netswap.commands.ending import fail, failing, say, write_json
from netswap.commands.options import SECONDS, Link, for_all
from netswap.errors import UsageError
from netswap.options import Options
from netswap.outcome import Outcome

__all__ = ["change", "promote", "push", "rollback", "swap"]

PATIENCE = 30.0
"""Seconds of silence beyond a transaction's own deadlines after which its end is unknown."""

Function = Callable[..., Any]


def _choices(function: Function) -> Function:
    """The options that all three share."""
    options = [
        click.option("--dry-run", is_flag=True, help="Prepare in every worker, then stop."),
        click.option("--only", metavar="SELECTOR", help="Swap only the live objects it matches."),
        click.option("--allow-lossy", is_flag=True, help="Allow a step that gives up data."),
        click.option("--shadow", type=SECONDS, help="Record so long, ask old and new, compare."),
        click.option("--expect-diff", is_flag=True, help="Old and new may answer otherwise."),
        click.option(
            "--rehearsal/--no-rehearsal",
            "rehearse",
            default=True,
            help="Try every live object in a forked child, or a sample without a fork.",
        ),
        click.option(
            "--allow-stale", is_flag=True, help="Go on with libraries that have changed on disk."
        ),
        click.option("--canary", metavar="PART", help="First 10%, worker=0 or a SELECTOR alone."),
        click.option("--watch", type=SECONDS, help="How long to watch it before it is committed."),
        click.option("--by-hand", type=SECONDS, help="A canary waits so long for a promote."),
        click.option(
            "--guard/--no-guard",
            default=True,
            help="While it is watched, a call that fails is answered by the old code.",
        ),
        click.option(
            "--atomic", is_flag=True, help="Serve nothing until every worker has swapped."
        ),
        click.option(
            "--rolling",
            is_flag=True,
            help="Serve on, also while parts of a clustered kind are of two versions.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return for_all("10s", "For all of it; a watch or a shadow run has its own time.")(function)


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, readable=True, path_type=Path)
)
@click.option("--app", "named", default="", metavar="MODULE:NAME", help="Where an application is.")
@_choices
def push(paths: tuple[Path, ...], named: str, link: Link, **choices: Any) -> None:
    """Replace live code by each of PATHS (a file or a folder), all as one transaction.

    Every live object of the changed kinds gets the new code with its state, in every worker, or
    nothing is changed at all. A file or folder with an aiohttp or ASGI application, or a function
    app(request), becomes http.app.
    """
    with failing(link):
        if named and len(paths) > 1:
            raise UsageError("--app is about one PATH", "", "push the others by themselves")
        from netswap.modules.application import bundle_of

        bundles = [bundle_of(path, named).to_message() for path in paths]
    change(link, "push", PushRequest(bundles=bundles, timeout=link.timeout, **choices))


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
    change(link, "swap", request)


@click.command()
@click.argument("kind", required=False)
@click.option("--to", "revision", metavar="REV", help="Go to this revision of KIND.")
@_choices
def rollback(kind: str | None, revision: str | None, link: Link, **choices: Any) -> None:
    """Undo the last transaction as a whole, or the last change of KIND.

    While something is on probation, that is taken back instead.
    """
    with failing(link):
        if revision is not None and kind is None:
            raise UsageError("--to needs a KIND", "", "netswap rollback KIND --to REV")
    request = RollbackRequest(kind=kind, revision=revision, timeout=link.timeout, **choices)
    change(link, "rollback", request)


@click.command()
@for_all("10s", "How long to wait for a line of the server, beyond half a minute.")
def promote(link: Link) -> None:
    """Commit what is on probation without waiting any longer: all of it gets the new code."""
    change(link, "promote", PromoteRequest())


def change(link: Link, resource: str, request: msgspec.Struct) -> None:
    """Post ``request``, show the lines of its progress, and end as its result says."""
    shadow = getattr(request, "shadow", None) or 0.0
    played = shadow + link.timeout if shadow else 0.0
    client = AdminClient(link.socket, link.timeout + played + PATIENCE)
    result: dict[str, Any] = {}
    with failing(link):
        if isinstance(request, Options):
            request.check()
        try:
            for line in client.post(resource, request):
                if "outcome" in line:
                    result = line
                else:
                    _show(line)
        except KeyboardInterrupt:
            raise Interrupted(link.socket, "nobody waits for it now, and it goes on") from None
    if result["outcome"] != Outcome.DONE:
        fail(result, link.as_json)
    elif link.as_json:
        write_json(result)
    else:
        say(render.receipt(result))


def _show(line: dict[str, Any]) -> None:
    worker = line.get("worker")
    place = "" if worker is None else f"worker {worker}: "
    say(f"  {place}{line['text']}", err=True)
