"""Direct rooms: one for each set of users, who never change. A set of one is a room for that user's own notes."""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.models import PublicUser, Room
from chat_broker_server.errors import Conflict

_SAME_MEMBERS = "The members of a direct room stay as they are. A user hides it with `archived`."
_CHUNK = 50
_MARKS = ", ".join(f"${number}" for number in range(2, _CHUNK + 2))
_MEMBERS = (
    "SELECT m.room_id, u.id, u.username, u.display_name, u.avatar_url FROM members m"
    " JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"
    f" WHERE m.project_id = $1 AND m.room_id IN ({_MARKS})"
)


def key_of(user_ids: Iterable[str]) -> str:
    """What identifies the room of these users. No id has a space."""
    return hashlib.sha256(" ".join(sorted(set(user_ids))).encode()).hexdigest()


def nobody_there() -> Conflict:
    """The refusal of a message that nobody but its author would see."""
    return Conflict("nobody_there", "All others of this direct room are gone: nobody would read.")


def refuse(pid: str, room_id: str, why: str = _SAME_MEMBERS) -> Steps[None]:
    """Raise Conflict `direct_room` if this is one: by default, since its members never change."""
    rows = yield Query("SELECT kind FROM rooms WHERE project_id = $1 AND id = $2", pid, room_id)
    refuse_locked(rows[0][0] if rows else None, why)


def refuse_locked(kind: str | None, why: str = _SAME_MEMBERS) -> None:
    """`refuse`, for a room of this kind."""
    if kind == "direct":
        raise Conflict("direct_room", why)


def with_members(pid: str, rooms: Sequence[Room]) -> Steps[list[Room]]:
    """*rooms*, the direct ones among them with their members. For other rooms nothing is read."""
    room_ids = [room.id for room in rooms if room.kind == "direct"]
    if not room_ids:
        return list(rooms)
    found: dict[str, list[PublicUser]] = {room_id: [] for room_id in room_ids}
    for at in range(0, len(room_ids), _CHUNK):
        chunk = room_ids[at : at + _CHUNK]
        # Padded, so that there is one prepared statement.
        padded = chunk + chunk[-1:] * (_CHUNK - len(chunk))
        for room_id, *user in (yield Query(_MEMBERS, pid, *padded)):
            found[room_id].append(PublicUser(*user))
    for users in found.values():
        users.sort(key=lambda user: user.id)
    return [
        msgspec.structs.replace(room, members=found[room.id]) if room.id in found else room
        for room in rooms
    ]


def complete(pid: str, room: Room) -> Steps[Room]:
    """*room*, with its members if it is a direct one."""
    return (yield from with_members(pid, (room,)))[0]
