"""A client that syncs now and then, over random histories: its copy is what the database has."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from chat_broker_server.chat.models import (
    Delta,
    Message,
    MineChanges,
    Room,
    RoomChanges,
    RoomDraft,
    UserDraft,
)
from chat_broker_server.chat.rooms import RoomFilter
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.sync import Had, SyncQuery
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


class Client:
    """A copy of a user's rooms, kept up to date by sync alone."""

    def __init__(self, chat: Chat, user_id: str) -> None:
        self.chat = chat
        self.user_id = user_id
        self.deltas: dict[str, Delta] = {}
        self.messages: dict[str, dict[int, Message]] = {}
        self.token: str | None = None
        self.version = 0

    @property
    def have(self) -> dict[str, Had]:
        return {
            room_id: Had(delta.last_seq, delta.rev, delta.mine.version)
            for room_id, delta in self.deltas.items()
        }

    async def sync(self, **options: Any) -> int:
        """All pages. Returns how many rooms were answered."""
        have, cursor, count = self.have, None, 0
        version, reload = self.version, False
        while True:
            query = SyncQuery(
                have, "one", token=self.token, cursor=cursor, have_version=version, **options
            )
            answer = await self.chat.sync(P, self.user_id, query)
            assert answer.reload == (True if answer.version != version else UNSET)
            self.version, reload = answer.version, answer.reload is True
            for room_id in answer.removed:
                self.deltas.pop(room_id, None)
                self.messages.pop(room_id, None)
            for delta in answer.deltas:
                await self._apply(delta)
                count += 1
            if not answer.has_more:
                assert isinstance(answer.token, str)
                self.token = answer.token
                assert answer.unread == await self.chat.totals(P, self.user_id)
                if reload:
                    await self._reload()
                return count
            assert answer.cursor is not None
            assert len(answer.deltas) <= options.get("limit", 50)
            cursor = answer.cursor

    async def _reload(self) -> None:
        """Read `mine` of all rooms anew."""
        for room_id, delta in self.deltas.items():
            mine = await self.chat.mine(P, room_id, self.user_id)
            self.deltas[room_id] = msgspec.structs.replace(delta, mine=mine)

    async def _apply(self, delta: Delta) -> None:
        room_id, before = delta.room.id, self.deltas.get(delta.room.id)
        known = self.messages.setdefault(room_id, {})
        seen = 0 if before is None else before.last_seq
        assert [m.seq for m in delta.missed] == sorted(m.seq for m in delta.missed)
        if delta.missed:
            assert delta.missed[-1].seq == delta.last_seq
            assert delta.missed[0].seq > seen
        first = delta.missed[0].seq if delta.missed else delta.last_seq + 1
        if first > max(seen, delta.mine.from_seq - 1) + 1:
            assert delta.has_more
            page = await self.chat.messages_between(
                P, room_id, after=seen, limit=200, from_seq=delta.mine.from_seq
            )
            known |= {m.seq: m for m in page.items if m.seq < first}
        known |= {m.seq: m for m in delta.missed}
        for change in delta.changed:
            if isinstance(change.message, Message):
                known[change.message.seq] = change.message
        self.messages[room_id] = {seq: m for seq, m in known.items() if seq >= delta.mine.from_seq}
        self.deltas[room_id] = delta

    async def check(self) -> None:
        page = await self.chat.list_rooms(P, RoomFilter(self.user_id), limit=200)
        rooms: dict[str, Room] = {room.id: room for room in page.items}
        assert self.deltas.keys() == rooms.keys()
        for room_id, delta in self.deltas.items():
            room = rooms[room_id]
            assert (delta.mine, delta.last_seq) == (room.mine, room.last_seq)
            assert delta.room == await self.chat.get_room(P, room_id)
            from_seq = delta.mine.from_seq
            listed = await self.chat.messages_between(
                P, room_id, after=0, limit=200, from_seq=from_seq
            )
            assert (
                list(self.messages[room_id].values()) == listed.items
                or sorted(self.messages[room_id].values(), key=lambda m: m.seq) == listed.items
            )


