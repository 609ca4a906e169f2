"""The command line: which command lives where. Commands are in ``netswap.commands``.

A command's module is imported when it is asked for, so that a look does not pay for the server.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("serve", "serve", "Run a server in the foreground."),
    "push": ("change", "push", "Replace live code by one or more files or folders."),
    "check": ("check", "check", "Load and compare modules, with no server."),
    "status": ("look", "status", "The server at a glance."),
    "objects": ("look", "objects", "Live objects, by a selector."),
    "inspect": ("look", "inspect", "One live object with its state."),
    "versions": ("look", "versions", "Revisions of each kind."),
    "workers": ("look", "workers", "The worker processes."),
    "history": ("look", "history", "Transactions, the latest first."),
    "blockers": ("look", "blockers", "Suspended calls that a swap waits for; nudge, cancel."),
    "certificates": ("look", "certificates", "Certificates of listeners; read them again."),
    "swap": ("change", "swap", "Bring back a revision: KIND@REV."),
    "rollback": ("change", "rollback", "Undo the last transaction, or the last of a KIND."),
    "promote": ("change", "promote", "Commit what is on probation, now."),
    "load": ("others", "load", "Load a server and check every reply."),
    "demo": ("others", "demo", "The whole story in a minute."),
}
"""Command to module within ``netswap.commands``, name there, and the line that help shows."""


_INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Lazy(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(f"netswap.commands.{module}"), name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but that an interrupt (Ctrl-C) has an exit code of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """As click's, but that with ``--json`` a wrong command line is one JSON object, too."""
        words = list(sys.argv[1:] if args is None else args)
        if "--json" not in words:
            return super().main(words, *rest, **options)
        try:
            code = super().main(words, *rest, **{**options, "standalone_mode": False})
        except click.UsageError as error:
            _say_usage(error)
        except click.Abort:
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: help must not import every command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


def _say_usage(error: click.UsageError) -> NoReturn:
    error.show()  # on stderr, in words, as without --json
    ending = importlib.import_module("netswap.commands.ending")
    path = error.ctx.command_path if error.ctx is not None else "netswap"
    ending.write_json(ending.usage(error.format_message(), f"`{path} --help` says what it takes"))
    sys.exit(error.exit_code)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="netswap", prog_name="netswap")
def root() -> None:
    """A server whose network stack is replaced while it carries traffic."""


def main(arguments: list[str] | None = None) -> None:
    """The entry point; exits with the codes of ``netswap.outcome``."""
    try:
        root.main(arguments, prog_name="netswap")
    except BrokenPipeError:
        # `netswap objects | head`: whoever reads has seen enough.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        with open(os.devnull, "wb") as nowhere:  # else Python says the rest again when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        click.echo(f"netswap: the result can't be written: {error.strerror}", err=True)
        sys.exit(1)
