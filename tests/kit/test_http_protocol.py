"""Connections are bounded in every phase, and their answers come in the order of the requests."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from chat_broker_kit.http import protocol
from chat_broker_kit.http.protocol import BoundedHttpProtocol

App = Callable[[Any, Any, Any], Awaitable[None]]
GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Echo:
    """Answers each request with its path, `/slow` after a while and `/body` once it has the body; remembers ends."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/slow":
            await asyncio.sleep(0.2)
        while path == "/body":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append("hung up")
                return
            if not message["more_body"]:
                break
        body = b"x" * 1_000_000 if path == "/large" else f"[{path}]".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.ends.append(path)


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[tuple[int, ServerState]]:
    """*app* on a port of loopback, and uvicorn's list of connections and tasks."""
    config = uvicorn.Config(
        app, ws="websockets-sansio", lifespan="off", log_config=None, proxy_headers=False
    )
    config.load()
    state = ServerState()
    listening = await asyncio.get_running_loop().create_server(
        lambda: BoundedHttpProtocol(config, state, {}), "127.0.0.1", 0
    )
    try:
        yield listening.sockets[0].getsockname()[1], state
    finally:
        listening.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)
        await asyncio.sleep(0)


async def answers(port: int, *pieces: bytes, within: float = 5.0) -> bytes:
    """All that comes back until the server ends the connection, or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    received = b""
    try:
        async with asyncio.timeout(within):
            while more := await reader.read(65_536):
                received += more
    except (TimeoutError, ConnectionResetError):
        pass
    writer.close()
    return received


STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
RUBBISH = b"\x16\x03\x01 rubbish \r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((GET % b"slow" + RUBBISH,), [b"200", b"400"]),
        ((GET % b"slow", RUBBISH), [b"200", b"400"]),
        ((GET % b"slow" + GET % b"2" + GET % b"3" + RUBBISH,), [b"200", b"200", b"200", b"400"]),
        ((GET % b"slow" + b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000,), [b"200", b"431"]),
        ((GET % b"slow" + b"GET / HTTP/1.1\r\n", b"Y: " + b"a" * 60_000), [b"200", b"431"]),
        (
            (
                GET % b"slow" + b"POST /body HTTP/1.1\r\nHost: x\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            ),
            [b"200", b"400"],
        ),
        (
            (
                GET % b"slow" + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            ),
            [b"200", b"400"],
        ),
    ],
)
async def test_the_last_answer_comes_after_those_of_the_requests_before_it(
    sent: tuple[bytes, ...], expected: list[bytes]
) -> None:
    """What cannot be answered ends the connection, and takes no earlier answer's place."""
    async with serving(Echo()) as (port, _):
        received = await answers(port, *sent)
        statuses = STATUS.findall(received)
        assert statuses == expected
        assert received.count(b"connection: close") == 1
        assert received.index(b"[/slow]") < received.index(b"application/problem+json")


async def test_a_broken_body_is_answered_once() -> None:
    """The handler that waits for it hears that it will not come."""
    echo = Echo()
    head = b"POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(echo) as (port, _):
        received = await answers(port, head, b"zz\r\n")
        assert b"HTTP/1.1 400" in received
        assert b"HTTP/1.1 200" not in received
        assert echo.ends == ["hung up"]


async def test_many_requests_in_one_piece_are_answered_in_order_a_few_at_a_time() -> None:
    """The others wait as bytes, not as requests that have been taken apart."""
    async with serving(Echo()) as (port, state):
        sent = b"".join(GET % str(number).encode() for number in range(5000))
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max([most, *(len(one.pipeline) for one in state.connections)])  # type: ignore[union-attr]
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        received = await answers(
            port, sent + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"end"
        )
        watching.cancel()
        bodies = [part.split(b"]")[0] for part in received.split(b"[/")[1:]]
        assert bodies == [*(str(number).encode() for number in range(5000)), b"end"]
        assert 0 < most <= protocol.PIECE // len(GET)


async def test_what_follows_an_upgrade_that_is_not_made_is_answered() -> None:
    """`Upgrade: h2c` is ignored, and the next request in the same piece is not lost."""
    upgrade = b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with serving(Echo()) as (port, _):
        assert (await answers(port, upgrade + GET % b"2", within=0.5)).count(b" 200 OK") == 2


