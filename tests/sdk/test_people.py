"""Settings of users, blocks and the directory, over the Chat API in memory; and a server without them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    ChatUser,
    ConflictError,
    NotFoundError,
    PublicUser,
    UnsupportedOperationError,
    UserSettings,
    ValidationError,
)
from chat_broker_sdk.testing import FakeChatApi


async def cast(client: AsyncChatClient) -> tuple[ChatUser, ChatUser]:
    return (
        await client.users.create(username="ann", external_user_id="1", display_name="Ännchen"),
        await client.users.create(username="bob", external_user_id="2"),
    )


async def test_settings_are_changed_one_by_one(client: AsyncChatClient) -> None:
    ann, bob = await cast(client)
    assert await client.users.settings(ann.id) == UserSettings()
    assert await client.users.update_settings(ann.id, receipts=False) == UserSettings(
        receipts=False
    )
    changed = await client.users.update_settings(ann.id, presence="hidden", notify="none")
    assert changed == UserSettings(presence="hidden", receipts=False, notify="none")
    cleared = await client.users.update_settings(ann.id, notify=None, push_preview=False)
    assert (cleared.notify, cleared.push_preview, cleared.presence) == (None, False, "hidden")
    assert await client.users.settings(bob.id) == UserSettings()
    with pytest.raises(ValidationError):
        await client.users.update_settings(ann.id, colour="red")


async def test_blocks_are_listed_and_end(client: AsyncChatClient) -> None:
    ann, bob = await cast(client)
    for _ in range(2):
        await client.users.block(bob.id, ann.id)
    shown = PublicUser(id=ann.id, username="ann", display_name="Ännchen", avatar_url=None)
    assert (await client.users.blocks(bob.id, limit=20)).items == (shown,)
    assert [each async for each in client.users.iterate_blocks(bob.id)] == [shown]
    for _ in range(2):
        await client.users.unblock(bob.id, ann.id)
    assert (await client.users.blocks(bob.id)).total == 0
    with pytest.raises(ValidationError):
        await client.users.block(bob.id, bob.id)
    with pytest.raises(NotFoundError):
        await client.users.block(bob.id, "nobody")


async def test_too_many_blocks_are_a_conflict(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann, bob = await cast(client)
    fake_chat.store.blocks[bob.id] = {f"x{number}" for number in range(1000)}
    with pytest.raises(ConflictError) as refused:
        await client.users.block(bob.id, ann.id)
    assert refused.value.code == "too_many_blocks"


async def test_the_directory_finds_by_the_beginning_of_a_name(client: AsyncChatClient) -> None:
    ann, bob = await cast(client)
    for q in ("an", "ÄNN", "annchen"):
        assert [each.id for each in await client.users.directory(bob.id, q)] == [ann.id]
    assert await client.users.directory(bob.id, "nn") == ()
    await client.users.block(ann.id, bob.id)
    assert await client.users.directory(bob.id, "ann") == ()


CALLS: list[tuple[str, Callable[[AsyncChatClient], Awaitable[object]]]] = [
    ("blocks", lambda client: client.users.settings("u")),
    ("blocks", lambda client: client.users.update_settings("u", receipts=True)),
    ("blocks", lambda client: client.users.block("u", "v")),
    ("blocks", lambda client: client.users.unblock("u", "v")),
    ("blocks", lambda client: client.users.blocks("u")),
    ("directory", lambda client: client.users.directory("u", "a")),
]


@pytest.mark.parametrize(("feature", "call"), CALLS)
async def test_a_server_without_the_feature_is_not_asked(
    feature: str, call: Callable[[AsyncChatClient], Awaitable[object]]
) -> None:
    fake = FakeChatApi(features=("changes", "mine"))
    async with fake.client() as client:
        with pytest.raises(UnsupportedOperationError) as refused:
            await call(client)
    assert (refused.value.code, refused.value.feature) == ("unsupported", feature)
    assert fake.count("/users") == 0


@pytest.mark.parametrize("bad", ["", "a/b", "..", "a" * 65])
async def test_an_id_that_is_none_is_not_sent(
    client: AsyncChatClient, fake_chat: FakeChatApi, bad: str
) -> None:
    for call in (client.users.block, client.users.unblock):
        with pytest.raises(ValidationError):
            await call("u", bad)
    assert fake_chat.count("blocks") == 0


async def test_blocks_and_new_names_are_told_to_sockets(client: AsyncChatClient) -> None:
    """To those that know of changes: who blocks is told to reload, who shares a small room hears of names."""
    ann, bob = await cast(client)
    room = await client.rooms.create(name="r", created_by=ann.id, member_ids=[bob.id])
    told: list[tuple[str, str, object]] = []
    sockets = []
    for user in (ann, bob):
        socket = client.as_user((await client.users.generate_token(user.id)).token).socket
        socket.on_mine(lambda event, user=user: told.append((user.username, "mine", event.reload)))
        socket.on_user_updated(
            lambda event, user=user: told.append((user.username, "user", event.display_name))
        )
        await socket.connect()
        await socket.join_room(room.id, since_seq=0, since_rev=0)
        sockets.append(socket)
    await client.users.block(bob.id, ann.id)
    await client.users.block(bob.id, ann.id)
    await client.users.update(ann.id, display_name="Ann")
    for socket in sockets:
        await socket.disconnect()
    assert told[0] == ("bob", "mine", True)
    assert sorted(each[0] for each in told[1:]) == ["ann", "bob"]
    assert {each[1:] for each in told[1:]} == {("user", "Ann")}


async def test_a_handler_is_enough_to_hear_of_blocks(client: AsyncChatClient) -> None:
    """A socket with a handler shows the server that it knows the event."""
    ann, bob = await cast(client)
    room = await client.rooms.create(name="r", created_by=bob.id)
    socket = client.as_user((await client.users.generate_token(bob.id)).token).socket
    told: list[bool] = []
    socket.on_mine(lambda event: told.append(event.reload))
    await socket.connect()
    await socket.join_room(room.id)
    async with asyncio.timeout(5):
        while not told:
            await client.users.block(bob.id, ann.id)
            await client.users.unblock(bob.id, ann.id)
            await asyncio.sleep(0.01)
    await socket.disconnect()
    assert set(told) == {True}


def test_the_synchronous_client_has_them_too(fake_chat: FakeChatApi) -> None:
    with fake_chat.sync_client() as client:
        ann = client.users.create(username="ann", external_user_id="1")
        bob = client.users.create(username="bob", external_user_id="2")
        client.users.block(bob.id, ann.id)
        assert [each.id for each in client.users.iterate_blocks(bob.id)] == [ann.id]
        assert client.users.update_settings(bob.id, receipts=False).receipts is False
        assert [each.id for each in client.users.directory(ann.id, "an")] == [ann.id]
