"""Sockets in a direct room of two of whom one blocks the other: nothing is said, in whatever form."""

import pytest

from tests.server.realtime.live_node import PID, LiveNode
from tests.server.realtime.test_user_events import knowing


@pytest.mark.parametrize("blocker", [0, 1])
async def test_a_block_ends_talk_in_the_direct_room_of_the_two(
    node: LiveNode, blocker: int
) -> None:
    """Messages and signals are refused; typing is acknowledged, and told to nobody. In other rooms all goes on."""
    users = [await node.user("alice"), await node.user("bob")]
    ids = [user.id for user in users]
    direct, _ = await node.chat.ensure_direct(PID, ids)
    room = await node.room(*users)
    sockets = [await knowing(node, user, direct) for user in users]
    for socket in sockets:
        await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await node.chat.block(PID, ids[blocker], ids[1 - blocker])
    for socket in sockets:
        sent = await socket.call("sendMessage", {"roomId": direct.id, "content": "hello"})
        assert sent["error"]["code"] == "blocked"
        signalled = await socket.call("sendSignal", {"roomId": direct.id, "name": "wave"})
        assert signalled["error"]["code"] == "blocked"
        assert await socket.call("startTyping", direct.id) == {"ok": True}
    for socket in sockets:
        await socket.quiet()
        assert not {"message", "signal", "userTyping"} & {name for name, _ in socket.heard}
    for socket, other in zip(sockets, reversed(sockets), strict=True):
        assert (await socket.call("sendMessage", {"roomId": room.id, "content": "x"}))["ok"]
        assert await socket.call("sendSignal", {"roomId": room.id, "name": "wave"}) == {"ok": True}
        await socket.call("startTyping", room.id)
        for event in ("message", "signal", "userTyping"):
            assert (await other.hears(event))[0]["room_id"] == room.id
    await node.chat.unblock(PID, ids[blocker], ids[1 - blocker])
    await sockets[0].call("startTyping", direct.id)
    await sockets[1].hears("userTyping", 2)
