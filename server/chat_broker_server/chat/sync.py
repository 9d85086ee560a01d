"""What a user's client lacks of all its rooms: a page of deltas, those with the newest activity first.

Nothing is stored for a client. It sends what it has of each room, and what it does not have is found by comparing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_kit.text.timestamps import parse_timestamp
from chat_broker_server.chat import blocks, delta, direct, mine, receipts, rooms, sizes
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.delta import Known, Span
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import Delta, Message, Sync

CHANGED: Final = 50
"""How many changes of a room to answer."""
_OVERHEAD = 64 * 1024
"""Bytes for what a response has besides its deltas: `removed` has at most 500 ids."""
_CHUNK = 50
_JOIN_MARGIN = timedelta(minutes=1)
"""A join may be committed after another one with a later time, on a node whose clock is ahead."""

_MEMBERSHIPS = (
    "SELECT m.room_id, r.last_seq, coalesce(r.rev, 0), coalesce(m.version, 0),"
    f" {rooms.ACTIVITY}, r.created_at, m.joined_at FROM {mine.SOURCE}"
    " WHERE m.project_id = $1 AND m.user_id = $2"
)
_MARKS = ", ".join(f"${number}" for number in range(3, _CHUNK + 3))
_ROOMS = (
    f"SELECT {rooms.MEMBER_COLUMNS}, coalesce(r.forgotten_rev, 0)"
    f" FROM {rooms.MEMBER_SOURCE.format(members='members m')}"
    f" WHERE m.project_id = $1 AND m.user_id = $2 AND m.room_id IN ({_MARKS})"
)
_PAIRS = ", ".join(
    f"(CAST(${number} AS TEXT), CAST(${number + 1} AS BIGINT))"
    for number in range(2, 2 * _CHUNK + 2, 2)
)
_OLDEST_KNOWN = (
    f"SELECT min(g.created_at) FROM (VALUES {_PAIRS}) v JOIN messages g"
    " ON g.project_id = $1 AND g.room_id = v.column1 AND g.seq = v.column2"
)

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Had(NamedTuple):
    """What a client has of a room."""

    last_seq: int
    rev: int
    version: int
    """How often the user's own side has changed, as `Mine.version` counts."""


class SyncQuery(NamedTuple):
    have: Mapping[str, Had]
    epoch: str | None = None
    messages: int = 1
    """How many of the newest messages of a room to answer."""
    limit: int = 50
    cursor: str | None = None
    token: str | None = None
    have_version: int | None = None
    """The user's own, from an earlier answer."""
    size: int = sizes.LARGEST_RESPONSE
    """How many bytes the answer may have."""


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page begins, and what the first page was made of."""

    newest: str
    """The newest activity then. What was active later comes last, so that no room is passed over."""
    active_since: str | None
    joined_since: str | None
    token: str
    activity: str
    room_id: str


class _Membership(NamedTuple):
    room_id: str
    last_seq: int
    rev: int
    version: int
    activity: str
    """Of the newest message, or of the room's creation."""
    created_at: str
    joined_at: str


def sync(pid: str, user_id: str, query: SyncQuery, epoch: str) -> Steps[Sync]:
    """The next page for the client. Raises NotFound for no such user, BadInput for a foreign cursor or token."""
    version = yield from blocks.version_of(pid, user_id)
    totals = yield from mine.totals(pid, user_id)
    rows = yield Query(_MEMBERSHIPS, pid, user_id)
    memberships = [_Membership(*row) for row in rows]
    if query.cursor is not None:
        begin = _read_cursor(query.cursor)
    else:
        begin = yield from _first_page(pid, query, memberships, epoch)
    wanted = _wanted(query, begin, memberships, epoch)
    page = wanted[: query.limit]
    answered = yield from _deltas(pid, user_id, query, [each.room_id for each in page], epoch)
    deltas = _fitting(answered, query.size)
    # A room that was left meanwhile has no delta.
    last = deltas[-1].room.id if len(deltas) < len(answered) else page[-1].room_id if page else None
    more = bool(wanted) and wanted[-1].room_id != last
    end = next((each for each in page if each.room_id == last), None)
    present = {each.room_id for each in memberships}
    return Sync(
        deltas=deltas,
        removed=[room_id for room_id in query.have if room_id not in present],
        unread=totals,
        epoch=epoch,
        has_more=more,
        cursor=_written(begin, end) if more and end is not None else None,
        version=version,
        reload=True if query.have_version not in {None, version} else UNSET,
        token=UNSET if more else begin.token,
    )


