"""The object translation table: one row for every live object of the stack.

A row is an ``Entry``: an identity, a kind, and the one pointer to the present implementation.
Clients hold the entry as their *handle* and reach the object with ``handle.target.method()``:
one attribute load more than a direct call, and the only place that a swap has to change.

Identities are never used twice within a table, so a late timer or reply that names a closed
object finds nothing instead of a stranger.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, Self

from netswap.errors import UsageError

__all__ = ["ATTRIBUTES", "Entry", "ObjectTranslationTable", "Selector"]

ATTRIBUTES = ("kind", "version", "id", "peer", "address", "listener", "tls")
"""All that a live object can be chosen by: of every one the first three, of a connection the rest;
``tls`` only if it is."""


class Implementation(Protocol):
    """What the table asks of an object that it points to."""

    kind: Any
    version: Any

    def attributes(self) -> dict[str, str | int]:
        """What a selector may ask about, beside kind, version and id."""


class Entry:
    """A row of the table, and the handle that clients hold."""

    __slots__ = ("__weakref__", "identity", "kind", "target")

    def __init__(self, identity: int, kind: str, target: Any) -> None:
        self.identity = identity
        self.kind = kind
        self.target = target

    def __repr__(self) -> str:
        return f"<entry {self.identity} {self.kind}>"


class Condition(NamedTuple):
    """One comparison of a selector."""

    name: str
    compare: Callable[[Any, Any], bool]
    value: str


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_TARGET = operator.attrgetter("target")
_NUMBER = re.compile(r"-?[0-9]{1,1000}")  # int() takes no more than some thousand
_CONDITION = re.compile(r"^\s*([a-z_]+)\s*(<=|>=|!=|=|<|>)\s*(\S+)\s*$")


class Selector:
    """A choice of entries: ``kind=kv.connection,peer=127.0.0.1,version<2``; all must hold.

    Names: ``kind``, ``version``, ``id``, and what the implementation's ``attributes()`` gives.
    Numbers compare as numbers, the rest as text; an attribute that an object lacks never matches.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.conditions = [_condition(part, text) for part in text.split(",") if part.strip()]

    @classmethod
    def of_operator(cls, text: str) -> Self:
        """A selector that somebody has typed: a name that no object has is an error.

        :raises UsageError: it is no selector, or names what there is not.
        """
        selector = cls(text)
        for condition in selector.conditions:
            if condition.name not in ATTRIBUTES:
                there_are = ", ".join(ATTRIBUTES)
                what = f"no object has an attribute {condition.name!r}: there are {there_are}"
                raise UsageError(what, f"selector {text!r}", "write one of these")
        return selector

    def kind(self) -> str | None:
        """The kind that this selector is limited to, if it is."""
        exact = [c.value for c in self.conditions if c.name == "kind" and c.compare is operator.eq]
        return exact[0] if exact else None

    def matches(self, entry: Entry) -> bool:
        """Whether every condition holds for ``entry``."""
        return all(_holds(condition, entry) for condition in self.conditions)


def _condition(part: str, text: str) -> Condition:
    match = _CONDITION.match(part)
    if match is None:
        raise UsageError(
            f"{part.strip()!r} is not a condition",
            f"selector {text!r}",
            "write NAME=VALUE, also with != < <= > >=, as in kind=kv.connection,version<2",
        )
    return Condition(match[1], _OPERATORS[match[2]], match[3])


def _holds(condition: Condition, entry: Entry) -> bool:
    known: dict[str, str | int] = {"kind": entry.kind, "id": entry.identity}
    actual = known.get(condition.name)
    if actual is None and condition.name == "version":
        actual = entry.target.version
    if actual is None:
        actual = entry.target.attributes().get(condition.name)
    if isinstance(actual, int):
        if _NUMBER.fullmatch(condition.value) is None:
            return False
        return condition.compare(actual, int(condition.value))
    return actual is not None and condition.compare(actual, condition.value)


class ObjectTranslationTable:
    """Every live object, by identity and by kind."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._kinds: dict[str, dict[int, Entry]] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __contains__(self, entry: Entry) -> bool:
        return self._entries.get(entry.identity) is entry

    @property
    def newest(self) -> int:
        """The identity of the row that was made last; later ones are greater."""
        return self._next - 1

    def create(self, kind: str, target: Any = None) -> Entry:
        """A new row; ``target`` may follow when the object needs its entry to be made."""
        entry = Entry(self._next, kind, target)
        self._next += 1
        self._entries[entry.identity] = entry
        rows = self._kinds.get(kind)
        if rows is None:
            rows = self._kinds[kind] = {}
        rows[entry.identity] = entry
        return entry

    def remove(self, entry: Entry) -> None:
        """Take a row out; its handles then point to None. Twice is our error (KeyError)."""
        del self._entries[entry.identity]
        entry.target = None
        rows = self._kinds[entry.kind]
        del rows[entry.identity]
        if not rows:
            del self._kinds[entry.kind]

    def find(self, identity: int) -> Entry | None:
        """The row with this identity, or None when its object is gone."""
        return self._entries.get(identity)

    def of_kind(self, kind: str) -> list[Entry]:
        """The rows of one kind, oldest first."""
        return list(self._kinds.get(kind, {}).values())

    def count(self, kind: str) -> int:
        """How many objects of a kind live."""
        return len(self._kinds.get(kind, ()))

    def kinds(self) -> list[str]:
        """The kinds that have live objects."""
        return sorted(self._kinds)

    def by_version(self, kind: str) -> dict[int, int]:
        """Live objects of a kind by version."""
        counts: dict[int, int] = {}
        for entry in self._kinds.get(kind, {}).values():
            if entry.target is not None:
                version = entry.target.version
                counts[version] = counts.get(version, 0) + 1
        return counts

    def classes(self, kind: str) -> dict[type, int]:
        """The classes that the entries of a kind point to, with their number; quick."""
        rows = self._kinds.get(kind, {}).values()
        counts = Counter(map(type, map(_TARGET, rows)))
        del counts[type(None)]
        return counts

    def select(self, selector: Selector) -> list[Entry]:
        """The rows that a selector chooses, oldest first."""
        kind = selector.kind()
        rows = self.of_kind(kind) if kind is not None else list(self)
        return [row for row in rows if row.target is not None and selector.matches(row)]
