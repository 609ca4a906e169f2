"""websocket.connection, version 2: one WebSocket (RFC 6455); what speaks over it is ``http.app``.

A connection becomes one of these by ``Upgrade: websocket`` on one of http. Messages go to the
application's channel, or the application is called for each. It is read no more while the
application is behind, or the client does not read. Each ``PING_S`` seconds it is asked whether it
is there; after a close it has ``CLOSE_S`` seconds to answer.

Whatever a client sends is a sign of life: a pong may stand behind a long message. One that takes
nothing of what was sent to it is dropped at the second ping: it would hold that for ever.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Connection, State, migration, reference
from netswap.http import Arrival, Channel, Frames

PING_S: Final = 20.0
CLOSE_S: Final = 10.0
AT_ONCE: Final = 64
"""Frames that are taken in one turn of the loop: a chunk may hold a hundred thousand."""
RESTART: Final = 1012
SILENT: Final = 1011
TOLD: Final = b"netswap"
"""What our pings hold."""


class Talk(State, kind="websocket.connection", version=2):
    """``channel`` is the application's end, ``frames`` the client's."""

    channel: Channel = reference(
        Channel, Channel.to_canonical, Channel.from_canonical, Channel.keep
    )
    frames: Frames = reference(Frames, Frames.to_canonical, Frames.from_canonical)
    silent: int = 0
    """So many pings were sent since something has come."""
    taken: int | None = None
    """What ``outstanding()`` said at the last ping."""


@migration("websocket.connection", 1, 2)
def up(old: dict[str, Any]) -> dict[str, Any]:
    """A ping without a pong was the last of one."""
    return old | {"silent": int(old["pinged"])}


@migration("websocket.connection", 2, 1, derived=["silent", "taken"])
def down(new: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knows only whether a pong is owed."""
    row = {name: value for name, value in new.items() if name not in ("silent", "taken")}
    return row | {"pinged": new["silent"] > 0}


class WebSocket(Connection[Talk], uses={"app": "http.app"}):
    """One client."""

    app: Any

    def on_connect(self) -> None:
        """The opening handshake is over."""
        channel = self.state.channel
        if channel.request is None:  # a listener of its own, where nobody has asked for this
            self.abort()
            return
        channel.attach(self.entry)
        self.timers.arm("keepalive", PING_S)
        self._call("open")

    def on_data(self, data: bytes) -> None:
        """One message as a rule; else one frame after the other, so many in a turn of the loop."""
        state = self.state
        state.silent = 0
        message = state.frames.alone(data)
        if message is None:
            if data:
                self._take(data)
            else:
                self.proceed()
        elif state.channel.by_call:
            self._call("message", message)
        elif state.channel.deliver(message) and not self.reading_paused:
            self.pause_reading()

    def on_eof(self) -> bool:
        """The client has ended without a word, behind what waits for its turn."""
        waits = self.state.frames.waits
        if not waits:
            self._end(1006)
        return waits

    def on_close(self, error: Exception | None) -> None:
        """The connection is gone: what had come and waits for its turn has it now."""
        self.write = _nowhere
        frames = self.state.frames
        for what, value in frames.feed(b"") if frames.waits else ():
            if what is not Arrival.OVER:
                self._arrived(what, value)
            frames.output()
        self._end(1006)

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """Who waits to send goes on."""
        self.state.channel.resumed()
        self._look_at_flow()

    def on_drain(self) -> None:
        """The server stops."""
        self.state.channel.close(RESTART, "the server restarts")

    def keepalive(self) -> None:
        """Ask whether the client is there; if nothing has come since the last time, it is not."""
        state = self.state
        if not state.frames.open:
            return
        if state.silent and not self.reading_paused:
            code, reason = SILENT, f"nothing has come for {PING_S:g} s, not even a pong"
            state.frames.fail(code, reason)
            self._end(code, reason)
            self._finish()
            return
        before, state.taken = state.taken, self.outstanding()
        if before is not None and state.taken == before:
            self._end(1006, f"nothing of what was sent was taken for {PING_S:g} s")
            self.abort()
            return
        state.silent += 1
        self._say(state.frames.ping(TOLD))
        self.timers.arm("keepalive", PING_S)

    def close_late(self) -> None:
        """The client has not ended its side."""
        self.abort()

    # what comes

    def _take(self, data: bytes) -> None:
        """What a frame makes us say stands before the answer to the next."""
        state = self.state
        for what, value in state.frames.feed(data, AT_ONCE):
            self._arrived(what, value)
            self._say(state.frames.output())
        self._look_at_flow()

    def _look_at_flow(self) -> None:
        """Nothing is read while something waits: for its turn, to be received, or to be written."""
        frames = self.state.frames
        behind = self.writing_paused or self.state.channel.full
        if frames.waits and not behind and not frames.asked:
            frames.asked = True
            # by what every version has: one that knows of no turns takes all that waits
            self.host.call_soon(self.entry, "on_data", b"")
        full = behind or frames.waits
        if full and not self.reading_paused:
            self.pause_reading()
        elif self.reading_paused and not full:
            self.resume_reading()

    def proceed(self) -> None:
        """The turn of what waits."""
        frames = self.state.frames
        frames.asked = False
        if self.writing_paused or self.state.channel.full:
            return
        self._take(b"")
        if self.half_closed and not frames.waits:
            self._end(1006)
            self.close()

    def _arrived(self, what: Arrival, value: Any) -> None:
        state = self.state
        if what is Arrival.MESSAGE:
            if state.channel.by_call:
                self._call("message", value)
            else:
                state.channel.deliver(value)
        elif what in (Arrival.CLOSE, Arrival.FAILURE):
            self._end(*value)
        elif what is Arrival.OVER:
            self._finish()

    def _call(self, on: str, *message: Any) -> None:
        channel = self.state.channel
        if not channel.by_call:
            return
        try:
            self.app.socket_event(channel, on, *message)
        except Exception as error:
            self.host.failed(self.app, error, "websocket")
            channel.close(1011)

    def _end(self, code: int, reason: str = "") -> None:
        if self.state.channel.end(code, reason):
            self._call("close")

    # what goes out

    def channel_send(self, data: str | bytes) -> None:
        """The application says something."""
        self._say(self.state.frames.message(data))

    def channel_text(self, payload: bytes) -> None:
        """A text, as UTF-8."""
        data = self.state.frames.text(payload)
        if data:
            self.write(data)

    def channel_ping(self, data: bytes) -> None:
        """It pings."""
        self._say(self.state.frames.ping(data))

    def channel_close(self, code: int, reason: str) -> None:
        """It ends the session."""
        self._say(self.state.frames.close(code, reason))
        self.timers.cancel("keepalive")
        self.timers.arm("close_late", CLOSE_S)

    def channel_taken(self) -> None:
        """It has received what there was."""
        self._look_at_flow()

    def _say(self, data: bytes) -> None:
        if data:
            self.write(data)

    def _finish(self) -> None:
        """Nothing is to be said any more. The client ends its side first, or is too late.

        To close at once could cost it our last words: what it has sent and nobody reads is
        answered with a reset.
        """
        self._say(self.state.frames.output())
        self.timers.cancel("keepalive")
        if self.transport.can_write_eof():
            self.timers.arm("close_late", CLOSE_S)
            self.transport.write_eof()
        else:
            self.close()


def _nowhere(_data: Any) -> None:
    """Where the answers to a client go that is gone."""