class History:
    def __init__(self, chat: Chat, chance: random.Random, user_ids: list[str]) -> None:
        self.chat = chat
        self.chance = chance
        self.me, self.other = user_ids
        self.room_ids: list[str] = []
        self.posted: list[tuple[str, str]] = []

    async def act(self) -> None:
        chance, chat = self.chance, self.chat
        if len(self.room_ids) < 3 or (len(self.room_ids) < 9 and chance.random() < 0.05):
            members = [self.me] * (chance.random() < 0.7)
            draft = RoomDraft(name="r", created_by=self.other, member_ids=members)
            self.room_ids.append((await chat.create_room(P, draft)).id)
        room_id = chance.choice(self.room_ids)
        match chance.randrange(10):
            case 0 | 1 | 2:
                message = await chat.post(P, room_id, self.other, "x")
                self.posted.append((room_id, message.id))
            case 3 if self.posted:
                room_id, message_id = chance.choice(self.posted)
                if not await self._deleted(room_id, message_id):
                    await chat.edit(P, room_id, message_id, "edited", by=None)
            case 4 if self.posted:
                await chat.delete_message(P, *chance.choice(self.posted), by=None)
            case 5:
                await chat.put_member(P, room_id, self.me)
            case 6 if chance.random() < 0.5:
                await chat.remove_member(P, room_id, self.me)
            case 7:
                await chat.update_room(P, room_id, RoomChanges(name=f"{chance.random()}"))
            case 9:
                act = chat.block if chance.random() < 0.5 else chat.unblock
                await act(P, self.me, self.other)
            case 8 if await chat.member(P, room_id, self.me) is not None:
                await self._own(room_id)
            case _:
                pass

    async def _own(self, room_id: str) -> None:
        match self.chance.randrange(3):
            case 0:
                await self.chat.mark_read(P, room_id, self.me, self.chance.randint(0, 9))
            case 1:
                changes = MineChanges(archived=self.chance.choice(["yes", "no"]))  # type: ignore[arg-type]  # one of these
                await self.chat.update_mine(P, room_id, self.me, changes)
            case _ if self.chance.random() < 0.3:
                changes = MineChanges(clear_history=True)
                await self.chat.update_mine(P, room_id, self.me, changes)
            case _:
                pass

    async def _deleted(self, room_id: str, message_id: str) -> bool:
        page = await self.chat.messages_between(P, room_id, after=0, limit=200)
        return any(m.id == message_id and m.deleted_at is not None for m in page.items)


async def two_users(chat: Chat) -> list[str]:
    drafts = [UserDraft(username=name, external_user_id=name) for name in ("me", "other")]
    return [(await chat.create_user(P, draft)).id for draft in drafts]


async def post_later(chat: Chat, room_id: str, user_id: str) -> Message:
    """A message in another millisecond than all others."""
    await asyncio.sleep(0.002)
    message = await chat.post(P, room_id, user_id, "x")
    await asyncio.sleep(0.002)
    return message


@pytest.mark.parametrize("seed", range(8))
async def test_a_client_that_syncs_has_what_the_database_has(chat: Chat, seed: int) -> None:
    """Whatever happened in between, with pages of any size and any number of messages."""
    chance = random.Random(seed)
    user_ids = await two_users(chat)
    history, client = History(chat, chance, user_ids), Client(chat, user_ids[0])
    for _ in range(15):
        for _ in range(chance.randint(0, 12)):
            await history.act()
        await client.sync(limit=chance.choice([1, 2, 50]), messages=chance.choice([0, 1, 5]))
        await client.check()
        assert await client.sync() == 0


async def test_a_room_that_moves_to_the_front_between_pages_is_answered(chat: Chat) -> None:
    """It comes last, since its page may be over."""
    me, other = await two_users(chat)
    draft = RoomDraft(name="r", created_by=other, member_ids=[me])
    ids = [(await chat.create_room(P, draft)).id for _ in range(4)]
    for room_id in ids:
        await post_later(chat, room_id, other)
    answered: list[str] = []
    cursor = None
    for page in range(5):
        query = SyncQuery({}, limit=1, cursor=cursor)
        answer = await chat.sync(P, me, query)
        answered += [delta.room.id for delta in answer.deltas]
        cursor = answer.cursor
        if page == 0:
            await post_later(chat, ids[0], other)
        if not answer.has_more:
            break
    assert answered == [*ids[::-1][:3], ids[0]]


async def test_a_room_of_little_activity_that_was_joined_since_needs_the_token(
    chat: Chat,
) -> None:
    """Without it, only rooms that were active since the least recent one that the client has are answered."""
    me, other = await two_users(chat)
    old = await chat.create_room(P, RoomDraft(name="old", created_by=other))
    client = Client(chat, me)
    room = await chat.create_room(P, RoomDraft(name="new", created_by=other, member_ids=[me]))
    await chat.post(P, room.id, other, "x")
    assert await client.sync() == 1
    await chat.put_member(P, old.id, me)
    token, client.token = client.token, None
    assert await client.sync() == 0
    client.token = token
    assert await client.sync() == 1
    await client.check()


async def test_what_was_active_before_the_newest_news_of_a_known_room_is_answered(
    chat: Chat,
) -> None:
    """A client that holds one room only hears of the other, though the one it holds was active later."""
    me, other = await two_users(chat)
    draft = RoomDraft(name="r", created_by=other, member_ids=[me])
    one, two = [(await chat.create_room(P, draft)).id for _ in range(2)]
    held = await post_later(chat, one, other)
    have = {one: Had(held.seq, 0, 0)}
    await post_later(chat, two, other)
    assert (await chat.get_room(P, two)).last_message_at > held.created_at  # type: ignore[operator]  # there is one
    await post_later(chat, one, other)
    answer = await chat.sync(P, me, SyncQuery(have))
    assert {delta.room.id for delta in answer.deltas} == {one, two}
