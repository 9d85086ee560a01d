"""ConnectionLimit taken = calls under way, whatever is cancelled and whatever runs out of time."""

import asyncio
import random

import pytest

from chat_broker_sdk import NetworkError
from chat_broker_sdk._transports.connection_limit import ConnectionLimit


async def loop_turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def call(
    limit: ConnectionLimit, under_way: set[object], seconds: float, patience: float
) -> None:
    """As a transport makes one: a turn is taken, something is done, the turn is given back."""
    if not limit.try_acquire():
        await limit.acquire(patience)
    here = object()
    under_way.add(here)
    try:
        assert len(under_way) <= limit.size
        await asyncio.sleep(seconds)
    finally:
        under_way.discard(here)
        limit.release()


async def test_a_turn_given_to_a_call_that_is_cancelled_in_the_same_moment_goes_on() -> None:
    limit = ConnectionLimit(1)
    assert limit.try_acquire()
    first, second = (asyncio.create_task(limit.acquire(60)) for _ in range(2))
    await loop_turns()
    limit.release()
    first.cancel()
    await loop_turns()
    assert second.done()
    assert (limit.in_use, limit.waiting) == (1, 0)
    limit.release()
    assert limit.in_use == 0


async def test_a_turn_given_in_the_moment_in_which_time_is_up_is_taken_or_goes_on() -> None:
    """Both orders: the holder ends just before, and just after, the waiter's time is up."""
    for ends_first in (True, False):
        limit = ConnectionLimit(1)
        assert limit.try_acquire()
        loop = asyncio.get_running_loop()
        moment = loop.time() + 0.02
        if ends_first:
            loop.call_at(moment, limit.release)
        waiting = asyncio.create_task(limit.acquire(2 * (moment - loop.time())))
        await asyncio.sleep(0)
        if not ends_first:
            loop.call_at(moment, limit.release)
        await asyncio.sleep(0.05)
        if waiting.exception() is None:
            assert limit.in_use == 1
            limit.release()
        assert (limit.in_use, limit.waiting) == (0, 0)


async def test_no_call_overtakes_one_that_waits() -> None:
    limit = ConnectionLimit(1)
    assert limit.try_acquire()
    waiting = asyncio.create_task(limit.acquire(60))
    await loop_turns()
    limit.release()
    assert not limit.try_acquire(), (
        "the turn belongs to the one that waited, although it has not run yet"
    )
    await waiting
    limit.release()


async def test_a_call_whose_time_is_up_leaves_the_queue() -> None:
    limit = ConnectionLimit(1)
    assert limit.try_acquire()
    for _ in range(3):
        with pytest.raises(NetworkError) as caught:
            await limit.acquire(0.01)
        assert caught.value.code == "connections_in_use"
        assert limit.waiting == 0


async def test_calls_that_wait_are_sent_away_at_the_end() -> None:
    limit = ConnectionLimit(1)
    assert limit.try_acquire()
    waiting = [asyncio.create_task(limit.acquire(60)) for _ in range(3)]
    await loop_turns()
    limit.refuse_waiting()
    limit.release()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ended] == [NetworkError] * 3
    assert (limit.in_use, limit.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_after_random_cancels_and_timeouts_everything_adds_up(seed: int) -> None:
    chance = random.Random(seed)
    limit = ConnectionLimit(chance.choice([1, 2, 5]))
    under_way: set[object] = set()
    calls: list[asyncio.Task[None]] = []
    for _ in range(150):
        seconds, patience = chance.choice([0, 0, 0.001, 0.002]), chance.choice([0.001, 0.004, 60])
        calls.append(asyncio.create_task(call(limit, under_way, seconds, patience)))
        for each in chance.sample(calls, min(len(calls), chance.randrange(3))):
            each.cancel()
        await asyncio.sleep(chance.choice([0, 0, 0.0005]))
        assert limit.in_use <= limit.size
        assert limit.in_use == limit.size or limit.waiting == 0
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert not [each for each in ended if isinstance(each, AssertionError)]
    assert (limit.in_use, limit.waiting, len(under_way)) == (0, 0, 0)
    for _ in range(limit.size):
        assert limit.try_acquire(), "all turns are there again"
