"""Every response: request id, headers, limits, addresses, metrics, health."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_broker.errors import BrokerError, problem, seconds_to_wait
from chat_broker.http.client_address import Proxies
from chat_broker.http.edge import Edge
from chat_broker.observability.metrics import Metrics
from chat_broker.observability.readiness import Dependency
from chat_broker.settings import Settings
from tests.app.brokers import Running, as_sent, code_of, http, running


async def test_a_request_id_is_taken_if_plain_and_made_if_not(broker: Running) -> None:
    """`^[A-Za-z0-9-]{8,64}$`, once; anything else is replaced, in header, body and log alike."""
    good = await broker.client.get("/chat/me", headers={"x-request-id": "abc-12345678"})
    assert good.headers["x-request-id"] == "abc-12345678"
    assert code_of(good) == "authentication_required"
    made = set()
    for bad in (
        "short",
        "x" * 65,
        "has space here",
        "line\tbreak-here",
        "ünïcödé-long",
        "a;b;c;d;e;f",
    ):
        answer = await broker.client.get("/chat/me", headers={"x-request-id": bad.encode("utf-8")})
        assert answer.headers["x-request-id"] != bad
        made.add(answer.headers["x-request-id"])
    twice = await broker.client.get(
        "/healthz", headers=[("x-request-id", "first-one-1"), ("x-request-id", "second-one")]
    )
    made.add(twice.headers["x-request-id"])
    assert len(made) == 7
    assert all(len(one) == 32 for one in made)


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/chat/me", "/chat/nowhere", "/x", "/openapi.json", "/docs", "/metrics"],
)
async def test_every_answer_keeps_browsers_careful(broker: Running, path: str) -> None:
    """All responses, errors included, have security headers. HSTS is sent over https only."""
    answer = await broker.client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers


async def test_hsts_and_the_socket_address_follow_a_trusted_proxys_word(tmp_path: Path) -> None:
    """X-Forwarded-Proto and -Host count from a trusted proxy only."""
    told = {"x-forwarded-proto": "https", "x-forwarded-host": "chat.example.com"}
    for trusted, expected in ((("127.0.0.0/8",), True), ((), False)):
        async with running(tmp_path, trusted_proxies=trusted) as broker:
            answer = await broker.client.get("/healthz", headers=told)
            assert ("strict-transport-security" in answer.headers) is expected


async def test_the_address_that_counts_is_not_the_callers_choice(tmp_path: Path) -> None:
    """Forged X-Forwarded-For do not change the address; those of a trusted proxy do."""
    async with running(tmp_path, rate_ip="20/minute") as broker:
        statuses = [
            (
                await broker.client.get("/chat/verify", headers={"x-forwarded-for": f"10.0.0.{n}"})
            ).status_code
            for n in range(40)
        ]
        assert statuses[-1] == 429
    async with running(tmp_path, rate_ip="20/minute", trusted_proxies=("127.0.0.1",)) as broker:
        statuses = [
            (
                await broker.client.get("/chat/verify", headers={"x-forwarded-for": f"10.0.0.{n}"})
            ).status_code
            for n in range(40)
        ]
        assert set(statuses) == {401}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], 400),
        ([("cookie", "chat_dev_session={token}")], 403),  # a cookie from no listed page
    ],
)
async def test_every_refused_request_counts_for_its_address(
    tmp_path: Path, headers: list[tuple[str, str]], status: int
) -> None:
    """RATE_IP also ends requests that contradict themselves, and those of other sites' pages."""
    async with running(tmp_path, rate_ip="20/minute") as broker:
        login = await broker.client.post("/dev/login", json={"username": "alice"})
        broker.client.cookies.clear()
        sent = [(name, value.format(token=login.json()["token"])) for name, value in headers]
        statuses = [
            (await broker.client.post("/chat/rooms", headers=sent, json={"name": "x"})).status_code
            for _ in range(30)
        ]
        assert (statuses[0], statuses[-1]) == (status, 429)


