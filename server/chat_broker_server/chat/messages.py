"""Transactions about messages and read marks."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from chat_broker_kit.database.transactions import Query, Rows, Shortcut, Steps, Undo
from chat_broker_kit.text.timestamps import parse_timestamp
from chat_broker_server.chat import (
    blocks,
    changes,
    direct,
    events,
    idempotency,
    members,
    mentions,
    message_parts,
    mine,
    reactions,
    roles,
    room_settings,
)
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.chat.mentions import Named
from chat_broker_server.chat.message_parts import (
    COLUMNS,
    HAS_REACTIONS,
    MENTIONS,
    MENTIONS_ROOM,
    REPLY,
    SILENT,
    SOURCE,
    SYSTEM,
    UNCOUNTED,
    read,
)
from chat_broker_server.chat.models import (
    IdempotencyKey,
    Message,
    Page,
    Quote,
)
from chat_broker_server.database.rows import metadata_text
from chat_broker_server.errors import Changed, Conflict, Forbidden, NotFound

# created_at never decreases within a room, even if clocks of servers differ.
_NEXT_SEQ = (
    "last_seq = last_seq + 1, message_count = message_count + 1, last_message_at ="
    " CASE WHEN last_message_at > $3 THEN last_message_at ELSE $3 END"
)
_NEXT = f"{_NEXT_SEQ}, counted = counted + 1"
# From the first message on that does not count, the room counts those that do.
_NEXT_UNCOUNTED = f"{_NEXT_SEQ}, counted = coalesce(counted, last_seq)"
_TAKE = {
    counts: f"UPDATE rooms SET {assigned} WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL"
    for counts, assigned in ((True, _NEXT), (False, _NEXT_UNCOUNTED))
}
_ONE_LESS = (
    f"UPDATE rooms SET message_count = {message_parts.MESSAGE_COUNT.format(room='rooms')} - 1"
    " WHERE project_id = $1 AND id = $2"
)
_INSERT = (
    "INSERT INTO messages (project_id, room_id, seq, id, user_id, content, client_msg_id,"
    " metadata, created_at, author_seq, counted)"
)
_OWN_BEFORE = (
    "coalesce((SELECT x.author_seq FROM messages x WHERE x.project_id = $1"
    " AND x.room_id = $2 AND x.user_id = $5 ORDER BY x.seq DESC LIMIT 1), 0)"
)
_AUTHOR_SEQ = f"1 + {_OWN_BEFORE}"
_INSERT_PLAIN = f"{_INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, {_AUTHOR_SEQ}, $10)"
_INSERT_WITH_MORE = (
    f"{_INSERT[:-1]}, type, event, reply_to_seq, flags) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
    f" $9, CAST($11 AS BIGINT) + {_OWN_BEFORE}, $10, $12, $13, $14, $15)"
)
# For Postgres, made in each session that wants it. Each statement of a function that may change something sees what was
# committed before it, so all that follows the lock is as it is when this commits. Another text needs another name.
_POSTING = f"""
CREATE OR REPLACE FUNCTION pg_temp.post_6(
  text, text, text, text, text, text, text, text, text, text, text, bigint, text[]
) RETURNS TABLE (number bigint, author text, shown text, said_at text, avatar text) LANGUAGE plpgsql AS $$
DECLARE
  rules text;
  sort text;
  countable bigint;
