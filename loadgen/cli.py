"""The command: ``python -m loadgen``, and ``netswap load``."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from loadgen.conductor import Observation, conduct
from loadgen.dialects import DIALECTS
from loadgen.events import push_command
from loadgen.findings import Report, build_report
from loadgen.findings.hdr import log_lines
from loadgen.judging import USAGE, Verdict, judge, parse_threshold
from loadgen.lines import SCENARIOS, complete, without_effect
from loadgen.output.comparison import (
    Limit,
    compare,
    comparison_json,
    parse_limit,
    render_comparison,
)
from loadgen.output.live import watching
from loadgen.output.page import render_page
from loadgen.output.picture import draw_picture
from loadgen.output.result import build_result, json_schema, read_result
from loadgen.output.sparkline import event_lines
from loadgen.output.summary import render
from loadgen.parameters import (
    DURATION,
    NUMBER,
    OUTPUT,
    PROTOCOL,
    SECONDS,
    TEXT,
    URL,
    Parsed,
)
from loadgen.plan import (
    PORTS,
    Event,
    Plan,
    PlanError,
    every,
    parse_command,
    parse_event,
    parse_host,
    parse_rates,
    parse_target,
)

__all__ = ["main"]

_INTERRUPTED = 130
_INTERRUPTED_WORDS = (
    "interrupted: nothing is proved, no file is written; TERM ends a run in order, with its report"
)


class _Interruptible(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but that an interrupt has an exit code of its own, whenever it comes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(_INTERRUPTED_WORDS, err=True)
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Interruptible, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Load a server and prove what it does to its clients."""


@main.command()
@click.option(
    "--protocol", type=PROTOCOL, required=True,
    help=f"{', '.join(sorted(DIALECTS))}, or a class of one's own as MODULE:NAME.",
)  # fmt: skip
@click.option(
    "--scenario", type=click.Choice(sorted(SCENARIOS)),
    help="How the connections behave; default: steady with a rate, closed without.",
)  # fmt: skip
@click.option("--connections", type=click.IntRange(min=1), help="At once; default: 50, bulk 8.")
@click.option(
    "--rate",
    type=NUMBER,
    help="Operations a second over all connections; without it, as fast as it goes.",
)
@click.option(
    "--rates", type=Parsed("rates", parse_rates), default="", metavar="RATE,RATE,...",
    help="The corners of a ramp, or the levels of steps.",
)  # fmt: skip
@click.option(
    "--requests", type=click.IntRange(min=1), default=10, show_default=True,
    help="Churn: operations of a connection before another one takes its place.",
)  # fmt: skip
@click.option(
    "--hold", type=DURATION, default="1s", show_default=True,
    help="How long slow, bulk and timer hold back.",
)  # fmt: skip
@click.option(
    "--url", type=URL, default="/echo", show_default=True,
    help="What http posts to.",
)  # fmt: skip
@click.option("--duration", type=DURATION, default="10s", show_default=True, help="500ms, 10s, 2m.")
@click.option("--host", type=Parsed("host", parse_host), default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Default: {', '.join(f'{name} {port}' for name, port in PORTS.items())}.",
)
@click.option(
    "--target", type=Parsed("host:port", parse_target),
    help="Instead of host and port: HOST:PORT or unix:PATH.",
)  # fmt: skip
@click.option("--tls", is_flag=True, help="Over TLS; the certificate has to be of the host.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False),
    help="PEM file of whom to trust, for --tls; default: the system's.",
)  # fmt: skip
@click.option(
    "--server-name", type=Parsed("name", parse_host),
    help="Whose certificate it has to be, and the name that is asked for (SNI); default: the host.",
)  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--payload", type=click.IntRange(0, 1 << 24),
    help="Bytes an operation; default: 32, bulk 60,000.",
)  # fmt: skip
@click.option(
    "--depth", type=click.IntRange(min=1),
    help="Closed loop: operations open at once on a connection; default: 1, pipeline 16, bulk 128.",
)  # fmt: skip
@click.option(
    "--push-at", "pushes", multiple=True, metavar="TIME=PATH",
    type=Parsed("time=path", lambda text: parse_event("push", text)),
    help="Push PATH at this time of the run; may be repeated.",
)  # fmt: skip
@click.option(
    "--run-at", "runs", multiple=True, metavar="TIME=COMMAND",
    type=Parsed("time=command", lambda text: parse_event("run", text)),
    help="Run a command (no shell) at this time; may be repeated.",
)  # fmt: skip
@click.option(
    "--every", type=DURATION, metavar="PERIOD",
    help="Do what --push and --run name, in turn, each period until the end.",
)  # fmt: skip
@click.option(
    "--push", "row_pushes", multiple=True, type=TEXT, metavar="PATH",
    help="A push of --every's row.",
)  # fmt: skip
@click.option(
    "--run", "row_runs", multiple=True, metavar="COMMAND",
    type=Parsed("command", parse_command),
    help="A command (no shell) of --every's row, after its pushes.",
)  # fmt: skip
@click.option(
    "--netswap", "pusher", type=Parsed("command", parse_command), metavar="COMMAND",
    help="The netswap command of --push-at and --push.",
)  # fmt: skip
@click.option(
    "--socket", type=TEXT, metavar="PATH",
    help="The server's admin socket, for --push-at and --push.",
)  # fmt: skip
@click.option(
    "--fail-on", "thresholds", multiple=True, metavar="EXPRESSION",
    type=Parsed("threshold", parse_threshold),
    help="Exit 11 when it is true: 'p99>5ms', 'rate<10000', 'events_failed>0'.",
)  # fmt: skip
@click.option(
    "--settle", type=DURATION, default="500ms", show_default=True,
    help="How long an event's window goes on after its end, and after the last drop or answer of "
    "old code that follows it.",
)  # fmt: skip
@click.option(
    "--grace", type=DURATION, default="2s", show_default=True,
    help="After the end, how long an answer may still come before it is lost.",
)  # fmt: skip
@click.option(
    "--timeout", type=SECONDS, default="10s", show_default=True,
    help="Longest time for one connect, and for an event after the end.",
)  # fmt: skip
@click.option(
    "--progress", "watched", type=click.Choice(["auto", "live", "lines", "off"]), default="auto",
    show_default=True, help="Auto: a live view at a terminal, some lines elsewhere.",
)  # fmt: skip
@click.option(
    "--report", "page", type=OUTPUT,
    help="Write the report as a page here: one file, which opens offline.",
)  # fmt: skip
@click.option(
    "--save", "saved", type=OUTPUT,
    help="Keep what --json prints in this file, for compare.",
)  # fmt: skip
@click.option(
    "--hdr", type=OUTPUT,
    help="Write the latencies as an HdrHistogram log, a histogram a second.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the summary.")
