"""Every way to carry a request keeps the same promises."""

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

import httpx
import pytest

from chat_broker_sdk import (
    AiohttpTransport,
    AsgiTransport,
    AsyncChatClient,
    ChatClient,
    DirectTransport,
    HttptoolsTransport,
    HttpxTransport,
    NetworkError,
    Request,
    Response,
    ServerError,
    SyncHttpxTransport,
    TimeoutError,  # noqa: A004
    Transport,
)
from chat_broker_sdk._transports.background import BackgroundTransport
from chat_broker_sdk._transports.base import LARGEST_BODY, Body
from tests.sdk.conftest import KEY

HEADERS = (("Accept", "application/json"), ("X-API-Key", KEY))


class OnAThread:
    """A synchronous transport, used asynchronously, so that one suite judges both."""

    def __init__(self) -> None:
        self._inner = SyncHttpxTransport()

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
        return await asyncio.to_thread(self._inner.send, request, timeout=timeout)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._inner.close)


KINDS: list[Callable[[], Transport]] = [
    HttpxTransport,
    AiohttpTransport,
    HttptoolsTransport,
    OnAThread,
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    transport = request.param()
    yield transport
    await transport.aclose()


class Upstream:
    """A raw server: what it answers is bytes, what it was asked is kept."""

    def __init__(
        self, answer: bytes, *, before: bytes = b"", hold: float = 0.0, drip: bool = False
    ) -> None:
        self.answer, self.before, self.hold, self.drip = answer, before, hold, drip
        self.asked: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.asked.append(head + await reader.readexactly(length))
                await asyncio.sleep(self.hold)
                writer.write(self.before)
                if self.drip:
                    for number in range(len(self.answer)):
                        writer.write(self.answer[number : number + 1])
                        await asyncio.sleep(0.02)
                writer.write(self.answer)
                if b"connection: close" in self.answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(upstream: Upstream) -> AsyncIterator[str]:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def answer(body: bytes, *headers: str, status: int = 200, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


async def test_method_headers_and_body_arrive_and_the_answer_comes_back(
    transport: Transport,
) -> None:
    upstream = Upstream(
        answer(b'{"a":1}', "X-Two: 2", "content-type: application/json", status=404)
    )
    async with listening(upstream) as url:
        headers = (*HEADERS, ("Content-Type", "application/json"))
        request = Request("POST", f"{url}/a/b?c=%20d", headers, b'{"x":"y"}')
        response = await transport.send(request, timeout=5)
    assert (response.status, response.body, response.header("x-two")) == (404, b'{"a":1}', "2")
    head, _, body = upstream.asked[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a/b?c=%20d HTTP/1.1"
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert sorted(names) == sorted(
        [b"host", b"accept", b"x-api-key", b"content-type", b"content-length"]
    )
    assert body == b'{"x":"y"}'


async def test_a_get_says_nothing_of_a_body(transport: Transport) -> None:
    upstream = Upstream(answer(b"{}"))
    async with listening(upstream) as url:
        await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=5)
    assert b"content-" not in upstream.asked[0].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_goes_nowhere(transport: Transport, status: int) -> None:
    trap = Upstream(answer(b"{}"))
    async with listening(trap) as trap_url:
        upstream = Upstream(answer(b"", f"location: {trap_url}/stolen", status=status))
        async with listening(upstream) as url:
            client = AsyncChatClient(url, api_key=KEY, transport=transport)
            with pytest.raises(ServerError) as caught:
                await client.project()
    assert (caught.value.status, caught.value.code) == (status, "bad_response")
    assert trap.connections == 0


async def test_no_proxy_or_netrc_of_the_environment_is_used(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, upstream = Upstream(answer(b"{}")), Upstream(answer(b"{}"))
    async with listening(trap) as trap_url, listening(upstream) as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, trap_url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=5)
    assert (trap.connections, len(upstream.asked)) == (0, 1)


async def test_cookies_are_not_kept(transport: Transport) -> None:
    upstream = Upstream(answer(b"{}", "set-cookie: session=abc; Path=/"))
    async with listening(upstream) as url:
        for _ in range(2):
            await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=5)
    assert b"cookie" not in upstream.asked[1].lower()
    assert upstream.connections == 1, "the connection is kept"


BOMB = zlib.compressobj(9, zlib.DEFLATED, 31)
BOMB_BYTES = BOMB.compress(b"0" * 200_000_000) + BOMB.flush()


@pytest.mark.parametrize(
    "body",
    [
        answer(b"x", length=10**9),
        answer(b"x" * (LARGEST_BODY + 1)),
        b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n10000\r\n" + b"x" * 65536 + b"\r\n",
        answer(BOMB_BYTES, "content-encoding: gzip"),
        answer(b"{}", "content-encoding: gzip"),
        answer(b"{}", "content-encoding: br"),
        answer(gzip.compress(b"x" * (LARGEST_BODY + 1)), "content-encoding: gzip"),
    ],
    ids=["declared", "sent", "chunked", "bomb", "no gzip", "unasked", "unpacked"],
)
async def test_a_body_that_is_too_large_or_broken_ends_early(
    transport: Transport, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if body.startswith(b"HTTP/1.1 200 X\r\ntransfer-encoding"):
        head, _, chunk = body.partition(b"\r\n\r\n")
        body = head + b"\r\n\r\n" + chunk * (LARGEST_BODY // 65_536 + 1)
    async with listening(Upstream(body)) as url:
        with pytest.raises(ServerError) as caught:
            await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=5)
    assert caught.value.code == "bad_response"


def test_a_bomb_is_not_unpacked_first_and_measured_afterwards() -> None:
    body = Body(200, "gzip", None)
    tracemalloc.start()
    try:
        with pytest.raises(ServerError):
            body.add(BOMB_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_BODY
    finally:
        tracemalloc.stop()


async def test_a_compressed_body_is_read(transport: Transport) -> None:
    for packed in (gzip.compress(b'{"a":1}'),):
        async with listening(Upstream(answer(packed, "content-encoding: gzip"))) as url:
            response = await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=5)
        assert response.body == b'{"a":1}'


async def test_an_answer_cut_at_any_byte_is_a_network_error(transport: Transport) -> None:
    whole = answer(b'{"id":"p1","name":"n"}', "content-type: application/json", "connection: close")
    for cut in range(0, len(whole), 3):
        upstream = Upstream(whole[:cut])
        upstream.serve = cutting(upstream)  # type: ignore[method-assign]
        async with listening(upstream) as url:
            with pytest.raises(NetworkError):
                await transport.send(Request("POST", f"{url}/a", HEADERS, b"{}"), timeout=5)
        assert len(upstream.asked) == 1, "one attempt is one request"


def cutting(upstream: Upstream) -> Callable[..., object]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(upstream.answer)
        writer.close()

    return serve


async def test_silence_ends_in_time(transport: Transport) -> None:
    async with listening(Upstream(answer(b"{}"), hold=3)) as url:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=0.2)
        assert asyncio.get_running_loop().time() - began < 1


async def test_a_body_that_drips_ends_in_time_too(transport: Transport) -> None:
    """On a thread, where nothing can be interrupted, the deadline is looked at between pieces of the body."""
    head, _, body = answer(b"x" * 500).partition(b"\r\n\r\n")
    upstream = Upstream(body, before=head + b"\r\n\r\n", drip=True)
    async with listening(upstream) as url:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await transport.send(Request("GET", f"{url}/a", HEADERS), timeout=0.3)
        assert asyncio.get_running_loop().time() - began < 2


async def test_nobody_listening_is_a_network_error(transport: Transport) -> None:
    with pytest.raises(NetworkError):
        await transport.send(Request("GET", "http://127.0.0.1:9/a", HEADERS), timeout=2)


async def test_an_unknown_certificate_is_refused(transport: Transport, tmp_path: object) -> None:
    """A listener that speaks no TLS, or another's, gets no request."""
    upstream = Upstream(answer(b"{}"))
    async with listening(upstream) as url:
        with pytest.raises(NetworkError):
            await transport.send(
                Request("GET", url.replace("http:", "https:") + "/a", HEADERS), timeout=2
            )
    assert upstream.asked == []


async def test_random_cancellations_never_mix_up_answers() -> None:
    """Each answer carries the number asked for; cancelled calls leave no stale answer for the next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                number = head.split(b" ")[1].rpartition(b"/")[2]
                await asyncio.sleep(int(number) % 7 / 1000)
                writer.write(answer(number))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for kind in (HttpxTransport, AiohttpTransport, HttptoolsTransport):
        transport = kind(max_connections=8)
        checked = 0

        async def ask(number: int, transport: Transport = transport) -> int:
            request = Request("GET", f"{url}/{number}", HEADERS)
            got = await transport.send(request, timeout=10)
            assert got.body == str(number).encode()
            return 1

        for start in range(0, 600, 30):
            calls = [asyncio.create_task(ask(number)) for number in range(start, start + 30)]
            await asyncio.sleep(start % 11 / 1000)
            for call in calls[:: 2 if start % 60 else 3]:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert not [each for each in ended if isinstance(each, Exception)]
            checked += sum(each == 1 for each in ended)
        assert checked > 200
        await transport.aclose()
    server.close()


@pytest.mark.parametrize(
    ("kind", "connections"),
    [(HttpxTransport, 10), (AiohttpTransport, 100), (HttptoolsTransport, 100)],
)
async def test_after_a_stall_all_connections_are_there_again(
    kind: Callable[..., Transport], connections: int
) -> None:
    """Of three calls for each connection none is answered in time. Then each connection can be used at once, as before.

    Calls that found no connection end after half of their time, and say that nothing was sent.
    """
    stalled, arrived = True, 0
    all_there = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                if not stalled:
                    arrived += 1
                    if arrived == connections:
                        all_there.set()
                    await all_there.wait()
                    writer.write(answer(b"{}"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
    transport = kind(max_connections=connections)

    async def send(timeout: float) -> str:  # noqa: ASYNC109
        try:
            await transport.send(Request("GET", url, HEADERS), timeout=timeout)
        except NetworkError as error:
            return error.code or ""
        return "answered"

    ends = await asyncio.gather(*(send(1) for _ in range(3 * connections)))
    assert ends.count("timeout") == connections
    assert ends.count("connections_in_use") == 2 * connections
    stalled = False
    answered = await asyncio.gather(*(send(10) for _ in range(connections)))
    assert answered == ["answered"] * connections
    await transport.aclose()
    server.close()


async def test_httpx_may_be_given_any_transport_of_its_own() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": request.headers["x-api-key"]})

    mock = HttpxTransport(httpx.MockTransport(handle))
    async with AsyncChatClient("https://h", api_key="k1", transport=mock) as client:
        assert (await client.project()).id == "k1"


def test_certificates_are_checked_with_the_given_context() -> None:
    context = ssl.create_default_context()
    assert HttpxTransport(verify=context)._verify is context


# -- in process ------------------------------------------------------------------------------------

logged: ContextVar[str] = ContextVar("logged", default="nothing")


async def reply(send: Callable[..., object], body: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]
    await send({"type": "http.response.body", "body": body, "more_body": more})  # type: ignore[misc]


async def test_an_application_in_this_process_sees_a_plain_request() -> None:
    scopes: list[dict] = []

    async def app(scope: dict, receive: Callable[..., object], send: Callable[..., object]) -> None:
        scopes.append(scope)
        message = await receive()  # type: ignore[misc]
        await reply(send, message["body"])

    transport = AsgiTransport(app)
    response = await transport.send(
        Request("PUT", "http://chat:81/a/b?c=%20d", HEADERS, b"hello"), timeout=1
    )
    assert response.body == b"hello"
    scope = scopes[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("PUT", "/a/b", b"c=%20d")
    assert dict(scope["headers"])[b"host"] == b"chat:81"
    assert dict(scope["headers"])[b"content-length"] == b"5"


async def test_its_failures_look_like_a_servers() -> None:
    async def before(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("bug")

    async def client_itself(scope: object, receive: object, send: object) -> None:
        raise NetworkError("the application's own upstream is away")

    async def during(scope: object, receive: object, send: Callable[..., object]) -> None:
        await reply(send, b"{", more=True)
        raise RuntimeError("bug")

    async def never(scope: object, receive: object, send: object) -> None: ...

    async def slow(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(9)

    async def huge(scope: object, receive: object, send: Callable[..., object]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]
        while True:
            body = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            await send(body)  # type: ignore[misc]

    request = Request("GET", "http://chat/a")
    for broken in (before, client_itself):
        assert (await AsgiTransport(broken).send(request, timeout=1)).status == 500
    for app, kind in (
        (during, NetworkError),
        (never, NetworkError),
        (slow, TimeoutError),
        (huge, ServerError),
    ):
        with pytest.raises(kind):
            await AsgiTransport(app).send(request, timeout=0.1)


async def test_its_context_variables_stay_its_own() -> None:
    """A server that clears and binds logging context must not do so in its caller."""

    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        logged.set("server")
        await asyncio.sleep(0)
        assert logged.get() == "server"
        await reply(send, b"{}")

    logged.set("caller")
    await AsgiTransport(app).send(Request("GET", "http://chat/a"), timeout=1)
    assert logged.get() == "caller"


async def test_a_cancelled_call_cancels_the_application() -> None:
    ended: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    call = asyncio.create_task(AsgiTransport(app).send(Request("GET", "http://c/a"), timeout=5))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended == ["cancelled"]


async def test_an_application_waiting_for_the_client_to_go_is_told_at_the_end() -> None:
    async def app(
        scope: object, receive: Callable[..., object], send: Callable[..., object]
    ) -> None:
        await receive()  # type: ignore[misc]
        gone = asyncio.create_task(receive())  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert not gone.done()
        await reply(send, b"{}")
        assert (await gone)["type"] == "http.disconnect"

    assert (await AsgiTransport(app).send(Request("GET", "http://c/a"), timeout=1)).status == 200


# -- a function ------------------------------------------------------------------------------------

Answered = tuple[int, list[tuple[str, str]], bytes]


async def test_a_function_in_this_process_is_called_with_what_was_sent() -> None:
    asked: list[tuple[object, ...]] = []

    async def serve(*request: object) -> Answered:
        asked.append(request)
        return 201, [("X-Two", "2")], b'{"a":1}'

    transport = DirectTransport(serve)
    response = await transport.send(
        Request("PUT", "http://chat:81/a/b?c=%20d", HEADERS, b"hello"), timeout=1
    )
    assert (response.status, response.header("x-two"), response.body) == (201, "2", b'{"a":1}')
    assert asked == [("PUT", "/a/b?c=%20d", HEADERS, b"hello")]


async def test_its_failures_look_like_a_servers_too() -> None:
    async def broken(*_: object) -> Answered:
        raise RuntimeError("bug")

    async def slow(*_: object) -> Answered:
        await asyncio.sleep(9)
        raise AssertionError

    async def huge(*_: object) -> Answered:
        return 200, [], b"x" * (LARGEST_BODY + 1)

    request = Request("GET", "http://chat/a")
    assert (await DirectTransport(broken).send(request, timeout=1)).status == 500
    with pytest.raises(TimeoutError):
        await DirectTransport(slow).send(request, timeout=0.05)
    with pytest.raises(ServerError):
        await DirectTransport(huge).send(request, timeout=1)


async def test_a_function_that_answers_although_its_time_is_up_is_heard() -> None:
    """Then nothing of the cancellation is left in the caller's task."""

    async def stubborn(*_: object) -> Answered:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
        return 200, [], b"{}"

    async def broken(*_: object) -> Answered:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
        raise RuntimeError("bug")

    task = asyncio.current_task()
    assert task is not None
    for serve, status in ((stubborn, 200), (broken, 500)):
        response = await DirectTransport(serve).send(Request("GET", "http://c/a"), timeout=0.05)
        assert response.status == status
        assert task.cancelling() == 0


async def test_a_call_out_of_time_is_no_cancelled_task() -> None:
    """The next call of the same task runs as ever."""

    async def serve(*_: object) -> Answered:
        await asyncio.sleep(0.2)
        return 200, [], b"{}"

    transport, request = DirectTransport(serve), Request("GET", "http://c/a")
    with pytest.raises(TimeoutError):
        await transport.send(request, timeout=0.03)
    assert (await transport.send(request, timeout=5)).status == 200


async def test_a_call_that_is_cancelled_when_its_time_is_up_is_cancelled() -> None:
    """Whoever else ends the task means the task, not the call."""

    async def serve(*_: object) -> Answered:
        try:
            await asyncio.sleep(9)
        finally:
            task.cancel()
        raise AssertionError

    call = DirectTransport(serve).send(Request("GET", "http://c/a"), timeout=0.03)
    task = asyncio.ensure_future(call)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_call_cancels_the_function() -> None:
    ended: list[str] = []

    async def serve(*_: object) -> Answered:
        try:
            await asyncio.sleep(9)
        finally:
            ended.append("ended")
        raise AssertionError

    call = asyncio.create_task(DirectTransport(serve).send(Request("GET", "http://c/a"), timeout=5))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended == ["ended"]


# -- yours -----------------------------------------------------------------------------------------


async def test_ten_lines_make_a_transport() -> None:
    class Canned:
        def __init__(self, *bodies: bytes) -> None:
            self.bodies = list(bodies)

        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
            return Response(200, [("Content-Type", "application/json")], self.bodies.pop(0))

        async def aclose(self) -> None:
            self.bodies.clear()

    transport: Transport = Canned(b'{"id":"p"}', b'{"items":[]}')
    async with AsyncChatClient("https://h", api_key="k", transport=transport) as client:
        assert (await client.users.list()).items == ()


def test_an_asynchronous_transport_serves_the_synchronous_client() -> None:
    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        await reply(send, b'{"id":"p","name":"n"}')

    transport = BackgroundTransport(AsgiTransport(app))
    with ChatClient("http://chat", api_key="k", transport=transport) as client:
        assert client.project().id == "p"
    with ChatClient("http://chat", api_key="k", transport=AsgiTransport(app)) as client:
        assert client.project().id == "p"
