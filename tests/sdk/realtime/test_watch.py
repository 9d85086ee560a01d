"""Watching all rooms, over the Chat API in memory and over the real server."""

import asyncio
from typing import Any

import pytest

from chat_broker_sdk import AsyncChatClient, UnsupportedOperationError
from chat_broker_sdk._realtime import delivery_marks
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.realtime.test_changes import cut
from tests.sdk.realtime.test_socket import until


class RoomList:
    """A list of rooms, kept by handlers alone."""

    def __init__(self, client: AsyncChatClient, token: str) -> None:
        self.me = client.as_user(token)
        self.rooms: dict[str, tuple[int, int | None]] = {}
        self.told: list[tuple[str, Any]] = []
        socket = self.socket = self.me.socket
        socket.on_room_added(self._added)
        socket.on_room_removed(self._removed)
        socket.on_room_activity(self._activity)
        socket.on_mine(self._mine)

    def _added(self, delta: Any) -> None:
        self.told.append(("added", delta.room.id))
        self.rooms[delta.room.id] = delta.last_seq, delta.mine.unread

    def _removed(self, event: Any) -> None:
        self.told.append(("removed", event.room_id, event.reason))
        del self.rooms[event.room_id]

    def _activity(self, event: Any) -> None:
        self.told.append(("activity", event.room_id))
        self.rooms[event.room_id] = event.last_seq, event.unread

    def _mine(self, event: Any) -> None:
        self.told.append(("mine", event.room_id))
        self.rooms[event.room_id] = self.rooms[event.room_id][0], event.mine.unread


async def scene(client: AsyncChatClient) -> tuple[RoomList, str, str]:
    """Bob's list of rooms, connected, Ann's id and Bob's."""
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    rooms = RoomList(client, (await client.users.generate_token(bob.id)).token)
    await rooms.socket.connect()
    return rooms, ann.id, bob.id


async def test_a_list_of_rooms_is_never_stale(client: AsyncChatClient) -> None:
    """Rooms that come and go, what is said, and marks of another device; over a lost connection too."""
    rooms, ann, bob = await scene(client)
    one = (await client.rooms.create(name="one", created_by=ann, member_ids=[bob])).id
    answer = await rooms.socket.watch_rooms()
    assert ([each.room.id for each in answer.deltas], answer.has_more) == ([one], False)
    await until(lambda: rooms.told == [("added", one)])
    await client.messages.create(one, content="hello", user_id=ann)
    await until(lambda: rooms.rooms[one] == (1, 1))
    await client.rooms.mark_read(one, seq=1, user_id=bob)
    await until(lambda: rooms.rooms[one] == (1, 0))
    two = (await client.rooms.create(name="two", created_by=ann, member_ids=[bob])).id
    three = (await client.rooms.create(name="three", created_by=ann)).id
    await client.rooms.join(three, user_id=bob)
    await until(lambda: rooms.rooms.keys() == {one, two, three})
    await client.rooms.leave(two, user_id=bob)
    await client.rooms.delete(three)
    await until(lambda: rooms.rooms.keys() == {one})
    assert ("removed", two, "left") in rooms.told
    assert ("removed", three, "deleted") in rooms.told
    rooms.told.clear()
    await cut(rooms.socket)
    await client.rooms.update(one, name="a new name")
    await client.messages.create(one, content="again", user_id=ann)
    four = (await client.rooms.create(name="four", created_by=ann, member_ids=[bob])).id
    await until(lambda: rooms.rooms.get(one) == (2, 1) and four in rooms.rooms)
    assert ("added", one) in rooms.told
    await rooms.me.aclose()


async def test_a_room_that_went_while_the_connection_was_lost_is_removed(
    client: AsyncChatClient,
) -> None:
    rooms, ann, bob = await scene(client)
    room = (await client.rooms.create(name="one", created_by=ann, member_ids=[bob])).id
    await rooms.socket.watch_rooms()
    await until(lambda: room in rooms.rooms)
    await cut(rooms.socket)
    await client.rooms.remove_member(room, bob)
    await until(lambda: room not in rooms.rooms)
    await rooms.me.aclose()


async def test_pages_are_asked_for_one_by_one(client: AsyncChatClient) -> None:
    rooms, ann, bob = await scene(client)
    ids = set()
    for number in range(5):
        room = await client.rooms.create(name=str(number), created_by=ann, member_ids=[bob])
        ids.add(room.id)
    answer = await rooms.socket.watch_rooms(limit=2)
    pages = 1
    while answer.has_more:
        answer = await rooms.socket.watch_rooms(cursor=answer.cursor)
        pages += 1
    assert pages == 3
    await until(lambda: rooms.rooms.keys() == ids)
    assert answer.token
    same = await rooms.socket.watch_rooms(
        have=dict.fromkeys(ids, (0, 0, 0)), epoch=answer.epoch, token=answer.token
    )
    assert (same.deltas, same.removed) == ((), ())
    await rooms.me.aclose()