BEGIN
  SELECT settings, CASE WHEN member_count = 2 THEN kind END INTO rules, sort
    FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL
    AND (kind IS NULL OR member_count > 1) FOR NO KEY UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  IF sort = 'direct' AND {blocks.IN_DIRECT_ROOM.format(author="$5")} THEN RETURN; END IF;
  SELECT u.username, u.display_name, u.avatar_url INTO author, shown, avatar
    FROM members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id
    WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $5 AND u.status <> 'suspended'
    AND (m.role IN ('owner', 'moderator') OR m.role = 'member' AND NOT coalesce((rules::json ->> 'read_only')::boolean, FALSE))
    AND NOT EXISTS (SELECT 1 FROM messages g WHERE g.project_id = $1 AND g.room_id = $2
      AND g.user_id = $5 AND g.client_msg_id = $7)
    AND NOT EXISTS (SELECT 1 FROM idempotency i WHERE i.project_id = $1 AND i.scope = $9
      AND i.key = $10);
  IF NOT FOUND THEN RETURN; END IF;
  UPDATE rooms SET {_NEXT} WHERE project_id = $1 AND id = $2
    RETURNING last_seq, last_message_at, counted INTO number, said_at, countable;
  {_INSERT} VALUES ($1, $2, number, $4, $5, $6, $7, $8, said_at, {_AUTHOR_SEQ}, countable);
  IF $10 IS NOT NULL THEN
    INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)
      VALUES ($1, $9, $10, $11, $13[1] || number || $13[2] || to_json(author) || $13[3]
      || coalesce(to_json(shown)::text, 'null') || $13[4] || to_json(said_at) || left($13[5], -1)
      || coalesce(',"avatar_url":' || to_json(avatar)::text, '') || '}}', $12);
  END IF;
  RETURN NEXT;
END $$"""
_CALL_POSTING = (
    "SELECT number, author, shown, said_at, avatar"
    " FROM pg_temp.post_6($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
)
_GAP = msgspec.Raw(b"\0")


class More(NamedTuple):
    """What a message has that most have not."""

    reply_to: str | None = None
    """The id of the message that it answers."""
    mentions: Sequence[str] = ()
    mention_room: bool = False
    silent: bool = False
    event: dict[str, Any] | None = None
    """What a system message tells; None for a message that a user wrote."""


class Draft(NamedTuple):
    user_id: str
    content: str
    client_msg_id: str | None
    metadata: dict[str, Any]
    more: More | None = None
    """None for a plain message."""


class Edit(NamedTuple):
    """What to change about a message; None leaves it as it is."""

    content: str | None
    metadata: dict[str, Any] | None = None
    mentions: Sequence[str] | None = None
    if_rev: int | None = None
    """Only if its rev is still this one; 0 for a message that was never changed."""


_TO_POST = (
    "SELECT r.last_seq, r.last_message_at, r.counted, u.username, u.display_name, u.avatar_url,"
    " u.status, m.role, r.settings, CASE WHEN r.kind = 'direct' AND r.member_count = 1 THEN r.direct_key END,"
    f" CASE WHEN r.kind = 'direct' AND r.member_count = 2 THEN {blocks.IN_DIRECT_ROOM.format(author='$3')} END,"
    " i.fingerprint, i.answer FROM members m"
    " JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id"
    " AND r.deleted_at IS NULL"
    " JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"
    " LEFT JOIN idempotency i ON i.project_id = m.project_id AND i.scope = $4"
    " AND i.key = $5 AND i.expires_at > $6"
    " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3"
)
"""What a post needs to know of the room, the author and the Idempotency-Key."""


def post(
    pid: str, room_id: str, draft: Draft, hide_private: bool, idempotency_key: IdempotencyKey | None
) -> Steps[tuple[Message, Event | None]]:
    # Takes the next number and, on Postgres, locks the room. Other posts wait until the COMMIT, so
    # numbers are committed in order, and what is read below still holds at the COMMIT.
    yield take_number(pid, room_id, counts=_counts(draft.more))
    rows = yield Query(
        _TO_POST,
        pid,
        room_id,
        draft.user_id,
        idempotency_key and idempotency_key.operation,
        idempotency_key and idempotency_key.value,
        int(time.time()),
    )
    if not rows:
        yield from _refuse_used(pid, room_id, idempotency_key)
        yield from members.refuse_non_member(pid, room_id, hide_private=hide_private)
    number, now, counted, username, display_name, avatar_url, status, role, *rest = rows[0]
    settings, key_of_one, is_blocked, *stored = rest
    if idempotency_key is not None and stored[0] is not None:
        yield from _replay(pid, room_id, idempotency_key, stored)
    if status == "suspended":
        raise Forbidden("user_suspended", "This user is suspended.")
    if draft.client_msg_id is not None:
        earlier = yield Query(
            f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.room_id = $2"
            " AND g.user_id = $3 AND g.client_msg_id = $4",
            pid,
            room_id,
            draft.user_id,
            draft.client_msg_id,
        )
        if earlier:
            raise Undo(((yield from read(pid, room_id, earlier))[0], None))
    if key_of_one is not None and key_of_one != direct.key_of((draft.user_id,)):
        raise direct.nobody_there()
    if is_blocked:
        raise blocks.blocked()
    if draft.more is None or draft.more.event is None:  # what the app tells is not the user's
        roles.require(role, "post", room_settings.from_text(settings))
    place = _Place(new_id(), number, username, display_name, now, avatar_url)
    message = _fresh(room_id, draft, place)
    if draft.more is not None:
        message = yield from _with_more(pid, message, draft.more)
    yield from insert(pid, message, counted, plain=draft.more is None)
    posted = events.message_posted(pid, message)
    yield from idempotency.claim_and_store(pid, idempotency_key, posted.payload)
    return message, posted


def _counts(more: More | None) -> bool:
    """Whether the message is unread for others."""
    return more is None or not (more.silent or more.event is not None)


def take_number(pid: str, room_id: str, *, counts: bool) -> Query:
    """Take the room's next `seq`; *counts* is whether that message will be unread for others."""
    return Query(_TAKE[counts], pid, room_id, timestamp())


