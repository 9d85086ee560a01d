"""How many messages of a room are not deleted, on both databases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, all_rows
from chat_broker_server.chat.models import RoomChanges, RoomDraft, UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.database.open import open_database
from tests.conftest import postgres_database

P = "default"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def chat(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Chat]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'chat.db'}"
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        database = await open_database(url, pool=3)
        stack.push_async_callback(database.close)
        await ApiKeys(database).ensure_project(P, P)
        yield Chat(database, lambda _: None, epoch="one")


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_room_says_how_many_messages_are_not_deleted(chat: Chat, is_old: bool) -> None:
    """Also a room that was there before rooms counted them, with deletions of that time."""
    user = await chat.create_user(P, UserDraft(username="u", external_user_id="u"))
    room = await chat.create_room(P, RoomDraft(name="r", created_by=user.id))
    assert room.message_count is UNSET
    ids = [(await chat.post(P, room.id, user.id, "x")).id for _ in range(5)]
    await chat.delete_message(P, room.id, ids[0], by=None)
    if is_old:
        forget = Query("UPDATE rooms SET message_count = NULL WHERE project_id = $1", P)
        await chat.database.write(partial(all_rows, forget))

    async def count() -> object:
        return (await chat.get_room(P, room.id)).message_count

    assert await count() == 4
    await chat.post(P, room.id, user.id, "x")
    assert await count() == 5
    for _ in range(2):
        await chat.delete_message(P, room.id, ids[1], by=None)
    assert await count() == 4
    updated = await chat.update_room(P, room.id, RoomChanges(name="new"))
    assert updated.message_count == 4
    for message_id in ids[2:]:
        await chat.delete_message(P, room.id, message_id, by=None)
    assert await count() == 1
