"""What a client lacks of a room: the present states of the objects that changed since it read the room."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat import (
    direct,
    events,
    members,
    message_parts,
    messages,
    mine,
    reactions,
    receipts,
    rooms,
)
from chat_broker_server.chat.changes import Kind
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import (
    Change,
    Changes,
    Delta,
    Member,
    Message,
    Mine,
    Room,
    RoomUser,
)
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import NotFound

CHANGED = 200
MISSED_AFTER_RESET = 50

_STATES = (
    f"SELECT c.rev, c.kind, c.object, {message_parts.COLUMNS} FROM changes c"
    " LEFT JOIN messages g ON g.project_id = c.project_id AND g.room_id = c.room_id AND g.seq = c.seq"
    " LEFT JOIN users u ON u.project_id = g.project_id AND u.id = g.user_id"
    " WHERE c.project_id = $1 AND c.room_id = $2 AND c.rev > $3 AND c.rev <= $4"
    " AND (c.seq IS NULL OR (c.seq >= $7 AND c.seq <= $6 AND (c.seq >= $5 OR EXISTS ("
    "SELECT 1 FROM messages q WHERE q.project_id = $1 AND q.room_id = $2"
    " AND q.reply_to_seq = c.seq AND q.seq >= $5)))) ORDER BY c.rev LIMIT $8"
)
_MEMBERS = (
    f"SELECT c.rev, u.username, u.display_name, m.joined_rev, {members.COLUMNS} FROM changes c"
    " JOIN users u ON u.project_id = c.project_id AND u.id = c.object"
    " LEFT JOIN members m ON m.project_id = c.project_id AND m.room_id = c.room_id"
    " AND m.user_id = c.object"
    " WHERE c.project_id = $1 AND c.room_id = $2 AND c.rev >= $3 AND c.rev <= $4"
    " AND c.kind = 'member'"
)

_ROOM = (
    f"SELECT {rooms.COLUMNS}, coalesce(r.forgotten_rev, 0) FROM rooms r"
    " WHERE r.project_id = $1 AND r.id = $2 AND r.deleted_at IS NULL"
)
_ROOM_OF_MEMBER = (
    f"SELECT {rooms.COLUMNS}, {mine.COLUMNS}, coalesce(r.forgotten_rev, 0), u.display_name"
    f" FROM {mine.SOURCE} JOIN users u ON u.project_id = m.project_id AND u.id = m.user_id"
    " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3"
)


class Known(NamedTuple):
    """What a client has of a room; None for what it did not say."""

    seq: int | None = None
    rev: int | None = None
    epoch: str | None = None
    from_seq: int = 1
    """Of the oldest message that it has."""


class Seen(NamedTuple):
    """Which messages of a room a client has, and which its user sees."""

    from_seq: int = 1
    """Of the oldest message that the client has."""
    first_seq: int = 1
    """Of the first message that the user sees."""


class Span(NamedTuple):
    """A range of changes: those after `after` up to `upto`, of messages with a seq in a range only, and of those they quote."""

    after: int
    upto: int
    from_seq: int = 1
    to_seq: int = MAX_SEQ
    first_seq: int = 1
    """The reader sees no message before this one."""


class State(NamedTuple):
    """An object as it is now, and the rev of its last change."""

    rev: int
    kind: Kind
    object_id: str
    message: Message | None = None
    room: Room | None = None
    member: Member | None = None
    joined_rev: int | None = None
    """Of a member: the rev of the join. None if the membership is as old as the room."""
    user: RoomUser | None = None
    """Whom a change of a member is about."""


def page(pid: str, room_id: str, since_rev: int, seen: Seen, limit: int) -> Steps[Changes]:
    """The first *limit* changes after *since_rev*. Raises NotFound."""
    room, forgotten_rev = yield from _room(pid, room_id)
    rev = rev_of(room)
    if not forgotten_rev <= since_rev <= rev:
        return Changes(items=[], rev=rev, has_more=False, reset=True)
    span = Span(since_rev, rev, max(seen.from_seq, seen.first_seq), MAX_SEQ, seen.first_seq)
    states, more = yield from states_of(pid, room, span, limit)
    return Changes(items=[change(state) for state in states], rev=rev, has_more=more, reset=False)


class Reader(NamedTuple):
    """Who reads a room, what they have of it, and how many messages to answer at most."""

    user_id: str | None
    """None for who is no member, and reads a room that is not private."""
    known: Known
    missed_limit: int = 200


class OfMember(NamedTuple):
    """What a member lacks of a room, and their name there, which a socket that joins it needs, too."""

    delta: Delta
    display_name: str | None


def delta(pid: str, room_id: str, reader: Reader, epoch: str) -> Steps[Delta]:
    """What the reader lacks of the room. Raises NotFound, also if they are no member."""
    if reader.user_id is not None:
        found = yield from of_member(pid, room_id, reader, epoch)
        if found is None:
            raise NotFound.room()
        return found.delta
    room, forgotten_rev = yield from _room(pid, room_id)
    if room.private:
        raise NotFound.room()
    complete = Delta(room, None, room.last_seq, rev_of(room), epoch)
    return (yield from _lacking(pid, complete, reader, forgotten_rev))


def of_member(pid: str, room_id: str, reader: Reader, epoch: str) -> Steps[OfMember | None]:
    """What the reader lacks of the room; None if they are no member. The membership is read with the room."""
    rows = yield Query(_ROOM_OF_MEMBER, pid, room_id, reader.user_id)
    if not rows:
        return None
    *columns, forgotten_rev, display_name = rows[0]
    room = yield from direct.complete(pid, rooms.from_row(columns[: rooms.WIDTH]))
    side = mine.from_row(columns[rooms.WIDTH :])
    told = yield from receipts.of_delta(pid, room, reader.user_id)
    complete = Delta(room, side, room.last_seq, rev_of(room), epoch, receipts=told)
    lacking = yield from _lacking(pid, complete, reader, forgotten_rev)
    own = yield from with_own_reactions(pid, reader.user_id or "", lacking)
    return OfMember(own, display_name)


def with_own_reactions(pid: str, user_id: str, whole: Delta) -> Steps[Delta]:
    """*whole* with the user's reactions to those of its messages that do not show all their users."""
    changed = [each.message for each in whole.changed if each.message is not UNSET]
    own = yield from reactions.own(pid, user_id, [*whole.missed, *changed])
    return msgspec.structs.replace(whole, own_reactions=own) if own else whole


