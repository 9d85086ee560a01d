"""Tells sockets that a user whom they see has another name or picture.

A change is a hint. What is told is read from the database then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from chat_broker_server.chat.service import Chat
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, UserKey
from chat_broker_server.realtime.fanout import Fanout

PAUSE: Final = 1.0
"""Seconds between two events about one user."""

_encode = msgspec.json.Encoder().encode


class UserEvents:
    """The event `userUpdated` for the sockets of this node that joined a small room with the user, or watch them.

    Older clients are not told.
    """

    def __init__(
        self,
        chat: Chat,
        fanout: Fanout,
        watchers: Callable[[UserKey], Iterable[Connection]],
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        """*watchers*: the connections that watch whether a user is online."""
        self._chat = chat
        self._watchers = watchers
        self._fanout = fanout
        self._spawn = spawn
        self._changed: dict[UserKey, bool] = {}

    def note(self, user: UserKey) -> None:
        """Tell soon what others see of the user now."""
        if user in self._changed:
            self._changed[user] = True
        elif len(self._fanout) or self._watchers(user):
            self._changed[user] = True
            self._spawn(self._tell(user))

    async def _tell(self, user: UserKey) -> None:
        try:
            while self._changed[user]:
                self._changed[user] = False
                profile, room_ids = await self._chat.profile(*user)
                ready = packets.event("userUpdated", _encode(profile))
                for connection in self._seeing(user, room_ids):
                    connection.send_queue.send(ready)
                await asyncio.sleep(PAUSE)
        except ChatError:
            pass  # the user or the database is gone; names are read again with the next answer
        finally:
            del self._changed[user]

    def _seeing(self, user: UserKey, room_ids: list[str]) -> set[Connection]:
        """The connections that see the user, who is in these small rooms."""
        joined = {
            connection
            for room_id in room_ids
            for connection in self._fanout.members((user[0], room_id))
            if connection.knows_revs
        }
        return joined.union(self._watchers(user))
