"""What messages show of their reactions and pins, against keeping each one, over random histories, on both stores."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chat_broker_kit.database.transactions import Query, Steps, all_rows
from chat_broker_server.chat.events import Event, MineChanged
from chat_broker_server.chat.message_lock import Actor
from chat_broker_server.chat.models import Message, RoomChanges, RoomDraft, UserDraft
from chat_broker_server.chat.reactions import Wanted
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.database import housekeeping
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import ChatError, Conflict
from tests.conftest import postgres_database

P = "default"
EMOJI = ("👍", "❤️", "😀", ":a:")


class Group:
    """A room of fourteen, and what was published about it."""

    def __init__(self, chat: Chat, published: list[Any]) -> None:
        self.chat = chat
        self.published = published
        self.users: list[str] = []
        self.room_id = ""

    async def begin(self) -> None:
        for number in range(14):
            draft = UserDraft(username=f"u{number}", external_user_id=f"u{number}")
            self.users.append((await self.chat.create_user(P, draft)).id)
        draft_of_room = RoomDraft(name="r", created_by=self.users[0], member_ids=self.users)
        self.room_id = (await self.chat.create_room(P, draft_of_room)).id

    async def post(self) -> Message:
        return await self.chat.post(P, self.room_id, self.users[0], "x")

    async def react(self, message_id: str, emoji: str, user_id: str, *, add: bool = True) -> Any:
        act = self.chat.react if add else self.chat.unreact
        return await act(P, self.room_id, message_id, emoji, Actor(user_id, by_token=False))

    async def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found = await self.chat.database.write(partial(all_rows, Query(sql, *values)))
        return [tuple(row) for row in found]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def group(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Group]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'chat.db'}"
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        database = await open_database(url, pool=4)
        stack.push_async_callback(database.close)
        await ApiKeys(database).ensure_project(P, P)
        published: list[Event | MineChanged] = []
        group = Group(Chat(database, published.append), published)
        await group.begin()
        yield group


class Naive:
    """Each reaction to a message, in the order of their making."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.order: list[str] = []

    def add(self, emoji: str, user_id: str) -> None:
        if (emoji, user_id) not in self.pairs:
            self.pairs.append((emoji, user_id))
            self.order += [emoji] if emoji not in self.order else []

    def remove(self, emoji: str, user_id: str) -> None:
        self.pairs = [pair for pair in self.pairs if pair != (emoji, user_id)]
        self.order = [each for each in self.order if self.users(each)]

    def users(self, emoji: str) -> list[str]:
        return [user_id for each, user_id in self.pairs if each == emoji][::-1]

    @property
    def shown(self) -> list[tuple[str, int, list[str]]]:
        return [(each, len(self.users(each)), self.users(each)[:10]) for each in self.order]


def shown_of(message: Message) -> list[tuple[str, int, list[str]]]:
    return [(each.emoji, each.count, each.user_ids) for each in message.reactions or []]


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_shown_is_what_was_done(group: Group, seed: int) -> None:
    """In every order of reacting, taking back, editing and deleting; lists, own reactions and states agree."""
    chance = random.Random(seed)
    messages = [await group.post() for _ in range(3)]
    naive = {message.id: Naive() for message in messages}
    deleted: set[str] = set()
    for _ in range(150):
        message_id = chance.choice(messages).id
        pair = chance.choice(EMOJI), chance.choice(group.users)
        done = naive[message_id]
        act = chance.choice(
            ["add"] * 6
            + ["remove"] * 3
            + ["edit"]
            + ["delete"] * (len(deleted) < 1 and chance.random() < 0.05)
        )
        if act == "add" and message_id not in deleted:
            answer = await group.react(message_id, *pair)
            done.add(*pair)
            assert [(each.emoji, each.count, each.user_ids) for each in answer] == done.shown
        elif act == "remove":
            await group.react(message_id, *pair, add=False)
            done.remove(*pair)
        elif act == "edit" and message_id not in deleted:
            edited = await group.chat.edit(P, group.room_id, message_id, "y", by=None)
            assert shown_of(edited) == done.shown
        elif act == "delete":
            await group.chat.delete_message(P, group.room_id, message_id, by=None)
            naive[message_id] = Naive()
            deleted.add(message_id)
    page = await group.chat.messages_page(P, group.room_id)
    for message in page.items:
        assert shown_of(message) == naive[message.id].shown
        assert message.reactions != []
        listed = await group.chat.reactions(P, group.room_id, message.id, Wanted(limit=200))
        assert sorted((each.emoji, each.user_id) for each in listed.items) == sorted(
            naive[message.id].pairs
        )
    for user in group.users[:3]:
        own = await group.chat.own_reactions(P, user, page.items)
        assert own == {
            key: [emoji for emoji, by in each.pairs if by == user]
            for key, each in naive.items()
            if any(count > 10 for _, count, _ in each.shown)
            and user in {by for _, by in each.pairs}
        }
    changes = await group.chat.changes(P, group.room_id, 0, limit=200)
    assert [each.message for each in changes.items] == sorted(
        page.items, key=lambda message: message.rev
    )


