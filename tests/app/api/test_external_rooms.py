"""Rooms that are named by the app's own id, on every route; several members at once."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from chat_broker.main import FRONTEND
from tests.app.api.test_direct_rooms import ALL, people
from tests.app.api.test_rooms import NOWHERE, ON_ROOMS, same
from tests.app.api.test_sync import ok, over_fake
from tests.app.brokers import Person, Running, code_of, running

NAME = "external:shop~7:order.42@eu"
ESCAPED = "external%3Ashop~7%3Aorder.42%40eu"


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path, ALL) as (one, _):
            yield one
    else:
        async with running(tmp_path) as one:
            yield one


async def order(broker: Running, owner: Person, **more: Any) -> str:
    """The id of a room with the name, made by the app's backend."""
    rooms = broker.app.state.upstream.chat.rooms
    own_id = NAME.removeprefix("external:")
    room = await rooms.ensure(own_id, name="Order", created_by=await owner.id(), **more)
    room_id: str = room.id
    return room_id


@pytest.mark.parametrize("name", [NAME, ESCAPED])
async def test_a_room_is_named_by_the_apps_own_id(broker: Running, name: str) -> None:
    """Hot routes and others; a change by one name counts at once by the other."""
    alice, bob = await people(broker, "alice", "bob")
    room = await order(broker, alice, private=True)
    shown = await ok(alice, "GET", f"/rooms/{name}")
    assert (shown["id"], shown["external_id"]) == (room, NAME.removeprefix("external:"))
    assert shown == await ok(alice, "GET", f"/rooms/{room}")
    said = await alice.say(name)
    assert said["room_id"] == room
    page = await ok(alice, "GET", f"/rooms/{name}/messages?limit=1")
    assert [each["id"] for each in page["items"]] == [said["id"]]
    assert (await ok(alice, "PUT", f"/rooms/{name}/read", {"seq": 1}))["unread"] == 0
    edited = await alice.patch(f"/rooms/{name}/messages/{said['id']}", {"content": "x"})
    assert edited.status_code == 200
    assert (await ok(alice, "GET", f"/rooms/{name}/messages/{said['id']}"))["content"] == "x"
    for _ in range(3):
        assert (await bob.get(f"/rooms/{name}/messages")).status_code == 404
        assert (await alice.put(f"/rooms/{name}/members/external:bob")).status_code == 200
        assert (await bob.get(f"/rooms/{name}/messages")).status_code == 200
        assert (await alice.delete(f"/rooms/{room}/members/external:bob")).status_code == 204
    assert (await alice.delete(f"/rooms/{name}")).status_code == 204
    for path in (f"/rooms/{name}", f"/rooms/{room}"):
        assert (await alice.get(path)).status_code == 404
    assert await order(broker, alice) != room
    assert (await alice.get(f"/rooms/{name}")).status_code == 200


async def test_a_name_is_looked_up_once(broker: Running) -> None:
    """For a moment, and for nobody who was not admitted."""
    (alice,) = await people(broker, "alice")
    room = await order(broker, alice)
    broker.upstream.seen.clear()
    for _ in range(5):
        assert (await alice.get(f"/rooms/{NAME}/messages")).status_code == 200
    asked = [path for path in broker.upstream.paths() if "external:" in path]
    assert len(asked) == 1, asked
    assert sum(path.endswith(f"/rooms/{room}/messages") for path in broker.upstream.paths()) == 5
    broker.upstream.seen.clear()
    for method, path, body in ON_ROOMS:
        url = f"/chat/rooms/external:other{path.format(message='m')}"
        anonymous = await broker.client.request(method, url, json=body)
        assert anonymous.status_code in {401, 403}
    assert broker.upstream.seen == []


@pytest.mark.parametrize(("method", "path", "body"), ON_ROOMS, ids=str)
async def test_to_a_stranger_a_named_room_is_not_there(
    on_both: Running, method: str, path: str, body: Any
) -> None:
    """Nor does a bad body or query tell more of it."""
    alice, eve = await people(on_both, "alice", "eve")
    room = await order(on_both, alice, private=True)
    suffix = path.format(message=(await alice.say(room))["id"])
    theirs = await eve.call(method, f"/rooms/{NAME}{suffix}", body)
    assert (theirs.status_code, code_of(theirs)) == (404, "room_not_found")
    for name in ("external:never", NOWHERE, "external:a~b/c".partition("/")[0], "a:b"):
        assert same(theirs, await eve.call(method, f"/rooms/{name}{suffix}", body)), name
    wrong = await eve.call(method, f"/rooms/{NAME}{suffix}", {"nothing": 1})
    same_wrong = await eve.call(method, f"/rooms/external:never{suffix}", {"nothing": 1})
    assert same(wrong, same_wrong)


