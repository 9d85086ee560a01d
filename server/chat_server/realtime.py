"""The live side of the Chat API: Socket.IO events become calls of `Chat`, and what `Chat` publishes reaches sockets.

python-socketio serves transports, handshakes and pings. Events of clients do not go through its dispatcher: every
packet is read here (`frames`, `calls`), so that nothing but the events of the contract can ever run a handler. What is
sent to rooms does not go through its rooms: `LiveRooms` writes one ready-made frame to every socket.

Who a socket is stands in the claims of its checked token alone. It is asked again whenever somebody's sockets are
closed while a handshake is under way, and every few seconds for everybody, so that a lost hint does no lasting harm.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import engineio
import msgspec
import socketio
from socketio.exceptions import ConnectionRefusedError as Refusal

from chat_server import calls, checks, frames, standing
from chat_server.bus import Bus, LocalBus
from chat_server.chat import Chat
from chat_server.connections import Connection, Connections, RoomKey, UserKey
from chat_server.database import Database
from chat_server.errors import ChatError, NotAuthenticated, NotFound
from chat_server.events import Event, Receipt
from chat_server.frames import BadArgumentsError, Frame, OtherNamespaceError, ProtocolError
from chat_server.gate import WIRE, Gate
from chat_server.limits import Limits
from chat_server.nodes import Body, Close, Closed, Happened, Hello, Nodes, Online
from chat_server.outbox import Outbox
from chat_server.presence import Presence
from chat_server.rooms_live import LiveRooms
from chat_server.sampled import Sampled, SampledFilter
from chat_server.schemas import Message, Room
from chat_server.tokens import Claims, Tokens
from chat_server.typing_states import TypingStates

log = logging.getLogger("chat_server.realtime")
_library_log = logging.getLogger("chat_server.socketio")
_library_log.setLevel(logging.ERROR)
_library_log.addFilter(SampledFilter())

_encode = msgspec.json.Encoder().encode
_OK: Final = _encode({"ok": True})
_CONNECTION: Final = "chat_server.connection"
_CONNECTS: Final = 3  # handshakes tried on one connection

#: After these, a client gets a new token and comes back; after any other, it stays away.
RECONNECT: Final = frozenset(
    {
        "token_expired",
        "server_restarting",
        "slow_down",
        "unavailable",
        "database_unavailable",
        "too_many_sockets",
    }
)
_WORDS: Final = {
    "token_expired": "The token has expired: get a new one and connect again.",
    "token_revoked": "The token has been revoked.",
    "token_invalid": "The token is not valid.",
    "user_suspended": "This user is suspended.",
    "user_deleted": "This user does not exist any more.",
    "server_restarting": "The server is restarting: connect again in a moment.",
    "slow_down": "Too much at once: connect again, and slow down.",
}


class Joined(msgspec.Struct, frozen=True):
    """The acknowledgement of joinRoom; `has_more` when `missed` is not all: the rest is had over REST."""

    ok: bool
    room: Room
    members_online: int
    last_seq: int
    missed: list[Message]
    has_more: bool


class Answer(msgspec.Struct, frozen=True):
    """The JSON of an acknowledgement, and what is to be done once it has been sent."""

    payload: bytes = _OK
    then: Callable[[], None] | None = None


class _Engine(engineio.AsyncServer):  # type: ignore[misc]  # the library ships no types
    """Engine.IO with our queues."""

    queue_bytes = Limits().send_queue_bytes

    def create_queue(self, *_: Any, **__: Any) -> Outbox:
        return Outbox(self.queue_bytes)


class _Server(socketio.AsyncServer):  # type: ignore[misc]  # the library ships no types
    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine


class Realtime:
    """All sockets of this node. `app` is to be mounted at /socket.io, between `start` and `close`."""

    def __init__(
        self,
        chat: Chat,
        tokens: Tokens,
        database: Database,
        *,
        bus: Bus | None = None,
        limits: Limits | None = None,
        origins: Iterable[str] | None = None,
    ) -> None:
        """*origins*: exactly these may connect from a browser; None lets any, since the token alone identifies."""
        self._chat = chat
        self._tokens = tokens
        self._database = database
        self._limits = limits or Limits()
        self._log = Sampled(log)
        self._connections = Connections()
        self._rooms = LiveRooms(chat.missed, self._limits)
        self._nodes = Nodes(
            bus or LocalBus(),
            heartbeat=self._limits.heartbeat,
            heard=self._heard,
            left=self._node_left,
            recovered=self._recovered,
        )
        self._presence = Presence(self._nodes.say)
        self._typing = TypingStates(self._limits.typing_seconds, self._typing_ended)
        self._closings: dict[UserKey, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recheck_now = asyncio.Event()
        self._counts = dict.fromkeys(
            (
                "events_in",
                "protocol_errors",
                "slow_consumers_cut",
                "refused_over_rate",
                "handshakes_refused",
            ),
            0,
        )
        self._sio = _Server(
            async_mode="asgi",
            async_handlers=False,
            monitor_clients=False,  # see _watch: one look at all every few seconds
            cors_allowed_origins=[],  # the gate judges origins
            http_compression=False,
            cookie=None,
            max_http_buffer_size=self._limits.message_bytes,
            ping_interval=self._limits.ping_interval,
            ping_timeout=self._limits.ping_timeout,
            logger=_library_log,
            engineio_logger=_library_log,
        )
        self._eio = self._sio.eio
        self._eio.queue_bytes = self._limits.send_queue_bytes
        # The library's own three handlers are called by ours.
        self._library: dict[str, Callable[..., Awaitable[Any]]] = dict(self._eio.handlers)
        self._eio.on("connect", self._opened)
        self._eio.on("message", self._received)
        self._eio.on("disconnect", self._closed)
        self._sio.on("connect", self._handshake)
        self.app = Gate(
            socketio.ASGIApp(self._sio, socketio_path=None),
            self,
            limits=self._limits,
            origins=origins,
            log=self._log,
        )

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the other nodes, and begin to watch over connections."""
        await self._nodes.start()
        self._spawn(self._watch())
        self._spawn(self._recheck_for_ever())

    async def drain(self, deadline: float = 5.0) -> None:
        """Let nobody in any more, and tell everybody to come back later, each at another moment."""
        self.app.retry_after = 5
        farewells = [
            self._cut(connection, "server_restarting", retry_after=random.randint(1, 10))  # noqa: S311  # jitter
            for connection in self._connections
        ]
        waiting = [task for task in farewells if task is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=deadline)

    async def close(self, deadline: float = 5.0) -> None:
        """Drain, then stop everything."""
        await self.drain(deadline)
        self._rooms.close()
        for connection in self._connections:
            connection.after(None)
            connection.outbox.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._nodes.close()
        await self._sio.shutdown()

    def facts(self) -> dict[str, int | str]:
        """What is going on, for metrics: counts since the start, and the present state."""
        return {
            **self._counts,
            "sockets": len(self._connections),
            "sockets_authenticated": self._connections.authenticated,
            "rooms_live": len(self._rooms),
            "events_out": self._rooms.events_out,
            "gaps_filled": self._rooms.gaps_filled,
            "typing": len(self._typing),
            "bus_state": self.bus_state,
            "bus_junk": self._nodes.junk,
            "nodes": 1 + self._nodes.others,
        }

    @property
    def bus_state(self) -> str:
        """`off`, `ok` or `degraded: …`."""
        return self._nodes.state

    # -- what the rest of the server calls --------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Pass on what has been committed, here and on every node. In commit order, never waits."""
        self._tell(event)
        self._nodes.say(
            Happened(
                event.name,
                event.project_id,
                event.room_id,
                msgspec.Raw(event.payload),
                event.seq,
                event.user_id,
            )
        )

    async def close_user(
        self, pid: str, user_id: str, code: str, *, session_id: str | None = None
    ) -> Receipt:
        """Close the sockets of a user (or of one session of theirs) on every node, saying *code*.

        To be called after the COMMIT that makes their tokens bad. Waits for the other nodes a second at most;
        those that did not answer find out by themselves within ten.
        """
        began = time.monotonic()
        here = self._close_here(pid, user_id, code, session_id)
        close = Close(uuid.uuid4().hex, pid, user_id, code, session_id)
        elsewhere, answered, others = await self._nodes.ask_to_close(
            close, self._limits.close_deadline
        )
        took = round((time.monotonic() - began) * 1000)
        return Receipt(here + elsewhere, 1 + answered, 1 + others, took)

    def _close_here(self, pid: str, user_id: str, code: str, session_id: str | None) -> int:
        now = time.monotonic()
        self._closings.pop((pid, user_id), None)
        self._closings[pid, user_id] = now  # at the end: the oldest stand first
        closed = 0
        for connection in self._connections.of((pid, user_id)):
            claims = connection.claims
            if claims is not None and session_id in {None, claims.sid}:
                self._cut(connection, code)
                closed += 1
        return closed

    # -- what other nodes say ---------------------------------------------------------------------

    def _heard(self, node: str, body: Body) -> None:
        match body:
            case Happened():
                self._tell(
                    Event(
                        body.name,
                        body.project_id,
                        body.room_id,
                        bytes(body.payload),
                        body.seq,
                        body.user_id,
                    )
                )
            case Close():
                sockets = self._close_here(
                    body.project_id, body.user_id, body.code, body.session_id
                )
                self._nodes.say(Closed(body.call, sockets))
            case Online():
                self._presence.heard(node, body)
            case Hello():
                self._presence.repeat_all()
            case _:
                pass

    def _node_left(self, node: str) -> None:
        self._presence.node_left(node)

    def _recovered(self) -> None:
        """The bus was deaf and hears again: ask the database what was missed."""
        self._presence.repeat_all()
        self._recheck_now.set()

    # -- rooms ------------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        key = (event.project_id, event.room_id)
        if event.name == "userTyping" or event.name == "userStoppedTyping":
            ready = frames.event(event.name, event.payload)
            self._rooms.whisper(key, ready, about=event.user_id or "")
            return
        self._rooms.tell(event)
        if event.name == "userLeft" and event.user_id is not None:
            # They have heard that they left. From here on nothing, unless they are a member again by now.
            stopped = self._rooms.pause(key, event.user_id)
            if stopped:
                self._spawn(self._still_member(key, event.user_id, stopped))
        elif event.name == "roomDeleted":
            for connection in self._rooms.members(key):
                self._leave(connection, key)

    async def _still_member(self, key: RoomKey, user_id: str, stopped: list[Connection]) -> None:
        try:
            member = await self._chat.member(*key, user_id) is not None
        except ChatError:
            member = False
        for connection in stopped:
            if member:
                self._rooms.settle(key, connection)
            else:
                self._leave(connection, key)

    def _leave(self, connection: Connection, key: RoomKey) -> None:
        """This socket listens to the room no more; whatever it was doing there ends."""
        self._rooms.leave(key, connection)
        claims = connection.claims
        if claims is None:
            return
        if self._typing.stop(connection, key, claims.sub):
            self._typing_ended(key, claims.sub, claims.name)
        if key in connection.rooms:
            connection.rooms.discard(key)
            self._presence.went(key, claims.sub)

    def _typing_ended(self, key: RoomKey, user_id: str, username: str) -> None:
        self._say_typing("userStoppedTyping", key, user_id, username)

    def _say_typing(self, name: str, key: RoomKey, user_id: str, username: str) -> None:
        payload = _encode({"room_id": key[1], "user_id": user_id, "username": username})
        self.publish(Event(name, *key, payload, user_id=user_id))

    # -- connections ------------------------------------------------------------------------------

    def outbox(self, eio_sid: str) -> Outbox | None:
        """The queue of a connection that is alive; for the gate."""
        connection = self._connections.get(eio_sid)
        return None if connection is None else connection.outbox

    def room_for_one_more(self) -> bool:
        """Is there? For the gate."""
        return len(self._connections) < self._limits.sockets

    async def _opened(self, eio_sid: str, environ: dict[str, Any]) -> None:
        outbox = self._eio.sockets[eio_sid].queue
        connection = Connection(eio_sid, outbox, self._limits)
        outbox.on_overflow = lambda: asyncio.get_running_loop().call_soon(
            self._too_slow, connection
        )
        if (wire := environ["asgi.scope"].get(WIRE)) is not None or (
            environ["asgi.scope"]["type"] == "websocket"
        ):
            outbox.attach(wire, asyncio.current_task())
        self._connections.add(connection)
        environ[_CONNECTION] = connection
        self._await_token(connection)
        await self._library["connect"](eio_sid, environ)

    def _await_token(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.after(loop.call_later(self._limits.auth_deadline, self._never_came, connection))

    def _never_came(self, connection: Connection) -> None:
        self._cut(connection, "token_invalid", "No token was sent in time.")

    async def _closed(self, eio_sid: str, reason: str) -> None:
        connection = self._connections.get(eio_sid)
        if connection is not None:
            connection.ended = True
            self._forget(connection)
            self._connections.remove(connection)
        await self._library["disconnect"](eio_sid, reason)

    def _forget(self, connection: Connection) -> None:
        """Take back everything that makes this socket somebody's."""
        connection.after(None)
        for key in list(connection.rooms):
            self._leave(connection, key)
        if connection.joining is not None:
            self._rooms.leave(connection.joining, connection)
        self._connections.unname(connection)

    def _too_slow(self, connection: Connection) -> None:
        if not connection.ended:
            self._counts["slow_consumers_cut"] += 1
            self._log.warning("socket.slow_consumer")
            self._cut(connection, "slow_down", "This connection reads too slowly: connect again.")

    def _cut(
        self,
        connection: Connection,
        code: str,
        message: str | None = None,
        retry_after: int | None = None,
    ) -> asyncio.Task[None] | None:
        """Say why, and close; the socket hears nothing else from now on."""
        if connection.ended:
            return None
        connection.ended = True
        notice = _encode(_notice(code, message, retry_after))
        if connection.claims is None:
            last = [frames.refusal("/", _encode(_refused(code, message, retry_after)))]
        elif code in RECONNECT:
            last = [frames.event("error", notice)]
        else:  # a DISCONNECT keeps client libraries from coming back by themselves
            last = [frames.event("error", notice), frames.farewell()]
        self._forget(connection)
        connection.outbox.end(*last)
        return self._spawn(self._see_off(connection))

    async def _see_off(self, connection: Connection) -> None:
        await connection.outbox.until_sent(self._limits.last_words)
        asyncio.get_running_loop().call_later(self._limits.cut_after, connection.outbox.abort)
        socket = self._eio.sockets.pop(connection.eio_sid, None)
        if socket is not None:
            await socket.close(wait=False, abort=True)
        else:
            await self._closed(connection.eio_sid, "gone")

    # -- packets ----------------------------------------------------------------------------------

    async def _received(self, eio_sid: str, data: Any) -> None:
        connection = self._connections.get(eio_sid)
        if connection is None:
            return
        async with connection.lock:  # a polling client may send two requests at once
            if connection.ended:
                return
            try:
                await self._take(connection, data)
            except Exception:  # noqa: BLE001  # a bug of ours: this socket's call is lost, nothing else
                self._log.exception("socket.failed")

    async def _take(self, connection: Connection, data: Any) -> None:
        try:
            frame = frames.read(data)
        except OtherNamespaceError as error:
            if error.connects:
                refused = _encode(_refused("unknown_namespace", str(error)))
                connection.outbox.send(frames.refusal(error.namespace, refused))
            self._strike(connection, str(error))
            return
        except ProtocolError as error:
            self._strike(connection, str(error))
            return
        except BadArgumentsError as error:
            if self._may_call(connection, error.ack_id):
                self._fail(connection, error.ack_id, calls.InvalidArguments(message=str(error)))
            return
        if frame.kind == "event":
            await self._event(connection, frame)
        elif frame.kind == "connect":
            await self._connect(connection, data)
        elif connection.claims is not None:
            self._forget(connection)
            self._await_token(connection)
            await self._library["message"](connection.eio_sid, data)

    def _strike(self, connection: Connection, message: str) -> None:
        self._counts["protocol_errors"] += 1
        connection.strikes += 1
        self._log.warning("socket.protocol_error", message)
        if connection.strikes >= self._limits.protocol_errors:
            self._cut(connection, "protocol_error", message)
        elif connection.claims is not None:
            connection.outbox.send(
                frames.event("error", _encode(_notice("protocol_error", message)))
            )

    async def _connect(self, connection: Connection, data: Any) -> None:
        connection.connects += 1
        if connection.claims is not None:
            self._strike(connection, "this connection is connected already")
            return
        if connection.connects > _CONNECTS:
            self._cut(connection, "token_invalid", "Too many attempts on one connection.")
            return
        await self._library["message"](connection.eio_sid, data)
        if self._connections.get(connection.eio_sid) is None:
            # It went away meanwhile; the library has only now a session to end.
            await self._library["disconnect"](connection.eio_sid, "transport close")

    async def _handshake(self, _sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        connection: Connection = environ[_CONNECTION]
        try:
            await self._authenticate(connection, auth)
        except ChatError as error:
            self._counts["handshakes_refused"] += 1
            notice = _refused(error.code, error.message, error.retry_after)
            raise Refusal(notice["message"], notice["data"]) from None
        except Exception:  # noqa: BLE001  # a bug of ours: nobody gets in by it
            self._log.exception("socket.handshake_failed")
            raise Refusal("Something went wrong.", _notice("internal_error")) from None

    async def _authenticate(self, connection: Connection, auth: Any) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not 1 <= len(token) <= calls.MAX_TOKEN:
            raise NotAuthenticated("token_invalid", "Connect with auth: {token}.")
        claims = await self._checked(token)
        if connection.ended:
            raise NotAuthenticated("token_invalid", "The connection has ended.")
        if len(self._connections.of((claims.pid, claims.sub))) >= self._limits.sockets_per_user:
            raise ChatError(
                "too_many_sockets", "This user has too many sockets open.", retry_after=30
            )
        self._connections.name(connection, claims)
        self._watch_token(connection, claims)

    async def _checked(self, token: str) -> Claims:
        """The claims of a token that is good now: no one has closed its user's sockets since it was asked about."""
        for _ in range(3):
            began = time.monotonic()
            claims = await self._tokens.check(token)
            if self._closings.get((claims.pid, claims.sub), -1.0) < began:
                return claims
        raise NotAuthenticated("token_revoked", _WORDS["token_revoked"])

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
        payload = _encode({"expires_at": _instant(claims.exp), "expires_in": left})
        connection.outbox.send(frames.event("tokenExpiring", payload))
        delay = max(0.0, claims.exp + self._limits.expiry_grace - time.time())
        connection.after(
            asyncio.get_running_loop().call_later(delay, self._cut, connection, "token_expired")
        )

    async def _watch(self) -> None:
        """Look after connections that do not answer, repeat who is here, forget old closings."""
        pause = min(self._limits.heartbeat, self._limits.ping_timeout / 4)
        while True:
            await asyncio.sleep(pause)
            for socket in list(self._eio.sockets.values()):
                if not socket.closed and not socket.closing:
                    await socket.check_ping_timeout()
                elif socket.closed:
                    self._eio.sockets.pop(socket.sid, None)
            if self._nodes.state != "off":
                self._presence.repeat()
            forget = time.monotonic() - 120
            while self._closings and next(iter(self._closings.values())) < forget:
                self._closings.pop(next(iter(self._closings)))

    async def _recheck_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.recheck_seconds):
                    await self._recheck_now.wait()
            except TimeoutError:
                pass
            self._recheck_now.clear()
            try:
                await self.recheck()
            except ChatError:
                self._log.warning("socket.recheck_failed")
            except Exception:  # noqa: BLE001  # a bug of ours must not end the watch
                self._log.exception("socket.recheck_failed")

    async def recheck(self) -> None:
        """Ask the database about everybody who is connected: is their token good, are they members still,
        and has a room come further than was heard?"""
        held: dict[tuple[str, str, str, int], tuple[Claims, list[Connection]]] = {}
        for connection in self._connections:
            claims = connection.claims
            if claims is not None and not connection.ended:
                key = (claims.pid, claims.sub, claims.sid, claims.gen)
                held.setdefault(key, (claims, []))[1].append(connection)
        sessions = list(held.values())
        verdicts = await self._tokens.recheck([claims for claims, _ in sessions])
        for (claims, connections), verdict in zip(sessions, verdicts, strict=True):
            if verdict is None or verdict == "token_expired":  # its end has a timer of its own
                continue
            for connection in connections:
                now = connection.claims
                if now is not None and (now.sid, now.gen) == (claims.sid, claims.gen):
                    self._cut(connection, verdict)
        await self._recheck_rooms()

    async def _recheck_rooms(self) -> None:
        by_project: dict[str, set[str]] = {}
        for pid, user_id in self._connections.users():
            by_project.setdefault(pid, set()).add(user_id)
        for pid, user_ids in by_project.items():
            listening = {
                (connection, key)
                for user_id in user_ids
                for connection in self._connections.of((pid, user_id))
                for key in connection.rooms
            }
            members = await standing.memberships(self._database, pid, list(user_ids))
            for connection, key in listening:
                claims = connection.claims
                if (
                    claims is not None
                    and key in connection.rooms
                    and (claims.sub, key[1]) not in members
                    and await self._chat.member(*key, claims.sub)
                    is None  # they may have joined since
                ):
                    self._leave(connection, key)
        rooms: dict[str, list[str]] = {}
        for pid, room_id in self._rooms.keys():  # noqa: SIM118  # a method of ours
            rooms.setdefault(pid, []).append(room_id)
        for pid, room_ids in rooms.items():
            for room_id, last_seq in (
                await standing.last_seqs(self._database, pid, room_ids)
            ).items():
                self._rooms.known((pid, room_id), last_seq)

    # -- calls ------------------------------------------------------------------------------------

    def _may_call(self, connection: Connection, ack_id: int | None) -> bool:
        now = time.monotonic()
        if connection.events.take(now):
            return True
        self._counts["refused_over_rate"] += 1
        if not connection.refusals.take(now):
            self._cut(connection, "slow_down")
            return False
        rate = self._limits.events_per_second
        self._fail(
            connection,
            ack_id,
            ChatError("rate_limited", f"At most {rate:g} events a second.", retry_after=1),
        )
        return False

    async def _event(self, connection: Connection, frame: Frame) -> None:
        claims = connection.claims
        if claims is None:
            self._strike(connection, "this connection is not connected yet")
            return
        name = frame.data[0]
        if name in calls.RESERVED or name.startswith("__"):
            self._strike(connection, "this event name is reserved")
            return
        if not self._may_call(connection, frame.ack_id):
            return
        self._counts["events_in"] += 1
        try:
            answer = await self._answer(connection, claims, calls.read(name, frame.data[1:]))
        except ChatError as error:
            self._fail(connection, frame.ack_id, error)
            return
        except Exception:  # noqa: BLE001  # a bug of ours: this call fails, nothing else
            self._log.exception("socket.call_failed")
            self._fail(connection, frame.ack_id, ChatError())
            return
        if frame.ack_id is not None:
            connection.outbox.send(frames.acknowledgement(frame.ack_id, answer.payload))
        if answer.then is not None:
            answer.then()

    def _fail(self, connection: Connection, ack_id: int | None, error: ChatError) -> None:
        if ack_id is None:
            notice = _notice(error.code, error.message, error.retry_after)
            connection.outbox.send(frames.event("error", _encode(notice)))
            return
        body = {"ok": False, "error": {"code": error.code, "message": error.message}}
        connection.outbox.send(frames.acknowledgement(ack_id, _encode(body)))

    async def _answer(self, connection: Connection, claims: Claims, call: calls.Call) -> Answer:
        match call:
            case calls.Post():
                return await self._post(claims, call)
            case calls.Join():
                return await self._join(connection, claims, call)
            case calls.Leave():
                self._leave(connection, (claims.pid, call.room_id))
                return Answer()
            case calls.Typing():
                return await self._type(connection, claims, call)
            case calls.MarkRead():
                mark = await self._chat.mark_read(
                    claims.pid, call.room_id, claims.sub, call.seq, hide_private=True
                )
                return Answer(
                    _encode(
                        {"ok": True, "last_read_seq": mark.last_read_seq, "unread": mark.unread}
                    )
                )
            case calls.Refresh():
                return await self._refresh(connection, claims, call)

    async def _post(self, claims: Claims, call: calls.Post) -> Answer:
        checks.message(call.content, call.client_msg_id, call.metadata)
        message = await self._chat.post(
            claims.pid,
            call.room_id,
            claims.sub,
            call.content,
            client_msg_id=call.client_msg_id,
            metadata=call.metadata,
            hide_private=True,
        )
        return Answer(b'{"ok":true,"message":%b}' % _encode(message))

    async def _join(self, connection: Connection, claims: Claims, call: calls.Join) -> Answer:
        key = (claims.pid, call.room_id)
        if key not in connection.rooms and len(connection.rooms) >= self._limits.rooms_per_socket:
            raise ChatError(
                "too_many_rooms", f"A socket may join {self._limits.rooms_per_socket} rooms."
            )
        if not self._rooms.begin(key, connection):
            raise ChatError("busy", "This socket is joining or leaving this room right now.")
        connection.joining = key
        try:
            if await self._chat.member(*key, claims.sub) is None:
                await self._chat.join(*key, claims.sub, may_enter_private=False)
            for _ in range(3):
                room, missed, more = await self._read_room(key, call.since_seq)
                if self._rooms.covered(key, connection, room.last_seq):
                    break
            removed = self._rooms.doubtful(key, connection) and (
                await self._chat.member(*key, claims.sub) is None
            )
            # The room, or the connection, may have ended meanwhile.
            if removed or not self._rooms.waits(key, connection):
                raise NotFound.room()  # noqa: TRY301  # the cleaning up is below
        except BaseException:
            self._leave(connection, key)
            raise
        finally:
            connection.joining = None
        if key not in connection.rooms:
            connection.rooms.add(key)
            self._presence.came(key, claims.sub)
        joined = Joined(True, room, self._presence.online(key), room.last_seq, missed, more)
        return Answer(_encode(joined), lambda: self._rooms.settle(key, connection, room.last_seq))

    async def _read_room(self, key: RoomKey, since: int | None) -> tuple[Room, list[Message], bool]:
        room = await self._chat.get_room(*key)
        if since is None or since >= room.last_seq:
            return room, [], False
        limit = self._limits.missed_messages
        missed = await self._chat.missed(*key, since, limit)
        told = [message for message in missed if message.seq <= room.last_seq]
        return room, told, bool(told) and told[-1].seq < room.last_seq

    async def _type(self, connection: Connection, claims: Claims, call: calls.Typing) -> Answer:
        key = (claims.pid, call.room_id)
        if key not in connection.rooms:
            # As over REST: what is not the caller's business does not exist.
            if await self._chat.member(*key, claims.sub) is None:
                raise NotFound.room()
            raise ChatError("not_joined", "Join the room on this socket first.")
        if call.begins:
            if self._typing.begin(connection, key, claims.sub, claims.name):
                self._say_typing("userTyping", key, claims.sub, claims.name)
        elif self._typing.stop(connection, key, claims.sub):
            self._typing_ended(key, claims.sub, claims.name)
        return Answer()

    async def _refresh(self, connection: Connection, claims: Claims, call: calls.Refresh) -> Answer:
        fresh = await self._checked(call.token)
        if (fresh.pid, fresh.sub) != (claims.pid, claims.sub):
            raise NotAuthenticated("token_invalid", "This token is another user's.")
        if connection.ended or connection.claims is None:
            raise NotAuthenticated("token_revoked", _WORDS["token_revoked"])
        connection.claims = fresh
        self._watch_token(connection, fresh)
        return Answer(_encode({"ok": True, "expires_at": _instant(fresh.exp)}))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _notice(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    notice: dict[str, Any] = {
        "code": code,
        "message": message or _WORDS.get(code, "The connection was closed."),
        "reconnect": code in RECONNECT,
    }
    if retry_after is not None:
        notice["retry_after"] = retry_after
    return notice


def _refused(code: str, message: str | None, retry_after: int | None = None) -> dict[str, Any]:
    """What CONNECT_ERROR carries: libraries show `message`, and `data` as it is."""
    notice = _notice(code, message, retry_after)
    return {"message": notice["message"], "data": notice}


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
