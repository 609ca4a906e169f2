"""chat: what one says, everybody in the room must hear, once, in order and unchanged.

Rooms have ten connections, of neighbouring numbers, which may be of several processes. A message is
one line: who says it, the number of the message, the times at which it was due and sent, a pattern,
and the CRC-32 of all that. An operation ends when its own sender hears it, so that a line that is
lost on the way to the room is *lost* as everywhere. Each hearer follows each sender's numbers
besides; what it should have heard and did not is judged at the end, when those of all are together:
see ``loadgen.fanout``. What was said in another room, or in one of another run, nobody may hear.
Every message heard, one's own and others', is a row of the samples: its latency is that of the
whole fan-out.
"""

from __future__ import annotations

import re
from zlib import crc32

from loadgen.continuity import Continuity, Operation, pattern
from loadgen.dialects.conversation import Conversation, Opening
from loadgen.fanout import Heard, Member, is_waiting

__all__ = ["Chat"]

_ROOM = 10
_SAID = re.compile(rb"<(.*)-(\d{1,9})> ((\d{1,9}):(\d{1,18}):(\d{1,18}):(\d{1,18}):.*):(.*)")
_OWN_WORDS = b"*"


class Chat(Conversation):
    """One member of a room."""

    __slots__ = (
        "_alone",
        "_greeting",
        "_heard",
        "_member",
        "_name",
        "_payload",
        "_rest",
        "_room",
        "continuity",
    )

    def __init__(self, opening: Opening) -> None:
        self.continuity = Continuity(opening.connection, opening.tally)
        nonce, number = opening.nonce, opening.connection
        self._name = f"load-{nonce}".encode()
        self._greeting = f"/nick load-{nonce}-{number}\n/join load-{nonce}-{number // _ROOM}\n"
        self._payload = opening.payload
        self._heard: dict[int, Heard] = {}
        self._member = Member(number, number // _ROOM, heard=self._heard)
        opening.members.append(self._member)
        self._room = opening.rooms.setdefault(number // _ROOM, [])
        self._room.append(self._member)
        self._alone = opening.alone
        self._rest = b""

    def greeting(self) -> bytes:
        """Take a name and join the room; everybody has before anybody speaks."""
        return self._greeting.encode()

    def request(self, intended: int, sent: int) -> bytes:
        """The next message; its times are those of its row, wherever it is heard."""
        line = self.continuity
        words = pattern(line.connection, line.issued, self._payload // 2).hex()
        text = f"{line.connection}:{line.issued}:{intended}:{sent}:{words}".encode()
        line.issue(intended, sent, b"")
        return b"%b:%08x\n" % (text, crc32(text))

    def receive(self, data: bytes) -> list[Operation]:
        """Judge the lines that are whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        heard = [self._judge(line) for line in lines if not line.startswith(_OWN_WORDS)]
        return [operation for operation in heard if operation is not None]

    def farewell(self) -> bytes:
        """What the room was told until now is still to come."""
        self._member.until = self.continuity.tally.now
        return b""

    def expects(self) -> bool:
        """What its sender has heard and this one not; another process's senders nobody knows."""
        return not self._alone or is_waiting(self._member, self._room)

    def leftover(self) -> bytes:
        """What is no line yet; it may be one that somebody said, which is then not lost besides."""
        self._member.spoiled += bool(self._rest)
        return self._rest

    def _judge(self, line: bytes) -> Operation | None:
        said = _SAID.fullmatch(line)
        if said is None:
            self.continuity.fault("corrupted", -1, f"nobody said {line[:60]!r}")
            self._member.spoiled += 1
            return None
        sender, sequence, intended, sent = map(int, said.group(4, 5, 6, 7))
        whole = self._is_ours(said)
        if not whole:
            self.continuity.fault("corrupted", sequence, f"nobody said {line[:60]!r}")
        elif sender // _ROOM != self._member.room:
            self.continuity.fault("corrupted", sequence, f"said in another room: {line[:60]!r}")
            return None
        pending = self.continuity.pending
        mine = sender == self.continuity.connection
        if mine and (whole or (pending and pending[0].sequence == sequence)):
            return self._hear_myself(self.continuity.settle(sequence))
        if whole:
            return self._hear(sender, Operation(sequence, intended, sent, b""))
        self._member.spoiled += 1
        return None

    def _is_ours(self, said: re.Match[bytes]) -> bool:
        """Whether it is of this run, of who is named in front of it, and whole."""
        named = said[1] == self._name and int(said[2]) == int(said[4])
        return named and said[8] == b"%08x" % crc32(said[3])

    def _hear_myself(self, operation: Operation | None) -> Operation | None:
        member = self._member
        if operation is None:
            return None
        now, sequence = self.continuity.tally.now, operation.sequence
        heard = self._heard.setdefault(member.connection, Heard(0))
        member.since = member.since or now
        if sequence >= heard.next:
            heard.missing.update(range(heard.next, sequence))
            heard.next, member.sent, member.done = sequence + 1, operation.sent, now
        else:
            heard.missing.discard(sequence)
        return operation

    def _hear(self, sender: int, operation: Operation) -> Operation | None:
        sequence = operation.sequence
        heard = self._heard.setdefault(sender, Heard(sequence))
        if sequence >= heard.next:
            heard.missing.update(range(heard.next, sequence))
            heard.next = sequence + 1
        elif sequence in heard.missing:
            heard.missing.discard(sequence)
            self.continuity.fault("reordered", sequence, f"connection {sender} said it before")
        else:
            self.continuity.fault("duplicated", sequence, f"connection {sender} said it once")
            return None
        return operation
