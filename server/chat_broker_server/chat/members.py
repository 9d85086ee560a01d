"""Transactions about who is in which room."""

from typing import Any, NamedTuple

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.identity import instant
from chat_broker_server.chat.models import Member, Page, PersonInRoom
from chat_broker_server.errors import Forbidden, NotFound

COLUMNS = "m.room_id, m.user_id, u.username, u.display_name, m.role, m.joined_at, m.last_read_seq"
SOURCE = "members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"


class Person(NamedTuple):
    """Who somebody is, as others in the room see them."""

    user_id: str
    username: str
    display_name: str | None


def event(name: str, pid: str, room_id: str, person: Person) -> Event:
    """userJoined or userLeft."""
    payload = msgspec.json.encode(PersonInRoom(room_id, *person))
    return Event(name, pid, room_id, payload, user_id=person.user_id)


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
    there = yield from get(pid, room_id, user_id)
    if there is not None:
        return there, None
    private = yield from lock_room(pid, room_id)
    if private and not may_enter_private:
        raise NotFound.room()
    return (yield from _add(pid, room_id, user_id, "member"))


def put(
    pid: str, room_id: str, user_id: str, role: str | None
) -> Steps[tuple[Member, Event | None]]:
    yield from lock_room(pid, room_id)
    there = yield from get(pid, room_id, user_id)
    if there is None:
        return (yield from _add(pid, room_id, user_id, role or "member"))
    if role is not None and role != there.role:
        yield Query(
            "UPDATE members SET role = $4 WHERE project_id = $1 AND room_id = $2 AND user_id = $3",
            pid,
            room_id,
            user_id,
            role,
        )
        there = msgspec.structs.replace(there, role=role)
    return there, None


def leave(pid: str, room_id: str, user_id: str, *, hide_private: bool) -> Steps[list[Event]]:
    private = yield from lock_room(pid, room_id)
    there = yield from get(pid, room_id, user_id)
    if there is None:
        if private and hide_private:
            raise NotFound.room()
        return []
    yield from drop(pid, room_id, user_id)
    return [event("userLeft", pid, room_id, Person(*there_person(there)))]


def there_person(member: Member) -> tuple[str, str, str | None]:
    """Who a member is, without what they are in the room."""
    return member.user_id, member.username, member.display_name


def drop(pid: str, room_id: str, user_id: str) -> Steps[bool]:
    """End a membership in a room that is locked; answers whether there was one."""
    gone = yield Query(
        "DELETE FROM members WHERE project_id = $1 AND room_id = $2 AND user_id = $3 RETURNING 1",
        pid,
        room_id,
        user_id,
    )
    if gone:
        yield Query(
            "UPDATE rooms SET member_count = member_count - 1 WHERE project_id = $1 AND id = $2",
            pid,
            room_id,
        )
    return bool(gone)


def lock_room(pid: str, room_id: str) -> Steps[bool]:
    """Make others who change this room wait (on Postgres; on SQLite they wait already).
    Answers whether the room is private; raises NotFound."""
    private = yield from lock_if_there(pid, room_id)
    if private is None:
        raise NotFound.room()
    return private


def lock_if_there(pid: str, room_id: str) -> Steps[bool | None]:
    """`lock_room` that answers None for a room that does not exist."""
    rows = yield Query(
        "UPDATE rooms SET member_count = member_count"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING private",
        pid,
        room_id,
    )
    return bool(rows[0][0]) if rows else None


def outsider(pid: str, room_id: str, *, hide_private: bool) -> Steps[Any]:
    """Raise what somebody hears who is not a member: NotFound, or Forbidden `not_a_member`."""
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
        # Held until this is committed: whoever deletes the user then finds the membership, and ends it.
        " WHERE project_id = $1 AND id = $3 AND deleted_at IS NULL FOR SHARE"
        " ON CONFLICT (project_id, room_id, user_id) DO NOTHING RETURNING 1",
        pid,
        room_id,
        user_id,
        role,
        instant(),
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
    joined = event("userJoined", pid, room_id, Person(*there_person(member))) if rows else None
    return member, joined