def added(pid: str, user_id: str, room_id: str, messages: int, epoch: str) -> Steps[Delta | None]:
    """The room for a client that does not have it, with its newest *messages*; None if the user is no member."""
    deltas = yield from _deltas(pid, user_id, SyncQuery({}, messages=messages), [room_id], epoch)
    return _shortened(deltas[0], sizes.LARGEST_RESPONSE - _OVERHEAD) if deltas else None


def _first_page(
    pid: str, query: SyncQuery, memberships: Sequence[_Membership], epoch: str
) -> Steps[_Cursor]:
    """What all pages for the client are made of."""
    active_since = None
    if query.epoch in {None, epoch}:
        active_since = yield from _least_recent(pid, query.have, memberships)
    last_join = max((each.joined_at for each in memberships), default="")
    return _Cursor(
        newest=max((each.activity for each in memberships), default=""),
        active_since=active_since,
        joined_since=None if query.token is None else decoded("token", query.token, str),
        token=encoded(_earlier(last_join) if last_join else ""),
        activity="",
        room_id="",
    )


def _least_recent(
    pid: str, have: Mapping[str, Had], memberships: Sequence[_Membership]
) -> Steps[str | None]:
    """The activity of the client's least recent room, as the client knows it. None if it has no room."""
    times: list[str] = []
    seen: list[str | int] = []
    for each in memberships:
        had = have.get(each.room_id)
        if had is None:
            continue
        if had.last_seq >= each.last_seq:
            times.append(each.activity)
        elif had.last_seq == 0:
            times.append(each.created_at)
        else:
            seen += [each.room_id, had.last_seq]
    for chunk in _chunks(seen, 2):
        rows = yield Query(_OLDEST_KNOWN, pid, *chunk)
        times += [row[0] for row in rows if row[0] is not None]
    return min(times, default=None)


def _wanted(
    query: SyncQuery, begin: _Cursor, memberships: Iterable[_Membership], epoch: str
) -> list[_Membership]:
    """The rooms to answer on this page and later ones, in order."""

    def lacks(each: _Membership) -> bool:
        had = query.have.get(each.room_id)
        if had is not None:
            same = (each.last_seq, each.rev, each.version) == had
            return not same or query.epoch not in {None, epoch}
        if begin.active_since is None or each.activity >= begin.active_since:
            return True
        return begin.joined_since is not None and each.joined_at > begin.joined_since

    wanted = [_placed(each, begin) for each in memberships if lacks(each)]
    wanted.sort(key=lambda each: each.room_id)
    wanted.sort(key=lambda each: each.activity, reverse=True)
    if query.cursor is None:
        return wanted
    return [
        each
        for each in wanted
        if each.activity < begin.activity
        or (each.activity == begin.activity and each.room_id > begin.room_id)
    ]


def _placed(each: _Membership, begin: _Cursor) -> _Membership:
    return each._replace(activity="") if each.activity > begin.newest else each


