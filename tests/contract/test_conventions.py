"""Rules of every route: problems, bodies, queries, paths, methods, idempotency."""

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, made, refused

USERS = "/api/v1/projects/{pid}/users"
ROOMS = "/api/v1/projects/{pid}/rooms"
JSON = {"Content-Type": "application/json"}


async def test_answers_are_json_that_nobody_stores(api: ChatApi) -> None:
    """Type, length, no-store, nosniff and a request id on every answer."""
    answer = await api.send("GET", "/api/v1/project")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["x-request-id"]) >= 8
    assert answer.json()["id"] == api.pid


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abcDEF-123", True),
        ("a" * 64, True),
        ("short", False),
        ("a" * 65, False),
        ("with space here", False),
        ("newline%0a-injected", False),
    ],
)
async def test_a_request_id_is_taken_if_it_is_harmless(api: ChatApi, sent: str, kept: bool) -> None:
    """8 to 64 letters, digits and hyphens; anything else is replaced."""
    answer = await api.send("GET", "/api/v1/nothing", headers={"X-Request-ID": sent})
    problem = refused(answer, 404)
    assert (problem["request_id"] == sent) is kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b'{"username":"u1","external_user_id":"x"} trailing',
        b'{"username":"u1","username":"u2","external_user_id":"x"}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":1,"a":2}}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":NaN}}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":Infinity}}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":1e999}}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":9007199254740993}}',
        b'{"username":"u1","external_user_id":"\\ud800"}',
        b'{"username":"u1","external_user_id":"x","display_name":"\\udc00 low"}',
        b'{"username":"u1","external_user_id":"x\\u0000y"}',
        b'{"username":"u1","external_user_id":"x","metadata":{"a":"\\u0000"}}',
        b'{"username":"u1","external_user_id":"x","metadata":{"\\u0001":1}}',
        b'{"username":"u1","external_user_id":"\xff"}',
        b'{"username":"u1","external_user_id":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"username":"u1","external_user_id":"x"}',
        b'{"username":"u1","external_user_id":"x","metadata":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"[" * 60_000,
        b'{"a":' * 12_000,
    ],
)
async def test_json_that_could_mean_two_things_is_refused(api: ChatApi, body: bytes) -> None:
    """400, and nothing is stored."""
    before = (await api.send("GET", f"{USERS}?limit=1")).json()["total"]
    refused(await api.send("POST", USERS, content=body, headers=JSON), 400)
    assert (await api.send("GET", f"{USERS}?limit=1")).json()["total"] == before


async def test_a_bad_message_leaves_no_trace_in_its_room(api: ChatApi) -> None:
    """A refused message takes no `seq`: the next message has 1."""
    alice = await api.user("alice")
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    uid = alice["id"].encode()
    for content in (b'"\\ud83d"', b'"\\u0000"', b"NaN", b'"\\u001b[31m"', b'"a","content":"b"'):
        body = b'{"user_id":"%b","content":%b}' % (uid, content)
        refused(await api.send("POST", path, content=body, headers=JSON), 400)
    page = (await api.send("GET", path)).json()
    assert (page["items"], page["total"]) == ([], 0)
    assert (await api.say(room, alice, "first"))["seq"] == 1


async def test_bodies_end_at_64_kib(api: ChatApi) -> None:
    """413 with and without `Content-Length`; a body of exactly the limit is accepted."""
    alice = await api.user("alice")
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"

    def padded(size: int) -> bytes:
        body = json.dumps({"content": "x", "user_id": alice["id"]}).encode()
        return body + b" " * (size - len(body))

    async def dripping(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b" " * 1024

    answer = await api.send("POST", path, content=padded(65536), headers=JSON)
    assert answer.status_code == 201
    refused(await api.send("POST", path, content=padded(65537), headers=JSON), 413)
    refused(await api.send("POST", path, content=padded(100_000), headers=JSON), 413)
    refused(await api.send("POST", path, content=dripping(100 * 1024), headers=JSON), 413)
    assert (await api.send("GET", path)).json()["total"] == 1


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ('APPLICATION/JSON;charset="UTF-8"', True),
        ("application/json; charset=utf8", True),
        ("application/json;odata=verbose", True),
        ("application/json;", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("application/json; charset=latin-1", False),
        ("application/jsonp", False),
        ("application/merge-patch+json", False),
        ("multipart/form-data; boundary=x", False),
        ("", False),
    ],
)
async def test_only_json_in_utf8_is_read(api: ChatApi, kind: str, good: bool) -> None:
    """Anything else is 415."""
    name = uuid.uuid4().hex
    body = json.dumps({"username": name, "external_user_id": name}).encode()
    answer = await api.send("POST", USERS, content=body, headers={"Content-Type": kind})
    if good:
        made(answer)
    else:
        refused(answer, 415, "unsupported_media_type")


