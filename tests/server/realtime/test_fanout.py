"""Order, gaps, repeats, and who hears what: a room's memory without sockets, and with them."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from chat_broker_server.chat.delta import Lost, State
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import Message
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.context import Counts
from chat_broker_server.realtime.fanout import Counters, Fanout
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.send_queue import EngineIOSendQueue
from tests.server.realtime.live_node import PID, LiveNode, until

KEY = ("p", "r")


class Store:
    """The messages that were committed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.changed: dict[int, int] = {}  # by seq: the rev of the last change
        self.rev = 0
        self.asked = 0
        self.fails = 0

    def add(self) -> Event:
        seq = len(self.messages) + 1
        message = Message(
            f"m{seq}", "r", seq, "u", "u", None, f"text {seq}", None, {}, "now", None, None
        )
        self.messages.append(message)
        return Event("message", *KEY, msgspec.json.encode(message), seq=seq)

    def change(self, seq: int, name: str = "messageUpdated") -> Event:
        self.rev += 1
        self.changed[seq] = self.rev
        message = msgspec.structs.replace(self.messages[seq - 1], content="changed", rev=self.rev)
        self.messages[seq - 1] = message
        return Event(name, *KEY, msgspec.json.encode(message), rev=self.rev)

    async def changes(self, _pid: str, _room: str, after: int, limit: int) -> Lost:
        self.asked += 1
        await asyncio.sleep(0)
        found = sorted((rev, seq) for seq, rev in self.changed.items() if rev > after)
        states = [
            State(rev, "message", f"m{seq}", message=self.messages[seq - 1])
            for rev, seq in found[:limit]
        ]
        more = len(found) > limit
        return Lost(states, states[-1].rev if more else self.rev, self.rev)

    async def missed(self, _pid: str, _room: str, since: int, limit: int) -> list[Message]:
        self.asked += 1
        if self.fails:
            self.fails -= 1
            raise OSError("away")
        await asyncio.sleep(0)
        return self.messages[since : since + limit]


class Listener:
    """A connection that remembers what was put into its send queue."""

    def __init__(self, rooms: Fanout) -> None:
        self._rooms = rooms
        self._heard: list[tuple[str, Any]] = []
        self.send_queue = EngineIOSendQueue(10_000_000)
        self.send_queue.send = self._hear  # type: ignore[method-assign]
        self.connection = Connection("sid", self.send_queue, Limits())

    def _hear(self, ready: EncodedPacket) -> None:
        name, payload = msgspec.json.decode(ready.encode()[2:])
        self._heard.append((name, payload))

    @property
    def heard(self) -> list[tuple[str, Any]]:
        """Everything, with what the end of this turn of the loop would bring."""
        self._rooms.flush()
        return self._heard

    @property
    def revs(self) -> list[int]:
        return [payload["rev"] for name, payload in self.heard if name != "message"]

    @property
    def seqs(self) -> list[int]:
        return [payload["seq"] for name, payload in self.heard if name == "message"]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def rooms(store: Store) -> Fanout:
    return Fanout(store.missed, store.changes, Limits(gap_wait=0.02), Counts())


def join(rooms: Fanout, told: int, rev: int = 0, *, knows_revs: bool = True) -> Listener:
    listener = Listener(rooms)
    listener.connection.knows_revs = knows_revs
    assert rooms.start_joining(KEY, listener.connection)
    rooms.subscribe(KEY, listener.connection, Counters(told, rev))
    return listener


class Wire:
    """A send queue that may be written to, or not, and remembers the pieces."""

    direct = True

    def __init__(self, *, open: bool = True) -> None:  # noqa: A002  # what it is called
        self.open = open
        self.pieces: list[bytes] = []
        self.held: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.pieces.append(frame)

    def enqueue(self, ready: EncodedPacket) -> None:
        self.held.append(ready.frame)

    send = enqueue

    def on_overflow(self) -> None: ...
    def end(self, *last: EncodedPacket) -> None: ...
    def mark_ended(self) -> None: ...
    async def wait_until_sent(self, deadline: float) -> None: ...
    def abort(self) -> None: ...


def sit(rooms: Fanout, wire: Wire, told: int = 0) -> Connection:
    """A connection that writes to *wire* and has joined."""
    connection = Connection("sid", wire, Limits())
    assert rooms.start_joining(KEY, connection)
    rooms.subscribe(KEY, connection, Counters(told))
    return connection


def frame(event: Event) -> bytes:
    return packets.event(event.name, event.payload).frame


