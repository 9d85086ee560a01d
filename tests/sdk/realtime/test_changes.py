"""What changed while a connection was lost, over the Chat API in memory and over the real server."""

import asyncio

from chat_broker_sdk import AsyncChatClient, Member, Message, Room
from chat_broker_sdk._async.realtime import AsyncChatSocket
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.realtime.test_socket import until


class Listener:
    """A user's socket, and what its handlers are told."""

    def __init__(self, client: AsyncChatClient, token: str) -> None:
        self.me = client.as_user(token)
        self.token = token
        self.told: list[tuple[str, object]] = []
        socket = self.socket = self.me.socket
        socket.on_message(lambda m: self.told.append(("message", m.content)))
        socket.on_message_updated(lambda m: self.told.append(("updated", m.content)))
        socket.on_message_deleted(lambda m: self.told.append(("deleted", m.seq)))
        socket.on_room_updated(lambda r: self.told.append(("room", r.name)))
        socket.on_user_joined(lambda e: self.told.append(("joined", e.username)))
        socket.on_user_left(lambda e: self.told.append(("left", e.user_id)))
        socket.on_member_updated(self._member)
        socket.on_reset(self._reset)

    def _member(self, member: Member) -> None:
        self.told.append(("member", (member.username, member.role)))

    def _reset(self, room: Room, messages: tuple[Message, ...]) -> None:
        self.told.append(("reset", (room.id, [each.content for each in messages])))


async def scene(client: AsyncChatClient) -> tuple[Listener, str, str, str]:
    """Bob listens to Ann's room, in which she has said "one" and "two". His socket, the room, Ann and Bob."""
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    room = await client.rooms.create(name="Room", created_by=ann.id, member_ids=[bob.id])
    for text in ("one", "two"):
        await client.messages.create(room.id, content=text, user_id=ann.id)
    listener = Listener(client, (await client.users.generate_token(bob.id)).token)
    await listener.socket.connect()
    return listener, room.id, ann.id, bob.id


async def cut(socket: AsyncChatSocket) -> None:
    """Break the connection; it comes back by itself."""
    ended: list[str] = []
    socket.on_disconnect(ended.append)
    wire = socket._connection._wire
    assert wire is not None
    await wire.close()
    await until(lambda: ended)


async def test_what_changed_meanwhile_comes_once_in_order(client: AsyncChatClient) -> None:
    bob, room, ann, _ = await scene(client)
    joined = await bob.socket.join_room(room, since_seq=0)
    assert joined.rev == 0
    assert joined.epoch
    await until(lambda: bob.told == [("message", "one"), ("message", "two")])
    first, second = (await client.messages.list(room, after=0)).items
    await client.messages.update(room, first.id, content="live")
    await until(lambda: bob.told[-1] == ("updated", "live"))
    bob.told.clear()
    await bob.socket.disconnect()
    await client.messages.update(room, first.id, content="a")
    await client.messages.update(room, first.id, content="b")
    await client.messages.create(room, content="three", user_id=ann)
    await client.messages.delete(room, second.id)
    await client.rooms.update(room, name="New")
    await bob.socket.connect()
    await bob.socket.join_room(room, since_seq=2, since_rev=1, epoch=joined.epoch)
    await client.messages.update(room, first.id, content="live again")
    expected = [
        ("message", "three"),
        ("updated", "b"),
        ("deleted", 2),
        ("room", "New"),
        ("updated", "live again"),
    ]
    await until(lambda: len(bob.told) >= len(expected))
    assert bob.told == expected
    await bob.me.aclose()


async def test_the_socket_remembers_where_it_was(client: AsyncChatClient) -> None:
    """A lost connection is joined again from the last message and change on."""
    bob, room, _ann, bob_id = await scene(client)
    await bob.socket.join_room(room)
    (first, _) = (await client.messages.list(room, after=0)).items
    await client.messages.update(room, first.id, content="before")
    await until(lambda: bob.told == [("updated", "before")])
    await client.rooms.put_member(room, bob_id, role="owner")
    await until(lambda: bob.told[-1] == ("member", ("bob", "owner")))
    bob.told.clear()
    await cut(bob.socket)
    await client.messages.update(room, first.id, content="meanwhile")
    await until(lambda: bob.told == [("updated", "meanwhile")])
    await client.messages.update(room, first.id, content="after")
    await until(lambda: len(bob.told) > 1)
    assert bob.told == [("updated", "meanwhile"), ("updated", "after")]
    await bob.me.aclose()


async def test_another_epoch_throws_the_copy_away(client: AsyncChatClient) -> None:
    bob, room, ann, _ = await scene(client)
    await bob.socket.join_room(room, since_seq=7, since_rev=3, epoch="of another database")
    await until(lambda: bob.told == [("reset", (room, ["one", "two"]))])
    await client.messages.create(room, content="three", user_id=ann)
    await until(lambda: len(bob.told) > 1)
    assert bob.told[1:] == [("message", "three")]
    await bob.me.aclose()


