"""Puts the page together: one file, whose policy forbids it to fetch anything."""

from __future__ import annotations

import base64
import hashlib
import time
from html import escape
from pathlib import Path

import msgspec

from loadgen.conductor import Observation
from loadgen.findings import Report
from loadgen.judging import Verdict
from loadgen.output.markup import html
from loadgen.output.page.drawing import build_drawing
from loadgen.output.page.sections import body, title

__all__ = ["render_page"]

_HERE = Path(__file__).parent
_SCRIPTS = ("vendor/uPlot.iife.min.js", "report.js")
_STYLES = ("vendor/uPlot.min.css", "report.css")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: {verdict}</title>
<style>{style}</style>
<body>
{body}
<footer>Written by netswap load on <time datetime="{written}">{written}</time>.</footer>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def render_page(seen: Observation, report: Report, verdict: Verdict) -> str:
    """The page of a run."""
    drawing = build_drawing(seen, report)
    scripts = [_read(name) for name in _SCRIPTS]
    return _PAGE.format(
        policy=_policy(scripts),
        title=escape(title(report)),
        verdict=escape(verdict.name),
        written=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        style="\n".join(_read(name) for name in _STYLES),
        body="\n".join(html(section) for section in body(report, verdict, drawing)),
        data=msgspec.json.encode(drawing).decode().replace("<", "\\u003c"),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _policy(scripts: list[str]) -> str:
    """Only these scripts, known by their hashes; no fetch, no frame, no form."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
