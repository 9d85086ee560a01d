"""Reads the packets of all connections, one after the other for each, and sends the answers."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from socketio.exceptions import ConnectionRefusedError as SocketIORefusal

from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets, requests
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.error_notices import error_notice, refused_handshake
from chat_broker_server.realtime.handlers import EventHandlers
from chat_broker_server.realtime.packets import (
    BadArgumentsError,
    ClientPacket,
    OtherNamespaceError,
    OversizedError,
    ProtocolError,
)
from chat_broker_server.realtime.send_queue import EngineIOSendQueue
from chat_broker_server.realtime.sessions import CONNECTION, Sessions

_HANDSHAKES: Final = 3  # tried on one connection

_encode = msgspec.json.Encoder().encode

LibraryHandlers = Mapping[str, Callable[..., Awaitable[Any]]]


class Dispatcher:
    """Handles packets. Only CONNECT and DISCONNECT are passed to python-socketio."""

    def __init__(
        self,
        sessions: Sessions,
        handlers: EventHandlers,
        context: Context,
        library: LibraryHandlers,
    ) -> None:
        """*library*: the handlers that python-socketio registered with Engine.IO, by event."""
        self._sessions = sessions
        self._handlers = handlers
        self._limits = context.limits
        self._counts = context.counts
        self._log = context.log
        self._library = library

    async def on_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        self._sessions.open(eio_sid, environ)
        await self._library["connect"](eio_sid, environ)

    async def on_disconnect(self, eio_sid: str, reason: str) -> None:
        self._sessions.remove(eio_sid)
        await self._library["disconnect"](eio_sid, reason)

    async def remove_from_library(self, connection: Connection) -> None:
        """End python-socketio's session of a connection that continues without it."""
        await self._library["disconnect"](connection.eio_sid, "transport close")

    async def on_message(self, eio_sid: str, data: Any) -> None:
        connection = self._sessions.connections.get(eio_sid)
        if connection is not None:
            await self.dispatch(connection, data)

    async def dispatch(self, connection: Connection, data: Any) -> None:
        """Handle one packet. Packets of a connection are handled one after the other."""
        async with connection.lock:  # a polling client may send two requests at once
            if connection.ended:
                return
            try:
                await self._handle(connection, data)
            except Exception:  # noqa: BLE001  # a bug: only this packet is lost
                self._log.exception("socket.failed")

    async def handshake(self, _sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Called by python-socketio for CONNECT. Only the token identifies the client; nothing in *environ* does."""
        refused = await self._refused(environ[CONNECTION], auth)
        if refused is not None:
            raise SocketIORefusal(refused["message"], refused["data"])

    async def _refused(self, connection: Connection, auth: Any) -> dict[str, Any] | None:
        """Sign *connection* in by the token in *auth*. Returns the payload of the refusal, or None."""
        try:
            await self._sessions.authenticate(connection, auth)
        except ChatError as error:
            self._counts.handshakes_refused += 1
            return refused_handshake(error.code, error.message, error.retry_after)
        except Exception:  # noqa: BLE001  # a bug must not let a client in
            self._log.exception("socket.handshake_failed")
            return refused_handshake("internal_error", "Something went wrong on the server.")
        return None

    async def _handle(self, connection: Connection, data: Any) -> None:
        try:
            packet = packets.read(data)
        except OtherNamespaceError as error:
            if error.connects:
                refused = _encode(refused_handshake("unknown_namespace", str(error)))
                connection.send_queue.send(packets.connect_error(error.namespace, refused))
            self._count_protocol_error(connection, str(error))
        except OversizedError:
            self._sessions.disconnect_too_large(connection)
        except ProtocolError as error:
            self._count_protocol_error(connection, str(error))
        except BadArgumentsError as error:
            if self._is_allowed(connection, error.ack_id):
                wrong = requests.InvalidArguments(message=str(error))
                self._send_error(connection, error.ack_id, wrong)
        else:
            if packet.kind == "event":
                await self._event(connection, packet)
            elif packet.kind == "connect":
                await self._connect(connection, packet, data)
            elif connection.claims is not None:
                self._sessions.sign_out(connection)
                self._sessions.start_token_timeout(connection)
                if isinstance(connection.send_queue, EngineIOSendQueue):
                    await self._library["message"](connection.eio_sid, data)

    def _count_protocol_error(self, connection: Connection, message: str) -> None:
        self._counts.protocol_errors += 1
        connection.strikes += 1
        self._log.warning("socket.protocol_error", message)
        if connection.strikes >= self._limits.protocol_errors:
            self._sessions.disconnect(connection, "protocol_error", message)
        elif connection.claims is not None:
            failed = error_notice("protocol_error", message)
            connection.send_queue.send(packets.event("error", _encode(failed)))

    async def _connect(self, connection: Connection, packet: ClientPacket, data: Any) -> None:
        if connection.claims is not None:
            self._count_protocol_error(connection, "this connection is connected already")
            return
        connection.connects += 1
        if connection.connects > _HANDSHAKES:
            self._sessions.disconnect(
                connection, "token_invalid", "Too many handshakes on one connection."
            )
            return
        if not isinstance(connection.send_queue, EngineIOSendQueue):
            await self._answer_connect(connection, packet.data)
            return
        await self._library["message"](connection.eio_sid, data)
        if self._sessions.connections.get(connection.eio_sid) is None:
            # The connection ended meanwhile. The library made its session only now, so end that, too.
            await self._library["disconnect"](connection.eio_sid, "transport close")

    async def _answer_connect(self, connection: Connection, auth: Any) -> None:
        """Answer CONNECT as python-socketio does, for a connection that it does not serve."""
        refused = await self._refused(connection, auth)
        if refused is None:
            connection.send_queue.send(packets.connect(connection.eio_sid))
        else:
            connection.send_queue.send(packets.connect_error("/", _encode(refused)))

    def _is_allowed(self, connection: Connection, ack_id: int | None) -> bool:
        now = time.monotonic()
        if connection.claims is None:
            self._count_protocol_error(connection, "this connection is not connected yet")
            return False
        if connection.events.take(now):
            return True
        self._counts.refused_over_rate += 1
        if connection.refusals.take(now):
            rate = self._limits.events_per_second
            error = ChatError("rate_limited", f"At most {rate:g} events a second.", retry_after=1)
            self._send_error(connection, ack_id, error)
        else:
            self._sessions.disconnect(connection, "slow_down")
        return False

    async def _event(self, connection: Connection, packet: ClientPacket) -> None:
        name = packet.data[0]
        if name in requests.RESERVED or name.startswith("__"):
            self._count_protocol_error(connection, "this event name is reserved")
            return
        claims = connection.claims
        if not self._is_allowed(connection, packet.ack_id) or claims is None:
            return
        self._counts.events_in += 1
        try:
            event = requests.read(name, packet.data[1:])
            acknowledgement = await self._handlers.handle(connection, claims, event)
        except ChatError as error:
            self._send_error(connection, packet.ack_id, error)
            return
        except Exception:  # noqa: BLE001  # a bug: only this event fails
            self._log.exception("socket.call_failed")
            self._send_error(connection, packet.ack_id, ChatError())
            return
        if packet.ack_id is not None:
            connection.send_queue.send(
                packets.acknowledgement(packet.ack_id, acknowledgement.payload)
            )
        if acknowledgement.after_sending is not None:
            acknowledgement.after_sending()

    def _send_error(self, connection: Connection, ack_id: int | None, error: ChatError) -> None:
        if ack_id is None:
            failed = error_notice(error.code, error.message, error.retry_after)
            connection.send_queue.send(packets.event("error", _encode(failed)))
        else:
            reason: dict[str, Any] = {"code": error.code, "message": error.message}
            if error.retry_after is not None:
                reason["retry_after"] = error.retry_after
            body = {"ok": False, "error": reason}
            connection.send_queue.send(packets.acknowledgement(ack_id, _encode(body)))
