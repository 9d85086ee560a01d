"""Rooms by the app's own id of them."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.servers import ChatApi, in_room, made, of_user, refused

ROOMS = "/api/v1/projects/{pid}/rooms"
OWN_ID = "shop~7:order.42@EU_x-1"


def named(external_id: str) -> str:
    return f"{ROOMS}/external:{external_id}"


async def members_of(api: ChatApi, room: dict[str, Any]) -> dict[str, str]:
    page = (await api.send("GET", f"{in_room(room)}/members")).json()
    return {member["user_id"]: member["role"] for member in page["items"]}


def unique(user: dict[str, Any], name: str = "order") -> str:
    """An id that no other test uses."""
    return f"{name}-{user['id']}"


async def test_a_room_is_ensured_by_the_apps_own_id(api: ChatApi) -> None:
    """201, then 200: nothing of a room that is there is changed, and nobody is taken out of it."""
    alice, bob, carol = await api.user("alice"), await api.user("bob"), await api.user("carol")
    own_id = unique(alice)
    body = {"name": "Order 42", "created_by": alice["id"], "metadata": {"k": "v"}, "private": True}
    room = made(await api.send("PUT", named(own_id), json={**body, "member_ids": [bob["id"]]}))
    assert (room["external_id"], room["kind"], room["name"]) == (own_id, "room", "Order 42")
    again = await api.send("PUT", named(own_id), json={"name": "Other", "created_by": alice["id"]})
    assert (again.status_code, again.json()) == (200, room)
    more = {"name": "x", "created_by": bob["id"], "member_ids": [carol["id"], bob["id"]]}
    grown = await api.send("PUT", named(own_id), json=more)
    assert grown.status_code == 200
    assert {**grown.json(), "member_count": 2} == {**room, "rev": 1}
    assert await members_of(api, room) == {
        alice["id"]: "owner",
        bob["id"]: "member",
        carol["id"]: "member",
    }
    read = await api.send("GET", in_room(room))
    assert read.json() == grown.json()


async def test_many_callers_at_once_get_one_room(api: ChatApi) -> None:
    """And all whom they named are in it."""
    users = [await api.user("user") for _ in range(6)]
    bodies = [{"name": "Order", "created_by": user["id"]} for user in users] * 3
    path = named(unique(users[0]))
    answers = await asyncio.gather(*(api.send("PUT", path, json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 17 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    members = await members_of(api, answers[0].json())
    assert set(members) == {user["id"] for user in users}
    assert sorted(members.values()) == ["member"] * 5 + ["owner"]


async def test_an_id_is_taken_until_its_room_is_deleted(api: ChatApi) -> None:
    alice = await api.user("alice")
    own_id = unique(alice)
    room = await api.room(alice, external_id=own_id)
    assert room["external_id"] == own_id
    body = {"name": "Second", "created_by": alice["id"], "external_id": own_id}
    taken = refused(await api.send("POST", ROOMS, json=body), 409, "external_id_taken")
    assert own_id in taken["message"]
    assert (await api.send("DELETE", named(own_id))).status_code == 204
    refused(await api.send("GET", named(own_id)), 404, "room_not_found")
    assert made(await api.send("POST", ROOMS, json=body))["id"] != room["id"]
    both = await asyncio.gather(
        *(api.room(alice, external_id=None) for _ in range(2)), return_exceptions=True
    )
    assert all("external_id" not in room for room in both if isinstance(room, dict))


async def test_what_is_no_id_of_a_room_is_refused(api: ChatApi) -> None:
    alice = await api.user("alice")
    body = {"name": "Order", "created_by": alice["id"]}
    for bad in ("", "a/b", "a b", "é", "x" * 129, 7):
        refused(
            await api.send("POST", ROOMS, json={**body, "external_id": bad}), 400, "invalid_input"
        )
    for bad in (
        "",
        quote("a/b", safe=""),
        "a%20b",
        "x" * 129,
        "%00",
        "%C3%A9",
        "a%0Ab",
        "x" * 5000,
    ):
        refusal = refused(await api.send("PUT", named(bad), json=body), 400, "invalid_input")
        assert refusal["errors"][0]["field"] == "external_id"
        for method, below in (("GET", ""), ("GET", "/messages"), ("POST", "/join"), ("DELETE", "")):
            answer = await api.send(
                method, named(bad) + below, json={} if method == "POST" else None
            )
            refused(answer, 404, "room_not_found")
    refused(await api.send("PUT", named("%FF"), json=body), 404, "room_not_found")
    plain = await api.send("PUT", f"{ROOMS}/plain", json=body)
    assert plain.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    refused(plain, 405, "method_not_allowed")
    wrong_method = await api.send("POST", named("never"), json=body)
    assert wrong_method.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"
    for wrong in (
        {"name": "Order"},
        {"created_by": alice["id"]},
        {**body, "external_id": "x"},
        {**body, "user_ids": []},
    ):
        refused(await api.send("PUT", named("never"), json=wrong), 400, "invalid_input")
    for missing, field in (
        ({**body, "created_by": "nobody"}, "created_by"),
        ({**body, "member_ids": [alice["id"], "nobody"]}, "member_ids[1]"),
    ):
        refusal = refused(await api.send("PUT", named("never"), json=missing), 404)
        assert refusal["code"] == "user_not_found"
        assert refusal["errors"][0]["field"] == field
    refused(await api.send("GET", named("never")), 404, "room_not_found")
    token = await api.token(alice)
    refused(await api.as_user(token, "PUT", named("never"), json=body), 403, "api_key_required")


@pytest.mark.parametrize("spelling", [OWN_ID, quote(OWN_ID, safe=""), "escaped"])
async def test_every_route_of_a_room_takes_the_apps_own_id(api: ChatApi, spelling: str) -> None:
    """With the key and with a token; also with the colon escaped, as encodeURIComponent does."""
    alice, bob = await api.user("alice"), await api.user("bob")
    own_id = f"{OWN_ID}-{alice['id']}" if spelling != "escaped" else unique(alice)
    room = await api.room(alice, bob, external_id=own_id)
    path = named(own_id)
    if spelling == "escaped":
        path = f"{ROOMS}/{quote(f'external:{own_id}', safe='')}"
    elif "%" in spelling:
        path = named(quote(own_id, safe=""))
    token = await api.token(bob)
    said = made(
        await api.send("POST", f"{path}/messages", json={"content": "a", "user_id": alice["id"]})
    )
    assert said["room_id"] == room["id"]
    own = made(await api.as_user(token, "POST", f"{path}/messages", json={"content": "b"}))
    for method, below, body in (
        ("GET", "", None),
        ("GET", "/members", None),
        ("GET", f"/members/{alice['id']}", None),
        ("GET", "/messages", None),
        ("GET", f"/messages/{said['id']}", None),
        ("GET", "/changes?since_rev=0", None),
        ("GET", "/mine", None),
        ("PATCH", "/mine", {"pinned": True}),
        ("PATCH", f"/messages/{own['id']}", {"content": "c"}),
        ("PUT", "/read", {"seq": 1}),
        ("PUT", "/delivered", {"seq": 2}),
        ("POST", "/join", None),
    ):
        answer = await api.as_user(token, method, path + below, json=body)
        assert answer.status_code == 200, (method, below, answer.text)
        if method == "GET":
            by_id = await api.as_user(token, method, in_room(room) + below)
            assert by_id.json() == answer.json(), below
    marks = {"rooms": {f"external:{own_id}": 2}}
    marked = await api.send("POST", f"{of_user(bob)}/read", json=marks)
    assert marked.json()["totals"]["messages"] == 0
    renamed = await api.send("PATCH", path, json={"name": "New"})
    assert (renamed.json()["id"], renamed.json()["external_id"]) == (room["id"], own_id)
    assert (await api.as_user(token, "POST", f"{path}/leave")).status_code == 204
    assert (await api.send("DELETE", path)).status_code == 204
    refused(await api.send("GET", in_room(room)), 404, "room_not_found")


async def test_a_stranger_does_not_learn_which_ids_are_taken(api: ChatApi) -> None:
    """Of a private room all answers are those for an id that no room has, whatever the request looks like."""
    alice, eve = await api.user("alice"), await api.user("eve")
    own_id = unique(alice)
    await api.room(alice, external_id=own_id, private=True)
    token = await api.token(eve)
    for method, below, body in (
        ("GET", "", None),
        ("GET", "/members", None),
        ("GET", f"/members/{alice['id']}", None),
        ("GET", "/messages", None),
        ("GET", "/messages/m", None),
        ("GET", "/changes?since_rev=0", None),
        ("GET", "/changes", None),
        ("GET", "/mine", None),
        ("PATCH", "/mine", {"pinned": 1}),
        ("PATCH", "/messages/m", {"content": "c"}),
        ("DELETE", "/messages/m", None),
        ("POST", "/messages", {"content": "c"}),
        ("POST", "/messages", {"content": ""}),
        ("PUT", "/read", {"seq": 1}),
        ("PUT", "/delivered", {"seq": 2}),
        ("POST", "/join", None),
        ("POST", "/leave", None),
    ):
        answers = [
            await api.as_user(token, method, named(name) + below, json=body)
            for name in (own_id, "no-such-order")
        ]
        told = [
            {
                name: value
                for name, value in answer.json().items()
                if name not in {"instance", "request_id"}
            }
            for answer in answers
        ]
        assert answers[0].status_code in {400, 404}, (method, below)
        assert told[0] == told[1], (method, below)


async def test_idempotent_creation_answers_the_same_room(api: ChatApi) -> None:
    """Though its external id is taken by then: by that room."""
    alice = await api.user("alice")
    body = {"name": "Order", "created_by": alice["id"], "external_id": unique(alice)}
    headers = {"Idempotency-Key": unique(alice)}
    first = made(await api.send("POST", ROOMS, json=body, headers=headers))
    assert made(await api.send("POST", ROOMS, json=body, headers=headers)) == first
    refused(await api.send("POST", ROOMS, json=body), 409, "external_id_taken")


async def test_rooms_are_of_a_project(api: ChatApi) -> None:
    """A list shows the external id to members too."""
    alice = await api.user("alice")
    own_id = unique(alice)
    await api.room(alice, external_id=own_id)
    token = await api.token(alice)
    listed = (await api.as_user(token, "GET", ROOMS)).json()["items"]
    assert [room["external_id"] for room in listed] == [own_id]
