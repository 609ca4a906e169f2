"""The supervisor: owns sockets, workers and the committed set, and is never in the data path.

Here is only how a server starts and stops; ``fleet`` has the workers, ``operations`` what an
operator changes, ``looks`` what an operator sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from netswap.channel import messages
from netswap.config import Config
from netswap.errors import BundleError, CallerError
from netswap.events import Refusal
from netswap.logs import get_logger
from netswap.modules import Bundle
from netswap.modules.application import bundle_of
from netswap.probe import run_probe
from netswap.supervisor.application import APP, find_application
from netswap.supervisor.certificates import Certificates
from netswap.supervisor.firstset import bundled_modules, first_paths, waits_for
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.intervention import Intervention
from netswap.supervisor.lifecycle import WorkerState
from netswap.supervisor.listening import Listeners, Mesh, raise_descriptor_limit
from netswap.supervisor.looks import SCHEMA, Looks
from netswap.supervisor.operations import Operations
from netswap.supervisor.results import Result
from netswap.supervisor.slots import SlotSettings
from netswap.supervisor.state import StateDirectory
from netswap.supervisor.versions import Change, Record

__all__ = ["StartFailed", "Supervisor"]

log = get_logger("netswap.supervisor")

FIRST_SET_TIMEOUT = 30.0


class StartFailed(CallerError):
    """The server can't start; ``refusals`` say why."""

    def __init__(self, what: str, refusals: Sequence[Refusal] = ()) -> None:
        super().__init__(what, refusals)
        self.what = what
        self.refusals = list(refusals)

    def __str__(self) -> str:
        if not self.refusals:
            return f"{self.what}\n  server: none was started"
        return "\n".join(f"{self.what}: {_explained(row)}" for row in self.refusals)


def _explained(refusal: Refusal) -> str:
    """Why, where, and what to do: what is said of a push is said of a start here."""
    advice = (refusal.advice or "").replace("push again", "start again")
    rows = {"where": refusal.where, "server": "none was started", "next": advice}
    lines = (f"  {name + ':':<8}{text}" for name, text in rows.items() if text)
    return "\n".join((refusal.reason, *lines))


