"""Who is online: told to those who watch, at most once a second; who is gone, after 15 seconds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_broker_server.chat.models import User, UserChanges, UserSettingsChanges
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.manual_clock import ManualClock
from tests.server.realtime.socket_client import Socket
from tests.server.realtime.test_receipts import knowing


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[LiveNode]:
    async with running_node(database_url, clock=clock) as node:
        yield node


async def watching(node: LiveNode, user: User, *users: User) -> tuple[Socket, list[Any]]:
    """A socket of *user* that watches *users*, and what it was answered."""
    socket = await node.socket(user)
    answer = await socket.call("watchPresence", {"userIds": [each.id for each in users]})
    assert answer["ok"], answer
    return socket, answer["presence"]


async def gone(node: LiveNode, user: User, *sockets: Socket) -> None:
    """Close these sockets, which are all that *user* has."""
    for socket in sockets:
        await socket.close()
    await until(lambda: not node.realtime._sessions.connections.of((PID, user.id)))


def changes(socket: Socket) -> list[Any]:
    return [payload["changes"] for payload in socket.payloads("presence")]


async def seen_at(node: LiveNode, user: User) -> str | None:
    (seen,) = await node.chat.seen(PID, [user.id], None)
    return seen.last_seen_at


async def test_who_is_watched_is_told_when_they_come_and_15_seconds_after_they_went(
    node: LiveNode, clock: ManualClock
) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.room(alice, bob)
    socket, answer = await watching(node, alice, bob)
    assert answer == [{"user_id": bob.id, "online": False}]
    bobs = [await node.socket(bob)]
    assert (await socket.hears("presence")) == [{"changes": [{"user_id": bob.id, "online": True}]}]
    bobs.append(await node.socket(bob))
    clock.advance(2)
    await gone(node, bob, *bobs)
    clock.advance(14.9)
    await socket.quiet()
    assert len(changes(socket)) == 1
    assert (await node.realtime.presence(PID, [bob.id], None))[0].online is True
    clock.advance(0.1)
    ((change,),) = [payload["changes"] for payload in (await socket.hears("presence", 2))[1:]]
    assert (change["user_id"], change["online"]) == (bob.id, False)
    assert change["last_seen_at"].endswith("Z")
    assert await written(node, bob) == change["last_seen_at"]
    (presence,) = await node.realtime.presence(PID, [bob.id], None)
    assert (presence.online, presence.last_seen_at) == (False, change["last_seen_at"])


async def test_a_reconnect_is_not_seen(node: LiveNode, clock: ManualClock) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.room(alice, bob)
    first = await node.socket(bob)
    socket, answer = await watching(node, alice, bob)
    assert answer == [{"user_id": bob.id, "online": True}]
    await gone(node, bob, first)
    clock.advance(10)
    await node.socket(bob)
    clock.advance(100)
    await socket.quiet()
    assert changes(socket) == []
    assert await seen_at(node, bob) is None


async def test_only_users_of_a_common_room_are_shown(node: LiveNode) -> None:
    """And oneself. The others are left out, as users who do not exist."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    await node.room(alice, bob)
    await node.room(bob, carol)
    socket = await node.socket(alice)
    for user in (bob, carol):
        await node.socket(user)
    ids = [carol.id, "unknown", alice.id, bob.id, bob.id]
    answer = await socket.call("watchPresence", {"userIds": ids})
    shown = [{"user_id": user.id, "online": True} for user in (alice, bob)]
    assert answer == {"ok": True, "presence": shown}
    found = await node.realtime.presence(PID, ids[:-1], None)
    assert [each.user_id for each in found] == [carol.id, alice.id, bob.id]
    found = await node.realtime.presence(PID, ids[:-1], alice.id)
    assert [each.user_id for each in found] == [alice.id, bob.id]


async def test_a_socket_is_told_once_a_second_with_all_changes(
    node: LiveNode, clock: ManualClock
) -> None:
    """Of each user the last one."""
    alice, *others = [await node.user(f"user{number}") for number in range(5)]
    await node.room(alice, *others)
    socket, _ = await watching(node, alice, *others)
    sockets = [await node.socket(user) for user in others]
    online = [{"user_id": user.id, "online": True} for user in others]
    await socket.hears("presence")
    await socket.quiet()
    assert changes(socket) == [online[:1]]
    clock.advance(1)
    await socket.hears("presence", 2)
    assert changes(socket)[1:] == [online[1:]]
    clock.advance(1)
    await gone(node, others[0], sockets[0])
    await gone(node, others[1], sockets[1])
    clock.advance(15.5)
    await node.socket(others[1])
    clock.advance(1)
    await socket.quiet()
    told = [change for each in changes(socket)[2:] for change in each]
    last = {change["user_id"]: change["online"] for change in told}
    assert last == {others[0].id: False, others[1].id: True}


