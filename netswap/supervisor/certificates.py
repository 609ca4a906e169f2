"""The certificates in force: read, checked, shown, and replaced in all workers or in none.

Theory. A reload reads every file again, and has a whole new set or nothing: the first problem of
each listener is told with its file. The set goes to all workers twice. First each builds its
contexts and answers; a worker that can't, or does not answer, ends it, and nothing has changed
anywhere. Then the set is the one in force, for every worker that starts from now on, and all are
told to take it for new handshakes, in the order of their messages: a worker that was told to boot
with the set before gets the new one after it. Live sessions go on with what they have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from netswap.address import listener_name, of_listener
from netswap.channel import messages
from netswap.config import Config
from netswap.errors import UsageError
from netswap.events import Refusal, Stage
from netswap.logs import get_logger
from netswap.outcome import Outcome
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.lifecycle import WorkerState
from netswap.supervisor.listening import Listener
from netswap.supervisor.results import Result, failure
from netswap.supervisor.x509 import Description, describe, key_of, matches, only_certificates
from netswap.tls import Terms, TlsFiles, context_of

__all__ = ["Certificates", "Read", "check_files", "read_files"]

log = get_logger("netswap.supervisor")

ALPN = {"http": ("http/1.1",)}
"""What a protocol offers when the operator says nothing."""
_SOON_S = 14 * 86_400
"""A certificate that ends within two weeks is worth a warning."""


@dataclass(frozen=True)
class Read:
    """One listener's files as they were read."""

    terms: Terms
    description: Description


def files_of(config: Config, name: str, protocol: str) -> TlsFiles | None:
    """The settings of a listener: its own, else its protocol's."""
    return of_listener(config.tls, name, protocol)


def read_files(files: TlsFiles, protocol: str) -> Read:
    """Read and check everything of one listener.

    :raises UsageError: what is wrong, in which file, and what to do.
    """
    chain = _read(files.cert)
    key_file = files.key or files.cert
    key = chain if files.key is None else _read(files.key)
    description = describe(chain, files.cert)
    if not matches(chain, key_of(key, key_file)):
        what = f"the key is not that of the certificate in {files.cert}"
        raise UsageError(what, str(key_file), "give the two that belong together")
    both = chain if files.key is None else chain.rstrip() + b"\n" + key
    terms = _terms(files, protocol, both, description.fingerprint)
    try:
        context_of(terms)
    except UsageError as error:
        raise UsageError(error.what, str(files.cert), error.advice) from error
    return Read(terms, description)


def _terms(files: TlsFiles, protocol: str, both: bytes, fingerprint: str) -> Terms:
    """What workers are told; ``both`` are the chain and its key."""
    clients = b"" if files.client_ca is None else only_certificates(files.client_ca, _read)
    alpn = ALPN.get(protocol, ()) if files.alpn is None else files.alpn
    return Terms(
        both,
        fingerprint,
        clients.decode("ascii"),
        files.asks,
        list(alpn),
        files.minimum,
        files.ciphers,
        files.handshake,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"it can't be read: {error.strerror}", str(path)) from error


def check_files(config: Config) -> list[UsageError]:
    """What is wrong with the files of a configuration, the first problem of each listener."""
    found: list[UsageError] = []
    for protocol, addresses in config.listen.items():
        names = [listener_name(protocol, number) for number in range(len(addresses))]
        found += _read_all(config, dict.fromkeys(names, protocol))[1]
    return found


def _read_all(
    config: Config, protocols: Mapping[str, str]
) -> tuple[dict[str, Read], list[UsageError]]:
    found: dict[str, Read] = {}
    problems = []
    for name, protocol in protocols.items():
        files = files_of(config, name, protocol)
        if files is None:
            continue
        try:
            found[name] = read_files(files, protocol)
        except UsageError as error:
            problems.append(UsageError(f"{name}: {error.what}", error.where, error.advice))
    return found, problems


