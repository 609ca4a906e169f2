"""chat.websocket.connection and http.app: the chat in a browser, in the rooms of the TCP chat.

A page at ``/`` and a WebSocket at ``/chat``. A line is a text message; what is said with it, and
what is answered, is as over TCP. A connection of http becomes one of a kind of its own, which
chat.rooms talks to as it does to those of TCP, so each sees the other in one order.

The page has no files beside it and asks for none. It connects again when the server stops.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Connection, State, reference
from netswap.http import (
    App,
    Arrival,
    Channel,
    Frames,
    HttpError,
    Request,
    Response,
    Upgrade,
    route,
)

SOCKET: Final = "chat.websocket.connection"
BACKLOG: Final = 1_048_576
LINE_LIMIT: Final = 4096
FAREWELL_S: Final = 5.0
CLOSE_S: Final = 10.0
PING_S: Final = 20.0
AT_ONCE: Final = 64
"""Frames that are taken in one turn of the loop: a chunk may hold a hundred thousand."""
RESTART: Final = 1012
SILENT: Final = 1011
VERBS: Final = frozenset({"nick", "join", "who", "quit"})
HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        b"connect-src 'self' ws: wss:",
    ),
)


class Guest(State, kind="chat.websocket.connection", version=1):
    """Who the client is and where, as the home of the rooms has it."""

    channel: Channel = reference(
        Channel, Channel.to_canonical, Channel.from_canonical, Channel.keep
    )
    frames: Frames = reference(Frames, Frames.to_canonical, Frames.from_canonical)
    nick: str = ""
    room: str = "lobby"
    silent: int = 0
    """So many pings were sent since something has come."""


class ChatSocket(Connection[Guest], uses={"rooms": "chat.rooms"}):
    """One client."""

    rooms: Any

    def on_connect(self) -> None:
        """A guest comes into the lobby."""
        self.state.channel.attach(self.entry)
        self.timers.arm("keepalive", PING_S)
        nick = f"guest{self.host.slot}.{self.entry.identity}"
        self.rooms.enter(self.entry.identity, nick, self.state.room)

    def on_data(self, data: bytes) -> None:
        """One frame after the other, so many in a turn of the loop."""
        self.state.silent = 0
        self._take(data)

    def on_eof(self) -> bool:
        """The client has ended; what waits for its turn is still done."""
        return self.state.frames.waits

    def on_close(self, error: Exception | None) -> None:
        """Leave the room."""
        self.state.channel.lost()
        self.rooms.leave(self.entry.identity, self.state.room)

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """Go on."""
        self._look_at_flow()

    def on_drain(self) -> None:
        """The server stops."""
        self._farewell(RESTART, "the server restarts")

    def keepalive(self) -> None:
        """Ask whether the client is there; if nothing has come since the last time, it is not."""
        state = self.state
        if state.silent and not self.reading_paused:
            state.frames.fail(SILENT, "nothing has come, not even a pong")
            self._finish()
            return
        state.silent += 1
        self._say(state.frames.ping(b"netswap"))
        self.timers.arm("keepalive", PING_S)

    def close_late(self) -> None:
        """The client has not ended its side."""
        self.abort()

    # what chat.rooms calls

    def placed(self, nick: str, room: str) -> None:
        """The home says who and where this client is."""
        self.state.nick, self.state.room = nick, room

    def tell(self, line: bytes) -> None:
        """Show some lines; a client that has left too much unread is closed."""
        if self.writing_paused and self.transport.get_write_buffer_size() > BACKLOG:
            self.abort()
        else:
            text = line.decode("utf-8", "replace").removesuffix("\n")
            self._say(self.state.frames.message(text))

    def finish(self) -> None:
        """Everything is answered."""
        self._farewell(1000, "bye")

    # inside

    def _take(self, data: bytes) -> None:
        frames = self.state.frames
        for what, value in frames.feed(data, AT_ONCE):
            if what is Arrival.MESSAGE:
                self._obey(value)
            self._say(frames.output())
            if what is Arrival.OVER:
                self._finish()
        self._look_at_flow()

    def _look_at_flow(self) -> None:
        """Nothing is read while something waits, for its turn or to be written."""
        frames = self.state.frames
        if frames.waits and not self.writing_paused and not frames.asked:
            frames.asked = True
            self.host.call_soon(self.entry, "proceed")
        full = self.writing_paused or frames.waits
        if full and not self.reading_paused:
            self.pause_reading()
        elif self.reading_paused and not full:
            self.resume_reading()

    def proceed(self) -> None:
        """The turn of what waits."""
        frames = self.state.frames
        frames.asked = False
        if self.writing_paused:
            return
        self._take(b"")
        if self.half_closed and not frames.waits:
            self.close()

    def _obey(self, line: str | bytes) -> None:
        word, _, argument = str(line).strip().partition(" ")
        if not isinstance(line, str):
            self._command("complain", "a line is text")
        elif len(line.encode()) > LINE_LIMIT:
            self._command("complain", f"a line has at most {LINE_LIMIT} bytes")
        elif not word.startswith("/"):
            for part in line.splitlines():
                self._command("say", part)
        elif word[1:] in VERBS:
            self._command(word[1:], argument.strip())
        else:
            self._command("complain", f"there is no {word}, only /nick /join /who /quit")

    def _command(self, verb: str, argument: str) -> None:
        if verb == "quit":
            self.timers.arm("finish", FAREWELL_S)
        self.rooms.command(self.entry.identity, verb, argument)

    def _say(self, data: bytes) -> None:
        if data:
            self.write(data)

    def _farewell(self, code: int, reason: str) -> None:
        self._say(self.state.frames.close(code, reason))
        self.timers.cancel("keepalive")
        self.timers.arm("close_late", CLOSE_S)

    def _finish(self) -> None:
        """Nothing is to be said any more; the client ends its side, or is too late."""
        self._say(self.state.frames.output())
        self.timers.cancel("keepalive")
        if self.transport.can_write_eof():
            self.timers.arm("close_late", CLOSE_S)
            self.transport.write_eof()
        else:
            self.close()


class Site(State, kind="http.app", version=1):
    """Nothing is kept."""


class ChatSite(App[Site]):
    """The page, and the way to the chat."""

    @route("GET", "/")
    @route("HEAD", "/")
    def page(self, request: Request) -> Response:
        """All that a browser needs."""
        return Response(PAGE, headers=HEADERS)

    @route("GET", "/chat")
    def chat(self, request: Request) -> Upgrade:
        """Only for the page's own host, and for clients that are no pages."""
        origin = (request.header(b"origin") or b"").partition(b"://")[2]
        if origin and origin != request.header(b"host"):
            raise HttpError(403, "pages of other hosts may not chat here")
        return Channel.offered(request, kind=SOCKET)


PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>netswap chat</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { margin: 0 auto; max-width: 44rem; height: 100dvh; display: flex; flex-direction: column }
  header { display: flex; justify-content: space-between; padding: .75rem 1rem }
  h1 { font-size: 1rem; margin: 0 }
  #state::before { content: "\\25cf "; color: #c33 }
  #state.open::before { color: #2a2 }
  ol { flex: 1; overflow-y: auto; margin: 0; padding: 0 1rem; list-style: none }
  li { white-space: pre-wrap; overflow-wrap: anywhere }
  .server { opacity: .65 }
  .fault { color: #c33 }
  b { margin-right: .5em }
  form { display: flex; gap: .5rem; padding: 1rem }
  input { flex: 1; min-width: 0; font: inherit; padding: .4rem .6rem }
  button { font: inherit; padding: .4rem 1rem }
</style>
<header><h1>netswap chat</h1><span id="state" role="status">connecting</span></header>
<ol id="lines" aria-live="polite"></ol>
<form id="form">
  <input id="text" autocomplete="off" maxlength="1000" autofocus
    aria-label="Message" placeholder="Say something, or /nick /join /who /quit">
  <button>Send</button>
</form>
<script>
  const byId = id => document.getElementById(id)
  const lines = byId("lines"), text = byId("text"), state = byId("state")
  let socket, wait = 500

  function show(line) {
    const item = document.createElement("li")
    const said = /^<([^>]+)> (.*)$/.exec(line)
    if (said) {
      const nick = document.createElement("b")
      nick.textContent = said[1]
      item.append(nick, said[2])
    } else {
      item.textContent = line
      item.className = line.startsWith("!") ? "fault" : "server"
    }
    lines.append(item)
    item.scrollIntoView({ block: "end" })
  }

  function connect() {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/chat`)
    socket.onopen = () => { wait = 500; state.textContent = "connected"; state.className = "open" }
    socket.onmessage = event => event.data.split("\\n").forEach(show)
    socket.onclose = event => {
      state.className = ""
      if (event.code === 1000) { state.textContent = "left"; return }
      state.textContent = "reconnecting"
      setTimeout(connect, wait)
      wait = Math.min(wait * 2, 15000) * (0.75 + Math.random() / 2)
    }
  }

  byId("form").onsubmit = event => {
    event.preventDefault()
    if (socket.readyState === WebSocket.OPEN && text.value) {
      socket.send(text.value)
      text.value = ""
    }
  }
  connect()
</script>
"""
