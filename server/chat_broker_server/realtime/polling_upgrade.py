"""From polling to a websocket that is ours: Engine.IO's upgrade, after which the library knows nothing of the session.

The client asks `2probe` over the websocket and is answered; what was on its way over polling arrives; then it says `5`,
and from there on everything takes the websocket.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from engineio import packet

from chat_broker_server.realtime import websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.send_queue import Outbox
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.websocket_connection import Line

_PROBE: Final = "2probe"
_PROBED: Final = b"3probe"
_UPGRADE: Final = "5"


class _Attempt:
    """One websocket that is to take a session over, and the timer that ends it otherwise."""

    __slots__ = ("eio_sid", "probed", "timer")

    def __init__(self, eio_sid: str, timer: asyncio.TimerHandle) -> None:
        self.eio_sid = eio_sid
        self.timer = timer
        self.probed = False


class Upgrades:
    """Sessions that are on their way."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        sockets: MutableMapping[str, Any],
        spawn: Callable[[Awaitable[None]], Any],
        moved: Callable[[Connection], None],
        forget: Callable[[Connection], Awaitable[None]],
        deadline: float,
    ) -> None:
        """*sockets* are Engine.IO's own. *moved* hears that a connection has a new outbox; *forget* makes the library
        know nothing of it any more."""
        self._sessions = sessions
        self._sockets = sockets
        self._spawn = spawn
        self._moved = moved
        self._forget = forget
        self._deadline = deadline
        self._attempts: dict[Line, _Attempt] = {}

    def under_way(self, eio_sid: str) -> bool:
        """Is there a websocket for this session already?"""
        return any(attempt.eio_sid == eio_sid for attempt in self._attempts.values())

    def begin(self, line: Line, eio_sid: str) -> None:
        """*line* is to take this session over."""
        timer = asyncio.get_running_loop().call_later(self._deadline, line.hang_up)
        self._attempts[line] = _Attempt(eio_sid, timer)

    def end(self, line: Line) -> None:
        """It is over, however it went. The session goes on over polling, or has gone on over *line*."""
        attempt = self._attempts.pop(line, None)
        if attempt is not None:
            attempt.timer.cancel()
            if (socket := self._sockets.get(attempt.eio_sid)) is not None:
                socket.upgrading = False

    def hear(self, line: Line, text: str | None, done: Callable[[Line, bool], None]) -> bool:
        """See Side. *done* is called when the session has moved; with True if a ping of it has not been answered."""
        attempt = self._attempts.get(line)
        connection = None if attempt is None else self._sessions.connections.get(attempt.eio_sid)
        socket = None if attempt is None else self._sockets.get(attempt.eio_sid)
        if attempt is None or connection is None or socket is None:
            line.hang_up()
        elif text == _PROBE and not attempt.probed:
            attempt.probed = True
            socket.upgrading = True  # polls are answered at once and with nothing from now on
            line.write(websocket_frames.text(_PROBED))
            socket.queue.put_nowait(packet.Packet(packet.NOOP))  # also the one that waits now
        elif text == _UPGRADE and attempt.probed:
            attempt.timer.cancel()
            self._spawn(self._move(line, connection, socket, done))
            return True
        else:
            line.hang_up()
        return False

    async def _move(
        self,
        line: Line,
        connection: Connection,
        socket: Any,
        done: Callable[[Line, bool], None],
    ) -> None:
        try:
            async with connection.lock:  # what came over polling is answered first, and on its way
                outbox = connection.outbox
                # Meanwhile either may have ended; the session alone goes on over polling.
                if connection.ended or line not in self._attempts or not isinstance(outbox, Outbox):
                    line.hang_up()
                    return
                waiting = outbox.take_all()
                self._sockets.pop(connection.eio_sid, None)
                socket.closing = socket.closed = True
                connection.outbox = line
                line.connection = connection
                for ready in waiting:
                    line.send(ready)
                self._moved(connection)
                done(line, socket.last_ping is not None)
                outbox.over()
                await self._forget(connection)
        finally:
            self.end(line)
            line.go_on()
