"""`mine` tells a user's sockets what changed on their own side; what they have hidden is told no more."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from chat_broker_server.chat.messages import More
from chat_broker_server.chat.models import MineChanges, Room, User
from tests.server.realtime.live_node import PID, LiveNode
from tests.server.realtime.socket_client import Socket

Act = Callable[[LiveNode, Room, User, Socket], Awaitable[Any]]


async def knowing(node: LiveNode, user: User, *rooms: Room) -> Socket:
    """A socket of *user* that knows the event."""
    socket = await node.socket(user)
    for room in rooms:
        await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    return socket


async def told(node: LiveNode, room: Room, user: User) -> dict[str, Any]:
    """What the event should say now."""
    mine = await node.chat.mine(PID, room.id, user.id)
    totals = await node.chat.totals(PID, user.id)
    payload = {"room_id": room.id, "mine": mine, "totals": totals}
    found: dict[str, Any] = msgspec.to_builtins(payload)
    return found


ACTS: dict[str, Act] = {
    "read": lambda node, room, user, _: node.chat.mark_read(PID, room.id, user.id, 1),
    "read over a socket": lambda _node, room, _, socket: socket.call(
        "markRead", {"roomId": room.id, "seq": 1}
    ),
    "delivered": lambda node, room, user, _: node.chat.mark_delivered(PID, room.id, user.id, 1),
    "delivered over a socket": lambda _node, room, _, socket: socket.call(
        "markDelivered", {"roomId": room.id, "seq": 1}
    ),
    "some rooms": lambda node, room, user, _: node.chat.mark_rooms_read(PID, user.id, {room.id: 1}),
    "all rooms": lambda node, _room, user, _: node.chat.mark_all_read(PID, user.id),
    "settings": lambda node, room, user, _: node.chat.update_mine(
        PID, room.id, user.id, MineChanges(archived="yes")
    ),
    "role": lambda node, room, user, _: node.chat.put_member(PID, room.id, user.id, role="owner"),
}


@pytest.mark.parametrize("name", ACTS)
async def test_every_change_of_the_own_side_is_told(node: LiveNode, name: str) -> None:
    """To sockets of this user that know the event, on whichever device it was made; once, and to nobody else."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room, other = await node.room(alice, bob), await node.room(bob)
    old = await node.socket(bob, room)
    here, elsewhere = await knowing(node, bob, room), await knowing(node, bob, other)
    others = await knowing(node, alice, room)
    await node.chat.post(PID, room.id, alice.id, "one")
    await ACTS[name](node, room, bob, here)
    for socket in (here, elsewhere):
        (payload,) = await socket.hears("mine")
        assert payload == await told(node, room, bob)
        assert payload["mine"]["version"] == 1
    await ACTS[name](node, room, bob, here)
    for socket in (old, here, elsewhere, others):
        await socket.quiet()
    assert old.payloads("mine") == others.payloads("mine") == []
    assert len(here.payloads("mine")) == 1


async def test_many_changes_are_told_as_the_last_one(node: LiveNode) -> None:
    """A client that marks message after message does not make as many reads."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await knowing(node, bob, room)
    for seq in range(1, 31):
        await node.chat.post(PID, room.id, alice.id, "x")
        await node.chat.mark_read(PID, room.id, bob.id, seq)
    await socket.until(
        lambda: socket.payloads("mine") and socket.payloads("mine")[-1]["mine"]["version"] == 30
    )
    assert socket.payloads("mine")[-1] == await told(node, room, bob)
    assert len(socket.payloads("mine")) < 15


async def test_blocks_say_that_everything_is_to_be_read_anew(node: LiveNode) -> None:
    """To the sockets of the user who blocks, and only if that changed something. The blocked user is not told."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    old = await node.socket(bob, room)
    sockets = [await knowing(node, bob, room), await knowing(node, bob)]
    sockets[1] = await knowing(node, bob, await node.room(bob))
    hers = await knowing(node, alice, room)
    for act in (node.chat.block, node.chat.block, node.chat.unblock, node.chat.unblock):
        await act(PID, bob.id, alice.id)
    for socket in sockets:
        assert await socket.hears("mine", 2) == [{"reload": True}] * 2
    for socket in (old, hers, *sockets):
        await socket.quiet()
    assert old.payloads("mine") == hers.payloads("mine") == []
    assert [len(socket.payloads("mine")) for socket in sockets] == [2, 2]


