"""What is kept of changes: one row an object, 30 days, the newest of a room."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chat_broker_kit.database.transactions import Database, Query, Steps, all_rows
from chat_broker_server.chat import changes
from chat_broker_server.chat.models import RoomDraft, UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.database import housekeeping
from chat_broker_server.database.open import open_database
from tests.conftest import postgres_database

P = "default"


class Kept:
    """A room of one member, and what is kept of its changes."""

    def __init__(self, database: Database, room_id: str, user_id: str) -> None:
        self.database = database
        self.chat = Chat(database, lambda _: None)
        self.room_id = room_id
        self.user_id = user_id

    async def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found = await self.database.write(partial(all_rows, Query(sql, *values)))
        return [tuple(row) for row in found]

    async def revs(self) -> list[int]:
        rows = await self.rows(
            "SELECT rev FROM changes WHERE room_id = $1 ORDER BY rev", self.room_id
        )
        return [row[0] for row in rows]

    async def forgotten(self) -> int | None:
        return (await self.rows("SELECT forgotten_rev FROM rooms WHERE id = $1", self.room_id))[0][
            0
        ]

    async def edited(self, *contents: str) -> list[str]:
        """As many messages, each edited once; answers their ids."""
        ids = []
        for content in contents:
            message = await self.chat.post(P, self.room_id, self.user_id, content)
            await self.edit(message.id)
            ids.append(message.id)
        return ids

    async def edit(self, message_id: str) -> None:
        await self.chat.edit(P, self.room_id, message_id, "edited", by=None)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'chat.db'}"
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        database = await open_database(url, pool=3)
        stack.push_async_callback(database.close)
        await ApiKeys(database).ensure_project(P, P)
        chat = Chat(database, lambda _: None)
        user = await chat.create_user(P, UserDraft(username="u", external_user_id="u"))
        room = await chat.create_room(P, RoomDraft(name="r", created_by=user.id))
        yield Kept(database, room.id, user.id)


async def test_an_object_has_one_row_with_its_last_change(kept: Kept) -> None:
    """However often it changes."""
    one, two = await kept.edited("one", "two")
    await kept.edit(one)
    await kept.chat.delete_message(P, kept.room_id, one, by=None)
    found = await kept.rows("SELECT rev, kind, object, seq FROM changes ORDER BY rev")
    assert found == [(2, "message", two, 2), (4, "message", one, 1)]


async def test_old_changes_are_forgotten_and_the_room_says_up_to_which(kept: Kept) -> None:
    """Those older than thirty days; a newer change of the same object keeps it."""
    one, _two, _three = await kept.edited("one", "two", "three")
    old = int(time.time()) - housekeeping.CHANGES_KEPT - 1
    await kept.rows("UPDATE changes SET changed_at = $1 WHERE rev <= 2", old)
    await kept.edit(one)
    assert await kept.revs() == [2, 3, 4]
    while await kept.database.write(partial(housekeeping.remove_portion, int(time.time()))):
        pass
    assert await kept.revs() == [3, 4]
    assert await kept.forgotten() == 2


async def test_of_a_room_the_newest_are_kept(kept: Kept) -> None:
    """Counted now and then, not at each change."""
    await kept.edited("one", "two", "three", "four")

    def trim() -> Steps[None]:
        return changes._trim(P, kept.room_id, 2)

    await kept.database.write(trim)
    assert await kept.revs() == [3, 4]
    assert await kept.forgotten() == 2
    await kept.database.write(trim)
    assert await kept.revs() == [3, 4]


async def test_a_deleted_room_leaves_no_changes_behind(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go in portions, as its messages do."""
    monkeypatch.setattr(housekeeping, "PORTION", 2)
    await kept.edited("one", "two", "three")
    await kept.chat.delete_room(P, kept.room_id)
    while await kept.database.write(partial(housekeeping.remove_portion, int(time.time()))):
        pass
    for table in ("changes", "messages", "rooms"):
        assert await kept.rows(f"SELECT count(*) FROM {table}") == [(0,)]
