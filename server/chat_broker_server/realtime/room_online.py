"""Tells the sockets of a room how many of its members are online, when that has changed."""

from collections.abc import Callable
from typing import Final

import msgspec

from chat_broker_server.realtime import packets
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.throttle import Throttle

PAUSE: Final = 5.0
"""Seconds between two events of one room."""

_encode = msgspec.json.Encoder().encode


class RoomOnlineEvent(msgspec.Struct, frozen=True):
    """The payload of the event `roomOnline`."""

    room_id: str
    members_online: int


class RoomOnline:
    """The event `roomOnline` for the sockets of this node that know it. Older clients are not told."""

    def __init__(self, fanout: Fanout, count: Callable[[RoomKey], int], clock: Clock) -> None:
        self._fanout = fanout
        self._count = count
        self._throttle = Throttle[RoomKey, bool](clock, PAUSE, self._tell, lambda _last, new: new)
        self._told: dict[RoomKey, int] = {}

    def note(self, key: RoomKey) -> None:
        """Another user is online in the room, or one is no more."""
        if any(_is_told(key, each) for each in self._fanout.members(key)):
            self._throttle.put(key, True)
        else:
            self._told.pop(key, None)

    def _tell(self, key: RoomKey, _: bool) -> None:
        count = self._count(key)
        if self._told.get(key) == count:
            return
        self._told[key] = count
        ready = packets.event("roomOnline", _encode(RoomOnlineEvent(key[1], count)))
        self._fanout.send_to_some(key, ready, lambda each: _is_told(key, each))


def _is_told(key: RoomKey, connection: Connection) -> bool:
    # Who is joining is told with the acknowledgement.
    return connection.knows_revs and connection.joining != key and key in connection.rooms
