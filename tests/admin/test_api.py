"""The admin API, both ends over a real socket, before a supervisor of stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netswap.admin import (
    AdminClient,
    BadRequest,
    PushRequest,
    RollbackRequest,
    SwapRequest,
)
from netswap.admin import server as admin_server
from netswap.admin.server import AdminServer
from netswap.admin.socket import Peer
from tests.supervisor.conftest import Serve, Server, bundle, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])
__all__ = ["serve"]  # the fixture is used from here


class Api:
    """A server with its API, and a client that runs beside the loop."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self.path = path
        self.client = AdminClient(path, 10)

    async def get(self, resource: str, **query: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.client.get, resource, **query)

    async def post(self, resource: str, body: Any) -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: list(self.client.post(resource, body)))

    async def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; return all that comes back."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def api(serve: Serve, tmp_path: Path) -> AsyncIterator[Api]:
    async with serve() as server:
        listening = AdminServer(server.supervisor, tmp_path / "admin.sock")
        await listening.start()
        try:
            yield Api(server, tmp_path / "admin.sock")
        finally:
            await listening.close()
        assert not (tmp_path / "admin.sock").exists()


def push_of(*versions: int, **choices: Any) -> PushRequest:
    return PushRequest(bundles=[bundle(v).to_message() for v in versions], **choices)


async def test_status_has_the_keys_that_programs_rely_on(api: Api) -> None:
    """The surface of `status --json`."""
    await api.post("push", push_of(1))
    page = await api.get("status")
    keys = ["schema", "pid", "uptime", "workers", "kinds", "listeners", "transaction", "retiring",
            "unanswered"]  # fmt: skip
    assert list(page) == keys
    assert page["schema"] == "netswap/1"
    assert {"id", "pid", "connections", "state"} <= set(page["workers"][0])
    assert [row["state"] for row in page["workers"]] == ["serving", "serving"]
    assert page["kinds"]["k"] == {
        "version": 1,
        "revision": 1,
        "sha256": bundle(1).sha256,
        "objects": 4,
        "by_version": {"1": 4},
        "pinned": 0,
    }
    (listener,) = page["listeners"]
    assert (listener["name"], listener["protocol"]) == ("echo", "echo")


async def test_a_push_streams_progress_and_ends_with_the_result(api: Api) -> None:
    """One line a step, the result last."""
    *progress, result = await api.post("push", push_of(1))
    assert all("text" in line for line in progress)
    assert {line.get("worker") for line in progress} == {None, 0, 1}
    assert (result["schema"], result["outcome"]) == ("netswap/1", "done")
    assert result["undo"] == "netswap rollback"


async def test_swap_rollback_history_and_versions(api: Api) -> None:
    """What was done can be seen and taken back over the API."""
    await api.post("push", push_of(1))
    await api.post("push", push_of(2))
    *_, undone = await api.post("rollback", RollbackRequest())
    assert undone["outcome"] == "done"
    *_, swapped = await api.post("swap", SwapRequest(kind="k", revision="2"))
    assert swapped["outcome"] == "done"
    rows = (await api.get("versions"))["versions"]
    assert [(row["number"], row["active"], row["objects"]) for row in rows] == [
        (1, False, 0),
        (2, True, 4),
    ]
    history = (await api.get("history"))["transactions"]
    assert [row["command"] for row in history] == [
        "swap k@2",
        "rollback",
        "push k/v2.py",
        "push k/v1.py",
    ]
    assert history[2]["undone"] == ["k"]


async def test_objects_have_ids_of_all_workers(api: Api) -> None:
    """An id names the worker and the object, and a selector by id reaches one worker."""
    page = await api.get("objects", selector="id=1.7")
    assert [row["id"] for row in page["objects"]] == ["0.7", "1.7"]
    assert [row["attributes"]["q"] for row in page["objects"]] == ["id=0", "id=7"]


