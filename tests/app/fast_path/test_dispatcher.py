"""The fast path's responses equal those over ASGI, byte for byte."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from chat_broker import main
from chat_broker.api import messages, rooms, token
from chat_broker.fast_path.dispatcher import Dispatcher
from chat_broker.fast_path.routes import HotRoute, UnsupportedRouteError
from chat_broker.http.client_address import Proxies
from chat_broker.http.cors import Cors
from chat_broker.http.edge import Edge
from chat_broker.observability.metrics import Metrics
from tests.app.brokers import as_sent, code_of, running, served_at

ROUTES = [*token.router.routes, *rooms.router.routes, *messages.router.routes]
# What differs from one call to the next by its nature: ids, instants, tokens, jitter, what is left of a limit.
VARIES = re.compile(
    rb"default-[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|[0-9a-f]{32}|\d{4}-\d\d-\d\dT[\d:.]+Z"
    rb"|eyJ[\w.-]+|\"refresh_in\":\d+|[rt]=\d+"
)


async def everything_asked(
    folder: Path, *, over_the_wire: bool, caches_headers: bool = True
) -> list[tuple[str, int, dict[str, str], bytes]]:
    """The responses of a new broker to a fixed list of requests, without their varying parts."""
    answers = []
    async with running(folder, over_the_wire=over_the_wire) as broker:
        broker.app.fast_path.caches_headers = caches_headers
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        room = await alice.room()
        await alice.say(room)
        chat_token = (await alice.get("/token")).json()["token"]
        bearers = {
            "alice": alice.client.headers["authorization"],
            "bob": bob.client.headers["authorization"],
            "chat": f"Bearer {chat_token}",
            "junk": "Bearer a.b.c",
            "basic": "Basic YTpi",
        }
        base = f"/chat/rooms/{room}/messages"
        targets = [
            "/chat/token", "/chat/token?expires_in=1", "/chat/token/", "/chat//token", "/chat/Token",
            "/chat/verify", "/chat/verify?token=x", "/chat/me", "/chat/me?x=1",
            "/chat/rooms", "/chat/rooms?scope=open", "/chat/rooms?scope=all", "/chat/rooms?page=0",
            base, base + "/", base + "?limit=1", base + "?limit=201", base + "?limit=1&limit=2",
            base + "?before=1&page=1", base + "?after=0", base + "?user_id=x", base + "?%FF=1", base + "%0a",
            "/chat/rooms/nope/messages", "/chat/rooms/..%2fx/messages", "/chat/rooms/%2e%2e/messages",
            "/chat/rooms//messages", f"/chat/rooms/{room}%00/messages", f"/chat/rooms/{room}/read",
        ]  # fmt: skip
        sent = [
            (method, target, who, b"", None)
            for target in targets
            for method in ("GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE")
            for who in ("alice", "bob", "chat", None)
        ]
        sent += [("GET", base, who, b"", None) for who in ("junk", "basic")]
        bodies = [
            b'{"content":"hi"}', b'{"content":""}', b"{", b"[]", b'{"content":"a","content":"b"}', b'{"content":NaN}',
            b'{"content":"a","user_id":"u"}', b'{"content":"a","x":1}', b'{"content":"\\ud800"}', b'{"seq":1}',
            b'{"seq":-1}', b'{"expires_in":60}', b'{"expires_in":0}', b"x" * 70_000,
        ]  # fmt: skip
        for body in bodies:
            for method, target in (
                ("POST", base),
                ("PUT", f"/chat/rooms/{room}/read"),
                ("POST", "/chat/token"),
            ):
                sent += [
                    (method, target, "alice", body, kind)
                    for kind in ("application/json", "text/plain")
                ]
        for method, target, who, body, kind in sent:
            headers = {"content-length": str(len(body))} if body else {}
            headers |= {"content-type": kind} if kind else {}
            headers |= {"authorization": bearers[who]} if who else {}
            asked = f"{method} {target} {who} {body[:40]!r} {kind}".replace(room, "ROOM")
            status, given, said = await as_sent(broker.app, method, target.encode(), headers, body)
            given = {k: VARIES.sub(b"~", v.encode()).decode() for k, v in given.items()}
            given.pop("content-length", None)
            said = b"" if method == "HEAD" else VARIES.sub(b"~", said)  # as the wire has it
            answers.append((asked, status, given, said))
    return answers


@pytest.mark.parametrize("caches_headers", [True, False])
async def test_both_ways_answer_the_same(tmp_path: Path, caches_headers: bool) -> None:
    (tmp_path / "ordinary").mkdir()
    ordinary = await everything_asked(tmp_path / "ordinary", over_the_wire=False)
    (tmp_path / "fast").mkdir()
    fast = await everything_asked(
        tmp_path / "fast", over_the_wire=True, caches_headers=caches_headers
    )
    assert len(ordinary) == len(fast) > 700
    assert {status for _, status, _, _ in fast} >= {200, 201, 400, 401, 404, 405, 413, 415}
    for one, other in zip(ordinary, fast, strict=True):
        assert one == other


LISTED = "https://app.example.com"
HEADS: list[dict[str, str]] = [
    {},
    {"origin": LISTED},
    {"origin": "https://evil.example"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"cookie": "a=b; chat_dev_session=junk"},
    {"x-request-id": "from-the-caller-1"},
    {"x-request-id": "no good!"},
    {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"},
    {"x-forwarded-for": "junk, 203.0.113.7"},
    {"accept-encoding": "gzip", "accept": "text/html", "te": "trailers"},
    {"x-http-method-override": "DELETE"},
]


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
async def test_both_ways_say_the_same_about_every_head(
    tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    """Origins, cookies, ids, forwarded addresses: status, headers and body equal those over ASGI."""
    said: list[list[Any]] = []
    for over_the_wire in (False, True):
        (folder := tmp_path / str(over_the_wire)).mkdir()
        more: dict[str, Any] = {"cors_origins": (LISTED,), "trusted_proxies": trusted}
        async with running(folder, over_the_wire=over_the_wire, **more) as broker:
            alice = await broker.sign_in("alice")
            room = await alice.room()
            bearer = {"authorization": alice.client.headers["authorization"]}
            answers: list[Any] = []
            for head in HEADS:
                for credential in (bearer, {}):
                    for target in ("/chat/rooms", f"/chat/rooms/{room}/messages", "/chat/verify"):
                        status, given, body = await as_sent(
                            broker.app, "GET", target.encode(), {**head, **credential}
                        )
                        given = {k: VARIES.sub(b"~", v.encode()).decode() for k, v in given.items()}
                        given.pop("content-length", None)
                        answers.append((head, status, given, VARIES.sub(b"~", body)))
            said.append(answers)
    for one, other in zip(*said, strict=True):
        assert one == other


async def raw(app: Any, *pieces: bytes) -> bytes:
    """All bytes received after *pieces* are sent one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served_at(app))
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_connection_is_used_as_http_allows(tmp_path: Path) -> None:
    """Two requests in one packet, a head or body in pieces, `Connection: close`, and HTTP/1.0."""
    async with running(tmp_path, over_the_wire=True) as broker:
        alice = await broker.sign_in("alice")
        room = await alice.room()
        head = f"Host: broker\r\nAuthorization: {alice.client.headers['authorization']}\r\n"
        get = f"GET /chat/me HTTP/1.1\r\n{head}\r\n".encode()
        last = f"GET /chat/rooms HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode()
        answer = await raw(broker.app, get + get + last)
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.index(b'"status"') < answer.index(b'"items"')
        assert answer.count(b"connection: close") == 1

        body = b'{"content": "in two pieces"}'
        post = (
            f"POST /chat/rooms/{room}/messages HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
        )
        post += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        whole = post.encode() + body
        for cut in (10, len(post) - 30, len(post), len(post) + 5):
            answer = await raw(broker.app, whole[:cut], whole[cut:])
            assert answer.startswith(b"HTTP/1.1 201 Created"), (cut, answer)
            assert b"in two pieces" in answer

        answer = await raw(broker.app, f"GET /chat/me HTTP/1.0\r\n{head}\r\n".encode())
        assert b" 200 OK" in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("hot", ["on", "off"])
