"""The live connection, against a Socket.IO server that refuses, drops, repeats and reorders."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from chat_broker_sdk import (
    AsyncChatClient,
    AuthenticationError,
    ChatClient,
    Dialect,
    Events,
    MemberEvent,
    Message,
    ServerError,
    SocketErrorEvent,
    Token,
    ValidationError,
    WebSocketError,
)
from chat_broker_sdk._realtime import socketio_wire
from tests.sdk.realtime.sockets import FakeSockets, fake_sockets

TOKEN = "eyJ.first.token"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_broker_sdk._realtime.room_feed.FIRST_PAUSE", 0.01)


@pytest.fixture
async def fake() -> AsyncIterator[FakeSockets]:
    async with fake_sockets() as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeSockets) -> AsyncIterator[AsyncChatClient]:
    async with AsyncChatClient(fake.url, jwt_token=TOKEN) as client:
        yield client


async def until(condition: Callable[[], object], *, within: float = 5.0) -> None:
    """Return once *condition* holds."""
    ends = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        await asyncio.sleep(0.005)


def heard(client: AsyncChatClient) -> list[int | None]:
    got: list[int | None] = []
    client.socket.on_message(lambda message: got.append(message.seq))
    return got


async def test_the_readme_of_the_typescript_sdk_in_realtime(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r", 2)
    got: list[tuple[str, Any]] = []
    for name in (
        "message", "user_joined", "user_left", "user_typing", "user_stopped_typing", "error", "disconnect",
    ):  # fmt: skip
        getattr(client.socket, f"on_{name}")(lambda what, name=name: got.append((name, what)))
    client.socket.on_connect(lambda: got.append(("connect", None)))
    await client.socket.connect()
    joined = await client.socket.join_room("r")
    assert (joined.room and joined.room.id, joined.last_seq, joined.members_online) == ("r", 2, 1)
    sent = await client.socket.send_message("r", "Hello!", metadata={"a": 1})
    assert sent.content == "Hello!"
    await fake.say("r")
    await client.socket.start_typing("r")
    await client.socket.stop_typing("r")
    assert (await client.socket.mark_read("r", seq=3)).last_read_seq == 3
    for event in ("userJoined", "userLeft", "userTyping", "userStoppedTyping"):
        await fake.emit(event, {"room_id": "r", "user_id": "u", "username": "ann"})
    await fake.emit("error", {"code": "odd", "message": "odd"})
    await until(lambda: len(got) >= 8)
    await client.socket.leave_room("r")
    await client.socket.disconnect()
    assert [name for name, _ in got] == [
        "connect", "message", "message", "user_joined", "user_left", "user_typing", "user_stopped_typing",
        "error", "disconnect",
    ]  # fmt: skip
    assert got[-1][1] == "client_disconnect"
    assert fake.tokens == [TOKEN]
    assert all("eyJ" not in query for query in fake.queries), "the token is in no URL"
    assert fake.asked[1][1][0]["metadata"] == {"a": 1}
    assert not client.socket.connected


async def test_without_a_token_there_is_no_connection(fake: FakeSockets) -> None:
    async with AsyncChatClient(fake.url, api_key="k") as client:
        with pytest.raises(WebSocketError) as caught:
            await client.socket.connect()
    assert caught.value.code == "jwt_required"


async def test_calls_before_connect_and_bad_ids_fail_at_once(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    with pytest.raises(WebSocketError) as caught:
        await client.socket.send_message("r", "x")
    assert caught.value.code == "not_connected"
    await client.socket.connect()
    with pytest.raises(ValidationError):
        await client.socket.join_room("../r")
    with pytest.raises(WebSocketError) as caught:
        await client.socket.connect()
    assert caught.value.code == "already_connected"
    assert client.socket.connected
    with pytest.raises(WebSocketError) as caught:
        await client.socket.join_room("nowhere")
    assert caught.value.code == "room_not_found"


@pytest.mark.parametrize("loops", [socketio_wire.TASKS, ("_gone", "_gone")])
async def test_after_a_cut_rooms_are_joined_again_and_nothing_is_lost_or_repeated(
    client: AsyncChatClient,
    fake: FakeSockets,
    monkeypatch: pytest.MonkeyPatch,
    loops: tuple[str, str],
) -> None:
    """Also where python-engineio names its tasks otherwise."""
    monkeypatch.setattr(socketio_wire, "TASKS", loops)
    fake.room("r", 3)
    fake.room("s", 0)
    got = heard(client)
    await client.socket.connect()
    await client.socket.join_room("r")
    await client.socket.join_room("s")
    await fake.say("r")
    await until(lambda: got == [4])
    for _ in range(3):
        await until(lambda: client.socket.connected)
        await fake.cut_all()
        for _ in range(4):
            fake.write("r")
        await until(lambda: got and got[-1] == len(fake.said["r"]))
        await fake.say("r")
    await until(lambda: got[-1] == len(fake.said["r"]))
    assert got == list(range(4, len(fake.said["r"]) + 1))
    rejoined = [args[0] for event, args in fake.asked if event == "joinRoom"]
    assert {"roomId": "r", "sinceSeq": 4} in rejoined
    assert {"roomId": "s", "sinceSeq": 0} in rejoined


async def test_more_missed_than_one_answer_holds_is_fetched_in_steps(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r", 25)
    fake.missed_limit = 10
    got = heard(client)
    await client.socket.connect()
    await client.socket.join_room("r", since_seq=0)
    await until(lambda: len(got) == 25)
    assert got == list(range(1, 26))


async def test_repeated_and_reordered_messages_come_once_and_in_order(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r")
    got = heard(client)
    await client.socket.connect()
    await client.socket.join_room("r")
    messages = [fake.write("r") for _ in range(5)]
    for number in (1, 0, 0, 2, 4, 1, 3, 4):
        await fake.emit("message", messages[number])
    await until(lambda: len(got) == 5)
    await fake.say("r")
    await until(lambda: got[-1] == 6)
    assert got == [1, 2, 3, 4, 5, 6]


async def test_a_message_missing_on_the_wire_is_fetched(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r")
    got = heard(client)
    await client.socket.connect()
    await client.socket.join_room("r")
    fake.write("r")
    await fake.say("r")
    await until(lambda: got == [1, 2])


async def test_a_message_sent_while_the_line_breaks_exists_once(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r")
    await client.socket.connect()
    await client.socket.join_room("r")
    fake.lose_answer_to = ["sendMessage"]
    sent = await client.socket.send_message("r", "once")
    assert sent.seq == 1
    assert len(fake.said["r"]) == 1
    assert sum(event == "sendMessage" for event, _ in fake.asked) == 2


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
async def test_a_rejoin_that_is_refused_for_the_moment_is_tried_again(
    client: AsyncChatClient, fake: FakeSockets, code: str
) -> None:
    """A server that lets in so many joins a second keeps nobody out of a room for good."""
    rooms = [f"r{number}" for number in range(40)]
    got: set[str | None] = set()
    errors: list[str] = []
    client.socket.on_message(lambda message: got.add(message.room_id))
    client.socket.on_error(lambda error: errors.append(error.code))
    await client.socket.connect()
    for room in rooms:
        fake.room(room)
        await client.socket.join_room(room)
    fake.refuse_joins = [code] * 20
    await fake.cut_all()
    for room in rooms:
        fake.write(room)
    await until(lambda: got == set(rooms), within=20)
    assert errors == []


async def test_a_room_one_may_not_join_again_is_left(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    errors: list[str] = []
    client.socket.on_error(lambda error: errors.append(error.code))
    fake.room("r")
    await client.socket.connect()
    await client.socket.join_room("r")
    fake.refuse_joins = ["not_a_member"]
    await fake.cut_all()
    await until(lambda: errors == ["not_a_member"])
    await fake.cut_all()
    await until(lambda: len(fake.tokens) == 3)
    await client.socket.mark_read("r", seq=1)
    assert [event for event, _ in fake.asked].count("joinRoom") == 2


# -- handlers --------------------------------------------------------------------------------------


async def test_handlers_may_be_either_kind_and_one_failing_stops_nobody(
    client: AsyncChatClient, fake: FakeSockets, caplog: pytest.LogCaptureFixture
) -> None:
    fake.room("r")
    got: list[str] = []

    @client.socket.on_message
    def broken(message: Message) -> None:
        raise RuntimeError("a bug in a handler")

    @client.socket.on_message
    async def slow(message: Message) -> None:
        await asyncio.sleep(0.02)
        got.append(f"slow {message.seq}")

    @client.socket.on_message
    def quick(message: Message) -> None:
        got.append(f"quick {message.seq}")

    await client.socket.connect()
    await client.socket.join_room("r")
    await fake.say("r")
    await fake.say("r")
    await until(lambda: len(got) == 4)
    assert got == ["slow 1", "quick 1", "slow 2", "quick 2"]
    assert "a bug in a handler" in caplog.text
    client.socket.off(quick)
    await fake.say("r")
    await until(lambda: len(got) == 5)
    await client.socket.disconnect()
    assert got[4:] == ["slow 3"]
    caplog.clear()


async def test_a_handler_may_call_the_socket(client: AsyncChatClient, fake: FakeSockets) -> None:
    fake.room("r")
    fake.room("s")
    done = asyncio.Event()

    @client.socket.on_message
    async def answer(message: Message) -> None:
        if message.room_id == "r":
            await client.socket.join_room("s")
            await client.socket.send_message("s", "heard")
            await client.socket.disconnect()
            done.set()

    await client.socket.connect()
    await client.socket.join_room("r")
    await fake.say("r")
    await asyncio.wait_for(done.wait(), 5)
    assert not client.socket.connected
    assert [each["content"] for each in fake.said["s"]] == ["heard"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many events may wait for handlers: fewer than elsewhere."""
    for module in ("chat_broker_sdk._realtime.handlers", "chat_broker_sdk._async.realtime"):
        monkeypatch.setattr(f"{module}.MAX_WAITING", 50)
    return 50


