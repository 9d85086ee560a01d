"""The broker's storage: one suite for memory, SQLite and Postgres; shared marks in Redis."""

import asyncio
import random
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chat_broker.chat.ports import Link, Links, StateUnavailable
from chat_broker.storage.audit import SqlAudit
from chat_broker.storage.bans import SqlBans
from chat_broker.storage.database import LOOKUPS_AT_ONCE, open_database
from chat_broker.storage.deployment import deployment_id
from chat_broker.storage.memory import MARKS, LocalRoomChanges
from chat_broker.storage.migrations import MIGRATIONS
from chat_broker.storage.open import Pulse
from chat_broker.storage.redis import RedisCommands, connect
from chat_broker.storage.room_changes import RedisRoomChanges
from chat_broker.storage.sql import ALIVE_SECONDS, BEAT_SECONDS, SqlHeartbeat, SqlLinks
from chat_broker_kit.database.migrations import SchemaTooNew
from chat_broker_kit.database.postgres import PostgresDatabase
from chat_broker_kit.database.sqlite import SqliteDatabase
from chat_broker_kit.database.transactions import Database, Query, Steps, all_rows
from tests.app.databases import execute
from tests.conftest import POSTGRES

OLDEST = (
    "CREATE TABLE links (project_id VARCHAR(64), issuer TEXT, subject TEXT, user_id VARCHAR(64))",
    "CREATE TABLE processes (id VARCHAR(64) PRIMARY KEY, started_at BIGINT, seen_at BIGINT)",
    "CREATE TABLE broker_schema (version_num VARCHAR(32) PRIMARY KEY)",
    "INSERT INTO broker_schema VALUES ('0001')",
)
LINK = Link("p", "https://issuer", "sub", "u1", "ext", "Name", "a@b.example", "https://a/b.png")


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.services("postgres")),
    ]
)
async def links(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Links]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path}/x.db"
        if request.param == "postgres":
            url = await stack.enter_async_context(fresh_postgres())
        database = await stack.enter_async_context(open_database(url))
        yield SqlLinks(database)


@asynccontextmanager
async def fresh_postgres() -> AsyncIterator[str]:
    """Like the fixture `postgres_url`, which another fixture cannot ask for in the middle of its work."""
    import asyncpg

    name = f"broker_test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(POSTGRES)
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield POSTGRES.rpartition("/")[0] + f"/{name}"
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/x.db") as one:
        yield one


async def test_a_link_is_kept_as_it_was(links: Links) -> None:
    """Every field is stored unchanged, with characters of every kind."""
    strange = replace(LINK, subject="ü\u2028'\"--", user_id="u2", display_name=None, email=None)
    for link in (LINK, strange):
        assert await links.find(link.project_id, link.issuer, link.subject) is None
        assert await links.add(link) == link
        assert await links.find(link.project_id, link.issuer, link.subject) == link
    assert await links.find("other", LINK.issuer, LINK.subject) is None
    assert await links.find("p", "https://Issuer", LINK.subject) is None
    assert await links.find("p", LINK.issuer, "SUB") is None


async def test_the_first_link_wins_and_a_chat_user_is_one_persons(links: Links) -> None:
    """A second add returns the first link; a chat user has one principal only."""
    await links.add(LINK)
    assert await links.add(replace(LINK, user_id="u9")) == LINK
    assert await links.add(replace(LINK, subject="other")) is None
    assert await links.find("p", LINK.issuer, "other") is None
    elsewhere = replace(LINK, project_id="q", subject="other")
    assert await links.add(elsewhere) == elsewhere


async def test_what_two_replicas_were_told_is_both_kept(links: Links) -> None:
    """Each process stores the name it sent to the Chat API, not the one it had read before."""
    await links.add(LINK)
    await asyncio.gather(
        links.note(LINK, {"display_name": "New"}), links.note(LINK, {"email": "new@example.com"})
    )
    kept = await links.find("p", LINK.issuer, LINK.subject)
    assert kept == replace(LINK, display_name="New", email="new@example.com")


