"""From rows of `messages` to messages.

A plain message is in its row alone. `flags` says what else there is to read of another one, which takes
one query each for all messages of a list: so a list of plain messages takes none.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat.models import Message, Quote, Reaction
from chat_broker_server.database.rows import metadata_of
from chat_broker_server.errors import NotFound

MESSAGE_COUNT: Final = (
    "coalesce({room}.message_count, {room}.last_seq - (SELECT count(*) FROM deletions d"
    " WHERE d.project_id = {room}.project_id AND d.room_id = {room}.id))"
)
"""How many messages of a room are not deleted. A room counts them from its first deletion on, or if it is new."""
# Without room_id, which the caller knows.
COLUMNS: Final = (
    "g.id, g.seq, g.user_id, u.username, u.display_name, g.content, g.client_msg_id,"
    " g.metadata, g.created_at, g.edited_at, g.deleted_at, g.rev, u.avatar_url, u.deleted_at,"
    " g.flags"
)
WIDTH: Final = 15
"""How many columns `COLUMNS` has."""
SOURCE: Final = "messages g JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"

HAS_REACTIONS: Final = 1
IS_PINNED: Final = 2
SILENT: Final = 4
MENTIONS_ROOM: Final = 8
MENTIONS: Final = 16
REPLY: Final = 32
SYSTEM: Final = 64
UNCOUNTED: Final = SILENT | SYSTEM
"""Messages with one of these flags count as unread for no member."""

QUOTED_CHARACTERS: Final = 200
SHOWN_USERS: Final = 10
"""Of a reaction, the newest."""

_CHUNK: Final = 25
_PAIRS = ", ".join(
    f"(CAST(${number} AS TEXT), CAST(${number + 1} AS BIGINT))"
    for number in range(2, 2 * _CHUNK + 2, 2)
)
PAIRS: Final = f"(VALUES {_PAIRS}) v"
"""Rooms and seqs to select from, `v.column1` and `v.column2`, for `of_each`."""
AFTER_PAIRS: Final = 2 * _CHUNK + 2
"""The number of the next parameter."""
_OF_PAIRS = f"FROM {PAIRS} JOIN messages g ON g.project_id = $1 AND g.room_id = v.column1 AND g.seq = v.column2"
_QUOTE = (
    f"q.id, q.seq, q.user_id, u.username, u.display_name, substr(q.content, 1, {QUOTED_CHARACTERS})"
)
_QUOTED = (
    f"SELECT {_QUOTE} FROM messages q"
    " JOIN users u ON u.project_id = q.project_id AND u.id = q.user_id"
    " JOIN members m ON m.project_id = q.project_id AND m.room_id = q.room_id AND m.user_id = $4"
    " WHERE q.project_id = $1 AND q.id = $2 AND q.room_id = $3 AND q.seq >= coalesce(m.from_seq, 1)"
)
_QUOTES = (
    f"SELECT g.room_id, g.seq, {_QUOTE} {_OF_PAIRS}"
    " JOIN messages q ON q.project_id = g.project_id AND q.room_id = g.room_id"
    " AND q.seq = g.reply_to_seq"
    " JOIN users u ON u.project_id = q.project_id AND u.id = q.user_id"
)
_EVENTS = f"SELECT g.room_id, g.seq, g.event {_OF_PAIRS}"
_BY_KEY = (
    f"SELECT g.room_id, {COLUMNS} {_OF_PAIRS}"
    " JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"
)
_MENTIONS = (
    f"SELECT n.room_id, n.seq, n.position, n.user_id FROM {PAIRS} JOIN mentions n"
    " ON n.project_id = $1 AND n.room_id = v.column1 AND n.seq = v.column2"
)
_REACTIONS = (
    f"SELECT c.first_rev, c.room_id, c.seq, c.emoji, c.count, c.user_ids FROM {PAIRS}"
    " JOIN reaction_counts c ON c.project_id = $1 AND c.room_id = v.column1 AND c.seq = v.column2"
)
_PINS = f"SELECT g.room_id, g.seq, g.pinned_at, g.pinned_by {_OF_PAIRS}"

_user_ids = msgspec.json.Decoder(list[str]).decode

Key = tuple[str, int]
"""A room's id and a message's seq."""


def plain(room_id: str, rows: Rows) -> list[Message]:
    """Messages of the room from `COLUMNS`, without what their flags tell. One loop builds a page of them.

    Most have none of the last three columns, and are built from the others alone, which takes a third less.
    """
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
        )
        if rev is avatar_url is left_at is None
        else Message(
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
            UNSET if avatar_url is None else avatar_url,
            UNSET if left_at is None else True,
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
            avatar_url,
            left_at,
            _,
        ) in rows
    ]


def read(pid: str, room_id: str, rows: Rows, from_seq: int = 1) -> Steps[list[Message]]:
    """Messages of the room from `COLUMNS`, for who sees those from *from_seq* on."""
    messages = plain(room_id, rows)
    flagged = {(room_id, row[1]): row[-1] for row in rows if row[-1]}
    if flagged:
        messages = yield from complete(pid, messages, flagged)
        messages = [without_hidden_quote(message, from_seq) for message in messages]
    return messages


def complete(pid: str, messages: Iterable[Message], flags: dict[Key, int]) -> Steps[list[Message]]:
    """*messages* with what their *flags* tell; a plain one has none."""
    quotes = yield from _quotes(pid, _with(flags, REPLY))
    events = yield from _events(pid, _with(flags, SYSTEM))
    mentions = yield from _mentions(pid, _with(flags, MENTIONS))
    reactions = yield from _reactions(pid, _with(flags, HAS_REACTIONS))
    pins = yield from _pins(pid, _with(flags, IS_PINNED))
    completed = []
    for message in messages:
        key = (message.room_id, message.seq)
        bits = flags.get(key, 0)
        if bits:
            pinned_at, pinned_by = pins.get(key, (UNSET, UNSET))
            message = msgspec.structs.replace(  # noqa: PLW2901 - the same message
                message,
                type="system" if bits & SYSTEM else UNSET,
                event=events.get(key, UNSET),
                reply_to=quotes.get(key, UNSET),
                mentions=mentions.get(key, UNSET),
                mention_room=bool(bits & MENTIONS_ROOM) or UNSET,
                silent=bool(bits & SILENT) or UNSET,
                reactions=reactions.get(key, UNSET),
                pinned_at=pinned_at,
                pinned_by=pinned_by,
            )
        completed.append(message)
    return completed


def quote(pid: str, room_id: str, message_id: str, reader_id: str) -> Steps[Quote]:
    """The message of the room as another one quotes it. Raises NotFound for one that the reader does not see."""
    rows = yield Query(_QUOTED, pid, message_id, room_id, reader_id)
    if not rows:
        raise NotFound.the_message()
    return Quote(*rows[0])


def by_key(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, Message]]:
    """The messages with these keys."""
    rows = yield from of_each(_BY_KEY, pid, keys)
    messages = [message for row in rows for message in plain(row[0], (row[1:],))]
    flags = {(row[0], row[2]): row[-1] for row in rows if row[-1]}
    if flags:
        messages = yield from complete(pid, messages, flags)
    return {(message.room_id, message.seq): message for message in messages}


def without_hidden_quote(message: Message, from_seq: int) -> Message:
    """*message* without the text that it quotes, if that was said before *from_seq*."""
    quote = message.reply_to
    if quote is UNSET or quote.seq >= from_seq:
        return message
    return msgspec.structs.replace(message, reply_to=msgspec.structs.replace(quote, content=""))


def _reactions(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, list[Reaction]]]:
    rows = yield from of_each(_REACTIONS, pid, keys)
    reactions: dict[Key, list[Reaction]] = {}
    for _, room_id, seq, emoji, count, user_ids in sorted(map(tuple, rows)):
        shown = Reaction(emoji, count, _user_ids(user_ids))
        reactions.setdefault((room_id, seq), []).append(shown)
    return reactions


def _pins(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, tuple[str, str | UnsetType]]]:
    rows = yield from of_each(_PINS, pid, keys)
    return {
        (room_id, seq): (pinned_at, UNSET if pinned_by is None else pinned_by)
        for room_id, seq, pinned_at, pinned_by in rows
        if pinned_at is not None
    }


def _with(flags: dict[Key, int], bit: int) -> list[Key]:
    return [key for key, bits in flags.items() if bits & bit]


def _quotes(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, Quote]]:
    rows = yield from of_each(_QUOTES, pid, keys)
    return {(room_id, seq): Quote(*quoted) for room_id, seq, *quoted in rows}


def _events(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, dict[str, Any]]]:
    rows = yield from of_each(_EVENTS, pid, keys)
    return {(room_id, seq): metadata_of(event) for room_id, seq, event in rows if event is not None}


def _mentions(pid: str, keys: Sequence[Key]) -> Steps[dict[Key, list[str]]]:
    rows = yield from of_each(_MENTIONS, pid, keys)
    mentions: dict[Key, list[str]] = {}
    # The row of everybody has no user.
    for room_id, seq, _, user_id in sorted(row for row in map(tuple, rows) if row[3]):
        mentions.setdefault((room_id, seq), []).append(user_id)
    return mentions


def of_each(sql: str, pid: str, keys: Sequence[Key], *more: Any) -> Steps[list[Sequence[Any]]]:
    """The rows of *sql*, which selects from `PAIRS`, for all *keys*. *more* are its parameters from `AFTER_PAIRS` on.

    The last chunk is padded, so that there is one prepared statement.
    """
    found: list[Sequence[Any]] = []
    for at in range(0, len(keys), _CHUNK):
        chunk = keys[at : at + _CHUNK]
        # No message has this seq.
        padding = [("", 0)] * (_CHUNK - len(chunk))
        rows = yield Query(sql, pid, *[value for key in (*chunk, *padding) for value in key], *more)
        found += rows
    return found