async def test_members_who_came_and_went_meanwhile(client: AsyncChatClient) -> None:
    bob, room, _ann, _ = await scene(client)
    eve = await client.users.create(username="eve", external_user_id="3")
    joined = await bob.socket.join_room(room)
    await bob.socket.disconnect()
    await client.rooms.join(room, user_id=eve.id)
    await bob.socket.connect()
    second = await bob.socket.join_room(room, since_seq=2, since_rev=joined.rev)
    await until(lambda: bob.told == [("member", ("eve", "member"))])
    await bob.socket.disconnect()
    await client.rooms.leave(room, user_id=eve.id)
    await bob.socket.connect()
    await bob.socket.join_room(room, since_seq=2, since_rev=second.rev)
    await until(lambda: bob.told[1:] == [("left", eve.id)])
    await bob.me.aclose()


async def test_a_change_of_the_room_has_its_own_rev(client: AsyncChatClient) -> None:
    """Not the room's: an application that resumes from the last rev it heard would miss what came after that change."""
    bob, room, _ann, _ = await scene(client)
    revs: list[int | None] = []
    bob.socket.on_room_updated(lambda updated: revs.append(updated.rev))
    joined = await bob.socket.join_room(room)
    await bob.socket.disconnect()
    await client.rooms.update(room, name="New")
    (first, _) = (await client.messages.list(room, after=0)).items
    await client.messages.update(room, first.id, content="later")
    await bob.socket.connect()
    await bob.socket.join_room(room, since_seq=2, since_rev=joined.rev)
    await until(lambda: bob.told == [("room", "New"), ("updated", "later")])
    assert revs == [(joined.rev or 0) + 1]
    await bob.me.aclose()


async def test_hidden_history_is_not_waited_for(client: AsyncChatClient) -> None:
    """A join from before the first message that the user sees lacks nothing that the server could still send."""
    bob, room, ann, bob_id = await scene(client)
    await client.rooms.update_mine(room, user_id=bob_id, clear_history=True)
    await bob.socket.join_room(room, since_seq=0, since_rev=0)
    assert not bob.socket._feeds[room].is_behind
    await client.messages.create(room, content="three", user_id=ann)
    await until(lambda: bob.told == [("message", "three")])
    await bob.me.aclose()


async def test_a_room_that_is_joined_again_meanwhile_is_told_once(client: AsyncChatClient) -> None:
    """Whichever of the two joins is answered first."""
    bob, room, ann, _ = await scene(client)
    await asyncio.gather(*[bob.socket.join_room(room, since_seq=0) for _ in range(3)])
    await client.messages.create(room, content="three", user_id=ann)
    await until(lambda: bob.told[-1:] == [("message", "three")])
    assert bob.told == [("message", "one"), ("message", "two"), ("message", "three")]
    await bob.me.aclose()


async def test_who_joins_with_a_role_is_told_with_it(client: AsyncChatClient) -> None:
    """It is one event; a plain member's has no role."""
    bob, room, _ann, _ = await scene(client)
    eve = await client.users.create(username="eve", external_user_id="3")
    dan = await client.users.create(username="dan", external_user_id="4")
    roles: list[str | None] = []
    bob.socket.on_user_joined(lambda event: roles.append(event.role))
    await bob.socket.join_room(room)
    await client.rooms.put_member(room, eve.id, role="owner")
    await client.rooms.put_member(room, dan.id)
    await until(lambda: len(roles) == 2)
    assert roles == ["owner", None]
    await bob.me.aclose()


async def test_more_changes_than_one_answer_holds_are_fetched_in_steps(
    client: AsyncChatClient,
) -> None:
    bob, room, ann, _ = await scene(client)
    await bob.socket.disconnect()
    posted = [await client.messages.create(room, content="x", user_id=ann) for _ in range(203)]
    for message in posted:
        await client.messages.update(room, message.id, content=str(message.seq))
    await bob.socket.connect()
    await bob.socket.join_room(room, since_seq=205, since_rev=0)
    await until(lambda: len(bob.told) >= 203, within=20)
    assert bob.told == [("updated", str(seq)) for seq in range(3, 206)]
    await bob.me.aclose()


async def test_a_server_without_changes_is_joined_as_ever() -> None:
    fake = FakeChatApi(features=())
    async with fake.client() as client:
        bob, room, _, _ = await scene(client)
        joined = await bob.socket.join_room(room)
        assert joined.rev is None
        fake.disconnect("server_restarting")
        (first, _) = (await client.messages.list(room, after=0)).items
        await until(lambda: bob.socket.connected and fake.live.online(room) == 1)
        await client.messages.update(room, first.id, content="x")
        await until(lambda: bob.told == [("updated", "x")])
        await bob.me.aclose()
