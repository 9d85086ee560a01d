"""Postgres behind the seam: away, hanging, locked, shared by replicas that start together."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from chat_broker_kit.database.postgres import PostgresDatabase
from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.database.migrations import MIGRATIONS
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import Unavailable
from tests.contract.servers import in_room, refused
from tests.server.opening import opened, two_replicas

pytestmark = pytest.mark.services("postgres")


class Wire:
    """A TCP proxy to the database that can be cut or held still."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.pieces = 0
        """That were sent to the database: trips, where each is answered before the next."""

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Connections stay open, and nothing comes through."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    async def cut(self) -> None:
        """Nobody listens any more, and every connection is closed."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        for source, sink, towards in ((reader, back, True), (there, writer, False)):
            self._writers.add(sink)
            task = asyncio.ensure_future(self._pump(source, sink, towards))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, towards: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                self.pieces += towards
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[tuple[Wire, str]]:
    parts = urlsplit(url)
    wire = Wire(parts.hostname or "127.0.0.1", parts.port or 5432)
    await wire.listen()
    try:
        # Asking for TLS first leaves asyncpg with a future nobody reads when the wire is cut then.
        query = "sslmode=disable"
        yield wire, f"postgresql://{parts.username}@127.0.0.1:{wire.port}{parts.path}?{query}"
    finally:
        wire.release()
        await wire.cut()


async def test_an_outage_is_503_soon_and_over_when_it_is_over(
    tmp_path: Path, postgres_url: str
) -> None:
    """Hanging or gone: an answer within some two seconds; afterwards everything works again."""
    async with (
        wired(postgres_url) as (wire, url),
        opened(tmp_path, chat_database_url=url) as (server, api),
    ):
        alice = await api.user("alice")
        room = await api.room(alice)
        path, body = f"{in_room(room)}/messages", {"content": "x", "user_id": alice["id"]}
        assert (await server.ready())["database"] == "ok"

        wire.hold()
        began = time.monotonic()
        answers = await asyncio.gather(
            *(api.send("GET", path) for _ in range(15)),
            *(api.send("POST", path, json=body) for _ in range(15)),
        )
        took = time.monotonic() - began
        for answer in answers:
            refused(answer, 503, "database_unavailable")
        assert took < 5
        assert (await server.ready())["database"].startswith("failed")
        wire.release()
        await api.say(room, alice, "hanging is over")

        await wire.cut()
        began = time.monotonic()
        refused(await api.send("GET", path), 503, "database_unavailable")
        refused(await api.send("POST", path, json=body), 503, "database_unavailable")
        assert time.monotonic() - began < 5
        await wire.listen()
        await api.say(room, alice, "back again")
        page = (await api.send("GET", path)).json()
        contents = [item["content"] for item in page["items"]]
        assert contents[:2] == ["back again", "hanging is over"]
        assert [item["seq"] for item in page["items"]] == list(range(page["total"], 0, -1))


async def test_a_locked_table_is_503_and_leaves_nothing_behind(
    tmp_path: Path, postgres_url: str
) -> None:
    """Somebody's maintenance holds a lock: callers do not wait for it for ever."""
    async with opened(tmp_path, chat_database_url=postgres_url) as (_, api):
        alice = await api.user("alice")
        room = await api.room(alice)
        other = await asyncpg.connect(postgres_url)
        async with other.transaction():
            await other.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            body = {"content": "x", "user_id": alice["id"]}
            answer = await api.send("POST", f"{in_room(room)}/messages", json=body)
            refused(answer, 503, "writes_unavailable")
            assert time.monotonic() - began < 4
        await other.close()
        assert (await api.say(room, alice, "unlocked"))["seq"] == 1


async def test_replicas_that_start_together_migrate_once(postgres_url: str) -> None:
    """One migrates under the advisory lock, the others find it done."""
    databases = await asyncio.gather(*(open_database(postgres_url, pool=2) for _ in range(4)))
    for database in databases:
        await database.close()
    raw = await asyncpg.connect(postgres_url)
    assert [row[0] for row in await raw.fetch("SELECT version_num FROM alembic_version")] == [
        MIGRATIONS.version
    ]
    await raw.close()