async def test_a_compressed_body_is_415(api: ChatApi) -> None:
    """Compressed bodies are refused."""
    body = gzip.compress(b'{"username": "zip", "external_user_id": "zip"}')
    headers = {**JSON, "Content-Encoding": "gzip"}
    refused(await api.send("POST", USERS, content=body, headers=headers), 415)


async def test_a_number_without_a_fraction_is_whole(api: ChatApi) -> None:
    """JSON has one kind of numbers: `1.0` and `1e0` are 1, `1.5` and `true` are not."""
    alice = await api.user()
    room = await api.room(alice)
    await api.say(room, alice, "hello")
    token = await api.token(alice)
    for number, status in (("1.0", 200), ("1e0", 200), ("1.5", 400), ("1e308", 400), ("true", 400)):
        mint = f'{{"expires_in": {number}}}'
        path = f"{USERS}/{alice['id']}/token"
        answer = await api.send("POST", path, content=mint, headers=JSON)
        assert answer.status_code == status, (number, answer.text)
        read = f'{{"seq": {number}}}'
        answer = await api.bare(
            "PUT",
            f"{in_room(room)}/read",
            content=read,
            headers={**JSON, "Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == status, (number, answer.text)


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-5",
        "page=1.5",
        "page=one",
        "page=",
        "page=%31%00",
        "page=1&page=2",
        "page=99999999999999999999999",
        "page=1000000&limit=200",
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1000000000000000000000000",
        "limit=0x10",
        "limit=+5",
        "limit=%20 5",
        "limit=٣",
        "offset=5",
        "Page=1",
        "status=deleted",
        "q=",
        "q=%ff",
        "q=a%00b",
        "&=&x",
    ],
)
async def test_a_bad_query_is_400(api: ChatApi, query: str) -> None:
    """Out of range, repeated, unknown or damaged."""
    refused(await api.send("GET", f"{USERS}?{query}"), 400)


@pytest.mark.parametrize(
    "query", ["before=0", "after=-1", "before=x", "after=1&page=1", "cursor=1", "before=1&before=2"]
)
async def test_a_bad_cursor_is_400(api: ChatApi, query: str) -> None:
    """Cursors are numbers, and exclude pages."""
    room = await api.room(await api.user())
    refused(await api.send("GET", f"{in_room(room)}/messages?{query}"), 400)


async def test_routes_without_parameters_take_none(api: ChatApi) -> None:
    """An unknown parameter is 400."""
    user = await api.user()
    room = await api.room(user)
    for path in ("/api/v1/project", f"{USERS}/{user['id']}", in_room(room)):
        refused(await api.send("GET", f"{path}?x=1"), 400)


@pytest.mark.parametrize(
    "odd",
    [
        "%2e%2e",
        "%2E%2E%2F",
        "..%2f..%2fproject",
        "a%00b",
        "a%0d%0ab",
        "a%3Fx=1",
        "a%23b",
        "a%2Fb",
        "a;b",
        "a:b",
        "a b",
        "a%20b",
        "%c0%ae%c0%ae",
        "%u002e",
        "%252e%252e",
        "a" * 65,
        "'or'1'='1",
        "*",
        "~",
        "a.b",
    ],
)
async def test_an_id_that_cannot_be_is_not_found(api: ChatApi, odd: str) -> None:
    """A malformed id is 404, in every path and for every method."""
    room = await api.room(await api.user())
    for path in (
        f"{ROOMS}/{odd}/messages",
        f"{USERS}/{odd}/token",
        f"{in_room(room)}/messages/{odd}",
        f"{in_room(room)}/members/{odd}",
        f"/api/v1/projects/{odd}/rooms",
    ):
        for method in ("GET", "POST", "DELETE"):
            answer = await api.send(method, path)
            assert answer.status_code in {404, 405}, (method, path, answer.text)
            if answer.status_code == 405:
                assert method not in answer.headers["allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/project/",
        "/api/v1//project",
        "//api/v1/project",
        "/API/v1/project",
        "/api/v2/project",
        "/api/v1/projects",
        "/api/v1/projects/{pid}",
        "/api/v1/projects/{pid}/",
        "/api/v1/projects/{pid}/rooms/",
        "/api/v1/projects/{pid}/x",
        "/api/v1/auth/verify/x",
        "/.well-known/",
        "/docs",
        "/openapi.json",
    ],
)
async def test_other_paths_lead_nowhere_and_redirect_nowhere(api: ChatApi, path: str) -> None:
    """Any other path is 404, also with a slash added or left out."""
    refused(await api.send("GET", path), 404)


