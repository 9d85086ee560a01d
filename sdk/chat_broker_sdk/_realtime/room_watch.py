"""What a socket that watches all rooms of its user knows of them, over reconnects. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chat_broker_sdk._models import Delta, Mine, MineEvent, Model, RoomRemoved, SyncResult

MOST_KNOWN = 500
"""Rooms that a request may name."""

Have = Mapping[str, Sequence[int]]
"""Room id → (last_seq, rev, mine.version)."""


class Told(NamedTuple):
    """An event for the handlers."""

    event: str
    value: Model


class RoomWatch:
    """Makes the requests of watchRooms, and puts their answers and the events in one order.

    While a request is under way events are held back: they are newer than its answer. *options*: `messages`, `limit`,
    `deliver`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        # The newest known last, as (last_seq, rev, version). An activity changes nothing here: it tells the newest
        # message alone, so the room is to be answered after a reconnect.
        self._known: dict[str, tuple[int, ...]] = {}
        self._asked: dict[str, Any] = {}
        self._epoch: str | None = None
        self._token: str | None = None
        self._version: int | None = None
        self._requests = 0
        self._held: list[Told] = []

    @property
    def has_begun(self) -> bool:
        """Whether a request was answered. The first one is sent again over the next connection by itself."""
        return self._epoch is not None

    def begin(
        self, have: Have, *, epoch: str | None, token: str | None, have_version: int | None
    ) -> None:
        """Start from what the client knows."""
        self._known = {room_id: tuple(entry) for room_id, entry in have.items()}
        self._epoch, self._token, self._version = epoch, token, have_version

    def request(self, cursor: str | None = None) -> dict[str, Any]:
        """The next request: for the first page without *cursor*, else for the page after the last answer."""
        self._requests += 1
        if cursor is None:
            newest = list(self._known.items())[-MOST_KNOWN:]
            known = {
                "have": {room_id: list(entry) for room_id, entry in newest},
                "epoch": self._epoch,
                "token": self._token,
                "have_version": self._version,
            }
            self._asked = {name: value for name, value in known.items() if value is not None}
            return {**self._options, **self._asked}
        return {**self._options, **self._asked, "cursor": cursor}

    def answered(self, answer: SyncResult | None) -> list[Told]:
        """What to tell after a request: its *answer* (None: it failed), then what was held back."""
        self._requests -= 1
        told: list[Told] = []
        if answer is not None:
            for delta in reversed(answer.deltas):
                self._note(delta)
            told = [Told("room_added", delta) for delta in answer.deltas]
            for room_id in answer.removed:
                if self._known.pop(room_id, None) is not None:
                    told.append(Told("room_removed", RoomRemoved(room_id=room_id)))
            if answer.reload:
                told.append(Told("mine", MineEvent(reload=True)))
            self._epoch, self._token = answer.epoch, answer.token or self._token
            self._version = answer.version if answer.version is not None else self._version
        if not self._requests:
            held, self._held = self._held, []
            for each in held:
                told += self.event(each)
        return told

    def event(self, told: Told) -> list[Told]:
        """What to tell after an event has arrived."""
        if self._requests:
            self._held.append(told)
            return []
        value = told.value
        if isinstance(value, Delta):
            self._note(value)
        elif isinstance(value, RoomRemoved):
            self._known.pop(value.room_id, None)
        elif isinstance(value, MineEvent) and value.mine is not None and value.room_id is not None:
            self._note_mine(value.room_id, value.mine)
        return [told]

    def _note(self, delta: Delta) -> None:
        self._known.pop(delta.room.id, None)
        version = 0 if delta.mine is None else delta.mine.version
        self._known[delta.room.id] = (delta.last_seq, delta.rev, version)

    def _note_mine(self, room_id: str, mine: Mine) -> None:
        if room_id in self._known:
            last_seq, rev, _ = self._known[room_id]
            self._known[room_id] = (last_seq, rev, mine.version)