async def test_two_replicas_number_one_room_without_a_gap(
    tmp_path: Path, postgres_url: str
) -> None:
    """And one Idempotency-Key sent to both makes one message."""
    async with two_replicas(tmp_path, postgres_url) as (one, two):
        alice = await one.user("alice")
        room = await one.room(alice)

        async def write(api: Any, count: int) -> list[int]:
            return [(await api.say(room, alice, "x"))["seq"] for _ in range(count)]

        seqs = await asyncio.gather(*(write(api, 10) for api in (one, two, one, two)))
        assert sorted(n for own in seqs for n in own) == list(range(1, 41))
        path, body = f"{in_room(room)}/messages", {"content": "once", "user_id": alice["id"]}
        headers = {"Idempotency-Key": "shared"}
        answers = await asyncio.gather(
            *(api.send("POST", path, json=body, headers=headers) for api in (one, two))
        )
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].content == answers[1].content
        assert (await two.send("GET", in_room(room))).json()["last_seq"] == 41


async def test_a_deadlock_is_tried_once_more(postgres_url: str) -> None:
    """Two transactions that lock crosswise both succeed."""
    database = await open_database(postgres_url, pool=4)
    assert isinstance(database, PostgresDatabase)

    def seed() -> Steps[None]:
        for name in ("a", "b"):
            yield Query("INSERT INTO projects (id, name, created_at) VALUES ($1, $1, '')", name)

    await database.write(seed)
    tries = 0

    def crosswise(first: str, second: str) -> Steps[None]:
        nonlocal tries
        tries += 1
        update = "UPDATE projects SET user_count = user_count + 1 WHERE id = $1"
        yield Query(update, first)
        yield Query("SELECT pg_sleep(0.3)")
        yield Query(update, second)

    await asyncio.gather(
        database.write(partial(crosswise, "a", "b")), database.write(partial(crosswise, "b", "a"))
    )
    assert tries in {3, 4}  # both may be chosen as the victim

    def counts() -> Steps[list[int]]:
        rows = yield Query("SELECT user_count FROM projects")
        return [row[0] for row in rows]

    assert await database.read(counts) == [2, 2]
    await database.close()


async def test_a_caller_that_goes_away_neither_breaks_nor_silences_a_write(
    postgres_url: str,
) -> None:
    """The transaction is finished in its own task, and its listener is told."""
    database = await open_database(postgres_url, pool=2)
    heard: list[str] = []

    def slow(name: str) -> Steps[str]:
        yield Query("INSERT INTO projects (id, name, created_at) VALUES ($1, $1, '')", name)
        yield Query("SELECT pg_sleep(0.2)")
        return name

    task = asyncio.ensure_future(database.write(partial(slow, "left"), heard.append))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.close()
    assert heard == ["left"]


async def test_no_password_is_in_what_is_said_about_a_missing_database() -> None:
    """The driver's error names the server, and not the secret."""
    with pytest.raises(OSError, match="1") as caught:
        await open_database("postgresql://u:sesame@127.0.0.1:1/none", pool=2)
    assert "sesame" not in repr(caught.value)
    assert not isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("seed", range(2))
async def test_after_random_cancels_no_turn_and_no_connection_is_held(
    tmp_path: Path, postgres_url: str, seed: int
) -> None:
    """Callers leave at any moment: each write ends all the same, in turns of its room, and messages have no gap."""
    chance = random.Random(seed)
    async with opened(tmp_path, chat_database_url=postgres_url + "?sslmode=disable") as (
        server,
        api,
    ):
        alice = await api.user("alice")
        room = await api.room(alice)

        async def post(number: int) -> int:
            body = {"content": f"{number}", "user_id": alice["id"]}
            answer = await api.send("POST", f"{in_room(room)}/messages", json=body)
            if answer.status_code == 503:  # too many wait for their turn
                return 0
            return int(answer.json()["seq"])

        async def read() -> int:
            answer = await api.send("GET", f"{in_room(room)}/messages")
            assert answer.status_code == 200
            return len(answer.json()["items"])

        calls = []
        for number in range(100):
            calls += [asyncio.create_task(post(number)), asyncio.create_task(read())]
            for each in chance.sample(calls[-20:], min(len(calls), chance.randrange(4))):
                each.cancel()
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
        for each in await asyncio.gather(*calls, return_exceptions=True):
            assert not isinstance(each, Exception), repr(each)
        last = await post(100)
        database = server._database
        assert isinstance(database, PostgresDatabase)
        async with asyncio.timeout(5):
            while database._writing:  # noqa: ASYNC110 - of those who left
                await asyncio.sleep(0.01)
        stored = sorted(int(row[0]) for row in await database.read(seqs))
        assert stored == list(range(1, last + 1))
        assert database._turns == {}
        assert database._pool.get_idle_size() == database._pool.get_size()


def seqs() -> Steps[list[Any]]:
    rows = yield Query("SELECT seq FROM messages ORDER BY seq")
    return list(rows)