async def test_methods_are_those_of_the_table(api: ChatApi) -> None:
    """405 names the allowed methods; a method override header has no effect."""
    room = await api.room(await api.user())
    for path, allowed in (
        ("/api/v1/project", "GET, HEAD"),
        (USERS, "GET, HEAD, POST"),
        (in_room(room), "DELETE, GET, HEAD, PATCH"),
        (f"{in_room(room)}/join", "POST"),
        (f"{in_room(room)}/read", "PUT"),
    ):
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"} - set(
            allowed.split(", ")
        ):
            answer = await api.send(method, path, headers={"X-HTTP-Method-Override": "GET"})
            assert answer.status_code == 405, (method, path)
            assert answer.headers["allow"] == allowed
            refused(answer, 405, "method_not_allowed")


async def test_head_is_get_without_the_body(api: ChatApi) -> None:
    """HEAD has the status and length of GET."""
    for path in ("/api/v1/project", f"{USERS}/nobody", "/.well-known/jwks.json"):
        head, get = [await api.send(method, path) for method in ("HEAD", "GET")]
        assert head.status_code == get.status_code
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.content == b""


# idempotency


async def creations(api: ChatApi) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every POST that creates: path, body, and a change of that body."""
    alice = await api.user("alice")
    room = await api.room(alice)
    name = uuid.uuid4().hex
    return [
        (USERS, {"username": name, "external_user_id": name}, {"display_name": "Other"}),
        (ROOMS, {"name": "Once", "created_by": alice["id"]}, {"name": "Other"}),
        (
            f"{in_room(room)}/messages",
            {"content": "once", "user_id": alice["id"], "metadata": {"b": 1, "a": 2}},
            {"content": "other"},
        ),
    ]


async def test_the_same_key_and_body_answer_the_same_bytes(api: ChatApi) -> None:
    """A repeat gets the first response, byte for byte, marked as a repeat, and creates nothing."""
    for path, body, _ in await creations(api):
        before = (await api.send("GET", path)).json()["total"]
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        first = await api.send("POST", path, json=body, headers=headers)
        made(first)
        assert "idempotency-replayed" not in first.headers
        backwards = dict(reversed(body.items()))
        for same in (body, backwards):
            again = await api.send("POST", path, json=same, headers=headers)
            assert again.status_code == 201
            assert again.content == first.content
            assert again.headers["idempotency-replayed"] == "true"
            assert again.headers["content-type"] == "application/json"
        assert (await api.send("GET", path)).json()["total"] == before + 1


async def test_the_same_key_with_another_body_is_refused(api: ChatApi) -> None:
    """Another body with the same key is 422, and creates nothing."""
    for path, body, change in await creations(api):
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        made(await api.send("POST", path, json=body, headers=headers))
        total = (await api.send("GET", path)).json()["total"]
        other = await api.send("POST", path, json={**body, **change}, headers=headers)
        refused(other, 422, "idempotency_key_reused")
        assert (await api.send("GET", path)).json()["total"] == total


async def test_a_key_counts_for_its_route_alone(api: ChatApi) -> None:
    """A key counts for one route: on another it is another key."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    for path, body, _ in await creations(api):
        made(await api.send("POST", path, json=body, headers=key))
    alice = await api.user("alice")
    rooms = [await api.room(alice), await api.room(alice)]
    for room in rooms:
        body = {"content": "x", "user_id": alice["id"]}
        answer = await api.send("POST", f"{in_room(room)}/messages", json=body, headers=key)
        assert made(answer)["room_id"] == room["id"]