def insert(pid: str, message: Message, counted: int | None, *, plain: bool = False) -> Steps[None]:
    """Insert a message that has its number. *counted* is the room's."""
    flags = 0 if plain else _flags(message)
    columns = (
        pid,
        message.room_id,
        message.seq,
        message.id,
        message.user_id,
        message.content,
        message.client_msg_id,
        metadata_text(message.metadata),
        message.created_at,
    )
    if not flags:
        yield Query(_INSERT_PLAIN, *columns, counted)
        return
    yield Query(
        _INSERT_WITH_MORE,
        *columns,
        counted,
        0 if flags & UNCOUNTED else 1,
        None if message.type is UNSET else message.type,
        None if message.event is UNSET else metadata_text(message.event),
        None if message.reply_to is UNSET else message.reply_to.seq,
        flags,
    )
    named = message.mentions or ()
    yield from mentions.insert(pid, message, Named(named, message.mention_room is True))


def _flags(message: Message) -> int:
    """What the column `flags` tells of a new message."""
    return (
        (SILENT if message.silent is True else 0)
        | (MENTIONS_ROOM if message.mention_room is True else 0)
        | (MENTIONS if message.mentions else 0)
        | (REPLY if message.reply_to is not UNSET else 0)
        | (SYSTEM if message.type is not UNSET else 0)
    )


def _with_more(pid: str, message: Message, more: More) -> Steps[Message]:
    """*message* with the message that it answers and whom it names. Raises NotFound, BadInput or Forbidden."""
    quote: Quote | UnsetType = UNSET
    if more.reply_to is not None:
        quote = yield from message_parts.quote(pid, message.room_id, more.reply_to, message.user_id)
    named = list(dict.fromkeys(more.mentions))
    yield from mentions.require_members(pid, message.room_id, named, more.mentions)
    if more.mention_room:
        yield from mentions.require_may_name_everybody(pid, message.room_id, message.user_id)
    return msgspec.structs.replace(
        message,
        type=UNSET if more.event is None else "system",
        event=UNSET if more.event is None else more.event,
        reply_to=quote,
        mentions=named or UNSET,
        mention_room=more.mention_room or UNSET,
        silent=more.silent or UNSET,
    )


def _refuse_used(pid: str, room_id: str, key: IdempotencyKey | None) -> Steps[None]:
    """As `idempotency.refuse_used`, with a message that was deleted meanwhile as it is now."""
    try:
        yield from idempotency.refuse_used(pid, key)
    except idempotency.Replayed as replayed:
        present = yield from _as_it_is_now(pid, room_id, replayed.response)
        raise idempotency.Replayed(present) from None


def _replay(pid: str, room_id: str, key: IdempotencyKey, stored: Sequence[Any]) -> Steps[NoReturn]:
    """As `idempotency.replay`, likewise."""
    try:
        idempotency.replay(key, *stored)
    except idempotency.Replayed as replayed:
        present = yield from _as_it_is_now(pid, room_id, replayed.response)
        raise idempotency.Replayed(present) from None


