"""What changes in a room has a number: on the object, in the room, and on the events."""

from typing import Any

from tests.contract.servers import ChatApi, in_room, refused

ROOM_FIELDS = {"name": "Other"}


async def read(api: ChatApi, path: str) -> dict[str, Any]:
    answer = await api.send("GET", path)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_messages_alone_change_no_room(api: ChatApi) -> None:
    """Neither a room nor its members nor its messages have a `rev` while nothing but posting has happened."""
    owner, other = await api.user(), await api.user()
    room = await api.room(owner, other)
    message = await api.say(room, owner, "hello")
    listed = await read(api, f"{in_room(room)}/messages")
    members = await read(api, f"{in_room(room)}/members")
    for item in (room, message, await read(api, in_room(room)), *listed["items"]):
        assert "rev" not in item
    for member in members["items"]:
        assert "rev" not in member
    assert listed["items"] == [message]


async def test_each_change_takes_the_next_number(api: ChatApi) -> None:
    """Edit, deletion, room fields, joining, role, leaving; the object keeps the number of its last change."""
    owner, other = await api.user(), await api.user()
    room = await api.room(owner)
    one, two = await api.say(room, owner, "one"), await api.say(room, owner, "two")
    path = in_room(room)
    edited = await api.send("PATCH", f"{path}/messages/{one['id']}", json={"content": "uno"})
    assert edited.json()["rev"] == 1
    await api.send("DELETE", f"{path}/messages/{two['id']}")
    assert (await api.send("PATCH", path, json=ROOM_FIELDS)).json()["rev"] == 3
    joined = await api.send("POST", f"{path}/join", json={"user_id": other["id"]})
    assert joined.json()["rev"] == 4
    member = f"{path}/members/{other['id']}"
    assert (await api.send("PUT", member, json={"role": "owner"})).json()["rev"] == 5
    await api.send("DELETE", member)
    assert (await read(api, path))["rev"] == 6
    messages = (await read(api, f"{path}/messages"))["items"]
    assert {item["seq"]: item["rev"] for item in messages} == {1: 1, 2: 2}
    assert (await api.say(room, owner, "three")).get("rev") is None
    assert (await read(api, path))["rev"] == 6


async def test_what_changes_nothing_takes_no_number(api: ChatApi) -> None:
    """A message deleted again, a member added again, the role they have, a stranger who leaves."""
    owner, other, stranger = await api.user(), await api.user(), await api.user()
    room = await api.room(owner, other)
    path = in_room(room)
    message = await api.say(room, owner, "one")
    await api.send("DELETE", f"{path}/messages/{message['id']}")
    assert (await read(api, path))["rev"] == 1
    await api.send("DELETE", f"{path}/messages/{message['id']}")
    await api.send("PATCH", f"{path}/messages/{message['id']}", json={"content": "x"})
    await api.send("POST", f"{path}/join", json={"user_id": other["id"]})
    await api.send("PUT", f"{path}/members/{other['id']}", json={"role": "member"})
    await api.send("POST", f"{path}/leave", json={"user_id": stranger["id"]})
    await api.send("DELETE", f"{path}/members/{stranger['id']}")
    assert (await read(api, path))["rev"] == 1


async def test_a_deleted_user_changes_every_room_they_were_in(api: ChatApi) -> None:
    owner, gone = await api.user(), await api.user()
    rooms = [await api.room(owner, gone), await api.room(owner, gone)]
    await api.send("DELETE", f"/api/v1/projects/{{pid}}/users/{gone['id']}")
    for room in rooms:
        assert (await read(api, in_room(room)))["rev"] == 1


async def test_a_newcomer_has_read_what_was_said_before(api: ChatApi) -> None:
    """Whoever comes later; who is there from the beginning has read nothing."""
    owner, first, later = await api.user(), await api.user(), await api.user()
    room = await api.room(owner, first)
    await api.say(room, owner, "one")
    await api.say(room, owner, "two")
    joined = await api.send("POST", f"{in_room(room)}/join", json={"user_id": later["id"]})
    assert joined.json()["last_read_seq"] == 2
    await api.say(room, owner, "three")
    for user, unread in ((first, 3), (later, 1)):
        rooms = await read(api, f"/api/v1/projects/{{pid}}/rooms?member_id={user['id']}")
        assert [item["unread"] for item in rooms["items"]] == [unread]


async def test_a_room_is_large_beyond_a_hundred_and_small_again_with_eighty(api: ChatApi) -> None:
    limits = (await read(api, "/api/v1/project"))["limits"]
    assert limits["small_room"] == 100
    users = [await api.user() for _ in range(101)]
    room = await api.room(*users[:100])
    assert room["small"] is True
    path = in_room(room)

    async def small() -> bool:
        return bool((await read(api, path))["small"])

    await api.send("POST", f"{path}/join", json={"user_id": users[100]["id"]})
    assert not await small()
    for user in users[100:80:-1]:
        await api.send("DELETE", f"{path}/members/{user['id']}")
    assert (await read(api, path))["member_count"] == 81
    assert not await small()
    await api.send("DELETE", f"{path}/members/{users[80]['id']}")
    assert await small()
    await api.send("POST", f"{path}/join", json={"user_id": users[80]["id"]})
    assert await small()