async def test_inspect_shows_state_even_where_it_is_no_text(api: Api) -> None:
    """Bytes are shown escaped, since JSON has none."""
    found = (await api.get("inspect/0.7"))["object"]
    assert found["state"] == {"partial": "\\xffx", "n": 1}
    with pytest.raises(BadRequest, match=r"no object 0\.8 lives"):
        await api.get("inspect/0.8")
    for word in ("x", ""):
        with pytest.raises(BadRequest, match="not SLOT.NUMBER"):
            await api.get(f"inspect/{word}")


async def test_a_bad_selector_is_the_callers_error(api: Api) -> None:
    """The sentence reaches the operator, with the names that there are."""
    with pytest.raises(BadRequest, match="'bad' is not a condition"):
        await api.get("objects", selector="bad")
    with pytest.raises(BadRequest, match="no object has an attribute 'knd': .* peer,"):
        await api.get("objects", selector="knd=kv.connection")


async def test_workers_and_blockers(api: Api) -> None:
    """The remaining looks answer."""
    rows = (await api.get("workers"))["workers"]
    assert [row["answers"] for row in rows] == [True, True]
    assert rows[0]["memory"] == 1 << 20
    assert (await api.get("blockers"))["blockers"] == []


@pytest.mark.parametrize("resource", ["push", "swap", "rollback"])
async def test_nothing_mutates_over_get(api: Api, resource: str) -> None:
    """A look can be repeated by anything without harm."""
    with pytest.raises(BadRequest, match="Method Not Allowed"):
        await api.get(resource)


@pytest.mark.parametrize(
    "body",
    [b"nonsense", b'{"bundles": ["AAAA"]}', b'{"bundles": []}', b'{"canary": 3}', b"[]"],
)
async def test_a_body_that_is_none_is_refused(api: Api, body: bytes) -> None:
    """Also an option that this server does not know: it must not be ignored."""
    head = f"POST /v1/push HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    assert (await api.raw(head.encode() + body)).startswith(b"HTTP/1.0 400")


@pytest.mark.parametrize("choices", [{"only": "nonsense"}, {"shadow": -1.0}, {"shadow": 1e12}])
async def test_a_choice_that_can_not_be_is_refused_before_anything_runs(
    api: Api, choices: dict[str, Any]
) -> None:
    """A selector and a time are looked at here, not in a worker, or for thousands of years."""
    with pytest.raises(BadRequest):
        await api.post("rollback", RollbackRequest(**choices))


async def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    """Requests are bounded."""
    with pytest.raises(BadRequest, match="Too Large"):
        await api.post("push", PushRequest(bundles=[bytes(50 * 1024 * 1024)]))


async def test_a_stranger_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user gets a sentence, not an answer."""
    monkeypatch.setattr(admin_server, "peer_of", lambda _sock: Peer(1, 64123, 64123))
    with pytest.raises(BadRequest, match="user 64123 may not speak"):
        await api.get("status")


async def test_a_transaction_outlives_its_client(api: Api) -> None:
    """Whoever goes away in the middle finds the end in the history."""
    body = msgspec.json.encode(push_of(1))
    _, writer = await asyncio.open_unix_connection(str(api.path))
    writer.write(f"POST /v1/push HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    while api.server.supervisor.operations.running is None:
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    await api.server.supervisor.operations.close()
    assert api.server.active == {"k": bundle(1).sha256}


@pytest.mark.parametrize("name", ["timeout", "watch", "by_hand", "shadow"])
async def test_a_time_that_is_none_or_endless_is_refused(api: Api, name: str) -> None:
    """Before anything begins: nobody may hold the one transaction that there can be for ever."""
    for seconds in (0.0, -1.0, 3601.0):
        with pytest.raises(BadRequest, match=f"{name} is more than 0 and at most 3600 seconds"):
            await api.post("push", push_of(1, **{name: seconds}))
    assert (await api.get("history"))["transactions"] == []
