"""Polling, websockets and the way from one to the other; sizes, origins, and those who never say who they are."""

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import socketio
from websockets.exceptions import InvalidStatus

from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import connected, opened

POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture
async def http(node: LiveNode) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http:
        yield http


async def polled(http: httpx.AsyncClient) -> str:
    """A new polling session, as the rest of its address."""
    answer = await http.get(POLL)
    assert answer.status_code == 200
    return f"{POLL}&sid={json.loads(answer.text[1:])['sid']}"


# The client library leaves a response of its polling unread when it goes over to a websocket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_the_python_client_speaks_over_every_transport(
    node: LiveNode, transports: list[str]
) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    client = socketio.AsyncClient(reconnection=False)
    heard: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    async def hear(event: str, payload: object) -> None:
        await heard.put((event, payload))

    client.on("*", hear)
    await client.connect(node.url, auth={"token": await node.token(alice)}, transports=transports)
    try:
        assert client.transport() == transports[-1]
        assert (await client.call("joinRoom", room.id))["ok"]
        answer = await client.call("sendMessage", (room.id, "hello"))
        async with asyncio.timeout(5):
            assert await heard.get() == ("message", answer["message"])
        for number in range(2, 6):
            await node.chat.post(PID, room.id, alice.id, f"m{number}")
        async with asyncio.timeout(5):
            assert [(await heard.get())[1]["seq"] for _ in range(4)] == [2, 3, 4, 5]  # type: ignore[index]
    finally:
        await client.disconnect()
        await client.wait()
    del client
    gc.collect()
    await until(lambda: node.fact("sockets") == 0)


@pytest.mark.parametrize(
    "wrapped", [False, True], ids=["straight to the wire", "through the library"]
)
async def test_frames_arrive_whole_in_order_on_both_ways(database_url: str, wrapped: bool) -> None:
    """Short, medium and long frames; with the transport known, and hidden by a middleware."""
    async with running_node(database_url, wrapped=wrapped) as node:
        alice = await node.user("alice")
        room = await node.room(alice)
        socket = await node.socket(alice, room)
        contents = ["x", "ü" * 200, "y" * 8000, "✓" * 8000, "z"] * 3
        for content in contents:
            await node.chat.post(PID, room.id, alice.id, content, metadata={"a": "b" * 1000})
        heard = await socket.hears("message", len(contents))
        assert [message["content"] for message in heard] == contents
        direct = node.fact("sockets_direct")
        assert direct == (0 if wrapped else 1)


async def test_who_never_says_who_they_are_is_let_go(database_url: str) -> None:
    """On a websocket and on polling alike, in the time given for it. A laptop may have slept: it is to come back."""
    async with running_node(database_url, limits=Limits(auth_deadline=0.3)) as node:
        began = time.monotonic()
        async with opened(node.url) as socket:
            await socket.ends(within=3)
            assert socket.refused is not None
            told = socket.refused["data"]
            assert (told["code"], told["reconnect"]) == ("handshake_timeout", True)
        async with httpx.AsyncClient(base_url=node.url, trust_env=False) as http:
            session = await polled(http)
            last = await http.get(session)
            assert '44{"message"' in last.text
            await until(lambda: node.fact("sockets") == 0, within=3)
            assert (await http.get(session)).status_code == 400
        assert time.monotonic() - began < 4


async def test_only_the_token_in_auth_says_who_somebody_is(node: LiveNode) -> None:
    """A token in the query or a header is nobody's; a good one in `auth` is not outdone by headers."""
    alice, bob = await node.user("alice"), await node.user("bob")
    token = await node.token(alice)
    lies = {
        "Authorization": f"Bearer {token}",
        "X-User": "alice",
        "X_User": "admin",
        "Cookie": f"token={token}",
    }
    async with connected(node.url, None, headers=lies, query={"token": token}) as socket:
        assert socket.refused is not None
        assert socket.refused["data"]["code"] == "token_invalid"
    room = await node.room(alice, bob)
    async with connected(
        node.url, await node.token(bob), headers=lies, query={"token": token}
    ) as socket:
        await socket.call("joinRoom", room.id)
        answer = await socket.call("sendMessage", room.id, "who am I?")
        assert answer["message"]["username"] == "bob"


