"""Commands that belong to other programs and rooms: the load generator and the demonstration."""

from __future__ import annotations

import importlib

import click

__all__ = ["demo", "load"]


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def load(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Pass everything to the load generator, as `python -m loadgen` does."""
    from loadgen.cli import main

    context.exit(main(list(arguments), prog_name="netswap load"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def demo(context: click.Context, as_json: bool) -> None:
    """Serve, load, push in the middle of traffic, roll back, and say what happened."""
    demonstration = importlib.import_module("netswap.demo")
    context.exit(demonstration.main(["--json"] if as_json else []))