async def test_each_change_is_published_once_with_its_reason(group: Group) -> None:
    """And takes one rev; what changes nothing is published to nobody."""
    message = await group.post()
    group.published.clear()
    alice, bob = group.users[:2]
    await group.react(message.id, "👍", alice)
    await group.react(message.id, "👍", alice)
    await group.react(message.id, "👍", bob, add=False)
    await group.react(message.id, "👍", alice, add=False)
    await group.chat.pin(P, group.room_id, message.id, Actor(alice, by_token=False))
    await group.chat.pin(P, group.room_id, message.id, Actor(alice, by_token=False))
    await group.chat.unpin(P, group.room_id, message.id, Actor(None, by_token=False))
    events = [msg(event) for event in group.published]
    assert [(event["rev"], event["change"]) for event in events] == [
        (1, {"kind": "reaction", "user_id": alice, "emoji": "👍", "added": True}),
        (2, {"kind": "reaction", "user_id": alice, "emoji": "👍", "added": False}),
        (3, {"kind": "pinned", "user_id": alice}),
        (4, {"kind": "unpinned"}),
    ]
    assert events[0]["reactions"] == [{"emoji": "👍", "count": 1, "user_ids": [alice]}]
    assert "reactions" not in events[1]
    assert {event.name for event in group.published} == {"messageUpdated"}
    room = await group.chat.get_room(P, group.room_id)
    assert room.rev == 4


def msg(event: Any) -> dict[str, Any]:
    import msgspec

    decoded: dict[str, Any] = msgspec.json.decode(event.payload)
    return decoded


async def test_all_who_react_at_once_are_counted(group: Group) -> None:
    """Each once, with a rev of their own, however often they ask and whatever others do meanwhile."""
    message = await group.post()
    users = group.users
    await asyncio.gather(
        *(group.react(message.id, emoji, user) for user in users for emoji in EMOJI[:2] * 2),
        *(group.chat.edit(P, group.room_id, message.id, str(n), by=None) for n in range(5)),
        *(group.post() for _ in range(5)),
    )
    (found,) = await group.chat.messages_by_id(P, group.room_id, [message.id])
    assert {each.emoji: each.count for each in found.reactions or []} == dict.fromkeys(
        EMOJI[:2], 14
    )
    counted = await group.rows("SELECT emoji, count(*) FROM reactions GROUP BY emoji")
    assert dict(counted) == dict.fromkeys(EMOJI[:2], 14)
    revs = [each.rev for each in group.published if isinstance(each, Event) and each.rev]
    assert revs == list(range(1, 2 * 14 + 5 + 1))
    await asyncio.gather(
        *(group.react(message.id, emoji, user, add=False) for user in users for emoji in EMOJI[:2])
    )
    (found,) = await group.chat.messages_by_id(P, group.room_id, [message.id])
    assert not found.reactions
    assert await group.rows("SELECT count(*) FROM reaction_counts") == [(0,)]


