"""A socket that watches hears of all rooms of its user: which come and go, and where something was said."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from chat_broker_server.chat.models import MineChanges, Room, RoomDraft, User
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import Socket

EVENTS = ("roomAdded", "roomRemoved", "roomActivity", "mine")


async def watching(node: LiveNode, user: User, **options: Any) -> Socket:
    socket = await node.socket(user)
    answer = await socket.call("watchRooms", options)
    assert answer["ok"], answer
    return socket


def rooms_of(socket: Socket) -> list[tuple[str, str]]:
    """(event, room) of what was heard of rooms."""
    return [
        (name, payload.get("room_id") or payload["room"]["id"])
        for name, payload in socket.heard
        if name in EVENTS
    ]


async def test_the_answer_is_that_of_sync(node: LiveNode) -> None:
    """With `ok`, page by page, and with what is unread."""
    alice, bob = await node.user("alice"), await node.user("bob")
    rooms = [await node.room(alice, bob) for _ in range(3)]
    for room in rooms:
        await asyncio.sleep(0.002)
        await node.chat.post(PID, room.id, alice.id, "hello")
    socket = await node.socket(bob)
    first = await socket.call("watchRooms", {"limit": 2, "messages": 1})
    assert [delta["room"]["id"] for delta in first["deltas"]] == [rooms[2].id, rooms[1].id]
    assert (first["ok"], first["has_more"], first["removed"]) == (True, True, [])
    assert first["unread"] == {"rooms": 3, "messages": 3, "mentions": 0, "direct": 0}
    assert "token" not in first
    second = await socket.call("watchRooms", {"limit": 2, "cursor": first["cursor"]})
    (delta,) = second["deltas"]
    assert delta["room"]["id"] == rooms[0].id
    assert [message["content"] for message in delta["missed"]] == ["hello"]
    assert (second["has_more"], second["cursor"]) == (False, None)
    have = {
        each["room"]["id"]: [each["last_seq"], each["rev"], each["mine"]["version"]]
        for each in first["deltas"] + second["deltas"]
    }
    have["gone"] = [1, 0, 0]
    again = await socket.call(
        "watchRooms", {"have": have, "epoch": first["epoch"], "token": second["token"]}
    )
    assert (again["deltas"], again["removed"]) == ([], ["gone"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"have": {"r": [1, 2]}},
        {"have": {str(number): [0, 0, 0] for number in range(501)}},
        {"messages": 21},
        {"limit": 0},
        {"limit": 201},
        {"deliver": "some"},
        {"unknown": 1},
    ],
)
async def test_wrong_arguments_are_refused(node: LiveNode, wrong: dict[str, Any]) -> None:
    alice = await node.user("alice")
    socket = await node.socket(alice)
    answer = await socket.call("watchRooms", wrong)
    assert answer["error"]["code"] == "invalid_arguments"
    await node.room(alice)
    await socket.quiet()
    assert rooms_of(socket) == []


async def test_a_message_is_told_with_what_is_unread(node: LiveNode) -> None:
    """To all members who watch, each with their own number; the newest message in its present state."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    hers, his = await watching(node, alice), await watching(node, bob)
    message = await node.chat.post(PID, room.id, alice.id, "hello")
    for socket, unread in ((hers, 0), (his, 1)):
        (payload,) = await socket.hears("roomActivity")
        assert payload == {
            "room_id": room.id,
            "last_seq": 1,
            "rev": 0,
            "last_message": msgspec.to_builtins(message),
            "unread": unread,
            "mentions": 0,
        }
    await node.chat.delete_message(PID, room.id, message.id, by=None)
    (_, payload) = await his.hears("roomActivity", 2)
    assert payload["rev"] == 1
    assert payload["last_message"]["deleted_at"]
    assert (payload["last_message"]["content"], payload["unread"]) == ("", 0)


