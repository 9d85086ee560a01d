"""Transactions about rooms."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import idempotency, members
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.identity import instant, new_id
from chat_broker_server.chat.models import Idempotency, Page, Room, RoomChanges, RoomDraft
from chat_broker_server.database.rows import (
    TOUCHED,
    asked_columns,
    assignments,
    contains,
    folded,
    like,
    metadata_of,
    metadata_text,
)
from chat_broker_server.errors import NotFound

COLUMNS = (
    "r.id, r.project_id, r.name, r.description, r.private, r.created_by, r.member_count,"
    " r.last_seq, r.last_message_at, r.metadata, r.created_at, r.updated_at"
)
# SQLite knows no alias in RETURNING.
PLAIN = COLUMNS.replace("r.", "")
SEARCHED = ("name", "description")
# After the member's read mark: all, less the member's own, less the deleted ones of others. Three
# look-ups in indexes, however many messages wait; only deleted ones are counted one by one.
OWN = (
    "(SELECT x.author_seq FROM messages x WHERE x.project_id = m.project_id"
    " AND x.room_id = m.room_id AND x.user_id = m.user_id{upto} ORDER BY x.seq DESC LIMIT 1)"
)
OWN_ROOMS = (
    "(SELECT project_id, room_id, user_id, last_read_seq FROM members WHERE project_id = $1"
    " AND user_id = $2 ORDER BY room_id LIMIT $3 OFFSET $4) m"
)
UNREAD = (
    "r.last_seq - m.last_read_seq"
    f" - coalesce({OWN.format(upto='')}, 0)"
    f" + coalesce({OWN.format(upto=' AND x.seq <= m.last_read_seq')}, 0)"
    " - (SELECT count(*) FROM deletions d WHERE d.project_id = m.project_id"
    " AND d.room_id = m.room_id AND d.seq > m.last_read_seq AND d.user_id <> m.user_id)"
)


class Filter(NamedTuple):
    """Which rooms to list; None means all."""

    member_id: str | None = None
    private: bool | None = None
    q: str | None = None


def from_row(row: Sequence[Any]) -> Room:
    """A room from `COLUMNS`, and `unread` if that follows."""
    values = list(row)
    values[4] = bool(values[4])
    values[9] = metadata_of(values[9])
    return Room(*values)


def updated(room: Room) -> Event:
    """What the room's sockets hear of a change."""
    return Event("roomUpdated", room.project_id, room.id, msgspec.json.encode(room))


def deleted(pid: str, room_id: str) -> Event:
    """What the room's sockets hear of its end."""
    return Event("roomDeleted", pid, room_id, msgspec.json.encode({"room_id": room_id}))


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


def create(pid: str, draft: RoomDraft, once: Idempotency | None) -> Steps[Room]:
    yield from idempotency.first(pid, once)
    now, room_id = instant(), new_id()
    people = list(dict.fromkeys([draft.created_by, *draft.member_ids]))
    for user_id in people:
        found = yield Query(
            "SELECT 1 FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL FOR SHARE",
            pid,
            user_id,
        )
        if not found:
            raise NotFound("user_not_found", f"There is no user {user_id}.")
    rows = yield Query(
        "INSERT INTO rooms (project_id, id, name, description, private, created_by,"
        " member_count, metadata, created_at, updated_at, name_folded, description_folded)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11) RETURNING {PLAIN}",
        pid,
        room_id,
        draft.name,
        draft.description,
        draft.private,
        draft.created_by,
        len(people),
        metadata_text(draft.metadata),
        now,
        folded(draft.name),
        folded(draft.description),
    )
    for user_id in people:
        yield Query(
            "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            pid,
            room_id,
            user_id,
            "owner" if user_id == draft.created_by else "member",
            now,
        )
    yield from _count(pid, rooms=1, open_rooms=0 if draft.private else 1)
    room = from_row(rows[0])
    yield from idempotency.remember(pid, once, room)
    return room


def update(pid: str, room_id: str, changes: RoomChanges) -> Steps[Room]:
    asked = asked_columns(changes, SEARCHED)
    settings = [TOUCHED, *([assignments(asked, 4)] if asked else [])]
    # Who turns it has to know what it was, and to keep it so until then.
    was_private = None if changes.private is UNSET else (yield from members.lock_room(pid, room_id))
    rows = yield Query(
        f"UPDATE rooms SET {', '.join(settings)}"
        f" WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {PLAIN}",
        pid,
        room_id,
        instant(),
        *asked.values(),
    )
    if not rows:
        raise NotFound.room()
    if was_private is not None and was_private != changes.private:
        yield from _count(pid, rooms=0, open_rooms=-1 if changes.private else 1)
    return from_row(rows[0])


def delete(pid: str, room_id: str) -> Steps[None]:
    """Out of sight at once; its messages are removed a few at a time (`housekeeping.py`)."""
    rows = yield Query(
        "UPDATE rooms SET deleted_at = $3"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING private",
        pid,
        room_id,
        instant(),
    )
    if not rows:
        raise NotFound.room()
    yield Query("DELETE FROM members WHERE project_id = $1 AND room_id = $2", pid, room_id)
    yield from _count(pid, rooms=-1, open_rooms=0 if rows[0][0] else -1)


def page(pid: str, where: Filter, number: int, limit: int) -> Steps[Page]:
    parameters: list[Any] = [pid]
    columns, source = COLUMNS, "rooms r"
    condition, order = "r.project_id = $1", "r.id"
    if where.member_id is not None:
        parameters.append(where.member_id)
        columns = f"{COLUMNS}, {UNREAD}"
        source = "members m JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id"
        condition, order = "m.project_id = $1 AND m.user_id = $2", "m.room_id"
    condition += " AND r.deleted_at IS NULL"
    if where.private is not None:
        parameters.append(where.private)
        condition += f" AND r.private = ${len(parameters)}"
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += f" AND {contains(('r.name', 'r.description'), n)}"
    cut = where.member_id is not None and where.private is None and where.q is None
    if where.member_id is None and where.q is None:
        counted = {
            None: "room_count",
            False: "open_room_count",
            True: "room_count - open_room_count",
        }
        total = yield Query(f"SELECT {counted[where.private]} FROM projects WHERE id = $1", pid)
    elif cut:
        # A deleted room has no members, so the page can be cut before the rooms are looked at: for
        # somebody in a thousand rooms a tenth of the time.
        source = source.replace("members m", OWN_ROOMS)
        total = yield Query(
            "SELECT count(*) FROM members WHERE project_id = $1 AND user_id = $2", *parameters
        )
    else:
        total = yield Query(f"SELECT count(*) FROM {source} WHERE {condition}", *parameters)
    n = len(parameters)
    window = "" if cut else f" LIMIT ${n + 1} OFFSET ${n + 2}"
    rows = yield Query(
        f"SELECT {columns} FROM {source} WHERE {condition} ORDER BY {order}{window}",
        *parameters,
        limit,
        (number - 1) * limit,
    )
    items = [from_row(row) for row in rows]
    return Page.of(items, number, limit, total[0][0] if total else 0)


def _count(pid: str, *, rooms: int, open_rooms: int) -> Steps[None]:
    yield Query(
        "UPDATE projects SET room_count = room_count + $2, open_room_count = open_room_count + $3"
        " WHERE id = $1",
        pid,
        rooms,
        open_rooms,
    )
