"""Redis for the broker: rate-limit counters that all replicas share, and hints that something has changed.

Redis holds the only copy of nothing. Lost counters start again at zero. Lost hints are harmless: caches expire within
a second, and are emptied when the connection comes back.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from chat_broker.admission.counters import judge
from chat_broker.chat.ports import Listener
from chat_broker.http.rate_limit_headers import Limit, Usage
from chat_broker.storage.batching import Gathered
from chat_broker_kit.logs.outages import Outage
from chat_broker_kit.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

PATIENCE: Final = 0.25
"""Seconds a call may take: requests must not wait long for their rate limit."""
COMMANDS_AT_ONCE: Final = 128
LINES: Final = 4
"""Connections for commands. A second one is used only while Redis is slow."""
REST_AFTER_FAILURE: Final = 1.0
LONGEST_PAUSE: Final = 5.0

# Each key holds the window's index, its count, and the count of the window before. Redis's clock is used,
# so replicas need not agree. The arithmetic is that of `chat_broker.admission.rate_limits.judge`, on the
# same doubles. Nothing is counted unless every use is allowed.
_HIT: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answer, write, all = {}, {}, 1
for n, key in ipairs(KEYS) do
  local amount, period = tonumber(ARGV[2 * n - 1]), tonumber(ARGV[2 * n])
  local index = math.floor(now / (period * 1000000))
  local elapsed = now - index * period * 1000000
  local held = redis.call('HMGET', key, 'i', 'n', 'b')
  local at, count, before = tonumber(held[1]), tonumber(held[2]) or 0, tonumber(held[3]) or 0
  if at == index - 1 then before, count = count, 0
  elseif at ~= index then before, count = 0, 0 end
  if before * (1 - (elapsed / 1000000) / period) + count + 1 > amount then all = 0 end
  write[n] = {key, index, count, before, period}
  answer[#answer + 1] = before
  answer[#answer + 1] = count
  answer[#answer + 1] = elapsed
end
if all == 1 then
  for _, w in ipairs(write) do
    redis.call('HSET', w[1], 'i', w[2], 'n', w[3] + 1, 'b', w[4])
    redis.call('EXPIRE', w[1], 2 * w[5] + 1)
  end
end
return answer
"""


class RedisUnreachable(OSError):  # noqa: N818 - an answer to act on, as TimeoutError is
    """Redis did not answer in time."""


def connect(url: str) -> "Redis":
    """A client with a timeout for every call. It connects on first use."""
    return Redis.from_url(
        url,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        health_check_interval=30,
        max_connections=64,
    )


