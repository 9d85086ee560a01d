"""Transactions about rooms."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat import (
    direct,
    idempotency,
    members,
    message_parts,
    mine,
    room_settings,
    sizes,
)
from chat_broker_server.chat.changes import NEXT_REV, record
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.events import Noted, SystemNote
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
from chat_broker_server.chat.roles import require
from chat_broker_server.chat.room_settings import changed, to_text
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
from chat_broker_server.errors import Conflict, NotFound

COLUMNS = (
    "r.id, r.project_id, r.name, r.description, r.private, r.created_by, r.member_count,"
    " r.last_seq, r.last_message_at, r.metadata, r.created_at, r.updated_at, coalesce(r.kind, 'room'),"
    f" {members.SMALL}, r.rev, r.external_id, r.settings, {message_parts.MESSAGE_COUNT.format(room='r')}"
)
# SQLite accepts no table alias in RETURNING.
RETURNED = COLUMNS.replace("r.", "rooms.")
SEARCHED = ("name", "description")
# A room as it is listed for a member, with `mine` and the last message that the member sees.
MEMBER_COLUMNS = f"{COLUMNS}, {mine.COLUMNS}, {message_parts.COLUMNS}"
MEMBER_SOURCE = (
    "{members} JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id"
    " LEFT JOIN messages g ON g.project_id = r.project_id AND g.room_id = r.id"
    f" AND g.seq = r.last_seq AND g.seq >= {mine.FROM_SEQ}"
    " LEFT JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"
)
ACTIVITY = "coalesce(r.last_message_at, r.created_at)"
"""When the newest message was posted, or the room was created."""
WIDTH = 18
"""How many columns `COLUMNS` has."""
_OWN_ROOMS = (
    f"(SELECT {mine.STORED} FROM members WHERE project_id = $1"
    " AND user_id = $2 ORDER BY room_id LIMIT $3 OFFSET $4) m"
)
_CHUNK: Final = 50
_USERS: Final = (
    "SELECT id FROM users WHERE project_id = $1 AND deleted_at IS NULL"
    f" AND id IN ({', '.join(f'${n}' for n in range(2, _CHUNK + 2))}) FOR SHARE"
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

    @property
    def narrows(self) -> bool:
        """Whether it leaves out some of the member's rooms, or of all rooms."""
        return any(each is not None for each in (self.private, self.q, self.archived, self.kind))

    @property
    def matches_nothing(self) -> bool:
        """There are no threads."""
        return self.kind == "thread"


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
    values[14:16] = [UNSET if value is None else value for value in values[14:16]]
    message_count, settings = values.pop(), values.pop()
    room = Room(*values)
    if settings is None and not message_count:
        return room
    return msgspec.structs.replace(
        room,
        settings=UNSET if settings is None else room_settings.from_text(settings),
        message_count=message_count or UNSET,
    )


Parts = tuple[Room, Mine, Message | None]
"""A room, a member's side of it, and the last message that the member sees."""


def parts_of_member_rows(pid: str, rows: Rows) -> Steps[list[Parts]]:
    """The parts of rooms from `MEMBER_COLUMNS`."""
    parts = [_parts_of_member_row(row) for row in rows]
    flags = {
        (last.room_id, last.seq): row[-1]
        for row, (*_, last) in zip(rows, parts, strict=True)
        if row[-1] and last
    }
    if not flags:
        return parts
    last_messages = [last for *_, last in parts if last is not None]
    completed = yield from message_parts.complete(pid, last_messages, flags)
    found = {message.room_id: message for message in completed}
    return [
        (room, side, _as_seen(found[room.id], side) if last is not None else None)
        for room, side, last in parts
    ]


def _parts_of_member_row(row: Sequence[Any]) -> Parts:
    room, last = from_row(row[:WIDTH]), row[-message_parts.WIDTH :]
    message = message_parts.plain(room.id, (last,))[0] if last[0] is not None else None
    return room, mine.from_row(row[WIDTH : -message_parts.WIDTH]), message


def _as_seen(message: Message, side: Mine) -> Message:
    return message_parts.without_hidden_quote(message, side.from_seq)