def _lacking(pid: str, complete: Delta, reader: Reader, forgotten_rev: int) -> Steps[Delta]:
    """*complete*, which lacks nothing, with what *reader* lacks."""
    room, side, known, epoch = complete.room, complete.mine, reader.known, complete.epoch
    first_seq = first_seq_of(room, side)
    if known.seq is None:
        return complete
    if must_reset(known, room, forgotten_rev, epoch):
        newest = max(room.last_seq - MISSED_AFTER_RESET, first_seq - 1)
        missed = yield from between(pid, room, newest, MISSED_AFTER_RESET, first_seq)
        return msgspec.structs.replace(complete, reset=True, missed=missed)
    missed = []
    if known.seq < room.last_seq:
        after_seq = max(known.seq, first_seq - 1)
        missed = yield from between(pid, room, after_seq, reader.missed_limit, first_seq)
    more_missed = bool(missed) and missed[-1].seq < room.last_seq
    states: list[State] = []
    more_changed = False
    if known.rev is not None and known.rev < rev_of(room):
        # Later messages are in `missed`, or are read with `after`.
        from_seq = max(known.from_seq, first_seq)
        span = Span(known.rev, rev_of(room), from_seq, known.seq, first_seq)
        states, more_changed = yield from states_of(pid, room, span, CHANGED)
    return msgspec.structs.replace(
        complete,
        missed=missed,
        changed=[change(state) for state in states],
        has_more=more_missed or more_changed,
    )


def first_seq_of(room: Room, side: Mine | None) -> int:
    """The first message that the reader sees. Who only peeks sees what a newcomer would."""
    if side is not None:
        return side.from_seq
    joined = room.settings is not UNSET and room.settings.history == "joined"
    return room.last_seq + 1 if joined else 1


class Lost(NamedTuple):
    """Changes that a node did not hear of."""

    states: list[State]
    rev: int
    """Up to which these are all."""
    room_rev: int


