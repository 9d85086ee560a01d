"""Events of clients about rooms that they name by the app's own id."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_broker_server.chat.models import Room, RoomDraft, User
from tests.server.realtime.live_node import PID, LiveNode, running_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with running_node(f"sqlite:///{tmp_path / 'chat.db'}") as node:
        yield node


async def room_named(node: LiveNode, owner: User, *, private: bool = False) -> Room:
    draft = RoomDraft(name="a", created_by=owner.id, private=private, external_id="order:7@x.y~z")
    return await node.chat.create_room(PID, draft)


async def test_every_event_takes_the_apps_own_id(node: LiveNode) -> None:
    """What is told names the room by its id, as ever."""
    alice = await node.user("alice")
    room = await room_named(node, alice)
    name = f"external:{room.external_id}"
    by_id, by_name = await node.socket(alice, room), await node.socket(alice)
    joined = await by_name.call("joinRoom", {"roomId": name, "sinceSeq": 0, "sinceRev": 0})
    assert joined["room"]["id"] == room.id
    assert joined["room"]["external_id"] == room.external_id
    said = await by_name.call("sendMessage", name, "hello")
    assert said["message"]["room_id"] == room.id
    assert await by_name.hears("message") == await by_id.hears("message") == [said["message"]]
    read = await by_name.call("markRead", {"roomId": name, "seq": 1})
    assert read == {"ok": True, "last_read_seq": 1, "unread": 0}
    delivered = await by_name.call("markDelivered", {"roomId": name, "seq": 1})
    assert delivered == {"ok": True, "delivered_seq": 1}
    bob = await node.user("bob")
    bobs = await node.socket(bob)
    assert (await bobs.call("joinRoom", {"roomId": name, "peek": True}))["ok"]
    assert (await by_name.call("startTyping", name))["ok"]
    assert (await bobs.hears("userTyping"))[0]["room_id"] == room.id
    assert (await by_name.call("stopTyping", name))["ok"]
    assert (await bobs.call("leaveRoom", name))["ok"]
    await by_name.call("sendMessage", room.id, "more")
    await by_id.hears("message", 2)
    assert bobs.payloads("message") == []


async def test_a_stranger_does_not_learn_which_ids_are_taken(node: LiveNode) -> None:
    """Every event about a private room is acknowledged as one about no room."""
    alice, eve = await node.user("alice"), await node.user("eve")
    room = await room_named(node, alice, private=True)
    socket = await node.socket(eve)
    for event, more in (
        ("joinRoom", {}),
        ("joinRoom", {"sinceSeq": 0}),
        ("joinRoom", {"peek": True}),
        ("sendMessage", {"content": "x"}),
        ("sendMessage", {"content": ""}),
        ("markRead", {"seq": 1}),
        ("markDelivered", {"seq": 1}),
        ("leaveRoom", None),
        ("startTyping", None),
    ):
        answers = []
        for name in (f"external:{room.external_id}", "external:never", "none"):
            arguments = name if more is None else {"roomId": name, **more}
            answers.append(await socket.call(event, arguments))
        assert answers[0] == answers[1] == answers[2], event


async def test_an_external_id_may_be_as_long_as_one_may_be(node: LiveNode) -> None:
    alice = await node.user("alice")
    draft = RoomDraft(name="a", created_by=alice.id, external_id="x" * 128)
    room = await node.chat.create_room(PID, draft)
    socket = await node.socket(alice)
    assert (await socket.call("joinRoom", f"external:{'x' * 128}"))["room"]["id"] == room.id
    too_long = await socket.call("joinRoom", f"external:{'x' * 129}")
    assert too_long["error"]["code"] == "invalid_arguments"


async def test_a_message_that_nobody_would_read_is_refused(node: LiveNode) -> None:
    """In a direct room whose other members are deleted."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room, _ = await node.chat.ensure_direct(PID, [alice.id, bob.id])
    socket = await node.socket(alice, room)
    assert (await socket.call("sendMessage", room.id, "hello"))["ok"]
    await node.chat.delete_user(PID, bob.id)
    refused = await socket.call("sendMessage", room.id, "there?")
    assert refused["error"]["code"] == "nobody_there"
    joined = await socket.call("joinRoom", room.id)
    assert [user["id"] for user in joined["room"]["members"]] == [alice.id]
