"""A message on Postgres is one statement: one trip, and all that several in one transaction promise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog

from chat_broker_server.chat import idempotency, messages
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import IdempotencyKey, Message
from chat_broker_server.chat.service import Chat
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import ChatError
from tests.contract.servers import in_room, refused
from tests.server.database.test_postgres import wired
from tests.server.opening import opened, two_replicas

pytestmark = pytest.mark.services("postgres")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    raw = await asyncpg.connect(url)
    try:
        yield raw
    finally:
        await raw.close()


async def until_somebody_waits(raw: Any) -> None:
    """Until a statement waits for a lock."""
    async with asyncio.timeout(5):
        while not await raw.fetchval(  # noqa: ASYNC110 - the database sets no event
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def test_a_message_is_one_trip_to_the_database(postgres_url: str) -> None:
    """With an Idempotency-Key, with a client_msg_id, and with neither, once the statement is prepared."""
    async with wired(postgres_url) as (wire, url):
        database = await open_database(url, pool=1)
        chat = Chat(database, lambda _: None)
        async with connected(postgres_url) as raw:
            pid, user_id, room_id = await a_room(raw)
        await chat.post(pid, room_id, user_id, "x")
        key = IdempotencyKey("scope", "key", "fingerprint")
        for client_msg_id, once in ((None, None), ("c", None), (None, key)):
            before = wire.pieces
            await chat.post(
                pid, room_id, user_id, "x", client_msg_id=client_msg_id, idempotency=once
            )
            assert wire.pieces == before + 1
        await database.close()


async def test_each_step_finds_what_it_wants_by_an_index(postgres_url: str) -> None:
    """As every other hot query does; Postgres itself says how it went about each."""
    await (await open_database(postgres_url, pool=1)).close()
    plans: list[str] = []
    async with connected(postgres_url) as raw:
        pid, user_id, room_id = await a_room(raw)
        await raw.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = notice;"
            " SET auto_explain.log_nested_statements = on; SET enable_seqscan = off; SET enable_bitmapscan = off"
        )
        raw.add_log_listener(lambda _, said: plans.append(str(said)))
        draft, once = messages.Draft(user_id, "x", "c", {}), IdempotencyKey("s", "k", "f")
        _, function, query, answer = messages.post_shortcut(pid, room_id, draft, once)
        await raw.execute(function)
        assert answer(await raw.fetch(query.sql, *query.parameters)) is not None
    steps = "FROM rooms", "FROM members m", "UPDATE rooms", "INTO messages", "INTO idempotency"
    for step in steps:
        (found,) = [plan for plan in plans if step in plan.partition("Plan")[0] or step in plan]
        assert "Seq Scan" not in found


async def test_without_the_right_to_make_a_function_messages_go_the_ordinary_way(
    postgres_url: str,
) -> None:
    """Nobody is refused for it, and the log says so once."""
    await (await open_database(postgres_url, pool=1)).close()
    async with connected(postgres_url) as raw:
        pid, user_id, room_id = await a_room(raw)
        name = await raw.fetchval("SELECT current_database()")
        role = f"plain_{name}"
        await raw.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        await raw.execute(f"CREATE ROLE {role} LOGIN")
        try:
            await raw.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            address = urlsplit(postgres_url)
            url = address._replace(netloc=f"{role}@{address.netloc.rpartition('@')[2]}").geturl()
            database = await open_database(url, pool=2)
            chat = Chat(database, lambda _: None)
            with structlog.testing.capture_logs() as logged:
                said = [await chat.post(pid, room_id, user_id, "x") for _ in range(3)]
            await database.close()
        finally:
            await raw.execute(f"DROP OWNED BY {role}")
            await raw.execute(f"DROP ROLE {role}")
    assert [one.seq for one in said] == [1, 2, 3]
    assert [line["event"] for line in logged] == ["database.no_functions"]


async def test_a_session_that_has_forgotten_is_told_again(postgres_url: str) -> None:
    """As behind a pooler that gives out another session for each transaction."""
    database = await open_database(postgres_url, pool=1)
    chat = Chat(database, lambda _: None)
    async with connected(postgres_url) as raw:
        pid, user_id, room_id = await a_room(raw)
    for number in range(1, 6):
        assert (await chat.post(pid, room_id, user_id, "x")).seq == number
        if number % 2:
            async with database._pool.acquire() as session:  # type: ignore[attr-defined]
                await session.execute("DISCARD TEMP")
    await database.close()


async def test_two_replicas_keep_every_number_of_a_busy_room(
    tmp_path: Path, postgres_url: str
) -> None:
    """Places in the room, each author's own numbers and times go up without gap or repeat."""
    async with (
        two_replicas(tmp_path, postgres_url) as (one, two),
        connected(postgres_url) as raw,
    ):
        alice, bob = await one.user("alice"), await one.user("bob")
        room = await one.room(alice, bob)
        path = f"{in_room(room)}/messages"

        async def write(number: int) -> None:
            api, author = (one, two)[number % 2], (alice, bob)[number % 3 == 0]
            headers = {"Idempotency-Key": str(number)} if number % 5 else {}
            body = {"content": str(number), "user_id": author["id"]}
            assert (await api.send("POST", path, json=body, headers=headers)).status_code == 201

        await asyncio.gather(*(write(number) for number in range(90)))
        rows = await raw.fetch(
            "SELECT seq, user_id, author_seq, created_at FROM messages ORDER BY seq"
        )
        assert [row["seq"] for row in rows] == list(range(1, 91))
        for author in (alice, bob):
            own = [row["author_seq"] for row in rows if row["user_id"] == author["id"]]
            assert own == list(range(1, len(own) + 1))
        times = [row["created_at"] for row in rows]
        assert times == sorted(times)


