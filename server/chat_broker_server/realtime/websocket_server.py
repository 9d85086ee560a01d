"""Engine.IO over websockets that this server speaks itself: handshake, pings, packets. No library in between."""

import time
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Any

import msgspec

from chat_broker_server.realtime import uvicorn_takeover, websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import REFUSED, acceptable
from chat_broker_server.realtime.polling_upgrade import Upgrades
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.websocket_connection import Line

Heard = Callable[[Connection, str], Awaitable[None]]

_PONG = "3"
_CLOSE = "1"
_VIOLATIONS = {
    websocket_frames.PROTOCOL_ERROR: "This is not a websocket frame that a client may send.",
    websocket_frames.NOT_UTF8: "A text message is not UTF-8.",
    websocket_frames.POLICY: "Too many frames that bring no message.",
}


class Lines:
    """All websockets of this node that no library serves."""

    def __init__(
        self,
        sessions: Sessions,
        upgrades: Upgrades,
        limits: Limits,
        *,
        heard: Heard,
        new_id: Callable[[], str],
        spawn: Callable[[Awaitable[None]], Any],
        takes: bool = True,
        moves: bool = True,
    ) -> None:
        """*heard* answers one packet of a connection. *takes*: False leaves every websocket to the library; *moves*:
        False leaves those to it that a polling session is to go on with."""
        self._takes = takes and uvicorn_takeover.is_possible()
        self._moves = moves
        self.message_bytes = limits.message_bytes
        self.queue_bytes = limits.send_queue_bytes
        self.last_words = limits.last_words
        self.cut_after = limits.cut_after
        self._sessions = sessions
        self._upgrades = upgrades
        self._limits = limits
        self._heard = heard
        self._new_id = new_id
        self._spawn = spawn
        # Everybody gets the same time, so both stand in the order in which it is up.
        self._to_ask: dict[Line, float] = {}
        self._asked: dict[Line, float] = {}

    def __len__(self) -> int:
        return len(self._to_ask) + len(self._asked)

    def upgrading(self, eio_sid: str) -> bool:
        """Is there a websocket for this polling session already?"""
        return self._upgrades.under_way(eio_sid)

    async def serve(
        self,
        eio_sid: str | None,
        receive: Callable[[], Awaitable[Any]],
        send: Any,
        server_send: Any,
    ) -> bool:
        """Take a websocket over from the server. False if that cannot be done: nothing has happened then.

        True comes at once. From then on the connection lives by itself, as one of the server's connections; with
        *eio_sid* it is to go on with that polling session.
        """
        if not self._takes or (eio_sid is not None and not self._moves):
            return False
        protocol = uvicorn_takeover.protocol_behind(server_send)
        if protocol is None or not uvicorn_takeover.untouched(protocol):
            return False
        transport = protocol.transport
        line = Line(self, transport, protocol)
        transport.set_protocol(line)
        try:
            await receive()
            await send({"type": "websocket.accept"})
        except BaseException:
            transport.set_protocol(protocol)
            raise
        if uvicorn_takeover.accepted(protocol):
            uvicorn_takeover.let_go(protocol)
            line.start(protocol.connections)
            if eio_sid is None:
                self._open(line)
            else:
                self._upgrades.begin(line, eio_sid)
            line.go_on()
        return True

    def _open(self, line: Line) -> None:
        connection = line.connection = self._sessions.begin(self._new_id(), line)
        hello = {
            "sid": connection.eio_sid,
            "upgrades": [],
            "pingTimeout": round(self._limits.ping_timeout * 1000),
            "pingInterval": round(self._limits.ping_interval * 1000),
            "maxPayload": self._limits.message_bytes,
        }
        line.write(websocket_frames.text(b"0" + msgspec.json.encode(hello)))
        self._sessions.await_token(connection)
        self._to_ask[line] = time.monotonic() + self._limits.ping_interval

    def _moved(self, line: Line, asked: bool) -> None:
        limits, times = self._limits, self._asked if asked else self._to_ask
        times[line] = time.monotonic() + (limits.ping_timeout if asked else limits.ping_interval)

    def look(self) -> None:
        """Ask those whom it is time to ask whether they are there, and let go who has not answered."""
        now = time.monotonic()
        for line in _due(self._asked, now):
            if line.connection is not None:
                self._sessions.cut(line.connection, "ping_timeout")
            line.hang_up()
            self._end(line)
        for line in _due(self._to_ask, now):
            del self._to_ask[line]
            self._asked[line] = now + self._limits.ping_timeout
            line.ping()

    # -- what lines say ---------------------------------------------------------------------------

    def hear(self, line: Line, text: str | None) -> bool:
        """See Side."""
        connection = line.connection
        if connection is None:
            return self._upgrades.hear(line, text, self._moved)
        if text == _PONG and self._asked.pop(line, None) is not None:
            self._to_ask[line] = time.monotonic() + self._limits.ping_interval
            return False
        if text == _CLOSE:
            line.hang_up()
            self._end(line)
            return False
        good = text is not None and text != _PONG and acceptable(text)
        self._spawn(self._answer(line, connection, text[1:] if good and text else REFUSED[1:]))
        return True

    def violated(self, line: Line, code: int) -> None:
        """See Side."""
        connection = line.connection
        if connection is None:
            return
        if code == websocket_frames.TOO_BIG:
            self._sessions.too_large(connection)
        else:
            self._sessions.cut(connection, "protocol_error", _VIOLATIONS[code])

    def restarting(self, line: Line) -> None:
        """See Side."""
        if line.connection is not None:
            self._sessions.cut(line.connection, "server_restarting", retry_after=1)

    def too_slow(self, line: Line) -> None:
        """See Side."""
        if line.connection is not None:
            self._sessions.too_slow(line.connection)

    def lost(self, line: Line) -> None:
        """See Side."""
        self._end(line)

    async def _answer(self, line: Line, connection: Connection, text: str) -> None:
        try:
            await self._heard(connection, text)
        finally:
            line.go_on()

    def _end(self, line: Line) -> None:
        self._upgrades.end(line)
        self._asked.pop(line, None)
        self._to_ask.pop(line, None)
        if line.connection is not None:
            self._sessions.gone(line.connection.eio_sid)


def _due(times: dict[Line, float], now: float) -> list[Line]:
    return [line for line, _ in takewhile(lambda one: one[1] <= now, times.items())]