class _Answered(msgspec.Struct):
    seq: int


def _as_it_is_now(pid: str, room_id: str, answered: bytes) -> Steps[bytes]:
    """The first answer; for a message that was deleted meanwhile, what is left of it."""
    seq = msgspec.json.decode(answered, type=_Answered).seq
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.room_id = $2 AND g.seq = $3",
        pid,
        room_id,
        seq,
    )
    found = yield from read(pid, room_id, rows)
    if not found or found[0].deleted_at is None:
        return answered
    return msgspec.json.encode(found[0])


class _Place(NamedTuple):
    """What the room and its author's user row give to a new message."""

    message_id: str
    number: int
    username: str
    display_name: str | None
    now: str
    avatar_url: str | None


def _fresh(room_id: str, draft: Draft, place: _Place) -> Message:
    """What *draft* becomes, neither edited nor deleted yet, without what most messages have not."""
    return Message(
        place.message_id,
        room_id,
        place.number,
        draft.user_id,
        place.username,
        place.display_name,
        draft.content,
        draft.client_msg_id,
        draft.metadata,
        place.now,
        None,
        None,
        UNSET,
        UNSET if place.avatar_url is None else place.avatar_url,
    )


def post_shortcut(
    pid: str, room_id: str, draft: Draft, idempotency_key: IdempotencyKey | None
) -> Shortcut[tuple[Message, Event | None]]:
    """`post` of a plain message on Postgres, for a member whom nothing hinders, with a key that is new."""
    message_id = new_id()

    def message(number: Any, username: Any, display_name: Any, now: Any, avatar: Any) -> Message:
        place = _Place(message_id, number, username, display_name, now, avatar)
        return _fresh(room_id, draft, place)

    def said(rows: Rows) -> tuple[Message, Event | None] | None:
        if not rows:
            return None
        posted = message(*rows[0])
        return posted, events.message_posted(pid, posted)

    pieces = None
    if idempotency_key is not None:
        # What the answer will be around what the database alone knows. JSON has no NUL of its own.
        answer = msgspec.json.encode(message(_GAP, _GAP, _GAP, _GAP, None))
        pieces = answer.decode().split("\0")
    query = Query(
        _CALL_POSTING,
        pid,
        room_id,
        timestamp(),
        message_id,
        draft.user_id,
        draft.content,
        draft.client_msg_id,
        metadata_text(draft.metadata),
        idempotency_key and idempotency_key.operation,
        idempotency_key and idempotency_key.value,
        idempotency_key and idempotency_key.fingerprint,
        int(time.time()) + idempotency.RETENTION_SECONDS,
        pieces,
    )
    return Shortcut((pid, room_id), _POSTING, query, said)


def page(pid: str, room_id: str, number: int, limit: int, from_seq: int = 1) -> Steps[Page]:
    """A numbered page, newest first, of the messages from *from_seq* on."""
    last = yield from last_seq(pid, room_id)
    # `seq` has no gaps, so a page is a range of it: the database neither counts nor skips rows.
    newest = last - (number - 1) * limit
    items: list[Message] = []
    if newest >= from_seq:
        rows = yield Query(
            f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.room_id = $2"
            " AND g.seq > $3 AND g.seq <= $4 ORDER BY g.seq DESC",
            pid,
            room_id,
            max(newest - limit, from_seq - 1),
            newest,
        )
        items = yield from read(pid, room_id, rows, from_seq)
    return Page.of(items, number, limit, max(last - from_seq + 1, 0))


