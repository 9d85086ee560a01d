"""python-socketio as this server runs it, with our send queues and shortcuts through its internals.

Each internal name is checked before use. If one is missing, the library's public way is used: slower, with the same
results.
"""

import logging
from dataclasses import dataclass
from typing import Any, Final

import socketio
import structlog
from engineio.async_socket import AsyncSocket

from chat_broker_kit.insides import Needs, misfit
from chat_broker_kit.logs.sampling import SampledFilter
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.send_queue import EngineIOSendQueue

_log = structlog.get_logger("chat_broker_server.realtime.socketio_library")
_library_log = logging.getLogger("chat_broker_server.socketio")
_library_log.setLevel(logging.ERROR)
_library_log.addFilter(SampledFilter())

OF_MANAGER: Final[Needs] = {
    socketio.AsyncManager: (
        "basic_disconnect", "basic_leave_room", "callbacks", "pending_connect", "pending_disconnect",
    ),
}  # fmt: skip
WATCHED: Final[Needs] = {AsyncSocket: ("closed", "closing", "last_ping", "sid")}
MOVED: Final[Needs] = {AsyncSocket: ("closed", "closing", "last_ping", "queue", "upgrading")}


class _Manager(socketio.AsyncManager):  # type: ignore[misc]  # the library ships no types
    """The library's sessions. Its rooms are not used, so removing a session need not search all of them."""

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        for room in (sid, None):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            sids = pending.get(namespace)
            if sids and sid in sids:
                sids.remove(sid)
                if not sids:
                    del pending[namespace]


@dataclass(frozen=True, slots=True)
class Library:
    """The library's server, and which of our shortcuts its version allows."""

    sio: socketio.AsyncServer
    is_watched: bool
    """Whether this server checks pings. If not, the library does so with its own task."""
    can_move: bool
    """Whether a polling session may upgrade to a websocket of this server."""


def open_library(limits: Limits) -> Library:
    """Make the library's server, without handlers."""
    watched = _fits("watching pings", WATCHED)
    manager = _Manager if _fits("sessions", OF_MANAGER, _Manager) else socketio.AsyncManager
    sio = socketio.AsyncServer(
        async_mode="asgi",
        client_manager=manager(),
        async_handlers=False,
        monitor_clients=not watched,
        cors_allowed_origins=[],  # HandshakeGuard checks origins
        http_compression=False,
        cookie=None,
        max_http_buffer_size=limits.message_bytes,
        ping_interval=limits.ping_interval,
        ping_timeout=limits.ping_timeout,
        logger=_library_log,
        engineio_logger=_library_log,
    )

    def new_queue(*_: Any, **__: Any) -> EngineIOSendQueue:
        return EngineIOSendQueue(limits.send_queue_bytes)

    sio.eio.create_queue = new_queue  # documented: the queue of one socket
    return Library(sio, watched, _fits("upgrades from polling", MOVED))


def _fits(purpose: str, needs: Needs, *ours: type) -> bool:
    reason = misfit(needs, *ours)
    if reason:
        _log.warning("socket.ordinary_way", of=purpose, reason=reason)
    return not reason
