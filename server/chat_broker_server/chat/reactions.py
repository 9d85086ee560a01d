"""Transactions about reactions to messages.

`reaction_counts` holds what a page answers, `reactions` who reacted. Both are written in the transaction that takes the
change's rev, so what a message shows is always what was done. The rev is also the order of reactions: no clock is asked.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps, Undo
from chat_broker_server.chat import blocks, events, message_lock, message_parts, roles
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.message_lock import Actor, Locked
from chat_broker_server.chat.message_parts import HAS_REACTIONS, SHOWN_USERS
from chat_broker_server.chat.models import (
    CursorPage,
    Message,
    OwnReactions,
    Reaction,
    Reactor,
    Reason,
)
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import Conflict, NotFound

MOST_EMOJI: Final = 20
"""Different ones on a message."""

_OF_MESSAGE = "project_id = $1 AND room_id = $2 AND seq = $3"
_NEWEST = (
    f"SELECT user_id FROM reactions WHERE {_OF_MESSAGE} AND emoji = $4"
    f" ORDER BY rev DESC LIMIT {SHOWN_USERS}"
)
_COUNT = (
    "INSERT INTO reaction_counts (project_id, room_id, seq, emoji, count, first_rev, user_ids)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, room_id, seq, emoji)"
    " DO UPDATE SET count = excluded.count, user_ids = excluded.user_ids"
)
_REACTORS = (
    "SELECT e.rev, e.user_id, u.username, u.display_name, e.created_at FROM reactions e"
    " JOIN users u ON u.project_id = e.project_id AND u.id = e.user_id"
    " WHERE e.project_id = $1 AND e.room_id = $2 AND e.seq = $3 AND e.emoji = $4 AND e.rev < $5"
    " ORDER BY e.rev DESC LIMIT $6"
)
_OWN = (
    f"SELECT e.room_id, e.seq, e.emoji, e.rev FROM {message_parts.PAIRS} JOIN reactions e"
    " ON e.project_id = $1 AND e.room_id = v.column1 AND e.seq = v.column2"
    f" AND e.user_id = ${message_parts.AFTER_PAIRS}"
)
_Rev = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]

_encode = msgspec.json.Encoder().encode


class Wanted(NamedTuple):
    """Whose reactions to list."""

    emoji: str | None = None
    """The one emoji to list; None for reactions with any."""
    cursor: str | None = None
    limit: int = 50


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last reaction of a page: that of an emoji (by its first use) with this rev."""

    first_rev: _Rev
    rev: _Rev


def add(
    pid: str, room_id: str, message_id: str, emoji: str, actor: Actor
) -> Steps[tuple[list[Reaction], Event | None]]:
    """React as *actor*, who is a user. A second time changes nothing.

    Raises Conflict `too_many_reactions` for one emoji too many, `message_deleted`.
    """
    locked = yield from message_lock.lock(pid, room_id, message_id, actor)
    role = yield from message_lock.require_acting_member(pid, room_id, locked, actor)
    roles.require(role, "react", locked.settings)
    message = locked.message
    message_lock.refuse_deleted(message)
    if locked.direct:
        yield from blocks.refuse_in_direct_room(pid, room_id, actor.user_id or "")
    present = _reactions_of(message)
    earlier = next((each for each in present if each.emoji == emoji), None)
    if earlier is None and len(present) >= MOST_EMOJI:
        raise Conflict(
            "too_many_reactions", f"A message takes at most {MOST_EMOJI} different reactions."
        )
    user_id = actor.user_id or ""
    added = yield Query(
        "INSERT INTO reactions (project_id, room_id, seq, user_id, emoji, rev, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (project_id, room_id, seq, user_id, emoji) DO NOTHING RETURNING 1",
        pid,
        room_id,
        message.seq,
        user_id,
        emoji,
        locked.rev,
        timestamp(),
    )
    if not added:
        raise Undo((present, None))
    if earlier is None:
        reactions = [*present, Reaction(emoji, 1, [user_id])]
    else:
        shown = [user_id, *earlier.user_ids][:SHOWN_USERS]
        reactions = _with(present, Reaction(emoji, earlier.count + 1, shown))
    yield from _count(pid, locked, next(each for each in reactions if each.emoji == emoji))
    return (yield from _changed(pid, locked, reactions, Reason("reaction", user_id, emoji, True)))


def remove(
    pid: str, room_id: str, message_id: str, emoji: str, actor: Actor
) -> Steps[tuple[list[Reaction], Event | None]]:
    """Take a reaction back. Changes nothing if there is none. The API key may do so for who is no member any more."""
    locked = yield from message_lock.lock(pid, room_id, message_id, actor)
    if actor.by_token:
        yield from message_lock.require_acting_member(pid, room_id, locked, actor)
    if locked.role is not None:
        roles.require(locked.role, "react")
    message = locked.message
    present = _reactions_of(message)
    user_id = actor.user_id or ""
    removed = yield Query(
        f"DELETE FROM reactions WHERE {_OF_MESSAGE} AND user_id = $4 AND emoji = $5 RETURNING 1",
        pid,
        room_id,
        message.seq,
        user_id,
        emoji,
    )
    if not removed:
        raise Undo((present, None))
    earlier = next(each for each in present if each.emoji == emoji)
    if earlier.count == 1:
        reactions = [each for each in present if each.emoji != emoji]
        yield Query(
            f"DELETE FROM reaction_counts WHERE {_OF_MESSAGE} AND emoji = $4",
            pid,
            room_id,
            message.seq,
            emoji,
        )
    else:
        shown = [each for each in earlier.user_ids if each != user_id]
        if earlier.count > SHOWN_USERS:
            rows = yield Query(_NEWEST, pid, room_id, message.seq, emoji)
            shown = [row[0] for row in rows]
        left = Reaction(emoji, earlier.count - 1, shown)
        reactions = _with(present, left)
        yield from _count(pid, locked, left)
    return (yield from _changed(pid, locked, reactions, Reason("reaction", user_id, emoji, False)))


