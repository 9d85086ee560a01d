"""Direct rooms: one for each set of users, for ever."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.contract.servers import ChatApi, in_room, made, of_user, refused

DIRECT = "/api/v1/projects/{pid}/direct"


async def ensured(api: ChatApi, *users: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"user_ids": [user["id"] for user in users], **more}
    return await api.send("PUT", DIRECT, json=body)


def public(user: dict[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in ("id", "username", "display_name", "avatar_url")}


async def test_a_set_of_users_has_one_room_in_whatever_order_they_are_named(api: ChatApi) -> None:
    """201 the first time, then 200."""
    alice = await api.user("alice", avatar_url="https://example.com/a.png")
    bob, carol = await api.user("bob"), await api.user("carol")
    room = made(await ensured(api, bob, alice, created_by=alice["id"]))
    assert (room["kind"], room["private"], room["name"]) == ("direct", True, "")
    assert (room["created_by"], room["member_count"]) == (alice["id"], 2)
    assert room["members"] == [public(user) for user in (alice, bob)]
    assert "external_id" not in room
    for again in (
        await ensured(api, alice, bob),
        await ensured(api, bob, alice, bob, created_by=bob["id"]),
    ):
        assert (again.status_code, again.json()) == (200, room)
    assert (await api.send("GET", in_room(room))).json() == room
    with_carol = made(await ensured(api, alice, bob, carol))
    assert with_carol["id"] != room["id"]
    members = (await api.send("GET", f"{in_room(room)}/members")).json()["items"]
    assert [(member["user_id"], member["role"]) for member in members] == [
        (alice["id"], "member"),
        (bob["id"], "member"),
    ]


async def test_many_callers_at_once_get_one_room(api: ChatApi) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    pairs = [(alice, bob), (bob, alice)] * 10
    answers = await asyncio.gather(*(ensured(api, *pair) for pair in pairs))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    listed = await api.send(
        "GET", f"/api/v1/projects/{{pid}}/rooms?kind=direct&member_id={bob['id']}"
    )
    assert listed.json()["total"] == 1


async def test_who_is_named_has_to_be_there(api: ChatApi) -> None:
    alice, bob, carol = await api.user("alice"), await api.user("bob"), await api.user("carol")
    gone = refused(
        await api.send("PUT", DIRECT, json={"user_ids": [alice["id"], "no-one", "nobody"]}),
        404,
        "user_not_found",
    )
    assert "no-one" in gone["message"]
    assert gone["errors"][0]["field"] == "user_ids[1]"
    for body in (
        {},
        {"user_ids": []},
        {"user_ids": alice["id"]},
        {"user_ids": [f"u{n}" for n in range(9)]},
        {"user_ids": ["a b"]},
        {"user_ids": [alice["id"], bob["id"]], "created_by": carol["id"]},
        {"user_ids": [alice["id"]], "name": "Notes"},
    ):
        refused(await api.send("PUT", DIRECT, json=body), 400, "invalid_input")
    token = await api.token(alice)
    refused(
        await api.as_user(token, "PUT", DIRECT, json={"user_ids": [alice["id"]]}),
        403,
        "api_key_required",
    )
    refused(await api.send("GET", DIRECT), 405)


async def test_its_members_stay_as_they_are(api: ChatApi) -> None:
    """Hiding it is each member's own affair."""
    alice, bob, carol = await api.user("alice"), await api.user("bob"), await api.user("carol")
    room = made(await ensured(api, alice, bob))
    token, strangers = await api.token(alice), await api.token(carol)
    path = in_room(room)
    for method, below, body in (
        ("PUT", f"/members/{carol['id']}", {}),
        ("PUT", f"/members/{alice['id']}", {"role": "owner"}),
        ("DELETE", f"/members/{bob['id']}", None),
        ("DELETE", f"/members/{carol['id']}", None),
        ("POST", "/members", {"user_ids": [carol["id"]]}),
        ("POST", "/join", {"user_id": carol["id"]}),
        ("POST", "/leave", {"user_id": alice["id"]}),
        ("POST", "/leave", {"user_id": carol["id"]}),
        ("PATCH", "", {"name": "Us"}),
        ("PATCH", "", {"private": False, "metadata": {}}),
        ("PATCH", "", {"description": None}),
    ):
        answer = await api.send(method, path + below, json=body)
        assert refused(answer, 409)["code"] == "direct_room", (method, below)
    refused(await api.as_user(token, "POST", f"{path}/leave"), 409, "direct_room")
    assert (await api.as_user(token, "POST", f"{path}/join")).status_code == 200
    for method, below in (("POST", "/join"), ("POST", "/leave"), ("GET", ""), ("GET", "/members")):
        refused(await api.as_user(strangers, method, path + below), 404, "room_not_found")
    before = (await api.send("GET", path)).json()
    assert "rev" not in before
    changed = (await api.send("PATCH", path, json={"metadata": {"color": "red"}})).json()
    assert (changed["metadata"], changed["rev"]) == ({"color": "red"}, 1)
    assert changed["members"] == before["members"]
    archived = await api.as_user(token, "PATCH", f"{path}/mine", json={"archived": "yes"})
    assert archived.json()["archived"] == "yes"


