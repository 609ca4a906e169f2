"""Answers as text: tables with plain columns, which grep and awk understand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = [
    "blockers",
    "duration",
    "history",
    "inspection",
    "moment",
    "objects",
    "receipt",
    "rehearsal",
    "retiring",
    "status",
    "table",
    "verdict",
    "versions",
    "watch",
    "workers",
]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def status(page: dict[str, Any]) -> str:
    """Workers, listeners, kinds."""
    lines = [f"up {duration(page['uptime'])}, pid {page['pid']}"]
    if page["transaction"]:
        lines.append(f"running: {page['transaction']}")
    listeners = ", ".join(map(_listener, page["listeners"]))
    lines += [f"listening: {listeners}", "", workers(page["workers"]), "", _kinds(page["kinds"])]
    for kind, row in page["kinds"].items():
        if row.get("pinned"):
            lines += ["", f"sessions of {kind} in older code: {row['pinned']} (netswap blockers)"]
    held = [row for row in page.get("retiring", ()) if row["standing"] == "held"]
    if held:
        lines += ["", f"old code is held in {len(held)} places: netswap versions"]
    return "\n".join(lines)


def _listener(row: dict[str, Any]) -> str:
    away = sum(row.get("turned_away", {}).values())
    remarks = {
        "TLS": row.get("tls"),
        "PROXY": row.get("proxy"),
        f"{away} turned away": away,
        f"its clients wait for a push of {row.get('waits_for')}": row.get("waits_for"),
    }
    said = ", ".join(words for words, true in remarks.items() if true)
    return f"{row['name']} {row['address']}" + (f" ({said})" if said else "")


def workers(rows: Iterable[dict[str, Any]]) -> str:
    """One line a worker."""
    return table(
        ("WORKER", "STATE", "PID", "CONNECTIONS", "RESTARTS", "REMARK"),
        (
            (row["id"], row["state"], row["pid"] or "-", row["connections"], row["restarts"],
             _remark(row))
            for row in rows
        ),
    )  # fmt: skip


def _remark(row: dict[str, Any]) -> str:
    remarks = {"crash_loop": "crash loop", "stuck": "does not answer"}
    said = [words for key, words in remarks.items() if row.get(key)]
    return ", ".join(said + ([row["doing"]] if row.get("doing") else [])) or "-"


def unanswered(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line for each worker that is missing from what was shown."""
    for row in rows:
        doing = f": {row['doing']}" if row["doing"] else ""
        yield (
            f"netswap: worker {row['worker']} (pid {row['pid']}) did not answer, what it has is "
            f"not shown; it is silent for {row['silent_s']:.1f} s{doing}"
        )


def _kinds(kinds: dict[str, dict[str, Any]]) -> str:
    return table(
        ("KIND", "VERSION", "REVISION", "BUNDLE", "OBJECTS", "BY VERSION"),
        (
            (
                kind,
                row["version"] or "-",
                row["revision"] or "-",
                row["sha256"][:12] or "-",
                row["objects"],
                _by_version(row["by_version"]),
            )
            for kind, row in kinds.items()
        ),
    )


def _by_version(counts: dict[str, int]) -> str:
    return " ".join(f"v{v}:{n}" for v, n in sorted(counts.items(), key=lambda c: int(c[0]))) or "-"


def objects(rows: Iterable[dict[str, Any]]) -> str:
    """One line an object."""
    return table(
        ("ID", "KIND", "VERSION", "BUNDLE", "ATTRIBUTES"),
        (
            (row["id"], row["kind"], row["version"], row["sha256"][:12] or "-",
             " ".join(f"{name}={value}" for name, value in row["attributes"].items()) or "-")
            for row in rows
        ),
    )  # fmt: skip


def inspection(row: dict[str, Any]) -> str:
    """One object, its state field by field."""
    head = ("id", "kind", "version", "implementation", "sha256")
    lines = [f"{name:<15}{row[name]}" for name in head]
    lines += [f"{name:<15}{value}" for name, value in row["attributes"].items()]
    lines += ["state:"]
    lines += [f"  {name} = {value!r}" for name, value in row["state"].items()]
    return "\n".join(lines)


def retiring(rows: Iterable[dict[str, Any]]) -> str:
    """Old code that is still in a worker, each with what holds it; empty when there is none."""
    return "\n".join(line for row in rows for line in _old_code(row))


