"""Direct rooms through the broker: one for the caller and others, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.test_sync import ok, over_fake
from tests.app.brokers import Person, Running, code_of, running

ALL = ("changes", "mine", "sync", "direct", "external_rooms")


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path, ALL) as (one, _):
            yield one
    else:
        async with running(tmp_path) as one:
            yield one


async def people(broker: Running, *names: str) -> list[Person]:
    found = [await broker.sign_in(name) for name in names]
    for person in found:
        await person.get("/me")
    return found


async def direct(person: Person, *names: str, status: int = 201) -> dict[str, Any]:
    answer = await person.put("/direct", {"with": [*names]})
    assert answer.status_code == status, answer.text
    room: dict[str, Any] = answer.json()
    return room


async def test_a_caller_and_others_have_one_room(on_both: Running) -> None:
    """However they are named and whoever of them asks."""
    alice, bob, eve = await people(on_both, "alice", "bob", "eve")
    room = await direct(alice, "external:bob")
    assert (room["kind"], room["private"], room["name"]) == ("direct", True, "")
    assert room["created_by"] == await alice.id()
    assert [set(user) for user in room["members"]] == [
        {"id", "username", "display_name", "avatar_url"}
    ] * 2
    assert {user["username"] for user in room["members"]} == {"alice", "bob"}
    for person, name in (
        (alice, await bob.id()),
        (bob, "external:alice"),
        (bob, await alice.id()),
    ):
        assert (await direct(person, name, status=200))["id"] == room["id"]
    assert (await direct(alice, "external:bob", "external:alice", status=200))["id"] == room["id"]
    assert (await direct(alice, "external:bob", "external:eve"))["id"] != room["id"]
    answers = await asyncio.gather(
        *(direct(person, name, status=200) for person, name in ((alice, "external:bob"),) * 5)
    )
    assert {each["id"] for each in answers} == {room["id"]}
    assert (await ok(bob, "GET", f"/rooms/{room['id']}"))["members"] == room["members"]
    listed = await ok(bob, "GET", "/rooms?kind=direct")
    assert room["id"] in [each["id"] for each in listed["items"]]
    assert (await eve.get(f"/rooms/{room['id']}")).status_code == 404
    await alice.say(room["id"])
    assert (await ok(bob, "GET", "/unread"))["direct"] == 1
    synced = await ok(bob, "POST", "/sync", {})
    told = next(each["room"] for each in synced["deltas"] if each["room"]["id"] == room["id"])
    assert told["members"] == room["members"]


async def test_a_caller_alone_has_a_room_of_notes(on_both: Running) -> None:
    alice, bob = await people(on_both, "alice", "bob")
    notes = await direct(alice)
    assert notes["member_count"] == 1
    assert (await direct(alice, "external:alice", status=200))["id"] == notes["id"]
    assert (await direct(alice, await alice.id(), status=200))["id"] == notes["id"]
    assert (await direct(bob))["id"] != notes["id"]
    await alice.say(notes["id"])


async def test_the_first_who_is_no_user_is_named(on_both: Running) -> None:
    """By the name that the caller gave; nobody is created by being named."""
    alice, bob = await people(on_both, "alice", "bob")
    nobody = "01a20c56-0000-7000-8000-000000000000"
    for named, at in (
        (["external:carl"], 0),
        (["external:bob", "external:carl", "external:dora"], 1),
        (["external:bob", nobody, "external:carl"], 1),
        (["external:bob", nobody], 1),
        ([await bob.id(), "no such"], 1),
        (["external:" + "x" * 255], 0),
    ):
        answer = await alice.put("/direct", {"with": named})
        assert (answer.status_code, code_of(answer)) == (404, "user_not_found"), named
        assert answer.json()["errors"][0]["field"] == f"with[{at}]"
        assert named[at] in answer.json()["detail"]


async def test_bodies_of_direct_rooms(on_both: Running) -> None:
    (alice,) = await people(on_both, "alice")
    for body, code in (
        ({}, "invalid_input"),
        ({"with": "external:bob"}, "invalid_input"),
        ({"with": [7]}, "invalid_input"),
        ({"with": [""]}, "invalid_input"),
        ({"with": ["x"] * 9}, "invalid_input"),
        ({"with": ["x" * 265]}, "invalid_input"),
        ({"with": [], "name": "x"}, "unknown_field"),
        ({"with_": []}, "invalid_input"),
        ({"with": [], "user_ids": ["x"]}, "unknown_field"),
        ({"with": [], "created_by": "x"}, "identity_not_allowed"),
    ):
        answer = await alice.put("/direct", body)
        assert (answer.status_code, code_of(answer)) == (400, code), body
    many = [f"u{number}" for number in range(8)]
    people_of = [await on_both.sign_in(name) for name in many]
    for person in people_of:
        await person.get("/me")
    answer = await alice.put("/direct", {"with": [f"external:{name}" for name in many]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "with")
    assert (await alice.get("/direct")).status_code == 405


async def test_its_members_stay_as_they_are(on_both: Running) -> None:
    """409 to members, whatever role they would need elsewhere; a stranger learns nothing."""
    alice, bob, eve = await people(on_both, "alice", "bob", "eve")
    room = (await direct(alice, "external:bob"))["id"]
    for method, path, body in (
        ("PUT", f"/rooms/{room}/members/external:eve", None),
        ("POST", f"/rooms/{room}/members", {"users": ["external:eve"]}),
        ("DELETE", f"/rooms/{room}/members/external:alice", None),
        ("DELETE", f"/rooms/{room}/members/external:bob", None),
        ("POST", f"/rooms/{room}/leave", None),
    ):
        for person in (alice, bob):
            answer = await person.call(method, path, body)
            assert (answer.status_code, code_of(answer)) == (409, "direct_room"), path
        answer = await eve.call(method, path, body)
        assert (answer.status_code, code_of(answer)) == (404, "room_not_found"), path
    for method, body in (("PATCH", {"name": "x"}), ("PATCH", {"metadata": {}}), ("DELETE", None)):
        answer = await alice.call(method, f"/rooms/{room}", body)
        assert (answer.status_code, code_of(answer)) == (403, "owner_only"), method
    assert (await alice.post(f"/rooms/{room}/join")).status_code == 200
    assert (await eve.post(f"/rooms/{room}/join")).status_code == 404
    assert (await ok(alice, "GET", f"/rooms/{room}"))["member_count"] == 2


async def test_a_message_that_nobody_would_read_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        alice, bob = await people(broker, "alice", "bob")
        room = (await direct(alice, "external:bob"))["id"]
        await broker.app.state.upstream.chat.users.delete(await bob.id())
        answer = await alice.post(f"/rooms/{room}/messages", {"content": "there?"})
        assert (answer.status_code, code_of(answer)) == (409, "nobody_there")
        assert (await ok(alice, "GET", f"/rooms/{room}"))["member_count"] == 1


async def test_without_the_feature_nothing_is_asked_for(tmp_path: Path) -> None:
    async with over_fake(tmp_path / "1", ("changes",)) as (broker, fake):
        (alice,) = await people(broker, "alice")
        answer = await alice.put("/direct", {"with": []})
        assert (answer.status_code, answer.json()["feature"]) == (501, "direct")
        assert fake.count("/direct") == 0
    async with over_fake(tmp_path / "2", ALL, features_off="direct") as (broker, fake):
        (alice,) = await people(broker, "alice")
        assert (await alice.put("/direct", {"with": []})).status_code == 501
        assert fake.count("/direct") == 0
