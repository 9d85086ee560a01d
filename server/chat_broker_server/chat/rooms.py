"""Transactions about rooms."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import idempotency, members, messages, mine
from chat_broker_server.chat.changes import NEXT_REV, record
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.chat.models import (
    IdempotencyKey,
    Message,
    Mine,
    Page,
    Room,
    RoomChanges,
    RoomDraft,
)
from chat_broker_server.database.rows import (
    SET_UPDATED_AT,
    assignments,
    changed_columns,
    contains,
    folded,
    like,
    metadata_of,
    metadata_text,
)
from chat_broker_server.errors import NotFound

COLUMNS = (
    "r.id, r.project_id, r.name, r.description, r.private, r.created_by, r.member_count,"
    " r.last_seq, r.last_message_at, r.metadata, r.created_at, r.updated_at,"
    f" coalesce(NOT r.light, r.member_count <= {members.SMALL_ROOM}), r.rev"
)
# SQLite accepts no table alias in RETURNING.
RETURNED = COLUMNS.replace("r.", "")
SEARCHED = ("name", "description")
# A room as it is listed for a member, with `mine` and the last message that the member sees.
MEMBER_COLUMNS = f"{COLUMNS}, {mine.COLUMNS}, {messages.COLUMNS}"
MEMBER_SOURCE = (
    "{members} JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id"
    " LEFT JOIN messages g ON g.project_id = r.project_id AND g.room_id = r.id"
    f" AND g.seq = r.last_seq AND g.seq >= {mine.FROM_SEQ}"
    " LEFT JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"
)
WIDTH = 14
"""How many columns `COLUMNS` has."""
_OWN_ROOMS = (
    f"(SELECT {mine.STORED} FROM members WHERE project_id = $1"
    " AND user_id = $2 ORDER BY room_id LIMIT $3 OFFSET $4) m"
)


class RoomFilter(NamedTuple):
    """Which rooms to list. None matches every room; *q* searches names and descriptions."""

    member_id: str | None = None
    private: bool | None = None
    q: str | None = None


def from_row(row: Sequence[Any]) -> Room:
    """A room from `COLUMNS`."""
    values = list(row)
    values[4] = bool(values[4])
    values[9] = metadata_of(values[9])
    values[12] = bool(values[12])
    if values[13] is None:
        values[13] = UNSET
    return Room(*values)


def parts_of_member_row(row: Sequence[Any]) -> tuple[Room, Mine, Message | None]:
    """The room, the member's side and the last message that the member sees, from `MEMBER_COLUMNS`."""
    room, last = from_row(row[:WIDTH]), row[-messages.WIDTH :]
    message = messages.from_row(room.id, last) if last[0] is not None else None
    return room, mine.from_row(row[WIDTH : -messages.WIDTH]), message


def from_member_row(row: Sequence[Any]) -> Room:
    """A room as it is listed for a member, from `MEMBER_COLUMNS`."""
    room, side, last = parts_of_member_row(row)
    return msgspec.structs.replace(room, unread=side.unread, mine=side, last_message=last)


def get(pid: str, room_id: str) -> Steps[Room]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM rooms r"
        " WHERE r.project_id = $1 AND r.id = $2 AND r.deleted_at IS NULL",
        pid,
        room_id,
    )
    if not rows:
        raise NotFound.room()
    return from_row(rows[0])


def create(pid: str, draft: RoomDraft, idempotency_key: IdempotencyKey | None) -> Steps[Room]:
    yield from idempotency.claim(pid, idempotency_key)
    now, room_id = timestamp(), new_id()
    user_ids = list(dict.fromkeys([draft.created_by, *draft.member_ids]))
    for user_id in user_ids:
        rows = yield Query(
            "SELECT 1 FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL FOR SHARE",
            pid,
            user_id,
        )
        if not rows:
            raise NotFound("user_not_found", f"There is no user {user_id}.")
    rows = yield Query(
        "INSERT INTO rooms (project_id, id, name, description, private, created_by,"
        " member_count, metadata, created_at, updated_at, name_folded, description_folded)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11) RETURNING {RETURNED}",
        pid,
        room_id,
        draft.name,
        draft.description,
        draft.private,
        draft.created_by,
        len(user_ids),
        metadata_text(draft.metadata),
        now,
        folded(draft.name),
        folded(draft.description),
    )
    for user_id in user_ids:
        yield Query(
            "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            pid,
            room_id,
            user_id,
            "owner" if user_id == draft.created_by else "member",
            now,
        )
    yield from _add_to_counts(pid, rooms=1, open_rooms=0 if draft.private else 1)
    room = from_row(rows[0])
    yield from idempotency.store(pid, idempotency_key, room)
    return room


