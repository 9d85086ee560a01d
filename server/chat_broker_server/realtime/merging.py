"""Merges the states of a message that follow each other too closely.

A message that many react to at once would be told to everybody in the room each time. So a state that comes soon after
another one of the same message is held back, and every later change of the room with it, which keeps them in order. What
has been held back for `Limits.told_again_after` is told, of each message its last state alone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from chat_broker_server.chat.events import UNKNOWN_TO_OLD_CLIENTS, Event
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.packets import EncodedPacket


class WaitingChange(NamedTuple):
    """The event of a change that is to be told after other changes, or after its own message."""

    event: Event
    packet: EncodedPacket
    message_seq: int | None
    unknown_to_old_clients: bool
    """Older clients do not know the event: only connections that know revs get it."""

    @classmethod
    def of(cls, event: Event, message_seq: int | None) -> "WaitingChange":
        packet = packets.event(event.name, event.payload)
        return cls(event, packet, message_seq, event.name in UNKNOWN_TO_OLD_CLIENTS)

    def is_about(self, connection: Connection) -> bool:
        """Whether the event is about the user of *connection*."""
        return connection.claims is not None and connection.claims.sub == self.event.user_id


class RecentlyTold:
    """The messages whose state was told within the last *seconds*."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._told: dict[int, float] = {}  # the earliest first

    def note(self, message_seq: int) -> None:
        now = asyncio.get_running_loop().time()
        self._forget_those_before(now)
        self._told.pop(message_seq, None)
        self._told[message_seq] = now

    def has(self, message_seq: int) -> bool:
        if not self._told:
            return False
        self._forget_those_before(asyncio.get_running_loop().time())
        return message_seq in self._told

    def _forget_those_before(self, now: float) -> None:
        while self._told:
            first = next(iter(self._told))
            if now - self._told[first] < self._seconds:
                return
            del self._told[first]


def merged(run: Sequence[tuple[int, WaitingChange]]) -> Iterator[tuple[int, WaitingChange | None]]:
    """Changes by rev, with None for the states of a message of which a later one follows.

    The later one does not say why it is told: there is more than one reason.
    """
    last_of = {each.message_seq: rev for rev, each in run if each.message_seq is not None}
    replaced = set()
    for rev, each in run:
        if each.message_seq is None:
            yield rev, each
        elif rev != last_of[each.message_seq]:
            replaced.add(each.message_seq)
            yield rev, None
        else:
            yield rev, _without_reason(each) if each.message_seq in replaced else each


def _without_reason(change: WaitingChange) -> WaitingChange:
    payload = msgspec.json.decode(change.event.payload)
    if payload.pop("change", None) is None:
        return change
    event = msgspec.structs.replace(change.event, payload=msgspec.json.encode(payload))
    return WaitingChange.of(event, change.message_seq)
