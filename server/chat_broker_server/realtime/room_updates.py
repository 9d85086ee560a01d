"""Tells the sockets of a large room that members came and went: as `roomUpdated`, with all of some seconds in one."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from chat_broker_server.chat.models import Room
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.connections import RoomKey
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.throttle import Throttle

PAUSE: Final = 5.0
"""Seconds between two events of one room."""


class RoomUpdates:
    """That the members of a room have changed is a hint. What is told is read from the database then."""

    def __init__(
        self,
        fanout: Fanout,
        read: Callable[[str, str], Awaitable[Room]],
        clock: Clock,
        spawn: Callable[[Awaitable[None]], Any],
    ) -> None:
        self._fanout = fanout
        self._read = read
        self._spawn = spawn
        self._throttle = Throttle[RoomKey, bool](clock, PAUSE, self._due, lambda _last, new: new)

    def note(self, key: RoomKey) -> None:
        """Tell soon how the room is now."""
        self._throttle.put(key, True)

    def _due(self, key: RoomKey, _: bool) -> None:
        if self._fanout.members(key):
            self._spawn(self._tell(key))

    async def _tell(self, key: RoomKey) -> None:
        with suppress(ChatError):  # the room or the database is gone; a later change is told again
            self._fanout.tell_room(await self._read(*key))
