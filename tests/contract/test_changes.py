"""What changes in a room has a number: on the object, in the room, and on the events."""

from typing import Any

from tests.contract.servers import ChatApi, in_room

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