async def changes(api: ChatApi, room: dict[str, Any], **query: Any) -> dict[str, Any]:
    answer = await api.send("GET", f"{in_room(room)}/changes", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_changes_are_present_states_each_object_once(api: ChatApi) -> None:
    """Whatever happened in between; somebody who is gone is null."""
    owner, gone, helper = await api.user(), await api.user(), await api.user()
    room = await api.room(owner, gone, helper)
    path = in_room(room)
    one, two = await api.say(room, owner, "one"), await api.say(room, owner, "two")
    for content in ("uno", "eins"):
        await api.send("PATCH", f"{path}/messages/{one['id']}", json={"content": content})
    await api.send("PATCH", path, json={"name": "Other"})
    await api.send("DELETE", f"{path}/members/{gone['id']}")
    await api.send("PUT", f"{path}/members/{helper['id']}", json={"role": "moderator"})
    await api.send("DELETE", f"{path}/messages/{two['id']}")
    by_id = {item["id"]: item for item in (await read(api, f"{path}/messages"))["items"]}
    expected = [
        {"rev": 2, "kind": "message", "message": by_id[one["id"]]},
        {"rev": 3, "kind": "room", "room": await read(api, path)},
        {"rev": 4, "kind": "member", "user_id": gone["id"], "member": None},
        {
            "rev": 5,
            "kind": "member",
            "user_id": helper["id"],
            "member": await read(api, f"{path}/members/{helper['id']}"),
        },
        {"rev": 6, "kind": "message", "message": by_id[two["id"]]},
    ]
    whole = {"items": expected, "rev": 6, "has_more": False, "reset": False}
    assert await changes(api, room, since_rev=0) == whole
    assert await changes(api, room, since_rev=4) == whole | {"items": expected[3:]}
    assert await changes(api, room, since_rev=6) == whole | {"items": []}
    page = await changes(api, room, since_rev=0, limit=2)
    assert page == whole | {"items": expected[:2], "has_more": True}
    assert await changes(api, room, since_rev=0, from_seq=2) == whole | {"items": expected[1:]}


async def test_a_rev_that_is_not_this_rooms_resets(api: ChatApi) -> None:
    owner = await api.user()
    room = await api.room(owner)
    assert await changes(api, room, since_rev=0) == {
        "items": [],
        "rev": 0,
        "has_more": False,
        "reset": False,
    }
    assert (await changes(api, room, since_rev=1))["reset"] is True


async def test_changes_end_early_at_half_a_megabyte(api: ChatApi) -> None:
    """With `has_more`; going on from the last item brings all."""
    owner = await api.user()
    room = await api.room(owner)
    ids = [(await api.say(room, owner, "x"))["id"] for _ in range(30)]
    for message_id in ids:
        edit = {"content": "\u2028" * 8000}
        answer = await api.send("PATCH", f"{in_room(room)}/messages/{message_id}", json=edit)
        assert answer.status_code == 200
    found: list[int] = []
    pages, more = 0, True
    while more:
        answer = await api.send(
            "GET",
            f"{in_room(room)}/changes",
            params={"since_rev": found[-1] if found else 0, "limit": 200},
        )
        assert len(answer.content) <= 512 * 1024
        found += [item["rev"] for item in answer.json()["items"]]
        more = answer.json()["has_more"]
        pages += 1
    assert found == list(range(1, 31))
    assert pages > 1


async def test_who_may_read_changes_and_with_what(api: ChatApi) -> None:
    """Members, and the key, which may name one of them."""
    owner, stranger = await api.user(), await api.user()
    room = await api.room(owner, private=True)
    path = f"{in_room(room)}/changes"
    for query, status, code in (
        ("", 400, "invalid_input"),
        ("?since_rev=-1", 400, "invalid_input"),
        ("?since_rev=0&limit=201", 400, "invalid_input"),
        ("?since_rev=0&other=1", 400, "invalid_input"),
        (f"?since_rev=0&member_id={stranger['id']}", 403, "not_a_member"),
    ):
        refused(await api.send("GET", f"{path}{query}"), status, code)
    query = f"?since_rev=0&member_id={owner['id']}"
    assert (await api.send("GET", f"{path}{query}")).status_code == 200
    assert (await api.as_user(await api.token(owner), "GET", f"{path}{query}")).status_code == 200
    token = await api.token(stranger)
    refused(await api.as_user(token, "GET", f"{path}?since_rev=0"), 404, "room_not_found")
    refused(await api.as_user(token, "GET", f"{path}{query}"), 403, "not_your_user")
    nowhere = f"/api/v1/projects/{{pid}}/rooms/nowhere/changes{query}"
    refused(await api.send("GET", nowhere), 404, "room_not_found")
