"""``python -m netswap.worker --slot N --control FD --mesh FD --frames FD``.

Started by the supervisor, which asks by SIGURG where a worker is that says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import signal
import socket
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from netswap.interpreter import look_here_last
from netswap.logs import configure_from
from netswap.worker.kinship import end_with_parent
from netswap.worker.process import Worker


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's own ends for a SystemExit out of any callback, and with it all other clients.

    Here it costs what any other exception costs: the connection that raised it.
    """

    def _run_once(self) -> None:
        try:
            super()._run_once()  # type: ignore[misc]  # private, and there is no other way in
        except (SystemExit, KeyboardInterrupt) as error:  # no signal raises the latter in a worker
            what = "a callback wanted to end the worker"
            for frame, _ in traceback.walk_tb(error.__traceback__):
                transport: Any = frame.f_locals.get("self")
                if isinstance(transport, asyncio.Transport):
                    transport._fatal_error(error, what)  # type: ignore[attr-defined]  # as above
                    return
            self.call_exception_handler({"message": what, "exception": error})


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return _Loop
    import uvloop  # noqa: PLC0415 - only where it is asked for

    return uvloop.new_event_loop


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, whatever a task of an author's does to the loop.

    It may stop the loop, or want to end the process, which all other clients would pay for.
    """
    task = loop.create_task(work)
    asyncio.tasks._unregister_task(task)  # who cancels all there are means others
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (RuntimeError, SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            what = "a task wanted to end the worker, or has stopped its loop"
            loop.call_exception_handler({"message": what, "exception": error})


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What ends no worker: the supervisor gets the terminal's too, and decides when one ends. The last
two mean nothing here.
"""


def main() -> None:
    """Run one worker until its supervisor ends it."""
    parser = argparse.ArgumentParser(prog="netswap.worker")
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--mesh", type=int, required=True)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    arguments = parser.parse_args()
    end_with_parent()
    look_here_last()
    configure_from(os.environ)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if arguments.frames is not None:
        faulthandler.register(signal.SIGURG, arguments.frames, all_threads=False)
        os.set_inheritable(arguments.frames, False)
    control = socket.socket(fileno=arguments.control)
    mesh = socket.socket(fileno=arguments.mesh)

    async def serve() -> None:
        worker = Worker(arguments.slot, asyncio.get_running_loop())
        await worker.run(control, mesh)

    with asyncio.Runner(loop_factory=_loop_factory(arguments.loop)) as runner:
        _run(runner.get_loop(), serve())


if __name__ == "__main__":
    main()
