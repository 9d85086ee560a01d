"""An asynchronous client and its event loop: one after another works, two at once are refused with the reason."""

import asyncio
import gc
import json
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ParamSpec

import pytest

from chat_broker_sdk import (
    AiohttpTransport,
    AsgiTransport,
    AsyncChatClient,
    ConfigurationError,
    DirectTransport,
    HttptoolsTransport,
    HttpxTransport,
    Request,
    Transport,
)
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.conftest import KEY
from tests.sdk.realtime.sockets import FakeSockets, fake_sockets

ROOM = json.dumps({"id": "r1", "name": "Room"}).encode()
PROJECT = json.dumps({"id": "p1", "name": "Project"}).encode()


class Answering(BaseHTTPRequestHandler):
    """Answers as a Chat API with one room would, and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = PROJECT if self.path.endswith("/project") else ROOM
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    """A server on threads of its own: it belongs to no event loop."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def serve(_method: str, path: str, _headers: Any, _body: bytes | None) -> Any:
    await asyncio.sleep(0)
    body = PROJECT if path.endswith("/project") else ROOM
    return 200, [("content-type", "application/json")], body


async def app(scope: Any, _receive: Any, send: Any) -> None:
    status, headers, body = await serve("GET", scope["path"], None, None)
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


KINDS: dict[str, Callable[[], Transport]] = {
    "httpx": HttpxTransport,
    "aiohttp": AiohttpTransport,
    "httptools": HttptoolsTransport,
    "direct": lambda: DirectTransport(serve),
    "asgi": lambda: AsgiTransport(app),
}


P = ParamSpec("P")


def leaving_connections(test: Callable[P, None]) -> Callable[P, None]:
    """Loops that end with connections open leave them to the collector, which complains: here, and nowhere else."""

    @wraps(test)
    def collected(*args: P.args, **kwargs: P.kwargs) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                test(*args, **kwargs)
            finally:
                gc.collect()

    return collected


every_kind = pytest.mark.parametrize("kind", list(KINDS))


def client_of(kind: str, url: str) -> AsyncChatClient:
    return AsyncChatClient(url, api_key=KEY, transport=KINDS[kind](), retries=0)


async def some_calls(client: AsyncChatClient) -> None:
    for _ in range(2):  # the second ones over connections that are there already
        rooms = await asyncio.gather(*(client.rooms.get("r1") for _ in range(5)))
        assert [room.id for room in rooms] == ["r1"] * 5


@every_kind
@leaving_connections
def test_one_event_loop_after_another(kind: str, url: str) -> None:
    """`asyncio.run` for every piece of work, as scripts and task queues do."""
    client = client_of(kind, url)
    for _ in range(3):
        asyncio.run(some_calls(client))

    async def last() -> None:
        async with client:
            await some_calls(client)

    asyncio.run(last())


@pytest.mark.parametrize("kind", [AiohttpTransport, HttptoolsTransport])
@leaving_connections
def test_calls_that_begin_together_on_another_loop_add_up(
    kind: Callable[..., AiohttpTransport | HttptoolsTransport], url: str
) -> None:
    """However many find that the transport has to move: no turn of theirs is given back to another loop's."""
    transport = kind(max_connections=5)

    async def calls() -> None:
        request = Request("GET", f"{url}/api/v1/project")
        await asyncio.gather(*(transport.send(request, timeout=5) for _ in range(20)))
        assert (transport._limit.in_use, transport._limit.waiting) == (0, 0)

    for _ in range(3):
        asyncio.run(calls())


@every_kind
@leaving_connections
def test_closing_on_another_event_loop(kind: str, url: str) -> None:
    client = client_of(kind, url)
    asyncio.run(some_calls(client))
    asyncio.run(client.aclose())


