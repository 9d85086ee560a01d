"""Engine.IO's upgrade from polling to a websocket of this server. Afterwards python-socketio has no such session.

The client sends `2probe` over the websocket and gets `3probe`. The waiting poll is answered. Then the client sends `5`,
and all further packets use the websocket.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from engineio import packet

from chat_broker_server.realtime import websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.send_queue import EngineIOSendQueue
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.websocket_connection import WebSocketConnection

_PROBE: Final = "2probe"
_PROBED: Final = b"3probe"
_UPGRADE: Final = "5"


class _Attempt:
    """An upgrade that has started, and the timer that ends it."""

    __slots__ = ("eio_sid", "probed", "timer")

    def __init__(self, eio_sid: str, timer: asyncio.TimerHandle) -> None:
        self.eio_sid = eio_sid
        self.timer = timer
        self.probed = False


class PollingUpgrades:
    """The upgrades that are running."""

    def __init__(
        self,
        sessions: Sessions,
        context: Context,
        *,
        sockets: MutableMapping[str, Any],
        replace_send_queue: Callable[[Connection], None],
        remove_from_library: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """*sockets* are Engine.IO's own. *replace_send_queue* is called for a connection with a new send queue."""
        self._sessions = sessions
        self._sockets = sockets
        self._spawn = context.spawn
        self._timeout = context.limits.auth_deadline
        self._replace_send_queue = replace_send_queue
        self._remove_from_library = remove_from_library
        self._attempts: dict[WebSocketConnection, _Attempt] = {}

    def is_running(self, eio_sid: str) -> bool:
        """Whether an upgrade of this session has started."""
        return any(attempt.eio_sid == eio_sid for attempt in self._attempts.values())

    def start(self, websocket: WebSocketConnection, eio_sid: str) -> None:
        """Start to move the session *eio_sid* to *websocket*."""
        timer = asyncio.get_running_loop().call_later(self._timeout, websocket.close_normally)
        self._attempts[websocket] = _Attempt(eio_sid, timer)

    def end(self, websocket: WebSocketConnection) -> None:
        """Called when the upgrade has finished or failed, and when *websocket* has closed."""
        attempt = self._attempts.pop(websocket, None)
        if attempt is not None:
            attempt.timer.cancel()
            if (socket := self._sockets.get(attempt.eio_sid)) is not None:
                socket.upgrading = False

    def on_message(
        self,
        websocket: WebSocketConnection,
        text: str | None,
        done: Callable[[WebSocketConnection, bool], None],
    ) -> bool:
        """As WebSocketCallbacks.on_message. *done* is called after the move, with True if a pong is still missing."""
        attempt = self._attempts.get(websocket)
        connection = None if attempt is None else self._sessions.connections.get(attempt.eio_sid)
        socket = None if attempt is None else self._sockets.get(attempt.eio_sid)
        if attempt is None or connection is None or socket is None:
            websocket.close_normally()
        elif text == _PROBE and not attempt.probed:
            attempt.probed = True
            socket.upgrading = True  # from now on polls get an empty response at once
            websocket.write(websocket_frames.text(_PROBED))
            socket.queue.put_nowait(packet.Packet(packet.NOOP))  # answers the waiting poll, too
        elif text == _UPGRADE and attempt.probed:
            attempt.timer.cancel()
            self._spawn(self._move(websocket, connection, socket, done))
            return True
        else:
            websocket.close_normally()
        return False

    async def _move(
        self,
        websocket: WebSocketConnection,
        connection: Connection,
        socket: Any,
        done: Callable[[WebSocketConnection, bool], None],
    ) -> None:
        try:
            async with connection.lock:  # packets that came by polling are answered first
                send_queue = connection.send_queue
                # The connection or the websocket may have ended meanwhile. Without the websocket, polling continues.
                if (
                    connection.ended
                    or websocket not in self._attempts
                    or not isinstance(send_queue, EngineIOSendQueue)
                ):
                    websocket.close_normally()
                    return
                waiting = send_queue.take_all()
                self._sockets.pop(connection.eio_sid, None)
                socket.closing = socket.closed = True
                connection.send_queue = websocket
                websocket.connection = connection
                for encoded in waiting:
                    websocket.send(encoded)
                self._replace_send_queue(connection)
                done(websocket, socket.last_ping is not None)
                send_queue.mark_ended()
                await self._remove_from_library(connection)
        finally:
            self.end(websocket)
            websocket.resume()
