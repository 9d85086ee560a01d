"""Engine.IO over websockets that this server speaks itself: handshake, pings, packets. No library in between."""

import time
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Any

import msgspec

from chat_server import handover, websocket
from chat_server.connections import Connection
from chat_server.frames import REFUSED, acceptable
from chat_server.limits import Limits
from chat_server.line import Line
from chat_server.sessions import Sessions

Heard = Callable[[Connection, str], Awaitable[None]]

_PONG = "3"
_CLOSE = "1"


class Lines:
    """All websockets of this node that no library serves."""

    def __init__(
        self,
        sessions: Sessions,
        limits: Limits,
        *,
        heard: Heard,
        new_id: Callable[[], str],
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        """*heard* answers one packet of a connection."""
        self.message_bytes = limits.message_bytes
        self.queue_bytes = limits.send_queue_bytes
        self.cut_after = limits.cut_after
        self._sessions = sessions
        self._limits = limits
        self._heard = heard
        self._new_id = new_id
        self._spawn = spawn
        # Everybody gets the same time, so both stand in the order in which it is up.
        self._to_ask: dict[Line, float] = {}
        self._asked: dict[Line, float] = {}

    def __len__(self) -> int:
        return len(self._to_ask) + len(self._asked)

    async def serve(
        self, receive: Callable[[], Awaitable[Any]], send: Any, server_send: Any
    ) -> bool:
        """Take a new websocket over from the server. False if that cannot be done: nothing has happened then.

        True comes at once. From then on the connection lives by itself, as one of the server's connections.
        """
        protocol = handover.protocol_behind(server_send)
        if protocol is None or not handover.untouched(protocol):
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
        if handover.accepted(protocol):
            handover.let_go(protocol)
            self._open(line, protocol.connections)
        return True

    def _open(self, line: Line, peers: set[Any]) -> None:
        connection = self._sessions.begin(self._new_id(), line)
        line.start(connection, peers)
        hello = {
            "sid": connection.eio_sid,
            "upgrades": [],
            "pingTimeout": round(self._limits.ping_timeout * 1000),
            "pingInterval": round(self._limits.ping_interval * 1000),
            "maxPayload": self._limits.message_bytes,
        }
        line.write(websocket.text(b"0" + msgspec.json.encode(hello)))
        self._sessions.await_token(connection)
        self._to_ask[line] = time.monotonic() + self._limits.ping_interval
        line.go_on()

    def look(self) -> None:
        """Ask those whom it is time to ask whether they are there, and let go who has not answered."""
        now = time.monotonic()
        for line in _due(self._asked, now):
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
            return False
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
        self._asked.pop(line, None)
        self._to_ask.pop(line, None)
        if line.connection is not None:
            self._sessions.gone(line.connection.eio_sid)


def _due(times: dict[Line, float], now: float) -> list[Line]:
    return [line for line, _ in takewhile(lambda one: one[1] <= now, times.items())]