async def test_trailers_are_dropped_and_bounded() -> None:
    """They never become headers of the request, and without end they end the connection."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    async with serving(app) as (port, _):
        assert b" 204 " in await answers(port, head + b"Authorization: late\r\n\r\n", within=0.3)
        assert [name for name, _ in seen] == [b"host", b"transfer-encoding"]
        received = await answers(port, head, *([b"X: " + b"y" * 100_000 + b"\r\n"] * 8))
        assert b"HTTP/1.1 413" in received


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((), b" 408 "),
        ((b"GET / HT",), b" 408 "),
        ((b"\r\n",) * 30, b" 408 "),
        ((GET % b"1", b"\r\n"), b" 408 "),
    ],
)
async def test_a_head_has_so_much_time(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...], status: bytes
) -> None:
    """From the opening of the connection, or from its first byte; empty lines are no requests."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    async with serving(Echo()) as (port, _):
        assert status in await answers(port, *pieces, within=3)


async def test_the_time_of_a_head_counts_from_the_answer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While that one is made nothing may be read, so the peer is not to blame."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    async with serving(Echo()) as (port, _):
        received = await answers(port, GET % b"slow" + b"GET /late HT", within=2)
        assert STATUS.findall(received) == [b"200", b"408"]


async def test_a_body_nobody_wants_any_more_has_a_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection is good again when it has come, and ends when it has not."""
    monkeypatch.setattr(protocol, "UNREAD_BODY_SECONDS", 0.3)
    head = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    async with serving(Echo()) as (port, state):
        received = await answers(port, head, b"12345", GET % b"2", within=1)
        assert received.count(b" 200 OK") == 2
        received = await answers(port, head, b"1234", within=3)
        assert received.count(b" 200 OK") == 1
        await asyncio.sleep(0.1)
        assert not state.connections


async def test_a_peer_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.3)
    async with serving(Echo()) as (port, state):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET % b"large" * 20)
        await asyncio.sleep(0.2)
        assert state.connections
        async with asyncio.timeout(5):
            while state.connections:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        writer.close()


async def test_a_pipeline_that_hangs_up_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Who answers hears of it, what waits is never begun, and nothing is logged."""
    echo = Echo()
    async with serving(echo) as (port, state):
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"slow" + GET % b"2" + GET % b"3")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.transport.abort()
        await asyncio.sleep(0.5)
        assert not state.connections
        assert set(echo.ends) <= {"/slow"}
    assert caplog.records == []


