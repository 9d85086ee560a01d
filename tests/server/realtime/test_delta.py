"""joinRoom tells a client that comes back what it lacks; a node tells what it has not heard of."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec
import pytest

from chat_broker_kit.database.transactions import Query, all_rows
from chat_broker_server.chat.models import MineChanges, Room, RoomChanges, User
from chat_broker_server.realtime.limits import Limits
from tests.conftest import postgres_database
from tests.server.realtime.live_node import PID, LiveNode, running_node, until

Pair = tuple[LiveNode, LiveNode]


@pytest.fixture
async def deaf_nodes(database_url: str) -> AsyncIterator[Pair]:
    """Two nodes on one database that hear nothing of each other."""
    limits = Limits(recheck_seconds=0.2)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_node(database_url, limits=limits))
        two = await stack.enter_async_context(running_node(database_url, limits=limits))
        yield one, two


async def join(node: LiveNode, user: User, room: Room, **known: Any) -> dict[str, Any]:
    socket = await node.socket(user)
    answer: dict[str, Any] = await socket.call("joinRoom", {"roomId": room.id, **known})
    assert answer["ok"], answer
    return answer


async def post(node: LiveNode, room: Room, user: User, *contents: str) -> list[str]:
    return [(await node.chat.post(PID, room.id, user.id, each)).id for each in contents]


async def edit(node: LiveNode, room: Room, message_id: str) -> None:
    await node.chat.edit(PID, room.id, message_id, "edited", by=None)


async def test_who_comes_back_gets_what_is_new_and_what_changed(node: LiveNode) -> None:
    """New messages as they are now; of older ones those that changed; from `fromSeq` on."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    one, two, _three = await post(node, room, alice, "one", "two", "three")
    first = await join(node, bob, room, sinceRev=0)
    assert (first["rev"], first["last_seq"], first["missed"], first["changed"]) == (0, 3, [], [])
    (four,) = await post(node, room, alice, "four")
    for message_id in (one, two, four):
        await edit(node, room, message_id)
    await node.chat.update_room(PID, room.id, RoomChanges(name="other"))
    known = {"sinceSeq": 3, "sinceRev": first["rev"], "epoch": first["epoch"]}
    answer = await join(node, bob, room, **known)
    assert (answer["reset"], answer["has_more"], answer["rev"]) == (False, False, 4)
    assert [(each["seq"], each["rev"]) for each in answer["missed"]] == [(4, 3)]
    changed = [(each["rev"], each["kind"]) for each in answer["changed"]]
    assert changed == [(1, "message"), (2, "message"), (4, "room")]
    assert answer["room"]["name"] == "other"
    answer = await join(node, bob, room, **known, fromSeq=2)
    assert [each["rev"] for each in answer["changed"]] == [2, 4]


async def test_what_a_member_has_hidden_is_not_answered(node: LiveNode) -> None:
    """Neither as new, nor as changed, nor after a reset; `mine` says where the room begins for them."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    one, two = await post(node, room, alice, "one", "two")
    await node.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    (three,) = await post(node, room, alice, "three")
    for message_id in (one, two, three):
        await edit(node, room, message_id)
    for known, missed, changed in (
        ({"sinceSeq": 0}, [3], []),
        ({"sinceSeq": 2, "sinceRev": 0}, [3], []),
        ({"sinceSeq": 3, "sinceRev": 0}, [], [3]),
        ({"sinceSeq": 3, "sinceRev": 0, "epoch": "another"}, [3], []),
    ):
        answer = await join(node, bob, room, **known)
        assert [each["seq"] for each in answer["missed"]] == missed, known
        assert [each["rev"] for each in answer["changed"]] == changed, known
        assert answer["has_more"] is False
        mine = msgspec.to_builtins(await node.chat.mine(PID, room.id, bob.id))
        assert answer["mine"] == mine
        assert (mine["from_seq"], mine["unread"]) == (3, 1)
    answer = await join(node, alice, room, sinceSeq=0)
    assert [each["seq"] for each in answer["missed"]] == [1, 2, 3]


async def test_a_client_of_before_is_answered_as_before(node: LiveNode) -> None:
    """No changes without `sinceRev`, and no reset."""
    alice = await node.user("alice")
    room = await node.room(alice)
    (one,) = await post(node, room, alice, "one")
    await edit(node, room, one)
    answer = await join(node, alice, room, sinceSeq=0)
    assert [each["rev"] for each in answer["missed"]] == [1]
    answer = await join(node, alice, room, sinceSeq=5)
    assert (answer["missed"], answer["changed"], answer["reset"]) == ([], [], False)


@pytest.mark.parametrize(
    "known",
    [
        {"sinceSeq": 61, "sinceRev": 2},
        {"sinceSeq": 60, "sinceRev": 3},
        {"sinceSeq": 60, "sinceRev": 0},
        {"sinceSeq": 60, "sinceRev": 2, "epoch": "another"},
        {"sinceSeq": 60, "epoch": "another"},
    ],
)
async def test_numbers_of_another_life_reset(node: LiveNode, known: dict[str, Any]) -> None:
    """Beyond the room's, before what is kept, or of another epoch: the newest fifty, oldest first."""
    alice = await node.user("alice")
    room = await node.room(alice)
    ids = await post(node, room, alice, *map(str, range(60)))
    await edit(node, room, ids[0])
    await edit(node, room, ids[1])
    forget = Query("UPDATE rooms SET forgotten_rev = 1 WHERE id = $1", room.id)
    await node.database.write(partial(all_rows, forget))
    answer = await join(node, alice, room, **known)
    assert answer["reset"] is True
    assert [each["seq"] for each in answer["missed"]] == list(range(11, 61))
    assert (answer["changed"], answer["has_more"]) == ([], False)
    answer = await join(node, alice, room, sinceSeq=60, sinceRev=1)
    assert (answer["reset"], [each["rev"] for each in answer["changed"]]) == (False, [2])


