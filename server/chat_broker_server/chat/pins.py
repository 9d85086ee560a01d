"""Transactions about pinned messages."""

from datetime import timedelta
from typing import Final

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps, Undo
from chat_broker_kit.text.timestamps import parse_timestamp
from chat_broker_server.chat import events, message_lock, message_parts, messages, roles
from chat_broker_server.chat.events import Event, Noted, SystemNote
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.message_lock import Actor, Locked
from chat_broker_server.chat.message_parts import IS_PINNED
from chat_broker_server.chat.models import Message, Reason
from chat_broker_server.errors import Conflict

MOST_PINS: Final = 50
"""Pinned messages of one room."""

# Not `IS NOT NULL`, for which SQLite does not take the index of pinned messages.
_PINNED = "project_id = $1 AND room_id = $2 AND pinned_at > ''"
_PINS = (
    f"SELECT {message_parts.COLUMNS} FROM {message_parts.SOURCE}"
    " WHERE g.project_id = $1 AND g.room_id = $2 AND g.pinned_at > '' AND g.seq >= $3"
    " ORDER BY g.pinned_at DESC"
)


def pin(
    pid: str, room_id: str, message_id: str, actor: Actor
) -> Steps[tuple[Message, list[Noted]]]:
    """Pin a message. One that is pinned stays as it is. Raises Conflict `too_many_pins`, `message_deleted`."""
    locked = yield from _locked(pid, room_id, message_id, actor)
    message_lock.refuse_deleted(locked.message)
    if locked.message.pinned_at is not UNSET:
        raise Undo((message_parts.without_hidden_quote(locked.message, locked.from_seq), []))
    rows = yield Query(
        f"SELECT count(*), max(pinned_at) FROM messages WHERE {_PINNED}", pid, room_id
    )
    count, newest = rows[0]
    if count >= MOST_PINS:
        raise Conflict("too_many_pins", f"A room has at most {MOST_PINS} pinned messages.")
    now = _later(timestamp(), newest)
    pinned_by = UNSET if actor.user_id is None else actor.user_id
    pinned = msgspec.structs.replace(
        locked.message, rev=locked.rev, pinned_at=now, pinned_by=pinned_by
    )
    yield from message_lock.store(
        pid,
        locked,
        "flags = $5, pinned_at = $6, pinned_by = $7",
        locked.flags | IS_PINNED,
        now,
        actor.user_id,
    )
    shown = message_parts.without_hidden_quote(pinned, locked.from_seq)
    noted: list[Noted] = [events.message_changed(pid, pinned, Reason("pinned", pinned_by))]
    if locked.settings.system_messages:
        noted.append(_note(pinned, actor))
    return shown, noted


def _note(pinned: Message, actor: Actor) -> SystemNote:
    by = {} if actor.user_id is None else {"by": actor.user_id}
    event = {"name": "pinned", **by, "message_id": pinned.id}
    return SystemNote(pinned.room_id, event, actor.user_id or pinned.user_id)


def unpin(
    pid: str, room_id: str, message_id: str, actor: Actor
) -> Steps[tuple[Message, Event | None]]:
    """End the pin of a message, if there is one."""
    locked = yield from _locked(pid, room_id, message_id, actor)
    if locked.message.pinned_at is UNSET:
        raise Undo((message_parts.without_hidden_quote(locked.message, locked.from_seq), None))
    unpinned = msgspec.structs.replace(
        locked.message, rev=locked.rev, pinned_at=UNSET, pinned_by=UNSET
    )
    yield from message_lock.store(
        pid, locked, "flags = $5, pinned_at = NULL, pinned_by = NULL", locked.flags & ~IS_PINNED
    )
    by = UNSET if actor.user_id is None else actor.user_id
    shown = message_parts.without_hidden_quote(unpinned, locked.from_seq)
    return shown, events.message_changed(pid, unpinned, Reason("unpinned", by))


def listed(pid: str, room_id: str, from_seq: int) -> Steps[list[Message]]:
    """The pinned messages from *from_seq* on, newest pin first. Raises NotFound."""
    yield from messages.last_seq(pid, room_id)
    rows = yield Query(_PINS, pid, room_id, from_seq)
    return (yield from message_parts.read(pid, room_id, rows, from_seq))


def _locked(pid: str, room_id: str, message_id: str, actor: Actor) -> Steps[Locked]:
    """The message, if *actor* may pin and unpin in the room. The API key that names no user may."""
    locked = yield from message_lock.lock(pid, room_id, message_id, actor)
    if actor.user_id is not None:
        role = yield from message_lock.require_acting_member(pid, room_id, locked, actor)
        roles.require(role, "pin", locked.settings, direct=locked.direct)
    return locked


def _later(now: str, newest: str | None) -> str:
    """*now*, or the next millisecond after *newest*: two pins have two times, which are their order."""
    if newest is None or newest < now:
        return now
    # Rounded to the millisecond, which a binary fraction of it may be just below.
    return timestamp((parse_timestamp(newest) + timedelta(microseconds=1500)).timestamp())