async def test_a_joined_room_tells_messages_and_no_activity(client: AsyncChatClient) -> None:
    rooms, ann, bob = await scene(client)
    room = (await client.rooms.create(name="one", created_by=ann, member_ids=[bob])).id
    await rooms.socket.watch_rooms()
    heard: list[str] = []
    rooms.socket.on_message(lambda message: heard.append(message.content))
    await rooms.socket.join_room(room)
    await client.messages.create(room, content="hello", user_id=ann)
    await until(lambda: heard == ["hello"])
    await rooms.socket.leave_room(room)
    await client.messages.create(room, content="later", user_id=ann)
    await until(lambda: ("activity", room) in rooms.told)
    assert (heard, rooms.told.count(("activity", room))) == (["hello"], 1)
    await rooms.me.aclose()


async def test_deliver_all_and_unwatch(client: AsyncChatClient) -> None:
    rooms, ann, bob = await scene(client)
    first = (await client.rooms.create(name="one", created_by=ann, member_ids=[bob])).id
    heard: list[str] = []
    rooms.socket.on_message(lambda message: heard.append(message.content))
    await rooms.socket.watch_rooms(deliver="all")
    second = (await client.rooms.create(name="two", created_by=ann, member_ids=[bob])).id
    await until(lambda: second in rooms.rooms)
    for room in (first, second):
        await client.messages.create(room, content=room, user_id=ann)
    await until(lambda: heard == [first, second])
    await rooms.socket.unwatch_rooms()
    await client.messages.create(first, content="unheard", user_id=ann)
    await rooms.socket.join_room(second)
    await client.messages.create(second, content="last", user_id=ann)
    await until(lambda: heard[-1] == "last")
    assert "unheard" not in heard
    await rooms.me.aclose()


async def test_what_has_arrived_is_marked_as_delivered(
    client: AsyncChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word of the application: in joined rooms, and in those that are watched; at most once a second."""
    monkeypatch.setattr(delivery_marks, "PAUSE", 0.3)
    rooms, ann, bob = await scene(client)
    joined, watched = [
        (await client.rooms.create(name=name, created_by=ann, member_ids=[bob])).id
        for name in ("one", "two")
    ]
    await rooms.socket.watch_rooms()
    await rooms.socket.join_room(joined)
    for _ in range(20):
        await client.messages.create(joined, content="x", user_id=ann)
    await client.messages.create(watched, content="x", user_id=ann)

    async def delivered(room: str) -> int:
        return (await client.rooms.mine(room, user_id=bob)).delivered_seq

    async with asyncio.timeout(30):
        while (await delivered(joined), await delivered(watched)) != (20, 1):  # noqa: ASYNC110 - the server's state
            await asyncio.sleep(0.05)
    assert (await client.rooms.mine(joined, user_id=bob)).version <= 5
    await rooms.me.aclose()


async def test_peeking_makes_no_member(client: AsyncChatClient) -> None:
    rooms, ann, _ = await scene(client)
    room = (await client.rooms.create(name="open", created_by=ann)).id
    heard: list[str] = []
    rooms.socket.on_message(lambda message: heard.append(message.content))
    joined = await rooms.socket.join_room(room, peek=True)
    assert joined.mine is None
    await client.messages.create(room, content="hello", user_id=ann)
    await until(lambda: heard == ["hello"])
    members = [each.user_id for each in (await client.rooms.members(room)).items]
    assert members == [ann]
    await rooms.me.aclose()


async def test_changes_of_messages_before_from_seq_are_not_told(client: AsyncChatClient) -> None:
    rooms, ann, bob = await scene(client)
    room = (await client.rooms.create(name="one", created_by=ann, member_ids=[bob])).id
    ids = [(await client.messages.create(room, content="x", user_id=ann)).id for _ in range(3)]
    heard: list[int | None] = []
    rooms.socket.on_message_updated(lambda message: heard.append(message.seq))
    for message in ids:
        await client.messages.update(room, message, content="y")
    await rooms.socket.join_room(room, since_seq=3, since_rev=0, from_seq=2)
    await until(lambda: heard == [2, 3])
    await rooms.me.aclose()


async def test_a_server_without_sync_does_not_offer_it() -> None:
    async with FakeChatApi(features=()).client() as client:
        rooms, _, _ = await scene(client)
        with pytest.raises(UnsupportedOperationError) as caught:
            await rooms.socket.watch_rooms()
        assert (caught.value.code, caught.value.feature) == ("unsupported", "sync")
        await rooms.me.aclose()


def test_a_synchronous_list_of_rooms() -> None:
    fake = FakeChatApi()
    with fake.sync_client() as client:
        ann = client.users.create(username="ann", external_user_id="1")
        room = client.rooms.create(name="one", created_by=ann.id)
        with client.as_user(client.users.generate_token(ann.id).token) as me:
            me.socket.connect()
            answer = me.socket.watch_rooms()
            assert [each.room.id for each in answer.deltas] == [room.id]
            assert me.socket.mark_delivered(room.id, seq=0).delivered_seq == 0
            assert me.socket.join_room(room.id, peek=True).room is not None
            me.socket.unwatch_rooms()
