"""Pinned messages: fifty of a room, by who may."""

from typing import Any

from tests.contract.servers import ChatApi, in_room, refused


async def pins(api: ChatApi, room: dict[str, Any]) -> list[str]:
    answer = await api.send("GET", f"{in_room(room)}/pins")
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"items"}
    return [message["id"] for message in answer.json()["items"]]


async def test_a_pin_is_a_state_of_its_message(api: ChatApi) -> None:
    """It says when, and who, unless the key pinned it in nobody's name; a second pin changes nothing."""
    owner = await api.user()
    room = await api.room(owner)
    message = await api.say(room, owner, "hello")
    path = f"{in_room(room)}/messages/{message['id']}"
    pinned = (await api.send("PUT", f"{path}/pin", json={"user_id": owner["id"]})).json()
    assert pinned["pinned_by"] == owner["id"]
    assert pinned == {
        **message,
        "rev": 1,
        "pinned_at": pinned["pinned_at"],
        "pinned_by": owner["id"],
    }
    assert (await api.send("GET", path)).json() == pinned
    assert (await api.send("PUT", f"{path}/pin")).json() == pinned
    assert (await api.send("DELETE", f"{path}/pin")).json() == {**message, "rev": 2}
    assert (await api.send("DELETE", f"{path}/pin")).json() == {**message, "rev": 2}
    anonymous = (await api.send("PUT", f"{path}/pin")).json()
    assert "pinned_by" not in anonymous
    assert anonymous["pinned_at"] >= pinned["pinned_at"]


async def test_pins_are_listed_newest_pin_first(api: ChatApi) -> None:
    """Whatever the order of the messages; edits keep a pin, deletion ends it."""
    owner = await api.user()
    room = await api.room(owner)
    ids = [(await api.say(room, owner, text))["id"] for text in ("one", "two", "three", "four")]
    messages = f"{in_room(room)}/messages"
    for number in (2, 0, 3):
        await api.send("PUT", f"{messages}/{ids[number]}/pin")
    assert await pins(api, room) == [ids[3], ids[0], ids[2]]
    edited = await api.send("PATCH", f"{messages}/{ids[0]}", json={"content": "new"})
    assert "pinned_at" in edited.json()
    await api.send("DELETE", f"{messages}/{ids[2]}")
    assert "pinned_at" not in (await api.send("GET", f"{messages}/{ids[2]}")).json()
    assert await pins(api, room) == [ids[3], ids[0]]
    refused(await api.send("PUT", f"{messages}/{ids[2]}/pin"), 409, "message_deleted")
    refused(await api.send("PUT", f"{messages}/nothing/pin"), 404, "message_not_found")
    refused(await api.send("GET", f"{in_room({'id': 'nothing'})}/pins"), 404, "room_not_found")


async def test_a_pin_is_told_by_a_system_message_where_the_room_wants_it(api: ChatApi) -> None:
    """Once, after the change; with who did it, unless it was the key in nobody's name."""
    owner = await api.user(display_name="Ann")
    room = await api.room(owner)
    path = in_room(room)
    settings = {"settings": {"system_messages": True}}
    assert (await api.send("PATCH", path, json=settings)).status_code == 200
    one, two = await api.say(room, owner, "one"), await api.say(room, owner, "two")
    by_owner = {"user_id": owner["id"]}
    for message, body in ((one, by_owner), (one, by_owner), (two, {})):
        answer = await api.send("PUT", f"{path}/messages/{message['id']}/pin", json=body)
        assert answer.status_code == 200, answer.text
    told = (await api.send("GET", f"{path}/messages?after=2")).json()["items"]
    assert [(each["type"], each["content"]) for each in told] == [
        ("system", "Ann pinned a message."),
        ("system", "A message was pinned."),
    ]
    assert [each["event"] for each in told] == [
        {"name": "pinned", "by": owner["id"], "message_id": one["id"]},
        {"name": "pinned", "message_id": two["id"]},
    ]