async def test_a_repeat_is_answered_whatever_has_changed_since(api: ChatApi) -> None:
    """A repeat gets the first response, also after the sender has left and the room is deleted."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, bob)
    path, key = f"{in_room(room)}/messages", {"Idempotency-Key": uuid.uuid4().hex}
    body = {"content": "x", "user_id": bob["id"]}
    first = await api.send("POST", path, json=body, headers=key)
    for gone in (f"{in_room(room)}/members/{bob['id']}", in_room(room)):
        assert (await api.send("DELETE", gone)).status_code == 204
        again = await api.send("POST", path, json=body, headers=key)
        assert (again.status_code, again.content) == (201, first.content)


async def test_a_failed_call_does_not_use_up_its_key(api: ChatApi) -> None:
    """A request that failed can be corrected and repeated with the same key."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice)
    path, key = f"{in_room(room)}/messages", {"Idempotency-Key": uuid.uuid4().hex}
    body = {"content": "x", "user_id": bob["id"]}
    refused(await api.send("POST", path, json={**body, "content": ""}, headers=key), 400)
    refused(await api.send("POST", path, json=body, headers=key), 403)
    await api.send("PUT", f"{in_room(room)}/members/{bob['id']}")
    made(await api.send("POST", path, json=body, headers=key))


async def test_a_hundred_at_once_with_one_key_make_one_message(api: ChatApi) -> None:
    """Repeats get 409 while the first request runs, and its response afterwards."""
    alice = await api.user("alice")
    room = await api.room(alice)
    path, key = f"{in_room(room)}/messages", {"Idempotency-Key": uuid.uuid4().hex}
    body = {"content": "once", "user_id": alice["id"]}
    answers = await asyncio.gather(
        *(api.send("POST", path, json=body, headers=key) for _ in range(100))
    )
    good = [answer for answer in answers if answer.status_code == 201]
    assert good
    assert len({answer.content for answer in good}) == 1
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, 409, "idempotency_in_progress")
    assert (await api.send("GET", path)).json()["total"] == 1


async def test_one_users_key_is_not_anothers(api: ChatApi) -> None:
    """An equal key and body of another user creates another message."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, bob)
    path, key = f"{in_room(room)}/messages", uuid.uuid4().hex
    said = []
    for user in (alice, bob):
        headers = {"Authorization": f"Bearer {await api.token(user)}", "Idempotency-Key": key}
        said.append(made(await api.bare("POST", path, json={"content": "x"}, headers=headers)))
    assert [message["user_id"] for message in said] == [alice["id"], bob["id"]]


@pytest.mark.parametrize("key", ["", "with space", "k" * 256, "é", "tab\there"])
async def test_a_key_is_1_to_255_visible_characters(api: ChatApi, key: str) -> None:
    """A malformed key is 400, and nothing is created."""
    name = uuid.uuid4().hex
    headers = [
        (b"X-API-Key", api.api_key.encode()),
        (b"Idempotency-Key", key.encode()),
        (b"Content-Type", b"application/json"),
    ]
    body = json.dumps({"username": name, "external_user_id": name})
    refused(await api.bare("POST", USERS, content=body, headers=headers), 400)
    assert (await api.send("GET", f"{USERS}?username={name}")).json()["total"] == 0


# order


async def test_numbers_have_no_gap_when_many_write_at_once(api: ChatApi) -> None:
    """`seq` runs from 1 to n, each once, and the room has the last."""
    people = [await api.user("writer") for _ in range(8)]
    room = await api.room(*people)

    async def write(person: dict[str, Any]) -> list[int]:
        return [(await api.say(room, person, f"n{n}"))["seq"] for n in range(10)]

    numbers = await asyncio.gather(*(write(person) for person in people))
    assert sorted(n for own in numbers for n in own) == list(range(1, 81))
    assert all(own == sorted(own) for own in numbers)
    assert (await api.send("GET", in_room(room))).json()["last_seq"] == 80
    items = []
    for page in (1, 2):
        path = f"{in_room(room)}/messages?limit=40&page={page}"
        items += (await api.send("GET", path)).json()["items"]
    assert [item["seq"] for item in items] == list(range(80, 0, -1))
    instants = [item["created_at"] for item in items]
    assert instants == sorted(instants, reverse=True)


async def test_a_client_msg_id_is_unique_also_when_sent_at_once(api: ChatApi) -> None:
    """Ten concurrent repeats create one message and get equal responses."""
    alice = await api.user("alice")
    room = await api.room(alice)
    said = await asyncio.gather(
        *(api.say(room, alice, "race", client_msg_id="one") for _ in range(10))
    )
    assert len({message["id"] for message in said}) == 1
    assert (await api.send("GET", in_room(room))).json()["last_seq"] == 1


async def test_two_users_cannot_take_one_name_at_once(api: ChatApi) -> None:
    """One of ten concurrent requests creates the user, the others get a conflict."""
    name = uuid.uuid4().hex
    answers = await asyncio.gather(
        *(
            api.send("POST", USERS, json={"username": name, "external_user_id": f"{name}-{n}"})
            for n in range(10)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
