"""What a connection sends: read strictly, one packet after the other, and answered."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from socketio.exceptions import ConnectionRefusedError as Refusal

from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets, requests
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.counts import Counts
from chat_broker_server.realtime.error_notices import failure, refusal
from chat_broker_server.realtime.handlers import Answers
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import (
    BadArgumentsError,
    Frame,
    OtherNamespaceError,
    OversizedError,
    ProtocolError,
)
from chat_broker_server.realtime.send_queue import Outbox
from chat_broker_server.realtime.sessions import CONNECTION, Sessions

_HANDSHAKES: Final = 3  # tried on one connection

_encode = msgspec.json.Encoder().encode

Library = Mapping[str, Callable[..., Awaitable[Any]]]


class Conversation:
    """Hears packets. Only CONNECT and DISCONNECT ever reach the library's own dispatcher."""

    def __init__(
        self,
        sessions: Sessions,
        answers: Answers,
        limits: Limits,
        counts: Counts,
        log: SampledLog,
        library: Library,
    ) -> None:
        """*library*: the handlers python-socketio has given to Engine.IO, by event."""
        self._sessions = sessions
        self._answers = answers
        self._limits = limits
        self._counts = counts
        self._log = log
        self._library = library

    async def opened(self, eio_sid: str, environ: dict[str, Any]) -> None:
        """Engine.IO: a new connection."""
        self._sessions.open(eio_sid, environ)
        await self._library["connect"](eio_sid, environ)

    async def closed(self, eio_sid: str, reason: str) -> None:
        """Engine.IO: a connection has ended."""
        self._sessions.gone(eio_sid)
        await self._library["disconnect"](eio_sid, reason)

    async def forget(self, connection: Connection) -> None:
        """Make the library know nothing of a connection that goes on without it."""
        await self._library["disconnect"](connection.eio_sid, "transport close")

    async def received(self, eio_sid: str, data: Any) -> None:
        """Engine.IO: a packet."""
        connection = self._sessions.connections.get(eio_sid)
        if connection is not None:
            await self.hear(connection, data)

    async def hear(self, connection: Connection, data: Any) -> None:
        """Answer one packet. The next one of this connection is read after that."""
        async with connection.lock:  # a polling client may send two requests at once
            if connection.ended:
                return
            try:
                await self._take(connection, data)
            except Exception:  # noqa: BLE001  # a bug of ours: this packet is lost, nothing else
                self._log.exception("socket.failed")

    async def handshake(self, _sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """python-socketio: a client wants in. Identity is the token's, and nothing of *environ* is believed."""
        refused = await self._refused(environ[CONNECTION], auth)
        if refused is not None:
            raise Refusal(refused["message"], refused["data"])

    async def _refused(self, connection: Connection, auth: Any) -> dict[str, Any] | None:
        """Name *connection* by the token in *auth*; answers why not, if it may not be."""
        try:
            await self._sessions.authenticate(connection, auth)
        except ChatError as error:
            self._counts.handshakes_refused += 1
            return refusal(error.code, error.message, error.retry_after)
        except Exception:  # noqa: BLE001  # a bug of ours: nobody gets in by it
            self._log.exception("socket.handshake_failed")
            return refusal("internal_error", "Something went wrong on the server.")
        return None

    async def _take(self, connection: Connection, data: Any) -> None:
        try:
            frame = packets.read(data)
        except OtherNamespaceError as error:
            if error.connects:
                refused = _encode(refusal("unknown_namespace", str(error)))
                connection.outbox.send(packets.refusal(error.namespace, refused))
            self._strike(connection, str(error))
        except OversizedError:
            self._sessions.too_large(connection)
        except ProtocolError as error:
            self._strike(connection, str(error))
        except BadArgumentsError as error:
            if self._may_call(connection, error.ack_id):
                wrong = requests.InvalidArguments(message=str(error))
                self._fail(connection, error.ack_id, wrong)
        else:
            if frame.kind == "event":
                await self._event(connection, frame)
            elif frame.kind == "connect":
                await self._connect(connection, frame, data)
            elif connection.claims is not None:
                self._sessions.unname(connection)
                self._sessions.await_token(connection)
                if isinstance(connection.outbox, Outbox):
                    await self._library["message"](connection.eio_sid, data)

    def _strike(self, connection: Connection, message: str) -> None:
        self._counts.protocol_errors += 1
        connection.strikes += 1
        self._log.warning("socket.protocol_error", message)
        if connection.strikes >= self._limits.protocol_errors:
            self._sessions.cut(connection, "protocol_error", message)
        elif connection.claims is not None:
            failed = failure("protocol_error", message)
            connection.outbox.send(packets.event("error", _encode(failed)))

    async def _connect(self, connection: Connection, frame: Frame, data: Any) -> None:
        if connection.claims is not None:
            self._strike(connection, "this connection is connected already")
            return
        connection.connects += 1
        if connection.connects > _HANDSHAKES:
            self._sessions.cut(
                connection, "token_invalid", "Too many handshakes on one connection."
            )
            return
        if not isinstance(connection.outbox, Outbox):
            await self._admit(connection, frame.data)
            return
        await self._library["message"](connection.eio_sid, data)
        if self._sessions.connections.get(connection.eio_sid) is None:
            # It went away meanwhile: only now has the library a session to end.
            await self._library["disconnect"](connection.eio_sid, "transport close")

    async def _admit(self, connection: Connection, auth: Any) -> None:
        """What python-socketio does with a CONNECT, for a connection it does not know."""
        refused = await self._refused(connection, auth)
        if refused is None:
            connection.outbox.send(packets.welcome(connection.eio_sid))
        else:
            connection.outbox.send(packets.refusal("/", _encode(refused)))

    def _may_call(self, connection: Connection, ack_id: int | None) -> bool:
        now = time.monotonic()
        if connection.claims is None:
            self._strike(connection, "this connection is not connected yet")
            return False
        if connection.events.take(now):
            return True
        self._counts.refused_over_rate += 1
        if connection.refusals.take(now):
            rate = self._limits.events_per_second
            error = ChatError("rate_limited", f"At most {rate:g} events a second.", retry_after=1)
            self._fail(connection, ack_id, error)
        else:
            self._sessions.cut(connection, "slow_down")
        return False

    async def _event(self, connection: Connection, frame: Frame) -> None:
        name = frame.data[0]
        if name in requests.RESERVED or name.startswith("__"):
            self._strike(connection, "this event name is reserved")
            return
        claims = connection.claims
        if not self._may_call(connection, frame.ack_id) or claims is None:
            return
        self._counts.events_in += 1
        try:
            call = requests.read(name, frame.data[1:])
            answer = await self._answers.answer(connection, claims, call)
        except ChatError as error:
            self._fail(connection, frame.ack_id, error)
            return
        except Exception:  # noqa: BLE001  # a bug of ours: this call fails, nothing else
            self._log.exception("socket.call_failed")
            self._fail(connection, frame.ack_id, ChatError())
            return
        if frame.ack_id is not None:
            connection.outbox.send(packets.acknowledgement(frame.ack_id, answer.payload))
        if answer.then is not None:
            answer.then()

    def _fail(self, connection: Connection, ack_id: int | None, error: ChatError) -> None:
        if ack_id is None:
            failed = failure(error.code, error.message, error.retry_after)
            connection.outbox.send(packets.event("error", _encode(failed)))
        else:
            reason: dict[str, Any] = {"code": error.code, "message": error.message}
            if error.retry_after is not None:
                reason["retry_after"] = error.retry_after
            body = {"ok": False, "error": reason}
            connection.outbox.send(packets.acknowledgement(ack_id, _encode(body)))
