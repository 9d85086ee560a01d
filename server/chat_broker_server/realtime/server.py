"""The live side of the Chat API: Socket.IO events become calls of `Chat`, and what `Chat` publishes reaches sockets.

python-socketio serves polling, and the websockets of servers we do not know. Those of uvicorn are ours from the handshake
on (`Lines`), or from the moment a polling session moves to one (`Upgrades`): a silent one is a tenth as large, and
answering it is cheaper. Events of clients do not go through the library's dispatcher: every packet is read by
`Conversation`, so that nothing but the events of the contract can ever run a handler. What rooms are told does not go
through its rooms: `LiveRooms` writes one ready-made frame to every socket.

Who a socket is stands in the claims of its checked token alone. The database is asked again every few seconds for
everybody, so that a hint between nodes that got lost does no lasting harm.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Iterable
from dataclasses import asdict
from typing import Any

import msgspec
import socketio
import structlog

from chat_broker_kit.database.transactions import Database
from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_kit.tasks import end
from chat_broker_server.chat.events import CloseResult, Event
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, LocalBus
from chat_broker_server.cluster.nodes import Body, Close, Closed, Happened, Hello, Nodes, Online
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import recheck as standing
from chat_broker_server.realtime.counts import Counts
from chat_broker_server.realtime.dispatcher import Conversation
from chat_broker_server.realtime.fanout import LiveRooms
from chat_broker_server.realtime.handlers import Answers
from chat_broker_server.realtime.handshake_guard import Gate
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.origins import IsOwnOrigin
from chat_broker_server.realtime.polling_upgrade import Upgrades
from chat_broker_server.realtime.presence import Presence
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.socketio_library import open_library
from chat_broker_server.realtime.subscriptions import Seats
from chat_broker_server.realtime.websocket_server import Lines


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
        is_own_origin: IsOwnOrigin = lambda _scope, _origin: False,
        own_websockets: bool = True,
    ) -> None:
        """*origins* and *is_own_origin*: see Gate. *own_websockets*: False leaves all of them to python-socketio."""
        self._limits = limits or Limits()
        self._chat = chat
        self._database = database
        self._counts = Counts()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recheck_now = asyncio.Event()
        self._nodes = Nodes(
            bus or LocalBus(),
            heartbeat=self._limits.heartbeat,
            heard=self._heard,
            left=self._left,
            recovered=self._recovered,
        )
        self._presence = Presence(self._nodes.say)
        self._rooms = LiveRooms(chat.missed, self._limits, self._counts)
        self._seats = Seats(chat, self._rooms, self._presence, self._limits, self.publish)
        log = SampledLog(logging.getLogger("chat_broker_server.realtime.server"))
        self._log = log
        library = open_library(self._limits)
        self._is_watched = library.is_watched
        self._sio = library.sio
        self._eio = self._sio.eio
        self._sessions = Sessions(
            tokens,
            self._limits,
            self._counts,
            log,
            sockets=self._eio.sockets,
            spawn=self._spawn,
            forget=self._seats.leave_all,
        )
        answers = Answers(chat, self._seats, self._limits, self._sessions.refresh)
        conversation = Conversation(
            self._sessions, answers, self._limits, self._counts, log, dict(self._eio.handlers)
        )
        self._eio.on("connect", conversation.opened)
        self._eio.on("message", conversation.received)
        self._eio.on("disconnect", conversation.closed)
        self._sio.on("connect", conversation.handshake)
        upgrades = Upgrades(
            self._sessions,
            sockets=self._eio.sockets,
            spawn=self._spawn,
            moved=self._seats.moved,
            forget=conversation.forget,
            deadline=self._limits.auth_deadline,
        )
        self._lines = Lines(
            self._sessions,
            upgrades,
            self._limits,
            heard=conversation.hear,
            new_id=self._eio.generate_id,
            spawn=self._spawn,
            takes=own_websockets,
            moves=library.can_move,
        )
        self.app = Gate(
            socketio.ASGIApp(self._sio, socketio_path=None),
            self._sessions,
            self._lines,
            limits=self._limits,
            origins=origins,
            is_own_origin=is_own_origin,
            refused_origins=RefusedOrigins(
                structlog.get_logger("chat_broker_server.realtime.origins"),
                self._count_refused_origin,
            ),
            log=log,
        )

    def _count_refused_origin(self) -> None:
        self._counts.origins_refused += 1

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
            self._sessions.cut(
                connection,
                "server_restarting",
                retry_after=random.randint(1, 10),  # noqa: S311  # spreads them out
            )
            for connection in self._sessions.connections
        ]
        waiting = [task for task in farewells if task is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=deadline)

    async def close(self, deadline: float = 5.0) -> None:
        """Drain, then stop everything."""
        await self.drain(deadline)
        self._rooms.close()
        for connection in self._sessions.connections:
            connection.after(None)
            connection.outbox.abort()
        await end(*self._tasks)
        await self._nodes.close()

    def facts(self) -> dict[str, int | str]:
        """What is going on, for metrics: counts since the start, and the present state."""
        return {
            **asdict(self._counts),
            "sockets": len(self._sessions.connections),
            "sockets_authenticated": self._sessions.connections.authenticated,
            "sockets_direct": sum(each.outbox.direct for each in self._sessions.connections),
            "rooms_live": len(self._rooms),
            "typing": self._seats.typing,
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
        """Pass on what has been committed, here and on every node. In commit order; never waits."""
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
    ) -> CloseResult:
        """Close the sockets of a user (or of one session of theirs) on every node, saying *code*.

        To be called after the COMMIT that makes their tokens bad. Waits for the other nodes a second at most;
        those that did not answer find out by themselves within ten.
        """
        began = time.monotonic()
        here = self._sessions.close_user(pid, user_id, code, session_id)
        close = Close(uuid.uuid4().hex, pid, user_id, code, session_id)
        elsewhere, answered, others = await self._nodes.ask_to_close(
            close, self._limits.close_deadline
        )
        took = round((time.monotonic() - began) * 1000)
        return CloseResult(here + elsewhere, 1 + answered, 1 + others, took)

    def _tell(self, event: Event) -> None:
        stopped = self._seats.tell(event)
        if stopped and event.user_id is not None:
            key = (event.project_id, event.room_id)
            self._spawn(self._seats.recheck(key, event.user_id, stopped))

    # -- what other nodes say ---------------------------------------------------------------------

    def _heard(self, node: str, body: Body) -> None:
        match body:
            case Happened():
                payload = bytes(body.payload)
                self._tell(
                    Event(body.name, body.project_id, body.room_id, payload, body.seq, body.user_id)
                )
            case Close():
                sockets = self._sessions.close_user(
                    body.project_id, body.user_id, body.code, body.session_id
                )
                self._nodes.say(Closed(body.call, sockets))
            case Online():
                self._presence.heard(node, body)
            case Hello():
                self._presence.repeat_all()
            case _:
                pass

    def _left(self, node: str) -> None:
        self._presence.node_left(node)

    def _recovered(self) -> None:
        """The bus was deaf and hears again: ask the database what was missed."""
        self._presence.repeat_all()
        self._recheck_now.set()

    # -- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Close connections that do not answer, and say again who is here."""
        pause = min(self._limits.heartbeat, self._limits.ping_timeout / 4)
        # The library ends a websocket by itself, and without a word, when the time is up.
        patience = self._limits.ping_timeout - 2 * pause
        while True:
            await asyncio.sleep(pause)
            try:
                self._lines.look()
                for socket in list(self._eio.sockets.values()) if self._is_watched else ():
                    if socket.closed:
                        self._eio.sockets.pop(socket.sid, None)
                    elif not socket.closing:
                        self._sessions.check_ping(socket, patience)
                if self.bus_state != "off":
                    self._presence.repeat()
                self._sessions.forget_old_closings()
            except Exception:  # noqa: BLE001  # a bug of ours must not end the watch
                self._log.exception("socket.watch_failed")

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
                self._log.warning("socket.recheck_postponed")
            except Exception:  # noqa: BLE001  # a bug of ours must not end the watch
                self._log.exception("socket.recheck_failed")

    async def recheck(self) -> None:
        """Ask the database about everybody who is connected: is their token good, are they members still,
        and has a room come further than was heard?"""
        await self._sessions.recheck()
        by_project: dict[str, set[str]] = {}
        for pid, user_id in self._sessions.connections.users():
            by_project.setdefault(pid, set()).add(user_id)
        for pid, user_ids in by_project.items():
            await self._recheck_members(pid, user_ids)
        rooms: dict[str, list[str]] = {}
        for pid, room_id in self._rooms.keys():  # noqa: SIM118  # not a dict
            rooms.setdefault(pid, []).append(room_id)
        for pid, room_ids in rooms.items():
            found = await standing.last_seqs(self._database, pid, room_ids)
            for room_id, last_seq in found.items():
                self._rooms.known((pid, room_id), last_seq)

    async def _recheck_members(self, pid: str, user_ids: set[str]) -> None:
        sitting = [
            (connection, key)
            for user_id in user_ids
            for connection in self._sessions.connections.of((pid, user_id))
            for key in connection.rooms
        ]
        members = await standing.memberships(self._database, pid, list(user_ids))
        for connection, key in sitting:
            claims = connection.claims
            if claims is None or (claims.sub, key[1]) in members or key not in connection.rooms:
                continue
            if await self._chat.member(*key, claims.sub) is None:  # they may have joined since
                self._seats.leave(connection, key)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