async def test_what_a_caller_sends_again_to_another_replica_at_once_is_said_once(
    tmp_path: Path, postgres_url: str
) -> None:
    """One client_msg_id: one message, and everybody hears of the same one."""
    async with two_replicas(tmp_path, postgres_url) as (one, two):
        alice = await one.user("alice")
        room = await one.room(alice)
        for name in map(str, range(20)):
            first, second = await asyncio.gather(
                *(api.say(room, alice, "x", client_msg_id=name) for api in (one, two))
            )
            assert first == second
        assert (await two.send("GET", in_room(room))).json()["last_seq"] == 20


async def test_who_left_while_the_room_was_waited_for_says_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    """What was read before the wait is not believed after it."""
    async with (
        opened(tmp_path, chat_database_url=postgres_url) as (_, api),
        connected(postgres_url) as raw,
        connected(postgres_url) as looking,
    ):
        alice, bob = await api.user("alice"), await api.user("bob")
        room = await api.room(alice, bob)
        async with raw.transaction():
            await raw.execute(
                "UPDATE rooms SET member_count = member_count - 1 WHERE id = $1", room["id"]
            )
            await raw.execute("DELETE FROM members WHERE user_id = $1", bob["id"])
            body = {"content": "still here", "user_id": bob["id"]}
            posting = asyncio.create_task(api.send("POST", f"{in_room(room)}/messages", json=body))
            await until_somebody_waits(looking)
        refused(await posting, 403, "not_a_member")
        assert await raw.fetchval("SELECT count(*) FROM messages") == 0
        assert (await api.say(room, alice, "alone"))["seq"] == 1


async def test_a_message_is_not_acknowledged_before_its_commit(postgres_url: str) -> None:
    """A COMMIT that fails is an error for the caller, and nobody hears of the message."""
    heard: list[Event] = []
    database = await open_database(postgres_url, pool=2)
    chat = Chat(database, heard.append)
    async with connected(postgres_url) as raw:
        pid, user_id, room_id = await a_room(raw)
        await raw.execute(
            "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_sleep(0.2); RAISE 'not today'; END $$"
        )
        await raw.execute(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON messages"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()"
        )
        with pytest.raises(asyncpg.RaiseError):
            await chat.post(pid, room_id, user_id, "lost")
        assert heard == []
        await raw.execute("DROP TRIGGER at_commit ON messages")
        assert (await chat.post(pid, room_id, user_id, "kept")).seq == 1
        assert [event.seq for event in heard] == [1]
    await database.close()


