"""Sockets in a room hear of reactions and pins; those of others do not."""

import asyncio

from chat_broker_server.chat.message_lock import Actor
from tests.server.realtime.live_node import PID, LiveNode


async def test_a_reaction_is_told_with_whose_it_was(node: LiveNode) -> None:
    """The message as it is now, with `change`; to members alone."""
    alice, bob, eve = [await node.user(name) for name in ("alice", "bob", "eve")]
    room, other = await node.room(alice, bob), await node.room(eve)
    message = await node.chat.post(PID, room.id, alice.id, "hello")
    socket, stranger = await node.socket(bob, room), await node.socket(eve, other)
    actor = Actor(alice.id, by_token=True)
    reactions = await node.chat.react(PID, room.id, message.id, "👍", actor)
    (told,) = await socket.hears("messageUpdated")
    assert told["change"] == {
        "kind": "reaction",
        "user_id": alice.id,
        "emoji": "👍",
        "added": True,
    }
    assert told["reactions"] == [{"emoji": "👍", "count": 1, "user_ids": [alice.id]}]
    assert (told["rev"], told["content"]) == (1, "hello")
    assert [each.user_ids for each in reactions] == [[alice.id]]
    await node.chat.react(PID, room.id, message.id, "👍", actor)
    second = await node.chat.post(PID, room.id, alice.id, "two")
    await node.chat.pin(PID, room.id, second.id, actor)
    told = (await socket.hears("messageUpdated", 2))[1]
    assert told["change"] == {"kind": "pinned", "user_id": alice.id}
    assert told["pinned_by"] == alice.id
    assert stranger.payloads("messageUpdated") == []


async def test_many_who_react_at_once_are_told_as_few_states(node: LiveNode) -> None:
    """Each has all reactions up to its rev; the last one comes within a moment."""
    users = [await node.user(f"user{n}") for n in range(30)]
    room = await node.room(*users)
    message = await node.chat.post(PID, room.id, users[0].id, "hello")
    socket = await node.socket(users[0], room)
    await asyncio.gather(
        *(
            node.chat.react(PID, room.id, message.id, "👍", Actor(user.id, by_token=True))
            for user in users
        )
    )
    await socket.until(lambda: any(each["rev"] == 30 for each in socket.payloads("messageUpdated")))
    told = socket.payloads("messageUpdated")
    assert [each["reactions"][0]["count"] for each in told] == [each["rev"] for each in told]
    assert len(told) < 15
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 1, "sinceRev": 0})
    (changed,) = answer["changed"]
    assert changed["message"]["reactions"][0]["count"] == 30
    assert answer["own_reactions"] == {message.id: ["👍"]}
