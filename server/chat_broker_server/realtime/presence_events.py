"""Tells sockets who of those that they watch has come, gone or hidden."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from chat_broker_server.chat.models import Presence
from chat_broker_server.chat.presence import Seen
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.connections import Connection, UserKey, WatchedUser
from chat_broker_server.realtime.packets import EncodedPacket

PAUSE: Final = 1.0
"""Seconds between two events of one socket, at least."""
_LONGEST_PAUSE: Final = 5.0
_EVENTS_A_SECOND: Final = 1000
"""While there are more, the pause grows: what one socket is told of several users is one event."""
_AT_ONCE: Final = 200  # events that are sent before others get their turn

_encode = msgspec.json.Encoder().encode

ReadSeen = Callable[[str, Sequence[str], str | None], Awaitable[list[Seen]]]
"""(project, users, reader) → those of the users whom the reader may see."""


class PresenceEvents:
    """The event `presence` for the sockets of this node that have called watchPresence."""

    def __init__(
        self,
        read: ReadSeen,
        is_online: Callable[[UserKey], bool],
        clock: Clock,
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        self._read = read
        self._is_online = is_online
        self._spawn = spawn
        self._watched: dict[UserKey, WatchedUser] = {}
        self._changed: dict[WatchedUser, Presence] = {}
        # One pause for all sockets: none is told more often, and what many watch is put together once.
        self._clock = clock
        self._pausing = False

    def __len__(self) -> int:
        """How many users are watched."""
        return len(self._watched)

    def watchers(self, user: UserKey) -> Iterable[Connection]:
        """The connections that watch the user."""
        watched = self._watched.get(user)
        return () if watched is None else tuple(watched.watchers)

    async def watch(
        self, connection: Connection, reader: UserKey, user_ids: Sequence[str]
    ) -> list[Presence]:
        """Have *connection* told of these users, and no others from now on. Returns those whom *reader* may see."""
        pid = reader[0]
        found = await self._read(pid, user_ids, reader[1]) if user_ids else []
        self.unwatch(connection)
        if connection.claims is None:
            return []
        watched = []
        for seen in found:
            key = (pid, seen.user_id)
            user = self._watched.get(key)
            if user is None:
                user = self._watched[key] = WatchedUser(key)
            user.hidden = seen.hidden
            user.watchers.add(connection)
            watched.append(user)
        connection.watched_users = tuple(watched)
        return self.states(pid, found)

    def unwatch(self, connection: Connection) -> None:
        """Tell *connection* nothing more."""
        for user in connection.watched_users:
            self._discard(user, connection)
        connection.watched_users = ()

    async def recheck(self, user: UserKey, connections: Iterable[Connection]) -> None:
        """The user is in some room no more: end what its *connections* and those that watch it may not see."""
        pid, user_id = user
        watched = self._watched.get(user)
        asked = {
            **{each: [user_id] for each in (() if watched is None else watched.watchers)},
            **{each: [one.key[1] for one in each.watched_users] for each in connections},
        }
        for connection, user_ids in asked.items():
            if connection.claims is not None and user_ids:
                found = await self._read(pid, user_ids, connection.claims.sub)
                lost = set(user_ids).difference(seen.user_id for seen in found)
                self._unwatch_some(connection, {(pid, each) for each in lost})

    def _unwatch_some(self, connection: Connection, users: Collection[UserKey]) -> None:
        kept = tuple(each for each in connection.watched_users if each.key not in users)
        for user in connection.watched_users:
            if user.key in users:
                self._discard(user, connection)
        connection.watched_users = kept

    def _discard(self, user: WatchedUser, connection: Connection) -> None:
        user.watchers.discard(connection)
        if not user.watchers:
            self._watched.pop(user.key, None)

    def states(self, pid: str, users: Iterable[Seen]) -> list[Presence]:
        """What is to be told of the users now."""
        return [self._state(pid, user) for user in users]

    def note(self, user: UserKey, online: bool, seen_at: str | None) -> None:
        """The user came, or has gone."""
        watched = self._watched.get(user)
        if watched is not None and not watched.hidden:
            self._tell(watched, Presence(user[1], online, seen_at or UNSET))

    def note_hidden(self, user: UserKey, *, hidden: bool) -> None:
        """The user has set whether they are seen."""
        watched = self._watched.get(user)
        if watched is not None and watched.hidden != hidden:
            watched.hidden = hidden
            self._tell(watched, self._state(user[0], Seen(user[1], hidden, None)))

    def _state(self, pid: str, user: Seen) -> Presence:
        if user.hidden:
            return Presence(user.user_id, None)
        online = self._is_online((pid, user.user_id))
        return Presence(user.user_id, online, user.last_seen_at or UNSET)

    def _tell(self, user: WatchedUser, presence: Presence) -> None:
        self._changed[user] = presence
        if not self._pausing:
            self._start_telling()

    def _start_telling(self) -> None:
        self._pausing = True
        changed, self._changed = self._changed, {}
        self._spawn(self._tell_and_pause(changed))

    async def _tell_and_pause(self, changed: dict[WatchedUser, Presence]) -> None:
        told = await self._tell_all(changed)
        pause = min(max(PAUSE, told / _EVENTS_A_SECOND), _LONGEST_PAUSE)
        self._clock.call_later(pause, self._end_pause)

    def _end_pause(self) -> None:
        self._pausing = False
        if self._changed:
            self._start_telling()

    async def _tell_all(self, changed: dict[WatchedUser, Presence]) -> int:
        """Send the events. Returns how many."""
        by_connection: dict[Connection, list[bytes]] = {}
        for done, (user, presence) in enumerate(changed.items(), 1):
            encoded = _encode(presence)
            for connection in user.watchers:
                by_connection.setdefault(connection, []).append(encoded)
            if done % _AT_ONCE == 0:
                await asyncio.sleep(0)
        # Most sockets are told of one user, and so get the same frame as others.
        frames: dict[bytes, EncodedPacket] = {}
        for done, (connection, states) in enumerate(by_connection.items(), 1):
            if len(states) > 1:
                ready = _event(b",".join(states))
            elif (known := frames.get(states[0])) is not None:
                ready = known
            else:
                ready = frames[states[0]] = _event(states[0])
            connection.send_queue.send(ready)
            if done % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return len(by_connection)


def _event(states: bytes) -> EncodedPacket:
    return packets.event("presence", b'{"changes":[%b]}' % states)