async def test_what_one_turn_brings_is_written_in_one_piece(rooms: Fanout, store: Store) -> None:
    """To a socket that takes it; one that does not is told of each alone, so that its bound is counted right."""
    wire, full = Wire(), Wire(open=False)
    sit(rooms, wire)
    sit(rooms, full)
    events = [store.add() for _ in range(5)]
    for event in events:
        rooms.deliver(event)
    assert wire.pieces == []
    await asyncio.sleep(0)
    assert wire.pieces == [b"".join(map(frame, events))]
    assert full.held == [frame(event) for event in events]
    await asyncio.sleep(0)
    rooms.deliver(late := store.add())
    await asyncio.sleep(0)
    assert wire.pieces[1:] == [frame(late)]


async def test_who_comes_or_goes_within_a_turn_hears_what_is_theirs(
    rooms: Fanout, store: Store
) -> None:
    """All that was told before somebody left, and nothing that was told before somebody came."""
    stays, leaves, comes = Wire(), Wire(), Wire()
    sit(rooms, stays)
    leaver = sit(rooms, leaves)
    first, second, third = store.add(), store.add(), store.add()
    rooms.deliver(first)
    rooms.unsubscribe(KEY, leaver)
    rooms.deliver(second)
    sit(rooms, comes, told=2)
    rooms.deliver(third)
    rooms.flush()
    assert b"".join(leaves.pieces) == frame(first)
    assert b"".join(stays.pieces) == frame(first) + frame(second) + frame(third)
    assert b"".join([*comes.held, *comes.pieces]) == frame(third)


async def test_a_turn_that_brings_much_is_written_in_bounded_pieces(
    rooms: Fanout, store: Store
) -> None:
    wire = Wire()
    sit(rooms, wire)
    for _ in range(100):
        event = store.add()
        payload = event.payload[:-1] + b',"x":"' + b"x" * 9_000 + b'"}'
        rooms.deliver(msgspec.structs.replace(event, payload=payload))
    rooms.flush()
    assert sum(map(len, wire.pieces)) > 900_000
    assert max(map(len, wire.pieces)) < 80_000


async def test_messages_out_of_order_are_put_in_order(rooms: Fanout, store: Store) -> None:
    listener = join(rooms, 0)
    events = [store.add() for _ in range(50)]
    random.Random(1).shuffle(events)
    for event in events:
        rooms.deliver(event)
        rooms.deliver(event)  # hints may come twice
    assert listener.seqs == list(range(1, 51))
    assert store.asked == 0


async def test_a_gap_is_fetched_from_the_database(rooms: Fanout, store: Store) -> None:
    listener = join(rooms, 0)
    events = [store.add() for _ in range(500)]
    rooms.deliver(events[0])
    rooms.deliver(events[-1])
    await until(lambda: len(listener.seqs) == 500)
    assert listener.seqs == list(range(1, 501))


async def test_a_message_nobody_wrote_blocks_nothing(rooms: Fanout, store: Store) -> None:
    """A hint about a seq that does not exist is forgotten; real messages go on."""
    listener = join(rooms, 0)
    rooms.deliver(Event("message", *KEY, b'{"seq":1000000}', seq=1_000_000))
    await until(lambda: store.asked)
    await asyncio.sleep(0.05)
    rooms.deliver(store.add())
    assert listener.seqs == [1]
    assert store.asked < 3