async def test_the_longest_waiting_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many connections those go that wait for a request; whoever is answered stays."""
    monkeypatch.setattr(protocol, "max_connections", lambda: 10)
    async with serving(Echo()) as (port, state):
        busy, busy_writer = await asyncio.open_connection("127.0.0.1", port)
        busy_writer.write(GET % b"slow")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        assert b"[/1]" in await answers(port, GET % b"1", within=0.3)
        assert len(state.connections) <= 10
        assert b"[/slow]" in await busy.read(1000)
        for _, writer in [*silent, (busy, busy_writer)]:
            writer.close()


async def _say_what_came(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    said = scope["method"].encode() + b" " + scope["raw_path"] + b" [" + body + b"]"
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "in pieces"])
@pytest.mark.parametrize(
    ("framing", "sent"),
    [(b"Content-Length: 8", b"{\"a\": 1}"), (b"Transfer-Encoding: chunked", b"8\r\n{\"a\": 1}\r\n0\r\nHost: y\r\n\r\n")],
)  # fmt: skip
async def test_a_body_beside_an_upgrade_is_that_request_s_and_no_request(
    framing: bytes, sent: bytes, *, apart: bool
) -> None:
    """Java's client asks for h2c with its first request, a body included; and nobody may smuggle a request that way."""
    head = (
        b"POST /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    )
    pieces = [head, framing + b"\r\n\r\n", sent[:3], sent[3:], GET % b"next"]
    async with serving(_say_what_came) as (port, _):
        received = await answers(port, *(pieces if apart else [b"".join(pieces)]), within=1)
    assert STATUS.findall(received) == [b"200", b"200"]
    assert b'POST /up [{"a": 1}]' in received
    assert received.endswith(b"GET /next []")


async def test_who_sends_requests_faster_than_they_are_answered_is_made_to_wait() -> None:
    """What has not been parsed stays in the kernel; it is not kept here, answer by answer, until it is too much."""
    request = b"GET /x HTTP/1.1\r\nHost: x\r\nPad: %b\r\n\r\n" % (b"y" * 2000)
    most = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal most
        await asyncio.sleep(0.001)
        [connection] = state.connections
        most = max(most, len(connection._unparsed))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(app) as (port, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request * 2000)
        for _ in range(2000):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        writer.close()
    assert most < 600_000


async def test_white_space_around_a_value_is_none_of_it() -> None:
    """`Bearer key ` is the same credential, `Content-Length: 2 ` the same length, and `Origin: https://a ` the same page."""
    seen: list[dict[bytes, bytes]] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(app) as (port, _):
        await answers(
            port, b"GET / HTTP/1.1\r\nHost:\tx \r\nA:  b  c \t\r\nEmpty: \t\r\n\r\n", within=0.3
        )
    assert seen == [{b"host": b"x", b"a": b"b  c", b"empty": b""}]


async def test_frames_that_come_before_the_answer_of_a_handshake_wait_in_the_kernel() -> None:
    """A thousand of them would be taken apart and kept, for a stranger, before anybody has looked at the request."""
    looks = asyncio.Event()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await looks.wait()
        await receive()
        await send({"type": "websocket.accept"})
        heard.put_nowait(await receive())

    async with serving(app) as (port, state):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        await asyncio.sleep(0.05)
        writer.write(b"\x01\x80\0\0\0\0" + b"\0\x80\0\0\0\0" * 1000)
        await asyncio.sleep(0.05)
        [websocket] = state.connections
        assert not getattr(websocket, "frames", None)
        looks.set()
        writer.write(b"\x80\x81\0\0\0\0x")
        async with asyncio.timeout(5):
            assert await heard.get() == {"type": "websocket.receive", "text": "x"}
        writer.close()


@asynccontextmanager
async def waiting_connection(*, used: bool) -> AsyncIterator[tuple[socket.socket, Any]]:
    """A client's socket and the server's side of it: open, *used* for one request or none, and idle."""
    async with serving(Echo()) as (port, state):
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        with client:
            if used:
                client.sendall(GET % b"first")
                received = b""
                while not received.endswith(b"[/first]"):
                    received += await asyncio.to_thread(client.recv, 65_536)
            async with asyncio.timeout(5):
                while not state.connections:  # noqa: ASYNC110 - a test may poll
                    await asyncio.sleep(0.01)
            [connection] = state.connections
            yield client, connection


def all_of(client: socket.socket) -> bytes:
    """What is received until the server ends the connection, which it must do without a reset."""
    received = b""
    while more := client.recv(65_536):
        received += more
    return received


stopped = pytest.mark.parametrize("used", [False, True], ids=["new", "kept"])


@stopped
async def test_a_request_in_the_kernel_when_the_server_stops_is_answered(
    monkeypatch: pytest.MonkeyPatch, *, used: bool
) -> None:
    """It arrives while the loop is busy, just before the connection would be closed for having waited long enough."""
    monkeypatch.setattr(protocol, "LAST_REQUEST_SECONDS", 0)
    async with waiting_connection(used=used) as (client, connection):
        client.sendall(GET % b"last")
        connection.shutdown()
        received = await asyncio.to_thread(all_of, client)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in received
        assert received.endswith(b"[/last]")


@stopped
async def test_a_request_that_comes_soon_after_a_stop_is_answered(*, used: bool) -> None:
    """In pieces, too: a proxy has sent it before it could know."""
    async with waiting_connection(used=used) as (client, connection):
        connection.shutdown()
        await asyncio.sleep(0.1)
        client.sendall((GET % b"last")[:10])
        await asyncio.sleep(0.1)
        client.sendall((GET % b"last")[10:])
        received = await asyncio.to_thread(all_of, client)
        assert b"\r\nconnection: close\r\n" in received
        assert received.endswith(b"[/last]")


@stopped
async def test_a_connection_without_a_request_ends_soon_after_a_stop(
    monkeypatch: pytest.MonkeyPatch, *, used: bool
) -> None:
    monkeypatch.setattr(protocol, "LAST_REQUEST_SECONDS", 0.2)
    async with waiting_connection(used=used) as (client, connection):
        connection.shutdown()
        async with asyncio.timeout(1):
            assert await asyncio.to_thread(all_of, client) == b""


async def test_a_websocket_asked_for_after_a_stop_is_refused() -> None:
    """Nobody would tell it to close."""
    async with waiting_connection(used=False) as (client, connection):
        connection.shutdown()
        client.sendall(HANDSHAKE)
        assert (await asyncio.to_thread(all_of, client)).startswith(b"HTTP/1.1 503 ")
