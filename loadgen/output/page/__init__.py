"""The report as one file for a browser: nothing is loaded from anywhere, it opens offline.

- ``drawing``   the data of the charts, embedded as JSON
- ``sections``  all that can be read without them: verdict, figures, tables
- ``happenings``  the events, each with its window
- ``file``      puts them together with ``report.css``, ``report.js`` and uPlot (``vendor/``)

The text is whole without JavaScript; the script only draws. A policy in the page lets no script
run but the two that it came with, and nothing be fetched.
"""

from loadgen.output.page.file import render_page

__all__ = ["render_page"]
