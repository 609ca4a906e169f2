"""``python -m benchmarks.timelines [--peers FOLDER] [--out FOLDER] [--duration S] [--every S]``.

The same load command aimed at each server in turn, while it takes a new version of the same
application every few seconds. Of each there are a page and the run as JSON; of all a picture.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.servers import ROOT
from benchmarks.timelines.servers import RELOAD, SERVERS, find, serving

LOAD = ("--protocol", "http", "--scenario", "loyal", "--connections", "40")
NO_FAULTS = ("issued", "answered")


def main() -> None:
    """Run them, and say what was seen."""
    asked = _parse()
    asked.out.mkdir(parents=True, exist_ok=True)
    programs = {server: find(server, asked.peers) for server in SERVERS}
    names = []
    for server, program in programs.items():
        with serving(server, program) as (folder, port):
            saved = asked.out / f"{server.name}.json"
            _load(asked, folder, port, saved)
        names.append(f"{server.name}={saved}")
        print(_line(server.name, json.loads(saved.read_text())), flush=True)
    picture = asked.out / "timelines.svg"
    title = f"The same load, a new version every {asked.every:g} s"
    _loadgen("picture", *names, "--title", title, "--out", str(picture))
    print(f"{picture}, and a page of each server beside it")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timelines")
    parser.add_argument("--peers", type=Path, help="folder of uvicorn and granian")
    parser.add_argument("--out", type=Path, default=Path("timelines"))
    parser.add_argument("--duration", type=float, default=30.0, help="seconds")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between versions")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second")
    return parser.parse_args()


def _load(asked: argparse.Namespace, folder: Path, port: int, saved: Path) -> None:
    words = ["run", *LOAD, "--port", str(port), "--rate", f"{asked.rate:g}"]
    words += ["--duration", f"{asked.duration:g}s", "--every", f"{asked.every:g}s"]
    words += [
        "--run",
        shlex.join([str(folder / RELOAD)]),
        "--save",
        str(saved),
        "--report",
        str(saved.with_suffix(".html")),
    ]
    _loadgen(*words)


def _loadgen(*words: str) -> None:
    command = [sys.executable, "-m", "loadgen", *words]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)


def _line(name: str, run: dict[str, Any]) -> str:
    faults = {what: n for what, n in run["counts"].items() if n and what not in NO_FAULTS}
    said = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in faults.items()) or "no fault"
    worst = run["latency_us"]["max"]
    latency = "" if worst is None else f", p99 {run['latency_us']['p99'] / 1000:.1f} ms, slowest " \
        f"{worst / 1000:.1f} ms"  # fmt: skip
    return f"{name:<9} {run['counts']['answered']:,} answered, {said}{latency}; " \
        f"versions {', '.join(run['by_version'])}"  # fmt: skip


if __name__ == "__main__":
    main()
