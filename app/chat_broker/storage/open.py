"""Opens the broker's storage in order, and closes it in reverse."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from chat_broker.admission.counters import Counters
from chat_broker.chat.ports import Heartbeat, Hints, Links, RoomChanges, StateUnavailable
from chat_broker.settings import Settings
from chat_broker.storage.database import open_database
from chat_broker.storage.deployment import deployment_id
from chat_broker.storage.memory import LocalRoomChanges, NoHints
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker.storage.sql import BEAT_SECONDS, SqlHeartbeat, SqlLinks
from chat_broker_kit.database.transactions import Database, Query, all_rows
from chat_broker_kit.logs.outages import Outage
from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    from chat_broker.storage.redis import RedisProbe

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """The open storage. *redis* and *counters* are None without REDIS_URL."""

    database: Database
    links: Links
    room_changes: RoomChanges
    pulse: "Pulse"
    hints: Hints
    redis: "RedisProbe | None" = None
    counters: Counters | None = None

    @property
    def kind(self) -> str:
        """Which database: `sqlite` or `postgres`."""
        return self.database.name

    @property
    def schema_version(self) -> str:
        """The version of the database's schema."""
        return MIGRATIONS.version

    @property
    def hints_state(self) -> str:
        """Whether hints of other replicas arrive: `off`, `ok` or `lost`."""
        if self.redis is None:
            return "off"
        return "ok" if self.hints.live else "lost"

    @property
    def other_processes(self) -> int:
        """How many other processes use the database."""
        return self.pulse.others

    async def database_state(self) -> str:
        """The state of the database: `ok` or `degraded: …`. Raises StateUnavailable."""
        await self.database.read(partial(all_rows, Query("SELECT 1")))
        return "ok" if self.pulse.writes else "degraded: writes are refused"

    async def redis_state(self) -> str:
        """The state of Redis: `off`, `ok` or `degraded: …`."""
        if self.redis is None:
            return "off"
        if not await self.redis.takes_writes():
            return "degraded: commands are not answered, or refused"
        if not self.hints.live:
            return "degraded: hints of other replicas do not arrive"
        return "ok"

    async def processes_state(self) -> str:
        """Whether all processes on the database notify each other: `ok` or `degraded: …`."""
        if self.pulse.conflict:
            return "degraded: another broker uses this database, and there is no REDIS_URL"
        return "ok"


class Pulse:
    """The heartbeat of this process; counts the other processes on the database."""

    def __init__(self, heartbeat: Heartbeat, *, alone: bool, where: str = "") -> None:
        """*alone*: there is no Redis. *where*: the database's location, for operators."""
        self._heartbeat = heartbeat
        self._alone = alone
        self._outage = Outage(log, "database", store="broker", where=where)
        self.others = 0

    @property
    def conflict(self) -> bool:
        """Whether other processes use the database, but no Redis connects them."""
        return self._alone and self.others > 0

    @property
    def writes(self) -> bool:
        """Whether the database accepted the last beat, which is a write."""
        return not self._outage

    async def beat(self) -> None:
        """Send one beat. The log gets a line when an outage of the database begins and ends."""
        try:
            others = await self._heartbeat.beat()
        except StateUnavailable as error:
            self._outage.begin(reason=str(error))
            return
        self._outage.end()
        if self._alone and others and not self.others:
            log.error(
                "processes.not_connected",
                others=others,
                hint="Another broker uses this database. Set REDIS_URL for both, or stop one.",
            )
        self.others = others

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.beat()

    async def stop(self) -> None:
        """Remove this process from the database, if it answers."""
        with contextlib.suppress(StateUnavailable):
            await self._heartbeat.stop()


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[State]:
    """The storage, open while the block runs. Raises SchemaTooNew, StateUnavailable."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.broker_database))
        process = secrets.token_hex(8)
        shared = await _open_redis(stack, settings, database, process)
        where = location(settings.broker_database)
        heartbeat = SqlHeartbeat(database, process)
        pulse = Pulse(heartbeat, alone=shared.probe is None, where=where)
        await pulse.beat()
        stack.push_async_callback(pulse.stop)
        beating = asyncio.create_task(pulse.run(), name="heartbeat")
        stack.push_async_callback(cancel_and_wait, beating)
        yield State(
            database=database,
            links=SqlLinks(database),
            room_changes=shared.room_changes,
            pulse=pulse,
            hints=shared.hints,
            redis=shared.probe,
            counters=shared.counters,
        )


class _Shared(NamedTuple):
    """What replicas share through Redis; without REDIS_URL, its counterparts for a single process."""

    hints: Hints
    room_changes: RoomChanges
    counters: Counters | None = None
    probe: "RedisProbe | None" = None


async def _open_redis(
    stack: AsyncExitStack, settings: Settings, database: Database, process: str
) -> _Shared:
    """Connect to Redis, if REDIS_URL is set; *stack* closes the connections."""
    if settings.redis_url is None:
        return _Shared(NoHints(), LocalRoomChanges())
    # Not at the top: the library takes a third of a second and 15 MB, and a single process never needs it.
    from chat_broker.storage import redis as storage
    from chat_broker.storage.room_changes import RedisRoomChanges

    url = settings.redis_url.get_secret_value()
    prefix = settings.redis_prefix or f"chat-broker:{await deployment_id(database)}"
    redis = storage.connect(url)
    stack.push_async_callback(redis.aclose)
    commands = storage.RedisCommands(redis)
    hints = storage.RedisHints(redis, name=process, prefix=prefix, where=location(url))
    await stack.enter_async_context(storage.listening(hints))
    probe = storage.RedisProbe(url, prefix=prefix)
    stack.push_async_callback(probe.aclose)
    return _Shared(
        hints,
        RedisRoomChanges(commands, prefix=prefix),
        storage.RedisCounters(commands, prefix=prefix),
        probe,
    )
