"""Tells the sockets that joined a small room how far its members have read it, and how far it has reached them."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from chat_broker_server.chat.events import ReceiptsMoved
from chat_broker_server.chat.models import Receipt
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.throttle import Throttle

PAUSE: Final = 1.0
"""Seconds between two events about one user in one room."""

_encode = msgspec.json.Encoder().encode
_Key = tuple[RoomKey, str]

ReadReceipts = Callable[[str, str], Awaitable[list[Receipt]]]
"""(project, room) → the receipts of its members."""


class ReceiptEvent(msgspec.Struct, frozen=True):
    """The payload of the event `receipt`."""

    room_id: str
    user_id: str
    read_seq: int
    delivered_seq: int


class ReceiptEvents:
    """The event `receipt` for the sockets of this node that know it. Older clients are not told."""

    def __init__(self, fanout: Fanout, read: ReadReceipts, clock: Clock) -> None:
        self._fanout = fanout
        self._read = read
        self._throttle = Throttle[_Key, Receipt](clock, PAUSE, self._send, _further)
        self._known: dict[RoomKey, list[Receipt]] = {}

    def note(self, moved: ReceiptsMoved) -> None:
        """Tell these receipts, soon if one about the same user was told a moment ago."""
        for room_id, receipt in moved.receipts.items():
            self._put((moved.project_id, room_id), [receipt])

    async def read_all(self, rooms: Iterable[RoomKey]) -> None:
        """Tell what has changed in the database since this was last called.

        Called while hints of other nodes do not arrive. The first time all receipts are told.
        """
        known, self._known = self._known, {}
        for key in rooms:
            if not any(_is_told(key, each) for each in self._fanout.members(key)):
                continue
            found = self._known[key] = await self._read(*key)
            before = set(known.get(key, ()))
            self._put(key, [each for each in found if each not in before])

    def forget_all(self) -> None:
        """Called when hints arrive again."""
        self._known.clear()

    def _put(self, key: RoomKey, receipts: Iterable[Receipt]) -> None:
        if any(_is_told(key, each) for each in self._fanout.members(key)):
            for receipt in receipts:
                self._throttle.put((key, receipt.user_id), receipt)

    def _send(self, of: _Key, receipt: Receipt) -> None:
        key, user_id = of
        payload = ReceiptEvent(key[1], user_id, receipt.read_seq, receipt.delivered_seq)
        ready = packets.event("receipt", _encode(payload))
        self._fanout.send_to_some(key, ready, lambda connection: _is_told(key, connection))


def _is_told(key: RoomKey, connection: Connection) -> bool:
    return connection.knows_revs and connection.sees_receipts and key not in connection.peeked_rooms


def _further(last: Receipt, new: Receipt) -> Receipt | None:
    """The further marks of both: hints of several nodes arrive in any order."""
    furthest = Receipt(
        new.user_id,
        max(last.read_seq, new.read_seq),
        max(last.delivered_seq, new.delivered_seq),
    )
    return None if furthest == last else furthest
