"""Sending: an answer whose body is a file, or parts of one, however large.

Where the bytes can go from the file to the socket within the kernel, they do: ``os.sendfile``, on
a duplicate of the connection's descriptor that the loop watches for room. The loops' own
``sendfile`` is of no use here: uvloop has none, and asyncio's puts another protocol in front of the
transport, which a swap would replace. What was written before has to be out first, so the
transport's buffer is kept empty while a file is sent (its high-water mark is 0). A connection that
encrypts, or that frames the body otherwise than by its length, says that there is no way past it;
then the file is read and written like anything else. It is asked before each window, so a swap, or
an interposer, may change the way in the middle.

A sending is of netswap itself: it holds an exchange, a descriptor and numbers. So a download that
takes an hour keeps no old code of ``http.connection``, ``http.static`` or ``http.app`` alive.

No read from the disk on the loop: what is not in the system's cache is read by a thread first.

A file that is not what it was when the head went out can't be sent to its end: it is shorter, or
as long and written to. Then the connection is aborted, so that nobody takes the answer for whole.
One that has grown meanwhile, as a log does, is sent as far as the head has said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from netswap.errors import HttpError
from netswap.http.lines import Headers
from netswap.http.message import Request

__all__ = ["WINDOW", "OpenFile", "Sending"]

WINDOW: Final = 262_144
"""Bytes that go out, or are read, in one go."""


class OpenFile:
    """A file that is open for reading, with its size and its time of change (ns) at that moment."""

    __slots__ = ("changed", "number", "size")

    def __init__(self, number: int) -> None:
        """``number`` is the descriptor, which belongs to this object from now on."""
        self.number = number
        seen = os.fstat(number)
        self.size = seen.st_size
        self.changed = seen.st_mtime_ns

    @staticmethod
    def name_of(request: Request, path: str) -> str:
        """``path``, which is the end of the request's path, as the file system has it.

        A name there is bytes. Those that are no UTF-8 are lost in a text, but not in the target.
        """
        if "\ufffd" not in path:
            return path
        whole = os.fsdecode(unquote_to_bytes(request.target.partition(b"?")[0]))
        before = request.path.removesuffix(path)
        known = request.path.endswith(path) and whole.startswith(before)
        return whole.removeprefix(before) if known else path

    def is_same(self) -> bool:
        """Whether what it had when it was opened can still be read from it."""
        seen = os.fstat(self.number)
        if seen.st_size == self.size:
            return seen.st_mtime_ns == self.changed
        return seen.st_size > self.size

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """Up to so many bytes, b"" at the end, or None when the disk has to be asked."""
        room = bytearray(size)
        try:
            count = os.preadv(self.number, [room], offset, os.RWF_NOWAIT)
        except OSError:  # not at hand, or a file system that can't tell
            return None
        return bytes(memoryview(room)[:count])

    async def read(self, offset: int, size: int) -> bytes:
        """The same, from the disk if it must be, which holds a thread and not the loop."""
        found = self.read_nowait(offset, size)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, os.pread, self.number, size, offset)

    async def warm(self, offset: int, size: int) -> None:
        """See to it that these bytes need not be fetched from the disk."""
        if None in {self.read_nowait(offset, 1), self.read_nowait(offset + size - 1, 1)}:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, os.pread, self.number, size, offset)

    def close(self) -> None:
        """Give the descriptor back, once."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        self.close()


class Sending:
    """What an application returns to answer ``request`` with these parts of a file, in order.

    A part is bytes, or a pair of offset and size. ``headers`` must give the content-length. The
    file is closed at the end, whatever that is; ``file`` is None when nothing of one is sent.
    """

    __slots__ = ("_file", "_headers", "_parts", "_request", "_status", "_way")

    def __init__(  # noqa: PLR0913, PLR0917 - a whole answer
        self,
        request: Request,
        status: int,
        headers: Headers,
        file: OpenFile | None = None,
        parts: Iterable[bytes | tuple[int, int]] = (),
    ) -> None:
        self._request = request
        self._status = status
        self._headers = headers
        self._file = file
        self._parts = tuple(parts)
        self._way: _Way | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._run().__await__()

    async def _run(self) -> None:
        try:
            self._request.exchange.start(self._status, self._headers)
        except BaseException:
            self._close()
            raise
        await self.body()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def body(self) -> None:
        """Send the parts; the head is out."""
        exchange = self._request.exchange
        exchange.on_gone(self._stop)
        try:
            for part in self._parts:
                if isinstance(part, bytes):
                    await exchange.write(part)
                elif self._file is not None:
                    await self._send(exchange, self._file, *part)
        finally:
            self._stop()
            self._close()

    async def _send(self, exchange: Any, file: OpenFile, offset: int, size: int) -> None:
        end = offset + size
        while offset < end and not exchange.gone:
            window = min(end - offset, WINDOW)
            await file.warm(offset, window)
            if not file.is_same():
                raise HttpError(500, "the file has changed while it was sent")
            transport = exchange.way_past()
            if transport is None:
                sent = await self._copy(exchange, file, offset, window)
            else:
                sent = await self._pass(exchange, file, offset, window, transport)
            offset += sent

    async def _copy(self, exchange: Any, file: OpenFile, offset: int, size: int) -> int:
        """Through the transport."""
        data = await file.read(offset, size)
        if not data:
            raise HttpError(500, "the file has become shorter while it was sent")
        await exchange.write(data)
        return len(data)

    async def _pass(  # noqa: PLR0913, PLR0917 - what goes where
        self, exchange: Any, file: OpenFile, offset: int, size: int, transport: Any
    ) -> int:
        """Past the transport; 0 when there was no room yet."""
        if self._way is None:
            self._way = _Way(transport)
        if transport.get_write_buffer_size():
            await exchange.emptied(transport)
            return 0
        try:
            sent = os.sendfile(self._way.number, file.number, offset, size)
        except BlockingIOError:
            await self._way.room()
            return 0
        except OSError as error:
            raise HttpError(500, f"the connection is broken: {error.strerror}") from None
        if not sent:
            raise HttpError(500, "the file has become shorter while it was sent")
        exchange.passed(sent)
        await asyncio.sleep(0)
        return sent

    def _stop(self) -> None:
        """Nothing more goes past the transport."""
        way, self._way = self._way, None
        if way is not None:
            way.close()


class _Way:
    """A duplicate of a transport's descriptor, and the transport's marks as they were.

    As long as a duplicate is open the peer does not see the end of the stream, so it is closed as
    soon as the connection is lost.
    """

    __slots__ = ("_loop", "_marks", "_transport", "_waiter", "number")

    def __init__(self, transport: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._waiter: asyncio.Future[None] | None = None
        self._marks = transport.get_write_buffer_limits()
        self.number = os.dup(transport.get_extra_info("socket").fileno())
        transport.set_write_buffer_limits(high=0)

    async def room(self) -> None:
        """Wait until the socket takes more, or the way is closed."""
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_writer(self.number, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if self.number >= 0:
                self._loop.remove_writer(self.number)

    def close(self) -> None:
        """Once, when the last byte is out or there is nobody any more."""
        number, self.number = self.number, -1
        if self._waiter is not None:
            self._loop.remove_writer(number)
            _wake(self._waiter)
        os.close(number)
        if not self._transport.is_closing():
            low, high = self._marks
            self._transport.set_write_buffer_limits(high=high, low=low)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
