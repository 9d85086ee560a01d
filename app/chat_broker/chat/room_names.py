"""Rooms that are named by the app's own id, as `external:<id>`: which room that is, remembered for a moment."""

import re
import time
from collections.abc import Callable

import chat_broker_sdk
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_sdk import AsyncChatClient

CACHED_FOR = 5.0
"""Seconds for which a name may stand for a room that was deleted elsewhere."""
MOST = 50_000

_EXTERNAL_ROOM = re.compile(r"external:[A-Za-z0-9._:@~-]{1,128}")


def is_room_name(text: str) -> bool:
    """Does *text* name a room by the app's own id?"""
    return _EXTERNAL_ROOM.fullmatch(text) is not None


class RoomNames:
    """Finds the id behind a name once, and caches it for 5 s at most. A name without a room is asked for each time."""

    def __init__(self, chat: AsyncChatClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._chat = chat
        self._clock = clock
        self._known = ExpiringCache[str, str](MOST, clock=clock)

    async def id_of(self, name: str) -> str:
        """The id of the room; *name* itself if no room has it.

        That is no id either, so all that follows is as for a room that does not exist.
        """
        if not is_room_name(name):
            return name
        known = self._known.get(name)
        if known is not None:
            return known
        until = self._clock() + CACHED_FOR
        try:
            room = await self._chat.rooms.get(name)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            return name
        self._known.put(name, room.id, until=until)
        return room.id

    def forget(self) -> None:
        """A room is gone: its name may soon be another's."""
        self._known.forget_all()
