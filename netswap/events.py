"""Records that travel between rooms and processes: refusals, verdicts, receipts, blockers.

They are plain, typed and frozen; a record never holds an object of a swapped module.
Sentences are built in ``__str__`` so that the same record serves a terminal, a log and JSON.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "Acted",
    "Blocker",
    "Refusal",
    "Rehearsal",
    "Retiring",
    "Shadow",
    "Stage",
    "Stuck",
    "Verdict",
    "VerdictLine",
    "WatchRow",
    "WorkerReceipt",
]


class Stage(StrEnum):
    """Where in the pipeline of a swap something was refused."""

    LOAD = "load"
    CHECK = "check"
    VERDICT = "verdict"
    PREPARE = "prepare"
    SWAP = "swap"
    WATCH = "watch"
    AGREEMENT = "agreement"


class Verdict(StrEnum):
    """What a change of a kind's implementation needs, from nothing to a restart."""

    NEW = "new"
    AS_IS = "as is"
    AUTOMATIC = "automatic"
    BY_MIGRATION = "by migration"
    INCOMPATIBLE = "incompatible"
    RESTART_OWED = "restart owed"


class VerdictLine(msgspec.Struct, frozen=True):
    """The verdict on one kind: from format version ``old`` (None: a new kind) to ``new``.

    ``new`` is 0 for netswap, which is no kind.
    """

    kind: str
    verdict: str
    reason: str
    old: int | None
    new: int
    lossy: list[str] = []

    def __str__(self) -> str:
        versions = f" v{self.new}" if self.old is None else f" v{self.old} → v{self.new}"
        versions = versions if self.new else ""
        return f"{self.kind}{versions}: {self.verdict} ({self.reason})"


class Blocker(msgspec.Struct, frozen=True):
    """A suspended call that keeps an object from becoming quiescent; ``age`` in seconds.

    ``id`` names it: a session's entry (``0.42``), or a service's entry and the call (``0.7#3``).
    """

    kind: str
    entry: str
    where: str
    age: float
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.entry} is suspended at {self.where} for {self.age:.1f} s"


class Acted(msgspec.Struct, frozen=True):
    """What became of a nudge or a cancel: ``done`` or not, and ``what`` happened or why not."""

    id: str
    kind: str
    done: bool
    what: str


class Refusal(msgspec.Struct, frozen=True):
    """Why a swap was refused: what, where, and what to do next. A result, not an exception."""

    stage: str
    reason: str
    file: str | None = None
    line: int | None = None
    kind: str | None = None
    worker: int | None = None
    entry: str | None = None
    advice: str = ""
    detail: str = ""
    """More lines to read, such as a diff."""

    @property
    def where(self) -> str:
        """The place in the author's files and in the server, as far as it is known."""
        parts = []
        if self.file is not None:
            parts.append(self.file if self.line is None else f"{self.file}:{self.line}")
        if self.kind is not None:
            parts.append(self.kind if self.entry is None else f"{self.kind} {self.entry}")
        if self.worker is not None:
            parts.append(f"worker {self.worker}")
        return ", ".join(parts)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"refused at {self.stage}: {self.reason}{place}"


class Stuck(msgspec.Struct, frozen=True):
    """A worker that answers nobody, for ``silent_s`` seconds by now.

    ``doing`` says what it does, in words, and ``file`` and ``line`` where, as far as that is known.
    """

    worker: int
    pid: int
    silent_s: float
    doing: str = ""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        doing = f": {self.doing}" if self.doing else ""
        return f"worker {self.worker} (pid {self.pid}) is silent for {self.silent_s:.1f} s{doing}"