async def test_the_database_away_delays_a_gap_and_loses_nothing(
    rooms: Fanout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_broker_server.realtime.fanout._GAP_RETRY_SECONDS", 0.02)
    listener = join(rooms, 0)
    store.fails = 3
    for event in [store.add() for _ in range(5)][2:]:
        rooms.deliver(event)
    await until(lambda: listener.seqs == [1, 2, 3, 4, 5])


async def test_what_happens_while_somebody_joins_is_neither_lost_nor_told_twice(
    rooms: Fanout, store: Store
) -> None:
    """Read at any moment between the events: the ack and what follows are everything once."""
    first = join(rooms, 0)
    joiner = Listener(rooms)
    rooms.start_joining(KEY, joiner.connection)
    events = [store.add() for _ in range(6)]
    for event in events[:4]:
        rooms.deliver(event)
    rooms.subscribe(KEY, joiner.connection, Counters(3))  # the database was read after the third
    for event in events[4:]:
        rooms.deliver(event)
    assert joiner.seqs == [4, 5, 6]
    assert first.seqs == [1, 2, 3, 4, 5, 6]


async def test_who_was_told_more_than_the_room_has_hears_only_what_follows(
    rooms: Fanout, store: Store
) -> None:
    """The database is ahead of the hints: the joiner has them from there, the others still wait."""
    first = join(rooms, 0)
    events = [store.add() for _ in range(5)]
    joiner = join(rooms, 3)
    for event in events:
        rooms.deliver(event)
    assert first.seqs == [1, 2, 3, 4, 5]
    assert joiner.seqs == [4, 5]


async def test_two_who_join_first_at_once_and_read_at_different_moments(
    rooms: Fanout, store: Store
) -> None:
    """The one who read earlier is told to read again rather than miss what the other knows."""
    early, late = Listener(rooms), Listener(rooms)
    rooms.start_joining(KEY, early.connection)
    rooms.start_joining(KEY, late.connection)
    events = [store.add() for _ in range(4)]
    rooms.subscribe(KEY, late.connection, Counters(4))
    assert not rooms.has_no_gap(KEY, early.connection, Counters(2))
    assert rooms.has_no_gap(KEY, early.connection, Counters(4))
    rooms.subscribe(KEY, early.connection, Counters(4))
    for event in [*events, store.add()]:
        rooms.deliver(event)
    assert early.seqs == late.seqs == [5]


async def test_a_change_never_comes_before_its_message(rooms: Fanout, store: Store) -> None:
    """From another node a change may overtake its message; it waits for its turn."""
    listener = join(rooms, 0)
    first, second = store.add(), store.add()
    rooms.deliver(store.change(2))
    rooms.deliver(second)
    rooms.deliver(first)
    assert [name for name, _ in listener.heard] == ["message", "message", "messageUpdated"]
    assert listener.heard[-1][1]["content"] == "changed"


@pytest.mark.parametrize(
    ("knows_revs", "read", "heard"), [(True, 1, []), (True, 0, [1]), (False, 1, [1])]
)
async def test_a_change_during_the_first_join_is_told(
    rooms: Fanout, store: Store, knows_revs: bool, read: int, heard: list[int]
) -> None:
    """Unless it was read: older clients do not read changes, so they hear it anyway."""
    store.add()
    joiner = Listener(rooms)
    joiner.connection.knows_revs = knows_revs
    rooms.start_joining(KEY, joiner.connection)
    rooms.deliver(store.change(1))
    rooms.subscribe(KEY, joiner.connection, Counters(1, read))
    assert joiner.revs == heard


async def test_changes_are_told_in_their_order(rooms: Fanout, store: Store) -> None:
    """From several nodes they arrive in any; each is told once."""
    listener = join(rooms, 0)
    updated, deleted = "messageUpdated", "messageDeleted"
    for _ in range(3):
        rooms.deliver(store.add())
    changes = [store.change(seq, name) for seq, name in ((1, updated), (2, updated), (3, deleted))]
    for event in (changes[2], changes[1], changes[0], changes[1]):
        rooms.deliver(event)
    assert listener.revs == [1, 2, 3]


async def test_a_lost_state_is_not_told_sooner_than_another(rooms: Fanout, store: Store) -> None:
    """What is read from the database is held back, too, where its message was told a moment ago."""
    listener = join(rooms, 0)
    rooms.deliver(store.add())
    rooms.deliver(store.change(1))
    told = asyncio.get_running_loop().time()
    store.change(1)
    rooms.deliver(store.change(1))
    await until(lambda: len(listener.revs) > 1)
    assert asyncio.get_running_loop().time() - told >= Limits().told_again_after
    assert listener.revs == [1, 3]


async def test_a_lost_change_is_read_from_the_database(rooms: Fanout, store: Store) -> None:
    """When a later one arrives, or the database is looked at: present states, after their messages."""
    listener = join(rooms, 0)
    one, two = store.add(), store.add()
    rooms.deliver(one)
    store.change(1)
    store.change(2)
    rooms.deliver(store.change(1))
    await until(lambda: listener.revs == [2, 3])
    assert listener.seqs == [1, 2]
    rooms.deliver(two)
    store.change(2)
    rooms.note_counters(KEY, 2, store.rev)
    await until(lambda: listener.revs == [2, 3, 4])
    assert listener.seqs == [1, 2]


async def test_a_change_that_was_never_made_blocks_nothing(rooms: Fanout, store: Store) -> None:
    """A hint about a rev that does not exist is forgotten; real changes go on."""
    listener = join(rooms, 0)
    rooms.deliver(store.add())
    rooms.note_counters(KEY, 1, 1_000_000)
    await until(lambda: store.asked)
    await asyncio.sleep(0.05)
    rooms.deliver(store.change(1))
    assert listener.revs == [1]
    assert store.asked < 3


async def test_events_that_came_with_revs_are_not_for_older_clients(rooms: Fanout) -> None:
    new, old = join(rooms, 0), join(rooms, 0, knows_revs=False)
    rooms.deliver(Event("memberUpdated", *KEY, b'{"rev":1}', rev=1))
    rooms.deliver(Event("roomUpdated", *KEY, b'{"rev":2}', rev=2))
    assert new.revs == [1, 2]
    assert old.revs == [2]


async def test_a_room_nobody_listens_to_is_forgotten(rooms: Fanout, store: Store) -> None:
    listener = join(rooms, 0)
    rooms.unsubscribe(KEY, listener.connection)
    assert len(rooms) == 0
    rooms.deliver(store.add())
    assert listener.heard == []


@pytest.mark.parametrize("seed", range(20))
async def test_any_mixture_of_losses_joins_and_disorder_ends_in_order(seed: int) -> None:
    """Each listener has, from where it was told, every message once and in order, and the last state of each."""
    chance = random.Random(seed)
    store = Store()
    rooms = Fanout(store.missed, store.changes, Limits(gap_wait=0.005), Counts())
    listeners: list[tuple[Listener, Counters]] = [(join(rooms, 0), Counters())]
    on_their_way: list[Event] = []
    joining: list[tuple[Listener, Counters]] = []

    def now() -> Counters:
        return Counters(len(store.messages), store.rev)

    for _ in range(400):
        match chance.randrange(8):
            case 0 | 1:
                event = store.add()
                if chance.random() < 0.8:
                    on_their_way.append(event)
            case 2 | 3 if on_their_way:
                rooms.deliver(on_their_way.pop(chance.randrange(len(on_their_way))))
            case 4 if len(listeners) + len(joining) < 8:
                listener = Listener(rooms)
                rooms.start_joining(KEY, listener.connection)
                listener.connection.knows_revs = True
                joining.append((listener, now()))
            case 5 if joining:
                listener, read = joining.pop()
                while not rooms.has_no_gap(KEY, listener.connection, read):
                    read = now()
                rooms.subscribe(KEY, listener.connection, read)
                listeners.append((listener, read))
            case 6 | 7 if store.messages:
                event = store.change(chance.randint(1, len(store.messages)))
                if chance.random() < 0.8:
                    on_their_way.append(event)
        if chance.random() < 0.1:
            await asyncio.sleep(0.001)
    for event in on_their_way:
        rooms.deliver(event)
    everything = now()
    rooms.note_counters(KEY, *everything)

    def has_all(listener: Listener, read: Counters) -> bool:
        seqs, revs = [read.seq, *listener.seqs], [read.rev, *listener.revs]
        return (seqs[-1], revs[-1]) == everything

    await until(lambda: all(has_all(*each) for each in listeners))
    await asyncio.sleep(0.02)
    for listener, read in listeners:
        assert listener.seqs == list(range(read.seq + 1, everything.seq + 1))
        assert listener.revs == sorted(set(listener.revs))
        assert not [rev for rev in listener.revs if rev <= read.rev]
        known = set(range(1, read.seq + 1))
        last = {}
        for name, payload in listener.heard:
            assert name == "message" or payload["seq"] in known
            known.add(payload["seq"])
            last[payload["seq"]] = payload.get("rev", 0)
        for seq, rev in store.changed.items():
            assert rev <= read.rev or last[seq] == rev


async def test_many_writers_are_heard_in_one_order(node: LiveNode) -> None:
    """Over sockets and over REST at once: every socket hears 1, 2, 3, …"""
    people = [await node.user(f"user{number}") for number in range(4)]
    room = await node.room(*people)
    sockets = [await node.socket(person, room) for person in people]
    work = []
    for person, socket in zip(people, sockets, strict=True):
        work += [socket.ask("sendMessage", room.id, f"s{n}") for n in range(25)]
        work += [node.chat.post(PID, room.id, person.id, f"r{n}") for n in range(25)]
    await asyncio.gather(*work)
    for socket in sockets:
        heard = await socket.hears("message", 200)
        assert [message["seq"] for message in heard] == list(range(1, 201))


async def test_joining_in_the_middle_of_a_stream_misses_nothing(node: LiveNode) -> None:
    """Ten sockets join while messages pour in: what the ack says and what follows is everything once."""
    alice = await node.user("alice")
    room = await node.room(alice)

    async def pour() -> None:
        for number in range(150):
            await node.chat.post(PID, room.id, alice.id, f"m{number}")

    sockets = [await node.socket(alice) for _ in range(10)]
    pouring = asyncio.create_task(pour())
    told = []
    for socket in sockets:
        await asyncio.sleep(0.005)
        told.append(await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 0}))
    await pouring
    for socket, answer in zip(sockets, told, strict=True):
        first = [message["seq"] for message in answer["missed"]]
        assert first == list(range(1, answer["last_seq"] + 1))
        rest = await socket.hears("message", 150 - len(first))
        assert first + [message["seq"] for message in rest] == list(range(1, 151))
