"""http.connection, version 2: HTTP/1.1 on httptools; what answers is ``http.app``.

Requests of one connection are answered one after the other, in order. While a coroutine answers
one, those behind it wait in a queue; when that is full, or the body that arrives is not read, or
the client does not read its answers, the client is not read either. The answers of plain functions
to one chunk of input go out in one write.

What is new since version 1:

- The answer to HEAD, when it is a stream, has no last chunk.
- A connection ends in four stages instead of two: after the last answer our side is closed, and
  what still comes is dropped for a while, since a close over unread bytes resets the connection.
- A body that nobody wanted is read to its end if it is short; else the answer is the last.
- Limits are ``http.limits``: bodies have a time and a least rate, heads a time from the first byte.
- A control character in a header, and what is no status or length, are an application's failures.
- A client that does not read is not answered further, and not read; one that takes nothing of an
  answer for ``idle_s`` is dropped.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from netswap import Connection, State, migration, reference
from netswap.http import (
    Exchange,
    HttpError,
    Outline,
    Request,
    Response,
    Upgrade,
    Wire,
    date_line,
    refusal,
)

Ending = Literal["open", "next", "owed", "lingering"]
"""Nothing ends; the next answer is the last; nothing more is taken, what is owed is answered; all
is answered, and what comes is dropped."""
OPEN: Final = "open"
NEXT: Final = "next"
OWED: Final = "owed"
LINGERING: Final = "lingering"
LAST: Final = (OWED, LINGERING)

NO_BODY: Final = Outline.NO_BODY

PART: Final = 4096
PARTS: Final = 64
"""An answer of so many bytes, or so many answers, are written before the next request is asked: a
client that does not read them is not answered further."""

KEEP_ALIVE: Final = b"connection: keep-alive\r\n\r\n"
CLOSE: Final = b"connection: close\r\n\r\n"


class Http(State, kind="http.connection", version=2):
    """``wire`` has what came, ``current`` is being answered, ``queue`` waits for that."""

    wire: Wire = reference(Wire, Wire.to_canonical, Wire.from_canonical, Wire.keep)
    current: Exchange | None = reference(
        lambda: None, Exchange.to_canonical, Exchange.from_canonical, Exchange.keep
    )
    queue: list[Any] = reference(  # of Request: named, the structs would be copied
        list, Request.to_canonical, Request.from_canonical, Request.keep
    )
    ending: Ending = "open"
    touched: bool = False
    """Whether something came since the idle timer looked."""
    late: bool = False
    """Whether the time of a head or of a body is running,"""
    mark: int = 0
    """at the beginning of which so much of the body had come."""
    taken: int | None = None
    """What ``outstanding()`` said when the idle timer looked."""


@migration("http.connection", 1, 2)
def up(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knows two stages; its timer for a head may be running."""
    row = dict(old)
    return row | {"ending": OWED if row.pop("closing") else OPEN, "late": True}


@migration("http.connection", 2, 1, derived=["ending", "late", "mark", "taken"])
def down(new: dict[str, Any]) -> dict[str, Any]:
    """A connection that lingers is closed by version 1 when it has been idle."""
    unknown = ("ending", "late", "mark", "taken")
    row = {name: value for name, value in new.items() if name not in unknown}
    return row | {"closing": new["ending"] != OPEN}


