"""check: what can be said of a module without a server, in a child process that may hang or die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from netswap.commands import render
from netswap.commands.ending import fail, failing, write_json
from netswap.commands.options import Link, for_all
from netswap.events import Refusal
from netswap.outcome import Outcome

__all__ = ["check"]


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, readable=True, path_type=Path)
)
@click.option(
    "--against",
    "old",
    multiple=True,
    type=click.Path(exists=True, readable=True, path_type=Path),
    help="A file or folder to compare with, instead of the bundled modules; repeat for several.",
)
@click.option("--app", "named", default="", metavar="MODULE:NAME", help="Where an application is.")
@for_all("10s", "How long loading may take.")
def check(paths: tuple[Path, ...], old: tuple[Path, ...], named: str, link: Link) -> None:
    """Load each of PATHS, compare it with the bundled module of its kind, and try its migrations.

    Needs no server. Exits with 20 when a push would be refused.
    """
    with failing(link):
        from netswap.modules.application import bundle_of
        from netswap.probe import doubled, run_probe
        from netswap.supervisor.firstset import bundled_modules, first_paths

        bundles = [bundle_of(path, named) for path in paths]
        protocols = sorted(path.name for path in bundled_modules().iterdir() if path.is_dir())
        others = old or first_paths(protocols, ())
        known = [bundle_of(path) for path in others]
        probed = run_probe(bundles, known, link.timeout, named=bool(old))
    refusals = [*probed.refusals, *doubled(bundles, probed)]
    if refusals:
        fail(_refused(refusals), link.as_json)
    page = {
        "outcome": Outcome.DONE.value,
        "kinds": {kind: version for row in probed.kinds for kind, version in row.items()},
        "verdicts": msgspec.to_builtins(probed.verdicts),
    }
    if link.as_json:
        write_json(page)
    else:
        click.echo(_text(page))


def _refused(refusals: list[Refusal]) -> dict[str, Any]:
    first = refusals[0]
    return {
        "outcome": Outcome.REFUSED.value,
        "what": first.reason,
        "where": first.where,
        "state": "no server was asked",
        "advice": first.advice or "mend it, check it again",
        "refusals": msgspec.to_builtins(refusals),
    }


def _text(page: dict[str, Any]) -> str:
    lines = ["ok: a server would take it, as far as can be seen without one"]
    lines += [f"  {render.verdict(line)}" for line in page["verdicts"]]
    return "\n".join(lines)
