"""Replies, mentions, silent and system messages, of both clients, against the fake server."""

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    ConflictError,
    NotFoundError,
    UnsupportedOperationError,
    ValidationError,
)
from chat_broker_sdk.testing import FakeChatApi


@pytest.fixture
async def fake() -> FakeChatApi:
    return FakeChatApi()


async def two_in_a_room(client: AsyncChatClient) -> tuple[str, str, str]:
    ann = await client.users.create(
        username="ann", external_user_id="1", avatar_url="https://a/1.png"
    )
    bob = await client.users.create(username="bob", external_user_id="2")
    room = await client.rooms.create(name="r", created_by=ann.id, member_ids=[bob.id])
    return ann.id, bob.id, room.id


async def test_a_reply_quotes_and_follows(fake: FakeChatApi) -> None:
    async with fake.client() as client:
        ann, bob, room = await two_in_a_room(client)
        question = await client.messages.create(room, content="?" * 300, user_id=ann)
        assert question.avatar_url == "https://a/1.png"
        assert question.reply_to is None
        reply = await client.messages.create(room, content="!", user_id=bob, reply_to=question.id)
        assert reply.reply_to is not None
        assert (reply.reply_to.seq, reply.reply_to.content) == (1, "?" * 200)
        await client.messages.update(room, question.id, content="other")
        quoted = (await client.messages.get(room, reply.id)).reply_to
        assert quoted is not None
        assert quoted.content == "other"
        with pytest.raises(NotFoundError):
            await client.messages.create(room, content="!", user_id=bob, reply_to="nothing")


async def test_mentions_are_counted_and_listed(fake: FakeChatApi) -> None:
    async with fake.client() as client:
        ann, bob, room = await two_in_a_room(client)
        said = [
            await client.messages.create(room, content="1", user_id=ann, mentions=[bob, bob]),
            await client.messages.create(room, content="2", user_id=ann, mention_room=True),
            await client.messages.create(
                room, content="3", user_id=ann, mentions=[bob], silent=True
            ),
        ]
        assert said[0].mentions == (bob,)
        assert (await client.rooms.mine(room, user_id=bob)).mentions == 2
        assert (await client.users.unread(bob)).mentions == 2
        first = await client.users.mentions(bob, limit=2)
        assert (len(first.items), first.has_more) == (2, True)
        assert {each.id async for each in client.users.iterate_mentions(bob, limit=1)} == {
            each.id for each in said
        }
        edited = await client.messages.update(room, said[0].id, mentions=[])
        assert (edited.mentions, edited.content) == ((), "1")
        assert (await client.rooms.mine(room, user_id=bob)).mentions == 1
        with pytest.raises(ValidationError) as caught:
            await client.messages.create(room, content="x", user_id=ann, mentions=[ann, "nobody"])
        assert [each.field for each in caught.value.errors] == ["mentions[1]"]


async def test_system_messages_are_not_edited(fake: FakeChatApi) -> None:
    async with fake.client() as client:
        ann, bob, room = await two_in_a_room(client)
        told = await client.messages.create(
            room, content="Sent.", user_id=ann, event={"name": "sent", "by": bob}
        )
        assert (told.type, told.event) == ("system", {"name": "sent", "by": bob})
        with pytest.raises(ConflictError):
            await client.messages.update(room, told.id, content="x")
        await client.messages.delete(room, told.id, purge=True)
        assert (await client.messages.get(room, told.id)).content == ""


def test_the_synchronous_client_does_the_same() -> None:
    with FakeChatApi().sync_client() as client:
        ann = client.users.create(username="ann", external_user_id="1")
        bob = client.users.create(username="bob", external_user_id="2")
        room = client.rooms.create(name="r", created_by=ann.id, member_ids=[bob.id])
        one = client.messages.create(room.id, content="1", user_id=ann.id, mentions=[bob.id])
        two = client.messages.create(
            room.id, content="2", user_id=ann.id, reply_to=one.id, silent=True
        )
        assert two.reply_to is not None
        assert [each.id for each in client.users.iterate_mentions(bob.id)] == [one.id]


async def test_without_the_features_nothing_is_sent() -> None:
    """The error names the feature that the server lacks."""
    fake = FakeChatApi(features=("changes",))
    async with fake.client() as client:
        ann, bob, room = await two_in_a_room(client)
        for feature, call in (
            ("replies", client.messages.create(room, content="x", user_id=ann, reply_to="m")),
            ("mentions", client.messages.create(room, content="x", user_id=ann, mentions=[bob])),
            ("mentions", client.messages.create(room, content="x", user_id=ann, mention_room=True)),
            ("mentions", client.messages.update(room, "m", mentions=[])),
            ("mentions", client.users.mentions(bob)),
        ):
            with pytest.raises(UnsupportedOperationError) as caught:
                await call
            assert caught.value.feature == feature
        assert fake.count("messages") + fake.count("mentions") == 0