async def test_answers_come_in_the_order_of_the_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hot: str
) -> None:
    """Requests on the fast path, over ASGI, and malformed ones get their responses in order."""
    monkeypatch.setenv("FAST_PATH", hot)
    async with running(tmp_path, over_the_wire=True) as broker:
        alice = await broker.sign_in("alice")
        room = await alice.room()
        head = f"Host: broker\r\nAuthorization: {alice.client.headers['authorization']}\r\n"
        body = b'{"content": "said before the rubbish"}'
        post = (
            f"POST /chat/rooms/{room}/messages HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
        )
        said = f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body
        short = f"GET /chat/me HTTP/1.1\r\n{head}\r\n".encode()
        ordinary = f"GET /chat/rooms/{room}/members HTTP/1.1\r\n{head}\r\n".encode()
        cut_short = f"{post}Content-Length: 100\r\n\r\n{{".encode()
        bad_chunk = f"{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode()
        rubbish, flood = b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000
        for _ in range(2):  # the second time the heads are known
            for last, status in ((rubbish, 400), (flood, 431), (bad_chunk, 400)):
                for asked, expected in (
                    ((said,), [201]),
                    ((short, said, ordinary, short), [200, 201, 200, 200]),
                    ((ordinary, said, short), [200, 201, 200]),
                ):
                    for pieces in ((b"".join((*asked, last)),), (*asked, last)):
                        answer = await raw(broker.app, *pieces)
                        statuses = [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
                        assert statuses == [*expected, status], (asked, last[:10])
                        assert answer.count(b"connection: close") == 1
        assert (await alice.get(f"/rooms/{room}/messages")).json()["items"]
        # A body that ends with its connection is no failure, and the requests before it get their responses.
        _, writer = await asyncio.open_connection("127.0.0.1", served_at(broker.app))
        writer.write(short + cut_short)
        await asyncio.sleep(0.1)
        writer.close()
        await writer.wait_closed()
        page = (await broker.client.get("/metrics")).text
        assert 'status="499"' in page
        assert 'status="500"' not in page


async def test_what_a_request_line_says_is_read_for_each_of_many_that_come_first(
    tmp_path: Path,
) -> None:
    """Requests admitted while others wait share cached header values, completely or not at all."""
    async with running(tmp_path, over_the_wire=True) as broker:
        people = [await broker.sign_in(name) for name in ("alice", "bob", "carol", "dave")]
        room = await people[0].room()
        for one in people:
            await one.post(f"/rooms/{room}/join")
        for number in range(5):
            await people[0].say(room, str(number))
        for limit in range(1, 5):
            # None of these four has asked for that page before, and each waits for another time until they are let in.
            asked = [one.get(f"/rooms/{room}/messages?limit={limit}") for one in people]
            bad = [one.get(f"/rooms/{room}/messages?limit={limit}x") for one in people]
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["items"]) == limit
            assert {answer.status_code for answer in await asyncio.gather(*bad)} == {400}


