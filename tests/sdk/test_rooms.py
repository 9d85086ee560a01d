"""Direct rooms, rooms by the app's own id and several members, over the Chat API in memory; and servers without them."""

import json

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    ChatUser,
    ConflictError,
    NotFoundError,
    UnsupportedOperationError,
    ValidationError,
    WebSocketError,
)
from chat_broker_sdk.testing import FakeChatApi


async def people(client: AsyncChatClient, *names: str) -> list[ChatUser]:
    return [await client.users.create(username=name, external_user_id=name) for name in names]


async def test_a_set_of_users_has_one_direct_room(client: AsyncChatClient) -> None:
    ann, bob = await people(client, "ann", "bob")
    room = await client.rooms.ensure_direct([ann.id, bob.id], created_by=bob.id)
    assert (room.kind, room.created_by) == ("direct", bob.id)
    assert {user.username for user in room.members} == {"ann", "bob"}
    assert (await client.rooms.ensure_direct((bob.id, ann.id))).id == room.id
    with pytest.raises(ConflictError) as caught:
        await client.rooms.leave(room.id, user_id=ann.id)
    assert caught.value.code == "direct_room"
    assert [each.id for each in (await client.rooms.list(kind="direct")).items] == [room.id]
    await client.messages.create(room.id, content="hi", user_id=ann.id)
    assert (await client.users.unread(bob.id)).direct == 1
    await client.users.delete(ann.id)
    with pytest.raises(ConflictError) as caught:
        await client.messages.create(room.id, content="hi", user_id=bob.id)
    assert caught.value.code == "nobody_there"
    assert [user.id for user in (await client.rooms.get(room.id)).members] == [bob.id]
    notes = await client.rooms.ensure_direct([bob.id])
    assert (await client.messages.create(notes.id, content="milk", user_id=bob.id)).seq == 1


async def test_a_room_is_ensured_and_named_by_the_apps_own_id(client: AsyncChatClient) -> None:
    ann, bob = await people(client, "ann", "bob")
    own_id = "shop:order.7@eu~x"
    room = await client.rooms.ensure(own_id, name="Order", created_by=ann.id, private=True)
    again = await client.rooms.ensure(
        own_id, name="Other", created_by=ann.id, member_ids=[bob.id], metadata={"k": 1}
    )
    assert (again.id, again.name, again.member_count) == (room.id, "Order", 2)
    name = f"external:{own_id}"
    assert (await client.rooms.get(name)).external_id == own_id
    said = await client.messages.create(name, content="hi", user_id=bob.id)
    assert said.room_id == room.id
    assert [each.id for each in (await client.messages.list(name)).items] == [said.id]
    assert (await client.rooms.mark_read(name, seq=1, user_id=ann.id)).unread == 0
    assert (await client.rooms.mine(name, user_id=ann.id)).last_read_seq == 1
    with pytest.raises(ConflictError) as caught:
        await client.rooms.create(name="x", created_by=ann.id, external_id=own_id)
    assert caught.value.code == "external_id_taken"
    with pytest.raises(NotFoundError):
        await client.rooms.get("external:other")


@pytest.mark.parametrize(
    "bad", ["external:", "external:a/b", "external:a b", "external:é", "other:a", "external:a?b"]
)
async def test_no_other_text_becomes_a_path(
    client: AsyncChatClient, fake_chat: FakeChatApi, bad: str
) -> None:
    """Nothing is sent. Of users and messages there is no such form."""
    await client.project()
    seen = len(fake_chat.seen)
    for call in (
        client.rooms.get(bad),
        client.messages.list(bad),
        client.rooms.member("r", "external:a"),
        client.messages.get("r", "external:a"),
        client.rooms.ensure(bad.removeprefix("external:") if "/" in bad else "", name="x", created_by="u"),
        client.rooms.get("external:" + "x" * 129),
    ):  # fmt: skip
        with pytest.raises(ValidationError) as caught:
            await call
        assert caught.value.code == "bad_id"
    assert len(fake_chat.seen) == seen