async def test_one_user_has_a_room_of_notes(api: ChatApi) -> None:
    """Where they are there themselves."""
    alice, bob = await api.user("alice"), await api.user("bob")
    notes = made(await ensured(api, alice, alice))
    assert (notes["member_count"], notes["members"]) == (1, [public(alice)])
    assert (await ensured(api, alice)).json() == notes
    assert made(await ensured(api, bob))["id"] != notes["id"]
    assert (await api.say(notes, alice, "buy milk"))["seq"] == 1
    refused(
        await api.send(
            "POST", f"{in_room(notes)}/messages", json={"content": "x", "user_id": bob["id"]}
        ),
        403,
        "not_a_member",
    )


async def test_a_room_whose_other_members_are_deleted_can_be_read_and_not_posted_to(
    api: ChatApi,
) -> None:
    """A set of users holds the users themselves: with their names taken anew it is another one."""
    alice, bob, carol = await api.user("alice"), await api.user("bob"), await api.user("carol")
    pair, three = made(await ensured(api, alice, bob)), made(await ensured(api, alice, bob, carol))
    first = await api.say(pair, bob, "hello", client_msg_id="b")
    own = await api.say(pair, alice, "hi", client_msg_id="a")
    assert (await api.send("DELETE", of_user(bob))).status_code == 204
    path = f"{in_room(pair)}/messages"
    refused(
        await api.send("POST", path, json={"content": "there?", "user_id": alice["id"]}),
        409,
        "nobody_there",
    )
    token = await api.token(alice)
    refused(await api.as_user(token, "POST", path, json={"content": "x"}), 409, "nobody_there")
    again = {"content": "hi", "user_id": alice["id"], "client_msg_id": "a"}
    assert made(await api.send("POST", path, json=again)) == own
    said = (await api.as_user(token, "GET", path)).json()["items"]
    assert [message["id"] for message in said] == [own["id"], first["id"]]
    assert (await api.send("GET", in_room(pair))).json()["members"] == [public(alice)]
    assert (await api.say(three, carol, "we two are left"))["seq"] == 1
    refused(await ensured(api, alice, bob), 404, "user_not_found")
    assert (await api.send("GET", in_room(pair))).json()["last_seq"] == 2


async def test_a_deleted_room_is_made_anew(api: ChatApi) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    room = made(await ensured(api, alice, bob))
    assert (await api.send("DELETE", in_room(room))).status_code == 204
    assert made(await ensured(api, alice, bob))["id"] != room["id"]


async def test_lists_tell_rooms_of_each_kind(api: ChatApi) -> None:
    """Without a kind, all of them, in both orders; to members and to the key."""
    alice, bob = await api.user("alice"), await api.user("bob")
    plain = await api.room(alice, bob)
    direct = made(await ensured(api, alice, bob))
    token = await api.token(bob)
    rooms = "/api/v1/projects/{pid}/rooms"
    for order in ("", "&sort=activity"):
        for kind, expected in (
            ("", {plain["id"], direct["id"]}),
            ("&kind=room", {plain["id"]}),
            ("&kind=direct", {direct["id"]}),
            ("&kind=thread", set()),
        ):
            page = (await api.as_user(token, "GET", f"{rooms}?limit=50{order}{kind}")).json()
            assert {room["id"] for room in page["items"]} == expected, (order, kind)
            if not order:
                assert page["total"] == len(expected)
            for room in page["items"]:
                assert ("members" in room) == (room["kind"] == "direct")
                if room["kind"] == "direct":
                    assert room["members"] == direct["members"]
            with_key = (await api.send("GET", f"{rooms}?limit=200{order}{kind}")).json()
            found = {room["id"] for room in with_key["items"]}
            assert found & {plain["id"], direct["id"]} == expected, (order, kind)
    private = f"{rooms}?private=false&kind=direct"
    assert (await api.send("GET", private)).json()["items"] == []


@pytest.mark.parametrize("way", ["delta", "changes"])
async def test_a_sync_brings_the_members(api: ChatApi, way: str) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    room = made(await ensured(api, alice, bob))
    if way == "changes":
        await api.send("PATCH", in_room(room), json={"metadata": {"k": "v"}})
        answer = (await api.send("GET", f"{in_room(room)}/changes?since_rev=0")).json()
        told = answer["items"][0]["room"]
    else:
        answer = (await api.send("POST", f"{of_user(bob)}/sync", json={})).json()
        told = answer["deltas"][0]["room"]
    assert told["members"] == room["members"]


async def test_totals_count_direct_rooms_among_the_unread(api: ChatApi) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    plain, direct = await api.room(alice, bob), made(await ensured(api, alice, bob))
    notes = made(await ensured(api, bob))
    for room in (plain, direct, direct):
        await api.say(room, alice, "x")
    await api.say(notes, bob, "mine")
    totals = (await api.send("GET", f"{of_user(bob)}/unread")).json()
    assert totals == {"rooms": 2, "messages": 3, "mentions": 0, "direct": 1}