def _old_code(row: dict[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{kind} v{version}" for kind, version in row["kinds"].items())
    since = _STANDINGS[row["standing"]].format(duration(row["age"]), row["objects"])
    yield f"worker {row['worker']}: old code {kinds} (bundle {row['sha256'][:12]}) {since}"
    yield from (f"  held by {chain}" for chain in row["held_by"])


_STANDINGS = {
    "pinned": "is that of {1} live objects",
    "draining": "ends when {1} calls have ended and what it has started has stopped",
    "leaving": "was given up {0} ago",
    "held": "was given up {0} ago and is still there",
    "garbage": "was given up {0} ago; nothing holds it, the next full collection frees it",
}


def versions(rows: Iterable[dict[str, Any]]) -> str:
    """One line a revision."""
    return table(
        ("KIND", "REVISION", "VERSION", "BUNDLE", "ACTIVE", "OBJECTS", "ACCEPTED", "FROM"),
        (
            (row["kind"], row["number"], row["version"], row["sha256"][:12],
             "active" if row["active"] else "-", row["objects"], moment(row["time"]),
             row["bundle"] or "-")
            for row in rows
        ),
    )  # fmt: skip


def history(rows: Iterable[dict[str, Any]]) -> str:
    """One line a transaction."""
    return table(
        ("TX", "TIME", "OUTCOME", "COMMAND", "CHANGES"),
        (
            (row["tx"], moment(row["time"]), _outcome(row), row["command"],
             ", ".join(map(_change, row["changes"])))
            for row in rows
        ),
    )  # fmt: skip


def _outcome(row: dict[str, Any]) -> str:
    return f"{row['outcome']} (undone)" if row["undone"] else f"{row['outcome']}"


def _change(change: dict[str, Any]) -> str:
    old = change["old_revision"] or "-"
    return f"{change['kind']} {old}→{change['new_revision'] or '?'}"


def blockers(rows: Iterable[dict[str, Any]]) -> str:
    """One line a suspended call."""
    return table(
        ("WORKER", "KIND", "ID", "SUSPENDED AT", "AGE"),
        (
            (r["worker"], r["kind"], r.get("id") or r["entry"], r["where"], f"{r['age']:.1f} s")
            for r in rows
        ),
    )


def certificates(rows: Iterable[dict[str, Any]]) -> str:
    """One line a certificate."""
    return table(
        ("LISTENER", "SUBJECT", "ISSUER", "EXPIRES", "FINGERPRINT", "CLIENTS", "LIVE", "REMARK"),
        (
            (row["listener"], row["subject"], row["issuer"], moment(row["ends"]),
             row["fingerprint"][:16], row.get("client", "-"), row["connections"],
             _standing(row))
            for row in rows
        ),
    )  # fmt: skip


def _standing(row: dict[str, Any]) -> str:
    if not row["in_force"]:
        return "old: of live sessions alone"
    days = row["days_left"]
    return "expired" if days < 0 else f"{days} days left"


def receipt(result: dict[str, Any]) -> str:
    """How a push, swap or rollback went."""
    return "\n".join(_receipt_lines(result))


def _receipt_lines(result: dict[str, Any]) -> Iterator[str]:
    yield result["what"]
    for line in result["verdicts"]:
        yield f"  {verdict(line)}"
    for change in result["changes"]:
        yield f"  {_revision(change)}"
    yield from rehearsal(result.get("rehearsal", ()))
    yield from (f"  {remark}" for remark in result.get("remarks", ()))
    for row in result.get("acted", ()):
        yield f"  {row['kind']} {row['id']}: {row['what']}"
    counts = result["receipt"]
    if counts is not None:
        yield from _counts(counts, result["dry_run"])
    if result.get("watch"):
        yield from ("  " + line for line in watch(result["watch"]).splitlines())
    if result["only"]:
        yield f"  only {result['only']}: new objects still get the committed version"
    if result["undo"]:
        yield f"  undo with: {result['undo']}"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"


def rehearsal(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What all workers tried, together, and what they expect; a line more for each remark."""
    objects = sum(row["objects"] for row in rows)
    if not rows:
        return
    mean = sum(row["us_per_object"] * row["objects"] for row in rows) / max(objects, 1)
    slowest = max(rows, key=lambda row: row["slowest_us"])
    if any(row["sample"] for row in rows):
        yield f"  no rehearsal: a sample of {_objects(objects)} was converted in the workers"
    else:
        yield (
            f"  rehearsed: {_objects(objects)} up and down again in "
            f"{sum(row['seconds'] for row in rows):.2f} s, fork "
            f"{max(row['fork_us'] for row in rows) / 1000:.2f} ms"
        )
    each = (
        f"{mean:.1f} µs an object, {slowest['slowest_us']:.0f} µs the slowest "
        f"({slowest['slowest'] or '-'}), "
    )
    stall = max(row["stall_us"] for row in rows) / 1000
    yield f"  expected: {each if objects else ''}longest stall {stall:.2f} ms"
    yield from (f"  {remark}" for row in rows for remark in _remarks(row))


_TOLD = {
    "large": "objects were too large to compare",
    "untried": "objects had no time left to be tried: give it a longer --timeout",
    "failed": "objects can't be converted",
}


def _remarks(row: dict[str, Any]) -> Iterator[str]:
    worker = f"worker {row['worker']}:"
    yield from (f"{worker} {row[name]} {said}" for name, said in _TOLD.items() if row[name])
    for field, count in row["altered"].items():
        yield f"{worker} going back would not restore {field} of {_objects(count)}"
    if row["output"]:
        yield f"{worker} it prints: {row['output']}"


def watch(rows: Iterable[dict[str, Any]]) -> str:
    """The figures of a watch: old and new code of each worker side by side, where both serve."""
    rows = [row for row in rows if row["on_watch"] or row["objects"] or row["calls"]]
    return table(
        ("WORKER", "KIND", "VERSION", "OBJECTS", "CALLS", "ERRORS", "MEAN", "LONGEST", "STALL",
         "MEMORY", "UNGUARDED"),
        (
            (row["worker"], row["kind"], f"v{row['version']} {'new' if row['on_watch'] else 'old'}",
             row["objects"], row["calls"], row["errors"], f"{row['mean_us']:.0f} µs",
             f"{row['max_us']:.0f} µs", f"{row['stall_ms']:.1f} ms", f"{row['memory'] >> 20} MiB",
             row["unguarded"])
            for row in rows
        ),
    )  # fmt: skip


def verdict(line: dict[str, Any]) -> str:
    """One verdict as a line."""
    was = "" if line["old"] is None else f"v{line['old']} → "
    arrow = f"{was}v{line['new']}" if line["new"] else "-"
    lossy = f", loses {', '.join(line['lossy'])}" if line["lossy"] else ""
    return f"{line['kind']}  {arrow}  {line['verdict']} ({line['reason']}){lossy}"


def _revision(change: dict[str, Any]) -> str:
    new = change["new_revision"]
    number = f"revision {new}" if new is not None else "a new revision"
    return f"{change['kind']}  {number}, bundle {change['sha256'][:12]}"


def _counts(counts: dict[str, Any], dry_run: bool) -> Iterator[str]:
    objects = ", ".join(f"{kind} {number}" for kind, number in counts["objects"].items())
    verb = "to convert" if dry_run else "converted"
    yield f"  {verb}: {objects or 'no live objects'} in {_workers(counts['workers'])}"
    if not dry_run:
        number = sum(counts["objects"].values())
        each = f"{counts['convert_us'] / number:.1f} µs an object, " if number else ""
        yield (
            f"  it took: {each}blackout {counts['blackout_us'] / 1000:.2f} ms, "
            f"longest stall {counts['stall_us'] / 1000:.2f} ms, "
            f"gone {counts['gone']}, dropped {counts['dropped']}"
        )
    if counts.get("held_us"):
        yield f"  atomic: nothing was served for {counts['held_us'] / 1000:.2f} ms"
    if counts.get("left"):
        yield f"  left: {counts['left']} sessions give their last answer in old code"


def duration(seconds: float) -> str:
    """A time span in the two units that matter."""
    whole = int(seconds)
    steps = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
    for size, unit, smaller, unit_below in steps:
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {unit_below}"
    return f"{seconds:.1f} s"


def moment(seconds: float) -> str:
    """A time of day with its date, local."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