def between(
    pid: str,
    room_id: str,
    before: int | None,
    later_than: int | None,
    limit: int,
    from_seq: int = 1,
) -> Steps[Page]:
    """Messages from *from_seq* on, next to a cursor."""
    last = yield from last_seq(pid, room_id)
    total = max(last - from_seq + 1, 0)
    low = max(later_than or 0, from_seq - 1)
    high = last + 1 if before is None else min(before, last + 1)
    forward = later_than is not None
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.room_id = $2"
        f" AND g.seq > $3 AND g.seq < $4 ORDER BY g.seq {'ASC' if forward else 'DESC'} LIMIT $5",
        pid,
        room_id,
        low,
        high,
        limit,
    )
    items = yield from read(pid, room_id, rows, from_seq)
    more = bool(items) and (items[-1].seq < high - 1 if forward else items[-1].seq > low + 1)
    return Page(
        items,
        1,
        limit,
        total,
        -(-total // limit),
        next_cursor=items[-1].seq if more else None,
        has_more=more,
    )


def after(pid: str, room_id: str, seq: int, limit: int, from_seq: int = 1) -> Steps[list[Message]]:
    """The first *limit* messages after *seq*, for who sees those from *from_seq* on."""
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} JOIN rooms r"
        " ON r.project_id = g.project_id AND r.id = g.room_id AND r.deleted_at IS NULL"
        " WHERE g.project_id = $1 AND g.room_id = $2 AND g.seq > $3 ORDER BY g.seq LIMIT $4",
        pid,
        room_id,
        seq,
        limit,
    )
    return (yield from read(pid, room_id, rows, from_seq))


class Edited(NamedTuple):
    message: Message
    named_otherwise: list[str]
    """The users whom the message names since the edit, and those whom it names no more."""


def edit(pid: str, room_id: str, message_id: str, edit: Edit, by: str | None) -> Steps[Edited]:
    room = yield from members.lock(pid, room_id)
    message, flags, role = yield from _changeable(pid, room_id, message_id, by)
    if role is not None and (message.user_id != by or flags & SYSTEM):
        raise Forbidden("not_the_author", "Only its author may do that.")
    if message.deleted_at is not None:
        raise Conflict("message_deleted", "The message was deleted.")
    if flags & SYSTEM:
        raise Conflict("not_editable", "A system message cannot be edited.")
    if room.kind == "direct":
        yield from blocks.refuse_in_direct_room(pid, room_id, message.user_id)
    present = 0 if message.rev is UNSET else message.rev
    if edit.if_rev not in {None, present}:
        raise Changed(present)
    if role is not None:
        _refuse_late(message, room.settings.edit_window)
    content = message.content if edit.content is None else edit.content
    metadata = message.metadata if edit.metadata is None else edit.metadata
    named_otherwise: list[str] = []
    if edit.mentions is not None:
        named = list(dict.fromkeys(edit.mentions))
        named_otherwise = yield from _name_others(pid, message, named, edit.mentions)
        flags = flags | MENTIONS if named else flags & ~MENTIONS
        message = msgspec.structs.replace(message, mentions=named or UNSET)
    now = timestamp()
    rev = yield from _record(pid, message)
    yield Query(
        "UPDATE messages SET content = $4, metadata = $5, edited_at = $6, rev = $7, flags = $8"
        " WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        room_id,
        message.seq,
        content,
        metadata_text(metadata),
        now,
        rev,
        flags or None,
    )
    message = msgspec.structs.replace(
        message, content=content, metadata=metadata, edited_at=now, rev=rev
    )
    return Edited(message, named_otherwise)


def _name_others(
    pid: str, message: Message, named: list[str], sent: Sequence[str]
) -> Steps[list[str]]:
    """Let *message* name these users. Returns those who are new, and those who are named no more."""
    before = message.mentions or []
    new = [user_id for user_id in named if user_id not in before]
    gone = [user_id for user_id in before if user_id not in named]
    yield from mentions.require_members(pid, message.room_id, new, sent)
    if named != before:
        yield from mentions.remove(pid, message.room_id, message.seq)
        everybody = message.mention_room is True
        yield from mentions.insert(pid, message, Named(named, everybody))
    return new + gone


