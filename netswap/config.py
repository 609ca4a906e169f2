"""What the operator decides, from one place: flag before environment before file before default.

Each setting is one row of ``SETTINGS``: its key in the TOML file, from which its flag
(``--log-level``) and its variable (``NETSWAP_LOG_LEVEL``) follow, how its value is read, and its
default. A setting that stands in several layers is taken whole from the first of them: a
``--listen`` replaces every listener of the file.

A directory that was *asked for* and can't be written is an error, though one that was only assumed
is a warning (``places``): state that silently lands elsewhere is lost state.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from netswap.address import (
    PATH_LIMIT,
    Address,
    AnyAddress,
    UnixAddress,
    listener_name,
    of_listener,
    read_listen,
    read_trusted,
)
from netswap.duration import read_seconds
from netswap.errors import UsageError
from netswap.folders import folders_beside, read_folders
from netswap.places import (
    default_socket,
    find_socket,
    is_writable,
    make_directories,
    socket_below,
    usable_state_dir,
)
from netswap.tls import TLS_PATHS, TlsFiles, read_tls

__all__ = [
    "SETTINGS",
    "Address",
    "AnyAddress",
    "Check",
    "Config",
    "UnixAddress",
    "check",
    "default_socket",
    "find_socket",
    "is_switch",
    "flag",
    "load_config",
    "make_directories",
]

_LOOPBACK = "127.0.0.1:8080"
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one server. Durations are seconds.

    ``origins`` says for each key which layer it came from, and ``warnings`` what the operator
    should be told at start-up.
    """

    workers: int
    state_dir: Path
    socket: Path
    listen: dict[str, tuple[AnyAddress, ...]]
    tls: dict[str, TlsFiles]
    proxy: dict[str, tuple[str, ...]]
    load: tuple[Path, ...]
    app: str
    reload: bool
    static: dict[str, str]
    drain: float
    timeout: float
    loop: str
    log_level: str
    log_format: str
    log_access: str
    log_access_format: str
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


class Check(NamedTuple):
    """What ``check`` found: a configuration (None when there are problems) and every problem."""

    config: Config | None
    problems: tuple[UsageError, ...]


# -- how values are read: each takes what TOML, a flag or a variable gave, or raises ValueError --


def _workers(value: object) -> int:
    if value == "auto":
        return default_workers()
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{value!r} is neither a number of at least 1 nor 'auto'")
    return number


def _some_seconds(value: object) -> float:
    if seconds := read_seconds(value):
        return seconds
    raise ValueError("0 leaves no time at all")


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"{value!r} is not a path")
    return Path(value)


def _paths(value: object) -> tuple[Path, ...]:
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{value!r} is not a list of paths")
    return tuple(_path(part) for part in parts)


def _tls(value: object) -> dict[str, TlsFiles]:
    return read_tls(value, _some_seconds)


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return str(value)

    return read


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _file(value: object) -> str:
    """An absolute path, or "" for none."""
    text = _text(os.fspath(value) if isinstance(value, Path) else value)
    return os.path.abspath(text) if text else ""


def is_switch(value: object) -> bool:
    """Read what is on or off."""
    if isinstance(value, str) and value.lower() in _SWITCH:
        return _SWITCH[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


# -- defaults --


def default_workers() -> int:
    """One worker a core that this process may use, but not more than four."""
    return min(len(os.sched_getaffinity(0)), 4)


class Setting(NamedTuple):
    """One row: how a value is read, the default as the file would say it, and a word on it.

    ``default`` None means that it is found at start-up.
    """

    read: Callable[[Any], object]
    default: object
    meaning: str


SETTINGS: dict[str, Setting] = {
    "workers": Setting(_workers, "auto", "processes that serve; auto: one a core, at most four"),
    "state_dir": Setting(_path, None, "bundles and the journal of what is active"),
    "socket": Setting(_path, None, "the administration socket"),
    "listen": Setting(
        read_listen,
        {
            "echo": "127.0.0.1:7000",
            "chat": "127.0.0.1:7001",
            "kv": "127.0.0.1:6380",
            "verify": "127.0.0.1:7002",
            "http": _LOOPBACK,
        },
        "protocol = address, or a list of addresses",
    ),
    "tls": Setting(_tls, {}, "LISTENER=CERT:KEY, or a table of each listener"),
    "proxy": Setting(read_trusted, {}, "LISTENER=NETWORK that sends PROXY headers, or unix"),
    "load": Setting(_paths, [], "bundles pushed at the first start, before anything is served"),
    "app": Setting(_text, "", "an application to serve on http: MODULE:NAME or PATH:NAME"),
    "reload": Setting(is_switch, False, "push the application's files whenever they change"),
    "static": Setting(read_folders, {}, "a folder whose files are served on http, or NAME=FOLDER"),
    "drain": Setting(read_seconds, 10, "how long TERM waits for connections to end"),
    "timeout": Setting(_some_seconds, 10, "deadline of a push that names none"),
    "loop": Setting(_one_of("uvloop", "asyncio"), "uvloop", "uvloop or asyncio"),
    "log.level": Setting(
        _one_of("debug", "info", "warning", "error"), "info", "debug, info, warning or error"
    ),
    "log.format": Setting(_one_of("console", "json"), "console", "console or json"),
    "log.access": Setting(_file, "", "a file to which each HTTP request is written; none if empty"),
    "log.access_format": Setting(_one_of("combined", "json"), "combined", "combined or json"),
}


_SECTIONS = {key.partition(".")[0] for key in SETTINGS if "." in key}


# -- layers --


class _Given(NamedTuple):
    """A value as a layer gave it."""

    value: object
    origin: str


_Layer = dict[str, _Given]


def variable(key: str) -> str:
    """The environment variable of a key: ``log.level`` is ``NETSWAP_LOG_LEVEL``."""
    return "NETSWAP_" + key.upper().replace(".", "_")


def flag(key: str) -> str:
    """The flag of a key: ``log.level`` is ``--log-level``."""
    return "--" + key.replace(".", "-").replace("_", "-")


def _nearest(word: str, known: list[str], likeness: float = 0.5) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(word, known, 1, likeness)), None)


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    unknown = flags.keys() - SETTINGS.keys()
    assert not unknown, f"not settings: {unknown}"
    given = {key: value for key, value in flags.items() if value not in (None, (), [])}
    return {key: _Given(value, f"flag {flag(key)}") for key, value in given.items()}


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    names = {key: variable(key) for key in SETTINGS}
    return {
        key: _Given(environ[name], f"variable {name}")
        for key, name in names.items()
        if environ.get(name)
    }


