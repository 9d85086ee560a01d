"""Sends bytes to all nodes, at most once. A message may be lost, so nodes also check against the database.

`LocalBus` is for a single node. `RedisBus` uses pub/sub of one Redis. Neither raises to a sender or makes it wait. While
Redis does not answer, each node continues alone, `state` tells it, and the nodes read what they missed from the database.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from chat_broker_kit.logs.outages import Outage
from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("chat_broker_server.cluster.bus")

MAX_BYTES = 256 * 1024
_MAX_QUEUED = 20_000
_BATCH = 256
_TIMEOUT = 2.0
_MAX_SILENCE = 5.0  # seconds without an answer to a ping, after which the connection counts as dead

OnMessage = Callable[[bytes], None]


class Bus(Protocol):
    """Carries messages between the nodes of one deployment."""

    @property
    def state(self) -> str:
        """`off` without other nodes, `ok`, or `degraded: …` with the reason."""

    async def start(self, on_message: OnMessage, on_recovered: Callable[[], None]) -> None:
        """Pass every message, own ones too, to *on_message*. Call *on_recovered* whenever messages may have been lost."""

    def send(self, message: bytes) -> None:
        """Send to all nodes, or drop the message if that is not possible now. Never waits or raises."""

    async def close(self) -> None:
        """Stop. Queued messages are sent first if Redis answers."""


class LocalBus:
    """The bus of a single node: sends nothing."""

    state = "off"

    async def start(self, on_message: OnMessage, on_recovered: Callable[[], None]) -> None:
        pass

    def send(self, message: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


class RedisBus:
    """Redis pub/sub. Fails open: each node continues alone, and reads from the database what it missed."""

    def __init__(self, url: str, *, prefix: str = "chat") -> None:
        """*prefix* separates deployments that share one Redis."""
        self._url = url
        self._outage = Outage(log, "bus", store="redis", where=location(url))
        self._channel = f"{prefix}:nodes:1"
        self._queue: deque[bytes] = deque()
        self._queue_filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[Redis] = []
        self._receive_error: str | None = "not connected yet"
        self._send_error: str | None = None
        self._closing = False
        self.dropped = 0

    @property
    def state(self) -> str:
        """`ok`, or `degraded: …` with the kind of error."""
        error = self._receive_error or self._send_error
        return f"degraded: {error}" if error else "ok"

    async def start(self, on_message: OnMessage, on_recovered: Callable[[], None]) -> None:
        """Connect in the background, as often as it takes."""
        self._tasks = [
            asyncio.create_task(self._receive(on_message, on_recovered), name="bus receiver"),
            asyncio.create_task(self._send_queued(), name="bus sender"),
        ]

    def _client(self) -> "Redis":
        # Importing the library takes a third of a second, and a single node does not need it.
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client: Redis = Redis.from_url(
            self._url,
            socket_connect_timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # the loops below retry, and log it
        )
        self._clients.append(client)
        return client

    def send(self, message: bytes) -> None:
        """Queue the message. It is dropped while Redis does not answer."""
        if (
            self._send_error
            or self._closing
            or len(message) > MAX_BYTES
            or len(self._queue) >= _MAX_QUEUED
        ):
            self.dropped += 1
            return
        self._queue.append(message)
        self._queue_filled.set()

    async def _send_queued(self) -> None:
        client = self._client()
        pause = 0.2
        while not self._closing:  # a cancellation may get lost in the library, see `end`
            await self._queue_filled.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
            try:
                async with asyncio.timeout(_TIMEOUT):
                    if batch or self._send_error:
                        pipe = client.pipeline(transaction=False)
                        for message in batch:
                            pipe.publish(self._channel, message)
                        if not batch:
                            pipe.ping()
                        await pipe.execute()
            except Exception as error:  # noqa: BLE001  # after any failure the same: try later
                self.dropped += len(batch) + len(self._queue)
                self._queue.clear()
                self._note_lost("cannot publish", error)
                self._send_error = f"cannot publish ({type(error).__name__})"
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
                pause = min(pause * 2, 5.0)
                continue
            self._send_error, pause = None, 0.2
            self._note_recovered()
            if not self._queue:
                self._queue_filled.clear()

    async def _receive(self, on_message: OnMessage, on_recovered: Callable[[], None]) -> None:
        client = self._client()
        pause = 0.2
        while not self._closing:
            pubsub = client.pubsub()
            try:
                async with asyncio.timeout(_TIMEOUT * 2):
                    await pubsub.subscribe(self._channel)
                    while await pubsub.get_message(timeout=_TIMEOUT) is None:
                        pass  # the answer to SUBSCRIBE
                self._receive_error, pause = None, 0.2
                self._note_recovered()
                on_recovered()
                await self._receive_messages(pubsub, on_message)
            except Exception as error:  # noqa: BLE001  # after any failure the same: connect again
                self._note_lost("cannot listen", error)
                self._receive_error = f"cannot listen ({type(error).__name__})"
            try:
                async with asyncio.timeout(1):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # as the library has it
            except Exception:  # noqa: BLE001, S110  # it is being thrown away
                pass
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
            pause = min(pause * 2, 5.0)

    def _note_lost(self, what: str, error: Exception) -> None:
        self._outage.begin(reason=f"{what} ({type(error).__name__})")

    def _note_recovered(self) -> None:
        if not (self._receive_error or self._send_error):
            self._outage.end()

    async def _receive_messages(self, pubsub: Any, on_message: OnMessage) -> None:
        last = asked = time.monotonic()
        while not self._closing:
            message = await pubsub.get_message(timeout=1.0)
            now = time.monotonic()
            if message is not None:
                last = now
                if message["type"] == "message":
                    on_message(message["data"])
            elif now - last > _MAX_SILENCE:
                raise ConnectionError("silence")
            if now - asked >= 1.0:
                asked = now
                await pubsub.ping()

    async def close(self) -> None:
        """Wait a moment for queued messages to be sent, then stop."""
        deadline = time.monotonic() + 0.3
        while self._queue and not self._send_error and time.monotonic() < deadline:  # noqa: ASYNC110  # 0.3 s at most, once
            await asyncio.sleep(0.01)
        self._closing = True
        await cancel_and_wait(*self._tasks)
        for client in self._clients:
            try:
                async with asyncio.timeout(1):
                    await client.aclose()
            except Exception:  # noqa: BLE001, S110  # it is being thrown away
                pass