async def test_a_change_of_an_older_message_is_no_activity(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first, last = [await node.chat.post(PID, room.id, alice.id, "x") for _ in range(2)]
    socket = await watching(node, bob)
    await node.chat.edit(PID, room.id, first.id, "y", by=None)
    await node.realtime.recheck()
    await asyncio.sleep(0.1)
    assert socket.payloads("roomActivity") == []
    await node.chat.edit(PID, room.id, last.id, "z", by=None)
    (payload,) = await socket.hears("roomActivity")
    assert payload["last_message"]["content"] == "z"


async def test_activity_is_told_once_a_second_and_the_newest_wins(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await watching(node, bob)
    heard_at: list[float] = []
    began = time.monotonic()
    while time.monotonic() < began + 2.4:
        await node.chat.post(PID, room.id, alice.id, "x")
        await asyncio.sleep(0.01)
        while len(heard_at) < len(socket.payloads("roomActivity")):
            heard_at.append(time.monotonic())
    last_seq = (await node.chat.get_room(PID, room.id)).last_seq
    await socket.until(lambda: socket.payloads("roomActivity")[-1]["last_seq"] == last_seq)
    assert len(heard_at) == 3
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(heard_at))
    seqs = [payload["last_seq"] for payload in socket.payloads("roomActivity")]
    assert seqs == sorted(seqs)
    assert socket.payloads("roomActivity")[-1]["unread"] == last_seq


async def test_who_has_joined_the_room_gets_its_events_and_no_activity(node: LiveNode) -> None:
    """On this socket; after leaveRoom it is activity again."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    joined, other = await watching(node, bob), await watching(node, bob)
    await joined.call("joinRoom", {"roomId": room.id})
    await node.chat.post(PID, room.id, alice.id, "one")
    await joined.hears("message")
    await other.hears("roomActivity")
    assert joined.payloads("roomActivity") == other.payloads("message") == []
    await joined.call("leaveRoom", room.id)
    await node.chat.post(PID, room.id, alice.id, "two")
    (payload,) = await joined.hears("roomActivity")
    assert payload["last_seq"] == 2
    assert len(joined.payloads("message")) == 1


ADDING: dict[str, Callable[[LiveNode, Room, User], Awaitable[Any]]] = {
    "joined": lambda node, room, user: node.chat.join(
        PID, room.id, user.id, may_enter_private=False
    ),
    "added": lambda node, room, user: node.chat.put_member(PID, room.id, user.id),
}


@pytest.mark.parametrize("name", ADDING)
async def test_a_room_that_comes_is_told_as_a_delta(node: LiveNode, name: str) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    for text in ("one", "two", "three"):
        await node.chat.post(PID, room.id, alice.id, text)
    socket, hers = await watching(node, bob, messages=2), await watching(node, alice)
    await ADDING[name](node, room, bob)
    (delta,) = await socket.hears("roomAdded")
    assert delta["room"]["id"] == room.id
    assert [message["content"] for message in delta["missed"]] == ["two", "three"]
    assert (delta["last_seq"], delta["rev"], delta["mine"]["unread"]) == (3, 1, 0)
    assert (delta["has_more"], delta["reset"], delta["changed"]) == (True, False, [])
    await node.chat.post(PID, room.id, alice.id, "four")
    (payload,) = await socket.hears("roomActivity")
    assert payload["unread"] == 1
    assert hers.payloads("roomAdded") == []


async def test_a_room_that_is_made_with_members_is_told_to_them(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    hers, his = await watching(node, alice), await watching(node, bob)
    room = await node.room(alice, bob)
    for socket in (hers, his):
        (delta,) = await socket.hears("roomAdded")
        assert delta["room"]["id"] == room.id
    assert his.payloads("roomAdded")[0]["mine"]["role"] == "member"


async def test_direct_rooms_and_rooms_of_an_own_id_are_told_once(node: LiveNode) -> None:
    """When they are made; ensuring them again tells those who are new."""
    alice, bob, carol = [await node.user(name) for name in ("alice", "bob", "carol")]
    his, hers = await watching(node, bob), await watching(node, carol)
    for _ in range(2):
        await node.chat.ensure_direct(PID, [alice.id, bob.id])
    for member_ids in ([bob.id], [bob.id, carol.id]):
        await node.chat.ensure_room(
            PID,
            RoomDraft(name="r", created_by=alice.id, member_ids=member_ids, external_id="one"),
        )
    await hers.hears("roomAdded")
    await his.hears("roomAdded", 2)
    await his.quiet()
    assert [each["room"]["kind"] for each in his.payloads("roomAdded")] == ["direct", "room"]
    assert len(hers.payloads("roomAdded")) == 1


REMOVING: dict[str, Callable[[LiveNode, Room, User], Awaitable[Any]]] = {
    "left": lambda node, room, user: node.chat.leave(PID, room.id, user.id),
    "removed": lambda node, room, user: node.chat.remove_member(PID, room.id, user.id),
    "deleted": lambda node, room, _: node.chat.delete_room(PID, room.id),
}


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("reason", REMOVING)
async def test_a_room_that_goes_is_told_with_the_reason_and_nothing_after_it(
    node: LiveNode, reason: str, joins: bool
) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room, other = await node.room(alice, bob, private=True), await node.room(alice, bob)
    socket = await watching(node, bob)
    if joins:
        await socket.call("joinRoom", {"roomId": room.id})
    await node.chat.post(PID, room.id, alice.id, "one")
    await node.chat.mark_read(PID, room.id, bob.id, 1)
    await REMOVING[reason](node, room, bob)
    assert await socket.hears("roomRemoved") == [{"room_id": room.id, "reason": reason}]
    if reason != "deleted":
        message = await node.chat.post(PID, room.id, alice.id, "a secret")
        await node.chat.edit(PID, room.id, message.id, "still", by=None)
    await node.chat.post(PID, other.id, alice.id, "two")
    await socket.until(
        lambda: socket.heard[-1][0] == "roomActivity" and rooms_of(socket)[-1][1] == other.id
    )
    await asyncio.sleep(1.1)
    await socket.quiet()
    after = socket.heard[[name for name, _ in socket.heard].index("roomRemoved") + 1 :]
    assert [name for name, payload in after if room.id in str(payload)] == []


async def test_who_comes_back_is_told_so(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await watching(node, bob)
    for _ in range(5):
        await node.chat.remove_member(PID, room.id, bob.id)
        await node.chat.put_member(PID, room.id, bob.id)
    await socket.until(lambda: rooms_of(socket)[-1:] == [("roomAdded", room.id)])
    await asyncio.sleep(0.1)
    told = [name for name, _ in rooms_of(socket)]
    assert told == ["roomRemoved", "roomAdded"] * (len(told) // 2)


async def test_the_own_side_is_told_to_who_watches(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket, hers = await watching(node, bob), await watching(node, alice)
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(pinned=True))
    (payload,) = await socket.hears("mine")
    assert payload["mine"]["pinned_at"]
    await hers.quiet()
    assert hers.payloads("mine") == []


async def test_hidden_messages_are_no_activity(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    message = await node.chat.post(PID, room.id, alice.id, "one")
    socket = await watching(node, bob)
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    other = await watching(node, bob)
    await node.chat.edit(PID, room.id, message.id, "edited", by=None)
    await asyncio.sleep(1.1)
    assert socket.payloads("roomActivity") == other.payloads("roomActivity") == []
    await node.chat.post(PID, room.id, alice.id, "two")
    (payload,) = await socket.hears("roomActivity")
    assert payload["last_message"]["content"] == "two"


async def test_unwatch_rooms_ends_it(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    socket = await watching(node, bob)
    assert await socket.call("unwatchRooms") == {"ok": True}
    await node.chat.post(PID, room.id, alice.id, "one")
    await node.room(alice, bob)
    await asyncio.sleep(0.1)
    await socket.quiet()
    assert rooms_of(socket) == []
    assert node.fact("users_watching") == 0


async def test_a_node_forgets_users_whose_sockets_have_ended(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    sockets = [await watching(node, bob), await watching(node, bob, deliver="all")]
    assert node.fact("users_watching") == 1
    await sockets[0].close()
    await node.chat.post(PID, room.id, alice.id, "one")
    await sockets[1].hears("message")
    await sockets[1].close()
    await until(lambda: not node.fact("users_watching") and not node.fact("rooms_live"))
    watched = node.realtime._watching._watched
    assert (watched.rooms(), list(watched)) == ([], [])


# -- deliver: all ---------------------------------------------------------------------------------


async def test_deliver_all_brings_every_event_of_every_room(node: LiveNode) -> None:
    """As if joined: of rooms there are and of rooms that come, until they go."""
    alice, bob = await node.user("alice"), await node.user("bob")
    rooms = [await node.room(alice, bob) for _ in range(3)]
    bot = await watching(node, bob, deliver="all")
    rooms.append(await node.room(alice, bob))
    await bot.hears("roomAdded")
    for room in rooms:
        message = await node.chat.post(PID, room.id, alice.id, room.id)
        await node.chat.edit(PID, room.id, message.id, "edited", by=None)
    await bot.hears("messageUpdated", 4)
    assert [payload["room_id"] for payload in bot.payloads("message")] == [r.id for r in rooms]
    assert (await bot.call("startTyping", rooms[0].id))["ok"]
    assert bot.payloads("roomActivity") == []
    await node.chat.remove_member(PID, rooms[0].id, bob.id)
    await bot.hears("roomRemoved")
    await node.chat.post(PID, rooms[0].id, alice.id, "a secret")
    await bot.call("joinRoom", rooms[1].id)
    await bot.call("unwatchRooms")
    for room in rooms[1:]:
        await node.chat.post(PID, room.id, alice.id, "later")
    await bot.hears("message", 5)
    await bot.quiet()
    assert [payload["room_id"] for payload in bot.payloads("message")[4:]] == [rooms[1].id]


async def test_deliver_all_is_for_a_thousand_rooms(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_broker_server.realtime.watching.ROOMS_DELIVERED", 2)
    alice = await node.user("alice")
    for _ in range(3):
        await node.room(alice)
    socket = await node.socket(alice)
    answer = await socket.call("watchRooms", {"deliver": "all"})
    assert answer["error"]["code"] == "too_many_rooms"
    assert node.fact("users_watching") == node.fact("rooms_live") == 0


async def test_deliver_all_tells_each_message_once_also_while_it_is_answered(
    node: LiveNode,
) -> None:
    """What is in the answer is not told again, and nothing falls between."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    stop = asyncio.Event()

    async def talk() -> None:
        while not stop.is_set():
            await node.chat.post(PID, room.id, alice.id, "x")
            await asyncio.sleep(0)

    talking = asyncio.create_task(talk())
    for _ in range(10):
        socket = await node.socket(bob)
        answer = await socket.call("watchRooms", {"deliver": "all"})
        heard = await socket.hears("message", 20)
        first = answer["deltas"][0]["last_seq"] + 1
        assert [m["seq"] for m in heard] == list(range(first, first + len(heard)))
    stop.set()
    await talking


# -- order and healing ----------------------------------------------------------------------------


async def test_nothing_falls_between_and_a_room_is_known_before_it_is_told(
    node: LiveNode,
) -> None:
    await check_rooms_that_come_and_go(node)


@pytest.mark.services("postgres")
async def test_nothing_falls_between_on_postgres(postgres_url: str) -> None:
    """Where a read takes some turns of the loop, in which other things happen."""
    async with running_node(postgres_url) as node:
        await check_rooms_that_come_and_go(node)


async def check_rooms_that_come_and_go(node: LiveNode) -> None:
    """While rooms come and go and fill, over any number of answers."""
    alice, bob = await node.user("alice"), await node.user("bob")
    stop = asyncio.Event()

    async def live() -> None:
        rooms: list[Room] = []
        while not stop.is_set():
            rooms.append(await node.room(alice, bob))
            await node.chat.post(PID, rooms[-1].id, alice.id, "x")
            if len(rooms) > 10:
                room = rooms.pop(0)
                await node.chat.remove_member(PID, room.id, bob.id)
            await asyncio.sleep(0.001)

    living = asyncio.create_task(live())
    sockets = []
    for _ in range(12):
        socket = await node.socket(bob)
        answer = await socket.call("watchRooms", {"limit": 200})
        assert not answer["has_more"]
        sockets.append((socket, answer))
    stop.set()
    await living
    await asyncio.sleep(1.2)
    own = {room.id for room in (await node.chat.list_rooms(PID, _own(bob), limit=200)).items}
    for socket, answer in sockets:
        known = {delta["room"]["id"]: delta["last_seq"] for delta in answer["deltas"]}
        for name, payload in socket.heard:
            if name == "roomAdded":
                known[payload["room"]["id"]] = payload["last_seq"]
            elif name == "roomRemoved":
                del known[payload["room_id"]]
            elif name in EVENTS:
                assert payload["room_id"] in known, name
                known[payload["room_id"]] = payload.get("last_seq", 0)
        assert known == dict.fromkeys(own, 1)


def _own(user: User) -> Any:
    from chat_broker_server.chat.rooms import RoomFilter

    return RoomFilter(member_id=user.id)


async def test_what_was_not_heard_is_told_after_comparing_with_the_database(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rooms that came, went and were deleted, messages, and the user's own side."""
    alice, bob = await node.user("alice"), await node.user("bob")
    rooms = [await node.room(alice, bob) for _ in range(4)]
    socket = await watching(node, bob)
    monkeypatch.setattr(node.chat, "_publish", lambda _: None)
    come = await node.room(alice, bob)
    await node.chat.remove_member(PID, rooms[0].id, bob.id)
    await node.chat.delete_room(PID, rooms[1].id)
    await node.chat.post(PID, rooms[2].id, alice.id, "hello")
    await node.chat.update_mine(PID, rooms[3].id, bob.id, MineChanges(archived="yes"))
    await socket.quiet()
    assert rooms_of(socket) == []
    for _ in range(2):
        await node.realtime.recheck()
        await socket.until(lambda: len(rooms_of(socket)) == 5)
        await asyncio.sleep(0.3)
    assert sorted(rooms_of(socket)) == sorted(
        [
            ("roomAdded", come.id),
            ("roomRemoved", rooms[0].id),
            ("roomRemoved", rooms[1].id),
            ("roomActivity", rooms[2].id),
            ("mine", rooms[3].id),
        ]
    )
    reasons = {each["room_id"]: each["reason"] for each in socket.payloads("roomRemoved")}
    assert reasons[rooms[0].id] == "removed"


async def test_the_rooms_with_the_newest_activity_are_told(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one enters when something happens in it and the user connects."""
    monkeypatch.setattr("chat_broker_server.realtime.watching.ROOMS_TOLD", 2)
    alice, bob = await node.user("alice"), await node.user("bob")
    rooms = []
    for _ in range(3):
        rooms.append(await node.room(alice, bob))
        await asyncio.sleep(0.002)
    socket = await watching(node, bob)
    await node.chat.post(PID, rooms[0].id, alice.id, "x")
    await node.chat.post(PID, rooms[2].id, alice.id, "x")
    await socket.hears("roomActivity")
    assert rooms_of(socket) == [("roomActivity", rooms[2].id)]
    await socket.call("watchRooms", {})
    await node.realtime.recheck()
    await asyncio.sleep(1.05)
    await node.chat.post(PID, rooms[0].id, alice.id, "x")
    await node.chat.post(PID, rooms[1].id, alice.id, "x")
    await socket.hears("roomActivity", 2)
    assert rooms_of(socket)[-1] == ("roomActivity", rooms[0].id)
    assert rooms[1].id not in {room_id for _, room_id in rooms_of(socket)}
    assert len(node.realtime._watching._watched.rooms()) == 2


async def test_large_rooms_are_told_without_unread_in_one_frame(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_broker_server.realtime import activity_events

    encoded: list[Any] = []

    def event(name: str, payload: bytes) -> Any:
        encoded.append(name)
        return packets_event(name, payload)

    packets_event = activity_events.packets.event
    alice = await node.user("alice")
    others = [await node.user(f"user{number}") for number in range(101)]
    room = await node.room(alice, *others)
    sockets = [await watching(node, user) for user in others[:5]]
    monkeypatch.setattr(activity_events.packets, "event", event)
    await node.chat.post(PID, room.id, alice.id, "hello")
    for socket in sockets:
        (payload,) = await socket.hears("roomActivity")
        assert payload.keys() == {"room_id", "last_seq", "rev", "last_message"}
    assert encoded.count("roomActivity") == 1


async def test_a_room_that_becomes_large_or_small_is_told(node: LiveNode) -> None:
    """Large with 101 members, small again with 80: by roomUpdated, with a rev of its own."""
    users = [await node.user(f"user{number}") for number in range(101)]
    room = await node.room(*users[:100])
    socket = await node.socket(users[0])
    await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await node.chat.put_member(PID, room.id, users[100].id)
    told = [each for each in await socket.hears("roomUpdated") if each["rev"] == 2]
    assert {(each["small"], each["member_count"]) for each in told} == {(False, 101)}
    for user in users[81:]:
        await node.chat.remove_member(PID, room.id, user.id)
    await socket.quiet()
    assert [each["small"] for each in socket.payloads("roomUpdated") if each["small"]] == []
    await node.chat.remove_member(PID, room.id, users[80].id)
    await socket.until(lambda: socket.payloads("roomUpdated")[-1]["small"], within=10)
    assert socket.payloads("roomUpdated")[-1]["member_count"] == 80
    changes = await node.chat.changes(PID, room.id, 0, limit=200)
    assert [each.kind for each in changes.items].count("room") == 1
