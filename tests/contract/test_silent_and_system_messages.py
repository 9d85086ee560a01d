"""Messages that are told and count for nobody: silent ones, and those in which the app tells what happened."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, refused


async def unread(api: ChatApi, room: dict[str, Any], user: dict[str, Any]) -> tuple[int, int]:
    side = (await api.send("GET", f"{in_room(room)}/members/{user['id']}/mine")).json()
    return side["unread"], side["mentions"]


async def test_silent_messages_do_not_count(api: ChatApi) -> None:
    """Nor do their mentions; those around them count as ever, deleted ones apart."""
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    await api.say(room, alice, "one")
    silent = await api.say(room, alice, "psst", silent=True, mentions=[bob["id"]])
    assert silent["silent"] is True
    last = await api.say(room, alice, "two")
    assert "silent" not in last
    assert await unread(api, room, bob) == (2, 0)
    assert await unread(api, room, alice) == (0, 0)
    await api.send("DELETE", f"{in_room(room)}/messages/{silent['id']}")
    assert await unread(api, room, bob) == (2, 0)
    await api.send("DELETE", f"{in_room(room)}/messages/{last['id']}")
    assert await unread(api, room, bob) == (1, 0)
    await api.say(room, bob, "mine", silent=True)
    await api.say(room, bob, "mine")
    assert await unread(api, room, bob) == (1, 0)
    assert await unread(api, room, alice) == (1, 0)
    await api.send("PUT", f"{in_room(room)}/read", json={"user_id": bob["id"], "seq": 2})
    assert await unread(api, room, bob) == (0, 0)


async def test_the_key_posts_system_messages(api: ChatApi) -> None:
    """With the content that is given, or one made of the event's name."""
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    path = f"{in_room(room)}/messages"
    body = {"user_id": alice["id"], "type": "system", "event": {"name": "order_shipped", "no": 5}}
    made = (await api.send("POST", path, json=body)).json()
    assert made["type"] == "system"
    assert made["event"] == {"name": "order_shipped", "no": 5}
    assert made["content"] == "Order shipped."
    given = (await api.send("POST", path, json=body | {"content": "It is on its way."})).json()
    assert given["content"] == "It is on its way."
    assert (await api.send("GET", path)).json()["items"] == [given, made]
    assert await unread(api, room, bob) == (0, 0)
    plain = await api.say(room, alice, "x", type="text")
    assert "type" not in plain


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"type": "system"}, "event"),
        ({"event": {"name": "x"}, "content": "x"}, "event"),
        ({"type": "text", "event": {"name": "x"}, "content": "x"}, "event"),
        ({"type": "system", "event": {}}, "event"),
        ({"type": "system", "event": {"name": "No Name"}}, "event"),
        ({"type": "system", "event": {"name": "member_joined"}}, "event"),
        ({"type": "system", "event": {"name": "x", "y": "z" * 5000}}, "event"),
        ({"type": "other", "content": "x"}, "type"),
        ({"type": "text"}, "content"),
        ({"silent": "yes", "content": "x"}, "silent"),
        ({"mention_room": 1, "content": "x"}, "mention_room"),
    ],
)
async def test_what_is_no_system_message(api: ChatApi, sent: dict[str, Any], field: str) -> None:
    """Names that the server tells itself are not to be had, and an event goes with `system` alone."""
    alice = await api.user()
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    answer = await api.send("POST", path, json=sent | {"user_id": alice["id"]})
    assert refused(answer, 400, "invalid_input")["errors"][0]["field"] == field


async def test_users_post_no_system_messages_and_change_none(api: ChatApi) -> None:
    """Not even the one whom it is about: it is not editable; an owner deletes it."""
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    path = f"{in_room(room)}/messages"
    event = {"type": "system", "event": {"name": "x"}}
    token = await api.token(bob)
    refused(await api.as_user(token, "POST", path, json=event), 403, "api_key_required")
    message = (await api.send("POST", path, json=event | {"user_id": bob["id"]})).json()
    one = f"{path}/{message['id']}"
    refused(await api.as_user(token, "PATCH", one, json={"content": "y"}), 403, "not_the_author")
    refused(await api.as_user(token, "DELETE", one), 403, "not_the_author")
    refused(await api.send("PATCH", one, json={"content": "y"}), 409, "not_editable")
    owner = await api.token(alice)
    assert (await api.as_user(owner, "DELETE", one)).status_code == 204
    left = (await api.send("GET", one)).json()
    assert (left["content"], left["type"], left.get("event")) == ("", "system", None)


async def test_what_the_app_tells_is_not_bound_by_the_role_of_the_user(api: ChatApi) -> None:
    """In a room where members only read, the key posts system messages in a member's name."""
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    settings = {"settings": {"read_only": True}}
    assert (await api.send("PATCH", in_room(room), json=settings)).status_code == 200
    path = f"{in_room(room)}/messages"
    body = {"user_id": bob["id"], "content": "x"}
    refused(await api.send("POST", path, json=body), 403, "read_only")
    event = {"type": "system", "event": {"name": "x"}}
    assert (await api.send("POST", path, json=body | event)).status_code == 201
