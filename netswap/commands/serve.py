"""serve: run a server in the foreground, from its configuration to its last drained connection."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from netswap.admin.socket import AdminSocketError
from netswap.commands.ending import fail, failing, write_json
from netswap.commands.options import Link
from netswap.commands.reload import reloading
from netswap.config import SETTINGS, Config, check, flag, is_switch, load_config
from netswap.errors import NetswapError, UsageError
from netswap.logs import configure_logs, format_for, get_logger
from netswap.outcome import Outcome
from netswap.supervisor import Supervisor
from netswap.supervisor.certificates import check_files
from netswap.tls import unread_authorities

with unread_authorities():  # aiohttp's client would trust them; nothing here is one
    from netswap.admin.server import AdminServer

__all__ = ["serve"]

log = get_logger("netswap.serve")

_NOT_STARTED = "none was started"
_MORE_FILES: Final = (
    "allow more open files (ulimit -n, LimitNOFILE= of a unit), or start fewer --workers"
)
_OF_THE_SYSTEM: Final = {
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.ENOSPC: "make room on that disk, or give another --state-dir",
    errno.EROFS: "give a --state-dir that can be written",
    errno.ENOENT: "give a --state-dir that can be made",
}
"""What to do about an error of the system at a start."""
_SEVERAL = ("listen", "load", "proxy", "static", "tls")
_KEYS = {key.replace(".", "_"): key for key in SETTINGS}

Function = Callable[..., Any]


def _settings(function: Function) -> Function:
    """One flag for each row of the configuration's table."""
    for key, setting in reversed(SETTINGS.items()):
        if setting.read is is_switch:
            option = click.option(flag(key), is_flag=True, default=None, help=setting.meaning)
        else:
            several = key in _SEVERAL
            option = click.option(flag(key), multiple=several, help=setting.meaning)
        function = option(function)
    return function


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file.")
@click.option("--check", "check_only", is_flag=True, help="Read the configuration, then stop.")
@click.option("--json", "as_json", is_flag=True, help="Say that it is ready as JSON.")
@_settings
def serve(file: Path | None, check_only: bool, as_json: bool, **flags: Any) -> None:
    """Run a server in the foreground; without a configuration, the bundled protocols on loopback.

    With --app an aiohttp or ASGI application, or a function of the request, on 127.0.0.1:8080; with
    --static the files of a folder.

    TERM and INT drain the connections within a limit; a second one ends it at once. So does HUP
    where there are no certificates that it could read again.
    """
    link = Link(Path(), 0, as_json)
    given = {_KEYS[name]: _plain(value) for name, value in flags.items()}
    if check_only:
        _check(given, file, link)
        return
    with failing(link, _NOT_STARTED):
        config = load_config(given, file)
    chosen = config.origins.get("log.format", "default") != "default"
    format_ = format_for(config.log_format, chosen)
    configure_logs(config.log_level, format_)
    # the workers write into the same log
    config = msgspec.structs.replace(config, log_format=format_)
    try:
        asyncio.run(_Serving(config, as_json).run())
    except UsageError as error:
        with failing(link, _NOT_STARTED):
            raise error from None
    except NetswapError as error:
        click.echo(f"netswap: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(_ended_by_the_system(error), err=True)
        sys.exit(1)


def _ended_by_the_system(error: OSError) -> str:
    """What the system refused, of what, and what may help."""
    place = f"\n  where:  {error.filename}" if error.filename else ""
    advice = _OF_THE_SYSTEM.get(error.errno or 0, "`netswap serve --check` reads the configuration")
    what = error.strerror or str(error)
    return f"netswap: {what}{place}\n  server: it does not run\n  next:   {advice}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check(given: dict[str, Any], file: Path | None, link: Link) -> None:
    found = check(given, file)
    problems = list(found.problems) if found.config is None else check_files(found.config)
    if problems:
        first = problems[0]
        refusals = [{"reason": str(problem)} for problem in problems]
        fail(
            {
                "outcome": Outcome.USAGE.value,
                "what": first.what,
                "where": first.where,
                "advice": first.advice,
                "refusals": refusals,
            },
            link.as_json,
        )
    if link.as_json:
        write_json({"outcome": Outcome.DONE.value})
    else:
        click.echo("ok: the configuration can be used")


def _on_other_signal(number: signal.Signals) -> None:
    advice = "netswap push replaces code, TERM ends the server"
    log.warning("a signal that means nothing here", signal=number.name, advice=advice)


class _Serving:
    """One server's life, ruled by signals."""

    def __init__(self, config: Config, as_json: bool) -> None:
        self._config = config
        self._as_json = as_json
        self._signals = 0
        self._first = asyncio.Event()
        self._second = asyncio.Event()

    async def run(self) -> None:
        """Start, say so, wait for a signal, stop."""
        loop = asyncio.get_running_loop()
        hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # not under nohup
        for number in (signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hangs_up):
            loop.add_signal_handler(number, self._on_signal)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # others open logs or upgrade by them
            loop.add_signal_handler(number, _on_other_signal, number)
        supervisor = Supervisor(self._config)
        admin = AdminServer(supervisor, self._config.socket)
        try:
            address = await self._start_admin(admin)
            if await self._unless(self._first, supervisor.start()):
                self._reload_on_hangup(supervisor)
                self._say_ready(supervisor, address)
                async with reloading(supervisor):
                    await self._first.wait()
                log.info("draining", limit_s=self._config.drain)
                await self._unless(self._second, supervisor.stop())
        finally:
            await supervisor.abandon()
            await admin.close()

    def _reload_on_hangup(self, supervisor: Supervisor) -> None:
        """Of a server with certificates; any other ends with its terminal, in order."""
        if not supervisor.certificates.force:
            return
        reloads: set[asyncio.Task[Any]] = set()

        def on_hangup() -> None:
            task = asyncio.ensure_future(supervisor.reload_certificates())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)

    def _on_signal(self) -> None:
        self._signals += 1
        (self._first if self._signals == 1 else self._second).set()

    async def _start_admin(self, admin: AdminServer) -> str:
        try:
            await admin.start()
        except AdminSocketError as error:
            if self._config.origins.get("socket", "default") != "default" or not error.unwritable:
                raise
            log.warning("the server can't be administered", reason=str(error))
            return "none"
        return str(admin.path)

    async def _unless(self, event: asyncio.Event, work: Any) -> bool:
        """Whether ``work`` ended before ``event``, which cancels it."""
        task = asyncio.ensure_future(work)
        alarm = asyncio.ensure_future(event.wait())
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        alarm.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False

    def _say_ready(self, supervisor: Supervisor, address: str) -> None:
        if self._as_json:
            listeners = {one.name: str(one.address) for one in supervisor.listeners.all}
            write_json({"ready": True, "listeners": listeners, "admin": address})
        else:
            click.echo(supervisor.ready_line(address))
        sys.stdout.flush()
