"""Rooms that are there once, however many ask for them at once: direct rooms, and rooms by the app's own id."""

from collections.abc import Sequence
from typing import NamedTuple

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import blocks, direct, members, rooms
from chat_broker_server.chat.events import Noted
from chat_broker_server.chat.models import Room, RoomDraft

Name = tuple[str, str]
"""A column with a unique index, and its value."""


class Ensured(NamedTuple):
    room: Room
    created: bool


def id_of(pid: str, external_id: str) -> Steps[str | None]:
    """The id of the room with the app's own *external_id*."""
    return (yield from _find(pid, ("external_id", external_id)))


def existing(pid: str, name: Name, user_ids: Sequence[str]) -> Steps[Room | None]:
    """The room, if it is there with all of these users in it: then there is nothing to write."""
    room_id = yield from _find(pid, name)
    if room_id is None:
        return None
    if not (yield from members.are_in(pid, room_id, user_ids)):
        return None
    return (yield from rooms.get(pid, room_id))


def direct_room(
    pid: str, user_ids: Sequence[str], created_by: str
) -> Steps[tuple[Ensured, list[Noted]]]:
    """The room of exactly these users. Raises NotFound `user_not_found`.

    Raises Forbidden `blocked`, unless it is there, if its creator blocks one of the others, or one of them the creator.
    """
    draft = RoomDraft(name="", created_by=created_by, private=True, member_ids=list(user_ids))
    key = direct.key_of(user_ids)
    places = {user_id: f"user_ids[{number}]" for number, user_id in enumerate(user_ids)}
    yield from rooms.require_users(pid, places)
    while True:
        room = yield from rooms.insert(pid, draft, direct_key=key)
        if room is not None:
            others = [user_id for user_id in user_ids if user_id != created_by]
            yield from blocks.refuse_blocked(pid, created_by, others)
            return Ensured((yield from direct.complete(pid, room)), True), []
        room_id = yield from _find(pid, ("direct_key", key))
        if room_id is not None:
            return Ensured((yield from rooms.get(pid, room_id)), False), []


def external_room(pid: str, draft: RoomDraft) -> Steps[tuple[Ensured, list[Noted]]]:
    """The room with the draft's external id, and all users of the draft in it; and who became a member of it.

    Raises NotFound `user_not_found`.
    """
    user_ids = rooms.users_of(draft)
    yield from rooms.require_users(pid, rooms.places_of(draft))
    while True:
        room = yield from rooms.insert(pid, draft)
        if room is not None:
            return Ensured(room, True), []
        room_id = yield from _find(pid, ("external_id", draft.external_id or ""))
        locked = None
        if room_id is not None:
            locked = yield from members.lock_existing(pid, room_id)
        if room_id is not None and locked is not None:
            break
    _, noted = yield from members.add(pid, room_id, user_ids, "member", locked)
    return Ensured((yield from rooms.get(pid, room_id)), False), noted


def _find(pid: str, name: Name) -> Steps[str | None]:
    column, value = name
    rows = yield Query(
        f"SELECT id FROM rooms WHERE project_id = $1 AND {column} = $2 AND deleted_at IS NULL",
        pid,
        value,
    )
    return rows[0][0] if rows else None
