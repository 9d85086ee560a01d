"""Tells a user's sockets that the user's own side of a room has changed, on whichever device.

A change is a hint. What is told is read from the database then, for many changes at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from chat_broker_server.chat.events import MineChanged
from chat_broker_server.chat.models import Mine, Totals
from chat_broker_server.chat.service import Chat
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connections, UserKey
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.watching import Watching

PAUSE: Final = 0.25
"""Seconds between two reads for one user, however often their marks move."""
_ROOMS_AT_ONCE: Final = 50

_encode = msgspec.json.Encoder().encode


class MineEvent(msgspec.Struct, frozen=True):
    """The payload of the event `mine`."""

    room_id: str
    mine: Mine
    totals: Totals


class Reload(msgspec.Struct, frozen=True):
    """Payload of `mine` where the user's own side of all rooms has changed: the client reads it anew."""

    reload: bool = True


_RELOAD: Final = Reload()


class MineEvents:
    """The event `mine` for the sockets of this node that know it. Older clients are not told."""

    def __init__(
        self,
        chat: Chat,
        connections: Connections,
        fanout: Fanout,
        watching: Watching,
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        self._chat = chat
        self._connections = connections
        self._fanout = fanout
        self._watching = watching
        self._spawn = spawn
        self._waiting: dict[UserKey, dict[str, None]] = {}
        self._versions: dict[UserKey, int] = {}
        """The users' own versions, as they were told last."""

    def note(self, changed: MineChanged) -> None:
        """Tell the change soon. What the user has hidden is hidden from their sockets at once."""
        user = (changed.project_id, changed.user_id)
        connections = self._connections.of(user)
        if changed.from_seq is not None:
            self._watching.hide(user, changed.room_ids, changed.from_seq)
            for connection in connections:
                for room_id in changed.room_ids:
                    key = (changed.project_id, room_id)
                    self._fanout.hide(key, connection, changed.from_seq)
        if not any(connection.knows_revs for connection in connections):
            return
        if changed.version is not None:
            if changed.version > self._versions.get(user, -1):
                self._versions[user] = changed.version
                self._send(user, _RELOAD)
            return
        waiting = self._waiting.get(user)
        if waiting is not None:
            waiting.update(dict.fromkeys(changed.room_ids))
            return
        self._waiting[user] = dict.fromkeys(changed.room_ids)
        self._spawn(self._tell(user))

    def compare_version(self, user: UserKey, version: int) -> None:
        """Tell a change whose hint was lost. *version* is the user's own, as the database has it."""
        known = self._versions.setdefault(user, version)
        if version > known:
            self._versions[user] = version
            self._send(user, _RELOAD)

    def forget_absent(self) -> None:
        """Forget the versions of users who have no connection here any more."""
        for user in [user for user in self._versions if not self._connections.of(user)]:
            del self._versions[user]

    async def _tell(self, user: UserKey) -> None:
        try:
            while waiting := self._waiting[user]:
                room_ids = list(waiting)[:_ROOMS_AT_ONCE]
                for room_id in room_ids:
                    del waiting[room_id]
                sides, totals = await self._chat.changed_mine(*user, room_ids)
                for room_id, side in sides.items():
                    self._send(user, MineEvent(room_id, side, totals))
                await asyncio.sleep(PAUSE)
        except ChatError:
            pass  # the user or the database is gone; the next sync tells what was not told here
        finally:
            del self._waiting[user]

    def _send(self, user: UserKey, event: MineEvent | Reload) -> None:
        ready = packets.event("mine", _encode(event))
        for connection in self._connections.of(user):
            if not connection.knows_revs:
                continue
            if isinstance(event, MineEvent):
                self._watching.tell_mine(connection, event.room_id, event.mine, ready)
            else:
                connection.send_queue.send(ready)
