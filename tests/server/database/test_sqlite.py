"""SQLite behind the seam: groups, failures, files, damage."""

import asyncio
import random
import sqlite3
import stat
import subprocess
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from chat_broker_kit.database import sqlite
from chat_broker_kit.database.migrations import SchemaTooNew
from chat_broker_kit.database.sqlite import SqliteDatabase
from chat_broker_kit.database.transactions import Query, Steps, Undo
from chat_broker_server.database.migrations import MIGRATIONS
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import Unavailable
from tests.contract.servers import in_room, of_user, refused
from tests.server.opening import opened


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened_database = await open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    assert isinstance(opened_database, SqliteDatabase)
    yield opened_database
    await opened_database.close()


def add(name: str) -> Steps[str]:
    yield Query("INSERT INTO projects (id, name, created_at) VALUES ($1, $1, 'now')", name)
    return name


def failing(name: str) -> Steps[str]:
    yield from add(name)
    raise LookupError(name)


def undone(name: str) -> Steps[str]:
    yield from add(name)
    raise Undo("the answer")


def names() -> Steps[list[str]]:
    rows = yield Query("SELECT id FROM projects ORDER BY id")
    return [row[0] for row in rows]


async def test_one_failing_transaction_takes_no_other_with_it(database: SqliteDatabase) -> None:
    """They share a COMMIT, and each stands in a savepoint of its own."""
    outcomes = await asyncio.gather(
        database.write(partial(add, "a")),
        database.write(partial(failing, "b")),
        database.write(partial(undone, "c")),
        database.write(partial(add, "a")),
        database.write(lambda: (yield Query("NONSENSE"))),
        database.write(partial(add, "d")),
        return_exceptions=True,
    )
    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == "the answer"
    assert isinstance(outcomes[3], Exception)
    assert isinstance(outcomes[4], sqlite3.Error)
    assert outcomes[5] == "d"
    assert await database.read(names) == ["a", "d"]


async def test_listeners_hear_in_commit_order_also_for_callers_that_left(
    database: SqliteDatabase,
) -> None:
    """A caller's going away neither undoes the write nor silences it."""
    heard: list[str] = []
    tasks = [
        asyncio.ensure_future(database.write(partial(add, f"p{n}"), heard.append))
        for n in range(20)
    ]
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await database.ping()
    assert heard == [f"p{n}" for n in range(20)]
    assert "p3" in await database.read(names)