A_ROOM = (
    "INSERT INTO users (project_id, id, external_user_id, username, created_at, updated_at)"
    " VALUES ('p', 'u', 'e', 'n', '', '');"
    "INSERT INTO rooms (project_id, id, name, private, created_by, created_at, updated_at)"
    " VALUES ('p', 'r', 'r', false, 'u', '', '');"
    "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
    " VALUES ('p', 'r', 'u', 'owner', '')"
)


async def a_room(raw: Any) -> tuple[str, str, str]:
    """A project, a user and their room."""
    await raw.execute("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', '')")
    await raw.execute(A_ROOM)
    return "p", "u", "r"


async def test_events_leave_in_the_order_of_the_messages(postgres_url: str) -> None:
    """Many at once, over many connections: told in the order of their numbers."""
    heard: list[Event] = []
    database = await open_database(postgres_url, pool=10)
    chat = Chat(database, heard.append)
    async with connected(postgres_url) as raw:
        pid, user_id, room_id = await a_room(raw)
    await asyncio.gather(*(chat.post(pid, room_id, user_id, "x") for _ in range(100)))
    assert [event.seq for event in heard] == list(range(1, 101))
    await database.close()


async def test_a_lost_connection_makes_no_second_message(tmp_path: Path, postgres_url: str) -> None:
    """Cut off behind the statement, nobody knows how it ended: 503, and it is not said again by us."""
    async with (
        wired(postgres_url) as (wire, url),
        opened(tmp_path, chat_database_url=url) as (_, api),
        connected(postgres_url) as raw,
        connected(postgres_url) as looking,
    ):
        alice = await api.user("alice")
        room = await api.room(alice)
        async with raw.transaction():
            # A lock without a change: the statement goes on with what it has read.
            await raw.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", room["id"])
            body = {"content": "once", "user_id": alice["id"]}
            posting = asyncio.create_task(api.send("POST", f"{in_room(room)}/messages", json=body))
            await until_somebody_waits(looking)
            await wire.cut()
            refused(await posting, 503, "database_unavailable")
            await wire.listen()
        async with asyncio.timeout(5):
            while not await raw.fetchval(  # noqa: ASYNC110 - the database sets no event
                "SELECT count(*) FROM messages"
            ):
                await asyncio.sleep(0.01)
        assert (await api.say(room, alice, "next"))["seq"] == 2


async def test_a_room_that_is_waited_for_holds_one_connection(
    tmp_path: Path, postgres_url: str
) -> None:
    """However many speak there: the others are free for other rooms."""
    async with (
        opened(tmp_path, chat_database_url=postgres_url) as (_, api),
        connected(postgres_url) as raw,
        connected(postgres_url) as looking,
    ):
        alice = await api.user("alice")
        busy, quiet = await api.room(alice), await api.room(alice)
        async with raw.transaction():
            await raw.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", busy["id"])
            posting = [asyncio.create_task(api.say(busy, alice, "x")) for _ in range(30)]
            await until_somebody_waits(looking)
            assert (await asyncio.wait_for(api.say(quiet, alice, "x"), 1))["seq"] == 1
            assert not any(task.done() for task in posting)
        said = [message["seq"] for message in await asyncio.gather(*posting)]
        assert sorted(said) == list(range(1, 31))


