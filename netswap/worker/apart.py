"""Work in a thread beside the loop: what takes long and would hold every connection, an import.

The interpreter runs one thread at a time; how long the loop waits for its turn is the switch
interval, which is shortened meanwhile. Measured: the first push of a FastAPI application, whose
imports take 0.3 to 1 s of a processor, held the loop for 5 ms at most, and no request of a client
that asked all the time took longer than 9 ms.

A thread can't be ended from outside. At its deadline an exception is raised in it, between two
bytecodes of whatever it runs; one that never comes back from C code is left behind. The time counts
from when the thread is there: in what starts it, on a busy machine, nobody would catch that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from netswap.errors import DeadlinePassed

__all__ = ["apart"]

T = TypeVar("T")

TURN_S = 0.0005
"""Seconds after which the thread gives way to the loop."""

LAST_S = 1.0
"""Seconds that a thread has to end after it was told."""


async def apart(work: Callable[[], T], seconds: float) -> T:
    """What ``work`` gives or raises; DeadlinePassed when it takes longer than ``seconds``."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()
    begun = asyncio.Event()

    def tell(value: T | None, error: BaseException | None) -> None:
        begun.set()  # it may have ended before it could say so
        if not ended.done():
            ended.set_result((value, error))

    def run() -> None:
        value, error = None, None
        # nobody waits any more when the loop has ended, or when what was told comes after the work
        with contextlib.suppress(RuntimeError, DeadlinePassed):
            try:
                loop.call_soon_threadsafe(begun.set)
                asyncio.set_event_loop(loop)  # get_event_loop() at import: the one that will serve
                value = work()
            except BaseException as problem:
                error = problem
            loop.call_soon_threadsafe(tell, value, error)

    thread = threading.Thread(target=run, name="netswap apart", daemon=True)
    turn = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        thread.start()
        await begun.wait()
        await asyncio.wait({ended}, timeout=max(seconds, 0.0))
        if not ended.done():
            _interrupt(thread)
            await asyncio.wait({ended}, timeout=LAST_S)
    finally:
        sys.setswitchinterval(turn)
    if not ended.done():
        raise DeadlinePassed(f"it did not end within {seconds:g} s")
    value, error = ended.result()
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # it is what work() gave


def _interrupt(thread: threading.Thread) -> None:
    if thread.ident is not None:
        number, what = ctypes.c_ulong(thread.ident), ctypes.py_object(DeadlinePassed)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, what)