@click.pass_context
def run(context: click.Context, /, **asked: Any) -> None:
    """Run operations over many connections and judge every answer. SIGTERM ends the run in order.

    Exit codes: 0 pass; 2 usage; 10 correctness violated; 11 a threshold missed; 12 invalid run (the
    generator was saturated, or nothing was answered); 13 a push failed.
    """
    pushing = push_command(asked["pusher"], asked["socket"])
    _check_outputs(asked)
    try:
        plan = _plan(asked)
        _check_effects(context, plan)
        with watching(plan, asked["watched"], sys.stderr or io.StringIO()) as tell:
            seen = asyncio.run(conduct(plan, pushing, tell))
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    except asyncio.CancelledError as error:  # TERM before all had connected
        raise KeyboardInterrupt from error
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the run is over: what it was is still told
    report = build_report(seen)
    verdict = judge(report, asked["thresholds"])
    if asked["as_json"]:
        said = _say(json.dumps(build_result(seen, report, verdict)))
    else:
        said = _say(render(report, verdict, event_lines(seen, report)))
    kept = _keep(asked, _Told(seen, report, verdict)) and said
    context.exit(verdict.exit_code if verdict.exit_code or kept else USAGE.exit_code)


def _check_effects(context: click.Context, plan: Plan) -> None:
    """What was given and does nothing would be believed to have done something."""
    source = click.core.ParameterSource.COMMANDLINE
    given = {name for name in context.params if context.get_parameter_source(name) is source}
    if why := next(without_effect(plan, given), None):
        raise click.UsageError(why)


def _check_outputs(asked: dict[str, Any]) -> None:
    """One file each: the last one would be there alone."""
    named = [asked[name].resolve() for name in ("page", "saved", "hdr") if asked[name]]
    for path in named:
        if named.count(path) > 1 and (path.is_file() or not path.exists()):
            raise click.UsageError(
                f"{path} is named twice: --report, --save and --hdr are files of their own"
            )


class _Told(NamedTuple):
    """A run with what is made of it."""

    seen: Observation
    report: Report
    verdict: Verdict


def _say(text: str) -> bool:
    """Whether it could be said; to who has heard enough (``| head``) it need not. The verdict
    stands either way, and so do the files.
    """
    try:
        click.echo(text)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # else Python says the rest again when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return True
        click.echo(f"Error: the result can't be written: {error.strerror}", err=True)
        return False
    return True


def _keep(asked: dict[str, Any], told: _Told) -> bool:
    """Write each file that was asked for, whatever becomes of the others; whether all are there.
    The result is on the screen already, if there is one.
    """
    makers: dict[str, Callable[[], str]] = {
        "page": lambda: render_page(*told),
        "hdr": lambda: _hdr_log(told.seen),
        "saved": lambda: json.dumps(build_result(*told)) + "\n",
    }
    written = [_write(asked[name], make()) for name, make in makers.items() if asked[name]]
    return all(written)