def _misspelt_variables(environ: Mapping[str, str]) -> list[str]:
    """Warnings, not errors: Kubernetes sets NETSWAP_PORT and others for a service of that name."""
    known = [*map(variable, SETTINGS), "NETSWAP_CONFIG"]
    strange = sorted(name for name in environ if name.startswith("NETSWAP_") and name not in known)
    near = {name: _nearest(name, known, 0.85) for name in strange}
    return [f"variable {name} is not read; {hit} is" for name, hit in near.items() if hit]


def _from_file(file: Path) -> tuple[_Layer, list[UsageError]]:
    import tomllib

    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        return {}, [UsageError(f"{file} can't be read: {error.strerror}", "", "check --config")]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [UsageError(f"not TOML: {error}", str(file))]
    layer: _Layer = {}
    problems = []
    for key, value in _flat(table).items():
        origin = _place(file, text, key)
        if key in SETTINGS:
            layer[key] = _Given(_beside(file, key, value), origin)
        else:
            problems.append(_unknown_key(key, origin))
    return layer, problems


def _flat(table: dict[str, object], above: str = "") -> dict[str, object]:
    """Dotted keys instead of nested tables, but for a setting that is a table itself."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        key = above + name
        if isinstance(value, dict) and key not in SETTINGS:
            flat |= _flat(value, key + ".") if value or key in _SECTIONS else {key: value}
        else:
            flat[key] = value
    return flat


def _beside(file: Path, key: str, value: object) -> object:
    """Relative paths in a file are relative to the file, wherever the server is started."""
    if SETTINGS[key].read is _tls and isinstance(value, dict):
        return {name: _files_beside(file, table) for name, table in value.items()}
    if SETTINGS[key].read is read_folders:
        return folders_beside(file, value)
    if SETTINGS[key].read in {_path, _file} and isinstance(value, str):
        return file.parent / value if value else value
    if SETTINGS[key].read is _paths and isinstance(value, list):
        return [file.parent / part if isinstance(part, str) and part else part for part in value]
    return value


def _files_beside(file: Path, table: object) -> object:
    if not isinstance(table, dict):
        return table
    paths = {name: value for name, value in table.items() if name in TLS_PATHS and value}
    return table | {name: file.parent / str(value) for name, value in paths.items()}


def _place(file: Path, text: str, key: str) -> str:
    """``file:line`` of a key as far as a look at the text finds it."""
    pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key.rpartition('.')[2])}[\"']?\s*[=.\]]")
    lines = (number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line))
    return f"{file}:{number}" if (number := next(lines, None)) else str(file)


def _unknown_key(key: str, origin: str) -> UsageError:
    nearest = _nearest(key, [*SETTINGS, *_SECTIONS])
    advice = f"did you mean {nearest}?" if nearest else f"known are {', '.join(SETTINGS)}"
    return UsageError(f"unknown key {key}", origin, advice)


# -- all together --


def load_config(
    flags: Mapping[str, object] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration of a server.

    ``flags`` maps keys of ``SETTINGS`` to what the command line gave (None and empty ones are
    not given); ``file`` is ``--config``, else ``$NETSWAP_CONFIG``. Raises UsageError.
    """
    config, problems = check(flags, file, environ)
    if config is not None:
        return config
    first, more = problems[0], len(problems) - 1
    if not more:
        raise first
    rest = f"and {more} more: netswap serve --check lists all"
    advice = f"{first.advice}; {rest}" if first.advice else rest
    raise UsageError(first.what, first.where, advice)


