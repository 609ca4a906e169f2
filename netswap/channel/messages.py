"""Every message between supervisor (S) and workers (W), and between workers (the mesh).

The order of a transaction on the control channel::

    W→S Hello      S→W Boot       W→S Ready | Unbooted   a worker starts
    S→W Prepare    W→S Prepared | Refused            first phase: nothing is touched
    S→W Swap       W→S Begun Swapped | SwapFailed    of the canary alone, if there is one
    S→W Watch      W→S Watching* Watched | WatchFailed   the canary is on probation
    S→W Hold       W→S Held | SwapFailed             if nothing may be served until all have swapped
    S→W Swap       W→S Begun Swapped | SwapFailed    second phase: failed means restored
    S→W Watch      W→S Watching* Watched | WatchFailed   all of it is, if it was asked for
    S→W Finish     W→S Finished                      committed: old code may go
    S→W Revert     W→S Reverted                      not committed: the old objects come back
    S→W Query      W→S Answer                        looks, at any time
    S→W Intervene  W→S Answer                        acts on what is suspended
    S→W Rekey      W→S Answer                        TLS: try a new set, then take it
    W→S Heartbeat  S→W Drain      W→S Drained

Fields are encoded by position: add new ones at the end, with a default.
"""

from __future__ import annotations

from typing import Any

import msgspec

from netswap.canary import Canary
from netswap.events import Refusal, Rehearsal, VerdictLine, WatchRow, WorkerReceipt
from netswap.tls import Terms

__all__ = [
    "Answer",
    "Begun",
    "Boot",
    "Cast",
    "Drain",
    "Drained",
    "Finish",
    "Finished",
    "Heartbeat",
    "Held",
    "Hello",
    "Hold",
    "Intervene",
    "Join",
    "ListenerSpec",
    "Message",
    "Prepare",
    "Prepared",
    "Query",
    "Quiet",
    "Ready",
    "Refused",
    "Rekey",
    "Reply",
    "Request",
    "Revert",
    "Reverted",
    "Swap",
    "SwapFailed",
    "Swapped",
    "Unbooted",
    "Watch",
    "WatchFailed",
    "Watched",
    "Watching",
]


class ListenerSpec(msgspec.Struct, frozen=True, array_like=True):
    """One listener of one slot: ``fd`` is the descriptor that the worker inherited.

    ``address`` is what clients connect to, ``127.0.0.1:7000`` or ``[::1]:7000``. With ``tls``, that
    is what its sessions begin with; it has the private key in it. With ``proxy``, each connection
    begins with a PROXY header, which is taken from those networks alone.
    """

    name: str
    protocol: str
    address: str
    fd: int
    tls: Terms | None = None
    proxy: list[str] | None = None


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S, first: who is at this end."""

    slot: int
    pid: int


class Boot(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: what to serve. ``active`` is the committed set (kind to bundle), ``store`` a folder.

    ``mesh`` maps every slot, one's own included, to the path of its mesh socket; ``settings`` is
    what the operator has said to services.
    """

    slots: list[int]
    listeners: list[ListenerSpec]
    active: dict[str, str]
    store: str
    mesh: dict[int, str]
    settings: dict[str, Any] = {}


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: every listener accepts."""

    slot: int


class Unbooted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: why this worker can't serve the committed set; it ends now."""

    slot: int
    refusal: Refusal


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: load ``target`` (kind to bundle), negotiate, convert a sample; touch nothing.

    ``only`` is a selector, or None for all objects; ``timeout`` in seconds. With a ``canary`` a
    part of this worker goes first; on ``probation`` the way back must lose nothing, unless
    ``allow_lossy``. Without ``rehearse`` a sample is converted here instead of all objects in a
    child, and with ``allow_stale`` a library that has changed on disk is no reason to refuse. With
    ``guard`` a call that fails on probation is answered by the old code.
    Before a shadow run, connections are recorded for ``shadow`` seconds; ``expect_diff``: old and
    new code may answer differently in it. ``rolling``: no slice is longer than others are.
    """

    tx: int
    target: dict[str, str]
    only: str | None = None
    timeout: float = 10.0
    allow_lossy: bool = False
    dry_run: bool = False
    canary: Canary | None = None
    probation: bool = False
    rehearse: bool = True
    allow_stale: bool = False
    guard: bool = True
    shadow: float = 0.0
    expect_diff: bool = False
    rolling: bool = False


class Prepared(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: this worker can swap; ``objects`` counts what it would convert, by kind.

    ``connections`` are those among which a canary's share is chosen; ``rehearsal`` is what was
    tried. ``clustered`` are the kinds with a part in every worker whose code changes: parts of two
    versions would ask each other while one worker after the other swaps. ``asking`` has, as
    sentences (``a.connection uses a.store``), which changed kinds ask each other, unless this
    worker changes all of them in one stroke.
    """

    tx: int
    slot: int
    verdicts: list[VerdictLine]
    objects: dict[str, int]
    connections: int = 0
    rehearsal: Rehearsal | None = None
    clustered: list[str] = []
    asking: list[str] = []


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: this worker can't; it has touched nothing.

    ``verdicts`` and ``rehearsal`` are as far as it came.
    """

    tx: int
    slot: int
    refusal: Refusal
    verdicts: list[VerdictLine] = []
    rehearsal: Rehearsal | None = None


class Hold(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: serve nothing until the next Watch, Finish or Revert.

    What has not come to rest at ``until`` is in the way: in seconds of the machine's monotonic
    clock, 0.0 for the time-out of the Prepare.
    """

    tx: int
    until: float = 0.0


