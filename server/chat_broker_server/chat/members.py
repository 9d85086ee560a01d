"""Transactions about memberships.

A room of the kind `room` that has members has an owner: whoever goes or gives up a role, it is so at the COMMIT. All that
changes who is in a room, and as what, happens under the room's lock.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import (
    changes,
    direct,
    events,
    idempotency,
    room_settings,
    user_settings,
)
from chat_broker_server.chat.events import MineChanged, Noted, SizeNote, SystemNote
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import AddedMembers, IdempotencyKey, Member, Page, RoomUser
from chat_broker_server.chat.roles import outranks, owner_only, require
from chat_broker_server.chat.room_settings import RoomSettings
from chat_broker_server.errors import Conflict, Forbidden, NotFound

_SHOWS_RECEIPTS = user_settings.SHOWS_RECEIPTS.format(user="u")
COLUMNS = (
    "m.room_id, m.user_id, u.username, u.display_name, m.role, m.joined_at,"
    f" CASE WHEN {_SHOWS_RECEIPTS} THEN m.last_read_seq END, m.rev, u.avatar_url"
)
SOURCE = "members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"


# A room with more members than this is large. It is small again with _SMALL_AGAIN members.
SMALL_ROOM = 100
_SMALL_AGAIN = 80
SMALL = f"coalesce(NOT r.light, r.member_count <= {SMALL_ROOM})"
"""The SQL condition that the room of the row `r` is small."""


def is_small(count: int, *, was_small: bool) -> bool:
    """Whether a room is small that has *count* members now."""
    return count <= (SMALL_ROOM if was_small else _SMALL_AGAIN)


_CHUNK = 50
_AMONG = (
    "SELECT user_id FROM members WHERE project_id = $1 AND room_id = $2"
    f" AND user_id IN ({', '.join(f'${n}' for n in range(3, _CHUNK + 3))})"
)
_LAST_SEQ = "SELECT last_seq FROM rooms WHERE project_id = $1 AND id = $2"
_NEXT_REV = "SELECT coalesce(rev, 0) + 1 FROM rooms WHERE project_id = $1 AND id = $2"


def from_row(row: Sequence[Any]) -> Member:
    """A member from `COLUMNS`."""
    values = list(row)
    values[-2:] = (UNSET if value is None else value for value in row[-2:])
    return Member(*values)


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


def get_whole(pid: str, room_id: str, user_id: str) -> Steps[Member | None]:
    """`get`, with what is the member's own: `from_seq`."""
    rows = yield Query(
        f"SELECT {COLUMNS}, m.from_seq FROM {SOURCE}"
        " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        return None
    *columns, from_seq = rows[0]
    member = from_row(columns)
    return member if from_seq is None else msgspec.structs.replace(member, from_seq=from_seq)


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


class LockedRoom(NamedTuple):
    """What a room is while it is locked."""

    private: bool
    kind: str
    member_count: int
    settings: RoomSettings
    small: bool = True

    def with_more(self, count: int) -> "LockedRoom":
        """With so many members more."""
        total = self.member_count + count
        return self._replace(member_count=total, small=is_small(total, was_small=self.small))


def join(
    pid: str, room_id: str, user_id: str, *, may_enter_private: bool
) -> Steps[tuple[Member, list[Noted]]]:
    member = yield from get(pid, room_id, user_id)
    if member is not None:
        return member, []
    room = yield from lock(pid, room_id)
    if room.private and not may_enter_private:
        raise NotFound.room()
    direct.refuse_locked(room.kind)
    return (yield from _add(pid, room_id, user_id, "member", room))


def put(
    pid: str, room_id: str, user_id: str, role: str | None, by: str | None = None
) -> Steps[tuple[Member, list[Noted]]]:
    """Make the user a member with *role*. *by* is the member who does it, None for the API key.

    Raises Forbidden `owner_only`, and Conflict `last_owner` if the room would be left without one.
    """
    room = yield from _lock_to_add(pid, room_id, role, by)
    member = yield from get(pid, room_id, user_id)
    if member is None:
        return (yield from _add(pid, room_id, user_id, role or "member", room, by))
    if role is None or role == member.role:
        return member, []
    if member.role == "owner" and room.kind == "room":
        others = yield Query(
            "SELECT 1 FROM members WHERE project_id = $1 AND room_id = $2"
            " AND user_id <> $3 AND role = 'owner' LIMIT 1",
            pid,
            room_id,
            user_id,
        )
        if not others:
            raise Conflict(
                "last_owner", "A room needs an owner: make somebody else the owner first."
            )
    return (yield from _set_role(pid, member, role, room, by))


def _lock_to_add(pid: str, room_id: str, role: str | None, by: str | None) -> Steps[LockedRoom]:
    """Lock a room to which *by* may add members with *role*, or whose members *by* may give it."""
    room = yield from lock(pid, room_id)
    actor = None if by is None else (yield from role_of(pid, room_id, by))
    direct.refuse_locked(room.kind)
    if actor is not None:
        require(actor, "add_member" if role is None else "set_role", room.settings)
    return room


class NewMembers(NamedTuple):
    """Users to make members with *role* (None: `member`). *by* is the member who does it, None for the API key."""

    user_ids: Sequence[str]
    role: str | None = None
    by: str | None = None


def add_many(
    pid: str, room_id: str, new_members: NewMembers, idempotency_key: IdempotencyKey | None
) -> Steps[tuple[AddedMembers, list[Noted]]]:
    """Make all of these users members, or none. Raises NotFound `user_not_found`, which names the first missing."""
    user_ids, role, by = new_members
    yield from idempotency.claim(pid, idempotency_key)
    room = yield from _lock_to_add(pid, room_id, role, by)
    joined, noted = yield from add(pid, room_id, user_ids, role or "member", room, by)
    new = {member.user_id for member in joined}
    there = [user_id for user_id in dict.fromkeys(user_ids) if user_id not in new]
    result = AddedMembers(joined, there)
    yield from idempotency.store(pid, idempotency_key, result)
    return result, noted


def add(
    pid: str,
    room_id: str,
    user_ids: Sequence[str],
    role: str,
    room: LockedRoom,
    by: str | None = None,
) -> Steps[tuple[list[Member], list[Noted]]]:
    """Make those of these users members who are none, in a locked room. Raises NotFound, which names the first missing."""
    joined: list[Member] = []
    happened: list[Noted] = []
    for user_id in dict.fromkeys(user_ids):
        if (yield from get(pid, room_id, user_id)) is not None:
            continue
        try:
            member, more = yield from _add(pid, room_id, user_id, role, room, by)
        except NotFound:
            number = list(user_ids).index(user_id)
            raise NotFound.named_user(f"user_ids[{number}]", user_id) from None
        if more:
            room = room.with_more(1)
            joined.append(member)
            happened += more
    return joined, happened


def role_of(pid: str, room_id: str, user_id: str) -> Steps[str]:
    """The member's role. Raises NotFound for a user who is no member: to them the room does not exist."""
    rows = yield Query(
        "SELECT role FROM members WHERE project_id = $1 AND room_id = $2 AND user_id = $3",
        pid,
        room_id,
        user_id,
    )
    if not rows:
        raise NotFound.room()
    return str(rows[0][0])


def leave(
    pid: str,
    room_id: str,
    user_id: str,
    *,
    hide_private: bool,
    removed: bool = False,
    by: str | None = None,
) -> Steps[list[Noted]]:
    """End a membership: by the user's own act, or *removed* by the member *by* (None: by the API key)."""
    room = yield from lock(pid, room_id)
    actor = None if by in {None, user_id} else (yield from role_of(pid, room_id, str(by)))
    member = yield from get(pid, room_id, user_id)
    if member is None and room.private and hide_private:
        raise NotFound.room()
    direct.refuse_locked(room.kind)
    if actor is not None:
        require(actor, "remove_member", room.settings)
        if member is not None and not outranks(actor, member.role):
            raise owner_only()
    if member is None:
        return []
    return (yield from remove(pid, room_id, member, room, Removal(removed, by)))


class Removal(NamedTuple):
    """How a membership ends: by the user's own act, or *removed*, maybe by the member *by*."""

    removed: bool = False
    by: str | None = None


def remove(
    pid: str,
    room_id: str,
    member: Member | RoomUser,
    room: LockedRoom,
    how: Removal,
) -> Steps[list[Noted]]:
    """End the membership in a locked room, if there is one, and see to it that the room keeps an owner."""
    deleted = yield Query(
        "DELETE FROM members WHERE project_id = $1 AND room_id = $2 AND user_id = $3 RETURNING role",
        pid,
        room_id,
        member.user_id,
    )
    if not deleted:
        return []
    rev = yield from _count(pid, room_id, member.user_id, -1)
    happened: list[Noted] = [events.user_left(pid, member, rev)]
    own = not how.removed or how.by == member.user_id
    name = "member_left" if own else "member_removed"
    happened += _size_note(room_id, room, -1)
    happened += _note(room_id, room, name, member.user_id, None if own else how.by)
    if deleted[0][0] == "owner" and room.kind == "room":
        heir = yield from _heir(pid, room_id)
        if heir is not None and heir.role != "owner":
            _, more = yield from _set_role(pid, heir, "owner", room)
            happened += more
    return happened


def _heir(pid: str, room_id: str) -> Steps[Member | None]:
    """Who is the owner if nobody else is: the member of the highest role, the longest-standing of these."""
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE}"
        " WHERE m.project_id = $1 AND m.room_id = $2"
        " ORDER BY CASE m.role WHEN 'owner' THEN 0 WHEN 'moderator' THEN 1 WHEN 'member' THEN 2"
        " ELSE 3 END, m.joined_at, m.user_id LIMIT 1",
        pid,
        room_id,
    )
    return from_row(rows[0]) if rows else None


