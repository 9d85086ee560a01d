"""Cached header lines give the same responses as parsed ones."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_broker.fast_path.header_cache import MOST_CACHED, HeaderCache, read_head
from tests.app.auth.signing import AUDIENCE, ISSUER, SECRET, claims, secret_signer
from tests.app.brokers import Running, running, served_at

ADMIN_KEY = "admin-4f1d9c0e7b6a5d3c2b1a0f9e8d7c"
VARIES = re.compile(
    rb"x-request-id: [0-9a-f]{32}|date: [^\r]+|[rt]=\d+|eyJ[\w.-]+|\d{4}-\d\d-\d\dT[\d:.]+Z"
    rb"|\"refresh_in\":\d+|\"expires_in\":\d+|[0-9a-f]{32}"
)


def signed(sub: str, *, seconds: float = 3600) -> str:
    """A token of the app's, signed with HS256."""
    now = time.time()
    return secret_signer().token(claims(sub=sub, iat=int(now) - 60, exp=int(now + seconds)))


@asynccontextmanager
async def broker_for_jwts(folder: Path, **more: Any) -> AsyncIterator[Running]:
    given = {
        "auth": ("jwt",),
        "auth_jwt_issuer": ISSUER,
        "auth_jwt_audience": AUDIENCE,
        "auth_jwt_secret": SECRET,
        "auth_jwt_algorithms": "HS256",
    }
    async with running(folder, over_the_wire=True, **{**given, **more}) as broker:
        yield broker


class Line:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, *pieces: bytes) -> bytes:
        """Send *pieces* one after the other; the response without its varying parts."""
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        return await self.answer()

    async def answer(self) -> bytes:
        """The next answer."""
        async with asyncio.timeout(5):
            head = await self._reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"content-length: (\d+)", head) or [b"0"]
            body = await self._reader.readexactly(int(length))
        return VARIES.sub(b"~", head + body)

    async def hears_nothing(self) -> bool:
        """Whether no bytes arrive; the connection may end."""
        try:
            async with asyncio.timeout(0.3):
                return await self._reader.read(1) == b""
        except TimeoutError:
            return True


