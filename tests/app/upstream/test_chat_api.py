"""Failures of the Chat API become clear errors, without any part of its response."""

import asyncio
import importlib.util
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_broker.main import create_app
from chat_broker.upstream import chat_api
from chat_broker_sdk import (
    AiohttpTransport,
    HttptoolsTransport,
    HttpxTransport,
    NetworkError,
    Request,
    Response,
    Transport,
)
from chat_broker_sdk import TimeoutError as ChatTimeout
from tests.app.brokers import API_KEY, Running, code_of, http, running, settings
from tests.programs import run_command, running_server

SECRET = "upstream-secret-5d1c"


def problem(status: int, code: str = "something", **headers: str) -> Response:
    body = {
        "status": status,
        "code": code,
        "detail": SECRET,
        "message": SECRET,
        "request_id": "r-1",
    }
    return Response(status, list(headers.items()), json.dumps(body).encode())


def raw(status: int, body: bytes, kind: str = "application/json") -> Response:
    return Response(
        status, [("content-type", kind), ("set-cookie", SECRET), ("server", SECRET)], body
    )


def refusing(error: Exception) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        raise error

    return answer


HTML = f"<html>{SECRET}</html>".encode()
DEEP = b"[" * 10_000 + b"]" * 10_000

CASES: list[tuple[str, Any, int, str]] = [
    ("our key is refused", problem(401, "api_key_invalid"), 502, "upstream_refused"),
    ("our key may not", problem(403, "forbidden"), 502, "upstream_refused"),
    ("html 403", raw(403, HTML, "text/html"), 502, "upstream_refused"),
    ("suspended", problem(403, "user_suspended"), 403, "user_suspended"),
    ("500", problem(500), 502, "upstream_error"),
    ("502 html", raw(502, HTML, "text/html"), 502, "upstream_error"),
    ("503", problem(503), 503, "upstream_unavailable"),
    ("599", problem(599), 502, "upstream_error"),
    ("501", problem(501), 501, "not_supported"),
    ("200 html", raw(200, HTML, "text/html"), 502, "upstream_error"),
    ("200 empty", raw(200, b""), 502, "upstream_error"),
    ("200 half JSON", raw(200, b'{"id": "x", "na'), 502, "upstream_error"),
    ("200 other shape", raw(200, b'{"x": 1}'), 502, "upstream_error"),
    ("200 list", raw(200, b"[]"), 502, "upstream_error"),
    ("200 wrong types", raw(200, b'{"id": 7, "name": [], "items": 3}'), 502, "upstream_error"),
    ("200 deep", raw(200, DEEP), 502, "upstream_error"),
    ("200 not UTF-8", raw(200, b"\xff\xfe\x00"), 502, "upstream_error"),
    ("204 for something", raw(204, b""), 502, "upstream_error"),
    ("301", Response(301, [("location", "http://evil.test/")], b""), 502, "upstream_error"),
    ("302", Response(302, [("location", "http://evil.test/")], b""), 502, "upstream_error"),
    ("307", Response(307, [("location", "http://evil.test/")], b""), 502, "upstream_error"),
    ("100", Response(100, [], b""), 502, "upstream_error"),
    ("refused connection", NetworkError(SECRET), 503, "upstream_unreachable"),
    ("too slow", ChatTimeout(SECRET), 504, "upstream_timeout"),
    (
        "no connection free",
        NetworkError(SECRET, code="connections_in_use"),
        503,
        "upstream_unavailable",
    ),
    ("429", problem(429, "rate_limited"), 429, "rate_limited"),
]

# A read and a write, behind a membership that is known already.
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/rooms", None),
    ("GET", "/rooms/{room}/messages", None),
    ("POST", "/rooms/{room}/messages", {"content": "x"}),
    ("POST", "/token", None),
]


