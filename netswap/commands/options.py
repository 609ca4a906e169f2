"""Options that every command takes, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from netswap.duration import read_seconds
from netswap.errors import UsageError
from netswap.places import find_socket

__all__ = ["SECONDS", "Link", "for_all", "socket_path"]

Function = Callable[..., Any]


class Seconds(click.ParamType[float]):
    """A duration: ``10``, ``10s``, ``500ms``, ``2m``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = read_seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= 3600:
            self.fail(f"{value!r} is not more than 0 and at most an hour", param, ctx)
        return seconds


SECONDS = Seconds()


class Link:
    """How a command reaches its server and how it writes."""

    def __init__(self, socket: Path, timeout: float, as_json: bool) -> None:
        self.socket = socket
        self.timeout = timeout
        self.as_json = as_json


def for_all(timeout: str, meaning: str) -> Callable[[Function], Function]:
    """``--json``, ``--socket`` and ``--timeout``, handed to the command as one ``link``."""

    def decorate(function: Function) -> Function:
        def command(
            *args: Any, socket: Path | None, timeout: float, as_json: bool, **kwargs: Any
        ) -> Any:
            link = Link(socket_path(socket), timeout, as_json)
            return function(*args, link=link, **kwargs)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]  # where click keeps the options below this one
        for option in reversed(_shared(timeout, meaning)):
            option(command)
        return command

    return decorate


def _shared(timeout: str, meaning: str) -> list[Callable[[Function], Function]]:
    path = click.Path(path_type=Path, dir_okay=False)
    return [
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
        click.option("--socket", type=path, help="The server's administration socket."),
        click.option("--timeout", type=SECONDS, default=timeout, show_default=True, help=meaning),
    ]


def socket_path(given: Path | None) -> Path:
    """The socket that was named, else where a server of this user or machine has it."""
    try:
        return given if given is not None else find_socket()
    except UsageError as error:
        raise click.UsageError(str(error)) from error