async def test_a_slow_handler_loses_no_message_and_fills_no_memory(
    client: AsyncChatClient, fake: FakeSockets, few: int
) -> None:
    """What there is no room for stays with the server until there is; calls go on, also those of the handler."""
    fake.room("r")
    fake.room("s")
    fake.missed_limit = 20
    got: dict[str | None, list[int | None]] = {"r": [], "s": []}
    go = asyncio.Event()
    waited: list[int] = []

    @client.socket.on_message
    async def slow(message: Message) -> None:
        await go.wait()
        got[message.room_id].append(message.seq)
        waited.append(client.socket._handlers.waiting)
        if message.seq == 100:
            await client.socket.mark_read(message.room_id or "", seq=100)

    await client.socket.connect()
    for room in ("r", "s"):
        await client.socket.join_room(room)
    for number in range(1000):
        await fake.say("r")
        if number % 5 == 0:
            await fake.say("s")
        if number == 500:
            await client.socket.start_typing("r")
    await client.socket.start_typing("r")  # everything before it has arrived
    assert client.socket._handlers.waiting <= few
    go.set()
    await until(lambda: len(got["r"]) == 1000 and len(got["s"]) == 200, within=20)
    assert got == {"r": list(range(1, 1001)), "s": list(range(1, 201))}
    assert max(waited) <= 3 * few
    await fake.say("r")
    await until(lambda: got["r"][-1] == 1001)
    assert client.socket.connected
    assert len(fake.tokens) == 1