def from_member_rows(pid: str, rows: Rows) -> Steps[list[Room]]:
    """Rooms as they are listed for a member, from `MEMBER_COLUMNS`."""
    parts = yield from parts_of_member_rows(pid, rows)
    return [
        msgspec.structs.replace(room, unread=side.unread, mine=side, last_message=last)
        for room, side, last in parts
    ]


def get(pid: str, room_id: str) -> Steps[Room]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM rooms r"
        " WHERE r.project_id = $1 AND r.id = $2 AND r.deleted_at IS NULL",
        pid,
        room_id,
    )
    if not rows:
        raise NotFound.room()
    return (yield from direct.complete(pid, from_row(rows[0])))


def create(pid: str, draft: RoomDraft, idempotency_key: IdempotencyKey | None) -> Steps[Room]:
    yield from idempotency.claim(pid, idempotency_key)
    yield from require_users(pid, places_of(draft))
    room = yield from insert(pid, draft)
    if room is None:
        raise Conflict(
            "external_id_taken", f"There is a room with the external id {draft.external_id}."
        )
    yield from idempotency.store(pid, idempotency_key, room)
    return room


def users_of(draft: RoomDraft) -> list[str]:
    """The members of a new room, each once, its creator first."""
    return list(dict.fromkeys([draft.created_by, *draft.member_ids]))


def places_of(draft: RoomDraft) -> dict[str, str]:
    """The members of a new room, and the field that names each."""
    places = {draft.created_by: "created_by"}
    for number, user_id in enumerate(draft.member_ids):
        places.setdefault(user_id, f"member_ids[{number}]")
    return places


def require_users(pid: str, places: Mapping[str, str]) -> Steps[None]:
    """Lock users, so that none is deleted before this transaction ends. Raises NotFound, which names the first missing.

    *places*: the field of the request that names each user.
    """
    found: set[str] = set()
    user_ids = list(places)
    for at in range(0, len(user_ids), _CHUNK):
        chunk = user_ids[at : at + _CHUNK]
        # Padded, so that there is one prepared statement.
        rows = yield Query(_USERS, pid, *chunk, *chunk[-1:] * (_CHUNK - len(chunk)))
        found |= {row[0] for row in rows}
    for user_id in user_ids:
        if user_id not in found:
            raise NotFound.named_user(places[user_id], user_id)


def insert(pid: str, draft: RoomDraft, *, direct_key: str | None = None) -> Steps[Room | None]:
    """Insert a room and its members, who exist. None if there is one with its external id or *direct_key*."""
    now, room_id, user_ids = timestamp(), new_id(), users_of(draft)
    rows = yield Query(
        "INSERT INTO rooms (project_id, id, name, description, private, created_by,"
        " member_count, metadata, created_at, updated_at, name_folded, description_folded,"
        " kind, external_id, direct_key, message_count)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, 0)"
        f" ON CONFLICT DO NOTHING RETURNING {RETURNED}",
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
        None if direct_key is None else "direct",
        draft.external_id,
        direct_key,
    )
    if not rows:
        return None
    creators_role = "owner" if direct_key is None else "member"
    for user_id in user_ids:
        yield Query(
            "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            pid,
            room_id,
            user_id,
            creators_role if user_id == draft.created_by else "member",
            now,
        )
    yield from _add_to_counts(pid, rooms=1, open_rooms=0 if draft.private else 1)
    return from_row(rows[0])


def update(
    pid: str, room_id: str, changes: RoomChanges, by: str | None = None
) -> Steps[tuple[Room, list[Noted]]]:
    """Change a room. *by* is the member who does it, None for the API key. Raises Forbidden `owner_only`."""
    columns = changed_columns(changes, SEARCHED)
    if columns.keys() - {"metadata"}:
        yield from direct.refuse(pid, room_id, "Of a direct room only metadata can be changed.")
    # The lock keeps what is read here as it is, so that open rooms are counted right and no setting is lost.
    locked = None
    note: list[Noted] = []
    if columns.keys() - {"description", "description_folded", "metadata"} or by is not None:
        locked = yield from members.lock(pid, room_id)
        if by is not None:
            require((yield from members.role_of(pid, room_id, by)), "update_room")
        if changes.name is not UNSET and locked.settings.system_messages:
            note = yield from _renamed(pid, room_id, changes.name, by)
        if changes.settings is not UNSET:
            columns["settings"] = to_text(changed(locked.settings, changes.settings))
    assigned = [SET_UPDATED_AT, NEXT_REV, *([assignments(columns, 4)] if columns else [])]
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
    if locked is not None and changes.private not in {UNSET, locked.private}:
        yield from _add_to_counts(pid, rooms=0, open_rooms=-1 if changes.private else 1)
    room = yield from direct.complete(pid, from_row(rows[0]))
    if room.rev is not UNSET:
        yield from record(pid, room_id, room.rev, "room", "")
    return room, note


