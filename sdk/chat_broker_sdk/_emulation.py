"""What `sync` and the totals of unread are on a server that offers neither, worked out from what it lists. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ._errors import ValidationError
from ._models import Delta, Message, Room, SyncResult, Totals

MOST_ROOMS_KNOWN = 500
LARGEST_LIMIT = 200
MOST_MESSAGES = 20

_NEVER = datetime.min.replace(tzinfo=UTC)

Have = Mapping[str, Sequence[int]]
"""What a client knows: room id → (last_seq, rev, mine.version)."""


def emulated_totals(rooms: Iterable[Room]) -> Totals:
    """The totals of the *rooms*' `unread`. Such a server knows neither silenced nor archived rooms."""
    unread = [room.unread for room in rooms if room.unread]
    return Totals(rooms=len(unread), messages=sum(unread))


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Which of a user's rooms differ from what the client knows, and which messages to read of each."""

    rooms: tuple[Room, ...]
    removed: tuple[str, ...]
    unread: Totals
    cursor: str | None
    known: Mapping[str, int]
    reset: frozenset[str]
    messages: int

    def after(self, room: Room) -> int | None:
        """The `seq` after which the room's messages are to be read, newest *messages* at most; None: read nothing."""
        last = room.last_seq or 0
        known = self.known.get(room.id, 0)
        return max(known, last - self.messages) if self.messages and last > known else None

    def delta(self, room: Room, missed: Sequence[Message]) -> Delta:
        """What the client lacks of the room."""
        return Delta(
            room=room,
            last_seq=room.last_seq or 0,
            reset=room.id in self.reset,
            missed=tuple(sorted(missed, key=lambda message: message.seq or 0)),
            partial=True,
        )

    def result(self, deltas: Sequence[Delta]) -> SyncResult:
        """The answer with the *deltas* of `rooms`."""
        return SyncResult(
            deltas=tuple(deltas),
            removed=self.removed,
            unread=self.unread,
            has_more=self.cursor is not None,
            cursor=self.cursor,
        )


def sync_plan(
    rooms: Sequence[Room],
    *,
    have: Have,
    epoch: str | None = None,
    messages: int = 1,
    limit: int = 50,
    cursor: str | None = None,
) -> SyncPlan:
    """What to answer to a client that knows *have*. *rooms*: all of the user's. Raises ValidationError.

    A room is answered if its `last_seq` is another, or if it is new and was active since the least recent known one.
    """
    if (
        len(have) > MOST_ROOMS_KNOWN
        or not 0 <= messages <= MOST_MESSAGES
        or not 1 <= limit <= LARGEST_LIMIT
    ):
        raise ValidationError(
            f"have has at most {MOST_ROOMS_KNOWN} rooms, messages is 0 to {MOST_MESSAGES},"
            f" limit is 1 to {LARGEST_LIMIT}",
            code="bad_request",
        )
    by_activity = sorted(rooms, key=_place, reverse=True)
    foreign = epoch is not None  # such a server has no epoch: what is known under one is worthless
    known = {room_id: entry[0] if entry else 0 for room_id, entry in have.items()}
    least = min((_place(room)[0] for room in rooms if room.id in known), default=_NEVER)
    reset = {
        room.id
        for room in rooms
        if room.id in known and (foreign or known[room.id] > (room.last_seq or 0))
    }
    chosen = [
        room
        for room in by_activity
        if room.id in reset
        or (
            known[room.id] != (room.last_seq or 0) if room.id in known else _place(room)[0] >= least
        )
    ]
    left = [room for room in chosen if cursor is None or _cursor(room) < cursor]
    more = len(left) > limit
    return SyncPlan(
        rooms=tuple(left[:limit]),
        removed=tuple(sorted(known.keys() - {room.id for room in rooms})) if cursor is None else (),
        unread=emulated_totals(rooms),
        cursor=_cursor(left[limit - 1]) if more else None,
        known={room_id: seq for room_id, seq in known.items() if room_id not in reset},
        reset=frozenset(reset),
        messages=messages,
    )


def _place(room: Room) -> tuple[datetime, str]:
    """By which rooms are ordered: the newest activity, then the id."""
    return room.last_message_at or room.created_at or _NEVER, room.id


def _cursor(room: Room) -> str:
    """The room's place in the order, as text that sorts likewise."""
    at, room_id = _place(room)
    return f"{at.astimezone(UTC).isoformat(timespec='microseconds')}|{room_id}"
