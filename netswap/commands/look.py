"""The looks: one GET each, written as a table or as JSON; acting on blockers is a POST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from netswap.admin import AdminClient
from netswap.commands import render
from netswap.commands.ending import failing
from netswap.commands.options import Link, for_all
from netswap.errors import UsageError

__all__ = [
    "blockers",
    "certificates",
    "history",
    "inspect",
    "objects",
    "status",
    "versions",
    "workers",
]

_shared = for_all("10s", "How long to wait for the server's answer.")


def _look(link: Link, resource: str, text: Callable[[dict[str, Any]], str], **query: str) -> None:
    with failing(link):
        page = AdminClient(link.socket, link.timeout).get(resource, **query)
    if link.as_json:
        import msgspec

        click.echo(msgspec.json.encode(page).decode())
    else:
        click.echo(text(page))
        for line in render.unanswered(page.get("unanswered", ())):
            click.echo(line, err=True)


@click.command()
@_shared
def status(link: Link) -> None:
    """The server at a glance: workers, listeners, and live objects of each kind."""
    _look(link, "status", render.status)


@click.command()
@click.argument("selector", default="")
@_shared
def objects(selector: str, link: Link) -> None:
    """Live objects that SELECTOR matches, as in kind=kv.connection,peer=127.0.0.1,version<2."""
    _look(link, "objects", lambda page: render.objects(page["objects"]), selector=selector)


@click.command()
@click.argument("identity", metavar="ID")
@_shared
def inspect(identity: str, link: Link) -> None:
    """One live object with its state; ID is SLOT.NUMBER, as `netswap objects` lists it."""
    from urllib.parse import quote

    resource = f"inspect/{quote(identity, safe='')}"
    _look(link, resource, lambda page: render.inspection(page["object"]))


@click.command()
@_shared
def versions(link: Link) -> None:
    """Every revision of every kind, how many objects are of it, and what holds old code."""
    _look(link, "versions", _versions)


def _versions(page: dict[str, Any]) -> str:
    old = render.retiring(page["retiring"])
    return "\n\n".join(filter(None, [render.versions(page["versions"]), old]))


@click.command()
@_shared
def workers(link: Link) -> None:
    """The worker processes."""
    _look(link, "workers", lambda page: render.workers(page["workers"]))


@click.command()
@_shared
def history(link: Link) -> None:
    """Transactions, the latest first."""
    _look(link, "history", lambda page: render.history(page["transactions"]))


@click.command()
@click.option("--nudge", metavar="ID|all", help="Ask it to go on to where it may be swapped.")
@click.option("--cancel", metavar="ID", help="End that call, or that session's connection.")
@click.option("--abort", is_flag=True, help="Give up the transaction under way; all goes back.")
@_shared
def blockers(nudge: str | None, cancel: str | None, abort: bool, link: Link) -> None:
    """Suspended calls that a swap would have to wait for, and what can be done about them.

    A swap waits for them until its deadline. A cancelled call raises CallCancelledError where it
    was called; a cancelled session's client gets what was written, and then the end of its
    connection.
    """
    asked = [nudge is not None, cancel is not None, abort]
    if not any(asked):
        _look(link, "blockers", lambda page: render.blockers(page["blockers"]))
        return
    from netswap.admin.requests import BlockersRequest
    from netswap.commands.change import change

    with failing(link):
        if sum(asked) > 1:
            raise UsageError("--nudge, --cancel and --abort are one of three")
    change(link, "blockers", BlockersRequest(nudge=nudge, cancel=cancel, abort=abort))


@click.command()
@click.option("--reload", is_flag=True, help="Read the files again, for new handshakes.")
@_shared
def certificates(reload: bool, link: Link) -> None:
    """The certificates that listeners show, and how many live connections began with each.

    With --reload all workers get the new files, or none does; a problem is told with its file.
    Live sessions go on with what they have. SIGHUP to the supervisor does the same.
    """
    if not reload:
        _look(link, "certificates", lambda page: render.certificates(page["certificates"]))
        return
    from netswap.admin.requests import CertificatesRequest
    from netswap.commands.change import change

    change(link, "certificates", CertificatesRequest())
