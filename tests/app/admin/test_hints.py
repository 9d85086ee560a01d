"""Hints between replicas: received at once, ignored if malformed, and replaced after a gap."""

import asyncio
import contextlib
import json
import subprocess

import pytest

from chat_broker.storage.memory import NoHints
from chat_broker.storage.redis import RedisHints, connect, listening
from tests.programs import free_port, wait_for_port

pytestmark = pytest.mark.services("redis")


async def until(condition, *, within=10.0):
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - conditions of other programs
            await asyncio.sleep(0.01)


@pytest.fixture
async def pair(redis_url):
    """The connected hints of two replicas, and what the second has received."""
    redis = [connect(redis_url) for _ in range(2)]
    heard = []
    async with contextlib.AsyncExitStack() as stack:
        one, two = (
            RedisHints(client, name=name, prefix="p")
            for client, name in zip(redis, ("one", "two"), strict=True)
        )
        one.on("standing", lambda key: heard.append(("one", key)))
        two.on("standing", lambda key: heard.append(("two", key)))
        for hints in (one, two):
            await stack.enter_async_context(listening(hints))
        await until(lambda: one.live and two.live)
        heard.clear()
        yield one, two, heard, redis
    for each in redis:
        await each.aclose()


async def test_the_others_hear_and_oneself_does_not(pair):
    one, _, heard, _ = pair
    await one.tell("standing", "alice")
    await one.tell("weather", "alice")
    await one.tell("standing", None)
    await until(lambda: len(heard) == 2)
    assert heard == [("two", "alice"), ("two", None)]


@pytest.mark.parametrize(
    "junk", [b"", b"\x80\x04", b"{}", b"[1,2,3]", b'["x","standing"]', b"[" * 3000, b"x" * 9000]
)
async def test_junk_is_ignored(pair, junk):
    _, two, heard, redis = pair
    await redis[0].publish("p:hints", junk)
    await redis[0].publish("p:hints", json.dumps(["three", "standing", "bob"]))
    await until(lambda: ("two", "bob") in heard)
    assert {key for _, key in heard} == {"bob"}
    assert two.live


async def test_without_redis_nothing_is_told_and_nothing_breaks():
    hints = NoHints()
    hints.on("standing", lambda _: None)
    await hints.tell("standing", "alice")
    assert hints.live is False


async def test_after_a_gap_everything_is_forgotten(tmp_path):
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]

    @contextlib.contextmanager
    def running():
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            wait_for_port(port)
            try:
                yield
            finally:
                server.kill()

    redis = connect(f"redis://127.0.0.1:{port}/0")
    heard = []
    hints = RedisHints(redis, name="one", prefix="p")
    hints.on("standing", heard.append)
    async with listening(hints):
        with running():
            await until(lambda: hints.live)
        await until(lambda: not hints.live)
        await hints.tell("standing", "alice")  # does not raise
        heard.clear()
        with running():
            await until(lambda: hints.live)
            assert heard
            assert set(heard) == {None}
    await redis.aclose()