@asynccontextmanager
async def line_to(broker: Running, *, coming_from: str = "127.0.0.1") -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served_at(broker.app), local_addr=(coming_from, 0)
    )
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def request(target: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    head = [f"{method} {target} HTTP/1.1", "Host: broker", *lines]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def heads_of(broker: Running) -> HeaderCache:
    heads: HeaderCache = broker.app.fast_path.header_cache
    return heads


async def known_to(broker: Running, line: Line, *lines: str) -> None:
    """Put these header lines into the cache."""
    before = len(heads_of(broker))
    for _ in range(3):
        await line.ask(request("/chat/rooms", *lines))
    assert len(heads_of(broker)) == before + 1


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The heads that were parsed."""
    from chat_broker_kit.http.protocol import BoundedHttpProtocol

    seen: list[bytes] = []
    ordinary = BoundedHttpProtocol.data_received

    def watching(self: Any, data: bytes) -> None:
        seen.append(data)
        ordinary(self, data)

    monkeypatch.setattr(BoundedHttpProtocol, "data_received", watching)
    return seen


async def test_known_lines_are_not_parsed_again_and_answers_stay_the_same(
    tmp_path: Path, parsed: list[bytes]
) -> None:
    """Cached lines serve any request line: another route, a query, another body length, an error."""
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        alice = bearer(signed("alice"))
        made = await line.ask(request("/chat/rooms", alice, method="POST", body=b'{"name":"x"}'))
        [room] = re.findall(rb'"id":"([^"]+)"', made)
        base = f"/chat/rooms/{room.decode()}/messages"
        say = b'{"content":"hi"}'
        asked = [
            request("/chat/rooms", alice),
            request("/chat/rooms?scope=open", alice),
            request("/chat/rooms?scope=nothing", alice),
            request(base, alice),
            request(base + "?limit=0", alice),
            request(base + "?limit=1&limit=1", alice),
            request("/chat/rooms/nope/messages", alice),
            request("/chat/token", alice),
            request("/chat/token?expires_in=60", alice),
            request("/chat/me", alice, "Origin: https://evil.example"),
            request(base, alice, method="POST", body=b"{}"),
            request(base, alice, method="POST", body=b"[1,2]"),
        ]
        first = [await line.ask(one) for one in asked]
        again = [await line.ask(one) for one in asked]
        parsed.clear()
        third = [await line.ask(one) for one in asked]
        assert first == again == third
        assert parsed == []
        assert {one[9:12] for one in third} == {b"200", b"400", b"404"}
        said = [await line.ask(request(base, alice, method="POST", body=say)) for _ in range(3)]
        assert all(b"201 Created" in one and b'"content":"hi"' in one for one in said)
        assert len(parsed) == 1  # of this length none was sent before


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Request-Id: from-the-caller-1"],
        ["Idempotency-Key: once-and-no-more"],
        ["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ["Connection: close"],
        ["X-Long: " + "x" * 3000],
    ],
)
async def test_lines_that_do_not_come_again_are_not_kept(tmp_path: Path, lines: list[str]) -> None:
    async with broker_for_jwts(tmp_path) as broker:
        for _ in range(3):
            async with line_to(broker) as line:
                one = request("/chat/rooms", bearer(signed("alice")), *lines)
                assert b" 200 OK" in await line.ask(one)
        assert len(heads_of(broker)) == 0


async def test_lines_without_a_good_token_are_not_kept(tmp_path: Path) -> None:
    """A flood of invalid credentials evicts no cached user, and each is verified anew."""
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        for lines in (
            [],
            [bearer("a.b.c")],
            [bearer(signed("alice", seconds=-60))],
            ["Cookie: a=b"],
        ):
            for _ in range(3):
                assert b" 401 " in await line.ask(request("/chat/rooms", *lines))
        assert len(heads_of(broker)) == 0


async def test_of_credentials_nothing_is_kept(tmp_path: Path) -> None:
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        token = signed("alice")
        await known_to(broker, line, bearer(token), "Cookie: session=canary")
        heads = heads_of(broker)
        [head] = heads._recent.values()
        kept = repr([*heads._recent, head.headers, head.bearer, head.origin])
        assert "host" in kept
        assert token[-20:] not in kept
        assert "canary" not in kept


async def test_a_token_past_its_end_is_judged_anew(tmp_path: Path, parsed: list[bytes]) -> None:
    """An expired token is verified again, because the leeway is the authenticator's decision."""
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        ends = request("/chat/rooms", bearer(signed("alice", seconds=2)))
        await line.ask(ends)
        await line.ask(ends)
        parsed.clear()
        await line.ask(ends)
        assert parsed == []
        await asyncio.sleep(2.1)
        await line.ask(ends)
        assert parsed == [ends]


async def test_a_ban_counts_for_who_is_known(tmp_path: Path) -> None:
    async with (
        broker_for_jwts(tmp_path, admin_key=ADMIN_KEY) as broker,
        line_to(broker) as line,
    ):
        alice = bearer(signed("alice"))
        await known_to(broker, line, alice)
        banned = await broker.client.post(
            "/admin/users/external:alice/ban",
            json={"reason": "spam"},
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
        )
        assert banned.status_code in {200, 201}, banned.text
        refused = await line.ask(request("/chat/rooms", alice))
        assert b" 403 " in refused
        assert b"user_suspended" in refused


async def test_lines_mean_who_they_name_and_nobody_else(tmp_path: Path) -> None:
    """On one connection, as behind a proxy, each token stands for its own user."""
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        people = {name: bearer(signed(name)) for name in ("alice", "bob", "carol")}
        for _ in range(4):
            for name, lines in people.items():
                answer = await line.ask(request("/chat/me", lines))
                assert f'"external_user_id":"{name}"'.encode() in answer
        mixed = people["alice"][:-4] + people["bob"][-4:]
        assert b" 401 " in await line.ask(request("/chat/me", mixed))


async def test_a_body_is_never_taken_for_a_request(tmp_path: Path, parsed: list[bytes]) -> None:
    """A body that arrives after the response is still that request's body (RFC 9112 section 6.3)."""
    async with broker_for_jwts(tmp_path) as broker:
        alice = bearer(signed("alice"))
        smuggled = request("/chat/me", alice)
        async with line_to(broker) as line:
            await known_to(broker, line, alice)
            for target in ("/chat/nowhere", "/chat/token", "/chat/rooms"):
                outer = request(target, f"Content-Length: {len(smuggled)}", method="DELETE")
                first = await line.ask(outer)
                assert re.match(rb"HTTP/1\.1 4\d\d ", first)
                parsed.clear()
                line._writer.write(smuggled)
                assert await line.hears_nothing()
                assert parsed == [smuggled]


async def test_pieces_and_neighbours_are_left_to_the_parser(
    tmp_path: Path, parsed: list[bytes]
) -> None:
    """A cached head in two pieces, with the next request after it, or after an empty line."""
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        alice = bearer(signed("alice"))
        await known_to(broker, line, alice)
        get = request("/chat/rooms", alice)
        expected = await line.ask(get)
        for cut in (1, 20, len(get) - 2):
            assert await line.ask(get[:cut], get[cut:]) == expected
        line._writer.write(get + get + get)
        assert [await line.answer() for _ in range(3)] == [expected] * 3
        assert await line.ask(b"\r\n" + get) == expected
        parsed.clear()
        assert await line.ask(get) == expected
        assert parsed == []


async def test_the_same_lines_from_another_peer_are_another_senders(
    tmp_path: Path, parsed: list[bytes]
) -> None:
    """Forwarded headers count from a trusted proxy only, also if their bytes are cached."""
    told = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"
    async with (
        broker_for_jwts(tmp_path, trusted_proxies=("127.0.0.1/32",)) as broker,
        line_to(broker) as proxy,
        line_to(broker, coming_from="127.0.0.2") as anybody,
    ):
        get = request("/chat/rooms", bearer(signed("alice")), *told)
        await known_to(broker, proxy, bearer(signed("alice")), *told)
        await anybody.ask(get)  # the first of a connection is parsed
        await proxy.ask(get)
        parsed.clear()
        for _ in range(2):
            assert b"strict-transport-security" in await proxy.ask(get)
            assert b"strict-transport-security" not in await anybody.ask(get)
        assert parsed == []
        (head,) = heads_of(broker)._recent.values()
        addresses = {peer: address for (peer, _), (address, _) in head.senders.items()}
        assert addresses == {"127.0.0.1": "203.0.113.7", "127.0.0.2": "127.0.0.2"}


@pytest.mark.parametrize(
    "broken",
    [
        b"GET /chat/rooms HTTP/1.0", b"GET /chat/rooms HTTP/1.1 x", b"GET  /chat/rooms HTTP/1.1", b"get /chat/rooms HTTP/1.1",
        b"GET /chat/rooms\tHTTP/1.1", b"GET http://broker/chat/rooms HTTP/1.1", b"\r\nGET /chat/rooms HTTP/1.1", b"",
        b"GET /chat/rooms?\x00 HTTP/1.1", b"GET /chat/rooms#x HTTP/1.1", b"BREW /chat/rooms HTTP/1.1",
    ],
)  # fmt: skip
async def test_an_odd_request_line_is_left_to_the_parser(
    tmp_path: Path, broken: bytes, parsed: list[bytes]
) -> None:
    async with broker_for_jwts(tmp_path) as broker, line_to(broker) as line:
        alice = bearer(signed("alice"))
        await known_to(broker, line, alice)
        parsed.clear()
        good = request("/chat/rooms", alice)
        line._writer.write(broken + good[good.index(b"\r\n") :])
        await line.hears_nothing()
        assert parsed


def a_request(number: int) -> tuple[bytes, bytes, Any]:
    lines = [(b"host", b"broker"), (b"x", str(number).encode()), (b"authorization", b"Bearer t")]
    line = b"GET / HTTP/1.1"
    data = b"\r\n".join([line, *(b"%b: %b" % pair for pair in lines), b"", b""])
    return data, line, read_head(lines)


async def test_no_more_is_kept_than_is_allowed_and_what_is_used_stays() -> None:
    heads = HeaderCache(most=10)
    used, line, head = a_request(-1)
    heads.put(used, line, head)
    for number in range(200):
        heads.put(*a_request(number))
        assert heads.find(used) is not None
        assert len(heads) <= 21
    assert heads.find(a_request(0)[0]) is None
    assert heads.find(a_request(199)[0]) is not None
    assert MOST_CACHED <= 10_000


async def test_what_nobody_sends_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_broker.fast_path.header_cache.UNUSED_SECONDS", 0.05)
    heads = HeaderCache()
    heads.put(*a_request(1))
    assert len(heads) == 1
    await asyncio.sleep(0.2)
    assert len(heads) == 0
    assert heads._turn is None
