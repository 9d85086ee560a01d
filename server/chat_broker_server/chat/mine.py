"""Transactions about a member's own side of a room: marks, notifications, archive, hidden history.

A post writes nothing here: what depends on the newest message, such as `unread` and an archive that
the next message ends, is worked out when it is asked for.
"""

from collections.abc import Collection, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat import blocks, members
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import Mine, MineChanges, ReadMark, Receipt, Totals
from chat_broker_server.chat.user_settings import SHOWS_RECEIPTS
from chat_broker_server.chat.validation import ROOMS_AT_ONCE
from chat_broker_server.database.rows import assignments
from chat_broker_server.errors import NotFound

# Messages up to this one are not unread: read, or hidden by `clear_history`.
_SEEN = "CASE WHEN m.from_seq > m.last_read_seq + 1 THEN m.from_seq - 1 ELSE m.last_read_seq END"
# Of the member's own messages, those after those seen. As a rule there is none, which one look-up tells; else it takes two.
_OWN_MESSAGES = (
    "(SELECT x.author_seq - coalesce((SELECT x.author_seq FROM messages x"
    " WHERE x.project_id = m.project_id AND x.room_id = m.room_id AND x.user_id = m.user_id"
    f" AND x.seq <= {_SEEN} ORDER BY x.seq DESC LIMIT 1), 0) FROM messages x"
    " WHERE x.project_id = m.project_id AND x.room_id = m.room_id AND x.user_id = m.user_id"
    f" AND x.seq > {_SEEN} ORDER BY x.seq DESC LIMIT 1)"
)
# Silent and system messages do not count. A room without any has no `counted`: all messages count.
_COUNTED = (
    f"CASE WHEN r.counted IS NULL THEN r.last_seq - {_SEEN} ELSE r.counted"
    " - coalesce((SELECT coalesce(k.counted, k.seq) FROM messages k"
    f" WHERE k.project_id = m.project_id AND k.room_id = m.room_id AND k.seq = {_SEEN}), {_SEEN}) END"
)
# Of each user whom the member blocks, the messages after those seen: one look-up for who has none, two for others.
_BLOCKED_MESSAGES = (
    "(SELECT CAST(sum((SELECT x.author_seq - coalesce((SELECT x.author_seq FROM messages x"
    " WHERE x.project_id = m.project_id AND x.room_id = m.room_id AND x.user_id = b.blocked_id"
    f" AND x.seq <= {_SEEN} ORDER BY x.seq DESC LIMIT 1), 0) FROM messages x"
    " WHERE x.project_id = m.project_id AND x.room_id = m.room_id AND x.user_id = b.blocked_id"
    f" AND x.seq > {_SEEN} ORDER BY x.seq DESC LIMIT 1)) AS BIGINT) FROM blocks b"
    " WHERE b.project_id = m.project_id AND b.user_id = m.user_id)"
)
# Countable messages after those seen, minus the member's own, minus those of users whom the member blocks, minus deleted ones of
# the others. This takes four or five index look-ups and up to two for each blocked user, however many messages are unread;
# only deletions are counted row by row.
UNREAD = (
    f"CASE WHEN r.last_seq <= {_SEEN} THEN 0 ELSE {_COUNTED}"
    f" - coalesce({_OWN_MESSAGES}, 0)"
    " - (SELECT count(*) FROM deletions d WHERE d.project_id = m.project_id"
    f" AND d.room_id = m.room_id AND d.seq > {_SEEN} AND d.user_id <> m.user_id"
    f" AND NOT {blocks.BLOCKED.format(reader='m', author='d')})"
    f" - coalesce({_BLOCKED_MESSAGES}, 0) END"
)
_EVERYBODY = "''"
_NAMED = (
    "(SELECT count(*) FROM mentions n WHERE n.project_id = m.project_id AND n.user_id = {named}"
    f" AND n.room_id = m.room_id AND n.seq > {_SEEN} AND n.author_id <> m.user_id"
    " AND n.uncounted IS NOT TRUE AND NOT EXISTS (SELECT 1 FROM blocks b"
    " WHERE b.project_id = m.project_id AND b.user_id = m.user_id"
    " AND b.blocked_id = n.author_id))"
)
# Of the unread messages those that name the member or everybody. Each is a row of `mentions`. Two look-ups take less than one
# with a list of both.
MENTIONS = (
    f"CASE WHEN r.last_seq <= {_SEEN} THEN 0"
    f" ELSE {_NAMED.format(named='m.user_id')} + {_NAMED.format(named=_EVERYBODY)} END"
)
DELIVERED = (
    "CASE WHEN m.delivered_seq > m.last_read_seq THEN m.delivered_seq ELSE m.last_read_seq END"
)
"""Up to which message the room has reached a device of the member; at least what they have read."""
FROM_SEQ = "coalesce(m.from_seq, 1)"
ARCHIVED = (
    "CASE WHEN m.archived = 'yes' THEN 'yes' WHEN m.archived = 'until_message'"
    " AND r.last_seq <= m.archived_seq THEN 'until_message' ELSE 'no' END"
)
COLUMNS = (
    f"m.role, m.joined_at, m.last_read_seq, {DELIVERED}, {FROM_SEQ}, {UNREAD}, {MENTIONS},"
    f" m.notify, m.muted_until, {ARCHIVED}, m.pinned_at, m.marked_unread, m.version"
)
WIDTH = 13
"""How many columns `COLUMNS` has."""
STORED = (
    "project_id, room_id, user_id, role, joined_at, last_read_seq, delivered_seq, from_seq, notify,"
    " muted_until, archived, archived_seq, pinned_at, marked_unread, version"
)
"""The columns of `members` that `COLUMNS` is worked out from."""
SOURCE = "members m JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id"

