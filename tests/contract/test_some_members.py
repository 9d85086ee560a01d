"""Several members at once: adding them, and listing some of many."""

import asyncio
from typing import Any

from tests.contract.servers import ChatApi, in_room, made, refused

PAGE = {"items", "page", "limit", "total", "totalPages"}


async def added(api: ChatApi, room: dict[str, Any], *users: dict[str, Any], **more: Any) -> Any:
    body = {"user_ids": [user["id"] for user in users], **more}
    answer = await api.send("POST", f"{in_room(room)}/members", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_several_users_become_members_at_once(api: ChatApi) -> None:
    """Who is one keeps their role."""
    alice, bob, carol, dave = [await api.user(name) for name in ("alice", "bob", "carol", "dave")]
    room = await api.room(alice, bob)
    answer = await added(api, room, carol, alice, dave, carol, bob)
    assert set(answer) == {"added", "there"}
    assert [(each["user_id"], each["role"]) for each in answer["added"]] == [
        (carol["id"], "member"),
        (dave["id"], "member"),
    ]
    assert [each["rev"] for each in answer["added"]] == [1, 2]
    assert answer["there"] == [alice["id"], bob["id"]]
    assert (await api.send("GET", in_room(room))).json()["member_count"] == 4
    owners = await added(api, room, alice, role="member")
    assert owners == {"added": [], "there": [alice["id"]]}
    member = await api.send("GET", f"{in_room(room)}/members/{alice['id']}")
    assert member.json()["role"] == "owner"
    eve = await api.user("eve")
    assert (await added(api, room, eve, role="owner"))["added"][0]["role"] == "owner"


async def test_all_become_members_or_none(api: ChatApi) -> None:
    """The first who is missing is named."""
    alice, bob, gone = await api.user("alice"), await api.user("bob"), await api.user("gone")
    room = await api.room(alice)
    await api.send("DELETE", f"/api/v1/projects/{{pid}}/users/{gone['id']}")
    path = f"{in_room(room)}/members"
    body = {"user_ids": [bob["id"], gone["id"], "nobody"]}
    refusal = refused(await api.send("POST", path, json=body), 404, "user_not_found")
    assert gone["id"] in refusal["message"]
    assert refusal["errors"] == [{"field": "user_ids[1]", "message": "is no user"}]
    assert (await api.send("GET", in_room(room))).json() == room
    for wrong in (
        {},
        {"user_ids": []},
        {"user_ids": [f"u{n}" for n in range(101)]},
        {"user_ids": [bob["id"]], "role": "king"},
        {"users": [bob["id"]]},
    ):
        refused(await api.send("POST", path, json=wrong), 400, "invalid_input")
    missing = {"user_ids": [bob["id"]]}
    refused(
        await api.send("POST", in_room({"id": "none"}) + "/members", json=missing),
        404,
        "room_not_found",
    )
    token = await api.token(alice)
    refused(await api.as_user(token, "POST", path, json=missing), 403, "api_key_required")


async def test_a_repeated_request_gets_the_first_answer(api: ChatApi) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice)
    path, body = f"{in_room(room)}/members", {"user_ids": [bob["id"]]}
    headers = {"Idempotency-Key": f"add-{bob['id']}"}
    first = await api.send("POST", path, json=body, headers=headers)
    again = await api.send("POST", path, json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert (await added(api, room, bob)) == {"added": [], "there": [bob["id"]]}


async def test_the_same_users_added_at_once_are_members_once(api: ChatApi) -> None:
    alice, bob, carol = await api.user("alice"), await api.user("bob"), await api.user("carol")
    room = await api.room(alice)
    answers = await asyncio.gather(*(added(api, room, bob, carol) for _ in range(8)))
    assert sum(len(answer["added"]) for answer in answers) == 2
    read = (await api.send("GET", in_room(room))).json()
    assert (read["member_count"], read["rev"]) == (3, 2)


async def test_some_members_by_id(api: ChatApi) -> None:
    """Strangers are left out."""
    alice, bob, eve = await api.user("alice"), await api.user("bob"), await api.user("eve")
    room = await api.room(alice, bob)
    token = await api.token(bob)
    path = f"{in_room(room)}/members"
    ids = ",".join([bob["id"], eve["id"], "nobody", alice["id"], bob["id"]])
    for answer in (
        await api.send("GET", f"{path}?ids={ids}"),
        await api.as_user(token, "GET", f"{path}?ids={ids}"),
    ):
        page = answer.json()
        assert set(page) == PAGE
        assert [each["user_id"] for each in page["items"]] == [alice["id"], bob["id"]]
        assert page["total"] == 2
    assert (await api.send("GET", f"{path}?ids=nobody")).json()["items"] == []
    many = ",".join(f"u{n}" for n in range(101))
    for wrong in ("ids=", "ids=a%20b", f"ids={many}", f"ids={bob['id']}&page=1", "ids=a&q=b"):
        refused(await api.send("GET", f"{path}?{wrong}"), 400, "invalid_input")
    refused(
        await api.as_user(await api.token(eve), "GET", f"{path}?ids={ids}"), 404, "room_not_found"
    )
    refused(await api.send("GET", in_room({"id": "none"}) + "/members?ids=a"), 404)


async def test_members_by_role_and_by_name(api: ChatApi) -> None:
    """Names are compared without case and accents."""
    zoe = await api.user("zoe", display_name="Zoé Müller")
    alice = await api.user("ALICE")
    bob = await api.user("bob", display_name="Robert 100%")
    room = await api.room(zoe, alice, bob)
    path = f"{in_room(room)}/members"
    for query, expected in (
        ("role=owner", [zoe]),
        ("role=member", [alice, bob]),
        ("q=muller", [zoe]),
        ("q=ZOE", [zoe]),
        ("q=alice", [alice]),
        ("q=100%25", [bob]),
        ("q=%25", [bob]),
        ("q=ob&role=member", [bob]),
        ("q=ob&role=owner", []),
        ("q=nobody", []),
    ):
        page = (await api.send("GET", f"{path}?{query}")).json()
        assert set(page) == PAGE | {"next_cursor", "has_more"}
        assert [each["user_id"] for each in page["items"]] == [user["id"] for user in expected]
        assert (page["total"], page["has_more"]) == (len(expected), False), query
    for hidden in (zoe["external_user_id"], zoe["id"]):
        assert (await api.send("GET", f"{path}?q={hidden}")).json()["items"] == []
    for wrong in ("role=king", "q=", f"q={'x' * 129}", "name=x"):
        refused(await api.send("GET", f"{path}?{wrong}"), 400, "invalid_input")


async def test_all_members_page_after_page(api: ChatApi) -> None:
    """By cursor, from an empty one on. Without one, as ever."""
    alice, *others = [await api.user("user") for _ in range(7)]
    room = await api.room(alice, *others)
    path = f"{in_room(room)}/members"
    assert set((await api.send("GET", f"{path}?limit=2")).json()) == PAGE
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = (await api.send("GET", f"{path}?limit=3&cursor={cursor}")).json()
        assert set(page) == {"items", "limit", "next_cursor", "has_more"}
        seen += [each["user_id"] for each in page["items"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (sorted(user["id"] for user in [alice, *others]), 3)
    first = (await api.send("GET", f"{path}?role=member&limit=4")).json()
    assert (first["total"], first["has_more"]) == (6, True)
    rest = await api.send("GET", f"{path}?role=member&limit=4&cursor={first['next_cursor']}")
    found = [each["user_id"] for each in first["items"] + rest.json()["items"]]
    assert found == [user["id"] for user in others]
    for wrong in ("cursor=%21", "cursor=bm8", f"cursor={'x' * 1025}", "cursor=&page=1"):
        refused(await api.send("GET", f"{path}?{wrong}"), 400, "invalid_input")
    missing = f"{in_room({'id': 'none'})}/members?cursor="
    refused(await api.send("GET", missing), 404, "room_not_found")
    assert made(await api.send("POST", "/api/v1/projects/{pid}/rooms", json={
        "name": "x", "created_by": alice["id"]}))["member_count"] == 1  # fmt: skip


async def test_a_member_who_is_named_adds_with_their_own_rights(api: ChatApi) -> None:
    """`by`, as in the route of one member."""
    alice, bob, carol, eve = [await api.user(name) for name in ("alice", "bob", "carol", "eve")]
    room = await api.room(alice, bob)
    path = f"{in_room(room)}/members"
    body = {"user_ids": [carol["id"]]}
    refused(await api.send("POST", path, json={**body, "by": bob["id"]}), 403, "owner_only")
    refused(await api.send("POST", path, json={**body, "by": eve["id"]}), 404, "room_not_found")
    await api.send("PUT", f"{path}/{bob['id']}", json={"role": "moderator"})
    refused(
        await api.send("POST", path, json={**body, "by": bob["id"], "role": "owner"}),
        403,
        "owner_only",
    )
    assert [each["user_id"] for each in (await added(api, room, carol, by=bob["id"]))["added"]] == [
        carol["id"]
    ]
    direct = made(
        await api.send(
            "PUT", "/api/v1/projects/{pid}/direct", json={"user_ids": [alice["id"], bob["id"]]}
        )
    )
    for method, below, sent in (
        ("POST", "/members", {**body, "by": bob["id"]}),
        ("PUT", f"/members/{carol['id']}", {"by": bob["id"]}),
        ("PUT", f"/members/{alice['id']}", {"by": bob["id"], "role": "owner"}),
        ("DELETE", f"/members/{alice['id']}?by={bob['id']}", None),
    ):
        refused(await api.send(method, in_room(direct) + below, json=sent), 409, "direct_room")
