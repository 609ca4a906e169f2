"""Logs: one line an event on stderr, for people at a terminal and as JSON for everything else.

Supervisor and workers call ``configure_logs`` once, before they log. Nothing is logged per request.

structlog is imported here and nowhere else: it would import rich, for the colours of tracebacks,
which is a fifth of a worker's start and five megabytes of it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO, cast


@contextmanager
def _unseen(name: str) -> Iterator[None]:
    """What is imported inside finds no module ``name``, unless somebody has imported that before.

    structlog and its kind then do without; who asks for it afterwards gets it.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # the import system's word for "not there"
    try:
        yield
    finally:
        del sys.modules[name]


with _unseen("rich"):
    import structlog
    from structlog import get_logger
    from structlog.typing import Processor

__all__ = ["configure_from", "configure_logs", "format_for", "get_logger"]


def format_for(wanted: str, chosen: bool) -> str:
    """``wanted`` if the operator has chosen it; else console at a terminal, JSON elsewhere."""
    return wanted if chosen or sys.stderr.isatty() else "json"


def configure_logs(level: str, format_: str) -> None:
    """Send what is at or above ``level`` to stderr, ``format_`` being console or json.

    So goes what ``logging`` is told by a library, or by an application that does not configure it.
    """
    renderers: dict[str, list[Processor]] = {
        "json": [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()],
        "console": [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ],
    }
    told: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    least: int = logging.getLevelName(level.upper())
    # One write a line: all processes share the descriptor, and Python may be unbuffered.
    stream = cast("TextIO", _Lossy(sys.stderr))
    structlog.configure(
        processors=[*told, *renderers[format_]],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Loggers are made at import, before this runs: one that is cached would ignore it.
        cache_logger_on_first_use=False,
    )
    _log_what_others_say(stream, least, told, renderers[format_])


def _log_what_others_say(
    stream: TextIO, least: int, told: list[Processor], renderers: list[Processor]
) -> None:
    """By the handler that ``logging`` falls back on: who configures it has it as configured."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(max(least, logging.WARNING))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*told, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.lastResort = handler


class _Lossy:
    """A stream whose reader may go, as when a pipe's other end dies: what is written is lost.

    A server goes on without its log; an exception here would end whatever wanted to say something.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_from(environ: Mapping[str, str] = os.environ) -> None:
    """As a worker does: the supervisor says how by ``NETSWAP_LOG_LEVEL`` and ``_FORMAT``."""
    level = environ.get("NETSWAP_LOG_LEVEL", "info")
    configure_logs(level, environ.get("NETSWAP_LOG_FORMAT", "json"))