async def test_a_slow_handler_misses_other_events_and_is_told(
    client: AsyncChatClient, fake: FakeSockets, few: int
) -> None:
    """No server says them again: they wait longer than messages, but not without end."""
    errors: list[str] = []
    typed: list[str] = []
    busy, go = asyncio.Event(), asyncio.Event()

    @client.socket.on_user_typing
    async def slow(event: MemberEvent) -> None:
        busy.set()
        await go.wait()
        typed.append(event.user_id)

    client.socket.on_error(lambda error: errors.append(error.code))
    await client.socket.connect()
    await fake.emit("userTyping", {"room_id": "r", "user_id": "0"})
    await busy.wait()
    for number in range(1, 200):
        await fake.emit("userTyping", {"room_id": "r", "user_id": f"{number}"})
    await client.socket.start_typing("r")
    go.set()
    await until(lambda: errors)
    assert errors == ["events_dropped"]
    assert typed == [f"{number}" for number in range(2 * few + 1)]
    await fake.emit("userTyping", {"room_id": "r", "user_id": "again"})
    await until(lambda: typed[-1] == "again")


async def test_odd_payloads_are_reported_and_do_no_harm(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.room("r")
    errors: list[str] = []
    client.socket.on_error(lambda error: errors.append(error.code))
    got = heard(client)
    await client.socket.connect()
    await client.socket.join_room("r")
    for payload in (None, 3, [], {}, {"id": 1}, {"id": "x", "content": None}, "text"):
        await fake.emit("message", payload)
    await fake.emit("error", "words")
    await fake.emit("somethingNew", {"a": 1})
    await fake.say("r")
    await until(lambda: got == [1])
    assert errors == ["bad_response"] * 7 + ["error"]


# -- tokens and codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["token_revoked", "user_suspended", "user_deleted", "token_invalid"]
)
async def test_some_codes_end_it_for_good(
    client: AsyncChatClient, fake: FakeSockets, code: str
) -> None:
    fake.room("r")
    told: list[str] = []
    client.socket.on_disconnect(told.append)
    await client.socket.connect()
    await client.socket.join_room("r")
    await fake.send_away(code, reconnect=False)
    with pytest.raises(WebSocketError) as caught:
        await asyncio.wait_for(client.socket.wait(), 5)
    assert caught.value.code == code
    with pytest.raises(WebSocketError) as caught:
        await client.socket.send_message("r", "x")
    assert caught.value.code == code
    assert told == [code]
    assert len(fake.tokens) == 1