def _note(
    room_id: str,
    room: LockedRoom,
    name: str,
    user_id: str,
    by: str | None = None,
    **more: str,
) -> list[SystemNote]:
    """What the room's system message tells, if it has such messages."""
    if not room.settings.system_messages:
        return []
    event = {"name": name, "user_id": user_id, **more}
    if by is not None:
        event["by"] = by
    return [SystemNote(room_id, event, by or user_id)]


def _size_note(room_id: str, room: LockedRoom, more: int) -> list[SizeNote]:
    """What tells that the room is large or small with so many members more, if it was not before."""
    return [] if room.with_more(more).small == room.small else [SizeNote(room_id)]


def _set_role(
    pid: str, member: Member, role: str, room: LockedRoom, by: str | None = None
) -> Steps[tuple[Member, list[Noted]]]:
    """Change the role of a member of a locked room."""
    room_id, user_id = member.room_id, member.user_id
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
    updated = events.member_updated(pid, member, rev)
    note = _note(room_id, room, "role_changed", user_id, by, role=role)
    return member, [updated, MineChanged(pid, user_id, [room_id]), *note]


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


def lock(pid: str, room_id: str) -> Steps[LockedRoom]:
    """Lock the room until this transaction ends. Raises NotFound.

    Only Postgres needs the lock: SQLite has one writer.
    """
    room = yield from lock_existing(pid, room_id)
    if room is None:
        raise NotFound.room()
    return room


