"""How one node reaches the others: bytes to everybody, at most once. Only hints travel here; the truth is in the database.

`LocalBus` is for a node that is alone. `RedisBus` uses pub/sub of one Redis. Both never raise to a sender and never
make one wait: when Redis is away, everything local goes on, `state` says so, and nodes catch up from the database.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from chat_broker_kit.tasks import end
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("chat_broker_server.cluster.bus")

MAX_BYTES = 256 * 1024
_MAX_QUEUED = 20_000
_BATCH = 256
_TIMEOUT = 2.0
_SILENCE = 5.0  # no answer to pings for so long: the connection is dead, whatever TCP says

Heard = Callable[[bytes], None]


class Bus(Protocol):
    """Carries messages between the nodes of one deployment."""

    @property
    def state(self) -> str:
        """`off` without other nodes, `ok`, or `degraded: …` with the reason."""

    async def start(self, heard: Heard, recovered: Callable[[], None]) -> None:
        """Pass every message, own ones too, to *heard*; call *recovered* after each time of deafness."""

    def send(self, message: bytes) -> None:
        """Send to all nodes, if it can be done now; never waits, never raises."""

    async def close(self) -> None:
        """Stop; what is queued is sent first if that takes no time."""


class LocalBus:
    """A node alone: nobody to tell."""

    state = "off"

    async def start(self, heard: Heard, recovered: Callable[[], None]) -> None:
        """Nothing will be heard."""

    def send(self, message: bytes) -> None:
        """Nobody listens."""

    async def close(self) -> None:
        """Nothing to stop."""


class RedisBus:
    """Redis pub/sub. Fails open: chat goes on in every node by itself, and the database heals what was missed."""

    def __init__(self, url: str, *, prefix: str = "chat") -> None:
        """*url* may carry a password and `rediss://`; *prefix* keeps deployments on one Redis apart."""
        self._url = url
        self._where = location(url)
        self._channel = f"{prefix}:nodes:1"
        self._queue: deque[bytes] = deque()
        self._something = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[Redis] = []
        self._deaf: str | None = "not connected yet"
        self._lost_at: float | None = None
        self._mute: str | None = None
        self._closing = False
        self.dropped = 0

    @property
    def state(self) -> str:
        """`ok`, or `degraded: …` with the kind of error."""
        trouble = self._deaf or self._mute
        return f"degraded: {trouble}" if trouble else "ok"

    async def start(self, heard: Heard, recovered: Callable[[], None]) -> None:
        """Connect in the background; a Redis that is down now is found when it is up."""
        self._tasks = [
            asyncio.create_task(self._listen(heard, recovered), name="bus listener"),
            asyncio.create_task(self._talk(), name="bus talker"),
        ]

    def _client(self) -> "Redis":
        # The library takes a third of a second to load, and one node needs none.
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client: Redis = Redis.from_url(
            self._url,
            socket_connect_timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # our own loops retry, and say so
        )
        self._clients.append(client)
        return client

    def send(self, message: bytes) -> None:
        """Queue for the talker; dropped while Redis does not answer."""
        if (
            self._mute
            or self._closing
            or len(message) > MAX_BYTES
            or len(self._queue) >= _MAX_QUEUED
        ):
            self.dropped += 1
            return
        self._queue.append(message)
        self._something.set()

    async def _talk(self) -> None:
        client = self._client()
        pause = 0.2
        while not self._closing:  # a cancellation may be swallowed, see `end`
            await self._something.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
            try:
                async with asyncio.timeout(_TIMEOUT):
                    if batch or self._mute:
                        pipe = client.pipeline(transaction=False)
                        for message in batch:
                            pipe.publish(self._channel, message)
                        if not batch:
                            pipe.ping()
                        await pipe.execute()
            except Exception as error:  # noqa: BLE001  # any failure means the same: not now
                self.dropped += len(batch) + len(self._queue)
                self._queue.clear()
                self._lost("cannot publish", error)
                self._mute = f"cannot publish ({type(error).__name__})"
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
                pause = min(pause * 2, 5.0)
                continue
            self._mute, pause = None, 0.2
            self._found()
            if not self._queue:
                self._something.clear()

    async def _listen(self, heard: Heard, recovered: Callable[[], None]) -> None:
        client = self._client()
        pause = 0.2
        while not self._closing:
            pubsub = client.pubsub()
            try:
                async with asyncio.timeout(_TIMEOUT * 2):
                    await pubsub.subscribe(self._channel)
                    while await pubsub.get_message(timeout=_TIMEOUT) is None:
                        pass  # the answer to SUBSCRIBE
                self._deaf, pause = None, 0.2
                self._found()
                recovered()
                await self._hear(pubsub, heard)
            except Exception as error:  # noqa: BLE001  # any failure means the same: connect again
                self._lost("cannot listen", error)
                self._deaf = f"cannot listen ({type(error).__name__})"
            try:
                async with asyncio.timeout(1):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # as the library has it
            except Exception:  # noqa: BLE001, S110  # it is being thrown away
                pass
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
            pause = min(pause * 2, 5.0)

    def _lost(self, what: str, error: Exception) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            reason = f"{what} ({type(error).__name__})"
            log.warning("bus.lost", store="redis", where=self._where, reason=reason)

    def _found(self) -> None:
        if self._lost_at is not None and not (self._deaf or self._mute):
            seconds = round(time.monotonic() - self._lost_at, 1)
            self._lost_at = None
            log.info("bus.back", store="redis", where=self._where, seconds=seconds)

    async def _hear(self, pubsub: Any, heard: Heard) -> None:
        last = asked = time.monotonic()
        while not self._closing:
            message = await pubsub.get_message(timeout=1.0)
            now = time.monotonic()
            if message is not None:
                last = now
                if message["type"] == "message":
                    heard(message["data"])
            elif now - last > _SILENCE:
                raise ConnectionError("silence")
            if now - asked >= 1.0:
                asked = now
                await pubsub.ping()

    async def close(self) -> None:
        """Give the talker a moment for what is queued, then stop."""
        deadline = time.monotonic() + 0.3
        while self._queue and not self._mute and time.monotonic() < deadline:  # noqa: ASYNC110  # 0.3 s at most, once
            await asyncio.sleep(0.01)
        self._closing = True
        await end(*self._tasks)
        for client in self._clients:
            try:
                async with asyncio.timeout(1):
                    await client.aclose()
            except Exception:  # noqa: BLE001, S110  # it is being thrown away
                pass