_MEMBER = "m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3"
_CHUNK = 50
_OF_ROOM = (
    f"SELECT m.room_id, {COLUMNS} FROM {SOURCE}"
    " WHERE m.project_id = $1 AND m.user_id = $2 AND m.room_id = $3"
)
_OF_ROOMS = _OF_ROOM.replace(
    "= $3", f"IN ({', '.join(f'${number}' for number in range(3, _CHUNK + 3))})"
)
# The mark that is asked for, but never beyond the room's last message.
_TARGET = (
    "(SELECT CASE WHEN last_seq < $4 THEN last_seq ELSE $4 END AS seq FROM rooms"
    " WHERE project_id = $1 AND id = $2) t"
)
# The member's marks, and whether others may know them.
_RECEIPT = (
    f"m.last_read_seq, {DELIVERED}, {members.SMALL} AND (SELECT {SHOWS_RECEIPTS.format(user='u')}"
    " FROM users u WHERE u.project_id = m.project_id AND u.id = m.user_id)"
)
_GROWN = "version = coalesce(version, 0) + 1"
# Materialized, so that each room's `unread` is worked out once, though it is used twice.
_TOTALS = (
    f"WITH s AS MATERIALIZED (SELECT {UNREAD} AS unread, {MENTIONS} AS mentions,"
    f" m.marked_unread AS marked, r.kind AS kind FROM {SOURCE}"
    " WHERE m.project_id = $1 AND m.user_id = $2 AND coalesce(m.notify, '') <> 'none'"
    f" AND coalesce(m.muted_until, '') <= $3 AND {ARCHIVED} = 'no')"
    " SELECT CAST(count(CASE WHEN s.unread > 0 OR s.marked THEN 1 END) AS BIGINT),"
    " CAST(coalesce(sum(s.unread), 0) AS BIGINT),"
    " CAST(coalesce(sum(s.mentions), 0) AS BIGINT),"
    " CAST(count(CASE WHEN s.kind = 'direct' AND (s.unread > 0 OR s.marked) THEN 1 END) AS BIGINT)"
    " FROM s"
)

T = TypeVar("T")


class Marked(NamedTuple, Generic[T]):
    """What a change of marks answers, and what to tell of it."""

    answer: T
    room_ids: list[str]
    """The rooms of which something was changed."""
    receipts: dict[str, Receipt]
    """The member's marks in those of them that are small, by room, unless the member shows no receipts."""


def from_row(row: Sequence[Any]) -> Mine:
    """A member's side from `COLUMNS`."""
    role, joined_at, last_read, delivered, from_seq, unread, mentions, notify, *rest = row
    muted, archived, pinned_at, marked_unread, version = rest
    return Mine(
        role,
        joined_at,
        last_read,
        delivered,
        from_seq,
        unread,
        mentions,
        notify=notify,
        muted_until=muted,
        archived=archived,
        pinned_at=pinned_at,
        marked_unread=bool(marked_unread),
        following=True,
        version=version or 0,
    )


def get(pid: str, room_id: str, user_id: str) -> Steps[Mine]:
    """The member's side. Raises NotFound `room_not_found` or `member_not_found`."""
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE {_MEMBER}",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        yield from _refuse_stranger(pid, room_id)
    return from_row(rows[0])


def role_and_from_seq(pid: str, room_id: str, user_id: str) -> Steps[tuple[str, int] | None]:
    """What the member may do, and from which message on the room is there for them; None if the user is no member."""
    rows = yield Query(
        f"SELECT m.role, {FROM_SEQ} FROM members m WHERE {_MEMBER}",
        pid,
        room_id,
        user_id,
    )
    return (rows[0][0], rows[0][1]) if rows else None


