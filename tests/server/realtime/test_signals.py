"""Signals and typing: what is told, and never stored."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_broker_server.chat.models import Room
from tests.server.realtime.live_node import PID, LiveNode, running_node
from tests.server.realtime.manual_clock import ManualClock
from tests.server.realtime.test_receipts import knowing, make_large


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[LiveNode]:
    async with running_node(database_url, clock=clock) as node:
        yield node


def wave(room: Room, **more: Any) -> dict[str, Any]:
    return {"roomId": room.id, "name": "app.wave", **more}


async def test_a_signal_reaches_the_other_joined_sockets(node: LiveNode) -> None:
    """Also those of the same user; not the one that sent it, nor one that knows no new events."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room, other = await node.room(alice, bob), await node.room(alice, bob)
    sender, device, joined = [await knowing(node, user, room) for user in (alice, alice, bob)]
    old, elsewhere = await node.socket(bob, room), await knowing(node, bob, other)
    assert await sender.call("sendSignal", wave(room, data={"x": [1]})) == {"ok": True}
    for socket in (device, joined):
        (told,) = await socket.hears("signal")
        assert told.pop("at").endswith("Z")
        assert told == {
            "room_id": room.id,
            "user_id": alice.id,
            "username": "alice",
            "name": "app.wave",
            "data": {"x": [1]},
        }
    for socket in (sender, old, elsewhere):
        await socket.quiet()
        assert socket.payloads("signal") == []
    assert await joined.call("send_signal", wave(room)) == {"ok": True}
    assert (await sender.hears("signal"))[0]["data"] is None