class Certificates:
    """The set in force, by listener, and all that were in force since the start.

    :raises UsageError: a listener's files can't be used.
    """

    def __init__(self, config: Config, listeners: Iterable[Listener]) -> None:
        self._config = config
        self._listeners = {one.name: one for one in listeners}
        self._turn = asyncio.Lock()
        self._number = 0
        self._known: dict[str, Description] = {}
        self.force: Mapping[str, Terms] = {}
        found, problems = self._read()
        if problems:
            raise problems[0]
        self._take(found)
        for warning in self._warnings(found):
            log.warning(warning)

    def spec(self, spec: messages.ListenerSpec) -> messages.ListenerSpec:
        """A listener as a worker is told of it, with the terms that are in force now."""
        return msgspec.structs.replace(spec, tls=self.force.get(spec.name))

    def _read(self) -> tuple[dict[str, Read], list[UsageError]]:
        protocols = {name: one.protocol for name, one in self._listeners.items()}
        return _read_all(self._config, protocols)

    def _take(self, found: Mapping[str, Read]) -> None:
        self.force = {name: read.terms for name, read in found.items()}
        self._known |= {read.description.fingerprint: read.description for read in found.values()}

    @staticmethod
    def _warnings(found: Mapping[str, Read]) -> list[str]:
        now = time.time()
        return [
            f"{name}: {remark}"
            for name, read in found.items()
            for remark in _remarks(read.description, now)
        ]

    async def reload(self, fleet: Fleet) -> Result:
        """Read the files again; new handshakes get the new set in all workers, or in none."""
        async with self._turn:
            result = await self._reload(fleet)
        log.info("certificates reloaded", outcome=result.outcome.value, what=result.what)
        for refusal in result.refusals:
            log.error("certificates not reloaded", reason=refusal.reason, file=refusal.file)
        return result

    async def _reload(self, fleet: Fleet) -> Result:
        found, problems = await asyncio.to_thread(self._read)
        if problems:
            return _refused([_of_problem(problem) for problem in problems])
        if not found:
            advice = "--tls LISTENER=CERT:KEY, or [tls.LISTENER] in the configuration"
            return _refused([Refusal(Stage.CHECK, "no listener has TLS", advice=advice)])
        refusals = await self._prepare(fleet, found)
        if refusals:
            return _refused(refusals)
        return await self._switch(fleet, found)

    async def _prepare(self, fleet: Fleet, found: Mapping[str, Read]) -> list[Refusal]:
        """The first phase: each worker that serves builds all of it."""
        terms = {name: read.terms for name, read in found.items()}
        slots = fleet.serving()
        self._number += 1  # also of one that fails: what was built of it must not come back
        ask = messages.Rekey(0, self._number, terms)
        answers = await fleet.enquiry.put(slots, "rekey", ask)
        return [
            Refusal(Stage.PREPARE, reason, worker=slot.number, advice="netswap workers; try again")
            for slot in slots
            if slot.state is not WorkerState.DEAD
            for reason in [_answered(answers.get(slot.number))]
            if reason
        ]

    async def _switch(self, fleet: Fleet, found: Mapping[str, Read]) -> Result:
        """The decision. All are told before anything else can happen, such as a Boot."""
        self._take(found)
        told = [*fleet.serving(), *(slot for slot in fleet.slots if slot.booting)]
        ask = messages.Rekey(0, self._number, dict(self.force), switch=True)
        answers = await fleet.enquiry.put(told, "rekey", ask)
        late = [slot.number for slot in told if slot.number not in answers]
        remarks = [f"{name}: {read.description}" for name, read in found.items()]
        remarks += self._warnings(found)
        if late:
            remarks.append(f"workers {late} did not answer in time: they switch as soon as they do")
        noun = "listener" if len(found) == 1 else "listeners"
        what = f"certificates: {len(found)} {noun} reloaded"
        state = "new handshakes get the new set, live sessions go on with what they have"
        return Result(Outcome.DONE, what, state=state, remarks=remarks)

    async def rows(self, fleet: Fleet) -> list[dict[str, Any]]:
        """Every certificate that is in force, or that a live connection still has."""
        found = await fleet.enquiry.ask(fleet.serving(), "certificates", lambda _slot: "")
        live: dict[tuple[str, str], int] = {
            (name, terms.fingerprint): 0 for name, terms in self.force.items()
        }
        for row in (row for rows in found.values() for row in rows):
            key = row.listener, row.fingerprint
            live[key] = live.get(key, 0) + row.connections
        return [self._row(name, mark, count) for (name, mark), count in sorted(live.items())]

    def _row(self, name: str, fingerprint: str, connections: int) -> dict[str, Any]:
        listener, terms = self._listeners[name], self.force.get(name)
        shown: dict[str, Any] = msgspec.to_builtins(self._known[fingerprint])
        in_force = terms is not None and terms.fingerprint == fingerprint
        row = {
            "listener": name,
            "address": str(listener.address),
            **shown,
            "days_left": int((self._known[fingerprint].ends - time.time()) // 86_400),
            "connections": connections,
            "in_force": in_force,
        }
        if in_force and terms is not None:
            row |= {"client": terms.client, "alpn": terms.alpn, "minimum": terms.minimum}
        return row


def _answered(answer: Any) -> str:
    """Why a worker can't, or nothing."""
    if answer is None:
        return "it did not answer in time"
    return "" if answer.error is None else f"{answer.listener}: {answer.error}"


def _remarks(shown: Description, now: float) -> Iterable[str]:
    if shown.ends <= now:
        yield f"the certificate {shown.subject} has expired at {shown.not_after}"
    elif shown.ends - now < _SOON_S:
        yield f"the certificate {shown.subject} expires soon, at {shown.not_after}"
    if shown.begins > now:
        yield f"the certificate {shown.subject} is not valid before {shown.not_before}"
    if shown.broken:
        yield f"the chain is broken: {shown.broken}"


def _of_problem(problem: UsageError) -> Refusal:
    return Refusal(Stage.LOAD, problem.what, file=problem.where, advice=problem.advice)


def _refused(refusals: list[Refusal]) -> Result:
    result = failure(Outcome.REFUSED, refusals)
    result.state = "nothing was changed: every listener goes on with the set that it has"
    result.advice = refusals[0].advice or "mend it, then `netswap certificates --reload`"
    return result
