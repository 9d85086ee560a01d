"""Before the server ends a connection it says why, and that it ends; what only failed ends nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from chat_broker_sdk import AsyncChatClient, WebSocketError
from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import Socket, opened
from tests.server.realtime.test_transports import polled

LIMITS = Limits(
    ping_interval=0.3,
    ping_timeout=0.4,
    heartbeat=0.2,
    expiry_grace=0.2,
    refused_burst=10,
)
TOO_LONG = 66_000


@pytest.fixture(params=[False, True], ids=["own websocket", "the library's websocket"])
async def node(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[LiveNode]:
    async with running_node(database_url, limits=LIMITS, wrapped=request.param) as node:
        yield node


async def too_long(_node: LiveNode, socket: Socket) -> None:
    await socket.emit("sendMessage", "room", "x" * TOO_LONG)


async def too_long_with_acknowledgement(_node: LiveNode, socket: Socket) -> None:
    socket.ask("sendMessage", "room", "x" * TOO_LONG)


async def too_long_in_bytes(_node: LiveNode, socket: Socket) -> None:
    await socket.send("42" + json.dumps(["x", "𝄞" * 17_000], ensure_ascii=False))


async def too_much_nonsense(_node: LiveNode, socket: Socket) -> None:
    for _ in range(3):
        await socket.send("4nonsense")


async def too_many_calls(_node: LiveNode, socket: Socket) -> None:
    for _ in range(60):
        await socket.emit("stopTyping", "x")


async def no_pong(_node: LiveNode, socket: Socket) -> None:
    socket.answers_pings = False


async def revoked(node: LiveNode, _socket: Socket) -> None:
    for pid, user_id in node.realtime._sessions.connections.users():
        await node.tokens.revoke(pid, user_id)
        await node.realtime.close_user(pid, user_id, "token_revoked")


async def drained(node: LiveNode, _socket: Socket) -> None:
    await node.realtime.disconnect_sockets()


async def at_the_end_of_the_token(node: LiveNode, socket: Socket) -> None:
    [connection] = node.realtime._sessions.connections
    assert connection.claims is not None
    token = await node.tokens.mint(PID, connection.claims.sub, 1)
    await socket.call("refreshToken", {"token": token.token})


@pytest.mark.parametrize(
    ("cause", "code", "reconnect"),
    [
        (too_long, "message_too_large", True),
        (too_long_with_acknowledgement, "message_too_large", True),
        (too_long_in_bytes, "message_too_large", True),
        (too_much_nonsense, "protocol_error", False),
        (too_many_calls, "slow_down", True),
        (no_pong, "ping_timeout", True),
        (revoked, "token_revoked", False),
        (drained, "server_restarting", True),
        (at_the_end_of_the_token, "token_expired", True),
    ],
)
async def test_an_error_says_that_the_connection_ends(
    node: LiveNode,
    cause: Callable[[LiveNode, Socket], Awaitable[None]],
    code: str,
    reconnect: bool,
) -> None:
    socket = await node.socket(await node.user("alice"))
    await cause(node, socket)
    await socket.ends(within=10)
    last = socket.payloads("error")[-1]
    assert (last["code"], last["closing"], last["reconnect"]) == (code, True, reconnect)
    # A DISCONNECT keeps client libraries from coming back.
    assert socket.said_goodbye is not reconnect
    assert all("closing" not in error for error in socket.payloads("error")[:-1])


@pytest.mark.parametrize(
    ("frame", "close_code"),
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\x83\x80\0\0\0\0", 1002),  # a kind that does not exist
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # no UTF-8
        (b"\x81\xff" + TOO_LONG.to_bytes(8) + b"\0\0\0\0" + b"x" * TOO_LONG, 1009),
        (b"\x81\xff" + (10**9).to_bytes(8) + b"\0\0\0\0" + b"x" * TOO_LONG, 1009),
        (b"\x8a\x80\0\0\0\0" * 3000, 1008),  # pongs that nobody asked for
        (b"\x01\x80\0\0\0\0" + b"\0\x80\0\0\0\0" * 3000, 1008),  # a message of empty parts
    ],
)
async def test_a_frame_that_cannot_be_read_on(
    database_url: str, frame: bytes, close_code: int
) -> None:
    """The error comes first, then the close frame with its code, though more is on its way here."""
    async with running_node(database_url) as node:
        socket = await node.socket(await node.user("alice"))
        socket.wire.transport.write(frame)
        await socket.ends()
        assert socket.payloads("error")[-1]["closing"] is True
        assert socket.wire.close_code == close_code
        await until(lambda: node.fact("sockets") == 0)


async def test_who_has_shown_no_token_is_refused_with_the_reason(database_url: str) -> None:
    async with running_node(database_url) as node, opened(node.url) as socket:
        await socket.send("40" + "x" * TOO_LONG)
        await socket.ends()
        assert socket.refused is not None
        assert socket.refused["data"]["code"] == "message_too_large"


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_slow_reader_hears_it_once_it_reads(database_url: str, wrapped: bool) -> None:
    limits = Limits(send_queue_bytes=100_000)
    async with running_node(database_url, limits=limits, wrapped=wrapped) as node:
        alice, bob = await node.user("alice"), await node.user("bob")
        room = await node.room(alice, bob)
        slow = await node.socket(bob, room)
        slow.wire.transport.pause_reading()
        while not node.fact("slow_consumers_cut"):
            await node.chat.post(PID, room.id, alice.id, "x" * 8000)
        slow.wire.transport.resume_reading()
        await slow.ends(within=10)
        last = slow.payloads("error")[-1]
        assert (last["code"], last["closing"], last["reconnect"]) == ("slow_down", True, True)


async def test_a_web_server_that_stops_without_draining(database_url: str) -> None:
    """A host may stop without a word to the Chat API: its websockets are told all the same."""
    async with running_node(database_url) as node:
        socket = await node.socket(await node.user("alice"))
        for connection in list(node.server.server_state.connections):
            connection.shutdown()
        await socket.ends()
        last = socket.payloads("error")[-1]
        assert (last["code"], last["closing"]) == ("server_restarting", True)
        assert socket.wire.close_code == 1012


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"4" * TOO_LONG, 413, "message_too_large"),
        (b"\xff\xfe", 400, "protocol_error"),
        (b"3\x1e" * 20 + b"3", 400, "protocol_error"),
    ],
)
async def test_a_polling_request_that_is_refused(
    node: LiveNode, body: bytes, status: int, code: str
) -> None:
    """Client libraries end their session on such an answer: the error comes before it, over the poll that waits."""
    async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http:
        session = await polled(http)
        token = await node.token(await node.user("alice"))
        await http.post(session, content="40" + json.dumps({"token": token}))
        await http.get(session)
        order: list[Any] = []

        async def poll() -> None:
            order.append((await http.get(session)).text)

        polling = asyncio.create_task(poll())
        await asyncio.sleep(0.05)
        order.append((await http.post(session, content=body)).status_code)
        await polling
        assert order[1] == status
        event, error = json.loads(order[0].removeprefix("42"))
        assert (event, error["code"], error["reconnect"]) == ("error", code, True)
        assert "closing" not in error
        assert (await http.post(session, content=b"3")).status_code == 200, "it goes on"


async def test_the_sdk_does_not_send_again_what_was_too_large(node: LiveNode) -> None:
    """The call fails with the reason, and the connection comes back."""
    token = await node.token(await node.user("alice"))
    async with AsyncChatClient(node.url, jwt_token=token) as client:
        await client.socket.connect()
        with pytest.raises(WebSocketError, match="65536 bytes") as caught:
            await client.socket.send_message("room", "x" * TOO_LONG)
        assert caught.value.code == "message_too_large"
        with pytest.raises(WebSocketError) as caught:
            await client.socket.join_room("room")
        assert caught.value.code == "room_not_found"


async def test_what_failed_without_acknowledgement_ends_nothing(node: LiveNode) -> None:
    """Also for clients that know only `reconnect`, and stay away for good where it is false."""
    socket = await node.socket(await node.user("alice"))
    failing: list[tuple[str, list[Any]]] = [
        ("joinRoom", ["nowhere"]),
        ("sendMessage", ["nowhere", ""]),
        ("refreshToken", [{"token": "no.good.token"}]),
        ("no_such_event", []),
    ]
    for event, arguments in failing:
        await socket.emit(event, *arguments)
    await socket.send("4nonsense")
    errors = await socket.hears("error", len(failing) + 1)
    assert {error["code"] for error in errors} == {
        "room_not_found",
        "invalid_input",
        "token_invalid",
        "unknown_event",
        "protocol_error",
    }
    assert all(error["reconnect"] is True and "closing" not in error for error in errors)
    assert (await socket.call("leaveRoom", "x"))["ok"]


async def test_retry_after_stands_in_acknowledgements_too(node: LiveNode) -> None:
    socket = await node.socket(await node.user("alice"))
    answers = await asyncio.gather(*[socket.ask("stopTyping", "x") for _ in range(35)])
    limited = [each["error"] for each in answers if each["error"]["code"] == "rate_limited"]
    assert limited
    assert all(error["retry_after"] == 1 for error in limited)
