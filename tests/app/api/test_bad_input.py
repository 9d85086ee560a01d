"""Invalid input gets a clear error: never a 500, no echo of the input, no request upstream."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.brokers import (
    Running,
    as_sent,
    code_of,
    is_uvicorns_refusal,
    running,
    served_at,
)

BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/token", {"expires_in": 60}),
    ("POST", "/rooms", {"name": "x"}),
    ("PATCH", "/rooms/{room}", {"name": "x"}),
    ("POST", "/rooms/{room}/messages", {"content": "x"}),
    ("PATCH", "/rooms/{room}/messages/{message}", {"content": "x"}),
    ("PUT", "/rooms/{room}/read", {"seq": 1}),
    ("POST", "/sync", {"have": {}}),
    ("POST", "/rooms/{room}/join", {}),
    ("DELETE", "/rooms/{room}", {}),
]
CANARY = "canary-7f3a"
HEADERS = {"content-type": "application/json"}


def corpus(good: dict[str, Any]) -> list[bytes]:
    name = next(iter(good), "anything")
    wrong: list[Any] = [None, [], {}, True, 1.5, -1, 2**60, CANARY * 3000, [CANARY], {"x": CANARY}]
    bodies = [
        json.dumps({**good, name: value}).encode() for value in wrong if value != good.get(name)
    ]
    bodies += [json.dumps({**good, CANARY: CANARY}).encode()]
    field = json.dumps(name).encode()
    bodies += [b"{" + field + b":" + raw + b"}" for raw in (
        b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"+1", b"0x1", b"1.", b".5", b'"\\ud800"', b'"\xed\xa0\x80"',
        b'"\\u0000"', b'"\x00"', b'"\\u0008"', b'"a\x01b"', b'"\\x41"', b'"unterminated', b"'single'", b"undefined",
        b"[" * 40 + b"]" * 40, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"9" * 5000,
    )]  # fmt: skip
    bodies += [
        b"[]", b"null", b'"x"', b"1", b"true", b"{", b"}", b"{}{}", b"{} x", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{,}", b'{"a"}',
        b'{"a":1,}', b"/* c */{}", b"<xml/>", b"a=b&c=d", b"{" + field + b":1," + field + b":2}",
    ]  # fmt: skip
    return bodies


@pytest.mark.parametrize(("method", "path", "good"), BODIES, ids=str)
async def test_a_bad_body_is_refused_on_every_route(
    broker: Running, method: str, path: str, good: dict[str, Any]
) -> None:
    """400 as problem+json, without any part of the input, and no request upstream."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    path = path.format(room=room, message=(await alice.say(room))["id"])
    before = len(broker.upstream.seen)
    for raw in corpus(good):
        answer = await alice.call(method, path, content=raw, headers=HEADERS)
        if answer.status_code != 400:
            fine = path == "/token" and raw == b'{"expires_in": null}'
            assert fine, (raw[:80], answer.status_code, answer.text)
            continue
        code_of(answer)
        assert CANARY not in answer.text or "is not known" in answer.text, raw[:80]
        assert len(answer.content) < 8000
    if path != "/token":
        assert len(broker.upstream.seen) == before


@pytest.mark.parametrize(("method", "path", "good"), BODIES, ids=str)
async def test_bodies_over_64_kib_are_413_and_other_types_415(
    broker: Running, method: str, path: str, good: dict[str, Any]
) -> None:
    """The limit applies to `Content-Length` and to the bytes that arrive."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    path = path.format(room=room, message=(await alice.say(room))["id"])
    big = json.dumps({**good, "metadata": {"x": "y" * 100_000}}).encode()
    answer = await alice.call(method, path, content=big, headers=HEADERS)
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")

    async def dripping() -> Any:
        for _ in range(100):
            yield b" " * 1000

    answer = await alice.call(method, path, content=dripping(), headers=HEADERS)
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
    raw = json.dumps(good).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1",
                 "multipart/form-data; boundary=x", "application/jsonp", "application/json, text/plain", ""):  # fmt: skip
        answer = await alice.call(method, path, content=raw, headers={"content-type": kind})
        assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type"), kind
    for kind in (
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; charset=utf8",
        "application/json;odata=verbose",
        "application/json; odata=verbose; charset=utf-8",
        "application/json;",
    ):
        answer = await alice.call(method, path, content=raw, headers={"content-type": kind})
        assert answer.status_code in {200, 201, 204, 404}, (kind, answer.text)


@pytest.mark.parametrize(("method", "path", "good"), BODIES, ids=str)
async def test_a_compressed_body_is_415(
    broker: Running, method: str, path: str, good: dict[str, Any]
) -> None:
    """RFC 9110 15.5.16: the response names the accepted coding."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    path = path.format(room=room, message=(await alice.say(room))["id"])
    raw = gzip.compress(json.dumps(good).encode())
    for coding, kind in (("gzip", HEADERS), ("GZIP", HEADERS), ("br", HEADERS)):
        answer = await alice.call(
            method, path, content=raw, headers={**kind, "content-encoding": coding}
        )
        assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")
        assert answer.headers["accept-encoding"] == "identity"
    plain = {**HEADERS, "content-encoding": "identity"}
    answer = await alice.call(method, path, content=json.dumps(good).encode(), headers=plain)
    assert answer.status_code < 400 or answer.status_code == 404


