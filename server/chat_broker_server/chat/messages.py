"""Transactions about messages and read marks."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Shortcut, Steps, Undo
from chat_broker_kit.text.timestamps import parse_timestamp
from chat_broker_server.chat import (
    changes,
    direct,
    events,
    idempotency,
    members,
    mine,
    roles,
    room_settings,
)
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.chat.models import (
    IdempotencyKey,
    Message,
    Page,
)
from chat_broker_server.database.rows import metadata_of, metadata_text
from chat_broker_server.errors import Changed, Conflict, Forbidden, NotFound

# Without room_id, which is a parameter of every query.
COLUMNS = (
    "g.id, g.seq, g.user_id, u.username, u.display_name, g.content, g.client_msg_id,"
    " g.metadata, g.created_at, g.edited_at, g.deleted_at, g.rev"
)
WIDTH = 12
"""How many columns `COLUMNS` has."""
SOURCE = "messages g JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"

# created_at never decreases within a room, even if clocks of servers differ.
_NEXT = (
    "last_seq = last_seq + 1, last_message_at ="
    " CASE WHEN last_message_at > $3 THEN last_message_at ELSE $3 END"
)
_INSERT = (
    "INSERT INTO messages (project_id, room_id, seq, id, user_id, content, client_msg_id,"
    " metadata, created_at, author_seq)"
)
_AUTHOR_SEQ = (
    "1 + coalesce((SELECT x.author_seq FROM messages x WHERE x.project_id = $1"
    " AND x.room_id = $2 AND x.user_id = $5 ORDER BY x.seq DESC LIMIT 1), 0)"
)
# For Postgres, made in each session that wants it. Each statement of a function that may change something sees what was
# committed before it, so all that follows the lock is as it is when this commits. Another text needs another name.
_POSTING = f"""
CREATE OR REPLACE FUNCTION pg_temp.post_3(
  text, text, text, text, text, text, text, text, text, text, text, bigint, text[]
) RETURNS TABLE (number bigint, author text, shown text, said_at text) LANGUAGE plpgsql AS $$
DECLARE
  rules text;
BEGIN
  SELECT settings INTO rules FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL
    AND (kind IS NULL OR member_count > 1) FOR NO KEY UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  SELECT u.username, u.display_name INTO author, shown
    FROM members m JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id
    WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $5 AND u.status <> 'suspended'
    AND (m.role IN ('owner', 'moderator') OR m.role = 'member' AND NOT coalesce((rules::json ->> 'read_only')::boolean, FALSE))
    AND NOT EXISTS (SELECT 1 FROM messages g WHERE g.project_id = $1 AND g.room_id = $2
      AND g.user_id = $5 AND g.client_msg_id = $7)
    AND NOT EXISTS (SELECT 1 FROM idempotency i WHERE i.project_id = $1 AND i.scope = $9
      AND i.key = $10);
  IF NOT FOUND THEN RETURN; END IF;
  UPDATE rooms SET {_NEXT} WHERE project_id = $1 AND id = $2
    RETURNING last_seq, last_message_at INTO number, said_at;
  {_INSERT} VALUES ($1, $2, number, $4, $5, $6, $7, $8, said_at, {_AUTHOR_SEQ});
  IF $10 IS NOT NULL THEN
    INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)
      VALUES ($1, $9, $10, $11, $13[1] || number || $13[2] || to_json(author) || $13[3]
      || coalesce(to_json(shown)::text, 'null') || $13[4] || to_json(said_at) || $13[5], $12);
  END IF;
  RETURN NEXT;
END $$"""
_CALL_POSTING = (
    "SELECT number, author, shown, said_at"
    " FROM pg_temp.post_3($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
)
_GAP = msgspec.Raw(b"\0")


class Draft(NamedTuple):
    user_id: str
    content: str
    client_msg_id: str | None
    metadata: dict[str, Any]


class Edit(NamedTuple):
    """What to change about a message; None leaves it as it is."""

    content: str | None
    metadata: dict[str, Any] | None = None
    if_rev: int | None = None
    """Only if its rev is still this one; 0 for a message that was never changed."""


def from_row(room_id: str, row: Sequence[Any]) -> Message:
    """A message of the room from `COLUMNS`."""
    return from_rows(room_id, (row,))[0]


def from_rows(room_id: str, rows: Rows) -> list[Message]:
    """Messages of the room from `COLUMNS`. A page has many, so one loop builds them without a call for each."""
    return [
        Message(
            message_id,
            room_id,
            seq,
            user_id,
            username,
            display_name,
            content,
            client_msg_id,
            {} if metadata == "{}" else metadata_of(metadata),
            created_at,
            edited_at,
            deleted_at,
            UNSET if rev is None else rev,
        )
        for (
            message_id,
            seq,
            user_id,
            username,
            display_name,
            content,
            client_msg_id,
            metadata,
            created_at,
            edited_at,
            deleted_at,
            rev,
        ) in rows
    ]


_TO_POST = (
    "SELECT r.last_seq, r.last_message_at, u.username, u.display_name, u.status, m.role, r.settings,"
    " i.fingerprint, i.answer, CASE WHEN r.kind = 'direct' AND r.member_count = 1"
    " THEN r.direct_key END FROM members m"
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
    yield Query(
        f"UPDATE rooms SET {_NEXT} WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
        timestamp(),
    )
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
        yield from idempotency.refuse_used(pid, idempotency_key)
        yield from members.refuse_non_member(pid, room_id, hide_private=hide_private)
    number, now, username, display_name, status, role, settings, *rest = rows[0]
    fingerprint, response, key_of_one = rest
    if idempotency_key is not None and fingerprint is not None:
        idempotency.replay(idempotency_key, fingerprint, response)
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
            raise Undo((from_row(room_id, earlier[0]), None))
    if key_of_one is not None and key_of_one != direct.key_of((draft.user_id,)):
        raise direct.nobody_there()
    roles.require(role, "post", room_settings.from_text(settings))
    message = _fresh(room_id, draft, _Place(new_id(), number, username, display_name, now))
    yield Query(
        f"{_INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, {_AUTHOR_SEQ})",
        pid,
        room_id,
        message.seq,
        message.id,
        draft.user_id,
        draft.content,
        draft.client_msg_id,
        metadata_text(draft.metadata),
        now,
    )
    posted = events.message_posted(pid, message)
    yield from idempotency.claim_and_store(pid, idempotency_key, posted.payload)
    return message, posted


class _Place(NamedTuple):
    """What the room and its author's user row give to a new message."""

    message_id: str
    number: int
    username: str
    display_name: str | None
    now: str