class Supervisor:
    """One server, bound to its addresses and its state directory when this returns.

    ``worker`` overrides fields of ``SlotSettings``, such as the command that starts a worker.

    :raises ListenError: an address can't be had.
    :raises UsageError: a certificate can't be used.
    :raises StateDirectoryBusy: another server uses the state directory.
    """

    def __init__(self, config: Config, worker: dict[str, Any] | None = None) -> None:
        self.config = config
        with contextlib.ExitStack() as undo:
            self.state = StateDirectory(config.state_dir)
            undo.callback(self.state.close)
            self.listeners = Listeners(config.listen, config.workers, config.proxy)
            undo.callback(self.listeners.close)
            self.certificates = Certificates(config, self.listeners.all)
            self.mesh = Mesh(config.workers, config.state_dir)
            undo.callback(self.mesh.close)
            self._release = undo.pop_all()
        settings = [replace(self._settings(n), **(worker or {})) for n in range(config.workers)]
        self.fleet = Fleet(settings, self._boot)
        self.operations = Operations(self.state, self.fleet, config.timeout)
        self.intervention = Intervention(self.fleet)
        self.looks = Looks(
            self.state, self.fleet, self.operations, self.listeners, self.certificates
        )

    async def reload_certificates(self) -> Result:
        """Read the files of all certificates again, for new handshakes in all workers or none."""
        return await self.certificates.reload(self.fleet)

    async def show_certificates(self) -> dict[str, Any]:
        """Every certificate that is in force or that a live connection has, as a page."""
        return {"schema": SCHEMA, "certificates": await self.certificates.rows(self.fleet)}

    def _settings(self, slot: int) -> SlotSettings:
        descriptors = tuple(spec.fd for spec in self.listeners.specs(slot))
        environment = {
            "NETSWAP_LOG_LEVEL": self.config.log_level,
            "NETSWAP_LOG_FORMAT": self.config.log_format,
        }
        mesh = self.mesh.sockets[slot].fileno()
        return SlotSettings(mesh, descriptors, loop=self.config.loop, environment=environment)

    def _boot(self, slot: int) -> messages.Boot:
        return messages.Boot(
            list(range(self.config.workers)),
            [self.certificates.spec(spec) for spec in self.listeners.specs(slot)],
            dict(self.state.versions.active),
            str(self.state.bundles.absolute()),
            self.mesh.paths,
            {
                "static": self.config.static,
                "access": (self.config.log_access, self.config.log_access_format),
            },
        )

    async def start(self) -> None:
        """Return when every worker accepts.

        :raises StartFailed: the first set is refused, or workers die before they are ready.
        """
        raise_descriptor_limit()
        for warning in self.config.warnings:
            log.warning(warning)
        if self.state.cut is not None:
            log.warning("journal was torn by a crash", detail=str(self.state.cut))
        await self._journal_first_set()
        self.fleet.start()
        while len(self.fleet.serving()) < self.config.workers:
            await self.fleet.wait_changed()
            self._refuse_crash_loop()
        for listener in self.listeners.all:
            if kind := waits_for(listener.protocol, self.state.versions.active):
                log.warning(
                    "no module serves this listener, its clients wait",
                    listener=listener.name, kind=kind, advice="netswap push one that provides it",
                )  # fmt: skip

    def _refuse_crash_loop(self) -> None:
        for slot in self.fleet.slots:
            if slot.unbooted is not None:
                what = f"worker {slot.number} can't start what it is to serve"
                raise StartFailed(what, [slot.unbooted])
            if slot.backoff.crash_loop and slot.state is not WorkerState.SERVING:
                raise StartFailed(
                    f"worker {slot.number} dies again and again before it is ready; "
                    "its log lines above say why"
                )

    async def _journal_first_set(self) -> None:
        """Record what a first start begins with as a transaction that can't be undone."""
        active = self.state.versions.active
        try:
            bundles = self._first_bundles(active)
        except BundleError as error:
            raise StartFailed("the modules to start with are refused", [error.refusal]) from error
        if not bundles:
            return
        probed = await asyncio.to_thread(run_probe, bundles, (), FIRST_SET_TIMEOUT)
        if probed.refusals:
            raise StartFailed("the modules to start with are refused", probed.refusals)
        changes = {
            kind: Change(kind, active.get(kind), bundle.sha256, version)
            for bundle, kinds in zip(bundles, probed.kinds, strict=True)
            for kind, version in kinds.items()
        }
        names = {self.state.store.put(bundle): bundle.name for bundle in bundles}
        self._journal_boot(list(changes.values()), names)

    def _first_bundles(self, active: Mapping[str, str]) -> list[Bundle]:
        """What is not active yet. Raises BundleError, and UsageError for an application."""
        application = self._application()
        known = {*active, APP} if application is not None else {*active} - self._greeting(active)
        paths = first_paths(self.config.listen, known, files=bool(self.config.static))
        if not self.state.versions.history:
            paths += self.config.load
        bundles = [bundle_of(path) for path in paths]
        return bundles if application is None else [*bundles, application]

    def _greeting(self, active: Mapping[str, str]) -> set[str]:
        """http.app, if it only greets and there are files to be served in its place."""
        if not self.config.static or APP not in active:
            return set()
        greets = bundle_of(bundled_modules() / "welcome/v1.py").sha256 == active[APP]
        return {APP} if greets else set()

    def _application(self) -> Bundle | None:
        """The application of the command line, unless what is active has followed it.

        That is so when the files are those that the last start has found: what was pushed since is
        what is to be served. Who has edited them meanwhile, or reloads, wants to see them.
        """
        if not self.config.app:
            return None
        bundle = find_application(self.config.app, Path.cwd()).bundle
        versions = self.state.versions
        starts = [c.new for t in versions.history if t.boot for c in t.changes if c.kind == APP]
        followed = starts[-1:] == [bundle.sha256] and not self.config.reload
        if versions.active.get(APP) == bundle.sha256:
            return None
        if followed and APP in versions.active:
            log.info("the application stays as it was pushed", bundle=versions.active[APP][:12])
            return None
        return bundle

    def _journal_boot(self, changes: list[Change], names: dict[str, str]) -> None:
        tx, now = self.operations.new_tx(), time.time()
        begin = Record("begin", tx, now, "serve", changes, boot=True, bundles=names)
        self.state.append(begin)
        self.state.append(Record("commit", tx, now))

    async def stop(self) -> None:
        """Let a running transaction end, drain every worker within the limit, release all.

        The listeners go first, each with the worker that stops to accept: whoever connects is
        refused at once, and does not wait in a queue from which nobody takes.
        """
        await self.operations.close()
        self.listeners.close()
        await self.fleet.drain(self.config.drain)
        self._release.close()

    async def abandon(self) -> None:
        """End every worker at once and release all; harmless after ``stop``."""
        await self.fleet.abandon()
        self._release.close()

    def ready_line(self, admin: str) -> str:
        """What is printed when every worker accepts."""
        where = ", ".join(f"{one.name} {one.address}" for one in self.listeners.all)
        workers = self.config.workers
        noun = "worker" if workers == 1 else "workers"
        return f"netswap ready: {workers} {noun}, {where} (pid {self.looks.pid}, admin {admin})"
