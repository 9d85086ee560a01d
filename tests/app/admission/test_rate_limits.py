"""Limits: what they let through, in memory and in Redis, and what they tell the client."""

import asyncio
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from chat_broker.admission.counters import MemoryCounters, judge
from chat_broker.admission.rate_limits import (
    Limiter,
    Rates,
    TooMany,
    read_limits,
)
from chat_broker.http.rate_limit_headers import Limit, headers_for, lines_for
from chat_broker.storage.redis import RedisCommands, RedisCounters, RedisUnreachable, connect
from chat_broker_kit.http.address_key import address_key

THREE = Limit("three", 3, 60)


class Clock:
    def __init__(self, now=600.0):
        self.now = now

    def __call__(self):
        return self.now


def rates(**changed):
    given = {
        "token": "30/minute",
        "write": "120/minute",
        "react": "120/minute",
        "read": "600/minute",
        "ip": "1200/minute",
        "auth_failures": "60/minute",
        "admin_failures": "10/minute",
    }
    return Rates.reading(**given | changed)


class Broken:
    """A Redis that is gone."""

    async def hit(self, uses):
        raise RedisUnreachable("gone")


def test_the_notation_of_limits():
    assert read_limits("token", "30/minute") == (Limit("token", 30, 60),)
    assert read_limits("x", "5/second;100/hour") == (
        Limit("x-1s", 5, 1),
        Limit("x-3600s", 100, 3600),
    )
    assert read_limits("x", " 7 per 2 Days ") == (Limit("x", 7, 2 * 86_400),)


@pytest.mark.parametrize(
    "bad", ["", "many", "0/minute", "-1/minute", "3/fortnight", "3/minute;", "3"]
)
def test_other_notations_are_refused(bad):
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        read_limits("x", bad)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.services("redis"))])
async def counters(request, monkeypatch):
    if request.param == "memory":
        yield MemoryCounters()
        return
    # What is counted is the question here, not how long a busy machine takes to connect.
    monkeypatch.setattr("chat_broker.storage.redis.PATIENCE", 10.0)
    redis = connect(request.getfixturevalue("redis_url"))
    yield RedisCounters(RedisCommands(redis), prefix="p")
    await redis.aclose()


async def test_as_many_as_allowed_and_not_one_more(counters):
    limit = Limit("x", 3, 3600)
    seen = [(await counters.hit([(limit, "alice")]))[0] for _ in range(5)]
    assert [usage.allowed for usage in seen] == [True, True, True, False, False]
    assert [usage.remaining for usage in seen] == [2, 1, 0, 0, 0]
    assert all(1 <= usage.reset <= 3600 for usage in seen)
    assert seen[-1].retry_after >= 1
    assert (await counters.hit([(limit, "bob")]))[0].allowed


async def test_a_refused_use_counts_nowhere(counters):
    """Somebody over their own limit does not use up their colleagues' address."""
    user, address = Limit("user", 1, 3600), Limit("address", 2, 3600)
    for _ in range(5):
        await counters.hit([(user, "alice"), (address, "office")])
    bob = await counters.hit([(user, "bob"), (address, "office")])
    assert all(usage.allowed for usage in bob)


async def test_many_at_once_get_exactly_their_share(counters):
    limit = Limit("x", 5, 3600)
    await counters.hit([(limit, "somebody else")])  # the first has to connect
    answers = await asyncio.gather(*(counters.hit([(limit, "a")]) for _ in range(12)))
    assert sum(usage.allowed for (usage,) in answers) == 5


