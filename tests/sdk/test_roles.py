"""Roles and settings of rooms, over the Chat API in memory; and a server without them."""

from collections.abc import Awaitable, Callable

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    AuthenticationError,
    ChatUser,
    ConflictError,
    NotFoundError,
    Room,
    UnsupportedOperationError,
    ValidationError,
)
from chat_broker_sdk.testing import FakeChatApi


async def cast(client: AsyncChatClient) -> tuple[ChatUser, ChatUser, Room]:
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    return ann, bob, await client.rooms.create(name="r", created_by=ann.id, member_ids=[bob.id])


async def test_roles_are_given_and_the_last_owner_stays(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    assert (await client.rooms.set_role(room.id, bob.id, "moderator")).role == "moderator"
    with pytest.raises(ConflictError) as refused:
        await client.rooms.set_role(room.id, ann.id, "guest")
    assert refused.value.code == "last_owner"
    with pytest.raises(ValidationError):
        await client.rooms.set_role(room.id, bob.id, "admin")
    await client.rooms.leave(room.id, user_id=ann.id)
    assert (await client.rooms.member(room.id, bob.id)).role == "owner"


async def test_who_acts_by_somebody_has_their_rights(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    carl = await client.users.create(username="carl", external_user_id="3")
    for call in (
        client.rooms.set_role(room.id, bob.id, "owner", by=bob.id),
        client.rooms.put_member(room.id, carl.id, by=bob.id),
        client.rooms.remove_member(room.id, ann.id, by=bob.id),
        client.rooms.add_members(room.id, [carl.id], by=bob.id),
        client.rooms.update(room.id, name="x", by=bob.id),
    ):
        with pytest.raises(AuthenticationError) as refused:
            await call
        assert refused.value.code == "owner_only"
    await client.rooms.set_role(room.id, bob.id, "moderator", by=ann.id)
    await client.rooms.add_members(room.id, [carl.id], by=bob.id)
    await client.rooms.remove_member(room.id, carl.id, by=bob.id)
    await client.rooms.put_member(room.id, carl.id, by=bob.id)
    await client.rooms.update(room.id, name="x", by=ann.id)
    await client.rooms.remove_member(room.id, carl.id, by=bob.id)
    with pytest.raises(NotFoundError):
        await client.rooms.remove_member(room.id, bob.id, by=carl.id)


async def test_settings_change_one_by_one(client: AsyncChatClient) -> None:
    _, bob, room = await cast(client)
    assert room.settings is None
    await client.rooms.update(room.id, settings={"read_only": True})
    changed = await client.rooms.update(room.id, name="s", settings={"reactions": False})
    assert (changed.name, changed.settings) == ("s", {"read_only": True, "reactions": False})
    for bad in ({"colour": 1}, {"read_only": 1}, {"history": "x"}):
        with pytest.raises(ValidationError):
            await client.rooms.update(room.id, settings=bad)
    with pytest.raises(AuthenticationError) as refused:
        await client.messages.create(room.id, content="x", user_id=bob.id)
    assert refused.value.code == "read_only"


async def test_what_newcomers_do_not_see_is_left_out(client: AsyncChatClient) -> None:
    ann, _, room = await cast(client)
    carl = await client.users.create(username="carl", external_user_id="3")
    one = await client.messages.create(room.id, content="1", user_id=ann.id)
    await client.rooms.update(room.id, settings={"history": "joined"})
    await client.rooms.join(room.id, user_id=carl.id)
    two = await client.messages.create(room.id, content="2", user_id=ann.id)
    member = await client.rooms.member(room.id, carl.id)
    assert member.from_seq == two.seq
    assert (await client.rooms.member(room.id, ann.id)).from_seq is None
    for found in (
        await client.messages.list(room.id, from_seq=member.from_seq),
        await client.messages.list(room.id, ids=[one.id, two.id], from_seq=member.from_seq),
    ):
        assert [each.id for each in found.items] == [two.id]
    with pytest.raises(NotFoundError):
        await client.messages.get(room.id, one.id, from_seq=member.from_seq)


async def test_the_key_edits_as_an_author_and_in_time(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann, bob, room = await cast(client)
    message = await client.messages.create(room.id, content="x", user_id=ann.id)
    with pytest.raises(AuthenticationError) as refused:
        await client.messages.update(room.id, message.id, content="y", user_id=bob.id)
    assert refused.value.code == "not_the_author"
    await client.rooms.update(room.id, settings={"edit_window": 60})
    await client.messages.update(room.id, message.id, content="y", user_id=ann.id)
    fake_chat.store.skew = 61
    with pytest.raises(AuthenticationError) as refused:
        await client.messages.update(room.id, message.id, content="z", user_id=ann.id)
    assert refused.value.code == "too_late"
    await client.messages.update(room.id, message.id, content="z")


CALLS: list[Callable[[AsyncChatClient], Awaitable[object]]] = [
    lambda client: client.rooms.set_role("r", "u", "guest"),
    lambda client: client.rooms.put_member("r", "u", by="v"),
    lambda client: client.rooms.remove_member("r", "u", by="v"),
    lambda client: client.rooms.add_members("r", ["u"], by="v"),
    lambda client: client.rooms.update("r", by="v"),
    lambda client: client.rooms.update("r", settings={"read_only": True}),
    lambda client: client.messages.list("r", from_seq=2),
    lambda client: client.messages.get("r", "m", from_seq=2),
    lambda client: client.messages.update("r", "m", content="x", user_id="u"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_without_the_feature_is_not_asked(
    call: Callable[[AsyncChatClient], Awaitable[object]],
) -> None:
    fake = FakeChatApi(features=("changes",))
    async with fake.client() as client:
        with pytest.raises(UnsupportedOperationError) as refused:
            await call(client)
    assert (refused.value.code, refused.value.feature) == ("unsupported", "roles")
    assert fake.count("/rooms") == 0


def test_the_synchronous_client_has_them_too(fake_chat: FakeChatApi) -> None:
    with fake_chat.sync_client() as client:
        ann = client.users.create(username="ann", external_user_id="1")
        room = client.rooms.create(name="r", created_by=ann.id)
        assert client.rooms.set_role(room.id, ann.id, "owner").role == "owner"
        changed = client.rooms.update(room.id, settings={"slow_mode": 3})
        assert changed.settings == {"slow_mode": 3}
