"""Transactions about receipts: up to which message each member of a small room has read, and has received.

They are worked out from the members' marks. Nothing is stored for a message.
"""

from msgspec import UNSET, UnsetType

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.members import SMALL, SMALL_ROOM, SOURCE
from chat_broker_server.chat.messages import last_seq
from chat_broker_server.chat.mine import DELIVERED
from chat_broker_server.chat.models import MessageReceipts, Receipt, Room
from chat_broker_server.chat.user_settings import SHOWS_RECEIPTS
from chat_broker_server.errors import Forbidden, NotFound

_OF_ROOM = (
    f"SELECT m.user_id, m.last_read_seq, {DELIVERED} FROM {SOURCE}"
    f" WHERE m.project_id = $1 AND m.room_id = $2 AND {SHOWS_RECEIPTS.format(user='u')} ORDER BY m.user_id"
)
_MESSAGE = (
    f"SELECT g.seq, g.user_id, {SMALL} FROM messages g JOIN rooms r"
    " ON r.project_id = g.project_id AND r.id = g.room_id AND r.deleted_at IS NULL"
    " WHERE g.project_id = $1 AND g.room_id = $2 AND g.id = $3 AND g.seq >= $4"
)


def of_room(pid: str, room_id: str, reader_id: str | None = None) -> Steps[list[Receipt]]:
    """The receipts of a small room's members who show them. None for a reader who shows none."""
    rows = yield Query(_OF_ROOM, pid, room_id)
    if reader_id is not None and all(row[0] != reader_id for row in rows):
        return []
    return [Receipt(*row) for row in rows]


def of_delta(pid: str, room: Room, reader_id: str | None) -> Steps[list[Receipt] | UnsetType]:
    """What the reader may know with the room; None is who is no member, and peeks."""
    if not room.small or reader_id is None:
        return UNSET
    return (yield from of_room(pid, room.id, reader_id)) or UNSET


def of_message(
    pid: str, room_id: str, message_id: str, reader_id: str | None, from_seq: int
) -> Steps[MessageReceipts]:
    """Who has read and who has received a message from *from_seq* on, without its author.

    *reader_id* is None for the API key. Raises NotFound, and Forbidden `receipts_off` in a large room, or for a reader
    who shows no receipts.
    """
    rows = yield Query(_MESSAGE, pid, room_id, message_id, from_seq)
    if not rows:
        yield from last_seq(pid, room_id)
        raise NotFound.the_message()
    seq, author_id, small = rows[0]
    if not small:
        raise _off(f"Receipts are for rooms of up to {SMALL_ROOM} members.")
    found = yield from of_room(pid, room_id, reader_id)
    if reader_id is not None and not found:
        raise _off("Who shows no receipts is shown none: see the setting receipts.")
    others = [each for each in found if each.user_id != author_id]
    read = [each.user_id for each in others if each.read_seq >= seq]
    delivered = [each.user_id for each in others if each.delivered_seq >= seq]
    return MessageReceipts(read, delivered, len(read), len(delivered))


def _off(message: str) -> Forbidden:
    return Forbidden("receipts_off", message)