async def test_limits_hold_for_all_who_ask_at_once(group: Group) -> None:
    """Twenty different reactions, fifty pins: not one more."""
    message = await group.post()
    answers = await asyncio.gather(
        *(group.react(message.id, f":{n}:", user) for n in range(25) for user in group.users[:1]),
        return_exceptions=True,
    )
    refused = [each for each in answers if isinstance(each, Conflict)]
    assert [each.code for each in refused] == ["too_many_reactions"] * 5
    ids = [(await group.post()).id for _ in range(55)]
    pinned = await asyncio.gather(
        *(group.chat.pin(P, group.room_id, each, Actor(None, by_token=False)) for each in ids),
        return_exceptions=True,
    )
    refused = [each for each in pinned if isinstance(each, Conflict)]
    assert [each.code for each in refused] == ["too_many_pins"] * 5
    times = [each.pinned_at for each in pinned if isinstance(each, Message)]
    assert len(set(times)) == 50
    listed = await group.chat.pins(P, group.room_id)
    assert [each.pinned_at for each in listed] == sorted(times, reverse=True)


async def test_a_room_may_take_no_reactions(group: Group) -> None:
    """By its settings. Those that are there stay, and may be taken back."""
    message, alice = await group.post(), group.users[0]
    await group.react(message.id, "👍", alice)
    await group.rows(
        "UPDATE rooms SET settings = '{\"reactions\":false}' WHERE id = $1", group.room_id
    )
    with pytest.raises(ChatError) as refused:
        await group.react(message.id, "😀", alice)
    assert (refused.value.status, refused.value.code) == (403, "read_only")
    assert await group.react(message.id, "👍", alice, add=False) == []


async def test_members_of_a_direct_room_pin(group: Group) -> None:
    message = await group.post()
    await group.rows("UPDATE rooms SET kind = 'direct' WHERE id = $1", group.room_id)
    pinned = await group.chat.pin(
        P, group.room_id, message.id, Actor(group.users[5], by_token=True)
    )
    assert pinned.pinned_by == group.users[5]


async def test_a_deleted_room_leaves_no_reactions_behind(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PORTION", 2)
    for _ in range(3):
        message = await group.post()
        for user in group.users[:3]:
            await group.react(message.id, "👍", user)
    await group.chat.delete_room(P, group.room_id)
    while await group.chat.database.write(partial(housekeeping.remove_portion, 2**31)):
        pass
    for table in ("reactions", "reaction_counts", "messages", "rooms"):
        assert await group.rows(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_plain_pages_and_posts_ask_nothing_of_reactions(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of plain messages is the same statements as before; one with reactions asks once more."""
    asked: list[str] = []
    original = group.chat.database.read

    async def read(transaction: Any, **more: Any) -> Any:
        def watched() -> Steps[Any]:
            steps = transaction()
            rows: Any = None
            try:
                while True:
                    query = steps.send(rows)
                    asked.append(query.sql)
                    rows = yield query
            except StopIteration as end:
                return end.value

        return await original(watched, **more)

    messages = [await group.post() for _ in range(60)]
    monkeypatch.setattr(group.chat.database, "read", read)
    await group.chat.messages_page(P, group.room_id, limit=200)
    plain = len(asked)
    assert not any("reaction" in sql for sql in asked)
    await group.react(messages[3].id, "👍", group.users[0])
    await group.react(messages[7].id, "👍", group.users[0])
    asked.clear()
    page = await group.chat.messages_page(P, group.room_id, limit=200)
    assert len(asked) == plain + 1
    assert sum(bool(message.reactions) for message in page.items) == 2


async def test_room_changes_keep_what_messages_show(group: Group) -> None:
    """The state of a message is its own."""
    message = await group.post()
    await group.react(message.id, "👍", group.users[0])
    await group.chat.update_room(P, group.room_id, RoomChanges(name="other"))
    (found,) = await group.chat.messages_by_id(P, group.room_id, [message.id])
    assert found.rev == 1
    assert shown_of(found) == [("👍", 1, [group.users[0]])]
