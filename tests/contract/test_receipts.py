"""Receipts of a message: who has read it, whom it has reached."""

from typing import Any

from tests.contract.servers import ChatApi, in_room, of_user, refused


async def marked(api: ChatApi, room: dict[str, Any], user: dict[str, Any], **marks: int) -> None:
    for name, seq in marks.items():
        body = {"user_id": user["id"], "seq": seq}
        answer = await api.send("PUT", f"{in_room(room)}/{name}", json=body)
        assert answer.status_code == 200, answer.text


def body(read: list[dict[str, Any]], delivered: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "read": sorted(user["id"] for user in read),
        "delivered": sorted(user["id"] for user in delivered),
        "read_count": len(read),
        "delivered_count": len(delivered),
    }


async def test_receipts_of_a_message_are_worked_out_from_the_marks(api: ChatApi) -> None:
    """Who has read it has received it. Its author is neither."""
    alice, bob, carol, dave = [await api.user() for _ in range(4)]
    room = await api.room(alice, bob, carol, dave)
    first, second, third = [await api.say(room, alice, text) for text in ("a", "b", "c")]
    token = await api.token(dave)

    async def receipts(message: dict[str, Any]) -> Any:
        path = f"{in_room(room)}/messages/{message['id']}/receipts"
        answer = await api.send("GET", path)
        assert answer.status_code == 200, answer.text
        assert (await api.as_user(token, "GET", path)).json() == answer.json()
        assert (await api.send("GET", f"{path}?member_id={bob['id']}")).json() == answer.json()
        return answer.json()

    assert await receipts(first) == body([], [])
    await marked(api, room, bob, read=2)
    await marked(api, room, carol, delivered=3, read=1)
    await marked(api, room, alice, read=3)
    assert await receipts(first) == body([bob, carol], [bob, carol])
    assert await receipts(second) == body([bob], [bob, carol])
    assert await receipts(third) == body([], [carol])
    await api.send("DELETE", f"{in_room(room)}/members/{carol['id']}")
    assert await receipts(first) == body([bob], [bob])


async def test_receipts_are_refused_to_who_shows_none(api: ChatApi) -> None:
    alice, bob, carol = [await api.user() for _ in range(3)]
    room = await api.room(alice, bob, carol)
    message = await api.say(room, alice, "a")
    await marked(api, room, bob, read=1)
    await marked(api, room, carol, read=1)
    settings = f"{of_user(bob)}/settings"
    answer = await api.send("PATCH", settings, json={"receipts": False})
    assert answer.status_code == 200, answer.text
    path = f"{in_room(room)}/messages/{message['id']}/receipts"
    refused(await api.as_user(await api.token(bob), "GET", path), 403, "receipts_off")
    refused(await api.send("GET", f"{path}?member_id={bob['id']}"), 403, "receipts_off")
    assert (await api.send("GET", path)).json() == body([carol], [carol])
    members = (await api.send("GET", f"{in_room(room)}/members")).json()["items"]
    read = {member["user_id"]: member["last_read_seq"] for member in members}
    assert read == {alice["id"]: 0, bob["id"]: None, carol["id"]: 1}


async def test_receipts_follow_what_the_reader_may_see(api: ChatApi) -> None:
    """A stranger finds no room, a member with a cleared history no message."""
    alice, bob, stranger = [await api.user() for _ in range(3)]
    room = await api.room(alice, bob)
    message = await api.say(room, alice, "a")
    path = f"{in_room(room)}/messages/{message['id']}/receipts"
    refused(await api.as_user(await api.token(stranger), "GET", path), 404, "room_not_found")
    refused(await api.send("GET", f"{path}?member_id={stranger['id']}"), 403, "not_a_member")
    refused(await api.send("GET", f"{path}?user_id={bob['id']}"), 400, "invalid_input")
    answer = await api.as_user(await api.token(alice), "GET", f"{path}?member_id={bob['id']}")
    refused(answer, 403, "not_your_user")
    for place in (f"{in_room(room)}/messages/none/receipts",):
        refused(await api.send("GET", place), 404, "message_not_found")
    nowhere = path.replace(room["id"], "nowhere")
    refused(await api.send("GET", nowhere), 404, "room_not_found")
    mine = f"{in_room(room)}/members/{bob['id']}/mine"
    await api.send("PATCH", mine, json={"clear_history": True})
    refused(await api.as_user(await api.token(bob), "GET", path), 404, "message_not_found")
    refused(await api.send("GET", f"{path}?member_id={bob['id']}"), 404, "message_not_found")


async def test_sync_answers_the_receipts_of_small_rooms(api: ChatApi) -> None:
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    await api.say(room, alice, "a")
    await marked(api, room, bob, read=1)
    (delta,) = (await api.send("POST", f"{of_user(alice)}/sync", json={})).json()["deltas"]
    found = {each.pop("user_id"): each for each in delta["receipts"]}
    assert found == {
        alice["id"]: {"read_seq": 0, "delivered_seq": 0},
        bob["id"]: {"read_seq": 1, "delivered_seq": 1},
    }
