"""Transactions about memberships."""

from collections.abc import Sequence
from typing import Any

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import changes, direct, events, idempotency, user_settings
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import AddedMembers, IdempotencyKey, Member, Page
from chat_broker_server.errors import Forbidden, NotFound

_SHOWS_RECEIPTS = user_settings.SHOWS_RECEIPTS.format(user="u")
COLUMNS = (
    "m.room_id, m.user_id, u.username, u.display_name, m.role, m.joined_at,"
    f" CASE WHEN {_SHOWS_RECEIPTS} THEN m.last_read_seq END, m.rev"
)
SOURCE = "members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"


# A room with more members than this is large. It is small again with _SMALL_AGAIN members.
SMALL_ROOM = 100
_SMALL_AGAIN = 80
SMALL = f"coalesce(NOT r.light, r.member_count <= {SMALL_ROOM})"
"""The SQL condition that the room of the row `r` is small."""

_CHUNK = 50
_AMONG = (
    "SELECT user_id FROM members WHERE project_id = $1 AND room_id = $2"
    f" AND user_id IN ({', '.join(f'${n}' for n in range(3, _CHUNK + 3))})"
)
_LAST_SEQ = "SELECT last_seq FROM rooms WHERE project_id = $1 AND id = $2"
_NEXT_REV = "SELECT coalesce(rev, 0) + 1 FROM rooms WHERE project_id = $1 AND id = $2"


def from_row(row: Sequence[Any]) -> Member:
    """A member from `COLUMNS`."""
    return Member(*row) if row[-1] is not None else Member(*row[:-1])


def get(pid: str, room_id: str, user_id: str) -> Steps[Member | None]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE}"
        " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3",
        pid,
        room_id,
        user_id,
    )
    return from_row(rows[0]) if rows else None


def are_in(pid: str, room_id: str, user_ids: Sequence[str]) -> Steps[bool]:
    """Whether all of these users are members."""
    wanted = set(user_ids)
    for at in range(0, len(user_ids), _CHUNK):
        chunk = list(user_ids[at : at + _CHUNK])
        # Padded, so that there is one prepared statement.
        rows = yield Query(_AMONG, pid, room_id, *chunk, *chunk[-1:] * (_CHUNK - len(chunk)))
        wanted -= {row[0] for row in rows}
    return not wanted


def page(pid: str, room_id: str, number: int, limit: int) -> Steps[Page]:
    total = yield Query(
        "SELECT member_count FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
    )
    if not total:
        raise NotFound.room()
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE m.project_id = $1 AND m.room_id = $2"
        " ORDER BY m.user_id LIMIT $3 OFFSET $4",
        pid,
        room_id,
        limit,
        (number - 1) * limit,
    )
    return Page.of([from_row(row) for row in rows], number, limit, total[0][0])


def join(
    pid: str, room_id: str, user_id: str, *, may_enter_private: bool
) -> Steps[tuple[Member, Event | None]]:
    member = yield from get(pid, room_id, user_id)
    if member is not None:
        return member, None
    private = yield from lock_room(pid, room_id)
    if private and not may_enter_private:
        raise NotFound.room()
    yield from direct.refuse(pid, room_id)
    return (yield from _add(pid, room_id, user_id, "member"))


def put(
    pid: str, room_id: str, user_id: str, role: str | None
) -> Steps[tuple[Member, Event | None]]:
    yield from lock_room(pid, room_id)
    yield from direct.refuse(pid, room_id)
    member = yield from get(pid, room_id, user_id)
    if member is None:
        return (yield from _add(pid, room_id, user_id, role or "member"))
    if role is not None and role != member.role:
        rev = yield from changes.next_rev(pid, room_id)
        yield Query(
            "UPDATE members SET role = $4, rev = $5, version = coalesce(version, 0) + 1"
            " WHERE project_id = $1 AND room_id = $2 AND user_id = $3",
            pid,
            room_id,
            user_id,
            role,
            rev,
        )
        yield from changes.record(pid, room_id, rev, "member", user_id)
        member = msgspec.structs.replace(member, role=role, rev=rev)
        return member, events.member_updated(pid, member, rev)
    return member, None


def add_many(
    pid: str,
    room_id: str,
    user_ids: Sequence[str],
    role: str | None,
    idempotency_key: IdempotencyKey | None,
) -> Steps[tuple[AddedMembers, list[Event]]]:
    """Make all of these users members, or none. Raises NotFound `user_not_found`, which names the first missing."""
    yield from idempotency.claim(pid, idempotency_key)
    yield from lock_room(pid, room_id)
    yield from direct.refuse(pid, room_id)
    joined = yield from add(pid, room_id, user_ids, role or "member")
    new = {member.user_id for member, _ in joined}
    there = [user_id for user_id in dict.fromkeys(user_ids) if user_id not in new]
    result = AddedMembers([member for member, _ in joined], there)
    yield from idempotency.store(pid, idempotency_key, result)
    return result, [event for _, event in joined]


