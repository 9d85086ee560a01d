"""Connections from open to close: sign-in by token, warning before expiry, disconnect.

A handshake checks its token again if the user's sockets were closed meanwhile: the first check may have read the state
before that. Once a connection is signed in, `close_user` finds it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from chat_broker_server.chat.events import ALL_USERS
from chat_broker_server.credentials.tokens import Claims, Tokens
from chat_broker_server.errors import ChatError, NotAuthenticated
from chat_broker_server.realtime import packets, requests
from chat_broker_server.realtime.connections import Connection, Connections, UserKey
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.error_notices import (
    MESSAGES,
    RECONNECT,
    closing_notice,
    error_notice,
    refused_handshake,
)
from chat_broker_server.realtime.handlers import whole_second_timestamp
from chat_broker_server.realtime.send_queue import EngineIOSendQueue, SendQueue
from chat_broker_server.realtime.slow_readers import end_slow_reader

CONNECTION: Final = "chat_broker_server.connection"
_TOKEN_CHECKS: Final = 3
_RECHECK_BATCH: Final = 200
_HEAD_START: Final = 0.1  # seconds by which the event precedes the response to another request
_KEEP_CLOSINGS: Final = 120.0  # seconds; longer than any handshake takes

_encode = msgspec.json.Encoder().encode


class Sessions:
    """Opens, signs in and disconnects the connections of this node."""

    def __init__(
        self,
        tokens: Tokens,
        context: Context,
        *,
        sockets: Mapping[str, Any],
        unsubscribe_all: Callable[[Connection], None],
    ) -> None:
        """*sockets* are Engine.IO's own. *unsubscribe_all* ends the connection's subscriptions."""
        self.connections = Connections()
        self._tokens = tokens
        self._limits = context.limits
        self._context = context
        self._sockets = sockets
        self._spawn = context.spawn
        self._unsubscribe_all = unsubscribe_all
        self._closings: dict[UserKey, float] = {}

    # -- for the handshake guard ------------------------------------------------------------------

    def library_queue(self, eio_sid: str) -> EngineIOSendQueue | None:
        """The send queue of an open connection that the library serves, else None."""
        connection = self.connections.get(eio_sid)
        if connection is None or not isinstance(connection.send_queue, EngineIOSendQueue):
            return None
        return connection.send_queue

    def has_capacity(self) -> bool:
        return len(self.connections) < self._limits.sockets

    async def explain_refusal(self, eio_sid: str, code: str, message: str) -> None:
        """Send an `error` event over the waiting poll before another polling request is refused.

        Client libraries end the session upon the refusal, so this is the last chance to tell the reason.
        """
        connection = self.connections.get(eio_sid)
        if connection is not None and connection.claims is not None:
            connection.send_queue.send(packets.event("error", _encode(error_notice(code, message))))
            await asyncio.sleep(_HEAD_START)

    # -- opening ----------------------------------------------------------------------------------

    def open(self, eio_sid: str, environ: dict[str, Any]) -> None:
        """Called for a new connection of the library. It must send a token within `auth_deadline`."""
        send_queue = self._sockets[eio_sid].queue
        connection = self.add(eio_sid, send_queue)
        send_queue.on_overflow = lambda: self.disconnect_slow_reader(connection)
        scope = environ["asgi.scope"]
        if scope["type"] == "websocket":
            send_queue.attach(asyncio.current_task())
        environ[CONNECTION] = connection
        self.start_token_timeout(connection)

    def add(self, eio_sid: str, send_queue: SendQueue) -> Connection:
        connection = Connection(eio_sid, send_queue, self._limits)
        self.connections.add(connection)
        return connection

    def start_token_timeout(self, connection: Connection) -> None:
        """Disconnect with `handshake_timeout` unless a token comes within `auth_deadline`."""
        connection.after(
            asyncio.get_running_loop().call_later(
                self._limits.auth_deadline, self.disconnect, connection, "handshake_timeout"
            )
        )

    async def authenticate(self, connection: Connection, auth: Any) -> None:
        """Sign *connection* in by the token in *auth*. Raises ChatError with the reason for a refusal."""
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not 1 <= len(token) <= requests.MAX_TOKEN:
            raise NotAuthenticated("token_invalid", "Connect with auth: {token}.")
        claims = await self._check_token(token)
        if connection.ended:
            raise NotAuthenticated("token_invalid", "The connection has ended.")
        if len(self.connections.of((claims.pid, claims.sub))) >= self._limits.sockets_per_user:
            raise ChatError(
                "too_many_sockets", "This user has too many sockets open.", retry_after=30
            )
        self.connections.sign_in(connection, claims)
        self._watch_token(connection, claims)

    async def refresh(self, connection: Connection, claims: Claims, token: str) -> Claims:
        """Replace the token by a newer one of the same user. Raises NotAuthenticated."""
        fresh = await self._check_token(token)
        if (fresh.pid, fresh.sub) != (claims.pid, claims.sub):
            raise NotAuthenticated("token_invalid", "This token is another user's.")
        if connection.claims is None:
            raise NotAuthenticated("token_revoked", MESSAGES["token_revoked"])
        connection.claims = fresh
        self._watch_token(connection, fresh)
        return fresh

    async def _check_token(self, token: str) -> Claims:
        for _ in range(_TOKEN_CHECKS):
            started_at = time.monotonic()
            claims = await self._tokens.check(token)
            closed_at = (
                self._closings.get((claims.pid, user_id), -1.0)
                for user_id in (claims.sub, ALL_USERS)
            )
            if max(closed_at) < started_at:
                return claims
        raise NotAuthenticated("token_revoked", MESSAGES["token_revoked"])

    # -- token expiry -----------------------------------------------------------------------------

    def _watch_token(self, connection: Connection, claims: Claims) -> None:
        """Send `tokenExpiring` once: at 80 % of the token's life, or a minute before its end if that is later."""
        warn_at = max(claims.iat + 0.8 * (claims.exp - claims.iat), claims.exp - 60)
        delay = max(0.0, warn_at - time.time())
        connection.after(
            asyncio.get_running_loop().call_later(delay, self._token_expires, connection, claims)
        )

    def _token_expires(self, connection: Connection, claims: Claims) -> None:
        left = max(0, round(claims.exp - time.time()))
        payload = _encode({"expires_at": whole_second_timestamp(claims.exp), "expires_in": left})
        connection.send_queue.send(packets.event("tokenExpiring", payload))
        delay = max(0.0, claims.exp + self._limits.expiry_grace - time.time())
        connection.after(
            asyncio.get_running_loop().call_later(
                delay, self.disconnect, connection, "token_expired"
            )
        )

    async def recheck(self) -> None:
        """Check the token of each connection against the database, and disconnect those that are refused."""
        by_session: dict[tuple[str, str, str, int], tuple[Claims, list[Connection]]] = {}
        for connection in self.connections:
            claims = connection.claims
            if claims is not None:
                key = (claims.pid, claims.sub, claims.sid, claims.gen)
                by_session.setdefault(key, (claims, []))[1].append(connection)
        sessions = list(by_session.values())
        for at in range(0, len(sessions), _RECHECK_BATCH):
            batch = sessions[at : at + _RECHECK_BATCH]
            codes = await self._tokens.recheck([claims for claims, _ in batch])
            for (claims, connections), code in zip(batch, codes, strict=True):
                if code is None or code == "token_expired":  # expiry has its own timer
                    continue
                for connection in connections:
                    current = connection.claims
                    if current is not None and (current.sid, current.gen) == (
                        claims.sid,
                        claims.gen,
                    ):
                        self.disconnect(connection, code)
            await asyncio.sleep(0)  # SQLite reads do not yield to other tasks

    # -- closing ----------------------------------------------------------------------------------

    def close_user(self, pid: str, user_id: str, code: str, session_id: str | None) -> int:
        """Disconnect the user's sockets on this node, or those of one session. Returns how many.

        *user_id* ALL_USERS means all users of the project.
        """
        self._closings.pop((pid, user_id), None)
        self._closings[pid, user_id] = (
            time.monotonic()
        )  # re-inserted at the end, so that the oldest are first
        closed = 0
        users = [(pid, user_id)]
        if user_id == ALL_USERS:
            users = [user for user in self.connections.users() if user[0] == pid]
        for connection in [each for user in users for each in self.connections.of(user)]:
            claims = connection.claims
            if claims is not None and session_id in {None, claims.sid}:
                self.disconnect(connection, code)
                closed += 1
        return closed

    def remove_old_closings(self) -> None:
        """Drop the times that no running handshake can need."""
        limit = time.monotonic() - _KEEP_CLOSINGS
        while self._closings and next(iter(self._closings.values())) < limit:
            del self._closings[next(iter(self._closings))]

    def disconnect(
        self,
        connection: Connection,
        code: str,
        message: str | None = None,
        retry_after: int | None = None,
    ) -> asyncio.Task[None] | None:
        """Send the reason as the last event and close. Returns the task that closes; None if it has ended already."""
        if connection.ended:
            return None
        connection.ended = True
        if connection.claims is None:
            body = _encode(refused_handshake(code, message, retry_after))
            last = [packets.connect_error("/", body)]
        else:
            last = [packets.event("error", _encode(closing_notice(code, message, retry_after)))]
            if code not in RECONNECT:  # a DISCONNECT keeps client libraries from coming back
                last.append(packets.disconnect())
        self.sign_out(connection)
        connection.send_queue.end(*last)
        return self._spawn(self._finish_disconnect(connection))

    def sign_out(self, connection: Connection) -> None:
        """Remove the user, the timer and the subscriptions of the connection."""
        connection.after(None)
        self._unsubscribe_all(connection)
        self.connections.sign_out(connection)

    def remove(self, eio_sid: str) -> None:
        """Called when the transport has closed."""
        connection = self.connections.get(eio_sid)
        if connection is not None:
            connection.ended = True
            connection.send_queue.mark_ended()
            self.sign_out(connection)
            self.connections.remove(connection)

    async def _finish_disconnect(self, connection: Connection) -> None:
        await connection.send_queue.wait_until_sent(self._limits.last_words)
        loop = asyncio.get_running_loop()
        loop.call_later(self._limits.cut_after, connection.send_queue.abort)
        socket = self._sockets.get(connection.eio_sid)
        if socket is not None:
            await socket.close(wait=False, abort=True)
        self.remove(connection.eio_sid)

    def check_ping(self, socket: Any, timeout: float) -> None:
        """Disconnect a connection of the library whose client has not answered a ping for *timeout* seconds."""
        connection = self.connections.get(socket.sid)
        pinged_at = socket.last_ping  # by the wall clock
        if connection and pinged_at and time.time() - pinged_at > timeout:
            self.disconnect(connection, "ping_timeout")

    def disconnect_too_large(self, connection: Connection) -> None:
        """The client sent a message over the limit. Nothing after it can be read."""
        most = self._limits.message_bytes
        self.disconnect(
            connection, "message_too_large", f"A message may have {most} bytes: connect again."
        )

    def disconnect_slow_reader(self, connection: Connection) -> None:
        """The send queue is over its limit: see `slow_readers`."""
        end_slow_reader(self._context, partial(self.disconnect, connection))