@pytest.mark.parametrize(
    ("what", "answer", "status", "code"), CASES, ids=[case[0] for case in CASES]
)
async def test_a_misbehaving_chat_api_is_translated(
    tmp_path: Path, what: str, answer: Any, status: int, code: str
) -> None:
    """Errors of reads and writes, without the Chat API's text, headers or redirect target."""
    async with running(tmp_path, chat_timeout=0.5) as broker:
        alice = await broker.sign_in("alice")
        room = await alice.room()
        await alice.say(room)
        for method, path, body in CALLS:
            if isinstance(answer, Exception):
                broker.upstream.answer = refusing(answer)
            else:
                broker.upstream.answer = lambda _: answer
            found = await alice.call(method, path.format(room=room), body)
            assert (found.status_code, code_of(found)) == (status, code), (what, path)
            assert SECRET not in found.text + str(found.headers)
            assert "evil.test" not in found.text + str(found.headers)
            assert "set-cookie" not in found.headers
            if status in {429, 503}:
                assert 1 <= int(found.headers["retry-after"]) <= 60
            assert all(one.url.startswith("http://chat/") for one in broker.upstream.seen)
            broker.upstream.answer = None  # one success, so that the breaker stays out of this
            assert (await alice.get("/me")).status_code == 200


@pytest.mark.parametrize(
    ("told", "passed_on"),
    [("7", 7), ("0", 1), ("1", 1), ("60", 60), ("61", 60), ("1000000000", 60), ("", 5), ("soon", 5), ("-3", 5), ("1.5", 5),
     ("9" * 400, 60), ("Wed, 21 Oct 2015 07:28:00 GMT", 1)],
)  # fmt: skip
async def test_retry_after_is_held_between_one_and_sixty(
    broker: Running, told: str, passed_on: int
) -> None:
    """An unusable Retry-After becomes five seconds; a 429 does not open the breaker."""
    alice = await broker.sign_in("alice")
    await alice.get("/rooms")
    broker.upstream.answer = lambda _: problem(429, "rate_limited", **{"retry-after": told})
    for _ in range(6):
        began = time.monotonic()
        found = await alice.post("/token")
        assert time.monotonic() - began < 5, "kept waiting instead of being told to wait"
        assert found.status_code == 429
        assert int(found.headers["retry-after"]) == passed_on
    broker.upstream.answer = None
    assert (await alice.post("/token")).status_code == 200


async def test_the_breaker_answers_at_once_and_says_when_to_come_again(tmp_path: Path) -> None:
    """After five failures in a row no request is sent, and 503 follows within milliseconds."""
    async with running(tmp_path, chat_timeout=1) as broker:
        alice = await broker.sign_in("alice")
        await alice.get("/rooms")
        broker.upstream.answer = lambda _: problem(500)
        for _ in range(6):
            await alice.post("/token")
        sent = len(broker.upstream.seen)
        began = time.monotonic()
        found = await alice.post("/token")
        assert time.monotonic() - began < 0.2
        assert (found.status_code, code_of(found)) == (503, "upstream_unavailable")
        assert 1 <= int(found.headers["retry-after"]) <= 60
        assert len(broker.upstream.seen) == sent
        assert (await broker.client.get("/healthz")).status_code == 200
        ready = await broker.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")


