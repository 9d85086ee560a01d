"""CSRF and CORS rules for cookies: which pages may send requests, and which may read the responses."""

from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from chat_broker.admission.csrf import BrowserRules
from chat_broker.errors import Refused
from chat_broker.http.client_address import Proxies
from chat_broker.http.cors import SECURITY_HEADERS, Cors
from chat_broker.settings import Settings
from tests.app.auth.signing import request

LISTED = "https://app.example.com"
RULES = BrowserRules(frozenset({LISTED}), Proxies().is_own_origin)

NOT_LISTED = [
    "null", "", "*", "https://app.example.com.evil.test", "https://evil.test", "http://app.example.com",
    "https://app.example.com:443", "https://app.example.com:8443", "https://APP.example.com", "https://app.example.com/",
    "https://app.example.com.", "https://xapp.example.com", "https://a.app.example.com", "app.example.com",
    "https://app.example.co", " https://app.example.com/x", "https://app.example.com@evil.test",
    "https://app.example.com%00.evil.test", "https://app\u00e9.example.com", "https://app.example.com,https://evil.test",
]  # fmt: skip


def refused(*headers: tuple[str, str], carrier: Any = "cookie", method: str = "POST") -> bool:
    try:
        RULES.check(request(*headers, method=method), carrier)
    except Refused as error:
        return error.code == "csrf_failed"
    return False


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post", "PROPFIND", ""])
def test_a_write_needs_the_header_and_a_listed_origin(method: str) -> None:
    csrf, origin = ("x-chat-csrf", "1"), ("origin", LISTED)
    same = ("sec-fetch-site", "same-origin")
    assert not refused(csrf, origin, method=method)
    assert refused(csrf, method=method)
    assert refused(origin, method=method)
    assert refused(origin, same, method=method)
    assert refused(csrf, same, method=method)
    assert refused(method=method)
    for wrong in ("", "0", "true", "11", "1,1"):
        assert refused(("x-chat-csrf", wrong), origin, method=method)
    assert refused(csrf, csrf, origin, method=method)
    assert refused(csrf, origin, origin, method=method)


@pytest.mark.parametrize("origin", NOT_LISTED)
def test_an_origin_is_on_the_list_exactly_or_not_at_all(origin: str) -> None:
    assert refused(("x-chat-csrf", "1"), ("origin", origin))
    assert refused(("origin", origin), method="GET")
    assert refused(("x-chat-csrf", "1"), ("origin", LISTED), ("origin", origin))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_needs_one_of_three_signs(method: str) -> None:
    for sign in (("sec-fetch-site", "same-origin"), ("origin", LISTED), ("x-chat-csrf", "1")):
        assert not refused(sign, method=method)
    assert refused(method=method)
    for site in ("cross-site", "same-site", "none", "", "same-origin, cross-site"):
        assert refused(("sec-fetch-site", site), method=method)
    assert refused(
        ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site"), method=method
    )


def test_a_bearer_is_never_sent_by_a_browser_itself() -> None:
    assert not refused(carrier="bearer")
    assert not refused(
        ("origin", "https://evil.test"), ("sec-fetch-site", "cross-site"), carrier="bearer"
    )


def test_identity_headers_are_ambient_where_a_browser_names_another_site() -> None:
    host = ("host", "chat.example.com")
    assert not refused(carrier="header")
    for site in ("same-origin", "none"):
        assert not refused(("sec-fetch-site", site), carrier="header")
    for site in ("cross-site", "same-site", "nonsense"):
        assert refused(("sec-fetch-site", site), carrier="header")
        assert not refused(("sec-fetch-site", site), ("origin", LISTED), carrier="header")
    assert not refused(host, ("origin", "http://chat.example.com"), carrier="header")
    assert refused(host, ("origin", "http://evil.test"), carrier="header")
    assert not refused(
        host, ("origin", "https://chat.example.com"), carrier="header"
    )  # TLS ends before
    assert not refused(host, ("origin", "ws://CHAT.example.com:80"), carrier="header")
    assert refused(host, ("origin", "http://chat.example.com:81"), carrier="header")
    assert refused(host, ("origin", "null"), carrier="header")
    assert not refused(
        host, ("origin", "https://x.test"), ("sec-fetch-site", "same-origin"), carrier="header"
    )


def test_our_own_origin_is_listed_as_browsers_write_it() -> None:
    """The origin is recognised in every spelling of PUBLIC_URL."""
    listed = {"auth": ("dev",), "environment": "development", "cors_origins": (LISTED,)}
    for public in ("https://Chat.Example.com", "https://chat.example.com:443/chatapp/"):
        one = Settings(**listed, public_url=public)
        assert one.own_origins == {LISTED, "https://chat.example.com"}
    local = Settings(**listed, port=80)
    assert local.own_origins == {LISTED, "http://127.0.0.1", "http://localhost"}


@pytest.mark.parametrize(
    "url", ["https://b\u00fccher.example", "https://x:99999", "https://a b", "https://u@x.example"]
)
def test_an_address_that_no_browser_could_name_does_not_start(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Settings(auth=("dev",), environment="development", public_url=url)


# -- CORS -------------------------------------------------------------------------------------------


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello", headers={"Access-Control-Allow-Origin": "*"})


def browser() -> httpx.AsyncClient:
    app = Cors(Starlette(routes=[Route("/", hello, methods=["GET", "POST"])]), origins=[LISTED])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker")


PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-chat-csrf",
}