async def test_more_changes_than_fit_say_so(node: LiveNode) -> None:
    """Two hundred at once; the rest over REST, from the last of them on."""
    alice = await node.user("alice")
    room = await node.room(alice)
    ids = await post(node, room, alice, *map(str, range(202)))
    for message_id in ids:
        await edit(node, room, message_id)
    answer = await join(node, alice, room, sinceSeq=202, sinceRev=0)
    assert (len(answer["changed"]), answer["has_more"], answer["rev"]) == (200, True, 202)
    rest = await node.chat.changes(PID, room.id, answer["changed"][-1]["rev"])
    assert ([each.rev for each in rest.items], rest.has_more) == ([201, 202], False)


@pytest.mark.parametrize("number", [-1, "1", 1.5, True])
@pytest.mark.parametrize("name", ["sinceRev", "fromSeq"])
async def test_numbers_that_are_none_are_refused(node: LiveNode, name: str, number: Any) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice)
    answer = await socket.call("joinRoom", {"roomId": room.id, name: number})
    assert answer["error"]["code"] == "invalid_arguments"


async def test_another_role_is_told_to_clients_that_know_revs(node: LiveNode) -> None:
    """The others hear nothing they do not know."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    old, new = await node.socket(alice, room), await node.socket(alice)
    await new.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await node.chat.put_member(PID, room.id, bob.id, role="owner")
    (member,) = await new.hears("memberUpdated")
    assert (member["user_id"], member["role"], member["rev"]) == (bob.id, "owner", 1)
    await node.chat.put_member(PID, room.id, bob.id, role="owner")
    await post(node, room, alice, "hello")
    await old.hears("message")
    assert old.payloads("memberUpdated") == []
    await new.hears("message")
    assert len(new.payloads("memberUpdated")) == 1


async def test_changes_that_no_hint_tells_are_told_all_the_same(deaf_nodes: Pair) -> None:
    """Edit, deletion, room fields, joining, role, leaving: found in the database, each in order after its message."""
    one, two = deaf_nodes
    alice, bob, carol = await one.user("alice"), await one.user("bob"), await one.user("carol")
    room = await one.room(alice, bob)
    edited, deleted = await post(one, room, alice, "one", "two")
    socket = await two.socket(alice)
    await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 0, "sinceRev": 0})
    await edit(one, room, edited)
    await one.chat.delete_message(PID, room.id, deleted, by=None)
    await one.chat.update_room(PID, room.id, RoomChanges(name="other"))
    await one.chat.join(PID, room.id, carol.id, may_enter_private=True)
    await one.chat.put_member(PID, room.id, bob.id, role="owner")
    (later,) = await post(one, room, alice, "three")
    await edit(one, room, later)
    (updated, again) = await socket.hears("messageUpdated", 2)
    assert (updated["rev"], updated["content"], "change" in updated) == (1, "edited", False)
    assert (again["rev"], again["seq"]) == (6, 3)
    assert [each["rev"] for each in await socket.hears("messageDeleted")] == [2]
    (changed,) = await socket.hears("roomUpdated")
    assert (changed["rev"], changed["name"]) == (3, "other")
    (joined,) = await socket.hears("userJoined")
    assert (joined["rev"], joined["user_id"]) == (4, carol.id)
    (member,) = await socket.hears("memberUpdated")
    assert (member["rev"], member["user_id"], member["role"]) == (5, bob.id, "owner")
    await one.chat.leave(PID, room.id, carol.id)
    (left,) = await socket.hears("userLeft")
    assert (left["rev"], left["user_id"]) == (7, carol.id)


@pytest.mark.services("postgres")
async def test_changes_of_many_nodes_are_heard_in_one_order(tmp_path: Any) -> None:
    """Each listener hears revs that rise, and has every message's last state in the end."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(postgres_database())
        limits = Limits(recheck_seconds=0.2)
        nodes = [
            await stack.enter_async_context(running_node(url, limits=limits)) for _ in range(2)
        ]
        one, two = nodes
        alice = await one.user("alice")
        room = await one.room(alice)
        ids = await post(one, room, alice, *map(str, range(5)))
        sockets = [await node.socket(alice) for node in nodes]
        for socket in sockets:
            await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 5, "sinceRev": 0})
        for turn in range(40):
            await edit(nodes[turn % 2], room, ids[turn % 5])
        final = {each.id: each.rev for each in (await two.chat.messages_page(PID, room.id)).items}
        for socket in sockets:
            await until(
                lambda socket=socket: any(
                    each["rev"] == 40 for each in socket.payloads("messageUpdated")
                )
            )
            heard = socket.payloads("messageUpdated")
            revs = [each["rev"] for each in heard]
            assert revs == sorted(set(revs))
            assert {each["id"]: each["rev"] for each in heard} == final