async def test_a_repeated_key_answers_the_bytes_that_were_answered_first(
    tmp_path: Path, postgres_url: str
) -> None:
    """The database writes the answer down, whatever names, contents and metadata hold."""
    odd = 'a "b" \\ é 😀 </c>'
    async with opened(tmp_path, chat_database_url=postgres_url) as (_, api):
        for named in ({"display_name": odd}, {}):
            alice = await api.user("alice", **named)
            room = await api.room(alice)
            body = {
                "content": f"{odd}\n\t$1 %s",
                "user_id": alice["id"],
                "client_msg_id": odd,
                "metadata": {odd: [None, 1.5, odd]},
            }
            first, again = [
                await api.send(
                    "POST", f"{in_room(room)}/messages", json=body, headers={"Idempotency-Key": "k"}
                )
                for _ in range(2)
            ]
            assert first.status_code == again.status_code == 201
            assert again.headers["idempotency-replayed"] == "true"
            assert again.content == first.content


STATES = list(
    product(
        (True, False), (True, False), (True, False), (True, False), (None, "new", "used", "other")
    )
)
"""Is there the room; is the author a member; suspended; their client_msg_id used; what of the Idempotency-Key."""


async def test_shortcut_and_transaction_do_the_same_in_every_state(postgres_url: str) -> None:
    """The statement is a second text of the rule, for one trip instead of eight: nothing but the trips may differ."""
    heard: list[Event] = []
    database = await open_database(postgres_url, pool=1)
    chat = Chat(database, heard.append)
    async with connected(postgres_url) as raw:
        await raw.execute("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', '')")

        async def outcome(number: int, way: str, state: tuple[Any, ...]) -> tuple[Any, ...]:
            there, member, suspended, said_before, key = state
            mark = f"{number}{way}"
            await raw.execute(
                A_ROOM.replace("'u'", f"'u{mark}'")
                .replace("'r'", f"'r{mark}'")
                .replace("'n'", f"'n{mark}'")
                .replace("'e'", f"'e{mark}'")
            )
            once = None if key is None else IdempotencyKey(mark, "key", "f")
            draft = messages.Draft(f"u{mark}", "x", "c", {})

            async def post(
                key: IdempotencyKey | None, *, shortcut: bool
            ) -> tuple[Message, Event | None]:
                return await database.write(
                    partial(messages.post, "p", f"r{mark}", draft, False, key),
                    chat._publish_second,
                    shortcut=partial(messages.post_shortcut, "p", f"r{mark}", draft, key)
                    if shortcut
                    else None,
                )

            if key in ("used", "other"):
                await post(once, shortcut=False)
            if said_before:
                await post(None, shortcut=False)
            elif key in ("used", "other"):
                await raw.execute(
                    "UPDATE messages SET client_msg_id = 'd' WHERE room_id = $1", f"r{mark}"
                )
            if key == "other":
                once = IdempotencyKey(mark, "key", "another")
            if suspended:
                await raw.execute("UPDATE users SET status = 'suspended' WHERE id = $1", f"u{mark}")
            if not member:
                await raw.execute("DELETE FROM members WHERE room_id = $1", f"r{mark}")
            if not there:
                await raw.execute("UPDATE rooms SET deleted_at = '2026' WHERE id = $1", f"r{mark}")
            heard.clear()
            try:
                message, _ = await post(once, shortcut=way == "s")
            except (ChatError, idempotency.Replayed) as error:
                answer: Any = (type(error).__name__, getattr(error, "code", None))
            else:
                answer = (message.seq, message.content, message.username)
            rows = await raw.fetch(
                "SELECT seq, author_seq, content FROM messages WHERE room_id = $1", f"r{mark}"
            )
            keys = await raw.fetchval("SELECT count(*) FROM idempotency WHERE scope = $1", mark)
            return answer, [event.seq for event in heard], sorted(map(tuple, rows)), keys

        for number, state in enumerate(STATES):
            one = await outcome(number, "s", state)
            other = await outcome(number, "t", state)
            assert repr(one).replace(f"{number}s", "~") == repr(other).replace(f"{number}t", "~"), (
                state
            )
    await database.close()
