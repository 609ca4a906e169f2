"""``python -m netswap.worker --slot N --control FD --mesh FD``: started by the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import Callable

from netswap.logs import configure_from
from netswap.worker.kinship import end_with_parent
from netswap.worker.process import Worker


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 - only where it is asked for

    return uvloop.new_event_loop


def main() -> None:
    """Run one worker until its supervisor ends it."""
    parser = argparse.ArgumentParser(prog="netswap.worker")
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--mesh", type=int, required=True)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    arguments = parser.parse_args()
    end_with_parent()
    configure_from(os.environ)
    # The supervisor gets the terminal's signals too and decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=arguments.control)
    mesh = socket.socket(fileno=arguments.mesh)

    async def serve() -> None:
        worker = Worker(arguments.slot, asyncio.get_running_loop())
        await worker.run(control, mesh)

    with asyncio.Runner(loop_factory=_loop_factory(arguments.loop)) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
