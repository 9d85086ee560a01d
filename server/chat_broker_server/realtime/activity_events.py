"""Tells users who watch a room that something was said in it: at most once a second, as it is then.

That something was said is a hint. What is told is read from the database then. In a large room everybody gets the same
frame; in a small one, where each user is told what is unread, those with equal numbers do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from chat_broker_server.chat.message_parts import without_hidden_quote
from chat_broker_server.chat.models import Message
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.watched import Activity
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import RoomKey
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.watched_users import RoomWatch, Told, WatchedUser, WatchedUsers

PAUSE: Final = 1.0
"""Seconds between two events of one room."""
_ROOMS_AT_ONCE: Final = 20

_encode = msgspec.json.Encoder().encode


class RoomActivity(msgspec.Struct, frozen=True):
    """Payload of `roomActivity` in a large room."""

    room_id: str
    last_seq: int
    rev: int
    last_message: Message | None


class SmallRoomActivity(RoomActivity, frozen=True):
    """Payload of `roomActivity` in a small room, for one user."""

    unread: int
    mentions: int


class ActivityEvents:
    """The event `roomActivity` for the sockets of this node that watch and have not joined the room."""

    def __init__(
        self, chat: Chat, watched: WatchedUsers, spawn: Callable[[Awaitable[None]], Any]
    ) -> None:
        self._chat = chat
        self._watched = watched
        self._spawn = spawn
        # Rooms told within the last second, and whether something has happened since.
        self._pausing: dict[RoomKey, bool] = {}
        self._due: list[RoomKey] = []
        self._telling = False
        self._removed: set[tuple[WatchedUser, str]] = set()

    def note(self, key: RoomKey) -> None:
        """Tell the room's activity soon."""
        if key in self._pausing:
            self._pausing[key] = True
            return
        self._pausing[key] = False
        self._due.append(key)
        if not self._telling:
            self._telling = True
            self._spawn(self._tell_due())

    def note_removed(self, user: WatchedUser, room_id: str) -> None:
        """Tell the user nothing that was read of the room before."""
        if self._telling:
            self._removed.add((user, room_id))

    def _resume(self, key: RoomKey) -> None:
        if self._pausing.pop(key, False):
            self.note(key)

    async def _tell_due(self) -> None:
        try:
            while self._due:
                pid = self._due[0][0]
                keys = [key for key in self._due if key[0] == pid][:_ROOMS_AT_ONCE]
                self._due = [key for key in self._due if key not in keys]
                told = set(keys)
                try:
                    told = await self._tell(pid, keys)
                except ChatError:  # the database does not answer: try again later
                    self._pausing |= dict.fromkeys(keys, True)
                finally:
                    for key in keys:
                        if key in told:
                            asyncio.get_running_loop().call_later(PAUSE, self._resume, key)
                        else:
                            self._resume(key)
        finally:
            self._telling = False
            self._removed.clear()

    async def _tell(self, pid: str, keys: Iterable[RoomKey]) -> set[RoomKey]:
        """Tell those of the rooms in which something has happened. Returns them."""
        users = {
            key[1]: tuple(watch.users)
            for key in keys
            if (watch := self._watched.room(key)) is not None
        }
        self._removed.clear()
        told = set()
        ids = {room_id: [user.key[1] for user in each] for room_id, each in users.items()}
        for room_id, activity in (await self._chat.activities(pid, ids)).items():
            watch = self._watched.room((pid, room_id))
            if watch is not None and _is_news(watch, activity):
                told.add((pid, room_id))
                self._send((pid, room_id), activity, users[room_id])
        return told

    def _send(self, key: RoomKey, activity: Activity, users: Iterable[WatchedUser]) -> None:
        room_id, frames, removed = key[1], _Frames(key[1], activity), self._removed
        watch = self._watched.room(key)
        if watch is None:
            return
        # In a large room everybody is told the same, which is looked up once.
        same = None if activity.small or watch.hidden else frames.of("", 1)
        for user in users:
            if room_id not in user.rooms or (removed and (user, room_id) in removed):
                continue
            told = same or frames.of(user.key[1], watch.first_seq(user))
            if told is None:
                continue
            for connection, watcher in user.sockets.items():
                if key in connection.rooms:
                    continue
                if watcher.held is None:
                    connection.send_queue.send(told.packet)
                else:
                    watcher.tell(connection, told)


class _Frames:
    """The frames of one activity, each encoded once."""

    def __init__(self, room_id: str, activity: Activity) -> None:
        self._activity = activity
        self._room_id = room_id
        self._ready: dict[tuple[bool, int, int], Told] = {}

    def of(self, user_id: str, first_seq: int) -> Told | None:
        """What to tell a user who sees messages from *first_seq* on; None if they are no member any more."""
        activity, numbers = self._activity, (0, 0)
        if activity.small:
            side = activity.sides.get(user_id)
            if side is None:
                return None
            first_seq, numbers = max(first_seq, side.from_seq), (side.unread, side.mentions)
        message = activity.last_message
        if message is not None and message.seq < first_seq:
            return None
        visible = message and without_hidden_quote(message, first_seq)
        key = (visible is message, *numbers)
        if key not in self._ready:
            self._ready[key] = self._told(visible, numbers)
        return self._ready[key]

    def _told(self, message: Message | None, numbers: tuple[int, int]) -> Told:
        activity = self._activity
        room = (self._room_id, activity.last_seq, activity.rev)
        payload = RoomActivity(*room, message)
        if activity.small:
            payload = SmallRoomActivity(*room, message, *numbers)
        ready: EncodedPacket = packets.event("roomActivity", _encode(payload))
        return Told(ready, "activity", *room)


def _is_news(watch: RoomWatch, activity: Activity) -> bool:
    """Whether there is a new message since it was told last, or the last one has changed. Notes that it is told."""
    message = activity.last_message
    changed_at = message.rev if message is not None and isinstance(message.rev, int) else 0
    news = activity.last_seq > watch.told_seq or changed_at > watch.told_rev
    watch.told_seq = max(watch.told_seq, activity.last_seq)
    watch.told_rev = max(watch.told_rev, activity.rev)
    return news