async def test_changes_of_hidden_messages_are_told_no_more(node: LiveNode) -> None:
    """To this user alone, at once, and to sockets that join later."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first = await node.chat.post(PID, room.id, alice.id, "one")
    sockets = [await node.socket(bob, room), await knowing(node, bob, room)]
    hers = await node.socket(alice, room)
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    sockets.append(await knowing(node, bob, room))
    later = await node.chat.post(PID, room.id, alice.id, "two")
    for message in (first, later):
        await node.chat.edit(PID, room.id, message.id, "edited", by=None)
    for message in (first, later):
        await node.chat.delete_message(PID, room.id, message.id, by=None)
    for socket in sockets:
        await socket.hears("messageDeleted")
        for event in ("messageUpdated", "messageDeleted"):
            assert [payload["seq"] for payload in socket.payloads(event)] == [2]
    await hers.hears("messageDeleted", 2)
    assert [payload["seq"] for payload in hers.payloads("messageUpdated")] == [1, 2]


async def test_what_hidden_messages_said_is_not_quoted_to_who_has_hidden_them(
    node: LiveNode,
) -> None:
    """Neither in the event of a reply nor of its edit, joined before or after; others get the whole quote."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first = await node.chat.post(PID, room.id, alice.id, "secret")
    sockets = [await node.socket(bob, room), await knowing(node, bob, room)]
    hers = await node.socket(alice, room)
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    sockets.append(await knowing(node, bob, room))
    plain = await node.chat.post(PID, room.id, alice.id, 'no "reply_to":{"id":1} at all')
    replies = [
        await node.chat.post(PID, room.id, alice.id, "reply", more=More(quoted.id))
        for quoted in (first, plain)
    ]
    await node.chat.edit(PID, room.id, replies[0].id, "edited", by=None)
    for socket in (*sockets, hers):
        messages = await socket.hears("message", 3)
        (edited,) = await socket.hears("messageUpdated")
        quotes = [message.get("reply_to", {}).get("content") for message in (*messages, edited)]
        shown = "secret" if socket is hers else ""
        assert quotes == [None, shown, plain.content, shown]
        assert [message["content"] for message in messages[1:]] == ["reply", "reply"]


async def test_an_edit_tells_those_whom_it_names(node: LiveNode) -> None:
    """Users whom it adds or takes away get `mine`; who was named before hears nothing new."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    room = await node.room(alice, bob, carol)
    message = await node.chat.post(PID, room.id, alice.id, "x", more=More(mentions=[bob.id]))
    his, hers = await knowing(node, bob, room), await knowing(node, carol, room)
    both = [bob.id, carol.id]
    await node.chat.edit(PID, room.id, message.id, mentions=both, by=alice.id)
    (told,) = await hers.hears("mine")
    assert (told["mine"]["mentions"], told["totals"]["mentions"]) == (1, 1)
    (updated,) = await his.hears("messageUpdated")
    assert updated["mentions"] == both
    await his.quiet()
    assert his.payloads("mine") == []


async def test_who_leaves_and_comes_back_sees_everything_again(node: LiveNode) -> None:
    """The hidden part belonged to the membership that ended."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first = await node.chat.post(PID, room.id, alice.id, "one")
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    socket = await knowing(node, bob, room)
    await node.chat.remove_member(PID, room.id, bob.id)
    await socket.quiet()
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 0})
    assert answer["mine"]["from_seq"] == 1
    await node.chat.edit(PID, room.id, first.id, "edited", by=None)
    (payload,) = await socket.hears("messageUpdated")
    assert payload["seq"] == 1
