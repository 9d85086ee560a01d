"""Who is no member any more hears nothing more."""

import asyncio
from typing import Any

import pytest

from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until


async def test_a_removed_member_hears_that_and_nothing_more(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob, private=True)
    alices = await node.socket(alice, room)
    bobs = [await node.socket(bob, room) for _ in range(3)]
    await node.chat.remove_member(PID, room.id, bob.id)
    await node.chat.post(PID, room.id, alice.id, "a secret")
    await alices.call("startTyping", room.id)
    await alices.hears("message")
    for socket in bobs:
        await socket.hears("userLeft")
        await socket.quiet()
        assert [name for name, _ in socket.heard] == ["userLeft"]
        for event, arguments in (
            ("joinRoom", [room.id]),
            ("sendMessage", [room.id, "let me in"]),
            ("startTyping", [room.id]),
        ):
            assert (await socket.call(event, *arguments))["error"]["code"] == "room_not_found"


async def test_removal_while_joining_is_not_outrun(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found to be a member, then removed, then about to listen: refused."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob, private=True)
    socket = await node.socket(bob)
    read, go_on = asyncio.Event(), asyncio.Event()
    delta = node.chat.delta_of_member

    async def slow(*arguments: Any, **options: Any) -> Any:
        answer = await delta(*arguments, **options)
        read.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(node.chat, "delta_of_member", slow)
    joining = socket.ask("joinRoom", room.id)
    await read.wait()
    await node.chat.remove_member(PID, room.id, bob.id)
    go_on.set()
    assert (await joining)["error"]["code"] == "room_not_found"
    await node.chat.post(PID, room.id, alice.id, "a secret")
    await socket.quiet()
    assert socket.payloads("message") == []
    assert node.fact("rooms_live") == 0


async def test_deletion_while_joining_is_not_outrun(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice)
    read, go_on = asyncio.Event(), asyncio.Event()
    delta = node.chat.delta_of_member

    async def slow(*arguments: Any, **options: Any) -> Any:
        answer = await delta(*arguments, **options)
        read.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(node.chat, "delta_of_member", slow)
    joining = socket.ask("joinRoom", room.id)
    await read.wait()
    await node.chat.delete_room(PID, room.id)
    go_on.set()
    assert (await joining)["error"]["code"] == "room_not_found"
    assert node.fact("rooms_live") == 0


async def test_who_is_a_member_again_goes_on_listening(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hints of two nodes may cross: the database says who is a member, and nothing is lost meanwhile."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await node.socket(bob, room)
    asked, go_on = asyncio.Event(), asyncio.Event()
    from_seq = node.chat.from_seq

    async def slow(*arguments: Any) -> int | None:
        asked.set()
        await go_on.wait()
        return await from_seq(*arguments)

    monkeypatch.setattr(node.chat, "from_seq", slow)
    await node.chat.leave(PID, room.id, bob.id)
    await asked.wait()
    await node.chat.join(PID, room.id, bob.id, may_enter_private=True)
    for number in range(3):
        await node.chat.post(PID, room.id, alice.id, f"m{number}")
    go_on.set()
    assert [m["seq"] for m in await socket.hears("message", 3)] == [1, 2, 3]


async def test_a_deleted_user_leaves_rooms(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket, bobs = await node.socket(alice, room), await node.socket(bob, room)
    await node.chat.delete_user(PID, bob.id)
    await node.realtime.close_user(PID, bob.id, "user_deleted")
    await socket.hears("userLeft")
    await bobs.ends()


async def test_a_lost_removal_is_healed_by_the_recheck(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_node(database_url, limits=Limits(recheck_seconds=0.2)) as node:
        alice, bob = await node.user("alice"), await node.user("bob")
        room, other = await node.room(alice, bob), await node.room(bob)
        await node.socket(alice, room)
        socket = await node.socket(bob, room, other)
        monkeypatch.setattr(node.chat, "_publish", lambda _: None)
        await node.chat.remove_member(PID, room.id, bob.id)
        await until(lambda: len(node.realtime._fanout.members((PID, room.id))) == 1)
        monkeypatch.undo()
        await node.chat.post(PID, room.id, alice.id, "a secret")
        await node.chat.post(PID, other.id, bob.id, "to myself")
        assert [m["content"] for m in await socket.hears("message")] == ["to myself"]


async def test_a_lost_message_is_healed_by_the_recheck(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last message of a room was lost on its way: no later one shows the gap, and still it comes."""
    async with running_node(database_url, limits=Limits(recheck_seconds=0.2)) as node:
        alice = await node.user("alice")
        room = await node.room(alice)
        socket = await node.socket(alice, room)
        monkeypatch.setattr(node.chat, "_publish", lambda _: None)
        await node.chat.post(PID, room.id, alice.id, "lost")
        assert (await socket.hears("message"))[0]["content"] == "lost"
        assert node.fact("gaps_filled") == 1
