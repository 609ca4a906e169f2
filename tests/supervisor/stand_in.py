"""A worker's stand-in: a process that speaks the channel and behaves as a file tells it to.

The file (``$STAND_IN``) is JSON: slot number to a list of faults, read anew at each message.
Faults: ``refuse``, ``silent prepare``, ``die in prepare``, ``fail``, ``die in swap``,
``silent swap``, ``violate``, ``die in watch``, ``silent watch`` (until it is decided),
``die in finish``, ``stuck`` (can't revert), ``die at start``, ``no heartbeat``, ``no drain``,
``refuse rekey``, ``die in rekey``, ``silent rekey``; ``hang in prepare``, ``hang in swap`` (before
it has said that it has begun), ``hang in begun swap``, ``hang in finish``: then it does no more.
It accepts no clients; what it remembers of each kind is the bundle that it was told to serve.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from netswap.channel import FrameReader, answers, encode_frame, messages
from netswap.events import Refusal, Rehearsal, VerdictLine, WatchRow, WorkerReceipt


class StandIn:
    def __init__(self, slot: int, control: socket.socket) -> None:
        self.slot = slot
        self.control = control
        self.active: dict[str, str] = {}
        self.target: dict[str, str] = {}
        self.terms: dict[str, str] = {}
        self.built: dict[int, dict[str, str]] = {}

    def faulty(self, fault: str) -> bool:
        path = Path(os.environ["STAND_IN"])
        faults = json.loads(path.read_text()) if path.exists() else {}
        return fault in faults.get(str(self.slot), [])

    def die_if(self, fault: str) -> None:
        if self.faulty(fault):
            os._exit(9)

    def hang_if(self, fault: str) -> None:
        while self.faulty(fault):
            signal.pause()

    def send(self, message: messages.Message) -> None:
        self.control.sendall(encode_frame(message))

    def run(self) -> NoReturn:
        self.die_if("die at start")
        self.send(messages.Hello(self.slot, os.getpid()))
        self.control.settimeout(0.2)
        reader = FrameReader()
        while True:
            try:
                data = self.control.recv(65536)
            except TimeoutError:
                if not self.faulty("no heartbeat"):
                    self.send(messages.Heartbeat(self.slot, 3))
                continue
            if not data:
                os._exit(0)
            for message in reader.feed(data):
                HANDLERS[type(message)](self, message)

    def boot(self, message: messages.Boot) -> None:
        self.active = dict(message.active)
        for spec in message.listeners:
            socket.socket(fileno=spec.fd).detach()
            if spec.tls is not None:
                self.terms[spec.name] = spec.tls.fingerprint
        self.send(messages.Ready(self.slot))

    def prepare(self, message: messages.Prepare) -> None:
        if self.faulty("note prepare"):
            with Path(os.environ["STAND_IN"]).with_name("prepared").open("a") as file:
                file.write(f"{self.slot} {message.rehearse} {message.allow_stale}\n")
        self.die_if("die in prepare")
        self.hang_if("hang in prepare")
        if self.faulty("silent prepare"):
            return
        if self.faulty("refuse"):
            refusal = Refusal("prepare", "no way", "v2.py", 3, "k", self.slot)
            lines = [VerdictLine("k", "incompatible", "no way", 1, 2)]
            tried = Rehearsal(self.slot, 7, failed=2)
            self.send(messages.Refused(message.tx, self.slot, refusal, lines, tried))
            return
        self.target = message.target
        lines = [VerdictLine(kind, "automatic", "adds x", 1, 2) for kind in message.target]
        counts = dict.fromkeys(message.target, 2)
        tried = Rehearsal(self.slot, 7, 0.25, 3.0, f"{self.slot}.5", 9.0, 500.0, 200.0)
        self.send(messages.Prepared(message.tx, self.slot, lines, counts, rehearsal=tried))

    def swap(self, message: messages.Swap) -> None:
        self.die_if("die in swap")
        self.hang_if("hang in swap")
        self.send(messages.Begun(message.tx, self.slot))
        self.hang_if("hang in begun swap")
        if self.faulty("silent swap"):
            return
        if self.faulty("fail"):
            refusal = Refusal("swap", "object 7 raised", "v2.py", 9, "k", self.slot)
            self.send(messages.SwapFailed(message.tx, self.slot, refusal))
            return
        receipt = WorkerReceipt(self.slot, dict.fromkeys(self.target, 2), 1, 0, 30.0, 20.0, 40.0, 1)
        self.send(messages.Swapped(message.tx, self.slot, receipt, message.canary))

    def watch(self, message: messages.Watch) -> None:
        self.die_if("die in watch")
        row = WatchRow(self.slot, "k", 2, True, 2, 10, int(self.faulty("violate")))
        self.send(messages.Watching(message.tx, self.slot, [row], message.canary))
        if self.faulty("silent watch"):
            return
        if self.faulty("violate"):
            refusal = Refusal("watch", "k version 2: failed once", "v2.py", 5, "k", self.slot)
            failed = messages.WatchFailed(message.tx, self.slot, refusal, [row], message.canary)
            self.send(failed)
            return
        self.send(messages.Watched(message.tx, self.slot, [row], message.canary))

    def finish(self, message: messages.Finish) -> None:
        self.die_if("die in finish")
        self.hang_if("hang in finish")
        self.active |= self.target
        self.send(messages.Finished(message.tx, self.slot))

    def revert(self, message: messages.Revert) -> None:
        refusal = Refusal("swap", "it is lost", kind="k", worker=self.slot)
        stuck = self.faulty("stuck")
        self.send(messages.Reverted(message.tx, self.slot, refusal if stuck else None))

    def rekey(self, message: messages.Rekey) -> None:
        self.die_if("die in rekey")
        if self.faulty("silent rekey"):
            return
        refused = self.faulty("refuse rekey") and not message.switch
        fresh = {name: one.fingerprint for name, one in message.terms.items()}
        built = self.built.setdefault(message.number, fresh)
        if message.switch:
            self.terms = built
        answer = answers.Rekeyed("echo", "no memory") if refused else answers.Rekeyed()
        self.send(messages.Answer(message.id, self.slot, msgspec.msgpack.encode(answer)))

    def query(self, message: messages.Query) -> None:
        if message.argument == "bad":
            self.send(messages.Answer(message.id, self.slot, b"", "'bad' is not a condition"))
            return
        data = msgspec.msgpack.encode(self.answer(message.what, message.argument))
        self.send(messages.Answer(message.id, self.slot, data))

    def answer(self, what: str, argument: str) -> Any:
        row = answers.ObjectRow(7, "k", 1, self.active.get("k", ""), {"peer": "a", "q": argument})
        shapes: dict[str, Any] = {
            "status": answers.WorkerStatus(
                3, {kind: answers.KindCount(2, {1: 2}) for kind in self.active}, 1 << 20, "x"
            ),
            "objects": [row],
            "inspect": answers.Inspection(
                int(argument or 0), "k", 1, "", "K", {"peer": "a"}, {"partial": b"\xffx", "n": 1}
            )
            if argument == "7"
            else None,
            "versions": [
                answers.VersionRow(kind, 1, sha, 2, True) for kind, sha in self.active.items()
            ],
            "blockers": [],
            "certificates": [
                answers.CertificateRow(name, mark, 1) for name, mark in self.terms.items()
            ],
        }
        return shapes[what]

    def drain(self, message: messages.Drain) -> None:
        if not self.faulty("no drain"):
            self.send(messages.Drained(self.slot))
            os._exit(0)


HANDLERS: dict[type, Callable[[StandIn, Any], None]] = {
    messages.Boot: StandIn.boot,
    messages.Prepare: StandIn.prepare,
    messages.Swap: StandIn.swap,
    messages.Watch: StandIn.watch,
    messages.Finish: StandIn.finish,
    messages.Revert: StandIn.revert,
    messages.Query: StandIn.query,
    messages.Rekey: StandIn.rekey,
    messages.Drain: StandIn.drain,
}

if __name__ == "__main__":
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    StandIn(int(given["--slot"]), socket.socket(fileno=int(given["--control"]))).run()