async def test_a_link_is_moved_from_where_it_was_seen_and_to_nobody_elses_user(
    links: Links,
) -> None:
    """The second of two moves gets the first one's result; the profile of the former user is dropped."""
    await links.add(LINK)
    other = replace(LINK, subject="other", user_id="u9")
    await links.add(other)
    new = replace(LINK, user_id="u2", display_name="New")
    assert await links.move(LINK, to=replace(new, user_id="u9")) is None
    assert await links.move(LINK, to=new) == new
    assert await links.move(LINK, to=replace(new, user_id="u3")) == new
    await links.note(LINK, {"display_name": "Of the user before"})
    assert await links.find("p", LINK.issuer, LINK.subject) == new
    assert await links.find("p", LINK.issuer, "other") == other


async def test_of_fifty_at_once_one_is_kept(links: Links) -> None:
    kept = await asyncio.gather(*(links.add(replace(LINK, user_id=f"u{n}")) for n in range(50)))
    assert len(set(kept)) == 1


async def test_writers_wait_for_each_other(database: Database) -> None:
    """Concurrent transactions that read and then write: none fails, and no write is lost."""
    await execute(database, "CREATE TABLE n (v INTEGER)")
    await execute(database, "INSERT INTO n VALUES (0)")

    def add_one() -> Steps[None]:
        ((value,),) = yield Query("SELECT v FROM n")
        yield Query("UPDATE n SET v = $1", value + 1)

    await asyncio.gather(*(database.write(add_one) for _ in range(80)))
    assert await execute(database, "SELECT v FROM n") == [(80,)]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def either_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path}/x.db"
        if request.param == "postgres":
            # With TLS, asyncpg leaves a future that is never read when a call is cancelled during the handshake.
            url = await stack.enter_async_context(fresh_postgres()) + "?sslmode=disable"
        yield await stack.enter_async_context(open_database(url))


@pytest.mark.parametrize("seed", range(3))
async def test_after_random_cancels_nothing_is_held_and_nothing_acknowledged_is_lost(
    either_database: Database, seed: int
) -> None:
    """Reads and writes are cancelled at any moment: no queue slot, connection or lookup is lost."""
    database, chance = either_database, random.Random(seed)
    await execute(database, "CREATE TABLE n (v INTEGER)")
    acknowledged: list[int] = []
    count = Query("SELECT count(*) FROM n")

    async def write(number: int) -> None:
        def transaction() -> Steps[None]:
            yield Query("INSERT INTO n VALUES ($1)", number)
            yield count

        await database.write(transaction)
        acknowledged.append(number)

    async def read() -> None:
        await database.read(partial(all_rows, count))
        await database.read(partial(all_rows, Query("SELECT v FROM n")), slow=True)

    calls = []
    for number in range(150):
        calls += [asyncio.create_task(write(number)), asyncio.create_task(read())]
        for each in chance.sample(calls[-20:], min(len(calls), chance.randrange(4))):
            # Cancelled twice, a transaction's own end is cut off: asyncpg then drops the connection, and logs an error.
            if database.name == "sqlite" or not each.cancelling():
                each.cancel()
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
    for each in await asyncio.gather(*calls, return_exceptions=True):
        assert not isinstance(each, Exception), repr(each)
    async with asyncio.timeout(10):
        stored = {value for (value,) in await execute(database, "SELECT v FROM n")}
        assert set(acknowledged) <= stored
        # As many at once as there are connections, so that a lost one is noticed.
        await asyncio.gather(*(read() for _ in range(50)), *(write(n) for n in range(200, 250)))
    if isinstance(database, SqliteDatabase):
        assert database._waiting == 0
    elif isinstance(database, PostgresDatabase):
        assert database._lookups is not None
        assert database._lookups._value == LOOKUPS_AT_ONCE
        assert database._pool.get_idle_size() == database._pool.get_size()


async def test_a_locked_database_is_unavailable_and_recovers(tmp_path: Path) -> None:
    """A locked database raises StateUnavailable after the wait, and works once the lock is released."""
    async with open_database(f"sqlite:///{tmp_path}/x.db") as database:
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        links = SqlLinks(database)
        with pytest.raises(StateUnavailable):
            await links.add(LINK)
        assert await links.find("p", LINK.issuer, LINK.subject) is None
        other.execute("ROLLBACK")
        other.close()
        assert await links.add(LINK) == LINK


async def test_writers_that_wait_keep_nobody_from_reading(
    database: Database, tmp_path: Path
) -> None:
    """While thirty writes wait for another program's lock, reads succeed."""
    links = SqlLinks(database)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writers = [
        asyncio.create_task(links.add(replace(LINK, subject=f"s{n}", user_id=f"u{n}")))
        for n in range(30)
    ]
    await asyncio.sleep(0.2)
    assert await links.find("p", LINK.issuer, "s0") is None
    assert not any(writer.done() for writer in writers)
    other.execute("ROLLBACK")
    other.close()
    assert len({kept.user_id for kept in await asyncio.gather(*writers)}) == 30