async def test_several_members_at_once(client: AsyncChatClient, fake_chat: FakeChatApi) -> None:
    ann, bob, cid = await people(client, "ann", "bob", "cid")
    room = await client.rooms.create(name="Room", created_by=ann.id)
    with pytest.raises(NotFoundError):
        await client.rooms.add_members(room.id, [bob.id, "nobody"])
    result = await client.rooms.add_members(room.id, (bob.id, ann.id, cid.id), role="member")
    assert [member.username for member in result.added] == ["bob", "cid"]
    assert result.there == (ann.id,)
    sent = next(each for each in reversed(fake_chat.seen) if each.method == "POST")
    assert "idempotency-key" in sent.headers
    members = client.rooms.members
    assert {each.user_id for each in (await members(room.id, ids=[bob.id, cid.id])).items} == {
        bob.id,
        cid.id,
    }
    assert [each.user_id for each in (await members(room.id, role="owner")).items] == [ann.id]
    page = await members(room.id, q="b")
    assert ([each.username for each in page.items], page.total) == (["bob"], 1)
    first = await members(room.id, cursor="", limit=2)
    assert (first.has_more, first.total) == (True, None)
    rest = await members(room.id, cursor=first.next_cursor, limit=2)
    assert (rest.has_more, rest.next_cursor) == (False, None)
    found = [each.user_id for each in (*first.items, *rest.items)]
    assert found == sorted([ann.id, bob.id, cid.id])
    assert (await members(room.id, limit=2)).total_pages == 2
    with pytest.raises(ValidationError):
        await members(room.id, ids=[])
    with pytest.raises(ValidationError):
        await members(room.id, ids=["a,b"])


async def test_a_server_without_them_is_asked_for_nothing() -> None:
    fake = FakeChatApi(features=("changes", "mine"))
    async with fake.client() as client:
        (ann,) = await people(client, "ann")
        await client.project()
        seen = len(fake.seen)
        for feature, call in (
            ("direct", client.rooms.ensure_direct([ann.id])),
            ("external_rooms", client.rooms.ensure("x", name="x", created_by=ann.id)),
            ("external_rooms", client.rooms.create(name="x", created_by=ann.id, external_id="x")),
        ):
            with pytest.raises(UnsupportedOperationError) as caught:
                await call
            assert caught.value.feature == feature
        assert len(fake.seen) == seen


async def test_a_socket_takes_the_apps_own_id(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    """The room's events are in order, and it is joined again after a reconnect."""
    (ann,) = await people(client, "ann")
    room = await client.rooms.ensure("order", name="Order", created_by=ann.id)
    for content in "ab":
        await client.messages.create(room.id, content=content, user_id=ann.id)
    token = (await client.users.generate_token(ann.id)).token
    async with fake_chat.client(jwt_token=token) as user:
        heard: list[int | None] = []
        user.socket.on_message(lambda message: heard.append(message.seq))
        await user.socket.connect()
        joined = await user.socket.join_room("external:order", since_seq=0)
        assert joined.room is not None
        assert joined.room.id == room.id
        said = await user.socket.send_message("external:order", "c")
        assert said.room_id == room.id
        assert (await user.socket.mark_read("external:order", seq=3)).unread == 0
        await user.socket.leave_room("external:order")
        await client.messages.create(room.id, content="d", user_id=ann.id)
        with pytest.raises(WebSocketError) as caught:
            await user.socket.join_room("external:none")
        assert caught.value.code == "room_not_found"
        await user.socket.disconnect()
    assert heard == [1, 2, 3]


def test_a_room_of_an_older_server_has_no_members() -> None:
    from chat_broker_sdk import Room

    room = Room.from_json(json.dumps({"id": "r", "name": "x"}).encode())
    assert (room.members, room.external_id, room.kind) == ((), None, "room")