def after(pid: str, room_id: str, rev: int, limit: int) -> Steps[Lost]:
    """The first *limit* changes after *rev*. Raises NotFound."""
    room, _ = yield from _room(pid, room_id)
    states, more = yield from states_of(pid, room, Span(rev, rev_of(room)), limit)
    return Lost(states, states[-1].rev if more else rev_of(room), rev_of(room))


def change(state: State) -> Change:
    """*state* as it is answered."""
    match state.kind:
        case "message":
            return Change(state.rev, state.kind, message=state.message or UNSET)
        case "room":
            return Change(state.rev, state.kind, room=state.room or UNSET)
        case "member":
            return Change(state.rev, state.kind, member=state.member, user_id=state.object_id)


def events_of(pid: str, state: State, after_rev: int) -> Iterator[Event]:
    """The events that tell *state* to sockets that know the room as of *after_rev*."""
    if state.message is not None:
        deleted = state.message.deleted_at is not None
        build = events.message_deleted if deleted else events.message_updated
        yield build(pid, msgspec.structs.replace(state.message, rev=state.rev))
    elif state.room is not None:
        yield events.room_updated(msgspec.structs.replace(state.room, rev=state.rev))
    elif state.user is not None:
        if state.member is None:
            yield events.user_left(pid, state.user, state.rev)
        elif (state.joined_rev or 0) > after_rev:
            yield events.user_joined(pid, state.member, state.rev)
        if state.member is not None and state.rev != state.joined_rev:
            yield events.member_updated(pid, state.member, state.rev)


def rev_of(room: Room) -> int:
    return 0 if room.rev is UNSET else room.rev


def must_reset(known: Known, room: Room, forgotten_rev: int, epoch: str) -> bool:
    if known.epoch is not None and known.epoch != epoch:
        return True
    if known.rev is None or known.seq is None:
        return False
    return known.seq > room.last_seq or not forgotten_rev <= known.rev <= rev_of(room)


def _room(pid: str, room_id: str) -> Steps[tuple[Room, int]]:
    """The room, and up to which rev its changes are not kept."""
    rows = yield Query(_ROOM, pid, room_id)
    if not rows:
        raise NotFound.room()
    *columns, forgotten_rev = rows[0]
    return (yield from direct.complete(pid, rooms.from_row(columns))), forgotten_rev


def between(
    pid: str, room: Room, after_seq: int, limit: int, first_seq: int
) -> Steps[list[Message]]:
    """The first *limit* messages after *after_seq*, up to the room's last as it was read, for who sees those from *first_seq* on."""
    found = yield from messages.after(pid, room.id, after_seq, limit, first_seq)
    return [message for message in found if message.seq <= room.last_seq]


def states_of(pid: str, room: Room, span: Span, limit: int) -> Steps[tuple[list[State], bool]]:
    """The first *limit* states of *span* by rev, and whether there are more."""
    if span.after >= span.upto:
        return [], False
    rows = yield Query(
        _STATES,
        pid,
        room.id,
        span.after,
        span.upto,
        span.from_seq,
        span.to_seq,
        span.first_seq,
        limit + 1,
    )
    more = len(rows) > limit
    rows = rows[:limit]
    found: dict[int, Sequence[Any]] = {}
    revs = [row[0] for row in rows if row[1] == "member"]
    if revs:
        members_found: Rows = yield Query(_MEMBERS, pid, room.id, revs[0], revs[-1])
        found = {row[0]: row for row in members_found}
    changed = [row[3:] for row in rows if row[1] == "message" and row[3] is not None]
    read = yield from message_parts.read(pid, room.id, changed, span.first_seq)
    said = {message.seq: message for message in read}
    # Of an object that has changed again between the queries, the newer change is beyond the span.
    states = [
        _state(room, row, said, found) for row in rows if row[1] != "member" or row[0] in found
    ]
    return states, more


def _state(
    room: Room, row: Sequence[Any], said: dict[int, Message], found: dict[int, Sequence[Any]]
) -> State:
    rev, kind, object_id, _, seq = row[:5]
    if kind == "message":
        return State(rev, kind, object_id, message=said[seq])
    if kind == "room":
        return State(rev, kind, object_id, room=room)
    _, username, display_name, joined_rev, *columns = found[rev]
    member = members.from_row(columns) if columns[0] is not None else None
    user = RoomUser(room.id, object_id, username, display_name)
    return State(rev, kind, object_id, member=member, joined_rev=joined_rev, user=user)
