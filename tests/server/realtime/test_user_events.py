"""`userUpdated` tells a user's new names and picture to those who see the user."""

from typing import Any

from chat_broker_server.chat.models import Room, User, UserChanges
from tests.server.realtime.live_node import PID, LiveNode
from tests.server.realtime.socket_client import Socket


async def knowing(node: LiveNode, user: User, room: Room, **more: Any) -> Socket:
    """A socket of *user* that knows the event, in *room*."""
    socket = await node.socket(user)
    await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0, **more})
    return socket


async def test_new_names_and_pictures_are_told_in_small_rooms(node: LiveNode) -> None:
    """Once to each socket, however many rooms it shares with the user; neither to old clients nor in rooms without them."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room, second = await node.room(alice, bob), await node.room(alice, bob)
    other = await node.room(bob)
    hers = await knowing(node, alice, room)
    await hers.call("joinRoom", {"roomId": second.id, "sinceRev": 0})
    his_own, elsewhere = await knowing(node, bob, room), await knowing(node, alice, room)
    await elsewhere.call("leaveRoom", room.id)
    old = await node.socket(alice, room)
    outside = await knowing(node, bob, other)
    await node.chat.update_user(
        PID, bob.id, UserChanges(display_name="Bob", avatar_url="https://example.com/b.png")
    )
    expected = {
        "id": bob.id,
        "username": "bob",
        "display_name": "Bob",
        "avatar_url": "https://example.com/b.png",
    }
    for socket in (hers, his_own, outside):
        assert await socket.hears("userUpdated") == [expected]
    for socket in (hers, old, elsewhere):
        await socket.quiet()
    assert len(hers.payloads("userUpdated")) == 1
    assert old.payloads("userUpdated") == elsewhere.payloads("userUpdated") == []


async def test_what_others_do_not_see_is_not_told(node: LiveNode) -> None:
    """An address, metadata, a name that stays as it was."""
    alice, bob = await node.user("alice"), await node.user("bob")
    socket = await knowing(node, alice, await node.room(alice, bob))
    for changes in (
        UserChanges(email="bob@example.com"),
        UserChanges(metadata={"plan": "gold"}),
        UserChanges(username="bob", display_name=None, avatar_url=None),
    ):
        await node.chat.update_user(PID, bob.id, changes)
    await socket.quiet()
    assert socket.payloads("userUpdated") == []


async def test_many_changes_of_one_user_are_told_as_the_last_one(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    socket = await knowing(node, alice, await node.room(alice, bob))
    for number in range(20):
        await node.chat.update_user(PID, bob.id, UserChanges(display_name=f"Bob {number}"))
    await socket.until(lambda: "Bob 19" in str(socket.payloads("userUpdated")))
    assert len(socket.payloads("userUpdated")) <= 3
    assert socket.payloads("userUpdated")[-1]["display_name"] == "Bob 19"


async def test_large_rooms_are_not_told(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    others = [await node.user(f"user{number}") for number in range(99)]
    large = await node.room(alice, bob, *others)
    assert not large.small
    socket = await knowing(node, alice, large)
    await node.chat.update_user(PID, bob.id, UserChanges(display_name="Bob"))
    await socket.quiet()
    assert socket.payloads("userUpdated") == []


async def test_who_watches_a_user_is_told_without_a_joined_room(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.room(alice, bob)
    socket = await node.socket(alice)
    await socket.call("watchPresence", {"userIds": [bob.id]})
    await node.chat.update_user(PID, bob.id, UserChanges(display_name="Bob"))
    (told,) = await socket.hears("userUpdated")
    assert (told["id"], told["display_name"]) == (bob.id, "Bob")