def add(
    pid: str, room_id: str, user_ids: Sequence[str], role: str
) -> Steps[list[tuple[Member, Event]]]:
    """Make those of these users members who are none, in a locked room. Raises NotFound, which names the first missing."""
    joined = []
    for user_id in dict.fromkeys(user_ids):
        if (yield from get(pid, room_id, user_id)) is not None:
            continue
        try:
            member, event = yield from _add(pid, room_id, user_id, role)
        except NotFound:
            raise NotFound("user_not_found", f"There is no user {user_id}.") from None
        if event is not None:
            joined.append((member, event))
    return joined


def leave(pid: str, room_id: str, user_id: str, *, hide_private: bool) -> Steps[list[Event]]:
    private = yield from lock_room(pid, room_id)
    member = yield from get(pid, room_id, user_id)
    if member is None and private and hide_private:
        raise NotFound.room()
    yield from direct.refuse(pid, room_id)
    if member is None:
        return []
    rev = yield from remove(pid, room_id, user_id)
    return [] if rev is None else [events.user_left(pid, member, rev)]


def remove(pid: str, room_id: str, user_id: str) -> Steps[int | None]:
    """End a membership in a locked room. Returns the rev of the change; None if there was no membership."""
    deleted = yield Query(
        "DELETE FROM members WHERE project_id = $1 AND room_id = $2 AND user_id = $3 RETURNING 1",
        pid,
        room_id,
        user_id,
    )
    return (yield from _count(pid, room_id, user_id, -1)) if deleted else None


def _count(pid: str, room_id: str, user_id: str, more: int) -> Steps[int]:
    """Add *more* to the member count of a locked room, and record the change of the member. Returns its rev."""
    rows = yield Query(
        f"UPDATE rooms SET member_count = member_count + $3, {changes.NEXT_REV},"
        f" light = CASE WHEN member_count + $3 > {SMALL_ROOM} THEN TRUE"
        f" WHEN member_count + $3 <= {_SMALL_AGAIN} THEN FALSE"
        f" ELSE coalesce(light, member_count > {SMALL_ROOM}) END"
        " WHERE project_id = $1 AND id = $2 RETURNING rev",
        pid,
        room_id,
        more,
    )
    rev = int(rows[0][0])
    yield from changes.record(pid, room_id, rev, "member", user_id)
    return rev


def lock_room(pid: str, room_id: str) -> Steps[bool]:
    """Lock the room until this transaction ends. Returns whether it is private; raises NotFound.

    Only Postgres needs the lock: SQLite has one writer.
    """
    private = yield from lock_existing(pid, room_id)
    if private is None:
        raise NotFound.room()
    return private


def lock_existing(pid: str, room_id: str) -> Steps[bool | None]:
    """`lock_room`, with None instead of NotFound."""
    rows = yield Query(
        "UPDATE rooms SET member_count = member_count"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING private",
        pid,
        room_id,
    )
    return bool(rows[0][0]) if rows else None


def refuse_non_member(pid: str, room_id: str, *, hide_private: bool) -> Steps[Any]:
    """Raise Forbidden `not_a_member`; or NotFound for no room, or for a private one with *hide_private*."""
    rows = yield Query(
        "SELECT private FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
    )
    if not rows or (rows[0][0] and hide_private):
        raise NotFound.room()
    raise Forbidden("not_a_member", "This user is not a member of the room.")


def _add(pid: str, room_id: str, user_id: str, role: str) -> Steps[tuple[Member, Event | None]]:
    rows = yield Query(
        "INSERT INTO members"
        " (project_id, room_id, user_id, role, joined_at, last_read_seq, rev, joined_rev)"
        f" SELECT project_id, $2, id, $4, $5, ({_LAST_SEQ}), ({_NEXT_REV}), ({_NEXT_REV}) FROM users"
        # The user row is locked until the COMMIT, so deleting the user then also ends this membership.
        " WHERE project_id = $1 AND id = $3 AND deleted_at IS NULL FOR SHARE"
        " ON CONFLICT (project_id, room_id, user_id) DO NOTHING RETURNING 1",
        pid,
        room_id,
        user_id,
        role,
        timestamp(),
    )
    rev = (yield from _count(pid, room_id, user_id, 1)) if rows else 0
    member = yield from get(pid, room_id, user_id)
    if member is None:
        raise NotFound.user()
    return member, events.user_joined(pid, member, rev) if rows else None
