"""The users of this node whose sockets watch all their rooms, and these rooms. It neither reads nor waits."""

import asyncio
from collections.abc import Collection, Iterator
from typing import Final, Literal, NamedTuple

from chat_broker_server.chat.watched import Side, WatchedRoom
from chat_broker_server.realtime.connections import Connection, RoomKey, UserKey
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.slow_readers import MAX_BACKLOG

_FEW: Final = 16
"""Users in a tuple, which takes a quarter of the memory of a dict."""

Kind = Literal["added", "removed", "activity", "mine"]


def stamp_of(side: Side) -> int:
    """A small number that is another one after each change of the user's own side. Small ones take no memory."""
    return (hash(side.joined_at) + side.version) & 0xFF


class Told(NamedTuple):
    """One event for the sockets that watch."""

    packet: EncodedPacket
    kind: Kind
    room_id: str
    last_seq: int = 0
    rev: int = 0
    version: int = 0
    """Of a user's own side."""


class Watcher:
    """A socket that watches. What is told while a `watchRooms` of it is under way is held back until its answer."""

    __slots__ = ("delivered", "delivers_all", "held", "messages")

    def __init__(self) -> None:
        self.held: list[Told] | None = None
        self.messages = 1
        self.delivers_all = False
        self.delivered: set[RoomKey] = set()
        """Rooms that it hears of as if it had joined them."""

    def tell(self, connection: Connection, told: Told) -> None:
        if self.held is None:
            connection.send_queue.send(told.packet)
        elif len(self.held) < MAX_BACKLOG:
            self.held.append(told)
        else:
            connection.send_queue.on_overflow()


class WatchedUser:
    """A user with sockets that watch."""

    __slots__ = ("doubts", "key", "limit", "lock", "rooms", "sockets", "touched")

    def __init__(self, key: UserKey) -> None:
        self.key = key
        self.sockets: dict[Connection, Watcher] = {}
        self.rooms: dict[str, int] = {}
        """The rooms that are told, each with the stamp of the user's own side as it was told last."""
        self.lock = asyncio.Lock()
        """Held while the rooms are being read."""
        self.limit = 0
        """How many rooms are told at most; 0 until they were read."""
        self.doubts: dict[str, int] = {}
        """Rooms whose membership is being read, and how often something has happened meanwhile."""
        self.touched: set[str] | None = None
        """While the rooms are being read: those of which a membership began or ended meanwhile."""

    @property
    def messages(self) -> int:
        return max((watcher.messages for watcher in self.sockets.values()), default=1)

    def tell(self, told: Told) -> None:
        for connection, watcher in self.sockets.items():
            watcher.tell(connection, told)


class RoomWatch:
    """A room that is told to some users, and how far it was told."""

    __slots__ = ("hidden", "room_id", "told_rev", "told_seq", "users")

    def __init__(self, room_id: str, last_seq: int, rev: int) -> None:
        self.room_id = room_id
        """The one copy of this text that all its users share."""
        self.users: Collection[WatchedUser] = ()
        self.hidden: dict[WatchedUser, int] | None = None
        """Of users who do not see all messages: the first that they see."""
        self.told_seq = last_seq
        self.told_rev = rev

    def hide(self, user: WatchedUser, from_seq: int) -> None:
        if from_seq > 1:
            self.hidden = {**(self.hidden or {}), user: from_seq}
        elif self.hidden is not None:
            self.hidden.pop(user, None)

    def first_seq(self, user: WatchedUser) -> int:
        """The first message that the user sees."""
        return 1 if self.hidden is None else self.hidden.get(user, 1)


class WatchedUsers:
    def __init__(self) -> None:
        self._users: dict[UserKey, WatchedUser] = {}
        self._rooms: dict[RoomKey, RoomWatch] = {}

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[WatchedUser]:
        return iter(list(self._users.values()))

    def get(self, key: UserKey) -> WatchedUser | None:
        return self._users.get(key)

    def room(self, key: RoomKey) -> RoomWatch | None:
        return self._rooms.get(key)

    def rooms(self) -> list[RoomKey]:
        return list(self._rooms)

    def start(self, connection: Connection, key: UserKey) -> tuple[WatchedUser, Watcher]:
        """Note that *connection* watches, and hold back what it is told until its answer."""
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = WatchedUser(key)
        watcher = user.sockets.setdefault(connection, Watcher())
        if watcher.held is None:
            watcher.held = []
        return user, watcher

    def stop(self, connection: Connection) -> Watcher | None:
        """Forget *connection*, and its user if it was the last one."""
        claims = connection.claims
        user = self._users.get((claims.pid, claims.sub)) if claims is not None else None
        watcher = user.sockets.pop(connection, None) if user is not None else None
        if user is not None and not user.sockets:
            del self._users[user.key]
            for room_id in list(user.rooms):
                self.remove(user, room_id)
        return watcher

    def is_current(self, user: WatchedUser) -> bool:
        return self._users.get(user.key) is user

    def add(self, user: WatchedUser, room: WatchedRoom) -> None:
        """Tell *user* of the room from now on."""
        key = (user.key[0], room.room_id)
        watch = self._rooms.get(key)
        if watch is None:
            watch = self._rooms[key] = RoomWatch(room.room_id, room.last_seq, room.rev)
        if room.room_id not in user.rooms:
            users = watch.users
            if isinstance(users, dict):
                users[user] = None
            elif len(users) < _FEW:
                watch.users = (*users, user)
            else:
                watch.users = dict.fromkeys((*users, user))
        user.rooms[watch.room_id] = stamp_of(room.side)
        if room.side.from_seq > 1 or watch.hidden is not None:
            watch.hide(user, room.side.from_seq)

    def remove(self, user: WatchedUser, room_id: str) -> bool:
        """Tell *user* of the room no more. Whether it was told until now."""
        if user.rooms.pop(room_id, None) is None:
            return False
        key = (user.key[0], room_id)
        watch = self._rooms[key]
        if isinstance(watch.users, dict):
            del watch.users[user]
        else:
            watch.users = tuple(each for each in watch.users if each is not user)
        watch.hide(user, 1)
        if not watch.users:
            del self._rooms[key]
        return True

    def note_side(self, user: WatchedUser, room_id: str, side: Side) -> None:
        """The user is told *side* of a room."""
        if room_id in user.rooms:
            user.rooms[room_id] = stamp_of(side)
