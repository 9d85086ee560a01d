"""Opens what the broker remembers, in order, and closes it in reverse."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from app.settings import Settings
from app.state.contract import Heartbeat, Links, RoomChanges, StateUnavailable
from app.state.database import Database, open_database
from app.state.memory import LocalRoomChanges
from app.state.migrate import migrate
from app.state.redis import Hints, connect, listening
from app.state.room_changes import RedisRoomChanges
from app.state.sql import BEAT_SECONDS, SqlHeartbeat, SqlLinks

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is kept. *redis* is None where there is none."""

    database: Database
    links: Links
    room_changes: RoomChanges
    pulse: "Pulse"
    hints: Hints
    redis: "Redis | None" = None


class Pulse:
    """Beats while the process lives, and knows how many others do."""

    def __init__(self, heartbeat: Heartbeat, *, alone: bool) -> None:
        self._heartbeat = heartbeat
        self._alone = alone
        self.others = 0

    @property
    def conflict(self) -> bool:
        """Are there other processes, without a Redis through which they would hear of each other?"""
        return self._alone and self.others > 0

    async def beat(self) -> None:
        """One beat. A database that does not answer is somebody else's to report."""
        try:
            others = await self._heartbeat.beat()
        except StateUnavailable:
            return
        if self._alone and others and not self.others:
            log.error(
                "processes.not_connected",
                others=others,
                hint="Another broker uses this database. Set REDIS_URL for both, or stop one.",
            )
        self.others = others

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.beat()

    async def stop(self) -> None:
        """The last beat."""
        with contextlib.suppress(StateUnavailable):
            await self._heartbeat.stop()


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[State]:
    """All that is kept, for as long as the block lasts. Raises SchemaTooNew, StateUnavailable."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.broker_database))
        await migrate(database)
        redis: Redis | None = None
        if settings.redis_url is not None:
            redis = connect(settings.redis_url.get_secret_value())
            stack.push_async_callback(redis.aclose)
        process = secrets.token_hex(8)
        hints = await stack.enter_async_context(listening(Hints(redis, name=process)))
        pulse = Pulse(SqlHeartbeat(database, process), alone=redis is None)
        await pulse.beat()
        stack.push_async_callback(pulse.stop)
        beating = asyncio.create_task(pulse.run(), name="heartbeat")
        stack.push_async_callback(_cancel, beating)
        yield State(
            database=database,
            links=SqlLinks(database),
            room_changes=LocalRoomChanges() if redis is None else RedisRoomChanges(redis),
            pulse=pulse,
            hints=hints,
            redis=redis,
        )


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
