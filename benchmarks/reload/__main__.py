"""Runs the table: ``python -m benchmarks.reload [--peers FOLDER] [--only NAME ...] [--each N]``.

For each server: N connections of every class are brought to their place, one reload is made, and
what became of each is told. Then three more reloads under new connections, and last a release that
does not import (of a proxy: a configuration that is wrong).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.reload.connections import CLASSES, Class, Outcome, Point, hold, one_answer
from benchmarks.reload.peers import PEERS, READY_S, Running, find

RELOADS = 3
CALLERS = 8
BROKEN_S = 12.0
"""Seconds for which a service with a release that does not import is looked at."""


def main() -> int:
    """Print the table; 1 when netswap has closed anything."""
    parser = argparse.ArgumentParser(prog="benchmarks.reload", description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder with the peers' programs")
    parser.add_argument("--only", nargs="*", default=[], help="names of servers")
    parser.add_argument("--each", type=int, default=6, help="connections of a class")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    columns: dict[str, dict[str, str]] = {}
    for peer in PEERS:
        if arguments.only and peer.name not in arguments.only:
            continue
        program = find(peer, arguments.peers)
        upstream = find(PEERS[1], arguments.peers)
        if program is None or (peer.proxies and upstream is None):
            print(f"{peer.name}: not measured, it is not there: {peer.get}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="reload-") as folder:
            running = Running(peer, program, Path(folder), upstream)
            try:
                columns[peer.name] = asyncio.run(measured(running, arguments.each))
            except Exception:
                print((Path(folder) / "log").read_text()[-3000:], file=sys.stderr)
                raise
            finally:
                running.stop()
        print(f"{peer.name}: {json.dumps(columns[peer.name], indent=1)}", file=sys.stderr)
    print(json.dumps(columns) if arguments.json else table(columns))
    return verdict(columns.get("netswap"))


def verdict(ours: dict[str, str] | None) -> int:
    """0 when netswap was not measured, or has closed nothing and failed nobody."""
    if ours is None:
        return 0
    kept = all(ours[kind.name].startswith("ok") for kind in CLASSES)
    return 0 if kept and ours["new connections failed"].startswith("0 of") else 1


async def measured(running: Running, each: int) -> dict[str, str]:
    """What became of everything, by row of the table."""
    await ready(running)
    tls = ssl.create_default_context(cafile=running.folder.cert)
    rows = await over_a_reload(running, each, tls)
    rows["new connections failed"] = await new_connections(running)
    rows["a release that does not import"] = await broken_release(running)
    return rows


async def ready(running: Running) -> None:
    """Both ports answer. Raises TimeoutError."""
    async with asyncio.timeout(READY_S):
        while await one_answer(running.ports.plain) != 200:
            await asyncio.sleep(0.1)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", running.ports.tls)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                break
    await asyncio.sleep(1)


async def over_a_reload(running: Running, each: int, tls: ssl.SSLContext) -> dict[str, str]:
    """Hold ``each`` connections of every class over one reload."""
    kinds: list[Class] = [kind for kind in CLASSES for _ in range(each)]
    point = Point(len(kinds))
    ports = running.ports
    tasks = [
        asyncio.create_task(hold(kind, ports.tls if kind.tls else ports.plain, tls, point))
        for kind in kinds
    ]
    waiting = asyncio.create_task(point.ready.wait())
    await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await asyncio.gather(*tasks)  # raises what went wrong
    point.reload()
    await asyncio.to_thread(running.reload, 2)
    outcomes = await asyncio.gather(*tasks)
    found: dict[str, list[Outcome]] = {}
    for kind, outcome in zip(kinds, outcomes, strict=True):
        found.setdefault(kind.name, []).append(outcome)
    return {name: told(rows) for name, rows in found.items()}


def told(outcomes: list[Outcome]) -> str:
    """What became of the connections of one class, those alike together."""
    alike: dict[str, list[float]] = {}
    for outcome in outcomes:
        times = alike.setdefault(outcome.text, [])
        if outcome.at is not None:
            times.append(outcome.at)
    counts = Counter(outcome.text for outcome in outcomes)
    texts = [f"{text}{_when(alike[text])}" for text, _ in counts.most_common()]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(f"{count} {text}" for text, count in zip(texts, counts.values(), strict=True))


def _when(times: list[float]) -> str:
    if not times:
        return ""
    first, last = min(times), max(times)
    return f" at {first:.1f} s" if last - first < 0.15 else f" at {first:.1f} to {last:.1f} s"


async def new_connections(running: Running) -> str:
    """Requests on connections of their own during three reloads."""
    statuses: Counter[int] = Counter()
    over = asyncio.Event()

    async def call() -> None:
        while not over.is_set():
            statuses[await one_answer(running.ports.plain)] += 1

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for number in range(RELOADS):
        await asyncio.to_thread(running.reload, 3 + number)
        await asyncio.sleep(4)
    over.set()
    await asyncio.gather(*callers)
    return f"{statuses.total() - statuses[200]} of {statuses.total():,}"


async def broken_release(running: Running) -> str:
    """What a release that does not import does to the service."""
    said = await asyncio.to_thread(running.reload, None)
    until = time.monotonic() + BROKEN_S
    statuses: Counter[int] = Counter()
    while time.monotonic() < until:
        statuses[await one_answer(running.ports.plain)] += 1
        await asyncio.sleep(0.2)
    last = [await one_answer(running.ports.plain) for _ in range(10)]
    if all(status == 200 for status in last):
        verdict = "serves on" if statuses.total() == statuses[200] else "serves again"
        failed = statuses.total() - statuses[200]
        verdict += f", {failed} of {statuses.total()} failed" if failed else ""
    else:
        verdict = "dead" if not any(last) else f"{last.count(200)} of {len(last)} answered"
    return f"{said}, {verdict}" if said else verdict


def table(columns: dict[str, dict[str, Any]]) -> str:
    """As Markdown: a row for each class, a column for each server."""
    names = list(columns)
    rows = list(next(iter(columns.values()))) if columns else []
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {row} | " + " | ".join(columns[name].get(row, "") for name in names) + " |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