@pytest.mark.services("postgres")
async def test_many_lookups_at_once_wait_for_a_few_connections(postgres_url: str) -> None:
    """A ban lookup waits for a connection instead of failing on a busy machine."""
    there = urlsplit(postgres_url)
    lines: list[asyncio.Task[None]] = []
    let_in = LOOKUPS_AT_ONCE + 2  # that of the version and the migration's own go before them

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal let_in
        let_in -= 1
        if let_in < 0:
            return  # never receives anything
        source, sink = await asyncio.open_connection(there.hostname, there.port)
        lines.append(asyncio.create_task(copy(reader, sink)))
        lines.append(asyncio.create_task(copy(source, writer)))

    door = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = door.sockets[0].getsockname()[1]
    url = postgres_url.replace(f":{there.port}/", f":{port}/")
    async with open_database(url) as database:
        bans = SqlBans(database)
        found = await asyncio.gather(*(bans.ban_status(f"user-{n}") for n in range(60)))
        assert {status.revocation_mark for status in found} == {0}
    door.close()
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)


async def test_a_database_that_is_away_is_unavailable_and_shows_no_password() -> None:
    with pytest.raises(StateUnavailable) as caught:
        async with open_database("postgresql://user:pw-canary@127.0.0.1:1/none"):
            pass
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """The database and its journals: 0600, whatever the umask."""
    async with open_database(f"sqlite:///{tmp_path}/deep/er/x.db"):
        files = list((tmp_path / "deep" / "er").iterdir())
        assert len(files) == 3
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_an_older_database_is_brought_up_to_date(tmp_path: Path) -> None:
    """A database of the first version is migrated, and keeps its data."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as raw:
        for statement in OLDEST:
            raw.execute(statement)
        raw.execute("INSERT INTO processes VALUES ('old', 1, 1)")
    async with open_database(f"sqlite:///{tmp_path}/x.db") as database:
        assert await execute(database, "SELECT id FROM processes") == [("old",)]
        version = await execute(database, MIGRATIONS.version_query)
        assert version == [(MIGRATIONS.version,)]
        assert await SqlAudit(database).length() == 0


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A failed migration changes nothing, and the next start runs it completely."""
    url = f"sqlite:///{tmp_path}/x.db"
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as raw:
        for statement in (*OLDEST, "CREATE TABLE admin_keys (in_the_way TEXT)"):
            raw.execute(statement)
    with pytest.raises(StateUnavailable):
        async with open_database(url):
            pass
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as raw:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        left = [name for (name,) in tables]
        assert left == ["admin_keys", "broker_schema", "links", "processes"]
        raw.execute("DROP TABLE admin_keys")
    async with open_database(url) as database:
        assert await SqlAudit(database).length() == 0


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    async with open_database(url) as database:
        await execute(database, f"UPDATE {MIGRATIONS.table} SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=MIGRATIONS.version):
        async with open_database(url):
            pass


@pytest.mark.services("postgres")
async def test_many_processes_migrate_once(postgres_url: str) -> None:
    """One process migrates; the others wait."""

    async def start() -> None:
        async with open_database(postgres_url):
            pass

    await asyncio.gather(*(start() for _ in range(6)))


def heart(database: Database, name: str, now: list[float], skew: float = 0) -> SqlHeartbeat:
    return SqlHeartbeat(database, name, now=lambda: now[0] + skew, clock=lambda: now[0])


async def test_processes_know_of_each_other(database: Database) -> None:
    """Other processes count by their heartbeats; stopped and silent ones do not."""
    now = [1000.0]
    one, two = (heart(database, name, now) for name in ("one", "two"))
    await one.beat()
    await two.beat()
    now[0] += BEAT_SECONDS
    assert [await one.beat(), await two.beat()] == [1, 1]
    await two.stop()
    assert await one.beat() == 0
    await two.beat()
    assert await one.beat() == 1
    now[0] += ALIVE_SECONDS + 1
    assert await one.beat() == 0


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0], ids="clock {} s off".format)
async def test_a_predecessor_that_is_gone_is_nobody_and_a_living_one_is_counted(
    database: Database, skew: float
) -> None:
    """Rows left by `kill -9` or by a backup do not count, because they stop changing; clocks do not matter."""
    now = [10_000.0]
    killed = heart(database, "killed", now, skew)
    await killed.beat()
    now[0] += 1
    await killed.beat()
    one = Pulse(heart(database, "one", now), alone=True)
    for _ in range(5):
        await one.beat()
        assert (one.others, one.conflict) == (0, False)
        now[0] += BEAT_SECONDS
    living = heart(database, "living", now, skew)
    await living.beat()
    await one.beat()
    assert one.conflict
    now[0] += ALIVE_SECONDS + 1  # it was killed, too
    await one.beat()
    assert not one.conflict