class RedisCommands:
    """Commands to one Redis. Those that come together are one write, one read and one turn of Redis's own."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._gathered: Gathered[tuple[str | int, ...], Any] = Gathered(
            self._send, most=COMMANDS_AT_ONCE, lines=LINES
        )

    async def ask(self, *command: str | int) -> Any:
        """The response of Redis to *command*. Raises RedisError or OSError within `PATIENCE` seconds."""
        async with asyncio.timeout(PATIENCE):
            return await self._gathered.ask(command)

    async def _send(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        redis: Any = self._redis  # the library's types lack the arguments of these two methods
        async with asyncio.timeout(PATIENCE):
            if len(commands) == 1:
                return [await redis.execute_command(*commands[0])]
            together = redis.pipeline(transaction=False)
            for command in commands:
                together.execute_command(*command)
            answers: list[Any] = await together.execute(raise_on_error=False)
            return answers


class RedisProbe:
    """Checks whether Redis accepts writes: it may answer PING and refuse them (read only, out of memory).

    Uses its own connection: after an outage, each old connection of a pool fails once.
    """

    def __init__(self, url: str, *, prefix: str) -> None:
        self._redis = connect(url)
        self._key = f"{prefix}:probe"

    async def takes_writes(self) -> bool:
        """Whether a write succeeds. A second one follows in case the connection was stale."""
        for _ in range(2):
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._redis.set(self._key, 1, ex=60)
            except (RedisError, OSError):
                continue
            return True
        return False

    async def aclose(self) -> None:
        await self._redis.aclose()


class RedisCounters:
    """Counts uses for all replicas. Raises RedisUnreachable, also for a second after each failure."""

    def __init__(self, redis: RedisCommands, *, prefix: str) -> None:
        """*prefix*: the beginning of every key of this deployment."""
        self._redis = redis
        self._prefix = prefix
        self._rest_until = 0.0
        self._sha: str | None = None

    async def hit(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count one use of each limit, or of none if one is exceeded. One round trip."""
        if time.monotonic() < self._rest_until:
            raise RedisUnreachable("Redis did not answer a moment ago")
        keys = [f"{self._prefix}:uses:{limit.name}:{key}" for limit, key in uses]
        numbers = [number for limit, _ in uses for number in (limit.amount, limit.period)]
        try:
            counts = await self._run(keys, numbers)
        except (RedisError, OSError) as error:
            self._rest_until = time.monotonic() + REST_AFTER_FAILURE
            raise RedisUnreachable(type(error).__name__) from error
        triples = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
        return [
            judge(limit, before, count, elapsed / 1_000_000)
            for (limit, _), (before, count, elapsed) in zip(uses, triples, strict=True)
        ]

    async def _run(self, keys: list[str], numbers: list[int]) -> list[int]:
        if self._sha is None:
            self._sha = await self._loaded()
        try:
            return await self._evaluate(self._sha, keys, numbers)
        except NoScriptError:  # Redis was restarted, or flushed
            self._sha = await self._loaded()
            return await self._evaluate(self._sha, keys, numbers)

    async def _loaded(self) -> str:
        sha: bytes | str = await self._redis.ask("SCRIPT LOAD", _HIT)
        return sha.decode() if isinstance(sha, bytes) else sha

    async def _evaluate(self, sha: str, keys: list[str], numbers: list[int]) -> list[int]:
        counts: list[int] = await self._redis.ask("EVALSHA", sha, len(keys), *keys, *numbers)
        return counts


class RedisHints:
    """Hints through a channel of this deployment: Redis's pub/sub ignores database numbers."""

    def __init__(self, redis: "Redis", *, name: str, prefix: str, where: str = "") -> None:
        """*name*: this process, which ignores its own hints. *where*: the location of Redis, for operators."""
        self._redis = redis
        self._name = name
        self._channel = f"{prefix}:hints"
        self._outage = Outage(log, "hints", store="redis", where=where)
        self._listeners: dict[str, list[Listener]] = {}
        self.live = False

    def on(self, topic: str, listener: Listener) -> None:
        self._listeners.setdefault(topic, []).append(listener)

    async def tell(self, topic: str, key: str | None) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._redis.publish(self._channel, json.dumps([self._name, topic, key]))
        except (RedisError, OSError) as error:
            log.warning("hints.not_told", topic=topic, error=type(error).__name__)

    def _hear(self, raw: object) -> None:
        match _parsed(raw):
            case [str(name), str(topic), (str() | None) as key] if name != self._name:
                for listener in self._listeners.get(topic, ()):
                    listener(key)
            case _:
                pass

    def _forget_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener(None)

    async def listen(self) -> None:
        """Receive hints until cancelled. Reconnects, and empties the caches of all listeners after each gap."""
        pause = 0.1
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(self._channel)
                    await heard.ping()
                    self._forget_all()
                    self.live, pause = True, 0.1
                    self._outage.end()
                    await self._until_silent(heard)
            except (RedisError, OSError) as error:
                self._outage.begin(error=type(error).__name__)
            finally:
                self.live = False
            self._forget_all()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _until_silent(self, heard: Any) -> None:
        """Receive hints until Redis is silent for some seconds: a frozen Redis closes no connection."""
        asked = answered = time.monotonic()
        while time.monotonic() - answered < 2.5:
            if time.monotonic() - asked >= 1.0:
                asked = time.monotonic()
                await heard.ping()
            message = await heard.get_message(timeout=0.5)
            if message is None:
                continue
            answered = time.monotonic()
            if message["type"] == "message":
                self._hear(message["data"])
        raise RedisUnreachable("Redis stopped answering")


def _parsed(raw: object) -> object:
    if not isinstance(raw, bytes | str) or len(raw) > 4096:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


@asynccontextmanager
async def listening(hints: RedisHints) -> AsyncIterator[RedisHints]:
    """Receive hints while the block runs."""
    task = asyncio.create_task(hints.listen(), name="hints")
    try:
        yield hints
    finally:
        await cancel_and_wait(task)
