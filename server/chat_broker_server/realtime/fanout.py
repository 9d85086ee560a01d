"""Delivers the events of rooms to their subscribers on this node.

Each subscriber gets a room's messages in `seq` order, each exactly once. A message that overtakes others waits a moment
for them; then they are read from the database. Nothing here waits for a socket.

All events of a room within one turn of the event loop, such as messages of one COMMIT, are one write to each socket. It
happens at the end of the turn, and before the subscribers change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import msgspec
import structlog
from msgspec import UNSET

from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_server.chat import delta, members, sizes
from chat_broker_server.chat.delta import Lost, State
from chat_broker_server.chat.events import (
    MEMBERSHIPS,
    MESSAGE_CHANGES,
    Event,
    message_posted,
    room_updated,
)
from chat_broker_server.chat.models import Message, Room
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.context import Counts
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.merging import RecentlyTold, WaitingChange, merged
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.send_queue import SendQueue
from chat_broker_server.realtime.slow_readers import MAX_BACKLOG

log = SampledEvents(structlog.get_logger(__name__))

ReadMissed = Callable[[str, str, int, int], Awaitable[list[Message]]]
"""(project, room, after this seq, limit) → messages, oldest first."""

ReadChanges = Callable[[str, str, int, int], Awaitable[Lost]]
"""(project, room, after this rev, limit) → changes, oldest first."""

_MAX_UNSENT_BYTES = 65_536  # more is written at once, so that send queues count it
_GAP_PAGE = 200
_CHANGES_PAGE = 20  # as one of them may have 50 KB of JSON
_GAP_RETRY_SECONDS = 1.0


class _Seq(msgspec.Struct):
    seq: int


class _Size(msgspec.Struct):
    member_count: int
    small: bool


_decode_size = msgspec.json.Decoder(_Size).decode
_decode_seq = msgspec.json.Decoder(_Seq).decode


class Counters(NamedTuple):
    """How much of a room a subscriber has: messages up to `seq`, changes up to `rev`."""

    seq: int = 0
    rev: int = 0

    def covers(self, seq: int | None, rev: int | None) -> bool:
        return (seq is not None and seq <= self.seq) or (rev is not None and rev <= self.rev)

    def joined(self, other: "Counters") -> "Counters":
        return Counters(max(self.seq, other.seq), max(self.rev, other.rev))


class Backlog:
    """The events of a room for a connection that is not subscribed yet. It has what `known` covers already."""

    __slots__ = ("known", "overflowed", "packets")

    def __init__(self, known: Counters) -> None:
        self.known = known
        self.packets: list[tuple[int | None, int | None, EncodedPacket, int | None]] = []
        self.overflowed = False

    def add(
        self, seq: int | None, rev: int | None, ready: EncodedPacket, about: int | None = None
    ) -> None:
        """*about* is the seq of the message that a change is of."""
        if len(self.packets) < MAX_BACKLOG:
            self.packets.append((seq, rev, ready, about))
        else:
            self.overflowed = True


_NOTHING_READ: Final = Counters()


class RoomFanout:
    """The subscribers of one room, and the state of its delivery."""

    __slots__ = (
        "_schedule_flush",
        "_schedule_gap_fill",
        "_tell_size",
        "_told",
        "_told_again_after",
        "ahead",
        "backlogs",
        "gap_fill",
        "hidden",
        "highest_rev",
        "highest_seq",
        "hold",
        "last_delivered_rev",
        "last_delivered_seq",
        "members",
        "out_of_order",
        "removed_while_joining",
        "small",
        "subscribers",
        "unsent",
        "unsent_bytes",
        "waiting_changes",
    )

    def __init__(
        self,
        schedule_flush: Callable[["RoomFanout"], None],
        schedule_gap_fill: Callable[["RoomFanout"], None],
        tell_size: Callable[[], None],
        told_again_after: float,
    ) -> None:
        """*schedule_flush* calls `flush` at the end of this turn of the event loop.

        *tell_size* is called when another number of members is to be told as a state of the room.
        """
        self._schedule_flush = schedule_flush
        self._schedule_gap_fill = schedule_gap_fill
        self._tell_size = tell_size
        self._told_again_after = told_again_after
        self._told = RecentlyTold(told_again_after)
        self.unsent: list[EncodedPacket] = []
        self.unsent_bytes = 0
        self.subscribers: dict[Connection, SendQueue] = {}
        # Subscribers that have more than was delivered here.
        self.ahead: dict[Connection, Counters] = {}
        # Connections that are joining, or whose membership is being checked.
        self.backlogs: dict[Connection, Backlog] = {}
        self.removed_while_joining: set[Connection] = set()
        # Connections of members who have hidden what was said, with the first message that they see.
        self.hidden: dict[Connection, int] = {}
        # As the last subscriber has read it, counted on with those who come and go.
        self.members = 0
        self.small = True
        # None until the first subscriber has read it from the database.
        self.last_delivered_seq: int | None = None
        self.highest_seq = 0  # of all messages that are known to exist
        self.out_of_order: dict[int, EncodedPacket] = {}
        self.last_delivered_rev = 0  # as of the time when last_delivered_seq was read
        self.highest_rev = 0  # of all changes that are known to exist
        self.waiting_changes: dict[int, WaitingChange] = {}
        # Set while changes are held back, so that the states of a message can be merged.
        self.hold: asyncio.TimerHandle | None = None
        self.gap_fill: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        return not (self.subscribers or self.ahead or self.backlogs)

    def has(self, connection: Connection) -> bool:
        return (
            connection in self.subscribers
            or connection in self.ahead
            or connection in self.backlogs
        )

    def connections(self) -> list[Connection]:
        return [*self.subscribers, *self.ahead, *self.backlogs]

    @property
    def delivered(self) -> Counters:
        return Counters(self.last_delivered_seq or 0, self.last_delivered_rev)

    @property
    def has_gap(self) -> bool:
        return self.last_delivered_seq is not None and (
            self.last_delivered_seq < self.highest_seq
            or (self.last_delivered_rev < self.highest_rev and self.hold is None)
        )

    def send(
        self,
        ready: EncodedPacket,
        seq: int | None = None,
        rev: int | None = None,
        about: int | None = None,
    ) -> None:
        """Send to all subscribers and backlogs. *seq* is set for a message, *rev* for a change, *about* for that of a message."""
        if not self.unsent:
            self._schedule_flush(self)
        self.unsent.append(ready)
        self.unsent_bytes += ready.size
        if self.backlogs:
            for backlog in self.backlogs.values():
                backlog.add(seq, rev, ready, about)
        if self.ahead:
            self.flush()
            for connection, known in self.ahead.items():
                if not known.covers(seq, rev):
                    connection.send_queue.send(self.as_seen(connection, ready))
            self._catch_up()
        elif self.unsent_bytes > _MAX_UNSENT_BYTES:
            self.flush()

    def send_unnumbered(self, ready: EncodedPacket) -> None:
        """Send to all, also to those who have more than was delivered here."""
        self.flush()
        for backlog in self.backlogs.values():
            backlog.add(None, None, ready)
        for connection in (*self.subscribers, *self.ahead):
            connection.send_queue.send(ready)

    def _send_to_some(self, change: WaitingChange, rev: int) -> None:
        """Send the event of a change that older clients do not know, or of a message that not all see."""
        self.flush()
        for connection, backlog in self.backlogs.items():
            if connection.knows_revs or not change.unknown_to_old_clients:
                backlog.add(None, rev, change.packet, change.message_seq)
        for connection in (*self.subscribers, *self.ahead):
            known = self.ahead.get(connection)
            if (
                (connection.knows_revs or not change.unknown_to_old_clients)
                and self.sees(connection, change.message_seq)
                and (known is None or not known.covers(None, rev))
            ):
                connection.send_queue.send(self.as_seen(connection, change.packet))
        self._catch_up()

    def _note_size(self, payload: bytes) -> None:
        with suppress(ValueError):
            size = _decode_size(payload)
            self.members, self.small = size.member_count, size.small

    def _send_to_user(self, change: WaitingChange, rev: int) -> None:
        """Send the event of a membership to the sockets of its own user."""
        self.flush()
        for connection, backlog in self.backlogs.items():
            if change.is_about(connection):
                backlog.add(None, rev, change.packet)
        for connection in (*self.subscribers, *self.ahead):
            if change.is_about(connection):
                connection.send_queue.send(change.packet)
        self._catch_up()

    def sees(self, connection: Connection, message_seq: int | None) -> bool:
        """Whether the user of *connection* may hear of a change of this message."""
        return message_seq is None or message_seq >= self.hidden.get(connection, 1)

    def as_seen(self, connection: Connection, ready: EncodedPacket) -> EncodedPacket:
        """*ready* without what it quotes, if that is hidden from the user of *connection*."""
        return ready.as_seen(self.hidden.get(connection, 1)) if self.hidden else ready

    def stop(self) -> None:
        """End what waits for its time."""
        if self.gap_fill is not None:
            self.gap_fill.cancel()
        if self.hold is not None:
            self.hold.cancel()

    def _catch_up(self) -> None:
        """Make subscribers of those who were ahead and are no more."""
        delivered = self.delivered
        for connection, known in list(self.ahead.items()):
            if known.seq <= delivered.seq and known.rev <= delivered.rev:
                self.subscribers[connection] = connection.send_queue
                del self.ahead[connection]

    def flush(self) -> None:
        """Write the unsent events to the subscribers. Call it before they change."""
        unsent = self.unsent
        if not unsent:
            return
        self.unsent = []
        self.unsent_bytes = 0
        frame = (
            unsent[0].frame if len(unsent) == 1 else b"".join([packet.frame for packet in unsent])
        )
        quotes = bool(self.hidden) and any(packet.quotes for packet in unsent)
        for connection, send_queue in self.subscribers.items():
            if quotes and connection in self.hidden:
                for ready in unsent:
                    send_queue.send(self.as_seen(connection, ready))
            elif send_queue.open:
                send_queue.write(frame)
            else:
                for ready in unsent:
                    send_queue.enqueue(ready)

    def deliver_next(self) -> None:
        """Send the messages from `out_of_order` that are next, then changes."""
        while (
            self.last_delivered_seq is not None
            and (ready := self.out_of_order.pop(self.last_delivered_seq + 1, None)) is not None
        ):
            self.last_delivered_seq += 1
            self.send(ready, self.last_delivered_seq)
        if self.waiting_changes:
            self.deliver_changes()

    def deliver_changes(self) -> None:
        """Send the waiting changes that are next, each after its message, unless they are held back."""
        while self.hold is None and (change := self._next_change()) is not None:
            if change.message_seq is not None and self._told.has(change.message_seq):
                self.hold_back()
            else:
                self._deliver_change(self.last_delivered_rev + 1, change)

    def was_told(self, states: Iterable[State]) -> bool:
        """Whether the message of one of these was told a moment ago."""
        return any(each.message is not None and self._told.has(each.message.seq) for each in states)

    def hold_back(self) -> None:
        """Send no change for a moment, so that the states of a message are merged."""
        self.hold = asyncio.get_running_loop().call_later(self._told_again_after, self._release)

    def _next_change(self, after: int = 0) -> WaitingChange | None:
        """The change after the last delivered one and *after* more, if it is there and its message was delivered."""
        if self.last_delivered_seq is None:
            return None
        change = self.waiting_changes.get(self.last_delivered_rev + after + 1)
        if change is None or (change.message_seq or 0) > self.last_delivered_seq:
            return None
        return change

    def _release(self) -> None:
        """Send the changes that were held back."""
        self.hold = None
        run: list[tuple[int, WaitingChange]] = []
        while (change := self._next_change(len(run))) is not None:
            run.append((self.last_delivered_rev + len(run) + 1, change))
        for rev, told in merged(run):
            self._deliver_change(rev, told)
        self._schedule_gap_fill(self)

    def _deliver_change(self, rev: int, change: WaitingChange | None) -> None:
        """Send a change that is next; None: nothing, as a later state of the message follows."""
        del self.waiting_changes[rev]
        self.last_delivered_rev = rev
        if change is None:
            self._catch_up()
        else:
            self.send_change(change, rev)

    def send_change(self, change: WaitingChange, rev: int) -> None:
        if change.event.name in MEMBERSHIPS:
            was_small = self.small
            self.members += MEMBERSHIPS[change.event.name]
            self.small = members.is_small(self.members, was_small=was_small)
            if not self.small:
                self._send_to_user(change, rev)
                if not was_small:  # else a roomUpdated follows that says so
                    self._tell_size()
                return
        elif change.event.name == "roomUpdated":
            self._note_size(change.event.payload)
        if change.message_seq is not None:
            self._told.note(change.message_seq)
        if change.unknown_to_old_clients or (self.hidden and change.message_seq is not None):
            self._send_to_some(change, rev)
        else:
            self.send(change.packet, rev=rev, about=change.message_seq)


class Fanout:
    """The rooms of this node that have subscribers."""

    def __init__(
        self, read_missed: ReadMissed, read_changes: ReadChanges, limits: Limits, counts: Counts
    ) -> None:
        self.tell_size: Callable[[RoomKey], None] = lambda _: None
        """Called when another number of members is to be told as a state of the room, see `tell_room`."""
        self._read_missed = read_missed
        self._read_changes = read_changes
        self._limits = limits
        self._rooms: dict[RoomKey, RoomFanout] = {}
        self._counts = counts
        self._unsent: list[RoomFanout] = []

    def __len__(self) -> int:
        return len(self._rooms)

    def keys(self) -> list[RoomKey]:
        return list(self._rooms)

    def members(self, key: RoomKey) -> list[Connection]:
        """All connections in the room on this node, also those that are joining."""
        room = self._rooms.get(key)
        return room.connections() if room else []

    def close(self) -> None:
        self.flush()
        for room in self._rooms.values():
            room.stop()
        self._rooms.clear()

    def flush(self) -> None:
        """Write the unsent events of all rooms. Runs at the end of each turn that has some."""
        unsent, self._unsent = self._unsent, []
        for room in unsent:
            room.flush()

    def _schedule_flush(self, room: RoomFanout) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(room)

    # -- subscribing ------------------------------------------------------------------------------

    def start_joining(self, key: RoomKey, connection: Connection) -> bool:
        """Collect the room's events for *connection* until `subscribe`. False if that has started already."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = RoomFanout(
                self._schedule_flush,
                partial(self._schedule_gap_fill, key),
                lambda: self.tell_size(key),
                self._limits.told_again_after,
            )
        if connection in room.backlogs:
            return False
        room.flush()
        room.subscribers.pop(connection, None)
        room.backlogs[connection] = Backlog(room.ahead.pop(connection, Counters()))
        return True

    def was_removed_while_joining(self, key: RoomKey, connection: Connection) -> bool:
        """Whether its user was removed from the room while *connection* was joining. Clears the mark."""
        room = self._rooms.get(key)
        if room is None or connection not in room.removed_while_joining:
            return False
        room.removed_while_joining.discard(connection)
        return True

    def replace_send_queue(self, key: RoomKey, connection: Connection) -> None:
        """Called for a connection whose send queue was replaced."""
        room = self._rooms.get(key)
        if room is not None and connection in room.subscribers:
            room.flush()
            room.subscribers[connection] = connection.send_queue

    def is_joining(self, key: RoomKey, connection: Connection) -> bool:
        room = self._rooms.get(key)
        return room is not None and connection in room.backlogs

    def has_no_gap(self, key: RoomKey, connection: Connection, read: Counters) -> bool:
        """Whether the backlog follows on *read* without a gap. If not, read the room again."""
        room = self._rooms.get(key)
        backlog = room.backlogs.get(connection) if room else None
        if room is None or backlog is None or room.last_delivered_seq is None:
            return True
        first_seq = next((seq for seq, *_ in backlog.packets if seq is not None), MAX_SEQ)
        first_rev = next((rev for _, rev, *_ in backlog.packets if rev is not None), MAX_SEQ)
        return (read.seq >= room.last_delivered_seq or first_seq <= read.seq + 1) and (
            read.rev >= room.last_delivered_rev or first_rev <= read.rev + 1
        )

    def subscribe(
        self, key: RoomKey, connection: Connection, read: Counters = _NOTHING_READ
    ) -> None:
        """Send the backlog and subscribe *connection*, for which the room was *read* up to there."""
        room = self._rooms.get(key)
        backlog = room.backlogs.pop(connection, None) if room else None
        if room is None or backlog is None:
            return
        if backlog.overflowed:
            connection.send_queue.on_overflow()
            return
        # Older clients read no changes of what they have, so they get all that they did not hear.
        known = backlog.known.joined(read if connection.knows_revs else Counters(read.seq))
        if room.last_delivered_seq is None:
            self._start(room, read, backlog if not connection.knows_revs else None)
        for seq, rev, ready, about in backlog.packets:
            if not known.covers(seq, rev) and room.sees(connection, about):
                connection.send_queue.send(room.as_seen(connection, ready))
        if known.seq > room.delivered.seq or known.rev > room.delivered.rev:
            room.ahead[connection] = known
        else:
            room.flush()
            room.subscribers[connection] = connection.send_queue
        room.highest_seq = max(room.highest_seq, known.seq)
        room.highest_rev = max(room.highest_rev, read.rev)
        room.deliver_next()
        self._schedule_gap_fill(key, room)

    def _start(self, room: RoomFanout, read: Counters, older_backlog: Backlog | None) -> None:
        """Begin to deliver after *read*. Changes up to it are for older clients, which do not read changes."""
        room.last_delivered_seq, room.last_delivered_rev = read
        room.out_of_order = {
            seq: ready for seq, ready in room.out_of_order.items() if seq > read.seq
        }
        backlogs = [each for connection, each in room.backlogs.items() if not connection.knows_revs]
        if older_backlog is not None:
            backlogs.append(older_backlog)
        for rev in sorted(room.waiting_changes):
            if rev <= read.rev:
                change = room.waiting_changes.pop(rev)
                for backlog in backlogs if not change.unknown_to_old_clients else ():
                    backlog.add(None, None, change.packet, change.message_seq)

    def suspend(self, key: RoomKey, user_id: str) -> list[Connection]:
        """Send nothing to *user_id* until `subscribe` or `unsubscribe`. Returns the connections that were subscribed."""
        room = self._rooms.get(key)
        if room is None:
            return []
        room.flush()
        suspended = []
        for connection in room.connections():
            if connection.claims is None or connection.claims.sub != user_id:
                continue
            if connection in room.backlogs:
                room.removed_while_joining.add(connection)
            else:
                room.subscribers.pop(connection, None)
                room.backlogs[connection] = Backlog(room.ahead.pop(connection, Counters()))
                suspended.append(connection)
        return suspended

    def hide(self, key: RoomKey, connection: Connection, from_seq: int) -> None:
        """Send *connection* nothing about messages before *from_seq* of a room that it has joined or is joining."""
        room = self._rooms.get(key)
        if room is None or not room.has(connection):
            return
        if from_seq > 1:
            room.hidden[connection] = from_seq
        else:
            room.hidden.pop(connection, None)

    def unsubscribe(self, key: RoomKey, connection: Connection) -> None:
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        room.subscribers.pop(connection, None)
        room.ahead.pop(connection, None)
        room.backlogs.pop(connection, None)
        room.removed_while_joining.discard(connection)
        room.hidden.pop(connection, None)
        if room.empty:
            room.stop()
            del self._rooms[key]

    # -- events -----------------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        """Send *event* to the subscribers, a message when all before it have been sent."""
        key = (event.project_id, event.room_id)
        room = self._rooms.get(key)
        if room is None:
            return
        self._counts.events_out += len(room.subscribers)
        if event.rev is not None and event.seq is None:
            seq = seq_of(event.payload) if event.name in MESSAGE_CHANGES else None
            self._deliver_change(key, room, event.rev, WaitingChange.of(event, seq))
            return
        ready = packets.event(event.name, event.payload)
        if event.seq is not None:
            self._deliver_message(key, room, event.seq, ready)
        else:
            room.send(ready)

    def send_to_others(self, key: RoomKey, ready: EncodedPacket, *, about: str) -> None:
        """Send to all subscribers but the user *about*. Backlogs do not get it."""
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        for connection in (*room.subscribers, *room.ahead):
            if connection.claims is not None and connection.claims.sub != about:
                connection.send_queue.send(ready)

    def send_to_some(
        self, key: RoomKey, ready: EncodedPacket, is_told: Callable[[Connection], bool]
    ) -> None:
        """Send to the connections that *is_told* chooses; those that are joining get it when they have joined."""
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        for connection, backlog in room.backlogs.items():
            if is_told(connection):
                backlog.add(None, None, ready)
        for connection in (*room.subscribers, *room.ahead):
            if is_told(connection):
                self._counts.events_out += 1
                connection.send_queue.send(ready)

    def note_size(self, key: RoomKey, count: int, *, small: bool) -> None:
        """Note how many members the room has in the database, and whether it is small."""
        room = self._rooms.get(key)
        if room is not None:
            room.members = count
            room.small = small

    def has_two_members(self, key: RoomKey) -> bool:
        """Whether the room may be a direct one of two."""
        room = self._rooms.get(key)
        return room is not None and room.members == 2

    def is_small(self, key: RoomKey) -> bool:
        """Whether the room is small; True for one that no socket of this node has joined."""
        room = self._rooms.get(key)
        return room is None or room.small

    def tell_room(self, state: Room) -> None:
        """Tell the room as it is, as of the last change that was delivered here."""
        room = self._rooms.get((state.project_id, state.id))
        if room is None or room.last_delivered_seq is None:
            return
        state = msgspec.structs.replace(state, rev=room.last_delivered_rev or UNSET)
        event = room_updated(state)
        room.send_unnumbered(packets.event(event.name, event.payload))

    def note_counters(self, key: RoomKey, last_seq: int, rev: int) -> None:
        """Note how far the room is in the database, and read the messages and changes that do not arrive."""
        room = self._rooms.get(key)
        if room is not None and (last_seq > room.highest_seq or rev > room.highest_rev):
            room.highest_seq = max(last_seq, room.highest_seq)
            room.highest_rev = max(rev, room.highest_rev)
            self._schedule_gap_fill(key, room)

    def _deliver_change(
        self, key: RoomKey, room: RoomFanout, rev: int, change: WaitingChange
    ) -> None:
        if room.last_delivered_seq is not None and rev <= room.last_delivered_rev:
            return  # a repeat
        room.highest_rev = max(room.highest_rev, rev)
        if change.message_seq is not None:
            room.highest_seq = max(room.highest_seq, change.message_seq)
        if len(room.waiting_changes) < MAX_BACKLOG:
            room.waiting_changes[rev] = change  # else it is read from the database later
        room.deliver_changes()
        self._schedule_gap_fill(key, room)

    def _deliver_message(
        self, key: RoomKey, room: RoomFanout, seq: int, ready: EncodedPacket
    ) -> None:
        if seq > room.highest_seq:
            room.highest_seq = seq
        if room.last_delivered_seq is not None:
            if seq <= room.last_delivered_seq:
                return  # a repeat
            if seq == room.last_delivered_seq + 1:
                room.last_delivered_seq = seq
                room.send(ready, seq)
                if room.out_of_order or room.waiting_changes:
                    room.deliver_next()
                if room.last_delivered_seq < room.highest_seq:
                    self._schedule_gap_fill(key, room)
                return
        if len(room.out_of_order) < MAX_BACKLOG:
            room.out_of_order[seq] = ready  # if this is full, it is read from the database later
        self._schedule_gap_fill(key, room)

    # -- gaps -------------------------------------------------------------------------------------

    def _schedule_gap_fill(self, key: RoomKey, room: RoomFanout) -> None:
        """If messages or changes are missing, wait a moment for them, then read them from the database."""
        if room.gap_fill is not None or not room.has_gap:
            return
        room.gap_fill = asyncio.get_running_loop().call_later(
            self._limits.gap_wait, self._start_gap_fill, key, room
        )

    def _start_gap_fill(self, key: RoomKey, room: RoomFanout) -> None:
        room.gap_fill = None
        if self._rooms.get(key) is room and room.has_gap:
            room.gap_fill = asyncio.ensure_future(self._fill_gap(key, room))

    async def _fill_gap(self, key: RoomKey, room: RoomFanout) -> None:
        retry = False
        try:
            while room.has_gap:
                if await self._read_messages(key, room) or await self._read_lost_changes(key, room):
                    await asyncio.sleep(self._limits.gap_wait)  # so that send queues can empty
        except Exception as error:  # noqa: BLE001  # as a rule the database does not answer: try again later
            log.warning("fanout.gap_not_filled", error=type(error).__name__)
            retry = True
        finally:
            room.gap_fill = None
        if retry and self._rooms.get(key) is room:
            room.gap_fill = asyncio.get_running_loop().call_later(
                _GAP_RETRY_SECONDS, self._start_gap_fill, key, room
            )

    async def _read_messages(self, key: RoomKey, room: RoomFanout) -> bool:
        """Read and send messages that are missing. True if there are more."""
        before = room.last_delivered_seq
        if before is None or before >= room.highest_seq:
            return False
        missed = await self._read_missed(*key, before, _GAP_PAGE)
        messages = sizes.fitting(missed, sizes.LARGEST_RESPONSE)
        for message in messages:
            if message.seq == room.delivered.seq + 1:
                self._counts.gaps_filled += 1
                room.last_delivered_seq = message.seq
                room.out_of_order.pop(message.seq, None)
                event = message_posted(key[0], message)
                room.send(packets.event(event.name, event.payload), message.seq)
        room.deliver_next()
        if room.last_delivered_seq == before:
            # The database has no such message: highest_seq was wrong.
            room.highest_seq = before
            room.out_of_order.clear()
        return len(messages) < len(missed)

    async def _read_lost_changes(self, key: RoomKey, room: RoomFanout) -> bool:
        """Read and send changes that are missing, each after its message. True if there are more."""
        before, expected = room.last_delivered_rev, room.highest_rev
        if before >= expected:
            return False
        lost = await self._read_changes(*key, before, _CHANGES_PAGE)
        if room.hold is None and room.was_told(lost.states):
            room.hold_back()
        if room.hold is not None:
            return False  # what is missing then is read again
        if lost.room_rev > room.highest_rev or room.highest_rev == expected:
            # If it is lower, the database has no such change: highest_rev was wrong.
            room.highest_rev = lost.room_rev
        for state in lost.states:
            if state.message is not None and state.message.seq > room.delivered.seq:
                room.highest_seq = max(room.highest_seq, state.message.seq)
                return False
            if state.rev > room.last_delivered_rev:
                self._counts.gaps_filled += 1
                room.last_delivered_rev = state.rev
                seq = None if state.message is None else state.message.seq
                for event in delta.events_of(key[0], state, before):
                    room.send_change(WaitingChange.of(event, seq), state.rev)
        room.last_delivered_rev = max(room.last_delivered_rev, lost.rev)
        for rev in [rev for rev in room.waiting_changes if rev <= room.last_delivered_rev]:
            del room.waiting_changes[rev]
        room.deliver_changes()
        return lost.rev < lost.room_rev


def seq_of(payload: bytes) -> int | None:
    """The `seq` of a message that is the payload of an event."""
    try:
        return _decode_seq(payload).seq
    except ValueError:
        return None
