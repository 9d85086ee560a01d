"""Roles and histories as sockets meet them."""

from typing import Any

from chat_broker_server.chat.models import Room, RoomChanges, User
from tests.server.realtime.live_node import PID, LiveNode
from tests.server.realtime.socket_client import Socket


async def joined(node: LiveNode, user: User, room: Room, **more: Any) -> tuple[Socket, Any]:
    """A socket of *user* that has joined, and what it was answered."""
    socket = await node.socket(user)
    return socket, await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0, **more})


async def from_joining(node: LiveNode, *members: User) -> Room:
    """A room with two messages whose newcomers see nothing from before."""
    room = await node.room(*members)
    for content in ("one", "two"):
        await node.chat.post(PID, room.id, members[0].id, content)
    return await node.chat.update_room(PID, room.id, RoomChanges(settings={"history": "joined"}))


async def test_who_joins_with_a_socket_hears_nothing_of_before(node: LiveNode) -> None:
    """Neither in the answer nor of an edit or a deletion; who was there before hears all."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await from_joining(node, alice)
    old = (await node.chat.messages_page(PID, room.id)).items
    elder, _ = await joined(node, alice, room)
    newcomer, answer = await joined(node, bob, room, sinceSeq=0, epoch="another")
    assert (answer["ok"], answer["missed"], answer["changed"]) == (True, [], [])
    assert (answer["mine"]["from_seq"], answer["mine"]["unread"]) == (3, 0)
    await node.chat.edit(PID, room.id, old[0].id, "edited", by=None)
    await node.chat.delete_message(PID, room.id, old[1].id, by=None)
    await node.chat.post(PID, room.id, alice.id, "three")
    await newcomer.hears("message")
    await elder.hears("messageUpdated")
    await elder.hears("messageDeleted")
    assert newcomer.payloads("messageUpdated") == newcomer.payloads("messageDeleted") == []


async def test_who_peeks_sees_what_a_newcomer_would(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await from_joining(node, alice)
    old = (await node.chat.messages_page(PID, room.id)).items
    for known in ({}, {"sinceSeq": 0}, {"sinceSeq": 1}, {"sinceSeq": 0, "epoch": "another"}):
        socket, answer = await joined(node, bob, room, peek=True, **known)
        assert (answer["mine"], answer["missed"]) == (None, []), known
        assert not [each for each in answer["changed"] if each["kind"] == "message"]
    await node.chat.edit(PID, room.id, old[0].id, "edited", by=None)
    await node.chat.post(PID, room.id, alice.id, "three")
    await socket.hears("message")
    assert socket.payloads("messageUpdated") == []


async def test_who_comes_back_is_a_newcomer_also_on_the_same_socket(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await from_joining(node, alice, bob)
    old = (await node.chat.messages_page(PID, room.id)).items
    socket, answer = await joined(node, bob, room)
    assert answer["mine"]["from_seq"] == 1
    await node.chat.leave(PID, room.id, bob.id)
    await node.chat.join(PID, room.id, bob.id, may_enter_private=False)
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0, "sinceSeq": 0})
    assert (answer["mine"]["from_seq"], answer["missed"]) == (3, [])
    await node.chat.edit(PID, room.id, old[0].id, "edited", by=None)
    await node.chat.post(PID, room.id, alice.id, "three")
    await socket.hears("message")
    assert socket.payloads("messageUpdated") == []


async def test_the_next_owner_is_told_to_all_and_their_own_side_to_them(node: LiveNode) -> None:
    alice, bob, carl = [await node.user(name) for name in ("alice", "bob", "carl")]
    room = await node.room(alice, bob, carl)
    await node.chat.put_member(PID, room.id, carl.id, role="moderator")
    heir, _ = await joined(node, carl, room)
    other, _ = await joined(node, bob, room)
    await node.chat.leave(PID, room.id, alice.id)
    for socket in (heir, other):
        (left,), (updated,) = await socket.hears("userLeft"), await socket.hears("memberUpdated")
        assert left["user_id"] == alice.id
        assert (updated["user_id"], updated["role"]) == (carl.id, "owner")
        assert updated["rev"] == left["rev"] + 1
    (mine,) = await heir.hears("mine")
    assert mine["mine"]["role"] == "owner"
    assert other.payloads("mine") == []


async def test_guests_do_not_post_over_a_socket(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    await node.chat.put_member(PID, room.id, bob.id, role="guest")
    socket, answer = await joined(node, bob, room)
    assert answer["mine"]["role"] == "guest"
    refusal = await socket.call("sendMessage", {"roomId": room.id, "content": "x"})
    assert (refusal["ok"], refusal["error"]["code"]) == (False, "read_only")


async def test_changed_settings_are_told(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket, _ = await joined(node, alice, room)
    await node.chat.update_room(PID, room.id, RoomChanges(settings={"slow_mode": 5}))
    (updated,) = await socket.hears("roomUpdated")
    assert updated["settings"] == {"slow_mode": 5}