async def test_a_list_is_replaced_by_the_next_one(node: LiveNode, clock: ManualClock) -> None:
    """By an empty one, too; who has closed is not told."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    await node.room(alice, bob, carol)
    socket, _ = await watching(node, alice, bob)
    await socket.call("watchPresence", {"userIds": [carol.id]})
    await node.socket(bob)
    clock.advance(2)
    await socket.quiet()
    assert changes(socket) == []
    await node.socket(carol)
    await socket.hears("presence")
    assert await socket.call("watch_presence", {"userIds": []}) == {"ok": True, "presence": []}
    assert len(node.realtime._users.events) == 0
    for wrong in ({"userIds": [f"u{n}" for n in range(201)]}, {"userIds": [""]}, {}, [carol.id]):
        answer = await socket.call("watchPresence", wrong)
        assert answer["error"]["code"] == "invalid_arguments"
    await socket.call("watchPresence", {"userIds": [carol.id] * 200})
    await gone(node, alice, socket)
    assert len(node.realtime._users.events) == 0


async def test_who_hides_is_shown_as_unknown(node: LiveNode, clock: ManualClock) -> None:
    """From the moment of the setting on, and nothing of them is told any more."""
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.room(alice, bob)
    bobs = await node.socket(bob)
    socket, answer = await watching(node, alice, bob)
    assert answer[0]["online"] is True
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="hidden"))
    await socket.hears("presence")
    assert changes(socket) == [[{"user_id": bob.id, "online": None}]]
    await gone(node, bob, bobs)
    clock.advance(20)
    await node.socket(bob)
    clock.advance(2)
    await socket.quiet()
    assert len(changes(socket)) == 1
    await written(node, bob)
    _, answer = await watching(node, alice, bob)
    assert answer == [{"user_id": bob.id, "online": None}]
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="visible"))
    await socket.hears("presence", 2)
    assert changes(socket)[1:] == [[{"user_id": bob.id, "online": True}]]


async def test_who_hides_is_not_counted_in_rooms(node: LiveNode, clock: ManualClock) -> None:
    """Neither where they join, nor from the moment of the setting on; a room of two would tell."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room, other = await node.room(alice, bob), await node.room(alice, bob)
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="hidden"))
    socket, bobs = await knowing(node, alice, room), await node.socket(bob)
    for each in (room, other):
        answer = await bobs.call("joinRoom", each.id)
        assert answer["members_online"] == (each is room)
    clock.advance(5)
    await socket.quiet()
    assert socket.payloads("roomOnline") == []
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="visible"))
    assert (await socket.hears("roomOnline"))[0]["members_online"] == 2
    clock.advance(5)
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="hidden"))
    assert (await socket.hears("roomOnline", 2))[1]["members_online"] == 1
    await gone(node, bob, bobs)
    clock.advance(5)
    await socket.quiet()
    assert len(socket.payloads("roomOnline")) == 2


async def test_who_has_left_the_last_common_room_is_told_no_more(
    node: LiveNode, clock: ManualClock
) -> None:
    """Neither to those who watch them, nor of those whom they watch."""
    alice, bob = await node.user("alice"), await node.user("bob")
    first, second = await node.room(alice, bob), await node.room(alice, bob)
    socket, _ = await watching(node, alice, bob)
    other, _ = await watching(node, bob, alice)
    events = node.realtime._users.events
    await node.chat.leave(PID, first.id, bob.id)
    await socket.quiet()
    assert len(events) == 2
    await node.chat.leave(PID, second.id, bob.id)
    await until(lambda: len(events) == 0)
    heard = len(changes(socket)), len(changes(other))
    clock.advance(2)
    await node.chat.update_user_settings(PID, bob.id, UserSettingsChanges(presence="hidden"))
    await node.chat.update_user_settings(PID, alice.id, UserSettingsChanges(presence="hidden"))
    for each in (socket, other):
        await each.quiet()
    assert (len(changes(socket)), len(changes(other))) == heard


async def test_who_is_watched_is_told_with_a_new_name(node: LiveNode) -> None:
    """Without a room that the socket has joined."""
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.room(alice, bob)
    socket, _ = await watching(node, alice, bob)
    await node.chat.update_user(PID, bob.id, UserChanges(display_name="Bob"))
    (told,) = await socket.hears("userUpdated")
    assert (told["id"], told["display_name"]) == (bob.id, "Bob")


async def test_when_users_were_last_seen_is_written_every_five_minutes(
    node: LiveNode, clock: ManualClock
) -> None:
    """Not when they come."""
    alice = await node.user("alice")
    await node.socket(alice)
    clock.advance(299)
    node.realtime._users.online.write_again()
    assert await seen_at(node, alice) is None
    clock.advance(1)
    node.realtime._users.online.write_again()
    first = await written(node, alice)
    clock.advance(200)
    node.realtime._users.online.write_again()
    assert await seen_at(node, alice) == first


async def test_a_node_that_stops_writes_when_its_users_were_seen(database_url: str) -> None:
    async with running_node(database_url, clock=ManualClock()) as node:
        alice = await node.user("alice")
        await node.socket(alice)
    async with running_node(database_url) as node:
        assert await seen_at(node, alice) is not None


async def test_how_many_are_online_in_a_room_is_told_every_five_seconds(
    node: LiveNode, clock: ManualClock
) -> None:
    """When that has changed, to sockets that know the event."""
    alice, *others = [await node.user(f"user{number}") for number in range(4)]
    room = await node.room(alice, *others)
    socket, old = await knowing(node, alice, room), await node.socket(alice, room)
    sockets = [await node.socket(user, room) for user in others]
    assert await socket.hears("roomOnline") == [{"room_id": room.id, "members_online": 2}]
    clock.advance(4.9)
    await socket.quiet()
    assert len(socket.payloads("roomOnline")) == 1
    clock.advance(0.1)
    told = await socket.hears("roomOnline", 2)
    assert told[1] == {"room_id": room.id, "members_online": 4}
    clock.advance(5)
    await gone(node, others[0], sockets[0])
    assert (await socket.hears("roomOnline", 3))[2]["members_online"] == 3
    await node.socket(others[0], room)
    await gone(node, others[1], sockets[1])
    clock.advance(5)
    await socket.quiet()
    assert len(socket.payloads("roomOnline")) == 3
    assert old.payloads("roomOnline") == []


async def written(node: LiveNode, user: User) -> str:
    """When the user was last seen, as soon as that is written."""
    async with asyncio.timeout(5):
        while (seen := await seen_at(node, user)) is None:  # noqa: ASYNC110  # it happens in the server
            await asyncio.sleep(0.005)
    return seen
