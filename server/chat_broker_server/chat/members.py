"""Transactions about memberships."""

from typing import Any

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import Member, Page, RoomUser
from chat_broker_server.errors import Forbidden, NotFound

COLUMNS = "m.room_id, m.user_id, u.username, u.display_name, m.role, m.joined_at, m.last_read_seq"
SOURCE = "members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"


def event(name: str, pid: str, user: RoomUser | Member) -> Event:
    """The event `userJoined` or `userLeft`."""
    payload = RoomUser(user.room_id, user.user_id, user.username, user.display_name)
    return Event(name, pid, user.room_id, msgspec.json.encode(payload), user_id=user.user_id)


def get(pid: str, room_id: str, user_id: str) -> Steps[Member | None]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE}"
        " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3",
        pid,
        room_id,
        user_id,
    )
    return Member(*rows[0]) if rows else None


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
    return Page.of([Member(*row) for row in rows], number, limit, total[0][0])


def join(
    pid: str, room_id: str, user_id: str, *, may_enter_private: bool
) -> Steps[tuple[Member, Event | None]]:
    member = yield from get(pid, room_id, user_id)
    if member is not None:
        return member, None
    private = yield from lock_room(pid, room_id)
    if private and not may_enter_private:
        raise NotFound.room()
    return (yield from _add(pid, room_id, user_id, "member"))


def put(
    pid: str, room_id: str, user_id: str, role: str | None
) -> Steps[tuple[Member, Event | None]]:
    yield from lock_room(pid, room_id)
    member = yield from get(pid, room_id, user_id)
    if member is None:
        return (yield from _add(pid, room_id, user_id, role or "member"))
    if role is not None and role != member.role:
        yield Query(
            "UPDATE members SET role = $4 WHERE project_id = $1 AND room_id = $2 AND user_id = $3",
            pid,
            room_id,
            user_id,
            role,
        )
        member = msgspec.structs.replace(member, role=role)
    return member, None


def leave(pid: str, room_id: str, user_id: str, *, hide_private: bool) -> Steps[list[Event]]:
    private = yield from lock_room(pid, room_id)
    member = yield from get(pid, room_id, user_id)
    if member is None:
        if private and hide_private:
            raise NotFound.room()
        return []
    yield from remove(pid, room_id, user_id)
    return [event("userLeft", pid, member)]


def remove(pid: str, room_id: str, user_id: str) -> Steps[bool]:
    """End a membership in a locked room. False if there was none."""
    deleted = yield Query(
        "DELETE FROM members WHERE project_id = $1 AND room_id = $2 AND user_id = $3 RETURNING 1",
        pid,
        room_id,
        user_id,
    )
    if deleted:
        yield Query(
            "UPDATE rooms SET member_count = member_count - 1 WHERE project_id = $1 AND id = $2",
            pid,
            room_id,
        )
    return bool(deleted)


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
        "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
        " SELECT project_id, $2, id, $4, $5 FROM users"
        # The user row is locked until the COMMIT, so deleting the user then also ends this membership.
        " WHERE project_id = $1 AND id = $3 AND deleted_at IS NULL FOR SHARE"
        " ON CONFLICT (project_id, room_id, user_id) DO NOTHING RETURNING 1",
        pid,
        room_id,
        user_id,
        role,
        timestamp(),
    )
    if rows:
        yield Query(
            "UPDATE rooms SET member_count = member_count + 1 WHERE project_id = $1 AND id = $2",
            pid,
            room_id,
        )
    member = yield from get(pid, room_id, user_id)
    if member is None:
        raise NotFound.user()
    return member, event("userJoined", pid, member) if rows else None
