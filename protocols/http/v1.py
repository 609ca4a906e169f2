"""http.connection, version 1: HTTP/1.1 on httptools; what answers is ``http.app``.

Requests of one connection are answered one after the other, in order. While a coroutine answers
one, those behind it wait in a queue; when that is full, or the body that arrives is not read, the
client is not read either. The answers of plain functions to one chunk of input go out in one write.

Known bugs, mended in version 2: the answer to HEAD, when it is a stream, ends with a last chunk,
which the client takes for the beginning of the next answer. A head has less time when the one
before it was slow. A client that is refused while it sends may get a reset instead of the answer.
One that does not read its answers keeps them in memory for as long as it likes. When the server
stops, a connection on which half a head has come is closed.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Connection, State, reference
from netswap.http import (
    Exchange,
    HttpError,
    Request,
    Response,
    Upgrade,
    Wire,
    date_line,
    refusal,
    status_line,
)

QUEUE_LIMIT: Final = 32
HIGH_WATER: Final = 65_536
"""Bytes of a body that wait to be read."""
IDLE_S: Final = 75.0
"""A connection on which nothing comes for so long between two requests is closed."""
HEAD_S: Final = 20.0
"""So long a client may take for one head."""

NO_BODY: Final = frozenset({204, 304})
CHUNKED, LENGTH, TO_THE_END, NOTHING = "chunked", "length", "to the end", "nothing"
OWN_HEADERS: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive"})
"""What a connection says for itself, whatever an application may have said."""


class Http(State, kind="http.connection", version=1):
    """``wire`` has what came, ``current`` is being answered, ``queue`` waits for that."""

    wire: Wire = reference(Wire, Wire.to_canonical, Wire.from_canonical, Wire.keep)
    current: Exchange | None = reference(
        lambda: None, Exchange.to_canonical, Exchange.from_canonical, Exchange.keep
    )
    queue: list[Any] = reference(  # of Request: named, the structs would be copied
        list, Request.to_canonical, Request.from_canonical, Request.keep
    )
    closing: bool = False
    """After the answers that are owed the connection is closed."""
    touched: bool = False
    """Whether something came since the idle timer looked."""


class HttpConnection(Connection[Http], uses={"app": "http.app"}):
    """One client."""

    app: Any
    _use_app: Any
    """The handle of it, which each request reads: a property costs a call."""

    def on_connect(self) -> None:
        """The first head has its time, too."""
        self.state.wire.begin(self.entry)
        self.timers.arm("idle", IDLE_S)

    def on_data(self, data: bytes) -> None:
        """Answer what is whole; keep the rest."""
        state = self.state
        if not state.touched:
            state.touched = True
        wire = state.wire
        requests = wire.feed(data)
        if state.queue:  # those have their turn first
            state.queue += requests
        elif requests:
            self._take(requests)
        if wire.begun or wire.failure or wire.rest is not None or state.queue:
            self._look_at_input()

    def on_eof(self) -> bool:
        """The client sends no more; what it has asked is still answered."""
        state = self.state
        state.closing = state.closing or not (state.queue or state.wire.rest)
        state.wire.cut()
        if state.current is not None:
            state.current.leave()
        elif state.queue and self.tls is not None:  # which ends now: a later turn is too late
            waiting, state.queue = state.queue, []
            self._take(waiting)
        return self._owes()

    def on_close(self, error: Exception | None) -> None:
        """Nobody waits for answers any more."""
        state = self.state
        state.queue.clear()
        if state.current is not None:
            self._note(state.current)
            state.current.lost()
        state.wire.close()

    def on_resume_writing(self) -> None:
        """Whoever writes a long answer goes on."""
        if self.state.current is not None:
            self.state.current.resumed()

    def on_drain(self) -> None:
        """The server stops: answer what is owed, with ``Connection: close``."""
        self.state.closing = True
        if not self._owes():
            self.close()

    def idle(self) -> None:
        """Close a connection on which nothing has come for a while."""
        state = self.state
        if not state.touched and not self._owes():
            self.close()
            return
        state.touched = False
        self.timers.arm("idle", IDLE_S)

    def head_late(self) -> None:
        """A client that sends its head byte by byte holds a connection for nothing."""
        wire = self.state.wire
        if wire.begun and wire.receiving is None:
            error = HttpError(408, f"the head has not come within {HEAD_S:g} s")
            if self._owes():  # it is said behind that
                wire.failure, wire.ended = error, True
            else:
                self._refuse(error)

    # what comes

    def _owes(self) -> bool:
        state = self.state
        return state.current is not None or bool(state.queue)

    def _take(self, requests: list[Request]) -> None:
        state = self.state
        app = self._use_app.target
        out: list[bytes] = []
        for request in requests:
            if state.current is not None or state.closing:
                state.queue += requests[requests.index(request) :]
                break
            try:
                ask = app.answer  # a call of a slot costs more
                answer = ask(request)
                if type(answer) is Response:
                    out.append(self._whole(request, answer))
                    continue
            except Exception as error:
                out.append(self._whole(request, self._failed(error)))
                continue
            if type(answer) is Upgrade:
                self.write(b"".join(out))
                out.clear()
                self._exchange(request).upgrade(answer)
            else:
                self._begin(request, answer)
        if out:
            write = self.write  # a call of a slot costs more
            write(b"".join(out))
        if state.current is not None:
            return
        if state.closing:
            state.queue.clear()
            self.close()
        elif state.wire.rest is not None:  # nobody has made the upgrade
            self._take(state.wire.resume())

    def _exchange(self, request: Request) -> Exchange:
        exchange = request.exchange = self.state.current = Exchange(request, self.entry)
        return exchange

    def _begin(self, request: Request, answer: Any) -> None:
        exchange = self._exchange(request)
        if self.host.access is not None:
            exchange.began = self.host.access.begin(self.app)
        self.host.act(exchange.carry_out, answer, self.app)

    def _failed(self, error: Exception) -> Response:
        if isinstance(error, HttpError):
            return refusal(error)
        self.host.failed(self.app, error, "answer")
        return Response("500: Internal Server Error\n", 500)

    def _look_at_input(self) -> None:
        """A request has begun and not ended, or nothing more can be understood."""
        state = self.state
        wire = state.wire
        if wire.failure is not None:
            if wire.receiving is None and not self._owes() and not state.closing:
                self._refuse(wire.failure)
            return
        if wire.begun and wire.receiving is None and self.timers.remaining("head_late") is None:
            self.timers.arm("head_late", HEAD_S)
        self._look_at_flow()

    def _look_at_flow(self) -> None:
        """Read the client as long as what it sends has a place."""
        state = self.state
        receiving, rest = state.wire.receiving, state.wire.rest
        full = (
            len(state.queue) >= QUEUE_LIMIT
            or (receiving is not None and receiving.body.size > HIGH_WATER)
            or (rest is not None and len(rest) > HIGH_WATER)
        )
        if full and not self.reading_paused:
            self.pause_reading()
        elif self.reading_paused and not full:
            self.resume_reading()

    def _refuse(self, error: HttpError) -> None:
        self.state.closing = True
        body = f"{error}\n".encode()
        self.write(
            status_line(error.status)
            + b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body)
            + date_line()
            + b"connection: close\r\n\r\n"
            + body
        )
        if self.host.access is not None:
            self.host.access.note(self, None, error.status, len(body))
        self.close()

    # what goes out

    def _note(self, exchange: Exchange) -> None:
        """An answer in parts is over, or the client has not waited for its end."""
        if self.host.access is not None:
            self.host.access.note_parts(self, exchange)

    def _whole(self, request: Request, response: Response, began: Any = None) -> bytes:
        """The bytes of a whole answer."""
        head = request.head
        body = response.body
        lines = response.ready_lines()
        if lines is None:
            lines = response.head() + date_line()
            if response.status not in NO_BODY:
                lines += b"content-length: %d\r\n" % len(body)
        if head.method == "HEAD" or response.status in NO_BODY:
            body = b""
        last = b"\r\n"
        if not head.keep_alive or self.state.closing:
            self.state.closing = True
            last = b"connection: close\r\n\r\n"
        elif head.version == "1.0":
            last = b"connection: keep-alive\r\n\r\n"
        if self.host.access is not None:
            self.host.access.note(self, head, response.status, len(body), began)
        return lines + last + body

    def answer_whole(self, exchange: Exchange, response: Response) -> None:
        """All of an answer at once."""
        self.write(self._whole(exchange.request, response, exchange.began))
        self._next()

    def answer_start(
        self, exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """The head of an answer that comes in parts."""
        request = exchange.request
        framing, lines = self._framed(request, status, headers)
        keeps = request.keep_alive and not self.state.closing and framing["how"] != TO_THE_END
        if any(
            name.lower() == b"connection" and b"close" in value.lower() for name, value in headers
        ):
            keeps = False
        if not keeps:
            self.state.closing = True
            lines.append(b"connection: close\r\n")
        elif request.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        exchange.framing = framing | {"status": status, "sent": 0}
        self.write(b"".join((status_line(status), *lines, b"\r\n")))

    def _framed(
        self, request: Request, status: int, headers: list[tuple[bytes, bytes]]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """How the body is delimited, and the lines of the head but for ``connection``."""
        lines, length, dated = [], None, False
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                length = int(value)
            dated = dated or lower == b"date"
            if lower not in OWN_HEADERS:
                lines.append(b"%s: %s\r\n" % (name, value))
        if not dated:
            lines.append(date_line())
        if status in NO_BODY:
            return {"how": NOTHING}, lines
        if length is not None:
            return {"how": LENGTH if request.method != "HEAD" else NOTHING, "left": length}, lines
        if request.version == "1.1":
            lines.append(b"transfer-encoding: chunked\r\n")
            return {"how": CHUNKED}, lines
        return {"how": TO_THE_END}, lines

    def answer_body(self, exchange: Exchange, data: bytes) -> None:
        """Some bytes of an answer's body."""
        framing = exchange.framing
        how = framing["how"]
        if how == NOTHING or exchange.request.method == "HEAD" or not data:
            return
        if how == CHUNKED:
            framing["sent"] += len(data)
            self.write(b"%x\r\n%b\r\n" % (len(data), data))
            return
        if how == LENGTH:
            framing["left"] -= len(data)
            if framing["left"] < 0:
                self.abort(reset=True)
                raise ValueError(f"the answer is {-framing['left']} bytes longer than it said")
        framing["sent"] += len(data)
        self.write(data)

    def way_past(self, exchange: Exchange) -> Any:
        """The transport, if a body may go to its socket in another way just now; else None."""
        transport = self.transport
        plain = self.tls is None and not transport.is_closing()
        return transport if plain and exchange.framing["how"] == LENGTH else None

    def answer_passed(self, exchange: Exchange, size: int) -> None:
        """So many bytes of an answer's body went that way."""
        exchange.framing["left"] -= size
        exchange.framing["sent"] += size

    def answer_end(self, exchange: Exchange) -> None:
        """The end of an answer that came in parts."""
        framing = exchange.framing
        if framing["how"] == CHUNKED:
            self.write(b"0\r\n%b\r\n" % framing.get("trailers", b""))
        elif framing["how"] == LENGTH and framing["left"]:
            self.abort(reset=True)
            raise ValueError(f"the answer is {framing['left']} bytes shorter than it said")
        self._note(exchange)
        self._next()

    def answer_aborted(self, exchange: Exchange) -> None:
        """What answers has failed in the middle: the client must not take it for whole."""
        self.abort(reset=True)

    def answer_upgrade(self, exchange: Exchange, upgrade: Upgrade) -> None:
        """The connection becomes one of another kind; until then what comes is kept for that."""
        self.write(upgrade.head())
        exchange.framing = {"status": 101}
        self._note(exchange)
        self.become(upgrade.kind, **upgrade.fields)

    def on_handover(self) -> bytes:
        """What came behind the request that asked for it."""
        wire = self.state.wire
        wire.close()
        return wire.rest or b""

    def inform(self, exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """An interim answer, such as 100 Continue."""
        if exchange.request.version == "1.1":
            lines = (b"%s: %s\r\n" % row for row in headers)
            self.write(b"".join((status_line(status), *lines, b"\r\n")))

    def body_taken(self, exchange: Exchange) -> None:
        """Somebody has read of a body."""
        if self.reading_paused:
            self._look_at_flow()

    def _next(self) -> None:
        """The current answer is out."""
        state = self.state
        done = state.current
        state.current = None
        if done is None:  # a client that has gone meanwhile
            return
        if not done.request.body.complete:
            done.request.body.drop()
        if state.closing:
            state.queue.clear()
            self.close()
        elif (
            state.queue
            or state.wire.failure is not None
            or state.wire.rest is not None
            or self.reading_paused
            or self.half_closed
        ):
            self.host.call_soon(self.entry, "proceed")

    def proceed(self) -> None:
        """Answer what has waited for its turn."""
        state = self.state
        if state.current is not None:
            return
        waiting, state.queue = state.queue, []
        if waiting:
            self._take(waiting)
        if state.wire.failure is not None and not self._owes():
            if state.wire.receiving is None:
                self._refuse(state.wire.failure)
            else:  # it was the answer to what could not be understood
                self.close()
        elif state.wire.rest is not None and not self._owes():
            self._take(state.wire.resume())
        else:
            self._look_at_flow()
        if self.half_closed and not self._owes():
            self.close()