async def test_a_slow_chat_api_does_not_slow_others(tmp_path: Path) -> None:
    """A hundred requests end at their deadline; /healthz responds meanwhile."""
    async with running(tmp_path, chat_timeout=1.5) as broker:
        alice = await broker.sign_in("alice")
        await alice.get("/rooms")
        inner = broker.upstream.server

        class Slow:
            async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam
                try:
                    async with asyncio.timeout(timeout):
                        await asyncio.sleep(30)
                except TimeoutError:
                    raise ChatTimeout(SECRET, code="timeout") from None
                return await inner.send(request, timeout=timeout)

            async def aclose(self) -> None:
                await inner.aclose()

        broker.upstream.server = Slow()
        began = time.monotonic()
        waiting = [asyncio.create_task(alice.post("/token")) for _ in range(100)]
        await asyncio.sleep(0.3)
        asked = time.monotonic()
        assert (await broker.client.get("/healthz")).status_code == 200
        assert time.monotonic() - asked < 0.5
        found = await asyncio.gather(*waiting)
        assert {answer.status_code for answer in found} <= {503, 504}
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("kind", [None, AiohttpTransport, HttptoolsTransport, HttpxTransport])
@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=["SSH", "TLS", "status", "chunk", "gzip"],
)
async def test_bytes_that_are_no_http_are_a_bad_gateway(
    tmp_path: Path, kind: Callable[[], Transport] | None, sent: bytes
) -> None:
    """At once, although the other side does not hang up; *kind* None is what the broker takes by itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    app = create_app(
        settings(tmp_path, chat_base_url=url),
        chat_transport=None if kind is None else kind(),
    )
    async with app.router.lifespan_context(app), http(app) as client:
        signed_in = await client.post("/dev/login", json={"username": "alice"})
        client.headers["authorization"] = f"Bearer {signed_in.json()['token']}"
        began = time.monotonic()
        found = await client.get("/chat/rooms")
        assert (found.status_code, code_of(found)) == (502, "upstream_error")
        assert time.monotonic() - began < 5
    server.close()


async def test_after_a_stall_with_many_calls_under_way_all_calls_work_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within five seconds after the breaker tries again: no connection is lost to the calls that gave up.

    A Chat API in a process of its own stops for longer than a call may take, with three times as many calls under way
    as there are connections.
    """
    breaker_seconds = 1.0
    monkeypatch.setattr("chat_broker_sdk._retry.OPEN_FOR", breaker_seconds)
    where = {"DATA_DIR": str(tmp_path)}
    code, out, err = await run_command(
        "chat-server", "create-project", "--name", "p", "--json", environment=where
    )
    assert code == 0, err
    key = json.loads(out)["api_key"]
    async with running_server(tmp_path) as server:
        remote = settings(tmp_path, chat_base_url=server.url, chat_api_key=key, chat_timeout=2)
        app = create_app(remote)
        async with app.router.lifespan_context(app), http(app) as client:
            signed_in = await client.post("/dev/login", json={"username": "alice"})
            client.headers["authorization"] = f"Bearer {signed_in.json()['token']}"

            async def mint() -> int:
                return (await client.post("/chat/token")).status_code

            assert await mint() == 200
            server.process.send_signal(signal.SIGSTOP)
            try:
                stalled = await asyncio.gather(*(mint() for _ in range(300)))
            finally:
                server.process.send_signal(signal.SIGCONT)
            assert set(stalled) <= {503, 504}
            returned = time.monotonic()
            while await mint() != 200:
                assert time.monotonic() - returned < breaker_seconds + 5
                await asyncio.sleep(0.05)
            for _ in range(4):
                assert set(await asyncio.gather(*(mint() for _ in range(50)))) == {200}


async def test_the_key_goes_upstream_and_nothing_of_the_callers_does(broker: Running) -> None:
    """Neither their credential, nor cookies, nor forwarding headers."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    extra = {"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-api-key": "theirs", "x-secret": "s"}
    await alice.post(f"/rooms/{room}/messages", {"content": "x"}, headers=extra)
    for request in broker.upstream.seen:
        headers = {name.lower(): value for name, value in request.headers}
        assert headers["x-api-key"] == API_KEY
        assert not set(headers) & {"authorization", "cookie", "x-forwarded-for", "x-secret"}


async def test_a_renamed_username_conflict_without_codes_ends_well(broker: Running) -> None:
    """A Chat API that says 409 and no more: looked up, then another name is tried."""
    answers = iter([problem(409, "conflict")])

    def answer(request: Request) -> Response | None:
        if request.method == "POST" and request.url.endswith("/users"):
            return next(answers, None)
        return None

    broker.upstream.answer = answer
    alice = await broker.sign_in("alice")
    user = (await alice.get("/me")).json()
    assert user["username"].startswith("alice-")


async def test_names_from_claims_make_no_headers_and_one_call_each(broker: Running) -> None:
    """CR, LF, NUL, separators: whatever a claim holds, the number of headers and calls is the same."""
    from chat_broker.chat.principal import Principal

    counts = set()
    for number, name in enumerate(
        ["plain", "a\r\nX-Evil: 1", "a\0b", "a\u2028b", "a\nb", "\ud800"]
    ):
        broker.upstream.seen.clear()
        me = Principal("iss", f"n{number}", f"n{number}", username=f"n{number}", name=name)
        await broker.app.broker.tokens.mint(me)
        counts.add(tuple(len(one.headers) for one in broker.upstream.seen[-2:]))
        assert not any("Evil" in str(one.headers) for one in broker.upstream.seen)
    assert len(counts) == 1


def test_without_httptools_the_chat_api_is_called_over_aiohttp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    assert isinstance(chat_api._network(), HttptoolsTransport)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "httptools" else real(name)
    )
    assert isinstance(chat_api._network(), AiohttpTransport)
