"""wrk for a minute with a push every second: ``python -m benchmarks.web.pushes [--seconds S]``.

Each push is a version of the application that was never seen. Prints what wrk saw, the share of the
answers by version and the pushes' blackouts; 1 when there was a socket error, a status that is not
200, an answer of no version, or a push that failed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.servers import Netswap, free_port, need, running

APP = '''"""An application that says its version."""
from netswap.http import Response

VERSION = {version}


{prefix}def app(request):
    """Answer."""
    return Response("hello", headers=[(b"x-version", b"%d" % VERSION)])
'''
SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) versions = {}; others = 0 end
function response(status, headers, body)
  local version = tonumber(headers["x-version"])
  if status ~= 200 or not version then others = others + 1
  else versions[version] = (versions[version] or 0) + 1 end
  text = ""
end
function request()
  return wrk.format("GET", "/")
end
function told()
  local parts = {}
  for version, count in pairs(versions) do table.insert(parts, version .. "=" .. count) end
  return table.concat(parts, " ")
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write("errors connect " .. e.connect .. " read " .. e.read .. " write " .. e.write ..
    " timeout " .. e.timeout .. " status " .. e.status .. "\\n")
  io.write("requests " .. summary.requests .. "\\n")
  io.write(string.format("latency us p50 %d p99 %d p99.9 %d max %d\\n", latency:percentile(50),
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
"""


class Seen(NamedTuple):
    """What wrk said."""

    errors: dict[str, int]
    requests: int
    latency: str
    output: str


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.web.pushes", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--coroutine", action="store_true", help="answer by async def")
    arguments = parser.parse_args()
    prefix = "async " if arguments.coroutine else ""
    with tempfile.TemporaryDirectory(prefix="netswap-bench-") as name:
        folder = Path(name)
        app = folder / "app.py"
        app.write_text(APP.format(version=1, prefix=prefix))
        port = free_port()
        words = [sys.executable, "-m", "netswap", "serve", "--app", f"{app}:app", "--workers", "2"]
        words += ["--state-dir", f"{folder}/d", "--socket", f"{folder}/s"]
        words += ["--listen", f"http=127.0.0.1:{port}"]
        with running(words, "ready", None):
            server = Netswap(folder / "s", {"http": port})
            return _measured(server, app, prefix, arguments)


def _measured(server: Netswap, app: Path, prefix: str, arguments: argparse.Namespace) -> int:
    script = app.with_name("count.lua")
    script.write_text(_counting(app.with_name("versions")))
    wrk = [need("wrk", "wrk"), "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s"]
    url = f"http://127.0.0.1:{server.ports['http']}/"
    pushes: list[tuple[int, dict[str, Any]]] = []
    with subprocess.Popen(
        [*wrk, "-s", str(script), url], stdout=subprocess.PIPE, text=True
    ) as process:
        began = time.monotonic()
        for version in range(2, arguments.seconds):
            pause = began + version - 1 - time.monotonic()
            time.sleep(max(pause, 0))
            if process.poll() is not None:
                break
            app.write_text(APP.format(version=version, prefix=prefix))
            pushes.append(server.run("push", str(app)))
        output, _ = process.communicate()
    return _print(_seen(output), _versions(app.with_name("versions")), pushes)


def _counting(path: Path) -> str:
    """The script, which writes the counts of versions to a file as it goes."""
    flush = f"""
local last = 0
local count = 0
local counted = response
function response(status, headers, body)
  counted(status, headers, body)
  count = count + 1
  if count - last >= 1000 then
    last = count
    local file = io.open("{path}", "w")
    file:write(told(), " other=", others, "\\n")
    file:close()
  end
end
"""
    return SCRIPT + flush


def _seen(output: str) -> Seen:
    line = next(row for row in output.splitlines() if row.startswith("errors"))
    errors = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", line)}
    (requests,) = re.findall(r"^requests (\d+)", output, re.MULTILINE)
    (latency,) = re.findall(r"^latency us (.*)", output, re.MULTILINE)
    return Seen(errors, int(requests), latency, output)


def _versions(path: Path) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", path.read_text("ascii"))}


def _print(seen: Seen, versions: dict[str, int], pushes: list[tuple[int, dict[str, Any]]]) -> int:
    others = versions.pop("other")
    total = sum(versions.values())
    print(f"wrk: {seen.requests:,} requests, {seen.errors}")
    print(f"latency us: {seen.latency}")
    print(f"versions: {len(versions)} of {len(pushes) + 1} answered; answers of none: {others}")
    for version, count in sorted(versions.items(), key=lambda row: int(row[0])):
        print(f"  version {version:>3}: {count:>9,} {count / total:6.1%}")
    blackouts = [row["receipt"]["blackout_us"] / 1e3 for code, row in pushes if code == 0]
    failed = [row for code, row in pushes if code]
    print(f"pushes: {len(pushes)}, failed {len(failed)}")
    if blackouts:
        print(f"blackout ms: median {statistics.median(blackouts):.2f}, max {max(blackouts):.2f}")
    for row in failed[:3]:
        print(f"  {row.get('what')} ({row.get('where')})")
    return 1 if failed or others or any(seen.errors.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