def of_rooms(
    pid: str, user_id: str, room_ids: Sequence[str]
) -> Steps[tuple[dict[str, Mine], Totals]]:
    """The user's side of those of these rooms that are theirs, and their totals. Raises NotFound for no such user."""
    sides: dict[str, Mine] = {}
    for at in range(0, len(room_ids), _CHUNK):
        chunk = [*room_ids[at : at + _CHUNK]]
        # One room, as a rule. Several are padded, so that there is one prepared statement for them.
        padded = chunk if len(chunk) == 1 else chunk + chunk[-1:] * (_CHUNK - len(chunk))
        sql = _OF_ROOM if len(chunk) == 1 else _OF_ROOMS
        rows = yield Query(sql, pid, user_id, *padded)
        sides |= {row[0]: from_row(row[1:]) for row in rows}
    return sides, (yield from totals(pid, user_id))


def update(
    pid: str, room_id: str, user_id: str, changes: MineChanges
) -> Steps[tuple[Mine, list[str]]]:
    """Change the member's side. Returns it, and the rooms of which something was changed. Raises NotFound as `get`."""
    rows = yield Query(
        f"SELECT r.last_seq, m.notify, m.muted_until, {ARCHIVED}, m.pinned_at,"
        f" m.marked_unread FROM {SOURCE} WHERE {_MEMBER}",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        yield from _refuse_stranger(pid, room_id)
    last_seq = rows[0][0]
    changed: Rows = []
    if changes.clear_history:
        changed = yield Query(
            f"UPDATE members SET {_GROWN}, from_seq = $4 WHERE project_id = $1 AND room_id = $2"
            " AND user_id = $3 AND coalesce(from_seq, 1) < $4 RETURNING 1",
            pid,
            room_id,
            user_id,
            last_seq + 1,
        )
    columns = _differing(changes, rows[0])
    if columns:
        changed = yield Query(
            f"UPDATE members SET {_GROWN}, {assignments(columns, 4)}"
            " WHERE project_id = $1 AND room_id = $2 AND user_id = $3 RETURNING 1",
            pid,
            room_id,
            user_id,
            *columns.values(),
        )
    return (yield from get(pid, room_id, user_id)), [room_id] if changed else []


def _differing(changes: MineChanges, row: Sequence[Any]) -> dict[str, Any]:
    """The columns to update, with their values: those that *changes* sets to something else than they are."""
    last_seq, notify, muted_until, archived, pinned_at, marked_unread = row
    columns: dict[str, Any] = {}
    if changes.notify not in {UNSET, notify}:
        columns["notify"] = changes.notify
    if changes.muted_until not in {UNSET, muted_until}:
        columns["muted_until"] = changes.muted_until
    if changes.archived is not UNSET and changes.archived != archived:
        columns["archived"] = None if changes.archived == "no" else changes.archived
        columns["archived_seq"] = last_seq if changes.archived == "until_message" else None
    if changes.pinned is not UNSET and changes.pinned != (pinned_at is not None):
        columns["pinned_at"] = timestamp() if changes.pinned else None
    if changes.marked_unread not in {UNSET, bool(marked_unread)}:
        columns["marked_unread"] = changes.marked_unread
    return columns


def mark_read(
    pid: str, room_id: str, user_id: str, seq: int, hide_private: bool
) -> Steps[Marked[ReadMark]]:
    """Move the read mark to *seq*."""
    changed = yield from _mark_read(pid, room_id, user_id, seq)
    rows = yield Query(
        f"SELECT {_RECEIPT}, {UNREAD} FROM {SOURCE} WHERE {_MEMBER}",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        yield from members.refuse_non_member(pid, room_id, hide_private=hide_private)
    read, delivered, told, unread = rows[0]
    receipts = {room_id: Receipt(user_id, read, delivered)} if changed and told else {}
    return Marked(ReadMark(read, unread), [room_id] if changed else [], receipts)


def mark_delivered(
    pid: str, room_id: str, user_id: str, seq: int, hide_private: bool
) -> Steps[Marked[int]]:
    """Move the delivery mark to *seq*."""
    changed = yield Query(
        f"UPDATE members SET delivered_seq = t.seq, {_GROWN} FROM {_TARGET}"
        " WHERE project_id = $1 AND room_id = $2 AND user_id = $3"
        " AND t.seq > last_read_seq AND t.seq > coalesce(delivered_seq, 0) RETURNING 1",
        pid,
        room_id,
        user_id,
        seq,
    )
    rows = yield Query(
        f"SELECT {_RECEIPT} FROM {SOURCE} WHERE {_MEMBER}",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        yield from members.refuse_non_member(pid, room_id, hide_private=hide_private)
    read, delivered, told = rows[0]
    receipts = {room_id: Receipt(user_id, read, delivered)} if changed and told else {}
    return Marked(delivered, [room_id] if changed else [], receipts)


def mark_rooms_read(pid: str, user_id: str, marks: dict[str, int]) -> Steps[Marked[None]]:
    """Move the read mark of each room. Raises NotFound, and changes nothing, if one of them is not the user's."""
    if not marks:
        return Marked(None, [], {})
    rows = yield Query(
        "SELECT room_id FROM members WHERE project_id = $1 AND user_id = $2"
        " AND room_id >= $3 AND room_id <= $4",
        pid,
        user_id,
        min(marks),
        max(marks),
    )
    if not marks.keys() <= {row[0] for row in rows}:
        yield from blocks.version_of(pid, user_id)
        raise NotFound.room()
    changed: list[str] = []
    for room_id in sorted(marks):
        moved = yield from _mark_read(pid, room_id, user_id, marks[room_id])
        changed += [room_id] if moved else []
    return Marked(None, changed, (yield from _receipts(pid, user_id, changed)))


def mark_next_rooms_read(pid: str, user_id: str, after_room: str) -> Steps[Marked[str | None]]:
    """Mark everything in the next ROOMS_AT_ONCE rooms after *after_room* as read.

    Answers the last of these rooms, None if there are no more.
    """
    rows = yield Query(
        "SELECT room_id FROM members WHERE project_id = $1 AND user_id = $2 AND room_id > $3"
        f" ORDER BY room_id LIMIT {ROOMS_AT_ONCE}",
        pid,
        user_id,
        after_room,
    )
    if not rows:
        return Marked(None, [], {})
    last = rows[-1][0]
    changed_rows = yield Query(
        f"UPDATE members SET last_read_seq = CASE WHEN r.last_seq > last_read_seq THEN r.last_seq"
        f" ELSE last_read_seq END, marked_unread = NULL, {_GROWN} FROM rooms r"
        " WHERE members.project_id = $1 AND members.user_id = $2 AND members.room_id > $3"
        " AND members.room_id <= $4 AND r.project_id = $1 AND r.id = members.room_id"
        " AND (members.marked_unread OR r.last_seq > members.last_read_seq)"
        " RETURNING members.room_id",
        pid,
        user_id,
        after_room,
        last,
    )
    more = len(rows) == ROOMS_AT_ONCE
    changed = [row[0] for row in changed_rows]
    receipts = yield from _receipts(pid, user_id, changed)
    return Marked(last if more else None, changed, receipts)


def totals(pid: str, user_id: str) -> Steps[Totals]:
    """What is unread in all rooms of the user. Raises NotFound."""
    yield from blocks.version_of(pid, user_id)
    rows = yield Query(_TOTALS, pid, user_id, timestamp())
    rooms, unread, mentions, direct = rows[0]
    return Totals(rooms, unread, mentions, direct)


def _mark_read(pid: str, room_id: str, user_id: str, seq: int) -> Steps[bool]:
    """Move the read mark forward to *seq*, and clear `marked_unread`. Returns whether that changed something."""
    changed = yield Query(
        "UPDATE members SET last_read_seq = CASE WHEN t.seq > last_read_seq THEN t.seq"
        f" ELSE last_read_seq END, marked_unread = NULL, {_GROWN} FROM {_TARGET}"
        " WHERE project_id = $1 AND room_id = $2 AND user_id = $3"
        " AND (t.seq > last_read_seq OR marked_unread) RETURNING 1",
        pid,
        room_id,
        user_id,
        seq,
    )
    return bool(changed)


def _receipts(pid: str, user_id: str, room_ids: Collection[str]) -> Steps[dict[str, Receipt]]:
    """The user's receipts in those of the rooms in which others may know them."""
    if not room_ids:
        return {}
    rows = yield Query(
        f"SELECT m.room_id, {_RECEIPT} FROM {SOURCE} WHERE m.project_id = $1 AND m.user_id = $2"
        " AND m.room_id >= $3 AND m.room_id <= $4",
        pid,
        user_id,
        min(room_ids),
        max(room_ids),
    )
    return {
        room_id: Receipt(user_id, read, delivered)
        for room_id, read, delivered, told in rows
        if told and room_id in room_ids
    }


def _refuse_stranger(pid: str, room_id: str) -> Steps[Any]:
    rows = yield Query(
        "SELECT 1 FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
    )
    raise NotFound.member() if rows else NotFound.room()
