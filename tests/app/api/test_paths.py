"""No spelling of a path reaches another route or another upstream URL."""

import json
import re

import pytest

from tests.app.brokers import Running, as_sent

PAYLOADS = [
    "..", ".", "%2e%2e", "%2e", "%2E%2E", ".%2e", "%2e.", "..%2f", "%2e%2e%2f", "..%2f..%2f", "%2e%2e%2f%2e%2e%2fusers",
    "%252e%252e", "%252e%252e%252f", "%25252e%25252e", "%25252525252e", "..;", "..;%2f", "%2e%2e;", ";a=b", "a;b",
    "..%5c", "%5c..%5c", "%5c", "a%5cb", "..%c0%af", "%c0%ae%c0%ae", "%c0%ae%c0%ae%2f", "%ef%bc%8e%ef%bc%8e", "．．",
    "%u002e%u002e", "%3f", "%3fx=1", "a%3fuser_id=1", "%23", "a%23b", "%00", "a%00", "%0d%0a", "a%0d%0aHost:%20evil",
    "%0a", "%09", "%20", "a%20b", "+", "a+b", "%7f", "http:%2f%2fevil.test", "%2f%2fevil.test", "evil.test:80", "@evil",
    "%40evil.test", "*", "$", "~", "a:b", "a,b", "[]", "%5b%5d", "'", "%22", "a" * 65, "a" * 5000, "null%2f..%2fx",
    "external:", "external:..%2f", "external:%2e%2e%2fx", "external:a%2fb", "external:a%3fx=1", "external:a%23", "external:%00", "external:a%20b",
    "external:é", "external:" + "a" * 129, "External:a", "external%253Aa", "external:a;b", "external:..", "external%3A..%3A~@",
    "%e2%80%8b", "%f0%9f%92%a9", "-%2f-", "_%2f..",
]  # fmt: skip

ROUTES = [
    ("GET", "/rooms/{x}", None),
    ("PATCH", "/rooms/{x}", {"name": "x"}),
    ("DELETE", "/rooms/{x}", None),
    ("POST", "/rooms/{x}/join", None),
    ("POST", "/rooms/{x}/leave", None),
    ("GET", "/rooms/{x}/members", None),
    ("PUT", "/rooms/{room}/members/{x}", None),
    ("DELETE", "/rooms/{room}/members/{x}", None),
    ("GET", "/rooms/{x}/messages", None),
    ("POST", "/rooms/{x}/messages", {"content": "x"}),
    ("PATCH", "/rooms/{room}/messages/{x}", {"content": "x"}),
    ("DELETE", "/rooms/{room}/messages/{x}", None),
    ("PUT", "/rooms/{x}/read", {"seq": 1}),
    ("PUT", "/rooms/{x}/messages/m/reactions/:a:", None),
    ("DELETE", "/rooms/{room}/messages/{x}/reactions/:a:", None),
    ("PUT", "/rooms/{room}/messages/{x}/pin", None),
    ("GET", "/rooms/{x}/pins", None),
]

_ID = r"[A-Za-z0-9_-]{1,64}"
_ROOM = rf"({_ID}|external:[A-Za-z0-9._:@~-]{{1,128}})"
_PROJECT = "default-[0-9a-f]{16}"
_EXPECTED = re.compile(
    rf"GET /api/v1/project|(GET|POST|PATCH|PUT|DELETE) /api/v1/projects/{_PROJECT}/(users(/{_ID}(/token|/revoke)?)?|rooms(/{_ROOM}(/join|/leave|/read"
    rf"|/members(/{_ID})?|/messages(/{_ID})?)?)?)(\?[a-z_]+=[A-Za-z0-9_.~%+-]*(&[a-z_]+=[A-Za-z0-9_.~%+-]*)*)?"
)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=str)
async def test_no_payload_reaches_another_path_or_host(
    broker: Running, method: str, path: str, body: object
) -> None:
    """60 spellings per parameter are refused, and requests upstream hold plain ids only."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    headers = {**alice.client.headers, "content-type": "application/json"}
    for payload in PAYLOADS:
        target = ("/chat" + path.format(x=payload, room=room)).encode("utf-8")
        raw = b"" if body is None else json.dumps(body).encode()
        status, _, said = await as_sent(broker.app, method, target, headers, raw)
        assert 400 <= status < 500, (payload, status, said)
    for one in broker.upstream.seen:
        assert one.url.startswith("http://chat/"), one.url
    for called in broker.upstream.paths():
        assert _EXPECTED.fullmatch(called), called
    writes = [one for one in broker.upstream.paths() if not one.startswith("GET")]
    assert [re.sub(_PROJECT, "PID", one) for one in writes] == [
        "POST /api/v1/projects/PID/users",
        "POST /api/v1/projects/PID/rooms",
    ]


async def test_an_external_id_may_hold_anything_and_stays_one_value(broker: Running) -> None:
    """External ids with slashes, dots and query characters are looked up unchanged."""
    names = ["a/b", "../x", "a?b=c&d", "a#b", "ü ñ", "x:y", "100%"]
    alice = await broker.sign_in("alice")
    room = await alice.room()
    users = broker.app.state.upstream.chat.users
    from urllib.parse import quote

    for number, name in enumerate(names):
        made = await users.create(username=f"u{number}", external_user_id=name)
        added = await alice.put(f"/rooms/{room}/members/external:{quote(name, safe='')}")
        assert added.status_code == 200, (name, added.text)
        assert added.json()["user_id"] == made.id
        gone = await alice.delete(f"/rooms/{room}/members/external:{quote(name, safe='')}")
        assert gone.status_code == 204