@pytest.mark.services("redis")
async def test_uses_that_come_together_travel_together(redis_url, monkeypatch):
    """Few reads of Redis and one connection for fifty, in their order, and each hears of their own."""
    monkeypatch.setattr("chat_broker.storage.redis.PATIENCE", 10.0)
    redis, watch = connect(redis_url), connect(redis_url)
    try:
        counters = RedisCounters(RedisCommands(redis), prefix="p")
        limits = [Limit("x", number, 3600) for number in range(1, 51)]
        await counters.hit([(limits[0], "connects")])
        before = await watch.info("stats")
        found = await asyncio.gather(*(counters.hit([(one, "alice")]) for one in limits))
        after = await watch.info("stats")
        assert [usage.limit for (usage,) in found] == limits
        # All count the same uses, in the order they were asked for: the third of three, the fourth of four.
        assert [(usage.allowed, usage.remaining) for (usage,) in found] == [(True, 0)] * 50
        assert after["total_commands_processed"] - before["total_commands_processed"] >= 50
        assert after["total_reads_processed"] - before["total_reads_processed"] <= 5
        assert (await watch.info("clients"))["connected_clients"] == 2
    finally:
        await redis.aclose()
        await watch.aclose()


@pytest.mark.services("redis")
async def test_one_command_that_fails_fails_alone(redis_url, monkeypatch):
    monkeypatch.setattr("chat_broker.storage.redis.PATIENCE", 10.0)
    redis = connect(redis_url)
    try:
        commands = RedisCommands(redis)
        await commands.ask("SET", "text", "x")
        answers = await asyncio.gather(
            commands.ask("GET", "text"),
            commands.ask("INCR", "text"),
            commands.ask("GET", "none"),
            return_exceptions=True,
        )
        assert answers[0] == b"x"
        assert isinstance(answers[1], ResponseError)
        assert answers[2] is None
    finally:
        await redis.aclose()


async def test_who_waits_as_told_is_let_in(counters):
    limit = Limit("x", 2, 1)
    while (usage := (await counters.hit([(limit, "a")]))[0]).allowed:
        pass
    await asyncio.sleep(usage.retry_after)
    assert (await counters.hit([(limit, "a")]))[0].allowed


@given(
    st.integers(1, 50),
    st.integers(0, 50),
    st.integers(0, 50),
    st.floats(0, 59.9),
)
def test_retry_after_is_long_enough_and_not_absurd(amount, before, used, elapsed):
    """After the wait one more is allowed, if nobody else comes; and nobody waits over two windows."""
    limit = Limit("x", amount, 60)
    usage = judge(limit, before, used, elapsed)
    if usage.allowed:
        assert before * (1 - elapsed / 60) + used + 1 <= amount
        return
    assert 1 <= usage.retry_after <= 120
    later = elapsed + usage.retry_after
    if later < 60:
        assert judge(limit, before, used, later).allowed
    elif later < 120 and used <= amount:
        assert judge(limit, used, 0, later - 60).allowed


def test_the_window_slides():
    clock = Clock(600.0)
    counters = MemoryCounters(clock)
    assert all(counters.count([(THREE, "a")])[0].allowed for _ in range(3))
    clock.now = 661.0  # a new window, in which nearly all of the old one is still near
    assert counters.count([(THREE, "a")])[0].allowed is False
    clock.now = 690.0
    assert counters.count([(THREE, "a")])[0].allowed is True
    clock.now = 800.0
    assert counters.count([(THREE, "a")])[0].remaining == 2


def test_a_million_keys_cost_little():
    """A flood of addresses fills no memory; whoever came last is still counted."""
    counters = MemoryCounters(Clock())
    tracemalloc.start()
    for number in range(200_000):
        counters.count([(THREE, f"192.0.2.{number}")])
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 20 * 2**20
    assert counters.look(THREE, "192.0.2.199999").remaining == 1


def test_memory_counting_takes_microseconds():
    counters = MemoryCounters()
    uses = [(Limit("read", 10**9, 60), "alice"), (Limit("address", 10**9, 60), "192.0.2.1")]
    started = time.process_time()
    for _ in range(10_000):
        counters.count(uses)
    assert (time.process_time() - started) / 10_000 < 50e-6, sys.version


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_address(address, key):
    assert address_key(address) == key