def forget(pid: str, room_id: str, seq: int) -> Steps[None]:
    """Remove all reactions of a message that has some, for good. `messages.flags` is the caller's to clear."""
    yield Query(f"DELETE FROM reactions WHERE {_OF_MESSAGE}", pid, room_id, seq)
    yield Query(f"DELETE FROM reaction_counts WHERE {_OF_MESSAGE}", pid, room_id, seq)


def page(
    pid: str, room_id: str, message_id: str, wanted: Wanted, from_seq: int
) -> Steps[CursorPage]:
    """Who reacted, by first use of the emoji, of each the newest first. Raises NotFound, BadInput for a foreign cursor."""
    begin = None if wanted.cursor is None else decoded("cursor", wanted.cursor, _Place)
    seq = yield from _seq_of(pid, room_id, message_id, from_seq)
    rows = yield Query(
        f"SELECT first_rev, emoji FROM reaction_counts WHERE {_OF_MESSAGE}", pid, room_id, seq
    )
    items: list[Reactor] = []
    last = begin or _Place(0, 0)
    for first_rev, emoji in sorted(tuple(row) for row in rows):
        if wanted.emoji not in {None, emoji} or (begin is not None and first_rev < begin.first_rev):
            continue
        before = begin.rev if begin is not None and first_rev == begin.first_rev else MAX_SEQ
        left = wanted.limit - len(items)
        found = yield Query(_REACTORS, pid, room_id, seq, emoji, before, left + 1)
        fitting = found[:left]
        items += [Reactor(emoji, *row[1:]) for row in fitting]
        if fitting:
            last = _Place(first_rev, fitting[-1][0])
        if len(fitting) < len(found):
            return CursorPage(items, wanted.limit, next_cursor=encoded(last), has_more=True)
    return CursorPage(items, wanted.limit, next_cursor=None, has_more=False)


def own(pid: str, user_id: str, messages: Iterable[Message]) -> Steps[OwnReactions]:
    """The user's reactions, by message id, to those of *messages* that do not show all their users."""
    crowded = {
        (message.room_id, message.seq): message.id for message in messages if is_crowded(message)
    }
    if not crowded:
        return {}
    rows = yield from message_parts.of_each(_OWN, pid, list(crowded), user_id)
    found: OwnReactions = {}
    for room_id, seq, emoji, _ in sorted(rows, key=lambda row: row[-1]):
        found.setdefault(crowded[room_id, seq], []).append(emoji)
    return found


def is_crowded(message: Message) -> bool:
    """Whether a reaction of the message has more users than it shows."""
    return message.reactions is not UNSET and any(
        each.count > SHOWN_USERS for each in message.reactions
    )


def _reactions_of(message: Message) -> list[Reaction]:
    return [] if message.reactions is UNSET else message.reactions


def _with(present: Sequence[Reaction], changed: Reaction) -> list[Reaction]:
    return [changed if each.emoji == changed.emoji else each for each in present]


def _count(pid: str, locked: Locked, reaction: Reaction) -> Steps[None]:
    yield Query(
        _COUNT,
        pid,
        locked.message.room_id,
        locked.message.seq,
        reaction.emoji,
        reaction.count,
        locked.rev,
        _encode(reaction.user_ids).decode(),
    )


def _changed(
    pid: str, locked: Locked, reactions: list[Reaction], reason: Reason
) -> Steps[tuple[list[Reaction], Event]]:
    flags = locked.flags | HAS_REACTIONS if reactions else locked.flags & ~HAS_REACTIONS
    yield from message_lock.store(pid, locked, "flags = $5", flags)
    message = msgspec.structs.replace(locked.message, rev=locked.rev, reactions=reactions or UNSET)
    return reactions, events.message_changed(pid, message, reason)


def _seq_of(pid: str, room_id: str, message_id: str, from_seq: int) -> Steps[int]:
    rows = yield Query(
        "SELECT g.seq FROM rooms r LEFT JOIN messages g"
        " ON g.project_id = r.project_id AND g.id = $3 AND g.room_id = r.id AND g.seq >= $4"
        " WHERE r.project_id = $1 AND r.id = $2 AND r.deleted_at IS NULL",
        pid,
        room_id,
        message_id,
        from_seq,
    )
    if not rows:
        raise NotFound.room()
    if rows[0][0] is None:
        raise NotFound.the_message()
    return int(rows[0][0])