def _renamed(pid: str, room_id: str, name: str, by: str | None) -> Steps[list[Noted]]:
    """What a system message tells, if *name* is another one than the room has."""
    rows = yield Query(
        "SELECT name, created_by FROM rooms WHERE project_id = $1 AND id = $2", pid, room_id
    )
    before, creator = rows[0]
    if name == before:
        return []
    event = {"name": "room_renamed", "room_name": name, **({} if by is None else {"by": by})}
    return [SystemNote(room_id, event, by or creator)]


def delete(pid: str, room_id: str) -> Steps[None]:
    """Mark the room as deleted. `database/housekeeping.py` removes its messages later, in portions."""
    # Another room may have its names.
    rows = yield Query(
        "UPDATE rooms SET deleted_at = $3, external_id = NULL, direct_key = NULL"
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
    columns, source, order = COLUMNS, matching, "r.id"
    if where.member_id is not None:
        columns, order = MEMBER_COLUMNS, "m.room_id"
        source = MEMBER_SOURCE.format(members="members m")
    only_by_member = where.member_id is not None and not where.narrows
    if where.member_id is None and where.q is None and where.kind is None:
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
    listed = yield from _listed(pid, where, rows)
    items = yield from direct.with_members(pid, listed)
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
    columns = COLUMNS
    source = f"{chosen} JOIN rooms r ON r.project_id = $1 AND r.id = p.id"
    if where.member_id is not None:
        columns = MEMBER_COLUMNS
        own = "members m ON m.project_id = $1 AND m.room_id = p.id AND m.user_id = $2"
        source = MEMBER_SOURCE.format(members=f"{chosen} JOIN {own}")
    rows = yield Query(
        f"SELECT {columns} FROM {source} ORDER BY p.activity DESC, p.id", *parameters, limit + 1
    )
    listed = yield from _listed(pid, where, rows)
    found = yield from direct.with_members(pid, listed)
    items = sizes.fitting(found[:limit], sizes.LARGEST_RESPONSE - _OVERHEAD)
    more = len(items) < len(found)
    return CursorPage(items, limit, _cursor_after(items[-1]) if more else None, more)


def _listed(pid: str, where: RoomFilter, rows: Rows) -> Steps[list[Room]]:
    """The rooms of a list, as they are shown to the member that *where* names."""
    if where.member_id is None:
        return [from_row(row) for row in rows]
    return (yield from from_member_rows(pid, rows))


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
    if where.kind is not None:
        condition += f" AND {_of_kind(where.kind, by_index=where.member_id is None)}"
    if where.archived is not None:
        condition += f" AND {mine.ARCHIVED} {'<>' if where.archived else '='} 'no'"
    return source, condition, parameters


def _of_kind(kind: str, *, by_index: bool) -> str:
    """The condition that a room is of the *kind*. *by_index*: the kind is what rooms are found by."""
    if kind == "room" and by_index:
        return "r.kind IS NULL"
    # As literals: the index of kinds does not match a parameter.
    literal = "'room'" if kind == "room" else "'direct'"
    return f"r.kind = {literal}" if by_index else f"coalesce(r.kind, 'room') = {literal}"


def _add_to_counts(pid: str, *, rooms: int, open_rooms: int) -> Steps[None]:
    yield Query(
        "UPDATE projects SET room_count = room_count + $2, open_room_count = open_room_count + $3"
        " WHERE id = $1",
        pid,
        rooms,
        open_rooms,
    )
