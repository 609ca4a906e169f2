"""Elements of a page or a picture, as a tree: every text is escaped by the library, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "el", "html", "svg", "table"]

Child = Element | str


def el(tag: str, *children: Child, **attributes: str) -> Element:
    """An element; ``class_`` and ``aria_label`` are the attributes ``class`` and ``aria-label``."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    made = Element(tag, names)
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def table(
    label: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Child]],
    styles: Mapping[int, str] | None = None,
) -> Element:
    """A table whose first column heads its rows, in a box that scrolls where it is too wide.

    The box can be scrolled with keys, so it has a name, the ``label``, for who does not see it.
    ``styles`` are the classes of columns, by their number.
    """
    named = {number: {"class": style} for number, style in (styles or {}).items()}
    body = el("tbody")
    for first, *others in rows:
        row = el("tr", el("th", first, scope="row"))
        row.extend(el("td", cell, **named.get(k, {})) for k, cell in enumerate(others, 1))
        body.append(row)
    cells = (el("th", name, scope="col", **named.get(k, {})) for k, name in enumerate(head))
    box = el("div", class_="scrolls", tabindex="0", role="region", aria_label=label)
    box.append(el("table", el("thead", el("tr", *cells)), body))
    return box


def html(element: Element) -> str:
    """The text of a tree."""
    return tostring(element, encoding="unicode", method="html")


def svg(element: Element) -> str:
    """The text of a picture that stands alone."""
    return tostring(element, encoding="unicode") + "\n"