async def test_two_without_redis_are_a_conflict(database: Database) -> None:
    first = Pulse(SqlHeartbeat(database, "one"), alone=True)
    second = Pulse(SqlHeartbeat(database, "two"), alone=False)
    await first.beat()
    assert not first.conflict
    await second.beat()
    await first.beat()
    assert first.conflict
    assert not second.conflict


async def test_the_id_of_a_deployment_is_made_once_and_is_the_databases_own(tmp_path: Path) -> None:
    """Replicas that start at once agree on one id; another database has another."""
    found = set()
    for name in ("a", "b"):
        async with AsyncExitStack() as stack:
            url = f"sqlite:///{tmp_path}/{name}.db"
            replicas = [await stack.enter_async_context(open_database(url)) for _ in range(4)]
            ids = await asyncio.gather(*map(deployment_id, replicas))
            assert set(ids) == {await deployment_id(replicas[0])}
            found.add(ids[0])
    assert len(found) == 2


async def test_marks_of_this_process_change_with_every_change() -> None:
    """A room's mark never returns to an earlier value, although the number of marks is bounded."""
    changes = LocalRoomChanges()
    seen = {await changes.mark("r")}
    for _ in range(3):
        await changes.changed("r")
        mark = await changes.mark("r")
        assert mark not in seen
        assert mark == await changes.mark("r")
        seen.add(last := mark)
    for number in range(50_001):
        await changes.changed(str(number))
        mark = await changes.mark("r")
        assert mark == last or mark not in seen
        seen.add(last := mark)
    assert len(changes._marks) == MARKS


@pytest.mark.services("redis")
async def test_marks_in_redis_are_seen_by_every_replica(redis_url: str) -> None:
    one, two = connect(redis_url), connect(redis_url)
    try:
        first, second = (RedisRoomChanges(RedisCommands(redis), prefix="p") for redis in (one, two))
        before = await second.mark("r")
        assert before == await first.mark("r")
        for _ in range(50):
            await first.changed("r")
            after = await second.mark("r")
            assert after != before
            before = after
    finally:
        await one.aclose()
        await two.aclose()


async def test_without_redis_nothing_can_be_told_of_a_room() -> None:
    """Without Redis the mark is None, so nothing is cached; a change does not fail."""
    away = connect("redis://127.0.0.1:1/0")
    try:
        changes = RedisRoomChanges(RedisCommands(away), prefix="p")
        assert await changes.mark("r") is None
        await changes.changed("r")
    finally:
        await away.aclose()


@pytest.mark.services("redis")
async def test_a_change_counts_at_once_on_another_replica(tmp_path: Path, redis_url: str) -> None:
    """A member removed through one broker is refused by the other at the next request, twenty times."""
    from chat_broker.main import create_app
    from tests.app.brokers import http, running, settings

    async with running(tmp_path, redis_url=redis_url) as one:
        second = create_app(settings(tmp_path, redis_url=redis_url), chat_transport=one.upstream)
        async with second.router.lifespan_context(second), http(second) as elsewhere:
            alice, bob = await one.sign_in("alice"), await one.sign_in("bob")
            await bob.get("/me")
            room = await alice.room(private=True, member_ids=["external:bob"])
            for _ in range(20):
                path, headers = f"/chat/rooms/{room}/messages", bob.client.headers
                assert (await elsewhere.get(path, headers=headers)).status_code == 200
                assert (
                    await alice.delete(f"/rooms/{room}/members/external:bob")
                ).status_code == 204
                assert (await elsewhere.get(path, headers=headers)).status_code == 404
                assert (await alice.put(f"/rooms/{room}/members/external:bob")).status_code == 200
