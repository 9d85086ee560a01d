"""What the sockets that watch all rooms of their users need of the database."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat import message_parts, mine, rooms
from chat_broker_server.chat.models import Message, Mine

_CHUNK: Final = 25

_ROOMS = (
    "SELECT m.room_id, r.last_seq, coalesce(r.rev, 0), m.joined_at, coalesce(m.version, 0),"
    f" {mine.FROM_SEQ}, {rooms.ACTIVITY} FROM {mine.SOURCE}"
    " WHERE m.project_id = $1 AND m.user_id = $2"
)
_ACTIVITY = (
    f"SELECT {rooms.COLUMNS}, {message_parts.COLUMNS} FROM rooms r"
    " LEFT JOIN messages g ON g.project_id = r.project_id AND g.room_id = r.id"
    " AND g.seq = r.last_seq"
    " LEFT JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"
    " WHERE r.deleted_at IS NULL AND r.project_id = $1 AND r.id = $2"
)
_MARKS = ", ".join(f"${number}" for number in range(3, _CHUNK + 3))
_SIDES = (
    f"SELECT m.user_id, {mine.COLUMNS} FROM {mine.SOURCE}"
    f" WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id IN ({_MARKS})"
)


class Side(NamedTuple):
    """Which membership this is, and how often its member has changed their own side."""

    joined_at: str
    version: int
    from_seq: int
    """The first message that the member sees."""


class WatchedRoom(NamedTuple):
    """A room of a user, and how far it is."""

    room_id: str
    last_seq: int
    rev: int
    side: Side


class Activity(NamedTuple):
    """A room's newest message, and the sides of some members if the room is small."""

    small: bool
    last_seq: int
    rev: int
    last_message: Message | None
    sides: dict[str, Mine]
    """By user; of those who are members."""


def rooms_of(pid: str, user_id: str, limit: int) -> Steps[list[WatchedRoom]]:
    """The *limit* rooms of the user with the newest activity."""
    rows = yield Query(_ROOMS, pid, user_id)
    if len(rows) > limit:
        rows = sorted(rows, key=lambda row: (row[-1], row[0]), reverse=True)[:limit]
    return [WatchedRoom(row[0], row[1], row[2], Side(*row[3:6])) for row in rows]


def activities(pid: str, users: Mapping[str, Sequence[str]]) -> Steps[dict[str, Activity]]:
    """The activity in each of these rooms, with the sides of its *users*; without rooms that are deleted."""
    found = {}
    for room_id, user_ids in users.items():
        rows: Rows = yield Query(_ACTIVITY, pid, room_id)
        if not rows:
            continue
        room, last = rooms.from_row(rows[0][: rooms.WIDTH]), rows[0][rooms.WIDTH :]
        read = (yield from message_parts.read(pid, room_id, [last])) if last[0] else []
        sides = (yield from _sides(pid, room_id, user_ids)) if room.small else {}
        rev = room.rev if isinstance(room.rev, int) else 0
        found[room_id] = Activity(room.small, room.last_seq, rev, read[0] if read else None, sides)
    return found


def _sides(pid: str, room_id: str, user_ids: Sequence[str]) -> Steps[dict[str, Mine]]:
    sides: dict[str, Any] = {}
    for at in range(0, len(user_ids), _CHUNK):
        chunk = list(user_ids[at : at + _CHUNK])
        padded = chunk + chunk[-1:] * (_CHUNK - len(chunk))  # so that there is one statement
        rows = yield Query(_SIDES, pid, room_id, *padded)
        sides |= {row[0]: mine.from_row(row[1:]) for row in rows}
    return sides
