"""The Socket.IO half of the Chat API's contract, row by row, on a real port."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chat_broker_server.chat.models import UserChanges
from chat_broker_server.realtime.limits import Limits
from tests.conftest import postgres_database
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import connected

ROOM_FIELDS = {
    "id", "project_id", "name", "description", "private", "created_by", "member_count", "last_seq",
    "last_message_at", "metadata", "created_at", "updated_at", "kind", "small",
}  # fmt: skip
MESSAGE_FIELDS = {
    "id", "room_id", "seq", "user_id", "username", "display_name", "content", "client_msg_id", "metadata",
    "created_at", "edited_at", "deleted_at",
}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))],
)
async def postgres(request: pytest.FixtureRequest) -> AsyncIterator[str | None]:
    """The database URL for this module; None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    async with postgres_database() as url:
        yield url


@pytest.fixture
async def node(postgres: str | None, tmp_path: Path) -> AsyncIterator[LiveNode]:
    limits = Limits(typing_seconds=0.4, missed_messages=5, expiry_grace=0.5)
    if postgres is not None:
        await emptied(postgres)
    url = postgres or f"sqlite:///{tmp_path / 'chat.db'}"
    async with running_node(url, limits=limits) as node:
        yield node


async def emptied(url: str) -> None:
    """Cheaper than a database for each test."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()


async def test_join_room_answers_with_the_room(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice)
    answer = await socket.call("joinRoom", room.id)
    assert answer.keys() == {
        *("ok", "room", "members_online", "last_seq", "missed", "has_more"),
        *("rev", "epoch", "reset", "changed", "mine", "receipts"),
    }
    assert answer["room"].keys() == ROOM_FIELDS
    assert answer["members_online"] == 1
    assert answer["last_seq"] == 0
    assert answer["missed"] == []


async def test_join_room_with_since_seq_answers_what_was_missed(node: LiveNode) -> None:
    """Missed messages come in order and in bounded number; `has_more` is true if more exist."""
    alice = await node.user("alice")
    room = await node.room(alice)
    for number in range(8):
        await node.chat.post(PID, room.id, alice.id, f"message {number}")
    socket = await node.socket(alice)
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 5})
    assert [message["seq"] for message in answer["missed"]] == [6, 7, 8]
    assert answer["missed"][0].keys() == MESSAGE_FIELDS
    assert answer["has_more"] is False
    answer = await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 0})
    assert [message["seq"] for message in answer["missed"]] == [1, 2, 3, 4, 5]
    assert answer["has_more"] is True
    assert answer["last_seq"] == 8
    assert (await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 8}))["missed"] == []
    assert (await socket.call("joinRoom", {"roomId": room.id, "sinceSeq": 99}))["missed"] == []


@pytest.mark.parametrize(
    ("camel", "snake"),
    [
        ("joinRoom", "join_room"),
        ("leaveRoom", "leave_room"),
        ("sendMessage", "send_message"),
        ("startTyping", "start_typing"),
        ("stopTyping", "stop_typing"),
        ("markRead", "mark_read"),
        ("markDelivered", "mark_delivered"),
        ("refreshToken", "refresh_token"),
    ],
)
async def test_both_spellings_of_an_event_are_one_event(
    node: LiveNode, camel: str, snake: str
) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    arguments = {
        "sendMessage": [room.id, "hello"],
        "markRead": [{"roomId": room.id, "seq": 0}],
        "markDelivered": [{"roomId": room.id, "seq": 0}],
        "refreshToken": [{"token": await node.token(alice)}],
    }.get(camel, [room.id])
    if camel == "leaveRoom":
        assert await socket.call(snake, *arguments) == {"ok": True}
    assert (await socket.call(camel, *arguments))["ok"] is True
    if camel != "leaveRoom":
        assert (await socket.call(snake, *arguments))["ok"] is True


async def test_a_message_reaches_everybody_in_the_room_and_its_sender(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    first, second, bobs = [await node.socket(who, room) for who in (alice, alice, bob)]
    answer = await first.call(
        "sendMessage",
        {"roomId": room.id, "content": "hello ✓", "clientMsgId": "c1", "metadata": {"a": [1]}},
    )
    assert answer["ok"] is True
    assert answer["message"].keys() == MESSAGE_FIELDS
    for socket in (first, second, bobs):
        assert await socket.hears("message") == [answer["message"]]
    assert answer["message"]["client_msg_id"] == "c1"
    assert answer["message"]["metadata"] == {"a": [1]}
    again = await bobs.call("sendMessage", room.id, "plain")
    assert again["message"]["seq"] == 2
    repeat = await first.call(
        "sendMessage", {"roomId": room.id, "content": "x", "clientMsgId": "c1"}
    )
    assert repeat["message"]["id"] == answer["message"]["id"]
    await first.hears("message", 2)
    await first.quiet()
    assert len(first.payloads("message")) == 2


async def test_what_happens_over_rest_reaches_sockets_as_if_sent_by_one(node: LiveNode) -> None:
    """One path for both: posting, editing, deleting, joining, leaving, changing and deleting the room."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    message = await node.chat.post(PID, room.id, alice.id, "over REST")
    (heard,) = await socket.hears("message")
    assert heard.keys() == MESSAGE_FIELDS
    assert heard["id"] == message.id
    await node.chat.edit(PID, room.id, message.id, "edited", by=None)
    (edited,) = await socket.hears("messageUpdated")
    assert edited.keys() == MESSAGE_FIELDS | {"rev", "change"}
    assert (edited["content"], edited["rev"], edited["change"]) == ("edited", 1, {"kind": "edited"})
    await node.chat.delete_message(PID, room.id, message.id, by=None)
    (deleted,) = await socket.hears("messageDeleted")
    assert (deleted["seq"], deleted["content"], deleted["rev"]) == (1, "", 2)
    await node.chat.join(PID, room.id, bob.id, may_enter_private=True)
    joined = {"room_id": room.id, "user_id": bob.id, "username": "bob", "display_name": None}
    assert await socket.hears("userJoined") == [joined | {"rev": 3}]
    await node.chat.leave(PID, room.id, bob.id)
    assert await socket.hears("userLeft") == [joined | {"rev": 4}]
    from chat_broker_server.chat.models import RoomChanges

    await node.chat.update_room(PID, room.id, RoomChanges(name="new name"))
    (changed,) = await socket.hears("roomUpdated")
    assert changed.keys() == ROOM_FIELDS | {"rev"}
    assert (changed["name"], changed["rev"]) == ("new name", 5)
    await node.chat.delete_room(PID, room.id)
    assert await socket.hears("roomDeleted") == [{"room_id": room.id}]
    assert (await socket.call("sendMessage", room.id, "x"))["error"]["code"] == "room_not_found"