async def test_a_room_has_fifty_pins(api: ChatApi) -> None:
    owner = await api.user()
    room = await api.room(owner)
    ids = [(await api.say(room, owner, str(number)))["id"] for number in range(51)]
    messages = f"{in_room(room)}/messages"
    for message_id in ids[:50]:
        assert (await api.send("PUT", f"{messages}/{message_id}/pin")).status_code == 200
    refused(await api.send("PUT", f"{messages}/{ids[50]}/pin"), 409, "too_many_pins")
    assert (await api.send("PUT", f"{messages}/{ids[0]}/pin")).status_code == 200
    await api.send("DELETE", f"{messages}/{ids[0]}/pin")
    assert (await api.send("PUT", f"{messages}/{ids[50]}/pin")).status_code == 200
    assert await pins(api, room) == [ids[50], *ids[49:0:-1]]


async def test_owners_and_moderators_pin(api: ChatApi) -> None:
    """Members see pins; strangers do not know of the room."""
    owner, moderator, member, stranger = [await api.user() for _ in range(4)]
    room = await api.room(owner, moderator, member)
    await api.send("PUT", f"{in_room(room)}/members/{moderator['id']}", json={"role": "moderator"})
    message = await api.say(room, member, "hello")
    path = f"{in_room(room)}/messages/{message['id']}/pin"
    for user in (owner, moderator):
        token = await api.token(user)
        answer = await api.as_user(token, "PUT", path)
        assert answer.json()["pinned_by"] == user["id"]
        assert (await api.as_user(token, "DELETE", path)).status_code == 200
        other = await api.as_user(token, "PUT", path, json={"user_id": member["id"]})
        refused(other, 403, "not_your_user")
    token = await api.token(member)
    for method in ("PUT", "DELETE"):
        refused(await api.as_user(token, method, path), 403, "owner_only")
        answer = await api.as_user(await api.token(stranger), method, path)
        refused(answer, 404, "room_not_found")
    assert (await api.as_user(token, "GET", f"{in_room(room)}/pins")).json() == {"items": []}
    answer = await api.as_user(await api.token(stranger), "GET", f"{in_room(room)}/pins")
    refused(answer, 404, "room_not_found")
    for user, code in ((stranger, "not_a_member"), (member, "owner_only")):
        answer = await api.send("PUT", path, json={"user_id": user["id"]})
        refused(answer, 403, code)


async def test_what_is_hidden_from_a_member_is_not_pinned_for_them(api: ChatApi) -> None:
    owner, member = await api.user(), await api.user()
    room = await api.room(owner, member)
    messages = f"{in_room(room)}/messages"
    one = await api.say(room, owner, "one")
    await api.send("PUT", f"{messages}/{one['id']}/pin")
    token = await api.token(member)
    await api.as_user(token, "PATCH", f"{in_room(room)}/mine", json={"clear_history": True})
    two = await api.say(room, owner, "two")
    await api.send("PUT", f"{messages}/{two['id']}/pin")
    items = (await api.as_user(token, "GET", f"{in_room(room)}/pins")).json()["items"]
    assert [message["id"] for message in items] == [two["id"]]
    answer = await api.as_user(token, "PUT", f"{messages}/{one['id']}/reactions/%F0%9F%91%8D")
    refused(answer, 404, "message_not_found")
    assert len(await pins(api, room)) == 2
    query = {"member_id": member["id"]}
    answer = await api.send("GET", f"{in_room(room)}/pins", params=query)
    assert [message["id"] for message in answer.json()["items"]] == [two["id"]]
    answer = await api.send("GET", f"{messages}/{one['id']}/reactions", params=query)
    refused(answer, 404, "message_not_found")
    emoji = f"{messages}/{one['id']}/reactions/%F0%9F%91%8D/{member['id']}"
    refused(await api.send("PUT", emoji), 404, "message_not_found")
