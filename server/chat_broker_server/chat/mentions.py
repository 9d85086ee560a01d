"""Transactions about mentions: whom a message names, and the messages that name a user."""

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_kit.http.problems import FieldError
from chat_broker_server.chat import blocks, message_parts, mine, roles, sizes
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.members import SMALL_ROOM
from chat_broker_server.chat.models import CursorPage, Message
from chat_broker_server.chat.validation import MOST_MENTIONS
from chat_broker_server.errors import BadInput

EVERYBODY: Final = ""
"""In place of a user's id: everybody in the room."""

_MARKS = ", ".join(f"${number}" for number in range(3, MOST_MENTIONS + 3))
_MEMBERS = (
    f"SELECT user_id FROM members WHERE project_id = $1 AND room_id = $2 AND user_id IN ({_MARKS})"
)
_AT_ONCE: Final = 5
_VALUES = ", ".join(
    f"($1, ${number}, $2, $3, CAST(${number + 1} AS BIGINT), $4, $5, CAST($6 AS BOOLEAN))"
    for number in range(7, 2 * _AT_ONCE + 7, 2)
)
_INSERT = (
    "INSERT INTO mentions (project_id, user_id, room_id, seq, position, author_id, created_at,"
    f" uncounted) VALUES {_VALUES} ON CONFLICT (project_id, user_id, room_id, seq) DO NOTHING"
)
_OVERHEAD: Final = 1024
"""Bytes for what a page has besides its messages."""
# Of each room of the user the newest few that name one of the two, then the newest of all these.
# Everybody is whoever was there.
_NEWEST = (
    "WITH p AS MATERIALIZED (SELECT x.room_id, x.seq, x.created_at,"
    " coalesce(m.from_seq, 1) AS from_seq FROM members m"
    # In this order: from the user's rooms to what names them there.
    " CROSS JOIN mentions x WHERE x.project_id = m.project_id AND x.user_id = {named}"
    " AND x.room_id = m.room_id AND x.seq IN (SELECT y.seq FROM mentions y"
    " WHERE y.project_id = m.project_id AND y.user_id = {named} AND y.room_id = m.room_id"
    " AND y.seq >= coalesce(m.from_seq, 1) AND y.author_id <> m.user_id{since}"
    " AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.project_id = m.project_id"
    " AND b.user_id = m.user_id AND b.blocked_id = y.author_id)"
    " AND (y.created_at < $3 OR (y.created_at = $3 AND (y.room_id > $4 OR (y.room_id = $4 AND y.seq < $5))))"
    " ORDER BY y.seq DESC LIMIT $6) AND m.project_id = $1 AND m.user_id = $2)"
    " SELECT room_id, seq, created_at, from_seq FROM p"
    " ORDER BY created_at DESC, room_id, seq DESC LIMIT $6"
)
NAMED_ONE: Final = _NEWEST.format(named="$2", since="")
NAMED_ALL: Final = _NEWEST.format(named="''", since=" AND y.created_at >= m.joined_at")
_LATEST: Final = "9"
"""After every time, as text."""


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a message stands in the order, newest first."""

    created_at: Annotated[str, msgspec.Meta(pattern=r"\A[0-9T:.Z-]{1,32}\Z")]
    room_id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Named(NamedTuple):
    """Whom a message names."""

    user_ids: Sequence[str] = ()
    everybody: bool = False


def require_members(
    pid: str, room_id: str, user_ids: Sequence[str], sent: Sequence[str]
) -> Steps[None]:
    """Raise BadInput with the places in *sent* of those *user_ids* that are no members of the room."""
    if not user_ids:
        return
    padded = [*user_ids, *[user_ids[-1]] * (MOST_MENTIONS - len(user_ids))]
    rows = yield Query(_MEMBERS, pid, room_id, *padded)
    strangers = set(user_ids) - {row[0] for row in rows}
    if strangers:
        raise BadInput.fields(
            [
                FieldError(f"mentions[{place}]", "is not a member of the room")
                for place, user_id in enumerate(sent)
                if user_id in strangers
            ]
        )


def require_may_name_everybody(pid: str, room_id: str, user_id: str) -> Steps[None]:
    """Raise Forbidden `owner_only` for a plain member of a large room."""
    rows = yield Query(
        f"SELECT coalesce(r.light, r.member_count > {SMALL_ROOM}), m.role FROM {mine.SOURCE}"
        " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3",
        pid,
        room_id,
        user_id,
    )
    light, role = rows[0]
    if light and roles.rank(role) < roles.rank("moderator"):
        raise roles.owner_only("moderator")


def insert(pid: str, message: Message, named: Named) -> Steps[None]:
    """Note that *message* names these."""
    silent = message.silent is True or message.type is not msgspec.UNSET
    yield from _insert(pid, message, named.user_ids, uncounted=silent or named.everybody)
    if named.everybody:
        yield from _insert(pid, message, (EVERYBODY,), uncounted=silent)


def _insert(pid: str, message: Message, user_ids: Sequence[str], *, uncounted: bool) -> Steps[None]:
    pairs = list(zip(user_ids, range(len(user_ids)), strict=True))
    for at in range(0, len(pairs), _AT_ONCE):
        chunk = pairs[at : at + _AT_ONCE]
        chunk += chunk[-1:] * (_AT_ONCE - len(chunk))
        yield Query(
            _INSERT,
            pid,
            message.room_id,
            message.seq,
            message.user_id,
            message.created_at,
            uncounted or None,
            *[value for pair in chunk for value in pair],
        )


def remove(pid: str, room_id: str, seq: int) -> Steps[None]:
    """Forget whom the message names."""
    yield Query(
        "DELETE FROM mentions WHERE project_id = $1 AND room_id = $2 AND seq = $3",
        pid,
        room_id,
        seq,
    )


def page(pid: str, user_id: str, cursor: str | None, limit: int) -> Steps[CursorPage]:
    """The messages of others that name the user, newest first. Raises NotFound, or BadInput for a foreign *cursor*.

    Those that name everybody are among them, since the user joined. The user sees none of rooms that they have left.
    """
    yield from blocks.version_of(pid, user_id)
    begin = _Place(_LATEST, "", 0) if cursor is None else decoded("cursor", cursor, _Place)
    place = begin.created_at, begin.room_id, begin.seq
    one = yield Query(NAMED_ONE, pid, user_id, *place, limit + 1)
    everybody = yield Query(NAMED_ALL, pid, user_id, *place, limit + 1)
    found = {(row[0], row[1]): row for row in (*one, *everybody)}
    rows = sorted(found.values(), key=lambda row: row[1], reverse=True)
    rows.sort(key=lambda row: row[0])
    rows.sort(key=lambda row: row[2], reverse=True)
    chosen = rows[:limit]
    messages = yield from message_parts.by_key(pid, [(row[0], row[1]) for row in chosen])
    items = [
        message_parts.without_hidden_quote(messages[row[0], row[1]], row[3])
        for row in chosen
        if (row[0], row[1]) in messages
    ]
    fitting = sizes.fitting(items, sizes.LARGEST_RESPONSE - _OVERHEAD)
    more = len(rows) > limit or len(fitting) < len(items)
    next_cursor = encoded(_place_of(fitting[-1])) if more and fitting else None
    return CursorPage(fitting, limit, next_cursor, more)


def _place_of(message: Message) -> _Place:
    return _Place(message.created_at, message.room_id, message.seq)