def _fresh(room_id: str, draft: Draft, place: _Place) -> Message:
    """What *draft* becomes, neither edited nor deleted yet."""
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
    )


def post_shortcut(
    pid: str, room_id: str, draft: Draft, idempotency_key: IdempotencyKey | None
) -> Shortcut[tuple[Message, Event | None]]:
    """`post` on Postgres, for a member whom nothing hinders, with a key that is new."""
    message_id = new_id()

    def message(number: Any, username: Any, display_name: Any, now: Any) -> Message:
        return _fresh(room_id, draft, _Place(message_id, number, username, display_name, now))

    def said(rows: Rows) -> tuple[Message, Event | None] | None:
        if not rows:
            return None
        posted = message(*rows[0])
        return posted, events.message_posted(pid, posted)

    pieces = None
    if idempotency_key is not None:
        # What the answer will be around what the database alone knows. JSON has no NUL of its own.
        pieces = msgspec.json.encode(message(_GAP, _GAP, _GAP, _GAP)).decode().split("\0")
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
        items = from_rows(room_id, rows)
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
    items = from_rows(room_id, rows)
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


def after(pid: str, room_id: str, seq: int, limit: int) -> Steps[list[Message]]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} JOIN rooms r"
        " ON r.project_id = g.project_id AND r.id = g.room_id AND r.deleted_at IS NULL"
        " WHERE g.project_id = $1 AND g.room_id = $2 AND g.seq > $3 ORDER BY g.seq LIMIT $4",
        pid,
        room_id,
        seq,
        limit,
    )
    return from_rows(room_id, rows)


def edit(pid: str, room_id: str, message_id: str, edit: Edit, by: str | None) -> Steps[Message]:
    room = yield from members.lock(pid, room_id)
    message, role = yield from _changeable(pid, room_id, message_id, by)
    if role is not None and message.user_id != by:
        raise Forbidden("not_the_author", "Only its author may do that.")
    if message.deleted_at is not None:
        raise Conflict("message_deleted", "The message was deleted.")
    present = 0 if message.rev is UNSET else message.rev
    if edit.if_rev not in {None, present}:
        raise Changed(present)
    if role is not None:
        _refuse_late(message, room.settings.edit_window)
    content = message.content if edit.content is None else edit.content
    metadata = message.metadata if edit.metadata is None else edit.metadata
    now = timestamp()
    rev = yield from _record(pid, message)
    yield Query(
        "UPDATE messages SET content = $4, metadata = $5, edited_at = $6, rev = $7"
        " WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        room_id,
        message.seq,
        content,
        metadata_text(metadata),
        now,
        rev,
    )
    return msgspec.structs.replace(
        message, content=content, metadata=metadata, edited_at=now, rev=rev
    )


def delete(pid: str, room_id: str, message_id: str, by: str | None) -> Steps[list[Event]]:
    yield from members.lock(pid, room_id)
    message, role = yield from _changeable(pid, room_id, message_id, by)
    if role is not None:
        yield from _refuse_deletion(pid, message, role, own=message.user_id == by)
    if message.deleted_at is not None:
        return []
    now = timestamp()
    rev = yield from _record(pid, message)
    yield Query(
        "UPDATE messages SET content = '', metadata = '{}', deleted_at = $4, rev = $5"
        " WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        room_id,
        message.seq,
        now,
        rev,
    )
    yield Query(
        "INSERT INTO deletions (project_id, room_id, seq, user_id) VALUES ($1, $2, $3, $4)",
        pid,
        room_id,
        message.seq,
        message.user_id,
    )
    deleted = msgspec.structs.replace(message, content="", metadata={}, deleted_at=now, rev=rev)
    return [events.message_deleted(pid, deleted)]


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
) -> Steps[tuple[Message, str | None]]:
    """A message of a locked room, and the role of user *by*; None for the API key. Raises NotFound to non-members."""
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
    message = from_row(room_id, rows[0])
    if message.seq < from_seq:
        raise NotFound.the_message()
    return message, role


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
