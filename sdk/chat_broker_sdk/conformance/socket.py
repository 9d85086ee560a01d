"""Checks of the Socket.IO half of the contract."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from chat_broker_sdk._async.client import AsyncChatClient
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._models import SocketErrorEvent

from .checks import World, check, expect

_AREA = "Socket.IO"


@asynccontextmanager
async def _connected(world: World, *, as_ann: bool = True) -> AsyncIterator[AsyncChatClient]:
    ann, bob = await world.people()
    me = world.client.as_user(await world.token(ann if as_ann else bob))
    try:
        await me.socket.connect()
        yield me
    finally:
        await me.aclose()


async def _within(seconds: float, condition: Callable[[], object], otherwise: str) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        expect(asyncio.get_running_loop().time() < deadline, otherwise)
        await asyncio.sleep(0.01)


@check(_AREA, "a good token connects; a bad one is refused with token_invalid")
async def _handshake(world: World) -> None:
    async with _connected(world) as me:
        expect(me.socket.connected, "it does not")
    other = world.client.as_user("eyJhbGciOiJub25lIn0.e30.")
    try:
        await other.socket.connect()
    except WebSocketError as error:
        expect(error.code == "token_invalid", f"refused with {error.code}")
    else:
        expect(condition=False, otherwise="a made-up token connects")
    finally:
        await other.aclose()


@check(_AREA, "joinRoom is acknowledged with the room and last_seq")
async def _join(world: World) -> None:
    room, message = await world.room(), await world.message()
    async with _connected(world) as me:
        joined = await me.socket.join_room(room.id)
    expect(joined.room is not None and joined.room.id == room.id, "room is missing or another")
    expect((joined.last_seq or 0) >= (message.seq or 1), f"last_seq is {joined.last_seq}")
    expect(joined.members_online is not None, "members_online is missing")


@check(_AREA, "joinRoom of a missing room is acknowledged as an error")
async def _join_missing(world: World) -> None:
    async with _connected(world) as me:
        try:
            await me.socket.join_room("no-such-room")
        except WebSocketError as error:
            expect(error.code != "bad_response", "it is not {ok: false, error: {code, message}}")
        else:
            expect(condition=False, otherwise="it is acknowledged as ok")


@check(_AREA, "a message over the socket reaches the others and REST")
async def _send(world: World) -> None:
    room = await world.room()
    received: list[str] = []
    async with _connected(world) as ann, _connected(world, as_ann=False) as bob:
        bob.socket.on_message(lambda message: received.append(message.id))
        await ann.socket.join_room(room.id)
        await bob.socket.join_room(room.id)
        sent = await ann.socket.send_message(room.id, "over the socket")
        await _within(3, lambda: sent.id in received, "the other one does not hear it within 3 s")
    page = await world.client.messages.list(room.id, after=(sent.seq or 1) - 1)
    expect(sent.id in [each.id for each in page.items], "REST does not know it")


@check(_AREA, "a message over REST, its edit and deletion reach the socket")
async def _rest_to_socket(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    received: list[tuple[str, str]] = []
    async with _connected(world, as_ann=False) as me:
        me.socket.on_message(lambda message: received.append(("message", message.id)))
        me.socket.on_message_updated(lambda message: received.append(("updated", message.id)))
        me.socket.on_message_deleted(lambda message: received.append(("deleted", message.id)))
        await me.socket.join_room(room.id)
        message = await world.client.messages.create(room.id, content="over REST", user_id=ann.id)
        await _within(3, lambda: ("message", message.id) in received, "the message does not come")
        await world.client.messages.update(room.id, message.id, content="edited")
        await _within(
            3, lambda: ("updated", message.id) in received, "messageUpdated does not come"
        )
        await world.client.messages.delete(room.id, message.id)
        await _within(
            3, lambda: ("deleted", message.id) in received, "messageDeleted does not come"
        )


@check(_AREA, "sinceSeq brings what was missed, in order")
async def _missed(world: World) -> None:
    ann, _ = await world.people()
    room = await world.new_room()
    for number in range(5):
        await world.client.messages.create(room.id, content=str(number), user_id=ann.id)
    received: list[int | None] = []
    async with _connected(world) as me:
        me.socket.on_message(lambda message: received.append(message.seq))
        await me.socket.join_room(room.id, since_seq=2)
        await _within(3, lambda: len(received) >= 3, f"{len(received)} of 3 messages come")
    expect(received == [3, 4, 5], f"seq runs {received}")


@check(_AREA, "joinRoom with sinceSeq, sinceRev and epoch tells what changed, once and in order")
async def _changed_meanwhile(world: World) -> None:
    await world.client._api.require("changes")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    first, second = [
        await world.client.messages.create(room.id, content=text, user_id=ann.id)
        for text in ("a", "b")
    ]
    received: list[tuple[str, object]] = []
    async with _connected(world, as_ann=False) as me:
        before = await me.socket.join_room(room.id)
    expect(before.rev is not None and before.epoch, "rev or epoch is missing")
    for text in ("x", "y"):
        await world.client.messages.update(room.id, first.id, content=text)
    await world.client.messages.create(room.id, content="c", user_id=ann.id)
    await world.client.messages.delete(room.id, second.id)
    async with _connected(world, as_ann=False) as me:
        me.socket.on_message(lambda message: received.append(("message", message.content)))
        me.socket.on_message_updated(lambda message: received.append(("updated", message.content)))
        me.socket.on_message_deleted(lambda message: received.append(("deleted", message.seq)))
        await me.socket.join_room(room.id, since_seq=2, since_rev=before.rev, epoch=before.epoch)
        await _within(3, lambda: len(received) >= 3, f"{len(received)} of 3 events come")
        expected = [("message", "c"), ("updated", "y"), ("deleted", 2)]
        expect(received == expected, f"told is {received}")
        again = await me.socket.join_room(room.id, since_seq=2, since_rev=0, epoch="no such epoch")
    expect(again.reset is True, "another epoch is not answered with reset")
    expect(
        [each.seq for each in again.missed] == [1, 2, 3], "after a reset the newest are not told"
    )


@check(_AREA, "a repeated clientMsgId is acknowledged with the first message")
async def _client_msg_id(world: World) -> None:
    room = await world.room()
    async with _connected(world) as me:
        await me.socket.join_room(room.id)
        first, second = [
            await me.socket.send_message(room.id, "once", client_msg_id=f"{world.run}-once")
            for _ in range(2)
        ]
    expect(first.id == second.id, "there are two messages")


@check(_AREA, "typing reaches the others")
async def _typing(world: World) -> None:
    room = await world.room()
    received: list[str] = []
    names: list[str | None] = []
    async with _connected(world) as ann, _connected(world, as_ann=False) as bob:
        bob.socket.on_user_typing(lambda event: names.append(event.display_name))
        bob.socket.on_user_typing(lambda event: received.append(f"typing {event.user_id}"))
        bob.socket.on_user_stopped_typing(lambda event: received.append(f"stopped {event.user_id}"))
        await ann.socket.join_room(room.id)
        await bob.socket.join_room(room.id)
        await ann.socket.start_typing(room.id)
        await ann.socket.stop_typing(room.id)
        me = (await world.people())[0]
        await _within(3, lambda: len(received) >= 2, f"{len(received)} of 2 events come")
    expect(received == [f"typing {me.id}", f"stopped {me.id}"], "the events are others")
    now = await world.client.users.get(me.id)
    expect(names == [now.display_name], f"display_name is {names}")


@check(_AREA, "a refused refreshToken ends nothing")
async def _failed_call(world: World) -> None:
    room = await world.room()
    async with _connected(world) as me:
        try:
            await me.socket.refresh_token("eyJhbGciOiJub25lIn0.e30.")
        except WebSocketError as error:
            expect(error.code == "token_invalid", f"refused with {error.code}")
        else:
            expect(condition=False, otherwise="a made-up token is taken")
        expect((await me.socket.join_room(room.id)).ok, "the next call is not answered")


@check(_AREA, "markRead is acknowledged with the mark")
async def _mark_read(world: World) -> None:
    room, message = await world.room(), await world.message()
    async with _connected(world) as me:
        await me.socket.join_room(room.id)
        mark = await me.socket.mark_read(room.id, seq=message.seq or 1)
    expect(mark.last_read_seq >= (message.seq or 1), f"last_read_seq is {mark.last_read_seq}")


@check(_AREA, "refreshToken is acknowledged, and refuses another user's token")
async def _refresh(world: World) -> None:
    ann, bob = await world.people()
    async with _connected(world) as me:
        await me.socket.refresh_token(await world.token(ann))
        try:
            await me.socket.refresh_token(await world.token(bob))
        except WebSocketError:
            return
    expect(condition=False, otherwise="another user's token is taken")


@check(_AREA, "a revocation closes the connection within a second, with token_revoked")
async def _revocation(world: World) -> None:
    _, bob = await world.people()
    codes: list[Any] = []
    errors: list[SocketErrorEvent] = []
    async with _connected(world, as_ann=False) as me:
        me.socket.on_disconnect(codes.append)
        me.socket.on_error(errors.append)
        await world.client.users.revoke_token(bob.id)
        await _within(1.5, lambda: codes, "it is still open")
    expect(codes == ["token_revoked"], f"the code is {codes[0]}")
    expect(errors[-1].closing is True, "the error before it does not say closing: true")
    expect(errors[-1].reconnect is False, "the error before it does not say reconnect: false")


@check(_AREA, "watchRooms answers the rooms, and tells those that come and go, and activity")
async def _watch_rooms(world: World) -> None:
    await world.client._api.require("sync")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    told: list[tuple[str, str]] = []
    unread: list[int | None] = []
    async with _connected(world, as_ann=False) as me:
        me.socket.on_room_added(lambda delta: told.append(("added", delta.room.id)))
        me.socket.on_room_removed(lambda event: told.append((f"{event.reason}", event.room_id)))
        me.socket.on_room_activity(lambda event: told.append(("activity", event.room_id)))
        me.socket.on_room_activity(lambda event: unread.append(event.unread))
        answer = await me.socket.watch_rooms(messages=1, limit=200)
        expect(room.id in [each.room.id for each in answer.deltas], "the room is not answered")
        expect(answer.epoch, "epoch is missing")
        await world.client.messages.create(room.id, content="news", user_id=ann.id)
        await _within(3, lambda: ("activity", room.id) in told, "roomActivity does not come")
        expect(unread == [1], f"unread is {unread}")
        other = await world.new_room(member_ids=[bob.id])
        await _within(3, lambda: ("added", other.id) in told, "roomAdded does not come")
        await world.client.rooms.leave(other.id, user_id=bob.id)
        await _within(3, lambda: ("left", other.id) in told, "roomRemoved (left) does not come")
        await world.client.rooms.remove_member(room.id, bob.id)
        await _within(
            3, lambda: ("removed", room.id) in told, "roomRemoved (removed) does not come"
        )


@check(_AREA, "a socket that watches and has joined the room gets messages, and no activity")
async def _watch_and_join(world: World) -> None:
    await world.client._api.require("sync")
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    told: list[str] = []
    async with _connected(world, as_ann=False) as me:
        me.socket.on_message(lambda message: told.append(message.content))
        me.socket.on_room_activity(lambda _: told.append("activity"))
        await me.socket.watch_rooms()
        await me.socket.join_room(room.id)
        for text in ("one", "two"):
            await world.client.messages.create(room.id, content=text, user_id=ann.id)
        await _within(3, lambda: "two" in told, "the messages do not come")
    expect(told == ["one", "two"], f"told is {told}")


@check(_AREA, "watchRooms with deliver: all tells every event of every room")
async def _watch_all(world: World) -> None:
    await world.client._api.require("sync")
    ann, bob = await world.people()
    rooms = [await world.new_room(member_ids=[bob.id]) for _ in range(2)]
    told: list[str | None] = []
    async with _connected(world, as_ann=False) as me:
        me.socket.on_message(lambda message: told.append(message.room_id))
        await me.socket.watch_rooms(deliver="all")
        for room in rooms:
            await world.client.messages.create(room.id, content="hello", user_id=ann.id)
        await _within(3, lambda: len(told) >= 2, f"{len(told)} of 2 messages come")
    expect(told == [room.id for room in rooms], "the messages are others")


@check(_AREA, "mine tells a change of the own side to the user's other sockets")
async def _mine_event(world: World) -> None:
    await world.client._api.require("sync")
    _, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    told: list[tuple[str | None, bool]] = []
    async with _connected(world) as ann_too, _connected(world, as_ann=False) as me:
        ann_too.socket.on_mine(lambda event: told.append((event.room_id, False)))
        me.socket.on_mine(
            lambda event: told.append(
                (event.room_id, bool(event.mine and event.mine.marked_unread))
            )
        )
        await ann_too.socket.watch_rooms()
        await me.socket.watch_rooms()
        await world.client.rooms.update_mine(room.id, user_id=bob.id, marked_unread=True)
        await _within(3, lambda: (room.id, True) in told, "it does not come")
    expect((room.id, False) not in told, "another user is told")
