"""An exchange: one request, and the answer that a coroutine gives to it over some time.

::

    Waiting ──start──▶ Started ──finish──▶ Finished
     │   │                │
     │   ├─────lost───────┴──────────────▶ Gone
     │   └────respond────▶ Finished
     └──upgrade──▶ Upgraded

A coroutine writes through its exchange and never to a connection. The exchange holds the *entry*
of the connection, so what is written goes to whichever version is present: a swap of
``http.connection`` between two chunks of an answer is nothing special. How the answer is framed
is the connection's business: the exchange only keeps what a successor has to know of it.

While the application is on watch, the client of a coroutine that fails before it has said anything
gets the answer of the version before: the request is asked there once more. That is done for
methods that may be repeated (RFC 9110 section 9.2.2) and bodies up to ``REPEATED`` bytes, which are
kept until then; what the coroutine has done meanwhile is not undone. Frameworks answer for what
fails in them before they raise it, so an answer of 500 and above waits for the coroutine's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum, auto
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from netswap.blame import mild
from netswap.errors import HttpError, TransitionError
from netswap.http.lines import header_lines
from netswap.http.message import Request, Response, Upgrade, refusal
from netswap.mediator import present
from netswap.ott import Entry

if TYPE_CHECKING:
    from netswap.http.lines import Headers

__all__ = ["TRANSITIONS", "Event", "Exchange", "Phase"]


REPEATED: Final = 65_536
"""Bytes of a body that are kept, to be read by the version before."""
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods of requests that do no more when they are made twice."""
NO_TRAILERS: Final = frozenset(
    {
        *(b"transfer-encoding", b"content-length", b"host", b"te", b"trailer", b"connection"),
        *(b"content-encoding", b"content-type", b"content-range", b"set-cookie", b"authorization"),
    }
)
"""Headers that say how a message is read, or that belong to its beginning."""


class Phase(StrEnum):
    """How far an answer is."""

    WAITING = auto()
    STARTED = auto()
    FINISHED = auto()
    UPGRADED = auto()
    GONE = auto()


class Event(StrEnum):
    """What moves an exchange on."""

    START = auto()
    FINISH = auto()
    RESPOND = auto()
    UPGRADE = auto()
    LOST = auto()
    UNSAID = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.WAITING, Event.START): Phase.STARTED,
    (Phase.WAITING, Event.RESPOND): Phase.FINISHED,
    (Phase.WAITING, Event.UPGRADE): Phase.UPGRADED,
    (Phase.WAITING, Event.LOST): Phase.GONE,
    (Phase.STARTED, Event.FINISH): Phase.FINISHED,
    (Phase.STARTED, Event.LOST): Phase.GONE,
    (Phase.FINISHED, Event.LOST): Phase.FINISHED,
    (Phase.UPGRADED, Event.LOST): Phase.UPGRADED,
    (Phase.GONE, Event.START): Phase.GONE,
    (Phase.GONE, Event.RESPOND): Phase.GONE,
    (Phase.GONE, Event.UPGRADE): Phase.GONE,
    (Phase.GONE, Event.FINISH): Phase.GONE,
    (Phase.GONE, Event.LOST): Phase.GONE,
    (Phase.STARTED, Event.UNSAID): Phase.WAITING,
    (Phase.FINISHED, Event.UNSAID): Phase.WAITING,
    (Phase.GONE, Event.UNSAID): Phase.GONE,
}

# of an enum, a look-up of a member costs more than that of a global
_WAITING, _STARTED = Phase.WAITING, Phase.STARTED
_FINISHED, _UPGRADED, _GONE = Phase.FINISHED, Phase.UPGRADED, Phase.GONE
_START, _FINISH, _RESPOND = Event.START, Event.FINISH, Event.RESPOND


def _none() -> None:
    """What ``keep`` gives where there is no exchange."""


NOWHERE = Entry(0, "", None)
"""What an exchange of a rehearsal writes to: nobody carries it out."""