def lock_existing(pid: str, room_id: str) -> Steps[LockedRoom | None]:
    """`lock`, with None instead of NotFound."""
    rows = yield Query(
        "UPDATE rooms SET member_count = member_count"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL"
        " RETURNING private, coalesce(kind, 'room'), member_count, settings,"
        f" {SMALL.replace('r.', '')}",
        pid,
        room_id,
    )
    if not rows:
        return None
    private, kind, member_count, settings, small = rows[0]
    read = room_settings.from_text(settings)
    return LockedRoom(bool(private), kind, member_count, read, bool(small))


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


def _add(
    pid: str, room_id: str, user_id: str, role: str, room: LockedRoom, by: str | None = None
) -> Steps[tuple[Member, list[Noted]]]:
    """Add the user, if they are no member, to a locked room. The first member of an empty room owns it."""
    if room.kind == "room" and room.member_count == 0:
        role = "owner"
    rows = yield Query(
        "INSERT INTO members"
        " (project_id, room_id, user_id, role, joined_at, last_read_seq, from_seq, rev, joined_rev)"
        f" SELECT project_id, $2, id, $4, $5, ({_LAST_SEQ}), CASE WHEN $6 THEN ({_LAST_SEQ}) + 1 END,"
        f" ({_NEXT_REV}), ({_NEXT_REV}) FROM users"
        # The user row is locked until the COMMIT, so deleting the user then also ends this membership.
        " WHERE project_id = $1 AND id = $3 AND deleted_at IS NULL FOR SHARE"
        " ON CONFLICT (project_id, room_id, user_id) DO NOTHING RETURNING 1",
        pid,
        room_id,
        user_id,
        role,
        timestamp(),
        room.settings.history == "joined",
    )
    rev = (yield from _count(pid, room_id, user_id, 1)) if rows else 0
    member = yield from get(pid, room_id, user_id)
    if member is None:
        raise NotFound.user()
    if not rows:
        return member, []
    note = _note(room_id, room, "member_joined", user_id, by)
    return member, [events.user_joined(pid, member, rev), *_size_note(room_id, room, 1), *note]