async def test_an_error_without_closing_is_no_end(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    """What it said is not the reason when the connection breaks later: it comes back."""
    errors: list[SocketErrorEvent] = []
    ends: list[str] = []
    client.socket.on_error(errors.append)
    client.socket.on_disconnect(ends.append)
    await client.socket.connect()
    await fake.emit("error", {"code": "token_invalid", "message": "x", "reconnect": False})
    await until(lambda: errors)
    assert client.socket.connected
    assert errors[0].closing is None
    await fake.cut_all()
    await until(lambda: ends == ["connection_lost"] and client.socket.connected)


@pytest.mark.parametrize(
    ("code", "asked_again"),
    [("token_expired", True), ("server_restarting", True), ("slow_down", True), ("new_code", True)],
)
async def test_others_get_a_new_token_and_reconnect(
    fake: FakeSockets, code: str, asked_again: bool
) -> None:
    numbers = iter(range(1, 9))
    async with AsyncChatClient(fake.url, api_key="k") as client:
        await client.socket.connect(lambda: f"token-{next(numbers)}")
        await fake.send_away(code, reconnect=True)
        await until(lambda: len(fake.tokens) == 2)
        await until(lambda: client.socket.connected)
    assert fake.tokens == ["token-1", "token-2"]
    assert asked_again


async def test_an_end_that_comes_in_one_piece_is_noticed_at_once(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    """Last words, Engine.IO's close and the websocket's may lie in one read: a fixed token comes back, too."""
    fake.room("r")
    got, ends = heard(client), list[str]()
    client.socket.on_disconnect(ends.append)
    await client.socket.connect()
    await client.socket.join_room("r")
    await fake.say("r")
    for times in range(1, 4):
        await fake.send_away_at_once("server_restarting", reconnect=True)
        fake.write("r")
        await until(lambda times=times: len(fake.tokens) == 1 + times)
        await until(lambda: fake.inside.get("r"))
        await fake.say("r")
    await until(lambda: len(got) == 7)
    assert got == list(range(1, 8))
    assert fake.tokens == [TOKEN] * 4
    assert ends == ["server_restarting"] * 3


async def test_retry_after_is_waited_for(client: AsyncChatClient, fake: FakeSockets) -> None:
    await client.socket.connect()
    began = time.monotonic()
    await fake.send_away("slow_down", reconnect=True, retry_after=0.3)
    await until(lambda: len(fake.tokens) == 2)
    assert time.monotonic() - began >= 0.3


async def test_an_expired_token_without_another_is_the_end(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    await client.socket.connect()
    await fake.send_away("token_expired", reconnect=True)
    with pytest.raises(WebSocketError) as caught:
        await asyncio.wait_for(client.socket.wait(), 5)
    assert caught.value.code == "token_expired"
    assert len(fake.tokens) == 1, "the same token is not tried again"


async def test_set_jwt_token_is_used_at_the_next_connect(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    await client.socket.connect()
    client.set_jwt_token("eyJ.second")
    await fake.send_away("token_expired", reconnect=True)
    await until(lambda: fake.tokens == [TOKEN, "eyJ.second"])


@pytest.mark.parametrize("kind", ["sync", "async", "token", "async token"])
async def test_the_token_function_may_be_of_any_kind(fake: FakeSockets, kind: str) -> None:
    value = Token(token="t1") if "token" in kind else "t1"

    async def later() -> object:
        await asyncio.sleep(0)
        return value

    async with AsyncChatClient(fake.url, api_key="k") as client:
        await client.socket.connect(later if "async" in kind else lambda: value)  # type: ignore[arg-type]
    assert fake.tokens == ["t1"]


async def test_token_expiring_is_answered_in_band(fake: FakeSockets) -> None:
    numbers = iter(range(1, 9))
    warned: list[float | None] = []

    async def ask() -> str:
        return f"token-{next(numbers)}"

    async with AsyncChatClient(fake.url, api_key="k") as client:
        client.socket.on_token_expiring(lambda event: warned.append(event.expires_in))
        await client.socket.connect(ask)
        await fake.emit("tokenExpiring", {"expires_at": "2030-01-01T00:00:00Z", "expires_in": 30})
        await until(lambda: fake.tokens == ["token-1", "token-2"])
        await until(lambda: warned == [30])
        assert client.socket.connected
        await client.socket.refresh_token("token-by-hand")
        assert fake.tokens[-1] == "token-by-hand"


@pytest.mark.parametrize(
    "code", ["token_revoked", "user_suspended", "user_deleted", "token_invalid"]
)
async def test_a_refused_handshake_for_good_is_raised_at_once(
    client: AsyncChatClient, fake: FakeSockets, code: str
) -> None:
    fake.refuse = [{"code": code, "message": "no", "reconnect": False}] * 2
    with pytest.raises(WebSocketError) as caught:
        await client.socket.connect()
    assert caught.value.code == code
    assert len(fake.tokens) == 1
    assert not client.socket.connected


async def test_a_refused_handshake_that_may_pass_is_tried_again(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    fake.refuse = [
        {"code": "slow_down", "message": "later", "reconnect": True, "retry_after": 0.05}
    ] * 2
    await client.socket.connect()
    assert len(fake.tokens) == 3


async def test_a_refusal_while_reconnecting_ends_it(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    told: list[str] = []
    client.socket.on_error(lambda error: told.append(error.code))
    await client.socket.connect()
    fake.refuse = [{"code": "user_suspended", "message": "no", "reconnect": False}]
    await fake.cut_all()
    with pytest.raises(WebSocketError) as caught:
        await asyncio.wait_for(client.socket.wait(), 5)
    assert caught.value.code == "user_suspended"
    await until(lambda: told == ["user_suspended"])


async def test_a_token_function_that_fails_is_asked_again_or_ends_it(
    fake: FakeSockets, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[Any] = [
        RuntimeError("x"),
        ServerError("down", status=503),
        "good",
        AuthenticationError("banned", status=403, code="user_suspended"),
    ]

    def ask() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async with AsyncChatClient(fake.url, api_key="k") as client:
        await client.socket.connect(ask)
        await fake.cut_all()
        with pytest.raises(WebSocketError) as caught:
            await asyncio.wait_for(client.socket.wait(), 5)
    assert caught.value.code == "user_suspended"
    assert fake.tokens == ["good"]
    assert "token function failed" in caplog.text
    caplog.clear()


async def test_no_server_is_a_failure_in_the_time_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with AsyncChatClient("http://127.0.0.1:9", jwt_token=TOKEN) as client:
        began = time.monotonic()
        with pytest.raises(WebSocketError) as caught:
            await client.socket.connect(within=0.5)
        assert time.monotonic() - began < 2
    assert caught.value.code == "connect_failed"
    assert TOKEN not in caplog.text


async def test_the_token_is_in_no_log_and_no_other_hosts_hands(
    client: AsyncChatClient, fake: FakeSockets, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("engineio", "engineio.client", "socketio", "socketio.client", "aiohttp"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    await client.socket.connect()
    await client.socket.disconnect()
    assert all(TOKEN not in each.getMessage() or "server" in each.name for each in caplog.records)

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        location = f"{fake.url}/socket.io/?transport=websocket&EIO=4".encode()
        writer.write(b"HTTP/1.1 302 X\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AsyncChatClient(url, jwt_token="eyJ.stolen") as other:
        with pytest.raises(WebSocketError):
            await other.socket.connect(within=0.3)
    server.close()
    assert "eyJ.stolen" not in fake.tokens


async def test_a_server_that_repeats_the_token_is_not_quoted(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    """In no error, and in nothing `on_error` is told: refused, sent away, or a call gone wrong."""
    said = {"code": "token_invalid", "message": f"bad token {TOKEN}", "reconnect": False}
    told: list[str] = []
    client.socket.on_error(lambda error: told.append(error.message))
    fake.refuse = [said]
    with pytest.raises(WebSocketError) as refused:
        await client.socket.connect()
    await client.socket.connect()
    fake.room("r")
    fake.refuse_joins = [f"no_{TOKEN}"]
    with pytest.raises(WebSocketError) as failed:
        await client.socket.join_room("r")
    await fake.emit("error", said)
    await until(lambda: told)
    for text in (repr(refused.value), repr(failed.value), *told):
        assert TOKEN not in text
        assert "[hidden]" in text


async def test_another_servers_event_names_are_one_value(fake: FakeSockets) -> None:
    dialect = Dialect(events=Events(message="new_message", leave_room="leave"))
    async with AsyncChatClient(fake.url, jwt_token=TOKEN, dialect=dialect) as client:
        got = heard(client)
        await client.socket.connect()
        await fake.emit("new_message", {"id": "m", "content": "x", "seq": 4})
        await until(lambda: got == [4])
        await client.socket.leave_room("r")
        assert fake.asked == [("leave", ("r",))]


@pytest.mark.parametrize("kind", ["cut", "sent away"])
async def test_many_ends_leave_nothing_behind(
    client: AsyncChatClient, fake: FakeSockets, kind: str
) -> None:
    def ours() -> list[str]:
        """Tasks of the client's side: the server under test runs on this loop as well."""
        kinds = ("AsyncClient", "AsyncChatSocket", "Connection", "Handlers", "Wire")
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return [name for name in names if name.startswith(kinds)]

    fake.room("r")
    await client.socket.connect()
    await client.socket.join_room("r")
    for number in range(1, 11):
        if kind == "cut":
            await fake.cut_all()
        else:
            await fake.send_away_at_once("server_restarting", reconnect=True)
        await until(
            lambda number=number: len(fake.tokens) == number + 1 and client.socket.connected
        )
    assert ours()
    await client.socket.disconnect()
    await until(lambda: not ours())
    await client.socket.connect()
    assert client.socket.connected, "it may be used again"


# -- synchronous code ------------------------------------------------------------------------------


async def test_synchronous_code_has_the_same_socket(fake: FakeSockets) -> None:
    fake.room("r", 1)
    got: list[tuple[int | None, str]] = []
    names: set[str] = set()

    def work() -> None:
        tokens = iter(["t1", "t2", "t3"])
        with ChatClient(fake.url, api_key="k") as client:

            @client.socket.on_message
            def answer(message: Message) -> None:
                names.add(threading.current_thread().name)
                got.append((message.seq, message.content))
                if message.content == "ping":
                    client.socket.send_message("r", "pong")

            def ask() -> str:
                names.add(threading.current_thread().name)
                return next(tokens)

            client.socket.connect(ask)
            assert client.socket.connected
            assert client.socket.join_room("r").last_seq == 1
            client.socket.start_typing("r")
            assert client.socket.mark_read("r", seq=1).unread == 0
            ping.wait(5)
            with pytest.raises(WebSocketError):
                client.socket.wait(timeout=5)

    ping = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work))
    await until(lambda: fake.inside.get("r"))
    message = fake.write("r", "ping")
    await fake.emit("message", message)
    await until(lambda: len(fake.said["r"]) == 3)
    await fake.cut_all()
    ping.set()
    await until(lambda: fake.tokens == ["t1", "t2"])
    await until(fake.sids)
    await until(lambda: got[-1:] == [(3, "pong")])
    await fake.send_away("token_revoked", reconnect=False)
    await asyncio.wait_for(running, 10)
    assert got == [(2, "ping"), (3, "pong")]
    assert "MainThread" not in names
    assert not [each for each in threading.enumerate() if each.name == "chat_broker_sdk"]


async def test_an_end_that_comes_with_the_acceptance_is_noticed_at_once() -> None:
    """Acceptance, Engine.IO's end and the websocket's end in one piece: the next attempt follows, not half a minute later."""
    connections = 0

    def frame(text: str) -> bytes:
        return bytes([0x81, len(text)]) + text.encode()

    async def accept(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        hello = {"sid": "a", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000}
        await connection.send("0" + json.dumps(hello))
        await connection.recv()
        accepted = frame('40{"sid":"b"}')
        if connections == 1:
            connection.transport.write(accepted + frame("1") + bytes([0x88, 2, 3, 232]))
        else:
            connection.transport.write(accepted)
        await connection.wait_closed()

    async with serve(accept, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with AsyncChatClient(f"http://127.0.0.1:{port}", jwt_token=TOKEN) as client:
            began = time.monotonic()
            await client.socket.connect()
            await until(lambda: connections == 2 and client.socket.connected)
            assert time.monotonic() - began < 5


async def test_a_room_joined_by_the_apps_own_id_loses_and_repeats_nothing(
    client: AsyncChatClient, fake: FakeSockets
) -> None:
    """A message that is told beside the answer waits for it: before, nobody knows which room it is of."""
    fake.room("r", 3)
    fake.names["external:order"] = "r"
    got = heard(client)
    await client.socket.connect()
    for _ in range(20):
        got.clear()
        fake.says_at_join = 1
        known = len(fake.said["r"])
        joined = await client.socket.join_room("external:order", since_seq=known)
        assert joined.room is not None
        assert joined.room.id == "r"
        await fake.say("r")
        await until(lambda: len(got) >= 2)
        assert got == [known + 1, known + 2]
        await client.socket.leave_room("external:order")
        assert ("leaveRoom", ("r",)) in fake.asked
    await client.socket.join_room("external:order")
    await fake.cut_all()
    await until(lambda: fake.inside.get("r"))
    await fake.say("r")
    await until(lambda: got[-1:] == [len(fake.said["r"])])
    rejoined = [what for event, (what, *_) in fake.asked if event == "joinRoom"][-1]
    assert rejoined == {"roomId": "r", "sinceSeq": len(fake.said["r"]) - 1}
