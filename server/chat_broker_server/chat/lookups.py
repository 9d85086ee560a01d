"""Transactions that read messages by their ids, and around one."""

from collections.abc import Sequence

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.message_parts import COLUMNS, SOURCE, read
from chat_broker_server.chat.messages import last_seq
from chat_broker_server.chat.models import Message, Page
from chat_broker_server.errors import NotFound

MOST_IDS = 50
_MARKS = ", ".join(f"${n}" for n in range(4, MOST_IDS + 4))


def one(pid: str, room_id: str, message_id: str, from_seq: int) -> Steps[Message]:
    """A message of the room, from *from_seq* on. Raises NotFound."""
    found = yield from some(pid, room_id, (message_id,), from_seq)
    if not found:
        yield from last_seq(pid, room_id)
        raise NotFound.the_message()
    return found[0]


def some(pid: str, room_id: str, ids: Sequence[str], from_seq: int) -> Steps[list[Message]]:
    """Those of the room's messages with these ids, by `seq`. At most MOST_IDS."""
    # Padded, so that there is one prepared statement.
    padded = [*ids, *[ids[-1]] * (MOST_IDS - len(ids))]
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} JOIN rooms r"
        " ON r.project_id = g.project_id AND r.id = g.room_id AND r.deleted_at IS NULL"
        f" WHERE g.project_id = $1 AND g.room_id = $2 AND g.seq >= $3 AND g.id IN ({_MARKS})",
        pid,
        room_id,
        from_seq,
        *padded,
    )
    found = yield from read(pid, room_id, rows, from_seq)
    return sorted(found, key=lambda message: message.seq)


def around(pid: str, room_id: str, seq: int, limit: int, from_seq: int) -> Steps[Page]:
    """Up to *limit* messages with *seq* in their middle, oldest first. Raises NotFound."""
    last = yield from last_seq(pid, room_id)
    first = max(min(seq - limit // 2, last - limit + 1), from_seq)
    end = min(first + limit - 1, last)
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.room_id = $2"
        " AND g.seq >= $3 AND g.seq <= $4 ORDER BY g.seq",
        pid,
        room_id,
        first,
        end,
    )
    total = max(last - from_seq + 1, 0)
    items = yield from read(pid, room_id, rows, from_seq)
    return Page(
        items,
        1,
        limit,
        total,
        -(-total // limit),
        has_before=first > from_seq,
        has_after=end < last,
    )