async def test_what_takes_too_long_ends_with_504_and_the_connection_lives(tmp_path: Path) -> None:
    """The edge's deadline also applies on the fast path."""
    async with running(tmp_path, over_the_wire=True, chat_timeout=25.0) as broker:
        alice = await broker.sign_in("alice")
        await alice.get("/rooms")
        broker.app.fast_path._edge.deadline = 0.1  # type: ignore[attr-defined]
        reached, server = asyncio.Event(), broker.upstream.server

        class Slow:
            async def send(self, request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 - the seam
                reached.set()
                await asyncio.sleep(timeout)
                raise AssertionError

            async def aclose(self) -> None: ...

        broker.upstream.server = Slow()
        answer = await alice.get("/rooms")
        assert reached.is_set()
        assert answer.status_code == 504
        assert code_of(answer) == "timeout"
        broker.upstream.server = server
        assert (await alice.get("/rooms")).status_code == 200


async def test_a_hot_route_is_answered_without_asgi(tmp_path: Path) -> None:
    """A request takes the fast path, and one with an escaped path does not, so the comparison above is real."""
    async with running(tmp_path, over_the_wire=True) as broker:
        alice = await broker.sign_in("alice")
        taken: list[str] = []
        ordinary = broker.app.__class__.__call__

        async def watching(self: Any, scope: Any, receive: Any, send: Any) -> None:
            taken.append(scope["path"])
            await ordinary(self, scope, receive, send)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(broker.app.__class__, "__call__", watching)
            assert (await alice.get("/rooms")).status_code == 200
            assert (await alice.post("/token", {"expires_in": 60})).status_code == 200
            assert taken == []
            assert (await alice.get("/rooms?scope=%6aoined")).status_code == 200
        assert taken == ["/chat/rooms"]


def test_every_hot_route_has_a_shortcut() -> None:
    """A hot route has no dependency that only FastAPI can resolve."""
    app: Any = None
    short = Dispatcher(
        app,
        routes=ROUTES,
        hot=main.HOT,
        prefix="/chat",
        edge=Edge(app, proxies=Proxies(), metrics=Metrics()),
        cors=Cors(app, origins=()),
    )
    assert short.routes.endpoints == set(main.HOT)


async def with_a_query(page: int) -> int:
    return page


def in_a_thread(request: Request) -> str:
    return request.method


@pytest.mark.parametrize("dependency", [with_a_query, in_a_thread])
def test_a_route_that_asks_for_more_goes_the_ordinary_way(dependency: Any) -> None:
    router = APIRouter()

    @router.get("/x")
    async def route(given: Annotated[Any, Depends(dependency)]) -> None: ...

    [made] = router.routes
    assert isinstance(made, APIRoute)
    with pytest.raises(UnsupportedRouteError):
        HotRoute(made, "")


def test_a_guard_of_a_whole_route_is_not_lost() -> None:
    """Dependencies in `dependencies=` of a route or router also keep it off the fast path."""

    async def guard(request: Request) -> None: ...

    router = APIRouter(dependencies=[Depends(guard)])

    @router.get("/x")
    async def route() -> None: ...

    [made] = router.routes
    assert isinstance(made, APIRoute)
    with pytest.raises(UnsupportedRouteError):
        HotRoute(made, "")