async def test_who_peeks_listens_and_is_nobody_there(node: LiveNode) -> None:
    """No member, not counted, and may neither post nor type nor mark."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    await post(node, room, alice, "one")
    alices, bobs = await node.socket(alice, room), await node.socket(bob)
    peek = {"roomId": room.id, "peek": True, "sinceSeq": 0, "sinceRev": 0}
    answer = await bobs.call("joinRoom", peek)
    assert (answer["ok"], answer["mine"], answer["members_online"]) == (True, None, 1)
    assert [each["seq"] for each in answer["missed"]] == [1]
    assert await node.chat.member(PID, room.id, bob.id) is None
    await post(node, room, alice, "two")
    assert [each["seq"] for each in await bobs.hears("message")] == [2]
    for event, arguments, code in (
        ("startTyping", [room.id], "not_joined"),
        ("sendMessage", [room.id, "x"], "not_a_member"),
        ("markRead", [{"roomId": room.id, "seq": 1}], "not_a_member"),
    ):
        assert (await bobs.call(event, *arguments))["error"]["code"] == code
    assert alices.payloads("userJoined") == []
    joined = await bobs.call("joinRoom", room.id)
    assert (joined["members_online"], joined["mine"]["role"]) == (2, "member")
    assert (await bobs.call("startTyping", room.id))["ok"]


async def test_nobody_peeks_into_a_private_room(node: LiveNode) -> None:
    """It does not exist; one that becomes private is closed before anything else is told."""
    alice, bob = await node.user("alice"), await node.user("bob")
    secret, room = await node.room(alice, private=True), await node.room(alice)
    socket = await node.socket(bob)
    answer = await socket.call("joinRoom", {"roomId": secret.id, "peek": True})
    assert answer["error"]["code"] == "room_not_found"
    assert (await socket.call("joinRoom", {"roomId": room.id, "peek": True}))["ok"]
    await node.chat.update_room(PID, room.id, RoomChanges(name="secret", private=True))
    await post(node, room, alice, "a secret")
    await socket.quiet()
    assert (socket.payloads("roomUpdated"), socket.payloads("message")) == ([], [])


async def test_peeking_ends_though_no_hint_tells_it(deaf_nodes: Pair) -> None:
    """The other node has made the room private; an open one goes on."""
    one, two = deaf_nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    secret, still_open = await one.room(alice), await one.room(alice)
    socket = await two.socket(bob)
    for room in (secret, still_open):
        assert (await socket.call("joinRoom", {"roomId": room.id, "peek": True}))["ok"]
    await one.chat.update_room(PID, secret.id, RoomChanges(private=True))
    await until(lambda: two.fact("rooms_live") == 1)
    await post(one, secret, alice, "a secret")
    await post(one, still_open, alice, "hello")
    assert [each["room_id"] for each in await socket.hears("message")] == [still_open.id]


async def test_a_member_who_peeks_just_joins(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice, private=True)
    socket = await node.socket(alice)
    answer = await socket.call("joinRoom", {"roomId": room.id, "peek": True})
    assert (answer["members_online"], answer["mine"]["role"]) == (1, "owner")
    assert (await socket.call("startTyping", room.id))["ok"]
    refused = await socket.call("joinRoom", {"roomId": room.id, "peek": 1})
    assert refused["error"]["code"] == "invalid_arguments"