def _deltas(
    pid: str, user_id: str, query: SyncQuery, room_ids: Sequence[str], epoch: str
) -> Steps[list[Delta]]:
    """What the client lacks of these rooms, without those that the user has left meanwhile."""
    found: dict[str, Sequence[Any]] = {}
    for chunk in _chunks(room_ids, 1):
        rows: Rows = yield Query(_ROOMS, pid, user_id, *chunk)
        found |= {row[0]: row for row in rows}
    present = [room_id for room_id in room_ids if room_id in found]
    columns = [found[room_id][:-1] for room_id in present]
    all_parts = yield from rooms.parts_of_member_rows(pid, columns)
    whole = yield from direct.with_members(pid, [room for room, _, _ in all_parts])
    deltas = []
    for room, (_, side, last_message) in zip(whole, all_parts, strict=True):
        had = query.have.get(room.id)
        known = Known() if had is None else Known(had.last_seq, had.rev, query.epoch)
        reset = delta.must_reset(known, room, found[room.id][-1], epoch)
        known = Known() if reset else known
        lacking = yield from _delta(pid, (room, side, last_message), known, query.messages)
        told = yield from receipts.of_delta(pid, room, user_id)
        own = yield from delta.with_own_reactions(pid, user_id, lacking)
        deltas.append(msgspec.structs.replace(own, epoch=epoch, reset=reset, receipts=told))
    return deltas


def _delta(pid: str, parts: rooms.Parts, known: Known, limit: int) -> Steps[Delta]:
    """The newest *limit* messages after those known, and what changed of those known."""
    room, side, last_message = parts
    seen = max(known.seq or 0, side.from_seq - 1)
    count = min(limit, room.last_seq - seen)
    missed: list[Message] = []
    if count == 1 and last_message is not None:
        missed = [last_message]
    elif count > 0:
        missed = yield from delta.between(pid, room, room.last_seq - count, count, side.from_seq)
    states: list[delta.State] = []
    more = room.last_seq - seen > len(missed)
    if known.seq is not None and known.rev is not None:
        span = Span(known.rev, delta.rev_of(room), side.from_seq, known.seq, side.from_seq)
        states, more_changed = yield from delta.states_of(pid, room, span, CHANGED)
        more = more or more_changed
    return Delta(
        room,
        side,
        room.last_seq,
        delta.rev_of(room),
        epoch="",
        missed=missed,
        changed=[delta.change(state) for state in states],
        has_more=more,
    )


def _fitting(deltas: Sequence[Delta], size: int) -> list[Delta]:
    """As many of *deltas* as fit into *size* bytes, at least one. One that is too large alone is shortened."""
    most = max(size - _OVERHEAD, 0)
    fitting = sizes.fitting(deltas, most)
    return [_shortened(fitting[0], most)] if len(fitting) == 1 else fitting


def _shortened(whole: Delta, size: int) -> Delta:
    """*whole* in at most *size* bytes: with the newest messages and the oldest changes that fit, of each at least one."""
    if len(_encode(whole)) <= size:
        return whole
    left = size - len(_encode(msgspec.structs.replace(whole, missed=[], changed=[])))
    changed = sizes.fitting(whole.changed, left // 2)
    newest_first = sizes.fitting(whole.missed[::-1], left - len(_encode(changed)))
    return msgspec.structs.replace(whole, missed=newest_first[::-1], changed=changed, has_more=True)


def _written(begin: _Cursor, last: _Membership) -> str:
    """The cursor after the room *last*."""
    return encoded(msgspec.structs.replace(begin, activity=last.activity, room_id=last.room_id))


def _read_cursor(text: str) -> _Cursor:
    return decoded("cursor", text, _Cursor)


def _earlier(joined_at: str) -> str:
    """*joined_at* less the margin."""
    return timestamp((parse_timestamp(joined_at) - _JOIN_MARGIN).timestamp())


def _chunks(values: Sequence[T], width: int) -> Iterator[list[T]]:
    """Lists of _CHUNK groups of *width* values. The last one is padded, so that there is one prepared statement."""
    size = _CHUNK * width
    for at in range(0, len(values), size):
        chunk = list(values[at : at + size])
        yield chunk + chunk[-width:] * ((size - len(chunk)) // width)
