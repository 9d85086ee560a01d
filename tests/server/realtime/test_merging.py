"""States of one message that follow each other closely are told as one."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from chat_broker_server.chat.events import Event
from chat_broker_server.realtime.context import Counts
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.test_fanout import KEY, Listener, Store, join

PAUSE = Limits().told_again_after


class Clock:
    """In place of the event loop: time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> Any:
        self._count += 1
        timer = asyncio.Handle(call, arguments, self)  # type: ignore[arg-type]  # only asked for its mode
        heapq.heappush(self._timers, (self.now + delay, self._count, timer))
        return timer

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.call_later(0, call, *arguments)

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                timer._run()
        self.now = until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def rooms(store: Store) -> Fanout:
    return Fanout(store.missed, store.changes, Limits(), Counts())


def with_reason(event: Event) -> Event:
    payload = {**msgspec.json.decode(event.payload), "change": {"kind": "edited"}}
    return msgspec.structs.replace(event, payload=msgspec.json.encode(payload))


def test_the_first_state_is_told_at_once_and_those_that_follow_closely_as_one(
    clock: Clock, rooms: Fanout, store: Store
) -> None:
    """The one that stands for several does not say why it is told."""
    listener = join(rooms, 0)
    rooms.deliver(store.add())
    rooms.deliver(with_reason(store.change(1)))
    assert listener.heard[-1][1]["change"] == {"kind": "edited"}
    for _ in range(5):
        clock.advance(PAUSE / 10)
        rooms.deliver(with_reason(store.change(1)))
    assert listener.revs == [1]
    clock.advance(PAUSE)
    assert listener.revs == [1, 6]
    assert "change" not in listener.heard[-1][1]
    clock.advance(PAUSE / 2)
    rooms.deliver(with_reason(store.change(1)))
    assert listener.revs == [1, 6]
    clock.advance(PAUSE)
    assert listener.revs == [1, 6, 7]
    assert listener.heard[-1][1]["change"] == {"kind": "edited"}


def test_what_follows_a_state_that_is_held_back_waits_with_it(
    clock: Clock, rooms: Fanout, store: Store
) -> None:
    """Changes of others, too, so that revs are told in order; messages do not wait."""
    listener = join(rooms, 0)
    for _ in range(2):
        rooms.deliver(store.add())
    rooms.deliver(store.change(1))
    rooms.deliver(store.change(1))
    rooms.deliver(store.change(2))
    store.rev += 1
    rooms.deliver(Event("roomUpdated", *KEY, b'{"rev":4}', rev=4))
    rooms.deliver(store.change(1, "messageDeleted"))
    rooms.deliver(store.add())
    assert listener.revs == [1]
    assert listener.seqs == [1, 2, 3]
    clock.advance(PAUSE)
    told = [(name, payload["rev"]) for name, payload in listener.heard if "rev" in payload]
    assert told[1:] == [("messageUpdated", 3), ("roomUpdated", 4), ("messageDeleted", 5)]
    assert store.asked == 0


def test_who_joins_while_states_are_held_back_hears_what_they_do_not_have(
    clock: Clock, rooms: Fanout, store: Store
) -> None:
    listener = join(rooms, 0)
    rooms.deliver(store.add())
    for _ in range(3):
        rooms.deliver(store.change(1))
    has_all, has_some = join(rooms, 1, 3), join(rooms, 1, 2)
    clock.advance(PAUSE)
    assert listener.revs == [1, 3]
    assert (has_all.revs, has_some.revs) == ([], [3])
    clock.advance(PAUSE)
    rooms.deliver(store.change(1))
    for each in (listener, has_all, has_some):
        assert each.revs[-1] == 4


def test_a_room_that_is_left_forgets_what_it_held_back(
    clock: Clock, rooms: Fanout, store: Store
) -> None:
    listener = join(rooms, 0)
    rooms.deliver(store.add())
    for _ in range(2):
        rooms.deliver(store.change(1))
    rooms.unsubscribe(KEY, listener.connection)
    clock.advance(PAUSE)
    assert listener.revs == [1]


@pytest.mark.parametrize("seed", range(20))
def test_a_message_is_told_ten_times_a_second_at_most_and_nothing_waits_longer(
    clock: Clock, rooms: Fanout, store: Store, seed: int
) -> None:
    """Whatever changes when: each state, or a later one of its message, within the pause; revs in order."""
    chance = random.Random(seed)
    listener: Listener = join(rooms, 0)
    for _ in range(4):
        rooms.deliver(store.add())
    made: list[tuple[float, int, int]] = []
    told: list[tuple[float, int, int]] = []

    def look() -> None:
        for _, payload in listener.heard[4 + len(told) :]:
            told.append((clock.now, payload["rev"], payload["seq"]))

    def pass_time(milliseconds: int) -> None:
        for _ in range(milliseconds):
            clock.advance(0.001)
            look()

    while clock.now < 5:
        for _ in range(chance.choice([0, 1, 1, 5])):
            seq = chance.choice([1, 1, 1, 2, 3, 4])
            rooms.deliver(store.change(seq))
            made.append((clock.now, store.rev, seq))
        look()
        pass_time(chance.choice([1, 1, 10, 150]))
    pass_time(110)
    revs = [rev for _, rev, _ in told]
    assert revs == sorted(set(revs))
    for seq in (1, 2, 3, 4):
        times = [at for at, _, about in told if about == seq]
        assert all(after - before > PAUSE - 0.0011 for before, after in itertools.pairwise(times))
    for at, rev, seq in made:
        heard = min(when for when, later, about in told if about == seq and later >= rev)
        assert heard - at < PAUSE + 0.0011
    assert store.asked == 0
