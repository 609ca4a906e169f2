"""The supervisor's side of the admin API: an aiohttp application on the admin socket.

A transaction does not belong to the request that asked for it: when the client goes away, it runs
to its end, and the history tells how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from netswap.admin.requests import (
    BODY_LIMIT,
    BlockersRequest,
    CertificatesRequest,
    PromoteRequest,
    PushRequest,
    RollbackRequest,
    SwapRequest,
)
from netswap.admin.socket import bind_admin_socket, may_speak
from netswap.errors import AuthorError, UsageError
from netswap.logs import get_logger
from netswap.modules import Bundle
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.supervisor import SCHEMA, Progress, Result, Supervisor
from netswap.unixsocket import peer_of

__all__ = ["AdminServer"]

log = get_logger("netswap.admin")

R = TypeVar("R", bound=Options | PromoteRequest | BlockersRequest | CertificatesRequest)
Tell = Callable[[Progress], None]
Run = Callable[[Tell], Awaitable[Result]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_encode = msgspec.json.Encoder().encode


class AdminServer:
    """The API of one supervisor at ``path``."""

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self.path = path
        self._supervisor = supervisor
        self._runner: web.AppRunner | None = None
        self._running: set[asyncio.Task[Result]] = set()
        self._close = contextlib.ExitStack()

    async def start(self) -> None:
        """Listen.

        :raises AdminSocketError: another server answers there, or the place can't be written.
        """
        bound = bind_admin_socket(self.path)
        self._close.callback(bound.remove)
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, bound.sock).start()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._close.close()

    def application(self) -> web.Application:
        """The routes. aiohttp answers 405 to a GET of what changes something."""
        app = web.Application(middlewares=[_only_own_user, _errors], client_max_size=BODY_LIMIT)
        looks = self._supervisor.looks
        simple = {
            "status": looks.status,
            "versions": looks.versions,
            "workers": looks.workers,
            "history": looks.history,
            "blockers": looks.blockers,
            "certificates": self._supervisor.show_certificates,
        }
        for name, look in simple.items():
            app.router.add_get(f"/v1/{name}", _look(look))
        app.router.add_get("/v1/objects", self._objects)
        app.router.add_get("/v1/inspect/{identity:.*}", self._inspect)
        app.router.add_post("/v1/push", self._push)
        app.router.add_post("/v1/swap", self._swap)
        app.router.add_post("/v1/rollback", self._rollback)
        app.router.add_post("/v1/promote", self._promote)
        app.router.add_post("/v1/blockers", self._intervene)
        app.router.add_post("/v1/certificates", self._reload_certificates)
        return app

    async def _objects(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._supervisor.looks.objects(request.query.get("selector", "")))

    async def _inspect(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._supervisor.looks.inspect(request.match_info["identity"]))

    async def _push(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, PushRequest)
        try:
            bundles = [Bundle.from_message(message) for message in body.bundles]
        except AuthorError as error:
            raise UsageError(str(error)) from error
        if not bundles:
            raise UsageError("a push without bundles")
        operations = self._supervisor.operations
        return await self._stream(request, lambda tell: operations.push(bundles, body, tell))

    async def _swap(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, SwapRequest)
        swap = self._supervisor.operations.swap
        return await self._stream(request, lambda tell: swap(body.kind, body.revision, body, tell))

    async def _rollback(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, RollbackRequest)
        if body.revision is not None and body.kind is None:
            raise UsageError("a revision without a kind", "", "netswap rollback KIND --to REV")
        rollback = self._supervisor.operations.rollback
        return await self._stream(
            request, lambda tell: rollback(body.kind, body.revision, body, tell)
        )

    async def _promote(self, request: web.Request) -> web.StreamResponse:
        await _body(request, PromoteRequest)
        return await self._stream(request, self._supervisor.operations.promote)

    async def _intervene(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, BlockersRequest)
        if sum((body.nudge is not None, body.cancel is not None, body.abort)) != 1:
            raise UsageError("nudge, cancel and abort are one of three")
        if body.abort:
            return await self._stream(request, self._supervisor.operations.abort)
        intervention = self._supervisor.intervention
        if body.nudge is not None:
            result = await intervention.nudge(body.nudge)
        else:
            result = await intervention.cancel(body.cancel or "")

        async def ready(_tell: Tell) -> Result:
            return result

        return await self._stream(request, ready)

    async def _reload_certificates(self, request: web.Request) -> web.StreamResponse:
        await _body(request, CertificatesRequest)

        async def reload(_tell: Tell) -> Result:
            return await self._supervisor.reload_certificates()

        return await self._stream(request, reload)

    async def _stream(self, request: web.Request, run: Run) -> web.StreamResponse:
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        task = asyncio.create_task(self._carry_out(run, lines), name=request.path)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await response.prepare(request)
            while (line := await lines.get()) is not None:
                await response.write(line + b"\n")
            await response.write_eof()
        except ConnectionError as error:
            log.warning(
                "client left, its transaction goes on", path=request.path, reason=str(error)
            )
        return response

    async def _carry_out(self, run: Run, lines: asyncio.Queue[bytes | None]) -> Result:
        try:
            result = await run(lambda progress: lines.put_nowait(_encode(progress)))
        except Exception as error:
            # An error of ours: without a line the client would have to guess.
            log.exception("transaction failed inside the supervisor")
            what = f"the supervisor failed: {error!r}"
            result = Result(Outcome.UNKNOWN, what, advice="`netswap history` shows how it ended")
        lines.put_nowait(_encode({"schema": SCHEMA, **msgspec.to_builtins(result)}))
        lines.put_nowait(None)
        return result


def _look(look: Callable[[], Awaitable[dict[str, Any]]]) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return _json(await look())

    return handler


async def _body(request: web.Request, kind: type[R]) -> R:
    try:
        body = msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the request is not understood: {error}") from error
    if isinstance(body, Options):
        body.check()
    return body


def _json(page: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=_encode(page), content_type="application/json", status=status)


def _error(status: int, what: str, advice: str = "") -> web.Response:
    return _json({"schema": SCHEMA, "error": what, "advice": advice}, status)


@web.middleware
async def _only_own_user(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    peer = peer_of(transport.get_extra_info("socket"))
    if not may_speak(peer):
        log.warning("refused a stranger at the admin socket", uid=peer.uid, pid=peer.pid)
        return _error(403, f"user {peer.uid} may not speak to this server", "use its own user")
    return await handler(request)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UsageError as error:
        return _error(400, error.what, error.advice)
    except web.HTTPException as error:
        return _error(error.status, error.reason, "")