def test_who_asks_is_known_before_what_room_is_meant() -> None:
    """In the signature of every route: nothing is looked up for one who was not admitted."""
    for router in FRONTEND:
        for route in router.routes:
            names = list(inspect.signature(route.endpoint).parameters)
            if "room_id" in names:
                assert {"me", "_me"} & {*names[: names.index("room_id")]}, route.path


async def test_every_route_of_a_room_knows_its_name(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        alice, _ = await people(broker, "alice", "bob")
        room = await order(broker, alice)
        found = 0
        for route in iter_route_contexts(broker.app.routes):
            path = str(route.path)
            if not path.startswith("/chat/rooms/{room_id}"):
                continue
            for method in sorted(getattr(route, "methods", ())):
                answers = []
                for name in (room, NAME):
                    url = path.removeprefix("/chat").replace("{room_id}", name)
                    for parameter in ("{message_id}", "{user:path}", "{user}", "{emoji}", "{role}"):
                        url = url.replace(parameter, "01a20c56-0000-7000-8000-000000000001")
                    answers.append(await alice.call(method, url, {"unknown": 1}))
                assert answers[0].status_code == answers[1].status_code, (method, path)
                assert answers[0].status_code < 500 or answers[0].status_code == 501
                if answers[0].status_code >= 400:
                    assert code_of(answers[0]) == code_of(answers[1]), (method, path)
                found += 1
        assert found > 15


async def test_marks_of_many_rooms_take_names(on_both: Running) -> None:
    alice, bob = await people(on_both, "alice", "bob")
    room = await order(on_both, alice, member_ids=[await bob.id()])
    await alice.say(room)
    marked = await ok(bob, "POST", "/read", {"rooms": {NAME: 1}})
    assert marked["totals"]["rooms"] == 0
    assert (await ok(bob, "GET", f"/rooms/{room}/mine"))["last_read_seq"] == 1
    refused = await bob.post("/read", {"rooms": {"external:never": 1}})
    assert (refused.status_code, code_of(refused)) == (404, "room_not_found")


async def test_without_the_feature_a_name_is_unsupported(tmp_path: Path) -> None:
    async with over_fake(tmp_path, ALL, features_off="external_rooms") as (broker, fake):
        (alice,) = await people(broker, "alice")
        room = await alice.room()
        answer = await alice.get("/rooms/external:x/messages")
        assert (answer.status_code, answer.json()["feature"]) == (501, "external_rooms")
        assert fake.count("external:") == 0
        assert (await alice.get(f"/rooms/{room}/messages")).status_code == 200
        assert (await alice.get("/rooms/not:a:name")).status_code == 404
        answer = await alice.post("/read", {"rooms": {"external:x": 1}})
        assert (answer.status_code, answer.json()["feature"]) == (501, "external_rooms")


async def test_many_external_ids_count_as_more_than_one_read(tmp_path: Path) -> None:
    """Each is looked up at the Chat API."""
    async with running(tmp_path, rate_read="10/minute") as broker:
        (alice,) = await people(broker, "alice")
        room = await alice.room()
        many = ",".join(f"external:u{number}" for number in range(100))
        statuses = [
            (await alice.get(f"/rooms/{room}/members?ids={many}")).status_code for _ in range(4)
        ]
        assert statuses[0] == 200
        assert statuses[-1] == 429


# -- several members ------------------------------------------------------------------------------


async def test_an_owner_adds_several_users_or_none(on_both: Running) -> None:
    alice, bob, carl, eve = await people(on_both, "alice", "bob", "carl", "eve")
    room = await alice.room(private=True)
    path = f"/rooms/{room}/members"
    nobody = "01a20c56-0000-7000-8000-000000000000"
    for named, at in (
        (["external:bob", "external:nobody"], 1),
        (["external:bob", nobody, "external:nobody"], 1),
        ([nobody], 0),
    ):
        answer = await alice.post(path, {"users": named})
        assert (answer.status_code, code_of(answer)) == (404, "user_not_found"), named
        assert answer.json()["errors"][0]["field"] == f"users[{at}]"
        assert named[at] in answer.json()["detail"]
    assert (await ok(alice, "GET", path))["total"] == 1
    users = ["external:bob", await carl.id(), "external:alice", await bob.id()]
    added = await ok(alice, "POST", path, {"users": users})
    assert set(added) == {"added", "there"}
    assert [each["user_id"] for each in added["added"]] == [await bob.id(), await carl.id()]
    assert added["there"] == [await alice.id()]
    assert (await bob.get(f"/rooms/{room}/messages")).status_code == 200
    answer = await bob.post(path, {"users": ["external:eve"]})
    assert (answer.status_code, code_of(answer)) == (403, "owner_only")
    rooms = on_both.app.state.upstream.chat.rooms
    await rooms.put_member(room, await carl.id(), role="moderator")
    assert (await eve.post(path, {"users": ["external:eve"]})).status_code == 404
    for body, code in (
        ({}, "invalid_input"),
        ({"users": []}, "invalid_input"),
        ({"users": ["x"] * 101}, "invalid_input"),
        ({"users": ["external:bob"], "role": "owner"}, "identity_not_allowed"),
        ({"user_ids": ["x"]}, "invalid_input"),
    ):
        answer = await alice.post(path, body)
        assert (answer.status_code, code_of(answer)) == (400, code), body


async def test_a_repeated_request_adds_once(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        alice, bob = await people(broker, "alice", "bob")
        room = await alice.room()
        key, body = {"Idempotency-Key": "k"}, {"users": ["external:bob"]}
        first = await ok(alice, "POST", f"/rooms/{room}/members", body, headers=key)
        assert first == await ok(alice, "POST", f"/rooms/{room}/members", body, headers=key)
        assert [each["user_id"] for each in first["added"]] == [await bob.id()]
        other = await alice.post(
            f"/rooms/{room}/members", {"users": ["external:alice"]}, headers=key
        )
        assert (other.status_code, code_of(other)) == (422, "idempotency_key_reused")


async def test_some_members(on_both: Running) -> None:
    """By id or external id, by role, by name, and page after page."""
    alice, bob, eve = await people(on_both, "alice", "bob", "eve")
    room = await alice.room(member_ids=["external:bob"])
    path = f"/rooms/{room}/members"
    a, b = await alice.id(), await bob.id()
    for query, expected in (
        (f"ids=external:bob,{a},external:nobody,external:eve,not~one", {a, b}),
        ("ids=external:nobody", set()),
        ("as=owner", {a}),
        ("as=member", {b}),
        ("q=AL", {a}),
        ("q=b&as=owner", set()),
        ("cursor=", {a, b}),
        ("cursor=&as=member&limit=10", {b}),
    ):
        page = await ok(bob, "GET", f"{path}?{query}")
        assert {each["user_id"] for each in page["items"]} == expected, query
        assert page["has_more"] is False
        assert ("total" in page) == ("cursor" not in query), query
    first = await ok(bob, "GET", f"{path}?cursor=&limit=1")
    assert set(first) == {"items", "limit", "next_cursor", "has_more"}
    rest = await ok(bob, "GET", f"{path}?cursor={first['next_cursor']}&limit=1")
    assert {each["user_id"] for each in first["items"] + rest["items"]} == {a, b}
    assert rest["next_cursor"] is None
    whole = await ok(bob, "GET", path)
    assert set(whole) == {"items", "page", "limit", "total", "totalPages"}
    for wrong, code in (
        ("role=owner", "identity_not_allowed"),
        ("as=king", "invalid_input"),
        ("q=", "invalid_input"),
        ("ids=", "invalid_input"),
        ("ids=a&limit=5", "invalid_input"),
        (f"ids={','.join(['a'] * 101)}", "invalid_input"),
        ("cursor=&page=1", "invalid_input"),
        ("name=x", "unknown_parameter"),
    ):
        answer = await bob.get(f"{path}?{wrong}")
        assert (answer.status_code, code_of(answer)) == (400, code), wrong
    assert (await eve.get(f"{path}?q=a")).status_code == 404


async def test_operators_may_name_rooms_too(tmp_path: Path) -> None:
    """What is deleted by a name is gone at once, and the name free."""
    async with running(tmp_path, admin_key="k" * 40) as broker:
        alice, _ = await people(broker, "alice", "bob")
        room = await order(broker, alice, private=True)
        said = await alice.say(room)
        operator = {"authorization": f"Bearer {'k' * 40}"}
        path = f"/admin/rooms/{NAME}"
        seen = await broker.client.get(f"{path}/messages", headers=operator)
        assert [each["id"] for each in seen.json()["items"]] == [said["id"]]
        asked = {"user": "external:alice", "room": NAME, "action": "post"}
        explained = await broker.client.get("/admin/explain", params=asked, headers=operator)
        assert explained.json()["allowed"] is True
        assert explained.json()["facts"]["room_id"] == room
        gone = await broker.client.delete(f"{path}/messages/{said['id']}", headers=operator)
        assert gone.status_code == 204
        assert (await alice.get(f"/rooms/{room}/messages")).status_code == 200
        assert (await broker.client.delete(path, headers=operator)).status_code == 204
        assert (await alice.get(f"/rooms/{room}/messages")).status_code == 404
        missing = await broker.client.get(f"{path}/messages", headers=operator)
        assert (missing.status_code, code_of(missing)) == (404, "room_not_found")
        assert await order(broker, alice) != room
