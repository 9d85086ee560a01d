"""Transactions about rooms."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import idempotency, members, messages, mine, sizes
from chat_broker_server.chat.changes import NEXT_REV, record
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.chat.models import (
    CursorPage,
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
    " r.last_seq, r.last_message_at, r.metadata, r.created_at, r.updated_at, coalesce(r.kind, 'room'),"
    f" {members.SMALL}, r.rev"
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
ACTIVITY = "coalesce(r.last_message_at, r.created_at)"
"""When the newest message was posted, or the room was created."""
WIDTH = 15
"""How many columns `COLUMNS` has."""
_OWN_ROOMS = (
    f"(SELECT {mine.STORED} FROM members WHERE project_id = $1"
    " AND user_id = $2 ORDER BY room_id LIMIT $3 OFFSET $4) m"
)
_OVERHEAD: Final = 1024
"""Bytes for what a page has besides its rooms."""


class RoomFilter(NamedTuple):
    """Which rooms to list. None matches every room; *q* searches names and descriptions."""

    member_id: str | None = None
    private: bool | None = None
    q: str | None = None
    archived: bool | None = None
    """By the member's own side; goes with *member_id* alone."""
    kind: str | None = None
    """All rooms are of the kind `room`."""

    @property
    def narrows(self) -> bool:
        """Whether it leaves out some of the member's rooms, or of all rooms."""
        return any(each is not None for each in (self.private, self.q, self.archived))

    @property
    def matches_nothing(self) -> bool:
        return self.kind not in {None, "room"}


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a room stands in the order by activity."""

    activity: Annotated[str, msgspec.Meta(pattern=r"\A[0-9T:.Z-]{1,32}\Z")]
    room_id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


def from_row(row: Sequence[Any]) -> Room:
    """A room from `COLUMNS`."""
    values = list(row)
    values[4] = bool(values[4])
    values[9] = metadata_of(values[9])
    values[13] = bool(values[13])
    if values[14] is None:
        values[14] = UNSET
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
    if where.matches_nothing:
        return Page.of([], number, limit, 0)
    matching, condition, parameters = _matching(pid, where)
    build, columns, source, order = from_row, COLUMNS, matching, "r.id"
    if where.member_id is not None:
        build, columns, order = from_member_row, MEMBER_COLUMNS, "m.room_id"
        source = MEMBER_SOURCE.format(members="members m")
    only_by_member = where.member_id is not None and not where.narrows
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
        total = yield Query(f"SELECT count(*) FROM {matching} WHERE {condition}", *parameters)
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


def by_activity(pid: str, where: RoomFilter, cursor: str | None, limit: int) -> Steps[CursorPage]:
    """The matching rooms, newest activity first, then by id. Raises BadInput for a foreign *cursor*."""
    begin = None if cursor is None else decoded("cursor", cursor, _Place)
    if where.matches_nothing:
        return CursorPage([], limit, next_cursor=None, has_more=False)
    source, condition, parameters = _matching(pid, where)
    if begin is not None:
        parameters += [begin.activity, begin.room_id]
        n = len(parameters)
        condition += f" AND ({ACTIVITY} < ${n - 1} OR {ACTIVITY} = ${n - 1} AND r.id > ${n})"
    # What is dear about a room, such as `unread`, is worked out for those of the page alone.
    chosen = (
        f"(SELECT r.id, {ACTIVITY} AS activity FROM {source} WHERE {condition}"
        f" ORDER BY activity DESC, r.id LIMIT ${len(parameters) + 1}) p"
    )
    build, columns = from_row, COLUMNS
    source = f"{chosen} JOIN rooms r ON r.project_id = $1 AND r.id = p.id"
    if where.member_id is not None:
        build, columns = from_member_row, MEMBER_COLUMNS
        own = "members m ON m.project_id = $1 AND m.room_id = p.id AND m.user_id = $2"
        source = MEMBER_SOURCE.format(members=f"{chosen} JOIN {own}")
    rows = yield Query(
        f"SELECT {columns} FROM {source} ORDER BY p.activity DESC, p.id", *parameters, limit + 1
    )
    found = [build(row) for row in rows]
    items = sizes.fitting(found[:limit], sizes.LARGEST_RESPONSE - _OVERHEAD)
    more = len(items) < len(found)
    return CursorPage(items, limit, _cursor_after(items[-1]) if more else None, more)


def _cursor_after(room: Room) -> str:
    return encoded(_Place(room.last_message_at or room.created_at, room.id))


def _matching(pid: str, where: RoomFilter) -> tuple[str, str, list[Any]]:
    """What to select from, the condition, and its parameters."""
    parameters: list[Any] = [pid]
    source, condition = "rooms r", "r.project_id = $1"
    if where.member_id is not None:
        parameters.append(where.member_id)
        source, condition = mine.SOURCE, "m.project_id = $1 AND m.user_id = $2"
    condition += " AND r.deleted_at IS NULL"
    if where.private is not None:
        parameters.append(where.private)
        condition += f" AND r.private = ${len(parameters)}"
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += f" AND {contains(('r.name', 'r.description'), n)}"
    if where.archived is not None:
        condition += f" AND {mine.ARCHIVED} {'<>' if where.archived else '='} 'no'"
    return source, condition, parameters


def _add_to_counts(pid: str, *, rooms: int, open_rooms: int) -> Steps[None]:
    yield Query(
        "UPDATE projects SET room_count = room_count + $2, open_room_count = open_room_count + $3"
        " WHERE id = $1",
        pid,
        rooms,
        open_rooms,
    )
