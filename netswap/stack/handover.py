"""The handover of a live connection from an object to one of another kind.

A swap keeps the entry and changes the implementation. Here the conversation itself becomes another
one, as after ``Upgrade: websocket``: the object ends, with its timers and parts, and a new object
of the other kind has the transport. The client, the factory's count, the peer's name, flow control
and the peer's end of the stream, if it has sent that, move along.

It happens in a turn of the loop of its own, after whatever asked for it has returned: a guarded
call may still be undone by then. Bytes that come before are the old object's to keep: it gives
them out when it is asked by ``on_handover``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netswap.mediator import Interposed, present

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack.host import Host

__all__ = ["hand_over"]


def hand_over(host: Host, entry: Entry, kind: str, fields: Mapping[str, Any]) -> None:
    """Make a new object of ``kind`` with these fields of its state the connection's.

    When that can't be (nobody provides the kind, a field is wrong, it raises) the connection is
    aborted, and the failure is the old object's.
    """
    if entry.target is None or entry not in host.table:
        return
    if host.gate is not None and host.gate.keeps(entry):
        host.gate.hold(hand_over, host, entry, kind, fields)
        return
    _lift_all(entry)
    old: Any = present(entry)
    try:
        cls: Any = host.maker(kind)
        if cls is None:
            raise LookupError(f"nothing provides {kind}, which this connection was to become")
        new = cls.following(old, cls.state_type(**fields))
        kept = old.on_handover()
    except Exception as error:
        host.failed(old, error, f"become {kind}")
        return
    old.leave_table()
    new.begin_after(kept)


def _lift_all(entry: Entry) -> None:
    """Whatever stands in front of the object gives it back as it would be without."""
    row: Any = entry
    while isinstance(row.target, Interposed):
        row.target.lift()
        row = row.target