class Held(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: nothing is served here, and no call is inside of any object."""

    tx: int
    slot: int


class Swap(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: build the new objects and flip, of the ``canary`` alone or of all that is left.

    ``carry`` is what the workers before this one left over of the canary's share, below all of it.
    ``holding`` are the slots that serve nothing meanwhile: what they are saying to each other ends
    before the first of them swaps. One that is not begun at ``until`` (as in Hold) never is: the
    supervisor takes a worker that was silent until then for untouched.
    """

    tx: int
    canary: bool = False
    carry: int = 0
    holding: list[int] = []
    until: float = 0.0


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: a Swap was read in time; once this is with the supervisor, new code may serve."""

    tx: int
    slot: int


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: the new code serves here; the old objects are kept until Finish or Revert."""

    tx: int
    slot: int
    receipt: WorkerReceipt
    canary: bool = False


class SwapFailed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: the swap failed and this worker has restored its old objects."""

    tx: int
    slot: int
    refusal: Refusal
    canary: bool = False


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: the new code is on probation for ``seconds``; report every ``interval`` seconds.

    The next Swap, Finish or Revert ends it early.
    """

    tx: int
    seconds: float
    interval: float = 1.0
    canary: bool = False


class Watching(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: how old and new code do so far; nobody waits for it."""

    tx: int
    slot: int
    rows: list[WatchRow]
    canary: bool = False


class Watched(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: the time is over and no rule was violated here."""

    tx: int
    slot: int
    rows: list[WatchRow]
    canary: bool = False


class WatchFailed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: the new code violates a rule here; it serves until Revert."""

    tx: int
    slot: int
    refusal: Refusal
    rows: list[WatchRow] = []
    canary: bool = False


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: committed; the old objects and code may go."""

    tx: int


class Finished(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: they are gone; ``held_us`` is for how long nothing was served, if that was asked for."""

    tx: int
    slot: int
    held_us: float = 0.0


class Revert(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: not committed; bring the old objects back, or forget what was prepared.

    ``holding`` are the slots that serve nothing meanwhile, as in ``Swap``.
    """

    tx: int
    holding: list[int] = []


class Reverted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: the old code serves here; with a refusal, it could not be brought back everywhere."""

    tx: int
    slot: int
    refusal: Refusal | None = None


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: a look; ``what`` is a key of ``answers.SHAPES``."""

    id: int
    what: str
    argument: str = ""


class Intervene(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: act on what is suspended; ``what`` is ``nudge`` or ``cancel``, answered by an Answer.

    ``argument`` is an identity within the slot, perhaps with a call's number (``7#3``); empty: all.
    """

    id: int
    what: str
    argument: str = ""


class Rekey(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: build the contexts of set ``number``, by listener; answered by an Answer.

    With ``switch`` they are for new sessions from now on, built before or not.
    """

    id: int
    number: int
    terms: dict[str, Terms]
    switch: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: ``data`` is msgpack in the shape of ``answers.SHAPES``, empty when ``error`` is set."""

    id: int
    slot: int
    data: bytes
    error: str | None = None


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: sent from the event loop every half second, so that a stuck loop is seen."""

    slot: int
    connections: int


class Drain(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """S→W: stop accepting, let connections end, for at most ``limit_s`` seconds."""

    limit_s: float


class Drained(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """W→S: no connection is left; the worker exits."""

    slot: int


class Join(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Mesh, first on each link: the slot that opened it."""

    slot: int


class Cast(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Mesh: call ``method`` of the part of ``kind`` there; nobody waits."""

    kind: str
    method: str
    args: list[Any]


class Request(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Mesh: call and answer with a ``Reply`` of the same ``id``.

    ``awaited``: the caller is inside an object that is being drained there, so it is not held here.
    """

    id: int
    kind: str
    method: str
    args: list[Any]
    awaited: bool = False


class Quiet(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Mesh: a worker that serves nothing has come to rest in this ``turn``, see ``settling``.

    ``idle``: since its last one it has neither heard nor said anything else on the mesh.
    """

    tx: int
    turn: int
    idle: bool


class Reply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Mesh: the returned value, or the error as a sentence."""

    id: int
    value: Any = None
    error: str | None = None


Message = (
    Hello
    | Boot
    | Ready
    | Unbooted
    | Prepare
    | Prepared
    | Refused
    | Hold
    | Held
    | Swap
    | Begun
    | Swapped
    | SwapFailed
    | Watch
    | Watching
    | Watched
    | WatchFailed
    | Finish
    | Finished
    | Revert
    | Reverted
    | Query
    | Intervene
    | Rekey
    | Answer
    | Heartbeat
    | Drain
    | Drained
    | Join
    | Cast
    | Request
    | Reply
    | Quiet
)