async def test_joining_an_open_room_makes_a_member(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    listener = await node.socket(alice, room)
    await node.socket(bob, room)
    assert (await listener.hears("userJoined"))[0]["user_id"] == bob.id
    assert await node.chat.member(PID, room.id, bob.id) is not None


async def test_a_private_room_is_to_strangers_as_if_it_did_not_exist(node: LiveNode) -> None:
    """Every request gets an equal response, byte for byte but for the id."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, private=True)
    inside = await node.socket(alice, room)
    socket = await node.socket(bob)
    for event, arguments in (
        ("joinRoom", lambda room_id: [room_id]),
        ("sendMessage", lambda room_id: [room_id, "hi"]),
        ("startTyping", lambda room_id: [room_id]),
        ("markRead", lambda room_id: [{"roomId": room_id, "seq": 1}]),
    ):
        here = await socket.call(event, *arguments(room.id))
        nowhere = await socket.call(event, *arguments("0" * 36))
        assert here == nowhere
        assert here["error"]["code"] == "room_not_found", event
    await inside.quiet()
    assert inside.heard == []


async def test_leave_room_is_about_this_socket_and_not_about_membership(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    stays, goes = await node.socket(alice, room), await node.socket(alice, room)
    assert await goes.call("leaveRoom", room.id) == {"ok": True}
    await node.chat.post(PID, room.id, alice.id, "hello")
    await stays.hears("message")
    await goes.quiet()
    assert goes.payloads("message") == []
    assert stays.payloads("userLeft") == []
    assert await node.chat.member(PID, room.id, alice.id) is not None


async def test_typing_is_told_to_others_and_ends_by_itself(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    await node.chat.update_user(PID, alice.id, UserChanges(display_name="Alice A."))
    room = await node.room(alice, bob)
    writer, reader = await node.socket(alice, room), await node.socket(bob, room)
    assert await writer.call("startTyping", room.id) == {"ok": True}
    who = {
        "room_id": room.id,
        "user_id": alice.id,
        "username": "alice",
        "display_name": "Alice A.",
    }
    soon = 0  # in whole seconds, of the half second that these nodes wait
    assert await reader.hears("userTyping") == [{**who, "expires_in": soon}]
    began = time.monotonic()
    assert await reader.hears("userStoppedTyping") == [who]
    assert time.monotonic() - began < 2
    await writer.call("startTyping", room.id)
    await writer.call("stopTyping", room.id)
    assert len(await reader.hears("userStoppedTyping", 2)) == 2
    await writer.call("startTyping", room.id)
    await writer.close()
    assert len(await reader.hears("userStoppedTyping", 3)) == 3
    assert writer.payloads("userTyping") == []


async def test_leaving_a_room_ends_typing_there(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    writer, reader = await node.socket(alice, room), await node.socket(bob, room)
    await writer.call("startTyping", room.id)
    await writer.call("leaveRoom", room.id)
    await reader.hears("userStoppedTyping")
    answer = await writer.call("startTyping", room.id)
    assert answer["error"]["code"] == "not_joined"


async def test_mark_read_answers_mark_and_unread(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    for _ in range(3):
        await node.chat.post(PID, room.id, bob.id, "hello")
    socket = await node.socket(alice, room)
    answer = await socket.call("markRead", {"roomId": room.id, "seq": 2})
    assert answer == {"ok": True, "last_read_seq": 2, "unread": 1}
    answer = await socket.call("markRead", {"roomId": room.id, "seq": 1})
    assert answer["last_read_seq"] == 2


async def test_members_online_counts_users_and_not_sockets(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    await node.socket(alice, room)
    await node.socket(alice, room)
    bobs = await node.socket(bob)
    assert (await bobs.call("joinRoom", room.id))["members_online"] == 2
    await bobs.close()
    await until(lambda: node.fact("sockets_authenticated") == 2)
    third = await node.socket(alice)
    assert (await third.call("joinRoom", room.id))["members_online"] == 1


async def test_failed_calls_are_acknowledged_or_told_as_an_error_event(node: LiveNode) -> None:
    socket = await node.socket(await node.user("alice"))
    answer = await socket.call("joinRoom", "nowhere")
    assert answer == {
        "ok": False,
        "error": {"code": "room_not_found", "message": answer["error"]["message"]},
    }
    await socket.emit("joinRoom", "nowhere")
    (error,) = await socket.hears("error")
    assert error["code"] == "room_not_found"
    assert error.keys() == {"code", "message", "reconnect"}


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("joinRoom", []),
        ("joinRoom", [1]),
        ("joinRoom", [""]),
        ("joinRoom", ["x", "y"]),
        ("joinRoom", [{"roomId": "x", "sinceSeq": "1"}]),
        ("joinRoom", [{"roomId": "x", "sinceSeq": -1}]),
        ("joinRoom", [{"roomId": "x", "sinceSeq": 1.5}]),
        ("joinRoom", [{"roomId": "x", "sinceSeq": True}]),
        ("joinRoom", [{"roomId": "x", "user_id": "me"}]),
        ("sendMessage", ["x"]),
        ("sendMessage", ["x", 1]),
        ("sendMessage", ["x", None]),
        ("sendMessage", [{"roomId": "x", "content": "y", "user_id": "z"}]),
        ("sendMessage", [{"roomId": "x", "content": "y", "metadata": []}]),
        ("sendMessage", ["x", "y", "z"]),
        ("markRead", ["x", 1]),
        ("markRead", [{"roomId": "x"}]),
        ("startTyping", [{"roomId": "x"}]),
        ("refreshToken", ["token"]),
        ("refreshToken", [{"token": 1}]),
        ("leaveRoom", [None]),
    ],
)
async def test_wrong_arguments_are_answered_with_what_was_expected(
    node: LiveNode, event: str, arguments: list[object]
) -> None:
    socket = await node.socket(await node.user("alice"))
    answer = await socket.call(event, *arguments)
    assert answer["error"]["code"] == "invalid_arguments"
    assert answer["error"]["message"].startswith("Expected ")


async def test_content_is_judged_as_over_rest(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    for content in ("", "x" * 8001):
        answer = await socket.call("sendMessage", room.id, content)
        assert answer["error"]["code"] == "invalid_input"
    assert (await socket.call("sendMessage", room.id, "x" * 8000))["ok"]
    big = {"roomId": room.id, "content": "x", "metadata": {"a": "x" * 4096}}
    assert (await socket.call("sendMessage", big))["error"]["code"] == "invalid_input"


async def test_an_unknown_event_is_an_unknown_event(node: LiveNode) -> None:
    socket = await node.socket(await node.user("alice"))
    assert (await socket.call("deleteEverything"))["error"]["code"] == "unknown_event"


async def test_a_refused_handshake_says_code_message_and_whether_to_come_back(
    node: LiveNode,
) -> None:
    from chat_broker_server.chat.models import UserChanges

    suspended, deleted, revoked = [await node.user(name) for name in ("sam", "dan", "rob")]
    tokens = {
        "user_suspended": await node.token(suspended),
        "user_deleted": await node.token(deleted),
        "token_revoked": await node.token(revoked),
        "token_invalid": "nonsense",
    }
    await node.chat.update_user(PID, suspended.id, UserChanges(status="suspended"))
    await node.chat.delete_user(PID, deleted.id)
    await node.tokens.revoke(PID, revoked.id)
    for code, token in tokens.items():
        async with connected(node.url, token) as socket:
            assert socket.refused is not None
            data = socket.refused["data"]
            assert data["code"] == code
            assert data["reconnect"] is False
            assert data["message"] == socket.refused["message"]
    for token in (None, 1, "", "x" * 9000, {"token": "x"}):
        async with connected(node.url, token) as socket:
            assert socket.refused is not None
            assert socket.refused["data"]["code"] == "token_invalid"


async def test_a_token_is_warned_of_once_and_ends_after_its_grace(node: LiveNode) -> None:
    alice = await node.user("alice")
    async with connected(node.url, await node.token(alice, 2)) as socket:
        (warning,) = await socket.hears("tokenExpiring")
        assert warning["expires_in"] <= 1
        assert warning["expires_at"].endswith("Z")
        await socket.ends()
        assert socket.payloads("error")[-1]["code"] == "token_expired"
        assert socket.payloads("error")[-1]["reconnect"] is True
        assert len(socket.payloads("tokenExpiring")) == 1
        assert not socket.said_goodbye, "client libraries come back by themselves only then"


async def test_refresh_token_keeps_the_connection(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice)
    async with connected(node.url, await node.token(alice, 1)) as socket:
        await socket.call("joinRoom", room.id)
        answer = await socket.call("refreshToken", {"token": await node.token(bob)})
        assert answer["error"]["code"] == "token_invalid"
        answer = await socket.call("refreshToken", {"token": "nonsense"})
        assert answer["error"]["code"] == "token_invalid"
        answer = await socket.call("refreshToken", {"token": await node.token(alice, 3600)})
        assert answer["ok"] is True
        assert answer["expires_at"].endswith("Z")
        await asyncio.sleep(2)  # past the end and the grace of the first token
        assert (await socket.call("sendMessage", room.id, "still here"))["ok"]
