"""Who may what over a socket, and who hears what: each role, and a stranger. A new client event needs its row in TABLE."""

from typing import Any, NamedTuple

import pytest

from chat_broker_server.chat.models import MineChanges, Room, RoomChanges, User
from chat_broker_server.realtime.requests import _SHAPES
from tests.server.realtime.live_node import PID, LiveNode
from tests.server.realtime.socket_client import Socket

ROLES = ("owner", "moderator", "member", "guest")
EVERYBODY = frozenset(ROLES)
MEMBERS = EVERYBODY - {"guest"}


class Row(NamedTuple):
    """An event of a room: its arguments beside the room, who may, the others' code, and a stranger's."""

    name: str
    fields: dict[str, Any] | None = None
    """None: the room is the only argument."""
    may: frozenset[str] = EVERYBODY
    code: str = ""
    stranger: str = "room_not_found"
    """In a private room; "" if it is no matter of membership."""


TABLE = [
    Row("joinRoom", {}),
    Row("joinRoom", {"peek": True, "sinceRev": 0}),
    Row("leaveRoom", stranger=""),
    Row("sendMessage", {"content": "x"}, MEMBERS, "read_only"),
    Row("startTyping"),
    Row("stopTyping"),
    Row("markRead", {"seq": 1}),
    Row("markDelivered", {"seq": 1}),
    Row("sendSignal", {"name": "wave"}, MEMBERS, "read_only"),
]
OF_NO_ROOM = {"watchRooms", "unwatchRooms", "watchPresence", "refreshToken"}


def test_every_client_event_has_its_row() -> None:
    assert {row.name for row in TABLE} | OF_NO_ROOM == set(_SHAPES)


async def cast(node: LiveNode, *, private: bool) -> tuple[Room, dict[str, User]]:
    """A room with a user of each role, and a stranger."""
    users = {name: await node.user(name) for name in (*ROLES, "stranger")}
    room = await node.room(*(users[role] for role in ROLES), private=private)
    await node.chat.post(PID, room.id, users["owner"].id, "one")
    for role in ROLES[1:]:
        await node.chat.put_member(PID, room.id, users[role].id, role=role)
    return room, users


async def call(socket: Socket, row: Row, room: Room) -> Any:
    arguments = room.id if row.fields is None else {"roomId": room.id, **row.fields}
    return await socket.call(row.name, arguments)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.name} {row.fields}")
async def test_who_may(node: LiveNode, row: Row) -> None:
    room, users = await cast(node, private=True)
    for role in ROLES:
        socket = await node.socket(users[role], room)
        answer = await call(socket, row, room)
        if role in row.may:
            assert answer["ok"], (role, answer)
        else:
            assert answer["error"]["code"] == row.code, (role, answer)
    answer = await call(await node.socket(users["stranger"]), row, room)
    if row.stranger:
        assert answer["error"]["code"] == row.stranger, answer


async def test_who_hears_what(node: LiveNode) -> None:
    """Every role hears the same of a room; a stranger nothing."""
    room, users = await cast(node, private=False)
    sockets = {}
    for name, user in users.items():
        sockets[name] = await node.socket(user)
        if name != "stranger":
            await sockets[name].call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    owner, late = users["owner"].id, await node.user("late")
    said = await node.chat.post(PID, room.id, owner, "two")
    await node.chat.edit(PID, room.id, said.id, "2", by=owner)
    await node.chat.delete_message(PID, room.id, said.id, by=owner)
    await node.chat.update_room(PID, room.id, RoomChanges(settings={"slow_mode": 1}))
    await node.chat.join(PID, room.id, late.id, may_enter_private=False)
    await node.chat.put_member(PID, room.id, late.id, role="guest")
    await node.chat.leave(PID, room.id, late.id)
    told = ("message", "messageDeleted", "roomUpdated", "memberUpdated", "userLeft")
    for role in ROLES:
        for event in told:
            await sockets[role].hears(event)
    for event in told:
        heard = [sockets[role].payloads(event) for role in ROLES]
        assert all(each == heard[0] for each in heard), event
        assert sockets["stranger"].payloads(event) == []


async def test_what_is_hidden_from_one_is_hidden_from_no_other(node: LiveNode) -> None:
    """An owner who has cleared their history hears of later messages alone."""
    room, users = await cast(node, private=False)
    (first,) = (await node.chat.messages_page(PID, room.id)).items
    await node.chat.update_mine(PID, room.id, users["owner"].id, MineChanges(clear_history=True))
    sockets = {}
    for role in ROLES:
        sockets[role] = await node.socket(users[role])
        await sockets[role].call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await node.chat.edit(PID, room.id, first.id, "edited", by=None)
    await node.chat.post(PID, room.id, users["member"].id, "two")
    for role in ROLES:
        await sockets[role].hears("message")
        if role != "owner":
            await sockets[role].hears("messageUpdated")
    assert sockets["owner"].payloads("messageUpdated") == []
