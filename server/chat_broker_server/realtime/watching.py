"""Sockets that watch all rooms of their users: watchRooms, and roomAdded, roomRemoved and roomActivity from then on.

A socket is registered first and answered then, so nothing falls between. This node knows the rooms of its own watching
users: it reads them once, follows the events of members, and compares them with the database every few seconds.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from chat_broker_server.chat import sizes
from chat_broker_server.chat.events import Departure, Event, MembersAdded
from chat_broker_server.chat.models import Delta, Mine, Sync
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.sync import Had, SyncQuery
from chat_broker_server.chat.watched import Side, WatchedRoom
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.errors import ChatError, Forbidden, NotAuthenticated
from chat_broker_server.realtime import packets, recheck
from chat_broker_server.realtime.activity_events import ActivityEvents
from chat_broker_server.realtime.connections import Connection, RoomKey, UserKey
from chat_broker_server.realtime.fanout import Counters, seq_of
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.subscriptions import Subscriptions
from chat_broker_server.realtime.watched_users import (
    Told,
    WatchedUser,
    WatchedUsers,
    Watcher,
    stamp_of,
)

ROOMS_TOLD: Final = 500
"""Rooms of a user that are told: those with the newest activity."""
ROOMS_DELIVERED: Final = 1_000
"""Rooms of a user of which a socket may be told everything."""

_encode = msgspec.json.Encoder().encode


class WatchAcknowledgement(Sync, frozen=True, kw_only=True):
    """The acknowledgement of watchRooms."""

    ok: bool = True


class RoomRemoved(msgspec.Struct, frozen=True):
    """The payload of the event `roomRemoved`."""

    room_id: str
    reason: Departure


class Watching:
    def __init__(
        self,
        chat: Chat,
        subscriptions: Subscriptions,
        limits: Limits,
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        self._chat = chat
        self._limits = limits
        self._subscriptions = subscriptions
        self._spawn = spawn
        self._watched = WatchedUsers()
        self._activity = ActivityEvents(chat, self._watched, spawn)
        self._on_mine_changed: Callable[[UserKey, str], None] = lambda *_: None
        self._on_answer: Callable[[UserKey, int], None] = lambda *_: None

    @property
    def users(self) -> int:
        """How many users watch."""
        return len(self._watched)

    # -- watchRooms -------------------------------------------------------------------------------

    async def watch(
        self, connection: Connection, claims: Claims, query: SyncQuery, deliver: str | None
    ) -> tuple[bytes, Callable[[], None]]:
        """Register *connection*, and answer what its client lacks. Returns the JSON, and what to call once it is sent.

        *deliver*: `all` or `activity`; None: as before, at first `activity`. Raises ChatError.
        """
        key = (claims.pid, claims.sub)
        user = self._watched.get(key)
        is_new = user is None or connection not in user.sockets
        user, watcher = self._watched.start(connection, key)
        watcher.messages = query.messages
        counters: dict[RoomKey, WatchedRoom] = {}
        try:
            if deliver == "all" or (deliver is None and watcher.delivers_all):
                counters = await self._start_delivery(connection, user, watcher)
            elif deliver is not None:
                self._stop_delivery(connection, watcher)
            await self._read_rooms(user, ROOMS_DELIVERED if watcher.delivers_all else ROOMS_TOLD)
            # Half of the send queue stays free for events.
            free = (self._limits.send_queue_bytes - connection.send_queue.waiting) // 2
            size = min(sizes.LARGEST_RESPONSE, free)
            answer = await self._chat.sync(*key, query._replace(size=size))
            self._on_answer(key, answer.version)
        except BaseException:
            self._abandon_joins(connection, watcher)
            if is_new:
                self.stop(connection)
            else:
                self._release(connection, user, watcher, _known(query.have, None))
            raise
        known = _known(query.have, answer)

        def start_telling() -> None:
            self._release(connection, user, watcher, known)
            self._deliver_rooms(connection, watcher, counters, known)

        payload = WatchAcknowledgement(**msgspec.structs.asdict(answer))
        return _encode(payload), start_telling

    def stop(self, connection: Connection) -> None:
        """Tell *connection* no more. Also called when it has signed out or ended."""
        watcher = self._watched.stop(connection)
        if watcher is not None:
            self._stop_delivery(connection, watcher)

    async def _read_rooms(self, user: WatchedUser, limit: int) -> None:
        """Read which rooms the user has, unless this is known."""
        async with user.lock:
            if user.limit >= limit:
                if len(user.rooms) >= user.limit:  # another room may be among the newest now
                    self._spawn(self._compare_newest(user))
                return
            touched: set[str] = set()
            user.touched = touched
            try:
                rooms = await self._chat.watched_rooms(*user.key, limit)
            finally:
                user.touched = None
            if not self._watched.is_current(user):
                return
            user.limit = limit
            for room in rooms:
                if room.room_id not in user.rooms:
                    self._watched.add(user, room)
            for room_id in touched:
                self._doubt(user, room_id)

    def _release(
        self,
        connection: Connection,
        user: WatchedUser,
        watcher: Watcher,
        known: dict[str, Had],
    ) -> None:
        """Tell *connection* what was held back and is not in its answer."""
        held, watcher.held = watcher.held or [], None
        if connection not in user.sockets:
            return
        for told in held:
            had = known.get(told.room_id)
            if told.kind == "added":
                if had is not None:
                    continue
                known[told.room_id] = Had(told.last_seq, told.rev, told.version)
            elif told.kind == "removed":
                if had is None:
                    continue
                del known[told.room_id]
            elif had is not None and (
                told.version <= had.version
                if told.kind == "mine"
                else told.last_seq <= had.last_seq and told.rev <= had.rev
            ):
                continue
            watcher.tell(connection, told)

    # -- deliver: all -----------------------------------------------------------------------------

    async def _start_delivery(
        self, connection: Connection, user: WatchedUser, watcher: Watcher
    ) -> dict[RoomKey, WatchedRoom]:
        """Collect the events of all rooms that *connection* has not joined. Returns how far each of them is."""
        rooms = await self._chat.watched_rooms(*user.key, ROOMS_DELIVERED + 1)
        if len(rooms) > ROOMS_DELIVERED:
            raise Forbidden(
                "too_many_rooms",
                f"With deliver: all a user may be in {ROOMS_DELIVERED} rooms: watch without it.",
            )
        profile = await self._chat.get_user(*user.key)
        if connection not in user.sockets:
            raise NotAuthenticated
        connection.display_name = profile.display_name
        watcher.delivers_all = True
        started: dict[RoomKey, WatchedRoom] = {}
        for room in rooms:
            key = (user.key[0], room.room_id)
            if key not in connection.rooms and self._subscriptions.fanout.start_joining(
                key, connection
            ):
                watcher.delivered.add(key)
                started[key] = room
        # Read again: what was said before is not among what is collected.
        for room in await self._chat.watched_rooms(*user.key, ROOMS_DELIVERED):
            if (user.key[0], room.room_id) in started:
                started[user.key[0], room.room_id] = room
        return started

    def _abandon_joins(self, connection: Connection, watcher: Watcher) -> None:
        """Collect no more events of rooms whose delivery has not begun."""
        for key in list(watcher.delivered):
            if self._subscriptions.fanout.is_joining(key, connection):
                self._subscriptions.unsubscribe(connection, key)
                watcher.delivered.discard(key)

    def _deliver_rooms(
        self,
        connection: Connection,
        watcher: Watcher,
        rooms: Mapping[RoomKey, WatchedRoom],
        known: Mapping[str, Had],
    ) -> None:
        """Deliver the events of *rooms*, each from where the client has it."""
        fanout, claims = self._subscriptions.fanout, connection.claims
        for key, room in rooms.items():
            if claims is None or not fanout.is_joining(key, connection):
                continue
            if fanout.was_removed_while_joining(key, connection):
                self._subscriptions.unsubscribe(connection, key)
                watcher.delivered.discard(key)
                continue
            had = known.get(room.room_id)
            counters = Counters(room.last_seq, room.rev) if had is None else Counters(*had[:2])
            self._subscribe(connection, claims, key, counters, room.side.from_seq)

    def _subscribe(
        self,
        connection: Connection,
        claims: Claims,
        key: RoomKey,
        counters: Counters,
        from_seq: int,
    ) -> None:
        fanout = self._subscriptions.fanout
        fanout.hide(key, connection, from_seq)
        self._subscriptions.subscribe(connection, claims, key)
        fanout.subscribe(key, connection, counters)

    def _stop_delivery(self, connection: Connection, watcher: Watcher) -> None:
        watcher.delivers_all = False
        for key in watcher.delivered:
            self._subscriptions.unsubscribe(connection, key)
        watcher.delivered.clear()

    def delivered(self, connection: Connection) -> int:
        """How many rooms *connection* hears of without having joined them."""
        watcher = self._watcher(connection)
        return 0 if watcher is None else len(watcher.delivered)

    def joined(self, connection: Connection, key: RoomKey) -> None:
        """*connection* has joined the room itself: that outlasts the watch."""
        watcher = self._watcher(connection)
        if watcher is not None:
            watcher.delivered.discard(key)

    # -- what happens -----------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Tell what *event* means to those who watch. Call it after the room's own sockets were told."""
        if not self._watched:
            return
        key = (event.project_id, event.room_id)
        watch = self._watched.room(key)
        match event.name:
            case "message" if watch is not None:
                self._activity.note(key)
            case "messageUpdated" | "messageDeleted" if watch is not None:
                if (seq_of(event.payload) or 0) >= watch.told_seq:
                    self._activity.note(key)
            case "userJoined":
                self._note_member(key, event.user_id)
            case "userLeft":
                self._note_left(key, event)
            case "roomDeleted" if watch is not None:
                for user in tuple(watch.users):
                    self._remove(user, event.room_id, "deleted")
            case _:
                pass

    def note_added(self, added: MembersAdded) -> None:
        for user_id in added.user_ids:
            self._note_member((added.project_id, added.room_id), user_id)

    def _note_member(self, key: RoomKey, user_id: str | None) -> None:
        user = self._watched.get((key[0], user_id or ""))
        if user is not None and key[1] not in user.rooms:
            self._doubt(user, key[1])

    def _note_left(self, key: RoomKey, event: Event) -> None:
        user = self._watched.get((key[0], event.user_id or ""))
        if user is not None:
            self._remove(user, key[1], event.reason or "removed")
            # Events of several nodes arrive in any order: the user may be a member again.
            self._doubt(user, key[1])

    def hide(self, user: UserKey, room_ids: Iterable[str], from_seq: int) -> None:
        """Tell the user nothing more about messages before *from_seq* of these rooms."""
        watched = self._watched.get(user)
        for room_id in room_ids if watched is not None else ():
            watch = self._watched.room((user[0], room_id))
            if watched is not None and watch is not None and room_id in watched.rooms:
                watch.hide(watched, from_seq)

    # -- memberships ------------------------------------------------------------------------------

    def _doubt(self, user: WatchedUser, room_id: str) -> None:
        """Read whether the user is a member, and tell it if that is news."""
        if user.touched is not None:
            user.touched.add(room_id)
            return
        if room_id in user.doubts:
            user.doubts[room_id] += 1
            return
        user.doubts[room_id] = 0
        self._spawn(self._settle(user, room_id))

    async def settled(self, user: UserKey, room_id: str) -> None:
        """Return when it is known, and told, whether the user is a member of the room."""
        watched = self._watched.get(user)
        if watched is None or watched.touched is not None:
            return
        if room_id in watched.doubts or room_id not in watched.rooms:
            watched.doubts.setdefault(room_id, 0)
            await self._settle(watched, room_id)

    async def _settle(self, user: WatchedUser, room_id: str) -> None:
        key = (user.key[0], room_id)
        joining: list[Connection] = []
        delta = None
        try:
            while room_id in user.doubts:
                number = user.doubts[room_id]
                joining += self._start_joining(user, key)
                delta = await self._chat.room_added(*user.key, room_id, user.messages)
                if user.doubts.get(room_id) == number:
                    del user.doubts[room_id]
                    self._tell_membership(user, key, delta)
        except ChatError:
            user.doubts.pop(room_id, None)  # the next comparison with the database finds it
            delta = None
        finally:
            self._end_joining(user, key, joining, delta)

    def _tell_membership(self, user: WatchedUser, key: RoomKey, delta: Delta | None) -> None:
        if delta is not None and delta.mine is not None:
            if key[1] not in user.rooms and self._watched.is_current(user):
                self._add(user, delta, delta.mine)
            return
        for connection, watcher in user.sockets.items():
            watcher.delivered.discard(key)
            if key in connection.rooms and key not in connection.peeked_rooms:
                self._subscriptions.unsubscribe(connection, key)
        self._remove(user, key[1], "removed")

    def _start_joining(self, user: WatchedUser, key: RoomKey) -> list[Connection]:
        """Collect the room's events for those sockets of the user that are told everything."""
        return [
            connection
            for connection, watcher in user.sockets.items()
            if watcher.delivers_all
            and key not in connection.rooms
            and self._subscriptions.fanout.start_joining(key, connection)
        ]

    def _end_joining(
        self, user: WatchedUser, key: RoomKey, joining: Iterable[Connection], delta: Delta | None
    ) -> None:
        for connection in joining:
            watcher, claims = user.sockets.get(connection), connection.claims
            is_told = watcher is not None and key[1] in user.rooms
            if watcher and claims and delta and delta.mine and is_told:
                watcher.delivered.add(key)
                counters = Counters(delta.last_seq, delta.rev)
                self._subscribe(connection, claims, key, counters, delta.mine.from_seq)
            else:
                self._subscriptions.fanout.unsubscribe(key, connection)

    def _add(self, user: WatchedUser, delta: Delta, mine: Mine) -> None:
        room_id, side = delta.room.id, _side(mine)
        self._watched.add(user, WatchedRoom(room_id, delta.last_seq, delta.rev, side))
        ready = packets.event("roomAdded", _encode(delta))
        user.tell(Told(ready, "added", room_id, delta.last_seq, delta.rev, mine.version))
        self._activity.note((user.key[0], room_id))  # what was said since the delta was read

    def _remove(self, user: WatchedUser, room_id: str, reason: Departure) -> None:
        """Tell the user nothing more of a room that is not theirs any more."""
        if not self._watched.remove(user, room_id):
            return
        self._activity.note_removed(user, room_id)
        ready = packets.event("roomRemoved", _encode(RoomRemoved(room_id, reason)))
        user.tell(Told(ready, "removed", room_id))

    # -- mine -------------------------------------------------------------------------------------

    def tell_mine(
        self, connection: Connection, room_id: str, mine: Mine, ready: packets.EncodedPacket
    ) -> None:
        """Send the event `mine`, to a socket that watches only of the rooms that it is told of."""
        user, watcher = self._user(connection), self._watcher(connection)
        if user is None or watcher is None:
            connection.send_queue.send(ready)
        elif room_id in user.rooms or (
            (user.key[0], room_id) in connection.rooms and room_id not in user.doubts
        ):
            self._watched.note_side(user, room_id, _side(mine))
            watcher.tell(connection, Told(ready, "mine", room_id, version=mine.version))
        elif room_id in user.doubts:
            user.doubts[room_id] += 1  # what is being read may be older

    def _user(self, connection: Connection) -> WatchedUser | None:
        claims = connection.claims
        return None if claims is None else self._watched.get((claims.pid, claims.sub))

    def _watcher(self, connection: Connection) -> Watcher | None:
        user = self._user(connection)
        return None if user is None else user.sockets.get(connection)

    # -- comparing with the database --------------------------------------------------------------

    def on_mine_changed(self, tell: Callable[[UserKey, str], None]) -> None:
        """Call *tell* for a room of a user whose own side has changed unheard."""
        self._on_mine_changed = tell

    def on_answer(self, note: Callable[[UserKey, int], None]) -> None:
        """Call *note* with a user's own version that a client was told."""
        self._on_answer = note

    async def compare_sides(self, pid: str, sides: Mapping[str, Mapping[str, Side]]) -> None:
        """Compare the rooms that are told with the users' *sides* as they were just read, and tell what was not heard."""
        for user in self._watched:
            if user.key[0] != pid or not user.limit or user.key[1] not in sides:
                continue
            found = sides[user.key[1]]
            if len(found) > user.limit:
                await self._compare_newest(user)
            else:
                self._compare(user, found)

    async def compare_rooms(self) -> None:
        """Compare how far the rooms were told with the database, and tell what was not heard."""
        rooms: dict[str, list[str]] = {}
        for pid, room_id in self._watched.rooms():
            rooms.setdefault(pid, []).append(room_id)
        for pid, room_ids in rooms.items():
            await self._compare_rooms(pid, room_ids)

    async def _compare_newest(self, user: WatchedUser) -> None:
        """As `_compare`, for a user with more rooms than are told."""
        try:
            rooms = await self._chat.watched_rooms(*user.key, user.limit)
        except ChatError:
            return  # the next comparison finds it
        found = {room.room_id: room.side for room in rooms}
        for room_id in [room_id for room_id in user.rooms if room_id not in found]:
            if await self._chat.member(user.key[0], room_id, user.key[1]) is not None:
                self._watched.remove(user, room_id)  # others have been more active since
        self._compare(user, found)

    def _compare(self, user: WatchedUser, found: Mapping[str, Side]) -> None:
        """Tell what differs from *found*, after reading it again: it may have changed meanwhile."""
        if not self._watched.is_current(user):
            return
        for room_id in {*user.rooms.keys() - found.keys(), *found.keys() - user.rooms.keys()}:
            self._doubt(user, room_id)
        for room_id, side in found.items():
            if user.rooms.get(room_id, stamp_of(side)) != stamp_of(side):
                self._on_mine_changed(user.key, room_id)
            watch = self._watched.room((user.key[0], room_id))
            if watch is not None and (side.from_seq > 1 or watch.hidden):
                watch.hide(user, side.from_seq)

    async def _compare_rooms(self, pid: str, room_ids: list[str]) -> None:
        found = await recheck.rooms(self._chat.database, pid, room_ids)
        for room_id in room_ids:
            watch, room = self._watched.room((pid, room_id)), found.get(room_id)
            if watch is None:
                continue
            if room is None:
                for user in tuple(watch.users):
                    self._remove(user, room_id, "deleted")
            elif room.last_seq > watch.told_seq or room.rev > watch.told_rev:
                self._activity.note((pid, room_id))


def _known(have: Mapping[str, Had], answer: Sync | None) -> dict[str, Had]:
    """What a client has of its rooms after *answer*."""
    known = dict(have)
    if answer is not None:
        for room_id in answer.removed:
            known.pop(room_id, None)
        for delta in answer.deltas:
            version = 0 if delta.mine is None else delta.mine.version
            known[delta.room.id] = Had(delta.last_seq, delta.rev, version)
    return known


def _side(mine: Mine) -> Side:
    return Side(mine.joined_at, mine.version, mine.from_seq)
