"""Parts: objects that belong to one connection and go where it goes, such as its buffers.

A service may have parts, too, as many as it likes: it makes them (``born_for``) and ends them.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from netswap.mediator import present
from netswap.stack.implementation import Implementation
from netswap.transfer import State

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack.connection import Connection
    from netswap.stack.host import Host

__all__ = ["Part"]

S = TypeVar("S", bound=State)


class Part(Implementation[S], Generic[S]):
    """An object that belongs to another one, such as a connection's receive buffer."""

    __slots__ = ("_owner",)

    scope: ClassVar[str] = "connection"

    _owner: Entry

    if TYPE_CHECKING:

        @property
        def owner(self) -> Connection[Any]:
            """The present implementation of the connection that this part belongs to."""
    else:
        owner = property(operator.attrgetter("_owner.target"))

    @classmethod
    def born_for(cls, host: Host, entry: Entry, owner: Entry) -> Part[Any]:
        """A new part of ``owner``."""
        new = cls.born(host, entry)
        new._owner = owner
        return new

    def take_over(self, old: Any) -> None:  # noqa: ARG002
        """Point the owner here."""
        self.point_here()

    def point_here(self) -> None:
        """A send buffer's owner holds its bound ``write``."""
        owner = present(self._owner)
        if getattr(owner, "_use_output", None) is self.entry:
            owner.write = self.entry.target.write

    def _bind_after(self, old: Implementation[Any]) -> None:
        self._owner = cast("Part[Any]", old)._owner
        self._bind()