async def test_limits_are_per_user_and_say_how_long_to_wait(tmp_path: Path) -> None:
    """RATE_TOKEN, RATE_WRITE and RATE_READ are counted apart, and for each user."""
    async with running(
        tmp_path, rate_token="3/hour", rate_write="4/hour", rate_read="5/hour"
    ) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        for method, path, body, allowed in (
            ("POST", "/token", None, 3), ("POST", "/rooms", {"name": "x"}, 4), ("GET", "/rooms", None, 5),
        ):  # fmt: skip
            statuses = [
                (await alice.call(method, path, body)).status_code for _ in range(allowed + 2)
            ]
            assert all(status < 300 for status in statuses[:allowed])
            assert statuses[allowed:] == [429, 429]
            refused = await alice.call(method, path, body)
            assert code_of(refused) == "rate_limited"
            assert 1 <= int(refused.headers["retry-after"]) <= 7200
            assert (await bob.call(method, path, body)).status_code < 300


async def test_refused_credentials_are_counted(tmp_path: Path) -> None:
    """After RATE_AUTH_FAILURES per address, 429 before the credential is verified."""
    async with running(tmp_path, rate_auth_failures="5/minute") as broker:
        bad = {"authorization": "Bearer dev_x.1.y"}
        statuses = [
            (await broker.client.get("/chat/me", headers=bad)).status_code for _ in range(8)
        ]
        assert statuses == [401] * 5 + [429] * 3


async def test_nobody_gets_in_without_a_credential(broker: Running) -> None:
    """401 with a challenge on every route under /chat but verify, which needs a chat token."""
    paths = broker.app.openapi()["paths"]
    routes = [(m, p) for p, methods in paths.items() for m in methods if p.startswith("/chat/")]
    assert len(routes) >= 20
    for method, path in routes:
        target = path.replace("{room_id}", "r").replace("{message_id}", "m").replace("{user}", "u")
        answer = await broker.client.request(
            method.upper(), target, json={"content": "x"} if method != "get" else None
        )
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert code_of(answer) == "authentication_required"
    assert broker.upstream.seen == []


async def test_the_api_description_names_every_route_of_the_contract(broker: Running) -> None:
    found = broker.app.openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in found.items() for method in methods}
    room = "/chat/rooms/{room_id}"
    assert routes >= {
        "POST /chat/token", "GET /chat/token", "DELETE /chat/token", "GET /chat/me", "GET /chat/verify", "GET /chat/rooms",
        "POST /chat/rooms", f"GET {room}", f"PATCH {room}", f"DELETE {room}", f"POST {room}/join", f"POST {room}/leave",
        f"GET {room}/members", f"PUT {room}/members/{{user}}", f"DELETE {room}/members/{{user}}", f"GET {room}/messages",
        f"POST {room}/messages", f"PATCH {room}/messages/{{message_id}}", f"DELETE {room}/messages/{{message_id}}", f"PUT {room}/read",
    }  # fmt: skip
    page = await broker.client.get("/docs")
    assert "/chat/rooms/{room_id}/messages" in page.text
    assert "<script" not in page.text


async def test_metrics_are_labelled_with_our_words_alone(broker: Running) -> None:
    """Paths, ids and unknown methods of clients do not become labels."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    await alice.get(f"/rooms/{room}")
    for path in ("/chat/rooms/evil-id-1", "/evil-path-2", "/chat/evil-path-3"):
        await broker.client.get(path)
    await broker.client.request("EVIL4", "/chat/rooms")
    text = (await broker.client.get("/metrics")).text
    assert 'route="/chat/rooms/{room_id}"' in text
    assert 'method="GET",route="unmatched",status="404"' in text
    assert "evil" not in text.lower()
    assert room not in text
    assert "alice" not in text


async def test_ready_tells_degraded_from_failed(tmp_path: Path) -> None:
    """Without the upstream or Redis: degraded, 200. Without the database: failed, 503."""
    async with running(tmp_path, redis_url="redis://127.0.0.1:1/0") as broker:
        found = await broker.client.get("/readyz")
        assert (found.status_code, found.json()["status"]) == (200, "degraded")
        assert found.json()["checks"]["redis"].startswith("degraded")
        assert found.json()["checks"]["database"] == "ok"
        alice = await broker.sign_in("alice")  # and one can still chat
        room = await alice.room()
        await alice.say(room)
    async with running(tmp_path) as broker:

        async def gone() -> str:
            raise OSError("no disk")

        readiness = broker.app.state.readiness
        readiness.dependencies["database"] = Dependency("sqlite x", gone)
        found = await broker.client.get("/readyz")
        assert (found.status_code, found.json()["status"]) == (503, "failed")
        assert "no disk" not in found.text
        assert (await broker.client.get("/healthz")).status_code == 200


def alone(app: Any, **more: Any) -> Edge:
    return Edge(app, proxies=Proxies(()), metrics=Metrics(), **more)


async def test_an_unforeseen_failure_is_a_500_that_tells_nothing() -> None:
    """A failure before the response starts is a 500; afterwards the connection ends."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret detail in a bug")

    async with http(alone(broken)) as client:
        answer = await client.get("/chat/x?query=1")
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json()["instance"] == "/chat/x"