def delete(
    pid: str, room_id: str, message_id: str, by: str | None, *, purge: bool = False
) -> Steps[list[Event]]:
    """Empty the message. With *purge* also what is remembered of it elsewhere."""
    yield from members.lock(pid, room_id)
    message, flags, role = yield from _changeable(pid, room_id, message_id, by)
    if role is not None:
        own = message.user_id == by and not flags & SYSTEM
        yield from _refuse_deletion(pid, message, role, own=own)
    if message.deleted_at is not None:
        if purge:
            yield from _purge(pid, message)
        return []
    now = timestamp()
    rev = yield from _record(pid, message)
    yield Query(
        "UPDATE messages SET content = '', metadata = '{}', deleted_at = $4, rev = $5,"
        " event = NULL, reply_to_seq = NULL, flags = $6, pinned_at = NULL, pinned_by = NULL"
        " WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        room_id,
        message.seq,
        now,
        rev,
        flags & UNCOUNTED or None,
    )
    if flags & (MENTIONS | MENTIONS_ROOM):
        yield from mentions.remove(pid, room_id, message.seq)
    if flags & HAS_REACTIONS:
        yield from reactions.forget(pid, room_id, message.seq)
    yield Query(_ONE_LESS, pid, room_id)
    if not flags & UNCOUNTED:
        yield Query(
            "INSERT INTO deletions (project_id, room_id, seq, user_id) VALUES ($1, $2, $3, $4)",
            pid,
            room_id,
            message.seq,
            message.user_id,
        )
    deleted = msgspec.structs.replace(
        message,
        content="",
        metadata={},
        deleted_at=now,
        rev=rev,
        event=UNSET,
        reply_to=UNSET,
        mentions=UNSET,
        mention_room=UNSET,
        reactions=UNSET,
        pinned_at=UNSET,
        pinned_by=UNSET,
    )
    if purge:
        yield from _purge(pid, deleted)
    return [events.message_deleted(pid, deleted)]


def _purge(pid: str, deleted: Message) -> Steps[None]:
    """Remove the text from the answers that are stored for an Idempotency-Key."""
    yield Query(
        "UPDATE idempotency SET answer = $5 WHERE project_id = $1 AND scope IN ($2, $3)"
        " AND answer LIKE $4",
        pid,
        *idempotency.scopes_of_posting(pid, deleted.room_id, deleted.user_id),
        f'{{"id":"{deleted.id}",%',
        msgspec.json.encode(deleted).decode(),
    )


def _record(pid: str, message: Message) -> Steps[int]:
    """Record a change of *message* in a locked room. Returns its rev."""
    rev = yield from changes.next_rev(pid, message.room_id)
    yield from changes.record(pid, message.room_id, rev, "message", message.id, seq=message.seq)
    return rev


def last_seq(pid: str, room_id: str) -> Steps[int]:
    """The `seq` of the newest message, 0 if there is none. Raises NotFound."""
    rows = yield Query(
        "SELECT last_seq FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
    )
    if not rows:
        raise NotFound.room()
    return int(rows[0][0])


def _changeable(
    pid: str, room_id: str, message_id: str, by: str | None
) -> Steps[tuple[Message, int, str | None]]:
    """A message of a locked room, its flags, and the role of user *by*; None for the API key. Raises NotFound to non-members."""
    role, from_seq = None, 1
    if by is not None:
        member = yield from mine.role_and_from_seq(pid, room_id, by)
        if member is None:
            raise NotFound.room()
        role, from_seq = member
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE g.project_id = $1 AND g.id = $2 AND g.room_id = $3",
        pid,
        message_id,
        room_id,
    )
    if not rows:
        raise NotFound.the_message()
    (message,) = yield from read(pid, room_id, rows)
    if message.seq < from_seq:
        raise NotFound.the_message()
    return message, rows[0][-1] or 0, role


def _refuse_deletion(pid: str, message: Message, role: str, *, own: bool) -> Steps[None]:
    """Raise Forbidden `not_the_author` unless a member with *role* may delete the message."""
    author_role = None
    if role == "moderator" and not own:
        author = yield from mine.role_and_from_seq(pid, message.room_id, message.user_id)
        author_role = None if author is None else author[0]
    if not roles.may_delete(role, own=own, author_role=author_role):
        who = "the room's owner" if role == "moderator" else "the room's owner or a moderator"
        raise Forbidden("not_the_author", f"Only its author or {who} may do that.")


def _refuse_late(message: Message, edit_window: int) -> None:
    """Raise Forbidden `too_late` if the message is older than *edit_window* seconds; 0: it is never too late."""
    if edit_window and time.time() > parse_timestamp(message.created_at).timestamp() + edit_window:
        raise Forbidden(
            "too_late", f"In this room messages can be edited for {edit_window} s after posting."
        )