class HttpConnection(Connection[Http], uses={"app": "http.app", "limits": "http.limits"}):
    """One client."""

    app: Any
    _use_app: Any
    limits: Any

    def on_connect(self) -> None:
        """The first head has its time, too."""
        limits = self.limits.present()
        self.state.wire.begin(self.entry, limits.head)
        self.timers.arm("idle", limits.idle_s)

    def on_data(self, data: bytes) -> None:
        """Answer what is whole; keep the rest."""
        state = self.state
        wire = state.wire
        requests = wire.feed(data)
        if requests and not state.touched:
            state.touched = True
        if state.queue:  # those have their turn first
            state.queue += requests
        elif requests:
            self._take(requests)
        if wire.begun or state.late or wire.ended or wire.rest is not None or state.queue:
            self._look_at_input()

    def on_eof(self) -> bool:
        """The client sends no more; what it has asked is still answered."""
        state = self.state
        if not (state.queue or state.wire.rest):
            state.ending = OWED
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

    def on_handover(self) -> bytes:
        """After an upgrade: what came behind the request that asked for it."""
        wire = self.state.wire
        wire.close()
        return wire.rest or b""

    def on_pause_writing(self) -> None:
        """Who does not read is not read."""
        self._look_at_flow()

    def on_resume_writing(self) -> None:
        """Whoever writes a long answer goes on, and so do those who wait for their turn."""
        if self.state.current is not None:
            self.state.current.resumed()
        self.host.call_soon(self.entry, "proceed")

    def on_drain(self) -> None:
        """The server stops: the next answer is the last; an idle connection is closed."""
        state = self.state
        if self._owes() or state.wire.begun:
            state.ending = NEXT if state.ending == OPEN else state.ending
        else:
            self.close()

    # times

    def idle(self) -> None:
        """Close a connection on which nothing has come for a while, or that has lingered.

        One whose client has taken nothing of an answer meanwhile ends at once: an orderly end
        would wait for that client.
        """
        state = self.state
        before, state.taken = state.taken, self.outstanding()
        if before is not None and state.taken == before:
            self.abort()
            return
        if state.ending == LINGERING or not (state.touched or self._owes()):
            self.close()
        state.touched = False
        self.timers.arm("idle", self.limits.present().idle_s)

    def head_late(self) -> None:
        """A head, or so much of a body, should have come by now."""
        state = self.state
        if not state.late or not state.wire.begun or state.wire.ended:
            return
        receiving = state.wire.receiving
        limits = self.limits.present()
        if receiving is None:
            error = HttpError(408, f"the head has not come within {limits.head_s:g} s")
            if self._owes():  # it is said behind that
                state.wire.failure, state.wire.ended = error, True
            else:
                self._refuse(error)
            return
        body = receiving.body
        if self.reading_paused or body.seen - state.mark >= limits.body_least:
            state.mark = body.seen
            self.timers.arm("head_late", limits.body_s)
            return
        text = f"less than {limits.body_least} bytes of the body have come in {limits.body_s:g} s"
        self._give_up(HttpError(408, text))

    def _look_at_time(self) -> None:
        """Each head and each body has its time, which ends with it."""
        state = self.state
        receiving = state.wire.receiving
        runs = state.wire.begun and state.ending != LINGERING
        body_began = runs and receiving is not None and not state.mark
        armed = state.late and self.timers.remaining("head_late") is not None
        if runs and (body_began or not armed):
            limits = self.limits.present()
            state.mark = 0 if receiving is None else max(1, receiving.body.seen)
            self.timers.arm("head_late", limits.head_s if receiving is None else limits.body_s)
        elif state.late and not runs:
            state.mark = 0
            self.timers.cancel("head_late")
        state.late = runs

    # what comes

    def _owes(self) -> bool:
        state = self.state
        return state.current is not None or bool(state.queue)

    def _take(self, requests: list[Request]) -> None:
        """Answer as many as can be answered now; the rest waits."""
        state = self.state
        app = self._use_app.target
        out: list[bytes] = []
        for request in requests:
            if out and (len(out[-1]) >= PART or len(out) >= PARTS):
                self.write(b"".join(out))
                out.clear()
            if state.ending != OPEN and state.ending in LAST:  # the answer before was that
                break
            if state.current is not None or self.writing_paused:
                state.queue += requests[requests.index(request) :]
                break
            try:
                if request.head.has_body:
                    self.limits.present().check_length(request)
                ask = app.answer  # a call of a slot costs more
                answer = ask(request)
                if type(answer) is Response:
                    out.append(self._whole(request, answer))
                    continue
            except Exception as error:
                out.append(self._whole(request, self._failed(error)))
                continue
            if out:
                self.write(b"".join(out))
                out.clear()
            self._begin(request, answer)
        if out:
            write = self.write  # a call of a slot costs more
            write(b"".join(out))
        if (state.ending == OWED or state.wire.rest is not None) and state.current is None:
            self._go_on()

    def _begin(self, request: Request, answer: Any) -> None:
        exchange = request.exchange = self.state.current = Exchange(request, self.entry)
        if type(answer) is Upgrade:
            exchange.upgrade(answer)
            return
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
        state, wire = self.state, self.state.wire
        if state.ending == LINGERING:
            return
        if wire.begun:
            state.touched = True
        if wire.ended and not self._owes():
            self._go_on()
            return
        receiving = wire.receiving
        if receiving is not None and not receiving.body.failed:
            try:
                self.limits.present().check_size(receiving.body.seen)
            except HttpError as error:
                self._give_up(error)
        self._look_at_time()
        self._look_at_flow()

    def _give_up(self, error: HttpError) -> None:
        """No more of a body is taken: whoever reads it, and so the client, is told why."""
        state = self.state
        receiving = state.wire.receiving
        state.wire.ended = True
        if not state.queue:
            state.ending = OWED
        if receiving is not None:
            receiving.body.fail(error)
        if not self._owes():
            self._end()

    def _look_at_flow(self) -> None:
        """Read the client as long as what it sends has a place."""
        state, wire = self.state, self.state.wire
        limits = self.limits.present()
        receiving = wire.receiving
        full = state.ending != LINGERING and (
            len(state.queue) >= limits.queue
            or self.writing_paused
            or (receiving is not None and receiving.body.size > limits.waiting)
            or (wire.rest is not None and len(wire.rest) > limits.waiting)
        )
        if full and not self.reading_paused:
            self.pause_reading()
        elif self.reading_paused and not full:
            self.resume_reading()

    def _refuse(self, error: HttpError) -> None:
        """Say that nothing more can be understood, unless that was said for the request itself."""
        self.state.ending = OWED
        answer = refusal(error)
        if self.host.access is not None:
            self.host.access.note(self, None, error.status, len(answer.body))
        self.write(
            b"%bcontent-length: %d\r\n%b%b%b"
            % (answer.head(), len(answer.body), date_line(), CLOSE, answer.body)
        )
        self._end()

    def _end(self) -> None:
        """Everything is answered: close, in a way that lets the client read it."""
        state = self.state
        state.queue.clear()
        transport = self.transport
        quiet = state.wire.ended and state.wire.failure is None and state.wire.receiving is None
        state.wire.ended = True
        if quiet or self.half_closed or not transport.can_write_eof():
            self.close()
        elif state.ending != LINGERING:
            state.ending = LINGERING
            self._look_at_time()
            self.timers.arm("idle", self.limits.present().linger_s)
            transport.write_eof()
            self._look_at_flow()

    # what goes out

    def _can_drop(self, request: Request) -> bool:
        """Whether so little of a body is missing that it can be read and dropped."""
        body = request.body
        length = request.head.length
        if length < 0 or body.failed or (request.header(b"expect") and not body.seen):
            return False  # who expects to be told to go on may or may not send it now
        return bool(length - body.seen <= self.limits.present().drain)

    def _whole(self, request: Request, response: Response, began: Any = None) -> bytes:
        """The bytes of a whole answer. Raises ValueError for one that can't be sent."""
        head = request.head
        body = response.body
        lines, says_last = response.ready_lines(), False
        if lines is None:
            lines, says_last = Outline.whole(request, response)
        goes_on = head.keep_alive and self.state.ending == OPEN and not says_last
        if not (goes_on and (request.body.complete or self._can_drop(request))):
            self.state.ending = OWED
            last = CLOSE
        else:
            last = b"\r\n" if head.version == "1.1" else KEEP_ALIVE
        if head.method == "HEAD" or response.status in NO_BODY:
            body = b""
        if self.host.access is not None:
            self.host.access.note(self, head, response.status, len(body), began)
        return lines + last + body

    def answer_whole(self, exchange: Exchange, response: Response) -> None:
        """All of an answer at once. Raises ValueError for one that can't be sent."""
        if exchange is self.state.current:
            self.write(self._whole(exchange.request, response, exchange.began))
            self._next()

    def answer_start(
        self, exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """The head of an answer in parts. Raises ValueError for one that can't be sent."""
        if exchange is not self.state.current:
            return
        request = exchange.request
        head = request.head
        lines, exchange.framing, says_last = Outline.start(request, status, headers)
        if says_last or not head.keep_alive or self.state.ending != OPEN:
            self.state.ending = OWED
            last = CLOSE
        else:
            last = KEEP_ALIVE if head.version == "1.0" else b"\r\n"
        self.write(lines + last)

    def answer_body(self, exchange: Exchange, data: bytes) -> None:
        """Some bytes of an answer's body."""
        if exchange is not self.state.current:
            return
        try:
            piece = Outline.part(exchange, data)
        except ValueError:  # the client must not take it for whole
            self.abort(reset=True)
            raise
        if piece:
            self.write(piece)

    def answer_end(self, exchange: Exchange) -> None:
        """The end of an answer that came in parts."""
        if exchange is not self.state.current:
            return
        try:
            piece = Outline.end(exchange)
        except ValueError:
            self.abort(reset=True)
            raise
        if piece:
            self.write(piece)
        self._note(exchange)
        self._next()

    def _note(self, exchange: Exchange) -> None:
        """An answer in parts is over, or the client has not waited for its end."""
        if self.host.access is not None:
            self.host.access.note_parts(self, exchange)

    def answer_aborted(self, exchange: Exchange) -> None:
        """What answers has failed in the middle: the client must not take it for whole."""
        if exchange is self.state.current:
            self.abort(reset=True)

    def answer_upgrade(self, exchange: Exchange, upgrade: Upgrade) -> None:
        """The connection becomes one of another kind; until then what comes is kept for that."""
        if exchange is self.state.current:
            self.write(upgrade.head())
            exchange.framing = {"status": 101}
            self._note(exchange)
            self.become(upgrade.kind, **upgrade.fields)

    def way_past(self, exchange: Exchange) -> Any:
        """The transport, if a body may go to its socket in another way just now; else None."""
        transport = self.transport
        plain = self.tls is None and not transport.is_closing()
        return transport if plain and exchange.framing["how"] == Outline.LENGTH else None

    def answer_passed(self, exchange: Exchange, size: int) -> None:
        """So many bytes of an answer's body went that way."""
        exchange.framing["left"] -= size
        exchange.framing["sent"] += size

    def inform(self, exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """An interim answer, such as 100 Continue. Raises ValueError for what is none."""
        head = Outline.interim(status, headers)
        if exchange is self.state.current and exchange.request.version == "1.1":
            self.write(head)

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
        body = done.request.body
        if not body.complete:
            if state.ending == OPEN and not self._can_drop(done.request):
                state.ending = OWED
            body.drop()
        wire = state.wire
        if state.ending == OWED:
            self._end()
        elif state.queue or wire.failure or wire.rest is not None or self.half_closed:
            self.host.call_soon(self.entry, "proceed")
        elif state.ending == NEXT and not wire.begun:  # its head was out before the server stopped
            self.close()
        elif self.reading_paused:
            self._look_at_flow()

    def proceed(self) -> None:
        """Answer what has waited for its turn."""
        state = self.state
        if state.current is not None or self.writing_paused or self.transport.is_closing():
            self._look_at_flow()
            return
        waiting, state.queue = state.queue, []
        if self.half_closed:  # one by one, since the last answer says that it is the last
            waiting, state.queue = waiting[:1], waiting[1:]
            if state.ending == OPEN and not (state.queue or state.wire.rest or state.wire.failure):
                state.ending = NEXT
        if waiting and state.ending in (OPEN, NEXT):
            self._take(waiting)
        self._go_on()

    def _go_on(self) -> None:
        """Nobody waits for a turn, or all have had it: end, or take what came behind."""
        state, wire = self.state, self.state.wire
        if state.current is not None or state.ending == LINGERING:
            self._look_at_flow()
        elif state.ending == OWED:
            self._end()
        elif state.queue:
            self._look_at_flow()
            if self.half_closed and not self.writing_paused:
                self.host.call_soon(self.entry, "proceed")
        elif wire.failure is not None and wire.receiving is None:
            self._refuse(wire.failure)
        elif wire.rest is not None and not wire.ended:
            self._take(wire.resume())
            self._look_at_input()
            if self.half_closed:
                self._go_on()
        elif wire.ended or self.half_closed:
            self._end()
        else:
            self._look_at_flow()