async def test_deadlines_end_what_takes_too_long() -> None:
    """A handler that does not finish is 504; a body that does not arrive is 408."""

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def never() -> Any:
        yield b"{"
        await asyncio.sleep(60)

    async with http(alone(hangs, deadline=0.1)) as client:
        assert (await client.get("/x")).status_code == 504
    async with http(alone(reads, deadline=0.1)) as client:
        assert code_of(await client.post("/x", content=never())) == "request_timeout"


async def test_bytes_that_are_no_header_text_do_no_harm(broker: Running) -> None:
    """Latin-1, NUL and emoji in any header are refused, never a 500."""
    for name in ("authorization", "content-type", "origin", "x-request-id", "cookie", "host", "x-forwarded-for",
                 "idempotency-key", "x-chat-csrf", "sec-fetch-site", "content-length"):  # fmt: skip
        for value in (
            "\xff\xfe",
            "\x00",
            "😀".encode().decode("latin-1"),
            "a" * 9000,
            "",
            ",",
            "Bearer \xff.\xff.\xff",
        ):
            status, headers, body = await as_sent(
                broker.app, "POST", b"/chat/rooms", {name: value}, b'{"name": "x"}'
            )
            assert 400 <= status < 500, (name, value, status, body)
            assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("told", "passed_on"),
    [(None, 5), (0, 1), (0.2, 1), (1, 1), (59.5, 60), (61, 60), (1e308, 60), (float("inf"), 5), (float("nan"), 5), (-1, 5)],
)  # fmt: skip
def test_waiting_times_make_sense(told: float | None, passed_on: int) -> None:
    assert seconds_to_wait(told) == passed_on


def test_a_problem_has_every_member() -> None:
    """Problems have the members of RFC 9457 and the broker's own."""
    import json

    body = json.loads(problem(BrokerError(), request_id="r", instance="/x"))
    assert list(body) == [
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "message",
        "request_id",
    ]


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    one = Settings(_env_file=None, environment="development", auth=("dev",), data_dir=tmp_path)
    with pytest.raises(Exception, match="frozen"):
        one.port = 1  # type: ignore[misc]


async def test_a_listed_page_may_read_even_refusals(tmp_path: Path) -> None:
    """CORS headers name the request's origin if it is listed, also on errors."""
    async with running(tmp_path, cors_origins="https://app.example") as broker:
        for origin, named in (
            ("https://app.example", True),
            ("https://app.example.evil.test", False),
            ("null", False),
        ):
            answer: httpx.Response = await broker.client.get("/chat/me", headers={"origin": origin})
            assert answer.status_code == 401
            assert (answer.headers.get("access-control-allow-origin") == origin) is named


async def test_pages_may_read_the_headers_that_are_sent(tmp_path: Path) -> None:
    """Each exposed header is one that a response has."""
    origin = {"origin": "https://app.example"}
    async with running(
        tmp_path, cors_origins=origin["origin"], rate_auth_failures="1/minute"
    ) as broker:
        bad = {**origin, "authorization": "Bearer dev_x.1.y"}
        answers = [await broker.client.get("/chat/me", headers=bad) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [401, 429]
    exposed = answers[0].headers["access-control-expose-headers"].lower().split(", ")
    assert set(exposed) <= {name for answer in answers for name in answer.headers}
