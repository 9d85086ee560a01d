"""The beginning of a change of a message's state by someone other than its author: a reaction, a pin."""

from typing import Final, NamedTuple

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import changes, members, message_parts, mine
from chat_broker_server.chat.models import Message
from chat_broker_server.chat.room_settings import RoomSettings, from_text
from chat_broker_server.errors import Conflict, Forbidden, NotFound

# Takes the rev of the change, and on Postgres locks the room. A transaction that changes nothing ends with Undo.
_LOCK: Final = (
    f"UPDATE rooms SET {changes.NEXT_REV} WHERE project_id = $1 AND id = $2"
    " AND deleted_at IS NULL RETURNING rev, settings, kind"
)
_MESSAGE: Final = (
    f"SELECT m.role, {mine.FROM_SEQ}, w.status, {message_parts.COLUMNS} FROM {message_parts.SOURCE}"
    " LEFT JOIN members m ON m.project_id = g.project_id AND m.room_id = g.room_id"
    " AND m.user_id = $4"
    " LEFT JOIN users w ON w.project_id = g.project_id AND w.id = $4"
    " WHERE g.project_id = $1 AND g.id = $2 AND g.room_id = $3"
)


class Actor(NamedTuple):
    """Who changes the state of a message."""

    user_id: str | None
    """None for the API key that names no user."""
    by_token: bool
    """Whether the user asks, not the API key."""


class Locked(NamedTuple):
    """A message of a locked room, and what its change depends on."""

    rev: int
    """The room's rev that the change takes."""
    message: Message
    from_seq: int
    """The first message that the actor sees."""
    flags: int
    role: str | None
    """Of the actor; None if they are no member."""
    suspended: bool
    settings: RoomSettings
    direct: bool


def lock(pid: str, room_id: str, message_id: str, actor: Actor) -> Steps[Locked]:
    """Lock the room and read the message. Raises NotFound, also to a user who is no member or does not see it."""
    rooms = yield Query(_LOCK, pid, room_id)
    if not rooms:
        raise NotFound.room()
    rev, settings, kind = rooms[0]
    rows = yield Query(_MESSAGE, pid, message_id, room_id, actor.user_id or "")
    if not rows:
        if actor.by_token and actor.user_id is not None:
            yield from _refuse_stranger(pid, room_id, actor.user_id)
        raise NotFound.the_message()
    role, from_seq, status, *columns = rows[0]
    if actor.by_token and role is None:
        raise NotFound.room()
    (message,) = yield from message_parts.read(pid, room_id, (columns,))
    if message.seq < from_seq:
        raise NotFound.the_message()
    return Locked(
        rev,
        message,
        from_seq,
        columns[-1] or 0,
        role,
        status == "suspended",
        from_text(settings),
        direct=kind == "direct",
    )


def require_acting_member(pid: str, room_id: str, locked: Locked, actor: Actor) -> Steps[str]:
    """The role of the user in whose name the message is changed. Raises Forbidden if they are no member, or suspended."""
    if locked.role is None:
        yield from members.refuse_non_member(pid, room_id, hide_private=actor.by_token)
        raise NotFound.room()
    if locked.suspended:
        raise Forbidden("user_suspended", "This user is suspended.")
    return locked.role


def refuse_deleted(message: Message) -> None:
    """Raise Conflict for a message that was deleted."""
    if message.deleted_at is not None:
        raise Conflict("message_deleted", "The message was deleted.")


def store(pid: str, locked: Locked, assigned: str, *values: object) -> Steps[None]:
    """Record the change, and set columns of the message: *assigned* has parameters from $5 on."""
    message = locked.message
    yield from changes.record(
        pid, message.room_id, locked.rev, "message", message.id, seq=message.seq
    )
    yield Query(
        f"UPDATE messages SET rev = $4, {assigned}"
        " WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        message.room_id,
        message.seq,
        locked.rev,
        *values,
    )


def _refuse_stranger(pid: str, room_id: str, user_id: str) -> Steps[None]:
    if (yield from mine.role_and_from_seq(pid, room_id, user_id)) is None:
        raise NotFound.room()
