"""The rooms that somebody on this node listens to: who, and what comes next.

Each room passes messages on in the order of `seq`, without gaps and without repeats, to every socket: one that is
overtaken on its way is waited for a moment, and then fetched from the database. Nothing here waits for a socket.

What a room is told within one turn of the loop, messages that share a COMMIT for example, is written to each socket in one
piece at its end, and before anybody comes or goes.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from chat_broker_server.chat import sizes
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import Message
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.counts import Counts
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import Ready
from chat_broker_server.realtime.send_queue import Outgoing

Missed = Callable[[str, str, int, int], Awaitable[list[Message]]]
"""(project, room, after this seq, limit) → messages, oldest first."""

_MAX_HELD = 1_000
_MAX_UNSENT = (
    65_536  # bytes; more is written at once, so that a slow reader's bound means something
)
_PAGE = 200
_RETRY = 1.0
_CHANGES = {"messageUpdated", "messageDeleted"}


class _Place(msgspec.Struct):
    """The part of a message that says where it stands."""

    seq: int


_place = msgspec.json.Decoder(_Place).decode


class Pause:
    """What a socket would have heard while it waits: messages it was *told* of are left out in the end."""

    __slots__ = ("heard", "told", "too_much")

    def __init__(self, told: int) -> None:
        self.told = told
        self.heard: list[tuple[int | None, Ready]] = []
        self.too_much = False

    def hear(self, seq: int | None, ready: Ready) -> None:
        if len(self.heard) < _MAX_HELD:
            self.heard.append((seq, ready))
        else:
            self.too_much = True


class LiveRoom:
    """Who listens to one room, and how far it has been told."""

    __slots__ = (
        "_soon",
        "asked",
        "changes",
        "delivered",
        "doubted",
        "held",
        "known",
        "late",
        "listeners",
        "paused",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self, soon: Callable[["LiveRoom"], None]) -> None:
        """*soon* is asked to `flush` at the end of this turn."""
        self._soon = soon
        self.unsent: list[Ready] = []
        self.unsent_bytes = 0
        self.listeners: dict[Connection, Outgoing] = {}
        # Those who were told up to a place that this room has not reached yet.
        self.late: dict[Connection, int] = {}
        # Those who are joining or are being asked about: what they would have heard.
        self.paused: dict[Connection, Pause] = {}
        self.doubted: set[Connection] = set()
        self.delivered: int | None = (
            None  # None until the first listener has read it from the database
        )
        self.known = 0  # the highest seq heard of
        self.held: dict[int, Ready] = {}
        self.changes: dict[int, list[Ready]] = {}
        self.asked: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        return not (self.listeners or self.late or self.paused)

    def everybody(self) -> list[Connection]:
        return [*self.listeners, *self.late, *self.paused]

    def spread(self, ready: Ready, seq: int | None = None) -> None:
        """Tell everybody who listens; *seq* for a message."""
        if not self.unsent:
            self._soon(self)
        self.unsent.append(ready)
        self.unsent_bytes += ready.size
        if self.paused:
            for pause in self.paused.values():
                pause.hear(seq, ready)
        if self.late:
            self.flush()
            for connection, told in list(self.late.items()):
                if seq is None or seq > told:
                    connection.outbox.send(ready)
                if seq is not None and seq >= told:
                    self.listeners[connection] = connection.outbox
                    del self.late[connection]
        elif self.unsent_bytes > _MAX_UNSENT:
            self.flush()

    def flush(self) -> None:
        """Write what was told to those who listen; to be called before they change."""
        unsent = self.unsent
        if not unsent:
            return
        self.unsent = []
        self.unsent_bytes = 0
        frame = unsent[0].frame if len(unsent) == 1 else b"".join([each.frame for each in unsent])
        for outbox in self.listeners.values():
            if outbox.open:
                outbox.write(frame)
            else:
                for ready in unsent:
                    outbox.hold(ready)

    def advance(self) -> None:
        """Pass on what is held and is next."""
        while (
            self.delivered is not None
            and (ready := self.held.pop(self.delivered + 1, None)) is not None
        ):
            self.delivered += 1
            self.spread(ready, self.delivered)
            for change in self.changes.pop(self.delivered, ()):
                self.spread(change)


class LiveRooms:
    """All rooms of this node that somebody listens to."""

    def __init__(self, missed: Missed, limits: Limits, counts: Counts) -> None:
        self._missed = missed
        self._limits = limits
        self._rooms: dict[RoomKey, LiveRoom] = {}
        self._counts = counts
        self._unsent: list[LiveRoom] = []

    def __len__(self) -> int:
        return len(self._rooms)

    def keys(self) -> list[RoomKey]:
        """The rooms that somebody here listens to."""
        return list(self._rooms)

    def members(self, key: RoomKey) -> list[Connection]:
        """Everybody in the room here, joining ones too."""
        room = self._rooms.get(key)
        return room.everybody() if room else []

    def close(self) -> None:
        """Forget everything, ask nothing more."""
        self.flush()
        for room in self._rooms.values():
            if room.asked is not None:
                room.asked.cancel()
        self._rooms.clear()

    def flush(self) -> None:
        """Write now what rooms were told; it is called at the end of each turn in which they were."""
        unsent, self._unsent = self._unsent, []
        for room in unsent:
            room.flush()

    def _soon(self, room: LiveRoom) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(room)

    # -- coming and going -------------------------------------------------------------------------

    def begin(self, key: RoomKey, connection: Connection) -> bool:
        """Collect for *connection* what the room is told, until `settle`; False if that happens already."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = LiveRoom(self._soon)
        if connection in room.paused:
            return False
        room.flush()
        room.listeners.pop(connection, None)
        room.paused[connection] = Pause(room.late.pop(connection, 0))
        return True

    def doubtful(self, key: RoomKey, connection: Connection) -> bool:
        """Was somebody told to leave while *connection* was joining? Asking clears the doubt."""
        room = self._rooms.get(key)
        if room is None or connection not in room.doubted:
            return False
        room.doubted.discard(connection)
        return True

    def moved(self, key: RoomKey, connection: Connection) -> None:
        """*connection* has another outbox now."""
        room = self._rooms.get(key)
        if room is not None and connection in room.listeners:
            room.flush()
            room.listeners[connection] = connection.outbox

    def waits(self, key: RoomKey, connection: Connection) -> bool:
        """Is this room still collecting for *connection*?"""
        room = self._rooms.get(key)
        return room is not None and connection in room.paused

    def covered(self, key: RoomKey, connection: Connection, told: int) -> bool:
        """Does what was collected follow on *told* without a gap? If not, read the database once more."""
        room = self._rooms.get(key)
        pause = room.paused.get(connection) if room else None
        if room is None or pause is None or room.delivered is None or told >= room.delivered:
            return True
        first = next((seq for seq, _ in pause.heard if seq is not None), None)
        return first is not None and first <= told + 1

    def settle(self, key: RoomKey, connection: Connection, told: int = 0) -> None:
        """End the waiting of *connection*, who knows all messages up to *told*: go on live with the next."""
        room = self._rooms.get(key)
        pause = room.paused.pop(connection, None) if room else None
        if room is None or pause is None:
            return
        if pause.too_much:
            connection.outbox.on_overflow()
            return
        told = max(told, pause.told)
        if room.delivered is None:
            self._start(room, told, pause)
        for seq, ready in pause.heard:
            if seq is None or seq > told:
                connection.outbox.send(ready)
        if room.delivered is not None and room.delivered < told:
            room.late[connection] = told
        else:
            room.flush()
            room.listeners[connection] = connection.outbox
        room.known = max(room.known, told)
        room.advance()
        self._look(key, room)

    def _start(self, room: LiveRoom, told: int, pause: Pause) -> None:
        room.delivered = told
        room.held = {seq: ready for seq, ready in room.held.items() if seq > told}
        for seq in sorted(room.changes):
            if seq <= told:
                # What was read may be older than the change: say it again.
                for change in room.changes.pop(seq):
                    pause.hear(None, change)
                    room.spread(change)

    def pause(self, key: RoomKey, user_id: str) -> list[Connection]:
        """Let *user_id* hear nothing until `settle` or `leave`; answers the sockets this stopped."""
        room = self._rooms.get(key)
        if room is None:
            return []
        room.flush()
        stopped = []
        for connection in room.everybody():
            if connection.claims is None or connection.claims.sub != user_id:
                continue
            if connection in room.paused:
                room.doubted.add(connection)
            else:
                room.listeners.pop(connection, None)
                room.paused[connection] = Pause(room.late.pop(connection, 0))
                stopped.append(connection)
        return stopped

    def leave(self, key: RoomKey, connection: Connection) -> None:
        """*connection* hears nothing of the room any more."""
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        room.listeners.pop(connection, None)
        room.late.pop(connection, None)
        room.paused.pop(connection, None)
        room.doubted.discard(connection)
        if room.empty:
            if room.asked is not None:
                room.asked.cancel()
            del self._rooms[key]

    # -- events -----------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Pass *event* on to everybody here who listens, now or when it is its turn."""
        key = (event.project_id, event.room_id)
        room = self._rooms.get(key)
        if room is None:
            return
        ready = packets.event(event.name, event.payload)
        self._counts.events_out += len(room.listeners)
        if event.seq is not None:
            self._message(key, room, event.seq, ready)
        elif event.name in _CHANGES and (seq := _seq_of(event.payload)) is not None:
            if room.delivered is None or seq > room.delivered:
                # Told before its message was: on another node, they took different ways.
                if len(room.changes) < _MAX_HELD:
                    room.changes.setdefault(seq, []).append(ready)
            else:
                room.spread(ready)
        else:
            room.spread(ready)

    def whisper(self, key: RoomKey, ready: Ready, *, about: str) -> None:
        """Tell everybody in the room but the user it is about; not kept for those who are joining."""
        room = self._rooms.get(key)
        if room is None:
            return
        room.flush()
        for connection in (*room.listeners, *room.late):
            if connection.claims is not None and connection.claims.sub != about:
                connection.outbox.send(ready)

    def known(self, key: RoomKey, last_seq: int) -> None:
        """The database has messages up to *last_seq*; fetch what does not arrive by itself."""
        room = self._rooms.get(key)
        if room is not None and last_seq > room.known:
            room.known = last_seq
            self._look(key, room)

    def _message(self, key: RoomKey, room: LiveRoom, seq: int, ready: Ready) -> None:
        if seq > room.known:
            room.known = seq
        if room.delivered is not None:
            if seq <= room.delivered:
                return  # told already
            if seq == room.delivered + 1:
                room.delivered = seq
                room.spread(ready, seq)
                for change in room.changes.pop(seq, ()):
                    room.spread(change)
                if room.held:
                    room.advance()
                if room.delivered < room.known:
                    self._look(key, room)
                return
        if len(room.held) < _MAX_HELD:
            room.held[seq] = ready  # the database has it, if this is full
        self._look(key, room)

    # -- gaps -------------------------------------------------------------------------------------

    def _look(self, key: RoomKey, room: LiveRoom) -> None:
        """If something is missing, wait a moment for it, then fetch it."""
        if room.delivered is None or room.delivered >= room.known or room.asked is not None:
            return
        room.asked = asyncio.get_running_loop().call_later(
            self._limits.gap_wait, self._ask, key, room
        )

    def _ask(self, key: RoomKey, room: LiveRoom) -> None:
        room.asked = None
        if (
            self._rooms.get(key) is room
            and room.delivered is not None
            and room.delivered < room.known
        ):
            room.asked = asyncio.ensure_future(self._fill(key, room))

    async def _fill(self, key: RoomKey, room: LiveRoom) -> None:
        retry = False
        try:
            while room.delivered is not None and room.delivered < room.known:
                before = room.delivered
                found = await self._missed(*key, before, _PAGE)
                messages = sizes.fitting(found, sizes.LARGEST_RESPONSE)
                for message in messages:
                    if message.seq == room.delivered + 1:
                        self._counts.gaps_filled += 1
                        room.delivered = message.seq
                        room.held.pop(message.seq, None)
                        room.spread(
                            packets.event("message", msgspec.json.encode(message)), message.seq
                        )
                        for change in room.changes.pop(message.seq, ()):
                            room.spread(change)
                room.advance()
                if room.delivered == before:
                    # Nobody has written such a message: the hint was wrong.
                    room.known = before
                    room.held.clear()
                elif len(messages) < len(found):
                    await asyncio.sleep(self._limits.gap_wait)  # for listeners to take it
        except Exception:  # noqa: BLE001  # the database is away: try again, the messages are safe there
            retry = True
        finally:
            room.asked = None
        if retry and self._rooms.get(key) is room:
            room.asked = asyncio.get_running_loop().call_later(_RETRY, self._ask, key, room)


def _seq_of(payload: bytes) -> int | None:
    try:
        return _place(payload).seq
    except ValueError:
        return None