@pytest.mark.parametrize("over_the_wire", [False, True])
async def test_a_number_without_a_fraction_is_whole(tmp_path: Path, over_the_wire: bool) -> None:
    """JSON has one kind of numbers: `1.0` and `1e0` are 1, `1.5` and `true` are not."""
    async with running(tmp_path, over_the_wire=over_the_wire) as broker:
        alice = await broker.sign_in("alice")
        room = await alice.room()
        await alice.say(room)
        for method, path, name in (
            ("POST", "/token", "expires_in"),
            ("PUT", f"/rooms/{room}/read", "seq"),
        ):
            for number, status in (("1.0", 200), ("1e0", 200), ("10e-1", 200), ("1.5", 400),
                                   ("1e308", 400), ("true", 400), ('"1"', 400), ("-1.0", 400)):  # fmt: skip
                body = f'{{"{name}": {number}}}'.encode()
                answer = await alice.call(method, path, content=body, headers=HEADERS)
                assert answer.status_code == status, (path, number, answer.text)


async def test_a_body_is_needed_where_there_is_something_to_say(broker: Running) -> None:
    alice = await broker.sign_in("alice")
    room = await alice.room()
    for method, path in (
        ("POST", "/rooms"),
        ("PATCH", f"/rooms/{room}"),
        ("PUT", f"/rooms/{room}/read"),
    ):
        assert (await alice.call(method, path)).status_code == 400


QUERIES = [
    "page=0", "page=-1", "page=1.5", "page=", "page=x", "page=1&page=1", "page=%31%30%30%30%30%30%31", "page=١", "page=+1",
    "page= 1", "page=1e3", "page=99999999999999999999999", "page=20001&limit=50", "page=1000000&limit=2", "limit=0",
    "limit=201", "limit=-5", "limit=1000000000000000000000000", "limit=NaN", "limit=true", "limit=5&limit=6", "x=1", "page",
    "PAGE=1", "page%00=1", "page=1%00", "%ff=1", "page=%ff", "search=x", "offset=1", "&page=1", "page=1;limit=2",
]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/rooms", "/rooms/{room}/members", "/rooms/{room}/messages", "/rooms/{room}", "/me", "/token"],
)
async def test_a_bad_query_is_refused_on_every_read(broker: Running, path: str) -> None:
    """An unknown, repeated, out-of-bounds or non-numeric parameter is 400, without a request upstream."""
    alice = await broker.sign_in("alice")
    path = path.format(room=await alice.room())
    before = len(broker.upstream.seen)
    for query in QUERIES:
        target = f"/chat{path}?{query}".encode()
        status, headers, body = await as_sent(broker.app, "GET", target, dict(alice.client.headers))
        assert status == 400, (query, status, body)
        if not is_uvicorns_refusal(broker, body):
            assert headers["content-type"] == "application/problem+json"
    assert len(broker.upstream.seen) == before


@pytest.mark.parametrize(
    "query", ["before=-1", "after=x", "before=1&before=2", "page=1&after=3", "before=1e3"]
)
async def test_a_bad_cursor_is_refused(broker: Running, query: str) -> None:
    alice = await broker.sign_in("alice")
    room = await alice.room()
    assert (await alice.get(f"/rooms/{room}/messages?{query}")).status_code == 400


async def test_every_wrong_field_is_named_at_once(broker: Running) -> None:
    """The response does not repeat the value."""
    alice = await broker.sign_in("alice")
    answer = await alice.post(
        "/rooms",
        {"name": "", "private": "yes", "colour": CANARY, "metadata": [CANARY], "description": 7},
    )
    assert code_of(answer) == "invalid_input"
    named = {error["field"] for error in answer.json()["errors"]}
    assert named == {"name", "private", "colour", "metadata", "description"}
    assert CANARY not in answer.text
    answer = await alice.post("/rooms", {"name": "x", "colour": 1})
    assert code_of(answer) == "unknown_field"


@pytest.mark.parametrize(
    "content",
    [
        "x",
        "a\tb\r\nc",
        "x" * 8000,
        "😀" * 8000,
        "\u2028 \u202e \ufeff \ufffe",
        "'; DROP TABLE--",
        "<script>",
    ],
)
async def test_what_may_be_said_comes_back_as_it_was(broker: Running, content: str) -> None:
    """Listed text has the characters that were written."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    await alice.say(room, content)
    listed = (await alice.get(f"/rooms/{room}/messages")).json()["items"]
    assert [one["content"] for one in listed] == [content]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404), ("GET", "/rooms/", 404), ("GET", "//rooms", 404), ("GET", "/ROOMS", 404),
        ("PUT", "/rooms", 405), ("PATCH", "/token", 405), ("HEAD", "/token", 405), ("HEAD", "/rooms/x/read", 405), ("TRACE", "/rooms", 405),
        ("POST", "/me", 405), ("OPTIONS", "/rooms", 405), ("FOO", "/rooms", 405),
    ],
)  # fmt: skip
async def test_what_is_not_there_says_so_as_a_problem(
    broker: Running, method: str, path: str, status: int
) -> None:
    """No redirect to another path; 405 names the allowed methods; a method in a header has no effect."""
    alice = await broker.sign_in("alice")
    answer = await alice.call(method, path, headers={"x-http-method-override": "DELETE"})
    if method == "FOO" and served_at(broker.app):
        status = 400  # a method that HTTP does not have fails in the server's parser already
    assert answer.status_code == status
    if method != "HEAD" and not is_uvicorns_refusal(broker, answer.content):
        code_of(answer)
    assert ("allow" in answer.headers) == (status == 405)