async def test_a_listed_origin_may_read_with_credentials() -> None:
    async with browser() as http:
        answer = await http.get("/", headers={"origin": LISTED})
        assert answer.headers["access-control-allow-origin"] == LISTED
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
        assert answer.headers["vary"] == "Origin"
        allowed = await http.options("/", headers={"origin": LISTED, **PREFLIGHT})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == LISTED
        assert "x-chat-csrf" in allowed.headers["access-control-allow-headers"].lower()
        assert "DELETE" in allowed.headers["access-control-allow-methods"]
        assert "*" not in str(allowed.headers) + str(answer.headers)


@pytest.mark.parametrize("origin", NOT_LISTED)
async def test_an_unlisted_origin_is_told_nothing(origin: str) -> None:
    raw = [(b"origin", origin.encode("latin-1"))]
    async with browser() as http:
        answer = await http.get("/", headers=raw)
        assert answer.status_code == 200
        assert answer.headers["vary"] == "Origin"
        preflight = [*raw, *((name.encode(), value.encode()) for name, value in PREFLIGHT.items())]
        asked = await http.request("OPTIONS", "/", headers=preflight)
        assert asked.status_code == 403
        for headers in (answer.headers, asked.headers):
            assert not [name for name in headers if name.startswith("access-control-")]


async def test_requests_without_or_with_two_origins_are_told_nothing() -> None:
    async with browser() as http:
        for raw in ([], [(b"origin", LISTED.encode()), (b"origin", b"https://evil.test")]):
            answer = await http.get("/", headers=raw)
            assert "access-control-allow-origin" not in answer.headers
        plain = await http.options("/")
        assert plain.status_code == 405  # not a preflight: the application's to answer


def test_security_headers_are_all_there() -> None:
    named = {name.decode() for name, _ in SECURITY_HEADERS}
    assert {
        "x-content-type-options",
        "content-security-policy",
        "referrer-policy",
        "x-frame-options",
    } < named


# -- addresses --------------------------------------------------------------------------------------

TRUSTED = Proxies(map(ip_network, ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.5.5.5, 10.9.9.9"], "10.5.5.5"),
        ("10.0.0.1", ["203.0.113.9, junk"], "10.0.0.1"),
        ("10.0.0.1", ["junk, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:5555"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:5555"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["0x7f.1"], "10.0.0.1"),
        ("10.0.0.1", ["127.1"], "10.0.0.1"),
        ("10.0.0.1", ["010.0.0.1"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::5", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.7", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.8", ["203.0.113.9"], "192.0.2.8"),
        ("testclient", ["203.0.113.9"], "unknown"),
    ],
)
def test_the_client_is_the_first_nobody_vouches_beyond(
    peer: str, forwarded: list[str], client: str
) -> None:
    scope = request(*(("x-forwarded-for", line) for line in forwarded), peer=peer).scope
    assert TRUSTED.client(scope) == client


def test_without_a_peer_nobody_is_trusted() -> None:
    scope = {**request(("x-forwarded-for", "1.1.1.1")).scope, "client": None}
    assert TRUSTED.client(scope) == "unknown"
    assert TRUSTED.origin(scope) is None


def test_the_walk_ends_after_twenty_hops() -> None:
    scope = request(("x-forwarded-for", "203.0.113.9" + ", 10.0.0.2" * 30), peer="10.0.0.1").scope
    assert TRUSTED.client(scope) == "10.0.0.2"


@pytest.mark.parametrize(
    ("peer", "headers", "origin"),
    [
        ("1.1.1.1", {"host": "chat.example.com"}, "http://chat.example.com"),
        ("1.1.1.1", {"host": "Chat.Example.com:8000"}, "http://chat.example.com:8000"),
        ("1.1.1.1", {"host": "chat.example.com:80"}, "http://chat.example.com"),
        ("1.1.1.1", {"host": "[::1]:8000"}, "http://[::1]:8000"),
        (
            "1.1.1.1",
            {"host": "a", "x-forwarded-proto": "https", "x-forwarded-host": "evil"},
            "http://a",
        ),
        ("10.0.0.1", {"host": "a", "x-forwarded-proto": "https"}, "https://a"),
        (
            "10.0.0.1",
            {"host": "a", "x-forwarded-proto": "http, https", "x-forwarded-host": "x, b:443"},
            "https://b",
        ),
        ("10.0.0.1", {"host": "a", "x-forwarded-proto": "gopher"}, "http://a"),
        ("10.0.0.1", {"host": "a", "x-forwarded-host": "b/c"}, None),
        ("1.1.1.1", {"host": "a b"}, None),
        ("1.1.1.1", {"host": "a@b"}, None),
        ("1.1.1.1", {"host": ""}, None),
        ("1.1.1.1", {}, None),
    ],
)
def test_the_origin_a_request_came_to(
    peer: str, headers: dict[str, str], origin: str | None
) -> None:
    assert TRUSTED.origin(request(*headers.items(), peer=peer).scope) == origin