@pytest.mark.parametrize("size", [65_537, 1_000_000])
async def test_a_polling_request_over_the_limit_is_refused_at_once(
    http: httpx.AsyncClient, size: int
) -> None:
    """Declared or not: the answer does not wait for the rest, and the session stays alive."""
    session = await polled(http)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(size // 1000 + 1):
            yield b"4" * 1000

    for content in (b"4" * size, drip()):
        # The server may have hung up before everything was sent.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            assert (await http.post(session, content=content)).status_code == 413
    assert (await http.post(session, content=b"3")).status_code == 200


async def test_a_chunked_polling_request_is_understood(
    node: LiveNode, http: httpx.AsyncClient
) -> None:
    session = await polled(http)
    token = await node.token(await node.user("alice"))

    async def chunks() -> AsyncIterator[bytes]:
        yield b'40{"tok'
        yield b'en":"%b"}' % token.encode()

    assert (await http.post(session, content=chunks())).status_code == 200
    assert (await http.get(session)).text.startswith('40{"sid"')


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/socket.io/?transport=polling", 400),
        ("GET", "/socket.io/?EIO=3&transport=polling", 400),
        ("GET", "/socket.io/?EIO=4&transport=polling&j=0", 400),
        ("GET", "/socket.io/?EIO=4&transport=smoke", 400),
        ("GET", "/socket.io/?EIO=4&transport=websocket", 400),
        ("GET", "/socket.io/?EIO=4&EIO=4&transport=polling", 400),
        ("GET", POLL + "&sid=nobody", 400),
        ("GET", POLL + "&sid=%0d%0ainjected", 400),
        ("POST", POLL, 400),
        ("POST", POLL + "&sid=nobody", 400),
        ("PUT", POLL, 405),
        ("DELETE", POLL, 405),
        ("GET", "/socket.io/other?EIO=4&transport=polling", 404),
    ],
)
async def test_bad_requests_are_answered_without_a_word_in_the_log(
    http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], method: str, path: str, status: int
) -> None:
    capfd.readouterr()
    answer = await http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("body", [b"\xff\xfe", b"3\x1e" * 20 + b"3"])
async def test_a_bad_polling_body_is_400(http: httpx.AsyncClient, body: bytes) -> None:
    session = await polled(http)
    assert (await http.post(session, content=body)).status_code == 400


@pytest.mark.parametrize("body", [b"2", b"6", b"x", b"", b"bAAAA", b"d=4", b"0{}"])
async def test_bad_packets_in_a_good_body_are_protocol_errors(
    node: LiveNode, http: httpx.AsyncClient, body: bytes
) -> None:
    """Answered at once: the library would wait for the peer for ever on some of them."""
    session = await polled(http)
    assert (await http.post(session, content=body)).status_code == 200
    assert node.fact("protocol_errors") == 1


async def test_origins_are_an_exact_list(database_url: str) -> None:
    """Nothing that a client can say about hosts and schemes makes another origin pass."""
    good = "https://app.example.com"
    async with running_node(database_url, origins=[good]) as node:
        token = await node.token(await node.user("alice"))
        bad = [
            "https://app.example.com.evil.test",
            "http://app.example.com",
            "https://app.example.com:444",
            "HTTPS://APP.EXAMPLE.COM",
            "null",
            node.url,
        ]
        async with httpx.AsyncClient(base_url=node.url, trust_env=False) as http:
            for origin in bad:
                forwarded = {
                    "X-Forwarded-Host": origin.partition("//")[2],
                    "X-Forwarded-Proto": "https",
                }
                answer = await http.get(POLL, headers={"Origin": origin, **forwarded})
                assert answer.status_code == 403
                assert "access-control-allow-origin" not in answer.headers
                with pytest.raises(InvalidStatus):
                    async with opened(node.url, headers={"Origin": origin, **forwarded}):
                        pass
            answer = await http.get(POLL, headers={"Origin": good})
            assert answer.headers["access-control-allow-origin"] == good
            answer = await http.options(POLL, headers={"Origin": good})
            assert (answer.status_code, answer.headers["vary"]) == (204, "Origin")
            assert (await http.get(POLL)).status_code == 200, "not a browser: no origin"
        async with connected(node.url, token, headers={"Origin": good}) as socket:
            assert socket.sid


async def test_without_a_list_any_origin_may_connect_but_not_with_cookies(
    node: LiveNode, http: httpx.AsyncClient
) -> None:
    answer = await http.get(POLL, headers={"Origin": "https://anywhere.test"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_node_that_is_full_says_so(database_url: str) -> None:
    async with (
        running_node(database_url, limits=Limits(sockets=1)) as node,
        httpx.AsyncClient(base_url=node.url, trust_env=False) as http,
    ):
        await polled(http)
        answer = await http.get(POLL)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_two_polls_at_once_are_refused(http: httpx.AsyncClient) -> None:
    session = await polled(http)
    first = asyncio.ensure_future(http.get(session))
    await asyncio.sleep(0.1)
    assert (await http.get(session)).status_code == 400
    await http.post(session, content=b"1")
    await first


async def test_a_client_that_stops_answering_pings_is_let_go(database_url: str) -> None:
    limits = Limits(ping_interval=0.2, ping_timeout=0.4)
    async with running_node(database_url, limits=limits) as node:
        alice = await node.user("alice")
        alive, dead = await node.socket(alice), await node.socket(alice)
        dead.answers_pings = False
        await until(lambda: node.fact("sockets") == 1)
        await alive.quiet()
