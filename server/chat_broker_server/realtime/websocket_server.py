"""Engine.IO over websockets that this server handles without python-socketio: handshake, pings, packets."""

import time
from collections.abc import Awaitable, Callable
from enum import Enum
from itertools import takewhile
from typing import Any

import msgspec

from chat_broker_server.realtime import uvicorn_takeover, websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.packets import REFUSED, acceptable
from chat_broker_server.realtime.polling_upgrade import PollingUpgrades
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.websocket_connection import WebSocketConnection

OnPacket = Callable[[Connection, str], Awaitable[None]]

_PONG = "3"
_CLOSE = "1"
_VIOLATIONS = {
    websocket_frames.PROTOCOL_ERROR: "This is not a websocket frame that a client may send.",
    websocket_frames.NOT_UTF8: "A text message is not UTF-8.",
    websocket_frames.POLICY: "Too many frames that bring no message.",
}


class Takeover(Enum):
    """Which websockets this server handles itself; python-socketio handles the others."""

    NONE = "none"
    NEW = "new sessions"
    ALL = "new sessions, and upgrades of polling sessions"

    @classmethod
    def of(cls, *, own: bool, upgrades: bool) -> "Takeover":
        if not own:
            return cls.NONE
        return cls.ALL if upgrades else cls.NEW


class WebSocketServer:
    """All websockets of this node that python-socketio does not handle."""

    def __init__(
        self,
        sessions: Sessions,
        upgrades: PollingUpgrades,
        context: Context,
        *,
        on_packet: OnPacket,
        new_id: Callable[[], str],
        takeover: Takeover,
    ) -> None:
        """*on_packet* handles one packet of a connection; *new_id* makes Engine.IO session ids."""
        limits = context.limits
        possible = takeover is not Takeover.NONE and uvicorn_takeover.is_possible()
        self._takeover = takeover if possible else Takeover.NONE
        self.message_bytes = limits.message_bytes
        self.queue_bytes = limits.send_queue_bytes
        self.last_words = limits.last_words
        self.cut_after = limits.cut_after
        self._sessions = sessions
        self._upgrades = upgrades
        self._limits = limits
        self._on_packet = on_packet
        self._new_id = new_id
        self._spawn = context.spawn
        # When to send the next ping, and when its pong is overdue. All wait equally long, so both are sorted by time.
        self._ping_at: dict[WebSocketConnection, float] = {}
        self._pong_until: dict[WebSocketConnection, float] = {}

    def __len__(self) -> int:
        return len(self._ping_at) + len(self._pong_until)

    def upgrading(self, eio_sid: str) -> bool:
        """Whether a websocket for this polling session is open already."""
        return self._upgrades.is_running(eio_sid)

    async def serve(
        self,
        eio_sid: str | None,
        receive: Callable[[], Awaitable[Any]],
        send: Any,
        server_send: Any,
    ) -> bool:
        """Take a websocket over from uvicorn. False if that is not possible; the websocket is unchanged then.

        Returns at once: uvicorn's transport then calls the connection. With *eio_sid* it continues that polling
        session.
        """
        required = Takeover.NEW if eio_sid is None else Takeover.ALL
        if self._takeover not in {required, Takeover.ALL}:
            return False
        protocol = uvicorn_takeover.protocol_behind(server_send)
        if protocol is None or not uvicorn_takeover.untouched(protocol):
            return False
        transport = protocol.transport
        websocket = WebSocketConnection(self, transport, protocol)
        transport.set_protocol(websocket)
        try:
            await receive()
            await send({"type": "websocket.accept"})
        except BaseException:
            transport.set_protocol(protocol)
            raise
        if uvicorn_takeover.accepted(protocol):
            uvicorn_takeover.let_go(protocol)
            websocket.start(protocol.connections)
            if eio_sid is None:
                self._open(websocket)
            else:
                self._upgrades.start(websocket, eio_sid)
            websocket.resume()
        return True

    def _open(self, websocket: WebSocketConnection) -> None:
        connection = websocket.connection = self._sessions.add(self._new_id(), websocket)
        handshake = {
            "sid": connection.eio_sid,
            "upgrades": [],
            "pingTimeout": round(self._limits.ping_timeout * 1000),
            "pingInterval": round(self._limits.ping_interval * 1000),
            "maxPayload": self._limits.message_bytes,
        }
        websocket.write(websocket_frames.text(b"0" + msgspec.json.encode(handshake)))
        self._sessions.start_token_timeout(connection)
        self._ping_at[websocket] = time.monotonic() + self._limits.ping_interval

    def _on_upgraded(self, websocket: WebSocketConnection, pong_missing: bool) -> None:
        if pong_missing:
            self._pong_until[websocket] = time.monotonic() + self._limits.ping_timeout
        else:
            self._ping_at[websocket] = time.monotonic() + self._limits.ping_interval

    def ping(self) -> None:
        """Send the pings that are due, and disconnect clients whose pong is overdue. Called every few seconds."""
        now = time.monotonic()
        for websocket in _due(self._pong_until, now):
            if websocket.connection is not None:
                self._sessions.disconnect(websocket.connection, "ping_timeout")
            websocket.close_normally()
            self._end(websocket)
        for websocket in _due(self._ping_at, now):
            del self._ping_at[websocket]
            self._pong_until[websocket] = now + self._limits.ping_timeout
            websocket.ping()

    # -- WebSocketCallbacks -----------------------------------------------------------------------

    def on_message(self, websocket: WebSocketConnection, text: str | None) -> bool:
        connection = websocket.connection
        if connection is None:
            return self._upgrades.on_message(websocket, text, self._on_upgraded)
        if text == _PONG and self._pong_until.pop(websocket, None) is not None:
            self._ping_at[websocket] = time.monotonic() + self._limits.ping_interval
            return False
        if text == _CLOSE:
            websocket.close_normally()
            self._end(websocket)
            return False
        valid = text is not None and text != _PONG and acceptable(text)
        self._spawn(
            self._answer(websocket, connection, text[1:] if valid and text else REFUSED[1:])
        )
        return True

    def on_violation(self, websocket: WebSocketConnection, code: int) -> None:
        connection = websocket.connection
        if connection is None:
            return
        if code == websocket_frames.TOO_BIG:
            self._sessions.disconnect_too_large(connection)
        else:
            self._sessions.disconnect(connection, "protocol_error", _VIOLATIONS[code])

    def on_server_shutdown(self, websocket: WebSocketConnection) -> None:
        if websocket.connection is not None:
            self._sessions.disconnect(websocket.connection, "server_restarting", retry_after=1)

    def on_overflow(self, websocket: WebSocketConnection) -> None:
        if websocket.connection is not None:
            self._sessions.disconnect_slow_reader(websocket.connection)

    def on_closed(self, websocket: WebSocketConnection) -> None:
        self._end(websocket)

    async def _answer(
        self, websocket: WebSocketConnection, connection: Connection, text: str
    ) -> None:
        try:
            await self._on_packet(connection, text)
        finally:
            websocket.resume()

    def _end(self, websocket: WebSocketConnection) -> None:
        self._upgrades.end(websocket)
        self._pong_until.pop(websocket, None)
        self._ping_at.pop(websocket, None)
        if websocket.connection is not None:
            self._sessions.remove(websocket.connection.eio_sid)


def _due(times: dict[WebSocketConnection, float], now: float) -> list[WebSocketConnection]:
    return [websocket for websocket, _ in takewhile(lambda item: item[1] <= now, times.items())]
