"""The identity of a request comes from its credential only."""

import pytest

from tests.app.brokers import Running, code_of

ALIASES = [
    "user_id", "userId", "USER_ID", "user-id", "created_by", "createdBy", "sender", "sender_id", "senderId",
    "external_user_id", "externalUserId", "role", "Role", "author", "authorId", "owner", "username",
]  # fmt: skip

WRITES = [
    ("POST", "/token", {}),
    ("DELETE", "/token", None),
    ("POST", "/rooms", {"name": "x"}),
    ("PATCH", "/rooms/{room}", {"name": "x"}),
    ("DELETE", "/rooms/{room}", None),
    ("POST", "/rooms/{room}/join", None),
    ("POST", "/rooms/{room}/leave", None),
    ("PUT", "/rooms/{room}/members/external:bob", None),
    ("DELETE", "/rooms/{room}/members/external:bob", None),
    ("POST", "/rooms/{room}/messages", {"content": "x"}),
    ("PATCH", "/rooms/{room}/messages/{message}", {"content": "x"}),
    ("DELETE", "/rooms/{room}/messages/{message}", None),
    ("PUT", "/rooms/{room}/read", {"seq": 1}),
    ("PATCH", "/rooms/{room}/mine", {"pinned": True}),
    ("PUT", "/rooms/{room}/delivered", {"seq": 1}),
    ("POST", "/read", {"all": True}),
    ("POST", "/sync", {"have": {}}),
]
READS = [
    "/token",
    "/me",
    "/rooms",
    "/rooms/{room}",
    "/rooms/{room}/members",
    "/rooms/{room}/messages",
    "/rooms/{room}/messages/{room}",
    "/rooms/{room}/changes",
    "/rooms/{room}/mine",
    "/features",
    "/unread",
    "/mentions",
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
async def test_naming_somebody_in_body_or_query_is_refused_before_anything_is_sent(
    broker: Running, method: str, path: str, body: dict[str, object] | None
) -> None:
    """Each write route × each alias × {body, query}: 400 identity_not_allowed, no request upstream."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    room, victim = await alice.room(), await bob.id()
    path = path.format(room=room, message=(await alice.say(room))["id"])
    before = len(broker.upstream.seen)
    for alias in ALIASES:
        for value in (victim, "alice", None, {"$ne": 1}, [victim]):
            answer = await alice.call(method, path, {**(body or {}), alias: value})
            assert answer.status_code == 400, (alias, answer.text)
            assert code_of(answer) == "identity_not_allowed", alias
        answer = await alice.call(method, path, body, params={alias: victim})
        assert (answer.status_code, code_of(answer)) == (400, "identity_not_allowed"), alias
    assert len(broker.upstream.seen) == before


@pytest.mark.parametrize("path", READS)
async def test_naming_somebody_in_the_query_of_a_read_is_refused(
    broker: Running, path: str
) -> None:
    alice = await broker.sign_in("alice")
    path = path.format(room=await alice.room())
    before = len(broker.upstream.seen)
    for alias in ALIASES:
        answer = await alice.get(path, params={alias: "bob"})
        assert (answer.status_code, code_of(answer)) == (400, "identity_not_allowed"), alias
    assert len(broker.upstream.seen) == before


async def test_headers_and_forms_name_nobody_either(broker: Running) -> None:
    """Identities in forms and headers are not read: a form is refused, a header has no effect."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    headers = {
        "x-user-id": "bob",
        "x-forwarded-user": "bob",
        "x-api-key": "k",
        "cookie": "user_id=bob",
    }
    said = await alice.post(f"/rooms/{room}/messages", {"content": "x"}, headers=headers)
    assert said.json()["user_id"] == await alice.id()
    sent = broker.upstream.seen[-2:]
    assert not any(
        "bob" in str(one.headers) or "cookie" in str(one.headers).lower() for one in sent
    )
    form = await alice.post(f"/rooms/{room}/messages", data={"content": "x", "user_id": "bob"})
    assert form.status_code == 415


async def test_a_name_inside_metadata_is_data(broker: Running) -> None:
    """Metadata may hold such names: they are the app's data."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    said = await alice.post(
        f"/rooms/{room}/messages", {"content": "x", "metadata": {"user_id": "bob", "role": "owner"}}
    )
    assert said.status_code == 201
    assert said.json()["user_id"] == await alice.id()


async def test_a_key_twice_is_refused_whichever_comes_last(broker: Running) -> None:
    """Repeated members are refused: parsers differ in which one they use."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    before = len(broker.upstream.seen)
    for raw in (
        '{"content":"a","content":"b"}',
        '{"content":"a","\\u0063ontent":"b"}',
        '{"content":"a","metadata":{"x":1,"x":2}}',
    ):
        answer = await alice.post(
            f"/rooms/{room}/messages", content=raw, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, code_of(answer)) == (400, "invalid_json"), raw
    twice = await alice.get(f"/rooms/{room}/messages?page=1&page=2")
    assert (twice.status_code, code_of(twice)) == (400, "repeated_parameter")
    assert len(broker.upstream.seen) == before
