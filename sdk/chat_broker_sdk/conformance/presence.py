"""Checks of receipts, presence, and signals."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chat_broker_sdk._async.client import AsyncChatClient
from chat_broker_sdk._models import ChatUser

from .checks import World, check, expect, refused

_RECEIPTS, _PRESENCE, _SIGNALS, _SOCKET = "Receipts", "Presence", "Signals", "Socket.IO"


@asynccontextmanager
async def _connected(world: World, user: ChatUser) -> AsyncIterator[AsyncChatClient]:
    me = world.client.as_user(await world.token(user))
    try:
        await me.socket.connect()
        yield me
    finally:
        await me.aclose()


async def _soon(condition: Callable[[], object], otherwise: str, *, within: float = 3.0) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        expect(asyncio.get_running_loop().time() < deadline, otherwise)
        await asyncio.sleep(0.01)


@check(_RECEIPTS, "who has read a message, and whom it has reached, follow the marks")
async def _receipts(world: World) -> None:
    await world.client._api.require("receipts")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    rooms, messages = world.client.rooms, world.client.messages
    first, second = [
        await messages.create(room.id, content=text, user_id=ann.id) for text in ("a", "b")
    ]
    await rooms.mark_read(room.id, seq=1, user_id=bob.id)
    await rooms.mark_delivered(room.id, seq=2, user_id=bob.id)
    found = await messages.receipts(room.id, first.id)
    expect((found.read, found.delivered) == ((bob.id,), (bob.id,)), f"the first says {found}")
    found = await messages.receipts(room.id, second.id, member_id=ann.id)
    expect((found.read, found.delivered) == ((), (bob.id,)), f"the second says {found}")
    expect((found.read_count, found.delivered_count) == (0, 1), "the numbers are others")
    await refused(messages.receipts(room.id, "no-such-message"), 404)


@check(_SOCKET, "a read mark reaches the room as a receipt, and joinRoom answers all of them")
async def _receipt_event(world: World) -> None:
    await world.client._api.require("receipts")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    await world.client.messages.create(room.id, content="a", user_id=ann.id)
    told: list[tuple[str, int]] = []
    async with _connected(world, ann) as me:
        me.socket.on_receipt(lambda each: told.append((each.user_id, each.read_seq)))
        joined = await me.socket.join_room(room.id, since_seq=1, since_rev=0)
        marks = {each.user_id: each.read_seq for each in joined.receipts}
        expect(marks == {ann.id: 0, bob.id: 0}, f"joinRoom answers {marks}")
        await world.client.rooms.mark_read(room.id, seq=1, user_id=bob.id)
        await _soon(lambda: (bob.id, 1) in told, "the receipt does not come")


@check(_SOCKET, "a user with a socket is online")
async def _online(world: World) -> None:
    await world.client._api.require("presence")
    ann, _ = await world.people()
    async with _connected(world, ann):
        (found,) = await world.client.users.presence([ann.id])
        expect(found.online is True, f"online is {found.online}")


@check(_PRESENCE, "unknown users are left out, and who hides is neither online nor offline")
async def _presence(world: World) -> None:
    await world.client._api.require("presence")
    ann, bob = await world.people()
    users = world.client.users
    found = await users.presence([ann.id, "no-such-user"])
    expect([each.user_id for each in found] == [ann.id], f"found are {found}")
    await users.settings(bob.id)
    await users.update_settings(bob.id, presence="hidden")
    try:
        (hidden,) = await users.presence([bob.id])
        expect((hidden.online, hidden.last_seen_at) == (None, None), f"who hides is {hidden}")
    finally:
        await users.update_settings(bob.id, presence="visible")


@check(_SOCKET, "watchPresence answers users of a common room, and tells who comes")
async def _watch_presence(world: World) -> None:
    await world.client._api.require("presence")
    ann, bob = await world.people()
    await world.new_room(member_ids=[bob.id])
    told: list[tuple[str, bool | None]] = []
    async with _connected(world, ann) as me:
        me.socket.on_presence(
            lambda event: told.extend((each.user_id, each.online) for each in event.changes)
        )
        found = await me.socket.watch_presence([bob.id, "no-such-user"])
        expect([each.user_id for each in found] == [bob.id], f"answered is {found}")
        if found[0].online is False:  # 15 s after an earlier check they still are
            async with _connected(world, bob):
                await _soon(lambda: (bob.id, True) in told, "who comes is not told")


@check(_SIGNALS, "the API key signals to rooms and users that there are")
async def _signals(world: World) -> None:
    await world.client._api.require("signals")
    ann, _ = await world.people()
    room = await world.room()
    await world.client.rooms.signal(room.id, "check.bell", {"x": 1})
    await world.client.users.signal(ann.id, "check.bell")
    await refused(world.client.rooms.signal(room.id, "Not A Name"), 400)
    await refused(world.client.rooms.signal(room.id, "bell", "x" * 1024), 400)
    await refused(world.client.rooms.signal("no-such-room", "bell"), 404)
    await refused(world.client.users.signal("no-such-user", "bell"), 404)


@check(_SOCKET, "a signal reaches the room's other sockets, and those of a user")
async def _signal_events(world: World) -> None:
    await world.client._api.require("signals")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    told: list[tuple[str, str | None, str | None]] = []
    sent: list[str] = []
    async with _connected(world, ann) as here, _connected(world, bob) as there:
        there.socket.on_signal(lambda each: told.append((each.name, each.room_id, each.user_id)))
        here.socket.on_signal(lambda each: sent.append(each.name))
        for me in (here, there):
            await me.socket.join_room(room.id, since_seq=0, since_rev=0)
        await here.socket.send_signal(room.id, "wave", [1])
        await world.client.users.signal(bob.id, "toast")
        expected = [("wave", room.id, ann.id), ("toast", None, None)]
        await _soon(lambda: told == expected, f"told is {told}")
    expect(sent == [], "the sender hears its own signal")
