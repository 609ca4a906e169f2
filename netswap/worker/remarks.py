"""What must be said beside the shapes of state, so that nothing of a push is left out in silence.

Which files of a kind's code have changed, which kinds the push leaves behind, which libraries are
not what is on disk, and whether netswap itself is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netswap.channel import messages
from netswap.events import Refusal, Stage, Verdict, VerdictLine
from netswap.hotswap import Change
from netswap.modules.outside import Stale
from netswap.modules.relations import Relations, what_changed
from netswap.ott import ObjectTranslationTable
from netswap.worker.library import Library, classes_of
from netswap.worker.verdicts import Judgement

__all__ = ["Remarks"]


class Remarks:
    """Remarks on the verdicts of one transaction; reads the bundles, in the rehearsal's child."""

    def __init__(
        self, library: Library, table: ObjectTranslationTable, ask: messages.Prepare
    ) -> None:
        self._library = library
        self._table = table
        self._ask = ask
        self._known: dict[str, Relations] = {}

    def on(self, judged: Judgement, changes: Sequence[Change]) -> Judgement:
        """The judgement with what else there is to say, and perhaps a reason to refuse."""
        by_kind = {change.kind: change for change in changes}
        lines, refusal = [], judged.refusal
        for line in judged.lines:
            stale = self._stale(by_kind[line.kind])
            lines.append(self._owed(line, stale) if stale else self._changed(line, by_kind))
            if stale and not self._ask.allow_stale and refusal is None:
                refusal = self._refused(line.kind, stale)
        return Judgement([*lines, *self._left_behind(changes), *self._netswap()], refusal)

    def _relations(self, sha256: str) -> Relations:
        if sha256 not in self._known:
            self._known[sha256] = Relations(self._library.bundle(sha256))
        return self._known[sha256]

    def _files(self, sha256: str, module: str) -> dict[str, str]:
        """The files of a kind's code and the bundle's data, with their content."""
        return self._relations(sha256).content_of(module)

    def _changed(self, line: VerdictLine, by_kind: dict[str, Change]) -> VerdictLine:
        """Says which files make the difference, where the shape of the state makes none."""
        change, before = by_kind[line.kind], self._library.active.get(line.kind, "")
        if line.verdict != Verdict.AS_IS or change.before is None or not before:
            return line
        now = self._ask.target[line.kind]
        old = self._files(before, change.before.__module__)
        what = what_changed(old, self._files(now, change.new.__module__))
        return msgspec.structs.replace(line, reason=f"{line.reason}; {what}")

    def _stale(self, change: Change) -> list[Stale]:
        relations = self._relations(self._ask.target[change.kind])
        files = relations.files_of(change.new.__module__)
        return [
            stale._replace(file=name)
            for name in files
            for stale in self._library.outside.stale_for([relations.trees[name]])
        ]

    def _owed(self, line: VerdictLine, stale: list[Stale]) -> VerdictLine:
        names = ", ".join(f"{one.module} ({one.path})" for one in stale)
        reason = f"{line.verdict}, but {names} is not what this server has loaded"
        return msgspec.structs.replace(line, verdict=Verdict.RESTART_OWED, reason=reason)

    def _refused(self, kind: str, stale: list[Stale]) -> Refusal:
        first = stale[0]
        reason = (
            f"{Verdict.RESTART_OWED}: {first.module} ({first.path}) has changed on disk since this "
            "server loaded it, and Python keeps what is loaded"
        )
        advice = "push it with the module as one folder, or restart; --allow-stale goes on with it"
        return Refusal(Stage.VERDICT, reason, first.file, first.line, kind, advice=advice)

    def _left_behind(self, changes: Sequence[Change]) -> list[VerdictLine]:
        """Kinds that came from a bundle which is replaced, and that the push does not provide."""
        active, target = self._library.active, self._ask.target
        replaced = {active[change.kind]: change for change in changes if change.kind in active}
        return [
            self._left(kind, sha256, replaced[sha256])
            for kind, sha256 in active.items()
            if sha256 in replaced
            and kind not in target
            and kind not in self._library.load(target[replaced[sha256].kind]).implementations
        ]

    def _left(self, kind: str, sha256: str, change: Change) -> VerdictLine:
        cls = self._library.implementation(kind, sha256)
        count = sum(classes_of(self._table, kind).values())
        reason = f"not in this push: its {count} objects keep the code of bundle {sha256[:12]}"
        shared = set(self._files(sha256, cls.__module__)) & set(
            self._files(sha256, change.before.__module__)
        )
        if shared:
            reason += f"; {', '.join(sorted(shared))}, which it shares, is there twice from now on"
        return VerdictLine(kind, Verdict.AS_IS, reason, cls.version, cls.version)

    def _netswap(self) -> list[VerdictLine]:
        changed = [n for n in self._library.outside.stale() if n.partition(".")[0] == "netswap"]
        if not changed:
            return []
        names = ", ".join(sorted(changed)[:3]) + (", …" if len(changed) > 3 else "")
        reason = f"{names} changed on disk, and this server goes on with what it has loaded"
        return [VerdictLine("netswap", Verdict.RESTART_OWED, reason, None, 0)]
