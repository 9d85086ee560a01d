"""Marks of rooms in Redis, so that a change by one replica is effective at once on all."""

import secrets
import time

import structlog
from redis.exceptions import RedisError

from chat_broker.storage.redis import REST_AFTER_FAILURE, RedisCommands

log = structlog.get_logger(__name__)

KEPT_SECONDS = 60
"""Longer than any membership stays in a cache: an expired mark looks like a room without changes."""


class RedisRoomChanges:
    """Each change of a room sets a new random mark. While Redis does not answer, no membership is cached."""

    def __init__(self, redis: RedisCommands, *, prefix: str) -> None:
        """*prefix*: the beginning of every key of this deployment."""
        self._redis = redis
        self._prefix = prefix
        self._rest_until = 0.0

    async def mark(self, room_id: str) -> str | None:
        """The room's present mark; None if Redis does not answer, or failed within the last second."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            mark = await self._redis.ask("GET", self._key(room_id))
        except (RedisError, OSError) as error:
            self._failed("room_changes.unreadable", error)
            return None
        return mark.decode("latin-1") if isinstance(mark, bytes) else str(mark or "")

    async def changed(self, room_id: str) -> None:
        """Set a new mark. Without Redis, other replicas see the change within 5 s, when their caches expire."""
        try:
            await self._redis.ask(
                "SET", self._key(room_id), secrets.token_hex(8), "EX", KEPT_SECONDS
            )
        except (RedisError, OSError) as error:
            self._failed("room_changes.not_told", error)

    def _key(self, room_id: str) -> str:
        return f"{self._prefix}:room:{room_id}"

    def _failed(self, event: str, error: Exception) -> None:
        self._rest_until = time.monotonic() + REST_AFTER_FAILURE
        log.warning(event, error=type(error).__name__)