def test_a_call_still_ends_in_time_on_the_second_loop() -> None:
    async def slow(*_: Any) -> Any:
        await asyncio.sleep(30)

    calls = iter([serve, serve, slow])

    async def next_one(*arguments: Any) -> Any:
        return await next(calls)(*arguments)

    client = AsyncChatClient(
        "http://chat", api_key=KEY, transport=DirectTransport(next_one), retries=0, timeout=0.2
    )
    asyncio.run(client.rooms.get("r1"))

    async def late() -> None:
        with pytest.raises(TimeoutError):
            await client.rooms.get("r1")

    asyncio.run(asyncio.wait_for(late(), 5))


@contextmanager
def another_loop() -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs what it is given on a loop of another thread, which lives until the block ends."""
    with ThreadPoolExecutor(1) as thread, asyncio.Runner() as runner:

        def run(work: Any) -> Any:
            async def awaited() -> Any:
                return await work

            return thread.submit(runner.run, awaited()).result(timeout=10)

        yield run


@every_kind
@leaving_connections
def test_two_event_loops_at_once(kind: str, url: str) -> None:
    """It works, or says why not; the first loop's calls go on in either case."""
    client = client_of(kind, url)
    with another_loop() as run:
        run(some_calls(client))
        if kind == "asgi":
            asyncio.run(some_calls(client))
        else:
            with pytest.raises(ConfigurationError, match="two event loops") as caught:
                asyncio.run(some_calls(client))
            assert caught.value.code == "wrong_event_loop"
        run(some_calls(client))
        run(client.aclose())


@every_kind
@leaving_connections
def test_two_event_loops_that_take_turns_on_one_thread(kind: str, url: str) -> None:
    """Neither is closed: the second is refused, unless nothing belongs to a loop."""
    client = client_of(kind, url)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(some_calls(client))
        if kind == "asgi":
            second.run(some_calls(client))
        else:
            with pytest.raises(ConfigurationError, match="two event loops"):
                second.run(some_calls(client))
        first.run(some_calls(client))
        first.run(client.aclose())


@contextmanager
def sockets_on_a_thread() -> Iterator[FakeSockets]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def opened() -> tuple[Any, FakeSockets]:
        block = fake_sockets()
        return block, await block.__aenter__()

    block, fake = asyncio.run_coroutine_threadsafe(opened(), loop).result(timeout=10)
    try:
        yield fake
    finally:
        closing = block.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(closing, loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@leaving_connections
def test_a_socket_on_one_event_loop_after_another() -> None:
    """A loop that ended without a disconnect, and one that did disconnect."""
    with sockets_on_a_thread() as fake:
        fake.room("r", 1)
        client = AsyncChatClient(fake.url, jwt_token="eyJ.a.b")

        async def used(*, tidy: bool) -> None:
            await client.socket.connect()
            joined = await client.socket.join_room("r")
            assert joined.last_seq == 1
            if tidy:
                await client.aclose()

        asyncio.run(used(tidy=False))
        asyncio.run(used(tidy=True))
        asyncio.run(used(tidy=False))
        asyncio.run(client.aclose())


def test_a_socket_is_not_used_from_two_event_loops_at_once() -> None:
    with sockets_on_a_thread() as fake, another_loop() as run:
        fake.room("r", 1)
        client = AsyncChatClient(fake.url, jwt_token="eyJ.a.b")
        run(client.socket.connect())
        for use in (
            lambda: client.socket.join_room("r"),
            client.socket.connect,
            client.socket.disconnect,
            client.socket.wait,
        ):

            async def misused(use: Any = use) -> None:
                with pytest.raises(ConfigurationError, match="two event loops"):
                    await use()

            asyncio.run(misused())
        assert run(client.socket.join_room("r")).last_seq == 1
        run(client.aclose())


def test_the_first_call_of_two_loops_finds_the_project_twice_at_worst() -> None:
    """The lock around that is no other loop's: nobody waits for a wake-up that never comes."""
    fake = FakeChatApi()
    fake.delay(0.2, times=2, on="/project")
    client = fake.client()
    with another_loop() as run, ThreadPoolExecutor(1) as thread:
        first = thread.submit(run, client.project())
        asyncio.run(asyncio.wait_for(client.project(), 5))
        assert first.result(timeout=5).id == "fake-project"
