"""Receipts, presence and signals, over the Chat API in memory; and a server without them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    AuthenticationError,
    ChatUser,
    MessageReceipts,
    NotFoundError,
    Presence,
    Room,
    UnsupportedOperationError,
    ValidationError,
    WebSocketError,
)
from chat_broker_sdk.testing import FakeChatApi


async def cast(client: AsyncChatClient) -> tuple[ChatUser, ChatUser, Room]:
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    return ann, bob, await client.rooms.create(name="r", created_by=ann.id, member_ids=[bob.id])


async def socket_of(client: AsyncChatClient, user: ChatUser) -> Any:
    me = client.as_user((await client.users.generate_token(user.id)).token)
    await me.socket.connect()
    return me.socket


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # handlers run in another task
            await asyncio.sleep(0.001)


async def test_receipts_of_a_message(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    message = await client.messages.create(room.id, content="a", user_id=ann.id)
    assert await client.messages.receipts(room.id, message.id) == MessageReceipts()
    await client.rooms.mark_read(room.id, seq=1, user_id=bob.id)
    expected = MessageReceipts(read=(bob.id,), delivered=(bob.id,), read_count=1, delivered_count=1)
    assert await client.messages.receipts(room.id, message.id, member_id=ann.id) == expected
    await client.users.update_settings(bob.id, receipts=False)
    assert await client.messages.receipts(room.id, message.id) == MessageReceipts()
    with pytest.raises(AuthenticationError) as refused:
        await client.messages.receipts(room.id, message.id, member_id=bob.id)
    assert refused.value.code == "receipts_off"


async def test_a_read_mark_is_told_and_joining_answers_all(client: AsyncChatClient) -> None:
    """To a client that has said in its first join that it knows of changes, or has a handler."""
    ann, bob, room = await cast(client)
    await client.messages.create(room.id, content="a", user_id=ann.id)
    socket, told = await socket_of(client, ann), []
    socket.on_receipt(told.append)
    joined = await socket.join_room(room.id)
    assert {each.user_id: each.read_seq for each in joined.receipts} == {ann.id: 0, bob.id: 0}
    await until(lambda: not socket._joining)
    await client.rooms.mark_read(room.id, seq=1, user_id=bob.id)
    await until(lambda: any(each.user_id == bob.id for each in told))
    assert [(each.room_id, each.read_seq) for each in told if each.user_id == bob.id] == [
        (room.id, 1)
    ]
    await socket.disconnect()


async def test_presence_is_watched_again_after_a_reconnect(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    """And the handler is called with all who are watched."""
    ann, bob, _ = await cast(client)
    carol = await client.users.create(username="carol", external_user_id="3")
    socket, told = await socket_of(client, ann), []
    socket.on_presence(lambda event: told.extend(event.changes))
    assert await socket.watch_presence([bob.id, carol.id]) == (
        Presence(user_id=bob.id, online=False),
    )
    bobs = await socket_of(client, bob)
    await until(lambda: told == [Presence(user_id=bob.id, online=True)])
    fake_chat.disconnect()
    await until(lambda: len(told) >= 2 and told[-1].online is True)
    await bobs.disconnect()
    await until(lambda: told[-1].online is False)
    assert told[-1].last_seen_at is not None
    (found,) = await client.users.presence([bob.id, "nobody"])
    assert found == told[-1]
    assert await client.users.presence([carol.id], member_id=ann.id) == ()
    assert await client.users.presence([]) == ()
    await client.users.update_settings(bob.id, presence="hidden")
    assert await client.users.presence([bob.id]) == (Presence(user_id=bob.id, online=None),)
    with pytest.raises(ValidationError):
        await client.users.presence([f"u{number}" for number in range(101)])
    assert await socket.watch_presence([]) == ()
    await socket.disconnect()


async def test_signals_and_how_many_are_online(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    here, there = await socket_of(client, ann), await socket_of(client, bob)
    told: list[Any] = []
    online: list[int] = []
    here.on_signal(told.append)
    here.on_room_online(lambda event: online.append(event.members_online))
    for socket in (here, there):
        await socket.join_room(room.id, since_seq=0, since_rev=0)
    await there.send_signal(room.id, "wave", {"x": 1})
    await client.rooms.signal(room.id, "bell")
    await client.users.signal(ann.id, "toast", [1])
    await until(lambda: len(told) == 3)
    assert [(each.name, each.room_id, each.user_id, each.data) for each in told] == [
        ("wave", room.id, bob.id, {"x": 1}),
        ("bell", room.id, None, None),
        ("toast", None, None, [1]),
    ]
    assert (told[0].username, told[1].username) == ("bob", None)
    await there.disconnect()
    await until(lambda: online and online[-1] == 1)
    assert 2 in online
    with pytest.raises(ValidationError):
        await client.rooms.signal(room.id, "Not a name")
    with pytest.raises(NotFoundError):
        await client.users.signal("nobody", "bell")
    with pytest.raises(WebSocketError) as refused:
        await here.send_signal("elsewhere", "bell")
    assert refused.value.code == "not_joined"
    await here.disconnect()


LACKING: list[Callable[[AsyncChatClient], Awaitable[object]]] = [
    lambda client: client.messages.receipts("r", "m"),
    lambda client: client.users.presence(["u"]),
    lambda client: client.users.signal("u", "x"),
    lambda client: client.rooms.signal("r", "x"),
]


@pytest.mark.parametrize("call", LACKING)
async def test_a_server_without_them_is_asked_nothing(
    call: Callable[[AsyncChatClient], Awaitable[object]],
) -> None:
    fake = FakeChatApi(features=("changes",))
    async with fake.client() as client:
        with pytest.raises(UnsupportedOperationError) as refused:
            await call(client)
    assert refused.value.code == "unsupported"
    assert fake.count("receipts|presence|signals") == 0


def test_the_synchronous_client_has_the_same_calls() -> None:
    fake = FakeChatApi()
    with fake.sync_client() as client:
        ann = client.users.create(username="ann", external_user_id="1")
        room = client.rooms.create(name="r", created_by=ann.id)
        message = client.messages.create(room.id, content="a", user_id=ann.id)
        assert client.messages.receipts(room.id, message.id) == MessageReceipts()
        assert client.users.presence([ann.id]) == (Presence(user_id=ann.id, online=False),)
        client.rooms.signal(room.id, "bell")
        client.users.signal(ann.id, "bell", 1)
        me = client.as_user(client.users.generate_token(ann.id).token)
        try:
            me.socket.connect()
            assert me.socket.watch_presence([ann.id]) == (Presence(user_id=ann.id, online=True),)
            me.socket.join_room(room.id)
            me.socket.send_signal(room.id, "wave")
        finally:
            me.close()
