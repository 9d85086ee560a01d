"""`receipt` tells the sockets of a small room how far its members are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from chat_broker_kit.database.transactions import Query, all_rows
from chat_broker_server.chat.models import Room, User, UserSettingsChanges
from tests.server.realtime.live_node import PID, LiveNode, running_node
from tests.server.realtime.manual_clock import ManualClock
from tests.server.realtime.socket_client import Socket

Act = Callable[[LiveNode, Room, User], Awaitable[Any]]


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[LiveNode]:
    async with running_node(database_url, clock=clock) as node:
        yield node


async def knowing(node: LiveNode, user: User, *rooms: Room) -> Socket:
    """A socket of *user* that knows the event."""
    socket = await node.socket(user)
    for room in rooms:
        assert (await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0}))["ok"]
    return socket


async def make_large(node: LiveNode, room: Room) -> None:
    await node.database.write(
        lambda: all_rows(Query("UPDATE rooms SET light = TRUE WHERE id = $1", room.id))
    )


def receipt(room: Room, user: User, read: int, delivered: int) -> dict[str, Any]:
    return {
        "room_id": room.id,
        "user_id": user.id,
        "read_seq": read,
        "delivered_seq": delivered,
    }


ACTS: dict[str, tuple[Act, tuple[int, int]]] = {
    "read": (lambda node, room, user: node.chat.mark_read(PID, room.id, user.id, 2), (2, 2)),
    "delivered": (
        lambda node, room, user: node.chat.mark_delivered(PID, room.id, user.id, 2),
        (0, 2),
    ),
    "some rooms": (
        lambda node, room, user: node.chat.mark_rooms_read(PID, user.id, {room.id: 1}),
        (1, 1),
    ),
    "all rooms": (lambda node, _, user: node.chat.mark_all_read(PID, user.id), (2, 2)),
}


@pytest.mark.parametrize("name", ACTS)
async def test_every_move_of_a_mark_is_told_once(node: LiveNode, name: str) -> None:
    """To sockets that joined the room and know of changes: to the user's own devices, too, but not to who only peeks."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    room, other = await node.room(alice, bob), await node.room(alice)
    joined, own, old = (
        await knowing(node, alice, room),
        await knowing(node, bob, room),
        await node.socket(alice, room),
    )
    elsewhere, peeking = await knowing(node, alice, other), await node.socket(carol)
    assert (await peeking.call("joinRoom", {"roomId": room.id, "peek": True}))["ok"]
    for _ in range(2):
        await node.chat.post(PID, room.id, alice.id, "x")
    act, marks = ACTS[name]
    for _ in range(2):
        await act(node, room, bob)
    for socket in (joined, own):
        assert await socket.hears("receipt") == [receipt(room, bob, *marks)]
        await socket.quiet()
        assert len(socket.payloads("receipt")) == 1
    for socket in (old, elsewhere, peeking):
        await socket.quiet()
        assert socket.payloads("receipt") == []


async def test_one_user_is_told_once_a_second_with_the_newest_marks(
    node: LiveNode, clock: ManualClock
) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await knowing(node, alice, room)
    for seq in range(1, 6):
        await node.chat.post(PID, room.id, alice.id, "x")
        await node.chat.mark_read(PID, room.id, bob.id, seq)
    await node.chat.mark_read(PID, room.id, alice.id, 5)
    first = [receipt(room, bob, 1, 1), receipt(room, alice, 5, 5)]
    assert await socket.hears("receipt", 2) == first
    clock.advance(0.9)
    await socket.quiet()
    assert socket.payloads("receipt") == first
    clock.advance(0.2)
    assert (await socket.hears("receipt", 3))[2:] == [receipt(room, bob, 5, 5)]
    clock.advance(5)
    await node.chat.post(PID, room.id, alice.id, "x")
    await node.chat.mark_read(PID, room.id, bob.id, 6)
    assert (await socket.hears("receipt", 4))[3:] == [receipt(room, bob, 6, 6)]


async def test_a_large_room_has_no_receipts(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    await make_large(node, room)
    socket = await node.socket(alice)
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    assert "receipts" not in answer
    await node.chat.post(PID, room.id, alice.id, "x")
    await node.chat.mark_read(PID, room.id, bob.id, 1)
    await node.chat.mark_all_read(PID, alice.id)
    await socket.quiet()
    assert socket.payloads("receipt") == []


async def test_joining_answers_the_receipts_of_all_members(node: LiveNode) -> None:
    """So does sync; to who only peeks they are not shown."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    room = await node.room(alice, bob)
    for _ in range(3):
        await node.chat.post(PID, room.id, alice.id, "x")
    await node.chat.mark_read(PID, room.id, bob.id, 1)
    await node.chat.mark_delivered(PID, room.id, bob.id, 3)
    socket = await node.socket(bob)
    expected = [
        {"user_id": alice.id, "read_seq": 0, "delivered_seq": 0},
        {"user_id": bob.id, "read_seq": 1, "delivered_seq": 3},
    ]
    assert (await socket.call("joinRoom", room.id))["receipts"] == expected
    peeking = await node.socket(carol)
    answer = await peeking.call("joinRoom", {"roomId": room.id, "peek": True})
    assert "receipts" not in answer


async def test_who_shows_no_receipts_is_shown_none(node: LiveNode) -> None:
    """Neither event, nor the receipts of a join, nor the read mark of the Member."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    room = await node.room(alice, bob, carol)
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(receipts=False))
    shown, hiding = await knowing(node, alice, room), await node.socket(bob)
    answer = await hiding.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    assert "receipts" not in answer
    await node.chat.post(PID, room.id, alice.id, "x")
    await node.chat.mark_read(PID, room.id, bob.id, 1)
    await node.chat.mark_all_read(PID, bob.id)
    await node.chat.mark_read(PID, room.id, carol.id, 1)
    assert await shown.hears("receipt") == [receipt(room, carol, 1, 1)]
    await hiding.quiet()
    assert hiding.payloads("receipt") == []
    member = await node.chat.member(PID, room.id, bob.id)
    assert member is not None
    assert member.last_read_seq is None
    answer = await (await node.socket(alice)).call("joinRoom", room.id)
    assert [each["user_id"] for each in answer["receipts"]] == [alice.id, carol.id]
