"""The realtime side: client events become calls of `Chat`, and events that `Chat` publishes reach the sockets.

python-socketio serves polling, and websockets of servers other than uvicorn. This server handles uvicorn's websockets
itself, from the handshake (`WebSocketServer`) or from the upgrade of a polling session (`PollingUpgrades`): an idle one
takes a tenth of the memory, and answering costs less. `Dispatcher` reads every packet, so that only events of the
contract run a handler. `Fanout` writes one encoded frame to every socket of a room, without the library's rooms.

Only the claims of its checked token identify a socket. Every few seconds all connections are checked against the
database, so that a lost message between nodes does no lasting harm.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import msgspec
import socketio

from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_server.chat.events import (
    SIGNAL,
    CloseResult,
    Event,
    Happened,
    MembersAdded,
    MineChanged,
    PrivacyChanged,
    ProfileChanged,
    ReceiptsMoved,
    UserSignalled,
)
from chat_broker_server.chat.models import Presence as PresenceState
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, LocalBus
from chat_broker_server.cluster.nodes import (
    Body,
    Close,
    Closed,
    Hello,
    MembersHint,
    MineHint,
    Nodes,
    OnlineChange,
    PresenceUpdate,
    PrivacyHint,
    ProfileHint,
    ReceiptHint,
    RoomEvent,
    SignalHint,
    UsersOnline,
)
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets, recheck
from chat_broker_server.realtime.clock import Clock, LoopClock
from chat_broker_server.realtime.connections import Connection, RoomKey, UserKey
from chat_broker_server.realtime.context import Context, Counts
from chat_broker_server.realtime.dispatcher import Dispatcher
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.handlers import EventHandlers
from chat_broker_server.realtime.handshake_guard import HandshakeGuard
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.mine_events import MineEvents
from chat_broker_server.realtime.origins import OriginPolicy
from chat_broker_server.realtime.polling_upgrade import PollingUpgrades
from chat_broker_server.realtime.presence import Presence
from chat_broker_server.realtime.receipt_events import ReceiptEvents
from chat_broker_server.realtime.room_online import RoomOnline
from chat_broker_server.realtime.room_updates import RoomUpdates
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.socketio_library import open_library
from chat_broker_server.realtime.subscriptions import Subscriptions
from chat_broker_server.realtime.user_events import UserEvents
from chat_broker_server.realtime.user_presence import UserPresence
from chat_broker_server.realtime.watching import Watching
from chat_broker_server.realtime.websocket_server import Takeover, WebSocketServer


class Realtime:
    """All sockets of this node. `app` is to be mounted at /socket.io, between `start` and `close`."""

    def __init__(  # noqa: PLR0913 - each but the first two has its default
        self,
        chat: Chat,
        tokens: Tokens,
        *,
        bus: Bus | None = None,
        limits: Limits | None = None,
        origins: OriginPolicy | None = None,
        own_websockets: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """*own_websockets*: False leaves all websockets to python-socketio. *clock*: of what is told at most so often."""
        self._limits = limits or Limits()
        self._chat = chat
        self._counts = Counts()
        self._log = SampledLog(logging.getLogger("chat_broker_server.realtime.server"))
        self._context = Context(
            self._limits, self._counts, self._log, clock or LoopClock(), self._spawn
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recheck_now, self._hints_lost = asyncio.Event(), False
        self._nodes = Nodes(
            bus or LocalBus(),
            heartbeat=self._limits.heartbeat,
            on_message=self._on_node_message,
            on_node_left=self._on_node_left,
            on_recovered=self._on_recovered,
        )
        self._presence = Presence(self._nodes.broadcast)
        self._users = UserPresence(chat, self._context, self._nodes.broadcast)
        self._fanout = Fanout(chat.missed, chat.lost_changes, self._limits, self._counts)
        self._subscriptions = Subscriptions(
            chat, self._fanout, self._presence, self._limits, self.publish
        )
        self._watching = Watching(chat, self._subscriptions, self._limits, self._spawn)
        library = open_library(self._limits)
        self._is_watched = library.is_watched
        self._sio = library.sio
        self._eio = self._sio.eio
        self._sessions = Sessions(
            tokens,
            self._context,
            sockets=self._eio.sockets,
            unsubscribe_all=self._unsubscribe_all,
        )
        self._mine_events = self._open_mine_events(chat)
        self._user_events = UserEvents(chat, self._fanout, self._users.events.watchers, self._spawn)
        self._receipt_events = ReceiptEvents(self._fanout, chat.receipts, self._context.clock)
        self._tell_numbers(chat)
        dispatcher = self._connect_library(chat)
        self._websockets = self._own_websockets(
            dispatcher, Takeover.of(own=own_websockets, upgrades=library.can_move)
        )
        self.app = HandshakeGuard(
            socketio.ASGIApp(self._sio, socketio_path=None),
            self._sessions,
            self._websockets,
            self._context,
            origins or OriginPolicy(),
        )

    def _tell_numbers(self, chat: Chat) -> None:
        """Note who comes and goes, and have rooms told how many members they have and how many are online."""
        self._users.listen(self._sessions.connections)
        online = RoomOnline(self._fanout, self._presence.online, self._context.clock)
        self._presence.changed = online.note
        sizes = RoomUpdates(self._fanout, chat.get_room, self._context.clock, self._spawn)
        self._fanout.tell_size = sizes.note

    def _open_mine_events(self, chat: Chat) -> MineEvents:
        connections = self._sessions.connections
        mine_events = MineEvents(chat, connections, self._fanout, self._watching, self._spawn)
        self._watching.on_mine_changed(
            lambda user, room_id: mine_events.note(MineChanged(*user, [room_id]))
        )
        self._watching.on_answer(mine_events.compare_version)
        return mine_events

    def _connect_library(self, chat: Chat) -> Dispatcher:
        """Have the dispatcher read all packets of python-socketio's connections."""
        handlers = EventHandlers(
            chat,
            self._subscriptions,
            self._watching,
            self._limits,
            watch_presence=self._users.events.watch,
            refresh=self._sessions.refresh,
        )
        dispatcher = Dispatcher(self._sessions, handlers, self._context, dict(self._eio.handlers))
        self._eio.on("connect", dispatcher.on_connect)
        self._eio.on("message", dispatcher.on_message)
        self._eio.on("disconnect", dispatcher.on_disconnect)
        self._sio.on("connect", dispatcher.handshake)
        return dispatcher

    def _own_websockets(self, dispatcher: Dispatcher, takeover: Takeover) -> WebSocketServer:
        upgrades = PollingUpgrades(
            self._sessions,
            self._context,
            sockets=self._eio.sockets,
            replace_send_queue=self._subscriptions.replace_send_queue,
            remove_from_library=dispatcher.remove_from_library,
        )
        return WebSocketServer(
            self._sessions,
            upgrades,
            self._context,
            on_packet=dispatcher.dispatch,
            new_id=self._eio.generate_id,
            takeover=takeover,
        )

    # -- start and end ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the other nodes, and start the checks of connections."""
        await self._nodes.start()
        self._spawn(self._run_checks())
        self._spawn(self._run_rechecks())

    async def disconnect_sockets(self, deadline: float = 5.0) -> None:
        """Refuse new connections, and disconnect all with `server_restarting` and different delays to reconnect."""
        self.app.retry_after = 5
        disconnects = [
            self._sessions.disconnect(
                connection,
                "server_restarting",
                retry_after=random.randint(1, 10),  # noqa: S311  # spreads them out
            )
            for connection in self._sessions.connections
        ]
        running = [task for task in disconnects if task is not None]
        if running:
            await asyncio.wait(running, timeout=deadline)

    async def close(self, deadline: float = 5.0) -> None:
        await self.disconnect_sockets(deadline)
        self._fanout.close()
        for connection in self._sessions.connections:
            connection.after(None)
            connection.send_queue.abort()
        await cancel_and_wait(*self._tasks)
        await self._users.close()
        await self._nodes.close()

    def facts(self) -> dict[str, int | str]:
        """Numbers for metrics: counts since the start, and the present state."""
        return {
            **asdict(self._counts),
            "sockets": len(self._sessions.connections),
            "sockets_authenticated": self._sessions.connections.authenticated,
            "sockets_direct": sum(c.send_queue.direct for c in self._sessions.connections),
            "rooms_live": len(self._fanout),
            "users_watching": self._watching.users,
            "typing": self._subscriptions.typing,
            "bus_state": self.bus_state,
            "bus_junk": self._nodes.junk,
            "nodes": 1 + self._nodes.others,
        }

    @property
    def bus_state(self) -> str:
        """`off` without other nodes, `ok`, or `degraded: …` with the reason."""
        return self._nodes.state

    # -- called by the rest of the server ---------------------------------------------------------

    def publish(self, event: Happened) -> None:
        """Deliver a committed event on this node and send it to the others. Call it in commit order; it never waits."""
        if isinstance(event, Event):
            self._deliver(event)
            self._nodes.broadcast(
                RoomEvent(
                    event.name,
                    event.project_id,
                    event.room_id,
                    msgspec.Raw(event.payload),
                    event.seq,
                    event.user_id,
                    event.rev,
                    event.reason,
                )
            )
        else:
            self._nodes.broadcast(self._note(event))

    def _note(
        self,
        event: MineChanged
        | PrivacyChanged
        | ProfileChanged
        | ReceiptsMoved
        | MembersAdded
        | UserSignalled,
    ) -> Body:
        """Tell this node's sockets what *event* means to users. Returns what the other nodes are told of it."""
        pid = event.project_id
        match event:
            case MineChanged():
                self._mine_events.note(event)
                return MineHint(pid, event.user_id, event.room_ids, event.from_seq, event.version)
            case ProfileChanged():
                self._user_events.note((pid, event.user_id))
                return ProfileHint(pid, event.user_id)
            case ReceiptsMoved():
                self._receipt_events.note(event)
                return ReceiptHint(pid, event.receipts)
            case MembersAdded():
                self._watching.note_added(event)
                return MembersHint(pid, event.room_id, event.user_ids)
            case PrivacyChanged():
                self._note_privacy(event)
                return PrivacyHint(pid, event.user_id, event.hidden, event.receipts)
            case UserSignalled():
                self._signal_user(event)
                return SignalHint(pid, event.user_id, msgspec.Raw(event.payload))

    async def presence(
        self, pid: str, user_ids: Sequence[str], reader_id: str | None
    ) -> list[PresenceState]:
        """Whether users are online. With *reader_id*, of themselves and of users who are in a room with them."""
        return await self._users.of(pid, user_ids, reader_id)

    async def close_user(
        self, pid: str, user_id: str, code: str, *, session_id: str | None = None
    ) -> CloseResult:
        """Disconnect the user's sockets, or those of one session, on every node with the reason *code*.

        Call it after the COMMIT that revokes the tokens. It waits at most a second for the other nodes; a node that
        did not answer finds the revocation within ten seconds by its own checks.
        """
        started_at = time.monotonic()
        closed_here = self._sessions.close_user(pid, user_id, code, session_id)
        close = Close(uuid.uuid4().hex, pid, user_id, code, session_id)
        closed_elsewhere, answered, others = await self._nodes.ask_to_close(
            close, self._limits.close_deadline
        )
        took = round((time.monotonic() - started_at) * 1000)
        return CloseResult(closed_here + closed_elsewhere, 1 + answered, 1 + others, took)

    def _note_privacy(self, changed: PrivacyChanged) -> None:
        user = (changed.project_id, changed.user_id)
        for connection in self._sessions.connections.of(user):
            connection.sees_receipts = changed.receipts
            self._subscriptions.hide(connection, hidden=changed.hidden)
        self._users.events.note_hidden(user, hidden=changed.hidden)

    def _signal_user(self, signal: UserSignalled) -> None:
        ready = packets.event(SIGNAL, signal.payload)
        for connection in self._sessions.connections.of((signal.project_id, signal.user_id)):
            if connection.knows_revs:
                connection.send_queue.send(ready)

    def _deliver(self, event: Event) -> None:
        suspended = self._subscriptions.deliver(event)
        self._watching.note(event)
        if event.name == "userLeft" and event.user_id is not None:
            user = (event.project_id, event.user_id)
            self._spawn(self._recheck_watched(user))
        if suspended and event.user_id is not None:
            key = (event.project_id, event.room_id)
            self._spawn(self._recheck_suspended(key, event.user_id, suspended))

    async def _recheck_watched(self, user: UserKey) -> None:
        with suppress(ChatError):  # while the database does not answer, nobody is told anything new
            await self._users.events.recheck(user, self._sessions.connections.of(user))

    async def _recheck_suspended(
        self, key: RoomKey, user_id: str, suspended: list[Connection]
    ) -> None:
        # Who is a member again is told so before anything else of the room.
        await self._watching.settled((key[0], user_id), key[1])
        await self._subscriptions.recheck(key, user_id, suspended)

    def _unsubscribe_all(self, connection: Connection) -> None:
        self._watching.stop(connection)
        self._subscriptions.unsubscribe_all(connection)
        self._users.events.unwatch(connection)

    # -- called by Nodes --------------------------------------------------------------------------

    def _on_node_message(self, node: str, body: Body) -> None:
        match body:
            case RoomEvent():
                payload = bytes(body.payload)
                self._deliver(
                    Event(
                        body.name,
                        body.project_id,
                        body.room_id,
                        payload,
                        seq=body.seq,
                        rev=body.rev,
                        user_id=body.user_id,
                        reason=body.reason,
                    )
                )
            case MembersHint():
                self._watching.note_added(
                    MembersAdded(body.project_id, body.room_id, body.user_ids)
                )
            case MineHint():
                self._mine_events.note(
                    MineChanged(
                        body.project_id, body.user_id, body.room_ids, body.from_seq, body.version
                    )
                )
            case ProfileHint():
                self._user_events.note((body.project_id, body.user_id))
            case PrivacyHint():
                self._note_privacy(
                    PrivacyChanged(body.project_id, body.user_id, body.hidden, body.receipts)
                )
            case OnlineChange():
                self._users.online.update_node(node, body)
            case UsersOnline():
                self._users.online.replace_part(node, body)
            case SignalHint():
                self._signal_user(UserSignalled(body.project_id, body.user_id, bytes(body.payload)))
            case ReceiptHint():
                self._receipt_events.note(ReceiptsMoved(body.project_id, body.receipts))
            case Close():
                sockets = self._sessions.close_user(
                    body.project_id, body.user_id, body.code, body.session_id
                )
                self._nodes.broadcast(Closed(body.request_id, sockets))
            case PresenceUpdate():
                self._presence.update_node(node, body)
            case Hello():
                self._presence.announce_all()
                self._users.online.announce_all()
            case _:
                pass

    def _on_node_left(self, node: str) -> None:
        self._presence.remove_node(node)
        self._users.online.remove_node(node, writes=self._nodes.is_first)

    def _on_recovered(self) -> None:
        """Messages of other nodes were lost: check against the database at once."""
        self._presence.announce_all()
        self._users.online.announce_all()
        self._hints_lost = True
        self._recheck_now.set()

    # -- periodic checks --------------------------------------------------------------------------

    async def _run_checks(self) -> None:
        """Send pings, disconnect clients that do not answer, and repeat presence to the other nodes."""
        pause = min(self._limits.heartbeat, self._limits.ping_timeout / 4)
        # Shorter than the library's own timeout, after which it closes a websocket without a reason.
        timeout = self._limits.ping_timeout - 2 * pause
        while True:
            await asyncio.sleep(pause)
            try:
                self._websockets.ping()
                for socket in list(self._eio.sockets.values()) if self._is_watched else ():
                    if socket.closed:
                        self._eio.sockets.pop(socket.sid, None)
                    elif not socket.closing:
                        self._sessions.check_ping(socket, timeout)
                if self.bus_state != "off":
                    self._presence.announce()
                    self._users.online.announce()
                self._users.online.write_again()
                self._sessions.remove_old_closings()
            except Exception:  # noqa: BLE001  # a bug must not end the checks
                self._log.exception("socket.watch_failed")

    async def _run_rechecks(self) -> None:
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
            except Exception:  # noqa: BLE001  # a bug must not end the checks
                self._log.exception("socket.recheck_failed")

    async def recheck(self) -> None:
        """Check all connections against the database: their tokens, memberships, and the counters of each room."""
        await self._sessions.recheck()
        self._mine_events.forget_absent()
        by_project: dict[str, set[str]] = {}
        for pid, user_id in self._sessions.connections.users():
            by_project.setdefault(pid, set()).add(user_id)
        for pid, user_ids in by_project.items():
            await self._recheck_members(pid, user_ids)
        await self._watching.compare_rooms()
        await self._recheck_rooms()

    async def _recheck_rooms(self) -> None:
        hints_lost = self._hints_lost or self.bus_state not in {"off", "ok"}
        self._hints_lost = False
        small: list[RoomKey] = []
        rooms: dict[str, list[str]] = {}
        for pid, room_id in self._fanout.keys():  # noqa: SIM118  # not a dict
            rooms.setdefault(pid, []).append(room_id)
        for pid, room_ids in rooms.items():
            found = await recheck.rooms(self._chat.database, pid, room_ids)
            for room_id in room_ids:
                room = found.get(room_id)
                if room is None or room.private:
                    self._subscriptions.end_peeking((pid, room_id))
                if room is not None:
                    self._fanout.note_size((pid, room_id), room.members, small=room.small)
                    self._fanout.note_counters((pid, room_id), room.last_seq, room.rev)
                    small += [(pid, room_id)] if room.small else []
        if hints_lost:
            await self._receipt_events.read_all(small)
        else:
            self._receipt_events.forget_all()

    async def _recheck_members(self, pid: str, user_ids: set[str]) -> None:
        subscribed = [
            (connection, key)
            for user_id in user_ids
            for connection in self._sessions.connections.of((pid, user_id))
            for key in connection.rooms
        ]
        sides = await recheck.sides(self._chat.database, pid, user_ids)
        await self._watching.compare_sides(pid, sides)
        versions = await recheck.versions(self._chat.database, pid, user_ids)
        for user_id, version in versions.items():
            self._mine_events.compare_version((pid, user_id), version)
        for connection, key in subscribed:
            claims = connection.claims
            if claims is None or key[1] in sides[claims.sub] or key not in connection.rooms:
                continue
            if key in connection.peeked_rooms:
                continue
            if (
                await self._chat.member(*key, claims.sub) is None
            ):  # the user may have joined meanwhile
                self._subscriptions.unsubscribe(connection, key)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