async def test_what_is_done_again_because_another_failed_is_told_once(
    database: SqliteDatabase,
) -> None:
    """A group with a failure runs twice: who succeeded is heard of once, who was undone not at all."""
    heard: list[str] = []
    writes = [partial(add, "a"), partial(undone, "b"), partial(failing, "c"), partial(add, "d")]
    outcomes = await asyncio.gather(
        *(database.write(one, heard.append) for one in writes), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [str, str, LookupError, str]
    assert heard == ["a", "d"]
    assert await database.read(names) == ["a", "d"]


async def test_a_failure_alone_leaves_nothing_behind(database: SqliteDatabase) -> None:
    """And the writer goes on."""
    with pytest.raises(LookupError):
        await database.write(partial(failing, "a"))
    assert await database.write(partial(undone, "b")) == "the answer"
    assert await database.write(partial(add, "c")) == "c"
    assert await database.read(names) == ["c"]


async def test_more_than_one_group_at_once_keeps_its_order(database: SqliteDatabase) -> None:
    """However many come in one turn of the loop."""
    heard: list[str] = []
    many = [f"p{n:04}" for n in range(700)]
    answers = await asyncio.gather(
        *(database.write(partial(add, name), heard.append) for name in many)
    )
    assert answers == heard == many
    assert await database.read(names) == many


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many transactions the writer was given, each time."""
    sizes: list[int] = []
    hand_over = SqliteDatabase._hand_over

    def counted(self: SqliteDatabase) -> None:
        if self._gathering:
            sizes.append(len(self._gathering))
        hand_over(self)

    monkeypatch.setattr(SqliteDatabase, "_hand_over", counted)
    return sizes


async def test_what_comes_turn_after_turn_is_handed_over_together(
    database: SqliteDatabase, handed_over: list[int]
) -> None:
    """The writer is not woken for each; the first turn that brings nothing more ends the gathering."""
    waiting = []
    for n in range(10):
        waiting.append(asyncio.ensure_future(database.write(partial(add, f"p{n}"))))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    await database.write(partial(add, "last"))
    assert handed_over == [10, 1]


async def test_a_stream_of_writes_keeps_nobody_waiting(
    database: SqliteDatabase, handed_over: list[int]
) -> None:
    """However many come one after the other, and however long a turn takes."""
    waiting = []
    for n in range(sqlite.FULL_GROUP + 1):
        waiting.append(asyncio.ensure_future(database.write(partial(add, f"p{n}"))))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert max(handed_over) <= sqlite.FULL_GROUP
    handed_over.clear()
    for n in range(6):
        waiting.append(asyncio.ensure_future(database.write(partial(add, f"q{n}"))))
        time.sleep(sqlite.GATHER_SECONDS)  # noqa: ASYNC251 - a turn that is long
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert max(handed_over) < 6


async def test_what_is_queued_is_written_before_closing(database: SqliteDatabase) -> None:
    """And what comes after closing is refused."""
    waiting = [asyncio.ensure_future(database.write(partial(add, f"q{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == [f"q{n}" for n in range(50)]
    with pytest.raises(Unavailable):
        await database.write(partial(add, "late"))
    with pytest.raises(Unavailable):
        await database.read(names)


async def test_one_turn_of_the_loop_reads_one_state_and_the_next_one_the_newest(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """Whoever has been told of a write finds it: that takes a turn."""
    assert await database.read(names) == []
    other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    other.execute("INSERT INTO projects (id, name, created_at) VALUES ('a', 'a', 'now')")
    assert await database.read(names) == []
    await asyncio.sleep(0)
    assert await database.read(names) == ["a"]
    other.close()


async def test_a_write_is_there_for_whoever_is_told_of_it(database: SqliteDatabase) -> None:
    """However many read at the same time: by return, and by listener."""
    told: list[bool] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            await database.read(names)
            await asyncio.sleep(0)

    async def find(name: str) -> None:
        told.append(name in await database.read(names))

    tasks: list[asyncio.Task[None]] = []

    def committed(name: str) -> None:
        tasks.append(asyncio.create_task(find(name)))

    looking = [asyncio.create_task(look()) for _ in range(3)]
    for number in range(100):
        name = await database.write(partial(add, f"p{number:03}"), committed)
        assert name in await database.read(names)
    done.set()
    await asyncio.gather(*looking, *tasks)
    assert told == [True] * 100


async def test_after_an_error_reading_goes_on(database: SqliteDatabase) -> None:
    """In the same turn and in the next."""
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            await database.read(lambda: (yield Query("NONSENSE")))
        assert await database.read(names) == []
        database._reader.rollback()  # as SQLite does itself after some errors
        assert await database.read(names) == []
        await asyncio.sleep(0)


async def test_readers_in_every_turn_do_not_let_the_log_grow_without_end(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """A checkpoint needs a moment without a reader: there is one between two turns."""
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            await database.read(names)
            await asyncio.sleep(0)

    looking = [asyncio.create_task(look()) for _ in range(2)]

    def fill() -> Steps[None]:
        yield Query("DELETE FROM projects")
        yield Query(
            "INSERT INTO projects (id, name, created_at) VALUES ('a', $1, 'now')", "x" * 400_000
        )

    for _ in range(200):
        await database.write(fill)
    done.set()
    await asyncio.gather(*looking)
    assert (tmp_path / "chat.db-wal").stat().st_size < 40_000_000


async def test_the_file_is_its_owners_alone_and_durable(tmp_path: Path) -> None:
    """0600 for database, WAL and shared memory; WAL mode, FULL sync, foreign keys."""
    async with opened(tmp_path / "data") as (_, api):
        await api.user()
        for file in ("chat.db", "chat.db-wal", "chat.db-shm"):
            mode = stat.S_IMODE((tmp_path / "data" / file).stat().st_mode)
            assert mode == 0o600, file
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700

    def pragmas() -> Steps[list[object]]:
        journal = yield Query("PRAGMA journal_mode")
        synchronous = yield Query("PRAGMA synchronous")
        foreign_keys = yield Query("PRAGMA foreign_keys")
        return [journal[0][0], synchronous[0][0], foreign_keys[0][0]]

    again = await open_database(f"sqlite:///{tmp_path / 'data' / 'chat.db'}")
    assert await again.write(pragmas) == ["wal", 2, 1]
    await again.close()


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    """The older program refuses to start, and changes nothing."""
    file = tmp_path / "chat.db"
    await (await open_database(f"sqlite:///{file}")).close()
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(SchemaTooNew, match="9999"):
        await open_database(f"sqlite:///{file}")
    with sqlite3.connect(file) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    raw.close()


async def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    """The others wait, and find it done."""
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    databases = await asyncio.gather(*(open_database(url) for _ in range(4)))
    for each in databases:
        await each.close()
    raw = sqlite3.connect(tmp_path / "chat.db")
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [
        (MIGRATIONS.version,)
    ]
    raw.close()


async def test_a_full_disk_is_503_and_heals_by_itself(tiny_disk: Path) -> None:
    """Reads go on, nothing is acknowledged that is not stored, and space is enough to recover."""
    async with opened(tiny_disk) as (server, api):
        alice = await api.user("alice")
        room = await api.room(alice)
        path, big = f"{in_room(room)}/messages", "x" * 8000
        said = 0
        for _ in range(1000):
            answer = await api.send("POST", path, json={"content": big, "user_id": alice["id"]})
            if answer.status_code != 201:
                break
            said += 1
        refused(answer, 503, "writes_unavailable")
        page = await api.send("GET", f"{path}?limit=1")
        assert page.json()["total"] == said
        assert (await server.ready())["redis"] == "off"
        await asyncio.to_thread(
            subprocess.run, ["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True
        )
        await api.say(room, alice, "space again")
        seqs = [m["seq"] for m in (await api.send("GET", f"{path}?limit=200")).json()["items"]]
        assert seqs == list(range(said + 1, max(0, said + 1 - 200), -1))
    raw = sqlite3.connect(tiny_disk / "chat.db")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


async def test_a_writer_that_holds_the_file_makes_others_wait(tmp_path: Path) -> None:
    """Another program's lock delays a write, and does not fail it."""
    async with opened(tmp_path) as (_, api):
        raw = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(api.user("patient"))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done
        raw.execute("COMMIT")
        raw.close()
        assert (await writing)["username"].startswith("patient")


async def test_a_damaged_row_spoils_no_list(tmp_path: Path) -> None:
    """Text that is no UTF-8, NUL, broken metadata: the neighbours are still shown."""
    async with opened(tmp_path) as (_, api):
        alice = await api.user("alice")
        room = await api.room(alice)
        for text in ("one", "two", "three", "four"):
            await api.say(room, alice, text)
        raw = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        raw.execute("UPDATE messages SET content = CAST(x'eda080ff' AS TEXT) WHERE seq = 1")
        raw.execute("UPDATE messages SET content = 'a' || char(0) || 'b' WHERE seq = 2")
        raw.execute("UPDATE messages SET metadata = '{\"a\": [', content = x'00ff' WHERE seq = 3")
        raw.execute("UPDATE users SET metadata = CAST(x'ff' AS TEXT)")
        raw.execute("UPDATE rooms SET metadata = '[]', name = CAST(x'ff' AS TEXT)")
        raw.close()
        page = await api.send("GET", f"{in_room(room)}/messages")
        assert page.status_code == 200
        items = page.json()["items"]
        assert [item["seq"] for item in items] == [4, 3, 2, 1]
        assert items[0]["content"] == "four"
        assert items[1]["metadata"] == {}
        for path in ("/api/v1/projects/{pid}/users", "/api/v1/projects/{pid}/rooms"):
            assert (await api.send("GET", path)).status_code == 200
        assert (await api.send("GET", of_user(alice))).json()["metadata"] == {}
        assert (await api.send("GET", in_room(room))).json()["metadata"] == {}


async def test_sixteen_writers_and_readers_see_no_error(tmp_path: Path) -> None:
    """A few seconds of everybody at once: every call succeeds."""
    async with opened(tmp_path) as (_, api):
        people = [await api.user("w") for _ in range(16)]
        room = await api.room(*people)

        async def work(person: dict[str, object]) -> None:
            for n in range(25):
                await api.say(room, person, f"n{n}")
                page = await api.send("GET", f"{in_room(room)}/messages?limit=5")
                assert page.status_code == 200
                mark = {"user_id": person["id"], "seq": page.json()["total"]}
                read = await api.send("PUT", f"{in_room(room)}/read", json=mark)
                assert read.status_code == 200

        await asyncio.gather(*(work(person) for person in people))
        assert (await api.send("GET", in_room(room))).json()["last_seq"] == 400


async def test_a_day_later_an_idempotency_key_is_new(tmp_path: Path) -> None:
    """Also before housekeeping has come by."""

    def age() -> Steps[None]:
        yield Query("UPDATE idempotency SET expires_at = 1")

    async with opened(tmp_path) as (server, api):
        alice = await api.user("alice")
        room = await api.room(alice)
        for path, body in (
            (f"{in_room(room)}/messages", {"content": "x", "user_id": alice["id"]}),
            ("/api/v1/projects/{pid}/rooms", {"name": "x", "created_by": alice["id"]}),
        ):
            key = {"Idempotency-Key": "once-a-day"}
            first = (await api.send("POST", path, json=body, headers=key)).json()
            assert (await api.send("POST", path, json=body, headers=key)).json() == first
            await server._database.write(age)
            second = (await api.send("POST", path, json=body, headers=key)).json()
            assert second["id"] != first["id"]
            assert (await api.send("POST", path, json=body, headers=key)).json() == second


@pytest.mark.parametrize("seed", range(5))
async def test_after_random_cancels_the_queue_is_empty_and_serves(
    database: SqliteDatabase, seed: int
) -> None:
    """Callers leave at any moment: what was acknowledged is stored, what failed is not, and nothing waits any more."""
    chance = random.Random(seed)
    kinds = {add: "kept", failing: "failed", undone: "undone"}
    calls: dict[str, tuple[str, asyncio.Task[str]]] = {}
    for number in range(300):
        kind = chance.choice(list(kinds))
        name = f"p{number}"
        calls[name] = kinds[kind], asyncio.create_task(database.write(partial(kind, name)))
        if chance.random() < 0.4:
            chance.choice(list(calls.values()))[1].cancel()
        await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.002]))
    await asyncio.gather(*(task for _, task in calls.values()), return_exceptions=True)
    await database.ping()
    stored = set(await database.read(names))
    for name, (kind, task) in calls.items():
        if kind == "kept" and not task.cancelled():
            assert (name, task.result()) == (name, name)
            assert name in stored
        elif kind != "kept":
            assert name not in stored
    assert (database._waiting, database._gathering) == (0, [])
