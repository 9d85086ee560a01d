"""Delivers the events of rooms to their subscribers on this node.

Each subscriber gets a room's messages in `seq` order, each exactly once. A message that overtakes others waits a moment
for them; then they are read from the database. Nothing here waits for a socket.

All events of a room within one turn of the event loop, such as messages of one COMMIT, are one write to each socket. It
happens at the end of the turn, and before the subscribers change.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from chat_broker_server.chat import sizes
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import Message
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.context import Counts
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.send_queue import SendQueue

ReadMissed = Callable[[str, str, int, int], Awaitable[list[Message]]]
"""(project, room, after this seq, limit) → messages, oldest first."""

_MAX_BACKLOG = 1_000
_MAX_UNSENT_BYTES = 65_536  # more is written at once, so that send queues count it
_GAP_PAGE = 200
_GAP_RETRY_SECONDS = 1.0
_CHANGE_EVENTS = {"messageUpdated", "messageDeleted"}


class _Seq(msgspec.Struct):
    seq: int


_decode_seq = msgspec.json.Decoder(_Seq).decode


class Backlog:
    """The events of a room for a connection that is not subscribed yet. It has the messages up to `last_seq` already."""

    __slots__ = ("last_seq", "overflowed", "packets")

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self.packets: list[tuple[int | None, EncodedPacket]] = []
        self.overflowed = False

    def add(self, seq: int | None, ready: EncodedPacket) -> None:
        if len(self.packets) < _MAX_BACKLOG:
            self.packets.append((seq, ready))
        else:
            self.overflowed = True


class RoomFanout:
    """The subscribers of one room, and the state of its delivery."""

    __slots__ = (
        "_schedule_flush",
        "ahead",
        "backlogs",
        "early_changes",
        "gap_fill",
        "highest_seq",
        "last_delivered_seq",
        "out_of_order",
        "removed_while_joining",
        "subscribers",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self, schedule_flush: Callable[["RoomFanout"], None]) -> None:
        """*schedule_flush* calls `flush` at the end of this turn of the event loop."""
        self._schedule_flush = schedule_flush
        self.unsent: list[EncodedPacket] = []
        self.unsent_bytes = 0
        self.subscribers: dict[Connection, SendQueue] = {}
        # Subscribers that have messages up to this `seq`, which is after last_delivered_seq.
        self.ahead: dict[Connection, int] = {}
        # Connections that are joining, or whose membership is being checked.
        self.backlogs: dict[Connection, Backlog] = {}
        self.removed_while_joining: set[Connection] = set()
        # None until the first subscriber has read it from the database.
        self.last_delivered_seq: int | None = None
        self.highest_seq = 0  # of all messages that are known to exist
        self.out_of_order: dict[int, EncodedPacket] = {}
        self.early_changes: dict[int, list[EncodedPacket]] = {}
        self.gap_fill: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        return not (self.subscribers or self.ahead or self.backlogs)

    def connections(self) -> list[Connection]:
        return [*self.subscribers, *self.ahead, *self.backlogs]

    def send(self, ready: EncodedPacket, seq: int | None = None) -> None:
        """Send to all subscribers and backlogs. *seq* is set for a message."""
        if not self.unsent:
            self._schedule_flush(self)
        self.unsent.append(ready)
        self.unsent_bytes += ready.size
        if self.backlogs:
            for backlog in self.backlogs.values():
                backlog.add(seq, ready)
        if self.ahead:
            self.flush()
            for connection, last_seq in list(self.ahead.items()):
                if seq is None or seq > last_seq:
                    connection.send_queue.send(ready)
                if seq is not None and seq >= last_seq:
                    self.subscribers[connection] = connection.send_queue
                    del self.ahead[connection]
        elif self.unsent_bytes > _MAX_UNSENT_BYTES:
            self.flush()

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
        for send_queue in self.subscribers.values():
            if send_queue.open:
                send_queue.write(frame)
            else:
                for ready in unsent:
                    send_queue.enqueue(ready)

    def deliver_next(self) -> None:
        """Send the messages from `out_of_order` that are next."""
        while (
            self.last_delivered_seq is not None
            and (ready := self.out_of_order.pop(self.last_delivered_seq + 1, None)) is not None
        ):
            self.last_delivered_seq += 1
            self.send(ready, self.last_delivered_seq)
            for change in self.early_changes.pop(self.last_delivered_seq, ()):
                self.send(change)


class Fanout:
    """The rooms of this node that have subscribers."""

    def __init__(self, read_missed: ReadMissed, limits: Limits, counts: Counts) -> None:
        self._read_missed = read_missed
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
            if room.gap_fill is not None:
                room.gap_fill.cancel()
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
            room = self._rooms[key] = RoomFanout(self._schedule_flush)
        if connection in room.backlogs:
            return False
        room.flush()
        room.subscribers.pop(connection, None)
        room.backlogs[connection] = Backlog(room.ahead.pop(connection, 0))
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

    def has_no_gap(self, key: RoomKey, connection: Connection, last_seq: int) -> bool:
        """Whether the backlog follows on *last_seq* without a gap. If not, read the room again."""
        room = self._rooms.get(key)
        backlog = room.backlogs.get(connection) if room else None
        if (
            room is None
            or backlog is None
            or room.last_delivered_seq is None
            or last_seq >= room.last_delivered_seq
        ):
            return True
        first = next((seq for seq, _ in backlog.packets if seq is not None), None)
        return first is not None and first <= last_seq + 1

    def subscribe(self, key: RoomKey, connection: Connection, last_seq: int = 0) -> None:
        """Send the backlog and subscribe *connection*, which has all messages up to *last_seq*."""
        room = self._rooms.get(key)
        backlog = room.backlogs.pop(connection, None) if room else None
        if room is None or backlog is None:
            return
        if backlog.overflowed:
            connection.send_queue.on_overflow()
            return
        last_seq = max(last_seq, backlog.last_seq)
        if room.last_delivered_seq is None:
            self._start(room, last_seq, backlog)
        for seq, ready in backlog.packets:
            if seq is None or seq > last_seq:
                connection.send_queue.send(ready)
        if room.last_delivered_seq is not None and room.last_delivered_seq < last_seq:
            room.ahead[connection] = last_seq
        else:
            room.flush()
            room.subscribers[connection] = connection.send_queue
        room.highest_seq = max(room.highest_seq, last_seq)
        room.deliver_next()
        self._schedule_gap_fill(key, room)

    def _start(self, room: RoomFanout, last_seq: int, backlog: Backlog) -> None:
        room.last_delivered_seq = last_seq
        room.out_of_order = {
            seq: ready for seq, ready in room.out_of_order.items() if seq > last_seq
        }
        for seq in sorted(room.early_changes):
            if seq <= last_seq:
                # The client may have read the message before the change, so send the change.
                for change in room.early_changes.pop(seq):
                    backlog.add(None, change)
                    room.send(change)

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
                room.backlogs[connection] = Backlog(room.ahead.pop(connection, 0))
                suspended.append(connection)
        return suspended

    def unsubscribe(self, key: RoomKey, connection: Connection) -> None:
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        room.subscribers.pop(connection, None)
        room.ahead.pop(connection, None)
        room.backlogs.pop(connection, None)
        room.removed_while_joining.discard(connection)
        if room.empty:
            if room.gap_fill is not None:
                room.gap_fill.cancel()
            del self._rooms[key]

    # -- events -----------------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        """Send *event* to the subscribers, a message when all before it have been sent."""
        key = (event.project_id, event.room_id)
        room = self._rooms.get(key)
        if room is None:
            return
        ready = packets.event(event.name, event.payload)
        self._counts.events_out += len(room.subscribers)
        if event.seq is not None:
            self._deliver_message(key, room, event.seq, ready)
        elif event.name in _CHANGE_EVENTS and (seq := _seq_of(event.payload)) is not None:
            if room.last_delivered_seq is None or seq > room.last_delivered_seq:
                # The change has overtaken its message: it was made on another node.
                if len(room.early_changes) < _MAX_BACKLOG:
                    room.early_changes.setdefault(seq, []).append(ready)
            else:
                room.send(ready)
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

    def note_last_seq(self, key: RoomKey, last_seq: int) -> None:
        """Note that the database has messages up to *last_seq*, and read those that do not arrive."""
        room = self._rooms.get(key)
        if room is not None and last_seq > room.highest_seq:
            room.highest_seq = last_seq
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
                for change in room.early_changes.pop(seq, ()):
                    room.send(change)
                if room.out_of_order:
                    room.deliver_next()
                if room.last_delivered_seq < room.highest_seq:
                    self._schedule_gap_fill(key, room)
                return
        if len(room.out_of_order) < _MAX_BACKLOG:
            room.out_of_order[seq] = ready  # if this is full, it is read from the database later
        self._schedule_gap_fill(key, room)

    # -- gaps -------------------------------------------------------------------------------------

    def _schedule_gap_fill(self, key: RoomKey, room: RoomFanout) -> None:
        """If messages are missing, wait a moment for them, then read them from the database."""
        if (
            room.last_delivered_seq is None
            or room.last_delivered_seq >= room.highest_seq
            or room.gap_fill is not None
        ):
            return
        room.gap_fill = asyncio.get_running_loop().call_later(
            self._limits.gap_wait, self._start_gap_fill, key, room
        )

    def _start_gap_fill(self, key: RoomKey, room: RoomFanout) -> None:
        room.gap_fill = None
        if (
            self._rooms.get(key) is room
            and room.last_delivered_seq is not None
            and room.last_delivered_seq < room.highest_seq
        ):
            room.gap_fill = asyncio.ensure_future(self._fill_gap(key, room))

    async def _fill_gap(self, key: RoomKey, room: RoomFanout) -> None:
        retry = False
        try:
            while (
                room.last_delivered_seq is not None and room.last_delivered_seq < room.highest_seq
            ):
                before = room.last_delivered_seq
                missed = await self._read_missed(*key, before, _GAP_PAGE)
                messages = sizes.fitting(missed, sizes.LARGEST_RESPONSE)
                for message in messages:
                    if message.seq == room.last_delivered_seq + 1:
                        self._counts.gaps_filled += 1
                        room.last_delivered_seq = message.seq
                        room.out_of_order.pop(message.seq, None)
                        room.send(
                            packets.event("message", msgspec.json.encode(message)), message.seq
                        )
                        for change in room.early_changes.pop(message.seq, ()):
                            room.send(change)
                room.deliver_next()
                if room.last_delivered_seq == before:
                    # The database has no such message: highest_seq was wrong.
                    room.highest_seq = before
                    room.out_of_order.clear()
                elif len(messages) < len(missed):
                    await asyncio.sleep(self._limits.gap_wait)  # so that send queues can drain
        except Exception:  # noqa: BLE001  # the database does not answer: try again later
            retry = True
        finally:
            room.gap_fill = None
        if retry and self._rooms.get(key) is room:
            room.gap_fill = asyncio.get_running_loop().call_later(
                _GAP_RETRY_SECONDS, self._start_gap_fill, key, room
            )


def _seq_of(payload: bytes) -> int | None:
    try:
        return _decode_seq(payload).seq
    except ValueError:
        return None