def update(pid: str, room_id: str, changes: RoomChanges) -> Steps[Room]:
    columns = changed_columns(changes, SEARCHED)
    assigned = [SET_UPDATED_AT, NEXT_REV, *([assignments(columns, 4)] if columns else [])]
    # The lock keeps `private` as it was read, so that open rooms are counted right.
    was_private = None if changes.private is UNSET else (yield from members.lock_room(pid, room_id))
    rows = yield Query(
        f"UPDATE rooms SET {', '.join(assigned)}"
        f" WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {RETURNED}",
        pid,
        room_id,
        timestamp(),
        *columns.values(),
    )
    if not rows:
        raise NotFound.room()
    if was_private is not None and was_private != changes.private:
        yield from _add_to_counts(pid, rooms=0, open_rooms=-1 if changes.private else 1)
    room = from_row(rows[0])
    if room.rev is not UNSET:
        yield from record(pid, room_id, room.rev, "room", "")
    return room


def delete(pid: str, room_id: str) -> Steps[None]:
    """Mark the room as deleted. `database/housekeeping.py` removes its messages later, in portions."""
    rows = yield Query(
        "UPDATE rooms SET deleted_at = $3"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING private",
        pid,
        room_id,
        timestamp(),
    )
    if not rows:
        raise NotFound.room()
    yield Query("DELETE FROM members WHERE project_id = $1 AND room_id = $2", pid, room_id)
    yield from _add_to_counts(pid, rooms=-1, open_rooms=0 if rows[0][0] else -1)


def page(pid: str, where: RoomFilter, number: int, limit: int) -> Steps[Page]:
    parameters: list[Any] = [pid]
    build, columns, source = from_row, COLUMNS, "rooms r"
    counted = source
    condition, order = "r.project_id = $1", "r.id"
    if where.member_id is not None:
        parameters.append(where.member_id)
        build = from_member_row
        columns, source = MEMBER_COLUMNS, MEMBER_SOURCE.format(members="members m")
        counted = mine.SOURCE
        condition, order = "m.project_id = $1 AND m.user_id = $2", "m.room_id"
    condition += " AND r.deleted_at IS NULL"
    if where.private is not None:
        parameters.append(where.private)
        condition += f" AND r.private = ${len(parameters)}"
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += f" AND {contains(('r.name', 'r.description'), n)}"
    only_by_member = where.member_id is not None and where.private is None and where.q is None
    if where.member_id is None and where.q is None:
        counter = {
            None: "room_count",
            False: "open_room_count",
            True: "room_count - open_room_count",
        }
        total = yield Query(f"SELECT {counter[where.private]} FROM projects WHERE id = $1", pid)
    elif only_by_member:
        # A deleted room has no members, so LIMIT can apply before the join with rooms. For a user in
        # a thousand rooms that takes a tenth of the time.
        source = MEMBER_SOURCE.format(members=_OWN_ROOMS)
        total = yield Query(
            "SELECT count(*) FROM members WHERE project_id = $1 AND user_id = $2", *parameters
        )
    else:
        total = yield Query(f"SELECT count(*) FROM {counted} WHERE {condition}", *parameters)
    n = len(parameters)
    window = "" if only_by_member else f" LIMIT ${n + 1} OFFSET ${n + 2}"
    rows = yield Query(
        f"SELECT {columns} FROM {source} WHERE {condition} ORDER BY {order}{window}",
        *parameters,
        limit,
        (number - 1) * limit,
    )
    items = [build(row) for row in rows]
    return Page.of(items, number, limit, total[0][0] if total else 0)


def _add_to_counts(pid: str, *, rooms: int, open_rooms: int) -> Steps[None]:
    yield Query(
        "UPDATE projects SET room_count = room_count + $2, open_room_count = open_room_count + $3"
        " WHERE id = $1",
        pid,
        rooms,
        open_rooms,
    )
