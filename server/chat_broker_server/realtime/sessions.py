"""The life of a connection: opened, named by its token, warned, closed. Nobody stays whose token is bad.

A token is asked about again when somebody closes its user's sockets while the handshake is under way: what the check
read may be older than that. From the moment a connection is named, closing finds it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_server.chat.events import ALL_USERS
from chat_broker_server.credentials.tokens import Claims, Tokens
from chat_broker_server.errors import ChatError, NotAuthenticated
from chat_broker_server.realtime import packets, requests
from chat_broker_server.realtime.connections import Connection, Connections, UserKey
from chat_broker_server.realtime.counts import Counts
from chat_broker_server.realtime.error_notices import RECONNECT, WORDS, failure, farewell, refusal
from chat_broker_server.realtime.handlers import whole_second_timestamp
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.send_queue import Outbox, Outgoing

CONNECTION: Final = "chat_broker_server.connection"
_CHECKS: Final = 3
_RECHECKED_AT_ONCE: Final = 200
_HEAD_START: Final = 0.1  # seconds, of an event before an answer that takes another way
_REMEMBERED: Final = 120.0  # seconds; longer than any handshake takes

_encode = msgspec.json.Encoder().encode


class Sessions:
    """Opens, names and closes the connections of this node."""

    def __init__(
        self,
        tokens: Tokens,
        limits: Limits,
        counts: Counts,
        log: SampledLog,
        *,
        sockets: Mapping[str, Any],
        spawn: Callable[[Awaitable[None]], asyncio.Task[None]],
        forget: Callable[[Connection], None],
    ) -> None:
        """*sockets* are Engine.IO's own; *forget* takes back all that a connection holds in rooms."""
        self.connections = Connections()
        self._tokens = tokens
        self._limits = limits
        self._counts = counts
        self._log = log
        self._sockets = sockets
        self._spawn = spawn
        self._forget = forget
        self._closings: dict[UserKey, float] = {}

    # -- for the gate -----------------------------------------------------------------------------

    def outbox(self, eio_sid: str) -> Outbox | None:
        """The queue of a connection that is alive and the library's."""
        connection = self.connections.get(eio_sid)
        if connection is None or not isinstance(connection.outbox, Outbox):
            return None
        return connection.outbox

    def room_for_one_more(self) -> bool:
        """May another connection be opened here?"""
        return len(self.connections) < self._limits.sockets

    async def refused(self, eio_sid: str, code: str, message: str) -> None:
        """A polling request of this connection is about to be refused, upon which client libraries end the session:
        say why before that, over the poll that waits."""
        connection = self.connections.get(eio_sid)
        if connection is not None and connection.claims is not None:
            connection.outbox.send(packets.event("error", _encode(failure(code, message))))
            await asyncio.sleep(_HEAD_START)

    # -- opening ----------------------------------------------------------------------------------

    def open(self, eio_sid: str, environ: dict[str, Any]) -> None:
        """The library has a new connection; a token must come soon."""
        outbox = self._sockets[eio_sid].queue
        connection = self.begin(eio_sid, outbox)
        outbox.on_overflow = lambda: self.too_slow(connection)
        scope = environ["asgi.scope"]
        if scope["type"] == "websocket":
            outbox.attach(asyncio.current_task())
        environ[CONNECTION] = connection
        self.await_token(connection)

    def begin(self, eio_sid: str, outbox: Outgoing) -> Connection:
        """A new connection of nobody yet."""
        connection = Connection(eio_sid, outbox, self._limits)
        self.connections.add(connection)
        return connection

    def await_token(self, connection: Connection) -> None:
        """From now on there is a deadline to show a token."""
        connection.after(
            asyncio.get_running_loop().call_later(
                self._limits.auth_deadline, self.cut, connection, "handshake_timeout"
            )
        )

    async def authenticate(self, connection: Connection, auth: Any) -> None:
        """Name *connection* by the token in *auth*. Raises ChatError with the reason if it may not be."""
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not 1 <= len(token) <= requests.MAX_TOKEN:
            raise NotAuthenticated("token_invalid", "Connect with auth: {token}.")
        claims = await self._checked(token)
        if connection.ended:
            raise NotAuthenticated("token_invalid", "The connection has ended.")
        if len(self.connections.of((claims.pid, claims.sub))) >= self._limits.sockets_per_user:
            raise ChatError(
                "too_many_sockets", "This user has too many sockets open.", retry_after=30
            )
        self.connections.name(connection, claims)
        self._watch_token(connection, claims)

    async def refresh(self, connection: Connection, claims: Claims, token: str) -> Claims:
        """Go on with a newer *token* of the same user. Raises NotAuthenticated."""
        fresh = await self._checked(token)
        if (fresh.pid, fresh.sub) != (claims.pid, claims.sub):
            raise NotAuthenticated("token_invalid", "This token is another user's.")
        if connection.claims is None:
            raise NotAuthenticated("token_revoked", WORDS["token_revoked"])
        connection.claims = fresh
        self._watch_token(connection, fresh)
        return fresh

    async def _checked(self, token: str) -> Claims:
        for _ in range(_CHECKS):
            began = time.monotonic()
            claims = await self._tokens.check(token)
            closed = (
                self._closings.get((claims.pid, who), -1.0) for who in (claims.sub, ALL_USERS)
            )
            if max(closed) < began:
                return claims
        raise NotAuthenticated("token_revoked", WORDS["token_revoked"])

    # -- the token's life -------------------------------------------------------------------------

    def _watch_token(self, connection: Connection, claims: Claims) -> None:
        """Warn once: at 80 % of the token's life, or a minute before its end if that is later."""
        warn_at = max(claims.iat + 0.8 * (claims.exp - claims.iat), claims.exp - 60)
        delay = max(0.0, warn_at - time.time())
        connection.after(
            asyncio.get_running_loop().call_later(delay, self._token_expires, connection, claims)
        )

    def _token_expires(self, connection: Connection, claims: Claims) -> None:
        left = max(0, round(claims.exp - time.time()))
        payload = _encode({"expires_at": whole_second_timestamp(claims.exp), "expires_in": left})
        connection.outbox.send(packets.event("tokenExpiring", payload))
        delay = max(0.0, claims.exp + self._limits.expiry_grace - time.time())
        connection.after(
            asyncio.get_running_loop().call_later(delay, self.cut, connection, "token_expired")
        )

    async def recheck(self) -> None:
        """Ask the database about the token of everybody who is connected."""
        held: dict[tuple[str, str, str, int], tuple[Claims, list[Connection]]] = {}
        for connection in self.connections:
            claims = connection.claims
            if claims is not None:
                key = (claims.pid, claims.sub, claims.sid, claims.gen)
                held.setdefault(key, (claims, []))[1].append(connection)
        sessions = list(held.values())
        for at in range(0, len(sessions), _RECHECKED_AT_ONCE):
            some = sessions[at : at + _RECHECKED_AT_ONCE]
            verdicts = await self._tokens.recheck([claims for claims, _ in some])
            for (claims, connections), verdict in zip(some, verdicts, strict=True):
                if verdict is None or verdict == "token_expired":  # its end has a timer of its own
                    continue
                for connection in connections:
                    now = connection.claims
                    if now is not None and (now.sid, now.gen) == (claims.sid, claims.gen):
                        self.cut(connection, verdict)
            await asyncio.sleep(0)  # SQLite answers without giving others a turn

    # -- closing ----------------------------------------------------------------------------------

    def close_user(self, pid: str, user_id: str, code: str, session_id: str | None) -> int:
        """Close the sockets of a user here, or those of one session; answers how many.

        ALL_USERS stands for all users of the project.
        """
        self._closings.pop((pid, user_id), None)
        self._closings[pid, user_id] = time.monotonic()  # at the end: the oldest stand first
        closed = 0
        users = [(pid, user_id)]
        if user_id == ALL_USERS:
            users = [user for user in self.connections.users() if user[0] == pid]
        for connection in [each for user in users for each in self.connections.of(user)]:
            claims = connection.claims
            if claims is not None and session_id in {None, claims.sid}:
                self.cut(connection, code)
                closed += 1
        return closed

    def forget_old_closings(self) -> None:
        """Handshakes that began before them are long over."""
        old = time.monotonic() - _REMEMBERED
        while self._closings and next(iter(self._closings.values())) < old:
            del self._closings[next(iter(self._closings))]

    def cut(
        self,
        connection: Connection,
        code: str,
        message: str | None = None,
        retry_after: int | None = None,
    ) -> asyncio.Task[None] | None:
        """Say why, and close; the socket hears nothing else from now on. Answers the task that sees it off."""
        if connection.ended:
            return None
        connection.ended = True
        if connection.claims is None:
            body = _encode(refusal(code, message, retry_after))
            last = [packets.refusal("/", body)]
        else:
            last = [packets.event("error", _encode(farewell(code, message, retry_after)))]
            if code not in RECONNECT:  # a DISCONNECT keeps client libraries from coming back
                last.append(packets.farewell())
        self.unname(connection)
        connection.outbox.end(*last)
        return self._spawn(self._see_off(connection))

    def unname(self, connection: Connection) -> None:
        """Take back everything that makes this socket somebody's."""
        connection.after(None)
        self._forget(connection)
        self.connections.unname(connection)

    def gone(self, eio_sid: str) -> None:
        """Engine.IO has lost or closed a connection."""
        connection = self.connections.get(eio_sid)
        if connection is not None:
            connection.ended = True
            connection.outbox.over()
            self.unname(connection)
            self.connections.remove(connection)

    async def _see_off(self, connection: Connection) -> None:
        await connection.outbox.until_sent(self._limits.last_words)
        loop = asyncio.get_running_loop()
        loop.call_later(self._limits.cut_after, connection.outbox.abort)
        socket = self._sockets.get(connection.eio_sid)
        if socket is not None:
            await socket.close(wait=False, abort=True)
        self.gone(connection.eio_sid)

    def check_ping(self, socket: Any, patience: float) -> None:
        """Let go of a connection of the library's whose peer has not answered a ping for *patience* seconds."""
        connection = self.connections.get(socket.sid)
        asked = socket.last_ping  # by the wall clock
        if connection and asked and time.time() - asked > patience:
            self.cut(connection, "ping_timeout")

    def too_large(self, connection: Connection) -> None:
        """It has sent a longer message than it may: nothing after that can be read."""
        most = self._limits.message_bytes
        self.cut(
            connection, "message_too_large", f"A message may have {most} bytes: connect again."
        )

    def too_slow(self, connection: Connection) -> None:
        """More waits for this one than may: cut it off, once what is being sent to others has been sent."""
        asyncio.get_running_loop().call_soon(self._cut_slow, connection)

    def _cut_slow(self, connection: Connection) -> None:
        if not connection.ended:
            self._counts.slow_consumers_cut += 1
            self._log.warning("socket.slow_consumer")
            self.cut(connection, "slow_down", "This connection reads too slowly: connect again.")
