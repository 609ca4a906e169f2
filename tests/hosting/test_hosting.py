"""Hosting: what an application is, and that its adapter is started and stopped once."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from netswap.hosting import APP, Application, Sort, hosted, sort_of
from netswap.hosting.implementation import Hosting
from netswap.hosting.sorts import SORTS
from netswap.http import Request, Response, channel
from netswap.http.message import Body, Head
from netswap.mediator import Mediator
from netswap.stack import Host

ROOT = Path(__file__).parents[2]
HEAD = Head("POST", b"/", "/", b"", "1.1", ())


class Callable3:
    """As frameworks write their applications."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def one(_request: Request) -> Response:
    return Response("one")


async def slow(request: Request) -> Response:
    return Response(await request.body.read())


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def with_more(scope: Any, receive: Any, send: Any, extra: int = 1) -> None: ...


def wsgi(environ: Any, start_response: Any) -> None: ...


def make() -> Any:
    return one


def test_who_hosts_nothing_does_not_wait_for_http() -> None:
    """A supervisor and the child that tries a push know the kind by its name; a worker has all."""
    assert APP == channel.APP
    for names, there in (
        ("netswap.commands.serve", False),
        ("netswap.probe, netswap.modules", False),
        ("netswap.worker.__main__", True),
    ):
        code = f"import sys, {names}; print('netswap.hosting.implementation' in sys.modules)"
        said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
        assert said == f"{there}\n", names


@pytest.mark.parametrize(
    ("value", "sort"),
    [
        (one, Sort.FUNCTION),
        (slow, Sort.FUNCTION),
        (asgi, Sort.ASGI),
        (Callable3(), Sort.ASGI),
        (functools.partial(asgi, {}), None),
        (with_more, Sort.ASGI),
        (make, None),
        (wsgi, None),
        (Callable3, None),
        (3, None),
        (print, None),
    ],
)
def test_an_application_is_known_by_its_parameters(value: Any, sort: Sort | None) -> None:
    """What is none is refused with a sentence that begins with its name."""
    if sort is None and value is not make:
        with pytest.raises(TypeError, match="^it "):
            sort_of(value, "it")
    else:
        assert sort_of(value, "it") is (sort or Sort.FACTORY)


def test_an_aiohttp_application_is_known_by_its_class() -> None:
    """It is callable as well."""
    from aiohttp import web

    assert sort_of(web.Application()) is Sort.AIOHTTP


class Fake:
    """An adapter that notes what is done with it, and fails where it is told to."""

    fails = ""

    def __init__(self, application: Any, host: Host) -> None:
        self.application = application
        self.open = 0
        self.done: list[str] = []
        fakes.append(self)

    async def start(self, _limit: Any) -> None:
        self.done.append("start")
        if self.fails == "start":
            raise OSError("no pool")
        if self.fails == "waits":
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.done.append("stop")

    def answer(self, request: Request) -> Response:
        return Response("fake")


fakes: list[Fake] = []


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SORTS, Sort.ASGI, f"{__name__}:Fake")
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this())
    yield
    fakes.clear()
    Fake.fails = ""


def _this() -> ModuleType:
    module = ModuleType(__name__)
    vars(module).update(globals())
    return module


def hosting(value: Any, sort: Sort | None = None) -> Any:
    """The class that hosts a value which is a global of this module."""
    return hosted(Application(__name__, "it", value, sort or sort_of(value, "it")))


async def begun(value: Any, sort: Sort | None = None) -> Any:
    """A hosted application that was started, as an object of its kind."""
    host = Host(asyncio.get_running_loop(), None)
    cls = hosting(value, sort)
    host.started[cls] = await cls.on_prepare(host)
    return cls.born(host, host.service("http.app"))


async def test_an_object_answers_by_its_adapter() -> None:
    """Its state is netswap's own and empty, and its class counts as the application's."""
    app = await begun(asgi)
    assert app.answer(Request(HEAD)).body == b"fake"
    assert (app.kind, app.state, type(app).__module__) == ("http.app", Hosting(), __name__)
    assert app.started.open == 0
    fakes[0].open = 2
    assert app.started.open == 2
    await app.started.stop()
    assert fakes[0].done == ["start", "stop"]


@pytest.mark.parametrize("fails", ["start", "waits"])
async def test_a_start_that_fails_or_is_cancelled_is_undone(fails: str) -> None:
    """The adapter is stopped, and the reason is the application's."""
    Fake.fails = fails
    work = asyncio.ensure_future(begun(asgi))
    while not fakes or not fakes[0].done:
        await asyncio.sleep(0)
    work.cancel()
    with pytest.raises((OSError, asyncio.CancelledError)):
        await work
    assert fakes[0].done == ["start", "stop"]


async def _later() -> Any:
    return asgi


@pytest.mark.parametrize("factory", [lambda: asgi, _later], ids=["def", "async def"])
async def test_a_factory_is_called_when_it_starts(factory: Callable[[], Any]) -> None:
    """What it gives is hosted; each load calls it once."""
    app = await begun(factory, Sort.FACTORY)
    assert app.answer(Request(HEAD)).body == b"fake"
    assert fakes[0].application is asgi


@pytest.mark.parametrize("given", [None, make, 3])
async def test_a_factory_that_gives_no_application_refuses_the_start(given: Any) -> None:
    """With a sentence that names it."""
    with pytest.raises(TypeError, match=r"it\(\) returned"):
        await begun(lambda: given, Sort.FACTORY)


async def test_a_plain_function_answers_at_once() -> None:
    """No coroutine is made, unless the body is still to come."""
    app = await begun(one)
    assert app.answer(Request(HEAD)).body == b"one"
    body = Body()
    body.feed(b"x")
    answer = app.answer(Request(HEAD, body))
    task = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    assert (app.started.open, task.done()) == (1, False)
    body.end()
    assert (await task).body == b"one"
    assert app.started.open == 0


async def test_a_coroutine_function_is_counted_while_it_runs() -> None:
    """Its load may not be stopped before."""
    app = await begun(slow)
    body = Body()
    task = asyncio.ensure_future(app.answer(Request(HEAD, body)))
    await asyncio.sleep(0)
    assert app.started.open == 1
    body.feed(b"late")
    body.end()
    assert (await task).body == b"late"
    assert app.started.open == 0


@pytest.mark.parametrize("value", [one, slow])
async def test_no_swap_holds_a_call_of_a_hosted_application(value: Callable[..., Any]) -> None:
    """A mediator would hold calls of a coroutine function; what is asked here ends in old code."""
    app = await begun(value)
    app.entry.target = app
    Mediator(app.entry, app.generations, lambda _ticket: asyncio.sleep(0), lambda: None)
    assert app.entry.target is not app
    assert app.entry.target.answer is app.answer


def test_the_thread_of_an_import_is_in_the_remark() -> None:
    """The verdict says what no swap ends."""
    application = Application(__name__, "it", one, Sort.FUNCTION)
    one_, two = (hosted(application, threads) for threads in (0, 2))
    assert getattr(one_, "remark", "") == "function of the request, which keeps its own state"
    assert "left 2 threads running" in getattr(two, "remark", "")