def check(
    flags: Mapping[str, object] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Check:
    """Read everything as ``load_config`` does and collect every problem. Changes nothing."""
    if file is None and environ.get("NETSWAP_CONFIG"):
        file = Path(environ["NETSWAP_CONFIG"])
    from_file, problems = _from_file(file) if file is not None else ({}, [])
    given = from_file | _from_environment(environ) | _from_flags(flags or {})
    values, unreadable = _values(given)
    problems += unreadable
    warnings = _misspelt_variables(environ)
    if not problems:
        _serve_application(values, given)
        warnings += _complete(values, environ)
        problems += _contradictions(values, given)
    if problems:
        return Check(None, tuple(problems))
    fields = {key.replace(".", "_"): value for key, value in values.items()}
    origins = {key: given[key].origin if key in given else "default" for key in SETTINGS}
    return Check(Config(**fields, origins=origins, warnings=tuple(warnings)), ())


def _values(given: _Layer) -> tuple[dict[str, Any], list[UsageError]]:
    """What was given, or the default, as values; keys without either are left out."""
    values: dict[str, Any] = {}
    problems = []
    for key, setting in SETTINGS.items():
        value, origin = given.get(key, _Given(setting.default, "default"))
        if value is None:
            continue
        try:
            values[key] = setting.read(value)
        except (ValueError, TypeError) as error:
            problems.append(UsageError(f"{key}: {error}", origin))
    return values, problems


def _serve_application(values: dict[str, Any], given: _Layer) -> None:
    """Applications and files are served over HTTP, nothing else unless it was asked for."""
    if values["app"] or values["static"]:
        asked = values["listen"] if "listen" in given else {}
        values["listen"] = read_listen({"http": _LOOPBACK}) | asked


def _complete(values: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Find the directories that were not given; return warnings."""
    warning = ""
    if "state_dir" not in values:
        values["state_dir"], warning = usable_state_dir(environ)
    values.setdefault("socket", socket_below(values["state_dir"], environ))
    return [warning] if warning else []


def _listeners(values: Mapping[str, Any]) -> dict[str, tuple[str, AnyAddress]]:
    """Listeners by name: the protocol's, and from its second address on with a number."""
    return {
        listener_name(protocol, number): (protocol, address)
        for protocol, addresses in values["listen"].items()
        for number, address in enumerate(addresses)
    }


def _strange_listeners(values: Mapping[str, Any], given: _Layer) -> list[UsageError]:
    names, problems = list(_listeners(values)), []
    for key in ("tls", "proxy"):
        for name in values[key]:
            if name not in names:
                nearest = _nearest(name, names)
                advice = f"did you mean {nearest}?" if nearest else f"known are {', '.join(names)}"
                what = f"{key}.{name} is no listener"
                problems.append(UsageError(what, given[key].origin, advice))
    return problems


def _trusting_nobody(values: Mapping[str, Any], given: _Layer) -> list[UsageError]:
    """A listener that asks for a header and trusts nobody who could send one."""
    problems = []
    for name, (protocol, address) in _listeners(values).items():
        words = of_listener(values["proxy"], name, protocol)
        unix = isinstance(address, UnixAddress)
        if words is not None and not any((word == "unix") is unix for word in words):
            what = f"proxy.{name} trusts nobody who can connect to {address}"
            advice = "add 'unix'" if unix else "add a network"
            problems.append(UsageError(what, given["proxy"].origin, advice))
    return problems


def _can_be_a_file(path: str) -> bool:
    """Whether it can be written, or made in its folder."""
    there = path if os.path.exists(path) else os.path.dirname(path)
    return not os.path.isdir(path) and os.access(there, os.W_OK)


def _contradictions(values: Mapping[str, Any], given: _Layer) -> list[UsageError]:
    """What is readable and yet can't work."""
    problems = []
    if not is_writable(values["state_dir"]):
        where = given["state_dir"].origin
        advice = "give a directory that the server's user may write"
        problems.append(UsageError(f"{values['state_dir']} can't be written", where, advice))
    if len(os.fsencode(values["socket"])) > PATH_LIMIT:
        what = f"{values['socket']} is longer than a Unix socket's path may be"
        problems.append(UsageError(what, "", f"give a short one with {flag('socket')}"))
    if values["reload"] and not values["app"]:
        advice = f"give {flag('app')} MODULE:NAME"
        problems.append(UsageError("nothing is to be reloaded", given["reload"].origin, advice))
    problems += _strange_listeners(values, given)
    problems += _trusting_nobody(values, given)
    access = values["log.access"]
    if access and not _can_be_a_file(access):
        advice = "name a file in a folder that is there, which the server's user may write"
        where = given["log.access"].origin
        problems.append(UsageError(f"log.access: {access} can't be written", where, advice))
    for path in values["load"]:
        if not os.path.exists(path):
            problems.append(UsageError(f"{path} does not exist", given["load"].origin))
    return problems