class Exchange:
    """One request and its answer.

    ``framing`` is the connection's own note of how the answer goes out, as plain data; it moves
    along with the exchange when the connection is swapped.
    """

    __slots__ = (
        "_apology",
        "_cancelled",
        "_drained",
        "_on_gone",
        "_on_left",
        "again",
        "app",
        "began",
        "entry",
        "framing",
        "left",
        "phase",
        "request",
        "task",
        "upgraded",
    )

    def __init__(self, request: Request, entry: Entry) -> None:
        self.request = request
        self.entry = entry
        self.phase = _WAITING
        self.framing: dict[str, Any] = {}
        self.left = False
        """The client has ended its side: as a rule it is gone, but it may still read."""
        self.task: asyncio.Task[None] | None = None
        self.app: Any = None
        """The implementation whose coroutine ``task`` runs."""
        self.began: Any = None
        """What the access log wants to know of it later."""
        self.upgraded: Upgrade | None = None
        self.again = False
        """Whether the version before may be asked when the coroutine fails."""
        self._apology: Response | None = None
        self._cancelled = False
        self._drained: asyncio.Future[None] | None = None
        self._on_gone: tuple[Callable[[], None], ...] = ()
        self._on_left: tuple[Callable[[], None], ...] = ()

    def start(self, status: int, headers: Headers) -> None:
        """The head of the answer. Raises TransitionError when there was one.

        Also what the connection raises for one that can't be sent; then none was.
        """
        if self._apology is not None:
            raise TransitionError("exchange", _FINISHED, _START)
        self._move(_START)
        if self.phase is _STARTED:
            try:
                self.entry.target.answer_start(self, status, headers)
            except Exception:
                self._move(Event.UNSAID)
                raise

    def write_nowait(self, data: bytes) -> None:
        """Some bytes of the answer's body; nothing happens when the client is gone."""
        if self.phase is _STARTED:
            self.entry.target.answer_body(self, data)
        elif self.phase is not _GONE:
            raise TransitionError("exchange", self.phase, "write")

    async def write(self, data: bytes) -> None:
        """The same, and wait while the peer does not read."""
        self.write_nowait(data)
        await self.drained()

    async def drained(self) -> None:
        """Wait while the connection's output is paused."""
        while self.phase is _STARTED and self.entry.target.writing_paused:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def way_past(self) -> Any:
        """The transport, if bytes of the body may go to its socket by another way; else None."""
        target = self.entry.target
        if self.phase is not _STARTED or target is not present(self.entry):
            return None
        ask = getattr(target, "way_past", None)
        return None if ask is None else ask(self)

    def passed(self, size: int) -> None:
        """So many bytes of the body went that way."""
        if self.phase is _STARTED:
            self.entry.target.answer_passed(self, size)

    async def emptied(self, transport: Any) -> None:
        """Wait until nothing is in the transport's buffer, whose high-water mark is 0."""
        while self.phase is _STARTED and transport.get_write_buffer_size():
            if self.entry.target.writing_paused:
                await self.drained()
            else:
                await asyncio.sleep(0)  # it is written at the end of this turn

    def trail(self, headers: Headers) -> None:
        """Headers behind the body; they go out with its end if it is chunked, else nowhere.

        Raises ValueError for those that can't be sent, or not there (RFC 9110 section 6.5.1).
        """
        rows = [(name.lower(), value) for name, value in headers]
        barred = sorted(name for name, _ in rows if name in NO_TRAILERS)
        if barred:
            raise ValueError(f"{b', '.join(barred).decode()} can't stand behind a body")
        if self.phase is _STARTED:
            self.framing["trailers"] = header_lines(rows)

    def finish(self) -> None:
        """The answer is whole."""
        self._move(_FINISH)
        if self.phase is _FINISHED:
            self.entry.target.answer_end(self)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.phase is _GONE

    def on_gone(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the client is gone."""
        self._on_gone += (tell,)

    def on_left(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the client has ended its side, or is gone."""
        self._on_left += (tell,)

    def respond(self, response: Response) -> None:
        """A whole answer. Raises TransitionError when one has begun.

        Also what the connection raises for one that can't be sent; then none was.
        """
        if self.again and response.status >= 500 and self.phase is _WAITING:
            self._hold_back(response)
            return
        self._move(_RESPOND)
        if self.phase is _FINISHED:
            try:
                self.entry.target.answer_whole(self, response)
            except Exception:
                self._move(Event.UNSAID)
                raise

    def upgrade(self, upgrade: Upgrade) -> None:
        """The connection becomes one of another kind; its session has the task from here on."""
        self._move(Event.UPGRADE)
        self.upgraded = upgrade
        self._leave()
        if self.phase is _UPGRADED:
            self.entry.target.answer_upgrade(self, upgrade)
        else:
            upgrade.session.lost()

    def cancel(self) -> None:
        """An operator ends the coroutine: 503 for the client, or the end if an answer has begun."""
        if self.task is not None:
            self._cancelled = True
            # behind its first step, without which it could not say so
            self.task.get_loop().call_soon(self.task.cancel)

    def _leave(self) -> None:
        if self.app is not None:
            self.app.coroutine_left(self)

    def let_go(self) -> None:
        """The session has ended: a task keeps its traceback, and that an application's code."""
        self.app = self.task = None

    def abandon(self) -> None:
        """Nothing more will be said, and the client must not take for whole what was."""
        if self.phase in (_WAITING, _STARTED):
            self.entry.target.answer_aborted(self)
            self.lost()

    def inform(self, status: int, headers: Headers) -> None:
        """An interim answer (1xx), before the answer. Raises ValueError for what can't be sent."""
        header_lines(headers)
        if self.phase is _WAITING:
            self.entry.target.inform(self, status, headers)

    # what the connection calls

    def carry_out(self, answer: Any, app: Any) -> None:
        """Run ``answer`` as a task; it belongs to ``app``, the implementation that gave it.

        What is no coroutine of an author's, but netswap's own, keeps no code of the author's.
        """
        self.left = present(self.entry).half_closed
        body = self.request.body
        if not body.complete:
            body.on_taken = self._taken
            if self.request.version == "1.1" and self._expects():
                body.on_wanted = self._continue
        # not what stands in front of it now
        to_blame = (
            present(app.entry) if isinstance(answer, (CoroutineType, Coroutine)) else app.entry
        )
        self.app = None if to_blame is app.entry else to_blame
        if self.app is not None:
            answer = self.app.coroutine_comes(self, answer)
            if self.app.host.second_chance is not None:
                self._get_ready()
        self.task = app.host.loop.create_task(self._carry_out(answer, to_blame))

    async def _carry_out(self, answer: Any, to_blame: Any) -> None:
        try:
            waits = type(answer) is CoroutineType or isinstance(answer, Awaitable)
            self._end_with(await answer if waits else answer)
        except asyncio.CancelledError:
            self._cut_off()
            if not self._cancelled:
                raise
        except BaseException as raised:
            if isinstance(raised, GeneratorExit) and not self._is_running():
                raise  # nobody's failure: the coroutine is closed, with its loop
            error = mild(raised)
            if self.upgraded is not None:
                self.upgraded.session.over(error)
            elif isinstance(error, HttpError):
                self._give_up(refusal(error))
            else:
                if not (self.gone and isinstance(error, ConnectionResetError)):
                    app = present(to_blame) if self.app is None else self.app
                    app.host.failed(app, error, "answer")
                    if self.again:
                        await self._ask_before(app, error)
                self._give_up(Response("500: Internal Server Error\n", 500))
        finally:
            if self._apology is not None:
                self._give_up(self._apology)
            self._leave()
            if self.upgraded is None:
                self.app = None  # an exchange and its request refer to each other

    def _end_with(self, response: Any) -> None:
        if self.upgraded is not None:
            self.upgraded.session.over(None)
        elif isinstance(response, Upgrade):  # it was held, and other code was asked again
            self.let_go()
            self.upgrade(response)
        elif isinstance(response, Response):
            self.respond(response)
        elif response is not None:
            name = type(response).__name__
            raise TypeError(f"it has returned a {name}, which is no netswap.http.Response")
        elif self.phase is _STARTED:
            self.finish()
        elif self.phase is _WAITING and self._apology is None:
            raise TypeError("it has returned None and has not answered")

    def _give_up(self, response: Response) -> None:
        """Answer so, if nothing was said yet; else the client must see that the rest is missing."""
        response, self._apology = self._apology or response, None
        self.again = False
        if self.phase is _WAITING:
            self.respond(response)
        elif self.phase is _STARTED:
            self.entry.target.answer_aborted(self)

    def _is_running(self) -> bool:
        try:
            return asyncio.current_task() is self.task
        except RuntimeError:  # no loop runs
            return False

    def _cut_off(self) -> None:
        """The task was cancelled, by whomever; the session of an upgrade ends with it."""
        if self.upgraded is None:
            self._give_up(Response("503: Service Unavailable\n", 503))

    # when new code fails on watch

    def _get_ready(self) -> None:
        head = self.request.head
        self.again = head.method in REPEATABLE and not head.upgrade
        if self.again and head.has_body:
            self.request.body.remember(REPEATED)

    def _hold_back(self, response: Response) -> None:
        """It goes out when the coroutine has ended, unless something better is found."""
        if self._apology is not None:
            raise TransitionError("exchange", _FINISHED, _START)
        self._apology = response

    async def _ask_before(self, app: Any, error: Exception) -> None:
        """Answer with the version before ``app``, if that is taken back and can be asked."""
        self._leave()
        self.app = None
        whole = not self.request.head.has_body or self.request.body.rewind()
        if self.phase is not _WAITING or not whole or not app.host.second_chance(app, error):
            return
        self.again, self._apology = False, None
        before = present(app.entry)
        try:
            answer = app.entry.target.answer(self.request)
            if isinstance(answer, Coroutine):
                self.app = before
                answer = before.coroutine_comes(self, answer)
            self._end_with(await answer if isinstance(answer, Awaitable) else answer)
        except asyncio.CancelledError:
            self._cut_off()
            raise
        except HttpError as refused:
            self._give_up(refusal(refused))
        except Exception as worse:
            before.host.failed(before, worse, "answer")

    def _expects(self) -> bool:
        return (self.request.header(b"expect") or b"").lower() == b"100-continue"

    def _continue(self) -> None:
        self.inform(100, [])

    def _taken(self) -> None:
        target = self.entry.target
        if target is not None:
            target.body_taken(self)

    @staticmethod
    def to_canonical(exchange: Exchange | None) -> Any:
        """The request and how far its answer is; a task has no plain form."""
        if exchange is None:
            return None
        return [exchange.request.plain(), str(exchange.phase), exchange.framing]

    @staticmethod
    def from_canonical(plain: Any) -> Exchange | None:
        """An exchange that is as far, which nobody carries out."""
        if plain is None:
            return None
        exchange = Exchange(Request.from_plain(plain[0]), NOWHERE)
        exchange.phase = Phase(plain[1])
        exchange.framing = plain[2]
        return exchange

    @staticmethod
    def keep(exchange: Exchange | None) -> Callable[[], Exchange | None]:
        """What makes this exchange again as it is now; who answers goes on with the same one."""
        if exchange is None:
            return _none
        phase, framing, upgraded = exchange.phase, dict(exchange.framing), exchange.upgraded
        body = exchange.request.body.keep()

        def again() -> Exchange:
            exchange.phase, exchange.framing, exchange.upgraded = phase, dict(framing), upgraded
            body()
            return exchange

        return again

    def leave(self) -> None:
        """The client has ended its side."""
        self.left = True
        tells, self._on_left = self._on_left, ()
        for tell in tells:
            tell()

    def lost(self) -> None:
        """The client is gone."""
        self._move(Event.LOST)
        self.leave()
        if self.upgraded is not None:
            self.upgraded.session.lost()
        self.resumed()
        self.request.body.fail(ConnectionResetError("the client is gone"))
        if self.phase is _GONE:
            tells, self._on_gone = self._on_gone, ()
            for tell in tells:
                tell()

    def resumed(self) -> None:
        """The peer reads again."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _move(self, event: Event) -> None:
        try:
            self.phase = TRANSITIONS[self.phase, event]
        except KeyError:
            raise TransitionError("exchange", self.phase, event) from None