async def test_a_bad_signal_is_refused(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    socket = await knowing(node, alice, room)
    for bad in (
        {"name": "Wave"},
        {"name": ""},
        {"name": "x" * 33},
        {"name": "wave\n"},
        {"data": "x" * 1023},
    ):
        answer = await socket.call("sendSignal", {**wave(room), **bad})
        assert (answer["ok"], answer["error"]["code"]) == (False, "invalid_input")
    assert (await socket.call("sendSignal", wave(room, data="x" * 1022)))["ok"]
    for wrong in ({"roomId": room.id}, wave(room, more=1), room.id):
        answer = await socket.call("sendSignal", wrong)
        assert answer["error"]["code"] == "invalid_arguments"
    stranger = await node.socket(bob)
    answer = await stranger.call("sendSignal", wave(room))
    assert answer["error"]["code"] == "room_not_found"
    assert (await stranger.call("joinRoom", {"roomId": room.id, "peek": True}))["ok"]
    answer = await stranger.call("sendSignal", wave(room))
    assert answer["error"]["code"] == "not_joined"


async def test_in_a_large_room_members_send_no_signals(node: LiveNode) -> None:
    """Its owner does, and moderators. A guest sends none anywhere."""
    alice, bob, carol, dave = [await node.user(name) for name in ("alice", "bob", "carol", "dave")]
    room = await node.room(alice, bob, carol, dave)
    await node.chat.put_member(PID, room.id, carol.id, role="moderator")
    await node.chat.put_member(PID, room.id, dave.id, role="guest")
    guest = await knowing(node, dave, room)
    answer = await guest.call("sendSignal", wave(room))
    assert answer["error"]["code"] == "read_only"
    await make_large(node, room)
    owner, member, moderator = [await knowing(node, user, room) for user in (alice, bob, carol)]
    answer = await member.call("sendSignal", wave(room))
    assert answer["error"]["code"] == "owner_only"
    for socket in (owner, moderator):
        assert (await socket.call("sendSignal", wave(room)))["ok"]
    await member.hears("signal", 2)


async def test_the_key_signals_to_all_sockets_of_a_user(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first, second, others = [await knowing(node, user, room) for user in (alice, alice, bob)]
    await node.chat.signal_user(PID, alice.id, "toast", {"text": "hi"})
    for socket in (first, second):
        (told,) = await socket.hears("signal")
        assert [told[name] for name in ("room_id", "user_id", "username", "name", "data")] == [
            *(None, None, None, "toast"),
            {"text": "hi"},
        ]
    await others.quiet()
    assert others.payloads("signal") == []
    await node.chat.signal_room(PID, room.id, "closing", None)
    for socket in (first, second, others):
        told = (await socket.hears("signal", 1 + (socket is not others)))[-1]
        assert (told["room_id"], told["user_id"], told["name"]) == (room.id, None, "closing")


async def test_typing_says_when_it_ends_and_is_told_again(node: LiveNode) -> None:
    """A client ends it by itself then, so a user who goes on is told again."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    typing, other = await node.socket(alice, room), await node.socket(bob, room)
    await typing.call("startTyping", room.id)
    (told,) = await other.hears("userTyping")
    assert told["expires_in"] == 6
    await typing.call("startTyping", room.id)
    await other.quiet()
    assert len(other.payloads("userTyping")) == 1
    states = node.realtime._subscriptions._typing
    states._told_at = {key: at - 2 for key, at in states._told_at.items()}
    await typing.call("startTyping", room.id)
    await other.hears("userTyping", 2)
    await typing.call("stopTyping", room.id)
    (told,) = await other.hears("userStoppedTyping")
    assert "expires_in" not in told


async def test_typing_in_a_large_room_is_acknowledged_and_told_to_nobody(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    await make_large(node, room)
    typing, other = await node.socket(alice, room), await node.socket(bob, room)
    for event in ("startTyping", "stopTyping"):
        assert await typing.call(event, room.id) == {"ok": True}
    await other.quiet()
    assert other.payloads("userTyping") == other.payloads("userStoppedTyping") == []


async def test_who_comes_to_a_large_room_is_told_as_a_state_of_the_room(
    node: LiveNode, clock: ManualClock
) -> None:
    """At most once in five seconds, with the newest number of members. Who leaves hears it themselves."""
    alice, *others = [await node.user(name) for name in ("alice", "bob", "carol", "dave")]
    room = await node.room(alice)
    await make_large(node, room)
    await node.database.write(lambda: _members(room, 100))
    socket = await knowing(node, alice, room)
    for user in others:
        await node.chat.join(PID, room.id, user.id, may_enter_private=False)
    (told,) = await socket.hears("roomUpdated")
    assert (told["member_count"] > 100, told["small"]) == (True, False)
    bobs = await knowing(node, others[0], room)
    await node.chat.leave(PID, room.id, others[0].id)
    (left,) = await bobs.hears("userLeft")
    assert left["user_id"] == others[0].id
    await socket.quiet()
    assert len(socket.payloads("roomUpdated")) == 1
    clock.advance(5)
    told = (await socket.hears("roomUpdated", 2))[1]
    assert (told["member_count"], told["rev"]) == (102, 4)
    assert socket.payloads("userJoined") == socket.payloads("userLeft") == []


async def test_a_room_that_becomes_small_or_large_is_told(
    node: LiveNode, clock: ManualClock
) -> None:
    alice, *others = [await node.user(f"user{number}") for number in range(4)]
    room = await node.room(alice)
    await node.database.write(lambda: _members(room, 99))
    socket = await knowing(node, alice, room)
    await node.chat.join(PID, room.id, others[0].id, may_enter_private=False)
    (told,) = await socket.hears("userJoined")
    assert told["user_id"] == others[0].id
    await node.chat.join(PID, room.id, others[1].id, may_enter_private=False)
    (updated,) = await socket.hears("roomUpdated")
    assert (updated["member_count"], updated["small"]) == (101, False)
    await node.database.write(lambda: _members(room, 81))
    await node.realtime.recheck()
    clock.advance(10)
    await node.chat.leave(PID, room.id, others[1].id)
    (told,) = await socket.hears("userLeft")
    assert told["user_id"] == others[1].id
    updated = (await socket.hears("roomUpdated", 2))[1]
    assert (updated["member_count"], updated["small"]) == (80, True)
    assert len(socket.payloads("userJoined")) == 1


def _members(room: Room, count: int) -> Any:
    """Set the number of members, past the rules."""
    from chat_broker_kit.database.transactions import Query

    yield Query("UPDATE rooms SET member_count = $2 WHERE id = $1", room.id, count)