class WorkerReceipt(msgspec.Struct, frozen=True):
    """What one worker did in one swap.

    ``objects`` maps a kind to the number of its objects converted; ``gone`` closed by themselves
    meanwhile (a success); ``left`` sessions answer their last in old code, their clients send no
    more; ``blackout_us`` is the longest time that any call was held, ``stall_us``
    the longest time that the loop was held, ``convert_us`` the processor time of all slices,
    ``held_us`` the time in which nothing was served, which was asked for; all in microseconds.
    """

    worker: int
    objects: dict[str, int]
    gone: int = 0
    dropped: int = 0
    blackout_us: float = 0.0
    stall_us: float = 0.0
    convert_us: float = 0.0
    slices: int = 0
    held_us: float = 0.0
    left: int = 0


class Shadow(msgspec.Struct, frozen=True):
    """How old and new code answered the same inputs, in one worker.

    ``unstable`` connections are answered in two ways by the old code already; ``diff`` shows the
    first of the ``differing`` ones, ``first`` in one line.
    """

    connections: int = 0
    inputs: int = 0
    unstable: int = 0
    differing: int = 0
    first: str = ""
    diff: str = ""

    def __str__(self) -> str:
        asked = f"{self.inputs} inputs of {self.connections} connections asked of old and new code"
        unstable = f", {self.unstable} can't be compared" if self.unstable else ""
        return f"{asked}: {self.differing} answered differently{unstable}"


class Rehearsal(msgspec.Struct, frozen=True):
    """What a worker has tried before a swap, and what it expects of the swap.

    ``objects`` were converted there and back, in ``seconds`` from the fork to the child's answer;
    ``us_per_object`` is the mean processor time of the way there and ``slowest`` the object that
    took ``slowest_us`` of it. ``stall_us`` is the longest time that the loop is expected to be
    held, ``fork_us`` of it by the fork; all in microseconds.

    ``large`` objects were too large to compare, ``untried`` ones had no time left and ``failed``
    ones could not be converted; ``failures`` names the first of them, each with a reason and its
    place. ``altered`` counts the objects in which a field (``kv.store last``) does not come back as
    it was, which a step says or the operator allows. ``sample``: there was no rehearsal, the
    objects are a sample that the worker converted itself. ``output`` is the first line printed,
    ``shadow`` what the shadow run found, if one was asked for.
    """

    worker: int = 0
    objects: int = 0
    seconds: float = 0.0
    us_per_object: float = 0.0
    slowest: str = ""
    slowest_us: float = 0.0
    stall_us: float = 0.0
    fork_us: float = 0.0
    large: int = 0
    untried: int = 0
    altered: dict[str, int] = {}
    failed: int = 0
    failures: list[Refusal] = []
    sample: bool = False
    output: str = ""
    shadow: Shadow | None = None


class WatchRow(msgspec.Struct, frozen=True):
    """What one implementation of a kind did in one worker since its watch began.

    ``on_watch`` says whether it is the new one; ``objects`` live now, ``calls`` into them and
    ``errors`` out of them; ``mean_us`` and ``max_us`` of the time in a call, in microseconds;
    ``unguarded``, how many of the objects have a guard that can't undo their calls. Of the whole
    worker are ``stall_ms``, the longest time that its loop was held, in milliseconds, and
    ``memory``, its resident bytes.
    """

    worker: int
    kind: str
    version: int
    on_watch: bool
    objects: int = 0
    calls: int = 0
    errors: int = 0
    mean_us: float = 0.0
    max_us: float = 0.0
    stall_ms: float = 0.0
    memory: int = 0
    unguarded: int = 0


class Retiring(msgspec.Struct, frozen=True):
    """Code of one bundle that is not active any more and still in a worker.

    ``kinds`` maps what it provides to the version. ``standing``: *pinned*, ``objects`` live objects
    are of it; *draining*, given up, and ``objects`` calls are still inside, or what it has started
    stops; *leaving*, given up ``age`` seconds ago; *held*, ``held_by`` says by what, as chains of
    references; *garbage*, the next full collection frees it.
    """

    sha256: str
    kinds: dict[str, int]
    standing: str
    age: float = 0.0
    objects: int = 0
    held_by: list[str] = []