async def test_headers_of_the_draft():
    limiter = Limiter(rates(token="2/minute", ip="9/minute"), clock=Clock(600.0))
    usages = await limiter.spend("token", user="alice", address="192.0.2.1")
    assert headers_for(usages) == {
        "RateLimit-Policy": '"token";q=2;w=60, "address";q=9;w=60',
        "RateLimit": '"token";r=1;t=60, "address";r=8;t=60',
    }
    assert lines_for(usages) == (
        b'ratelimit-policy: "token";q=2;w=60, "address";q=9;w=60\r\n'
        b'ratelimit: "token";r=1;t=60, "address";r=8;t=60\r\n'
    )
    assert headers_for([]) == {}
    assert lines_for([]) == b""
    await limiter.spend("token", user="alice", address="192.0.2.1")
    with pytest.raises(TooMany) as refused:
        await limiter.spend("token", user="alice", address="192.0.2.1")
    assert refused.value.headers["Retry-After"] == str(refused.value.retry_after) != "0"
    assert '"token";r=0' in refused.value.headers["RateLimit"]


async def test_kinds_are_counted_apart():
    limiter = Limiter(rates(token="1/minute", write="1/minute"))
    await limiter.spend("token", user="a", address="x")
    await limiter.spend("write", user="a", address="x")
    await limiter.spend("read", user="a", address="x")
    await limiter.spend("sign_out", user="a", address="x")
    with pytest.raises(TooMany):
        await limiter.spend("sign_out", user="a", address="x")  # as often as tokens are asked for


async def test_one_address_with_many_users():
    limiter = Limiter(rates(ip="3/minute"))
    for user in "abc":
        limiter.check_address("192.0.2.1")
        await limiter.spend("read", user=user, address="192.0.2.1")
    with pytest.raises(TooMany):
        limiter.check_address("192.0.2.1")
    limiter.check_address("192.0.2.2")


async def test_failures_are_limited_by_address():
    limiter = Limiter(rates(admin_failures="10/minute", auth_failures="2/minute"))
    for _ in range(10):
        await limiter.failed_admin("2001:db8::1")
    with pytest.raises(TooMany):
        await limiter.failed_admin("2001:db8::2")
    await limiter.failed_admin("2001:db8:0:1::1")
    await limiter.failed_login("192.0.2.1")
    await limiter.failed_login("192.0.2.1")
    with pytest.raises(TooMany):
        await limiter.failed_login("192.0.2.1")


async def test_without_redis_people_chat_on_and_guessing_stays_limited():
    """The limiter fails open towards the shared count, and says so; each process counts on alone."""
    failures = []
    limiter = Limiter(rates(), Broken(), on_failure=lambda: failures.append(1))
    for _ in range(30):
        await limiter.spend("token", user="alice", address="192.0.2.1")
    assert len(failures) == 30
    for _ in range(10):
        await limiter.failed_admin("192.0.2.9")
    with pytest.raises(TooMany):
        await limiter.failed_admin("192.0.2.9")


@pytest.mark.services("redis")
async def test_replicas_share_their_counts(redis_url):
    one, two = connect(redis_url), connect(redis_url)
    replicas = [
        Limiter(rates(token="6/hour"), RedisCounters(RedisCommands(redis), prefix="p"))
        for redis in (one, two)
    ]
    let_through = 0
    for number in range(12):
        try:
            await replicas[number % 2].spend("token", user="alice", address="192.0.2.1")
            let_through += 1
        except TooMany:
            pass
    assert let_through == 6
    keys = [key.decode() for key in await one.keys("*")]
    assert keys
    assert not any("alice" in key or "192.0.2" in key for key in keys)
    assert all([await one.ttl(key) > 0 for key in keys])
    await one.aclose()
    await two.aclose()


@pytest.mark.services("redis")
async def test_an_address_redis_refused_is_refused_without_asking_again(redis_url):
    redis = connect(redis_url)
    limiter = Limiter(rates(ip="1/hour"), RedisCounters(RedisCommands(redis), prefix="p"))
    await limiter.spend("read", user="a", address="192.0.2.1")
    with pytest.raises(TooMany):
        await limiter.spend("read", user="b", address="192.0.2.1")
    with pytest.raises(TooMany):
        limiter.check_address("192.0.2.1")
    limiter.check_address("192.0.2.2")
    await redis.flushall()
    await redis.script_flush()
    await limiter.spend("read", user="a", address="192.0.2.3")
    await redis.aclose()