def _write(path: Path, text: str) -> bool:
    """Whether it is written; why it isn't is told."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"Error: {path} can't be written: {error.strerror}", err=True)
        return False
    return True


@main.command(name="compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--fail-on", "limits", multiple=True, metavar="EXPRESSION",
    type=Parsed("limit", parse_limit),
    help="Exit 11 when the ratio of the second to the first is so: 'p99>1.2', 'rate<0.9'.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.pass_context
def compare_runs(
    context: click.Context, first: Path, second: Path, limits: tuple[Limit, ...], as_json: bool
) -> None:
    """Set two runs that were saved with --save side by side: the second to the first.

    Exit codes: 0 comparable, no limit missed; 2 usage; 10 and 13 as the second run's own; 11 a
    limit missed; 12 one of them is invalid, or they asked for different things.
    """
    try:
        comparison = compare(read_result(first), read_result(second), limits)
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    said = _say(comparison_json(comparison) if as_json else render_comparison(comparison))
    code = comparison.verdict.exit_code
    context.exit(code if code or said else USAGE.exit_code)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("--title", default="Latency by time", show_default=True)
@click.option(
    "--out", required=True, type=OUTPUT,
    help="The SVG file to write.",
)  # fmt: skip
@click.pass_context
def picture(context: click.Context, runs: tuple[str, ...], title: str, out: Path) -> None:
    """Draw the time lines of saved runs under each other, on one scale."""
    named = dict(run.split("=", 1) for run in runs if not run.startswith("=") and "=" in run)
    if len(named) < len(runs):
        raise click.UsageError("each run has a name of its own: write before=a.json after=b.json")
    try:
        read = {name: read_result(Path(file)) for name, file in named.items()}
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    context.exit(0 if _write(out, draw_picture(read, title)) else USAGE.exit_code)


@main.command()
@click.pass_context
def schema(context: click.Context) -> None:
    """Print the JSON Schema of what run prints with --json."""
    context.exit(0 if _say(json_schema().rstrip("\n")) else USAGE.exit_code)


def _hdr_log(seen: Observation) -> str:
    start = seen.start or time.monotonic_ns()
    began = time.time() - (time.monotonic_ns() - start) / 1_000_000_000
    return "\n".join(log_lines(seen.samples, start, began)) + "\n"


def _where(asked: dict[str, Any]) -> tuple[str, int, str]:
    """Host, port and path of the target."""
    port = asked["port"] or PORTS.get(asked["protocol"], 0)
    if not port and not asked["target"]:
        raise click.UsageError("a protocol of one's own has no port: write --port or --target")
    target: tuple[str, int, str] = asked["target"] or (asked["host"], port, "")
    return target


def _events(asked: dict[str, Any]) -> tuple[Event, ...]:
    """In the order of their times, all within the run."""
    if not asked["duration"]:
        raise click.UsageError("a run of no duration proves nothing: write --duration 10s")
    events: tuple[Event, ...] = (*asked["pushes"], *asked["runs"], *_row(asked))
    for event in events:
        if event.at_ns >= asked["duration"]:
            words = " ".join(event.words)
            raise click.UsageError(f"{words!r} would happen after the end of the run")
    return tuple(sorted(events, key=lambda event: event.at_ns))


_TAKEN: dict[str, str] = {
    **{name: name for name in ("protocol", "tls", "rate", "rates", "requests", "url")},
    **{f"{name}_ns": name for name in ("duration", "grace", "hold", "settle")},
    "timeout_s": "timeout",
}
"""What of a plan is taken as it was asked for, and the name that the option has."""


def _plan(asked: dict[str, Any]) -> Plan:
    host, port, path = _where(asked)
    connections = asked["connections"] or SCENARIOS[asked["scenario"] or "steady"].connections
    if asked["ca"]:
        _check_trust(asked["ca"], asked["tls"])
    plan = Plan(
        host=host,
        port=port,
        path=path,
        ca=asked["ca"] or "",
        server_name=_server_name(asked),
        connections=connections,
        processes=min(asked["processes"], connections),
        progress=asked["watched"] != "off",
        events=_events(asked),
        scenario=asked["scenario"] or "",
        **{field: asked[name] for field, name in _TAKEN.items()},
    )
    return complete(plan, asked["payload"], asked["depth"])


def _row(asked: dict[str, Any]) -> tuple[Event, ...]:
    pushes = [Event("push", 0, (path,)) for path in asked["row_pushes"]]
    deeds = [*pushes, *(Event("run", 0, words) for words in asked["row_runs"])]
    if (asked["every"] is not None) != bool(deeds):
        raise click.UsageError(
            "--every says when, --run or --push what: write --every 1s --run CMD"
        )
    return every(asked["every"], deeds, asked["duration"]) if deeds else ()


def _server_name(asked: dict[str, Any]) -> str:
    name: str = asked["server_name"] or ""
    if name and not asked["tls"]:
        raise click.UsageError("--server-name says whose certificate it has to be with --tls")
    return name


def _check_trust(file: str, tls: bool) -> None:
    if not tls:
        raise click.UsageError("--ca says whom to trust with --tls")
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:
        raise click.UsageError(f"{file} has no certificates in PEM: {error.reason}") from error
