"""A message may answer another one of its room, and shows it as it is now."""

from typing import Any

from tests.contract.servers import ChatApi, in_room, refused


async def read(api: ChatApi, path: str) -> dict[str, Any]:
    answer = await api.send("GET", path)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_reply_shows_the_beginning_of_what_it_answers(api: ChatApi) -> None:
    """Id, number, author and 200 characters, in the response and wherever the message is read."""
    alice, bob = await api.user(display_name="Alice A."), await api.user()
    room = await api.room(alice, bob)
    question = await api.say(room, alice, "é" * 300)
    reply = await api.say(room, bob, "yes", reply_to=question["id"])
    assert reply["reply_to"] == {
        "id": question["id"],
        "seq": 1,
        "user_id": alice["id"],
        "username": alice["username"],
        "display_name": "Alice A.",
        "content": "é" * 200,
    }
    messages = f"{in_room(room)}/messages"
    for path in (
        messages,
        f"{messages}?before=3",
        f"{messages}?after=1",
        f"{messages}?around=2",
        f"{messages}?ids={reply['id']}",
    ):
        items = (await read(api, path))["items"]
        assert reply in items, path
    assert await read(api, f"{messages}/{reply['id']}") == reply
    rooms = await read(api, f"/api/v1/projects/{{pid}}/rooms?member_id={alice['id']}")
    assert rooms["items"][0]["last_message"] == reply
    assert "reply_to" not in question


async def test_a_quote_follows_edits_and_deletions(api: ChatApi) -> None:
    """It is read from the quoted message each time."""
    alice = await api.user()
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    question = await api.say(room, alice, "one")
    reply = await api.say(room, alice, "yes", reply_to=question["id"])
    await api.send("PATCH", f"{path}/{question['id']}", json={"content": "two"})
    assert (await read(api, f"{path}/{reply['id']}"))["reply_to"]["content"] == "two"
    await api.send("DELETE", f"{path}/{question['id']}")
    after = await read(api, f"{path}/{reply['id']}")
    assert after["reply_to"]["content"] == ""
    assert "rev" not in after, "a reply does not change with what it quotes"
    edited = await api.send("PATCH", f"{path}/{reply['id']}", json={"content": "no"})
    assert edited.json()["reply_to"]["id"] == question["id"]


async def test_only_a_message_of_the_same_room_can_be_answered(api: ChatApi) -> None:
    alice, bob = await api.user(), await api.user()
    room, other = await api.room(alice, bob), await api.room(alice, bob)
    elsewhere = await api.say(other, alice, "x")
    token = await api.token(bob)
    for reply_to in (elsewhere["id"], "nothing"):
        body = {"content": "y", "reply_to": reply_to}
        path = f"{in_room(room)}/messages"
        refused(await api.as_user(token, "POST", path, json=body), 404, "message_not_found")
        body["user_id"] = alice["id"]
        refused(await api.send("POST", path, json=body), 404, "message_not_found")
    assert (await read(api, in_room(room)))["last_seq"] == 0
    body = {"content": "y", "reply_to": 5, "user_id": alice["id"]}
    answer = await api.send("POST", f"{in_room(room)}/messages", json=body)
    assert refused(answer, 400, "invalid_input")["errors"][0]["field"] == "reply_to"


async def test_who_has_cleared_the_history_sees_no_quote_of_it(api: ChatApi) -> None:
    """What was said before `from_seq` is neither quoted to them nor answered by them."""
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    path = in_room(room)
    secret = await api.say(room, alice, "secret")
    member = f"{path}/members/{bob['id']}/mine"
    assert (await api.send("PATCH", member, json={"clear_history": True})).status_code == 200
    reply = await api.say(room, alice, "as I said", reply_to=secret["id"])
    assert reply["reply_to"]["content"] == "secret"
    token = await api.token(bob)
    for query in ("", "?after=1", "?around=2", f"?ids={reply['id']}"):
        answer = await api.as_user(token, "GET", f"{path}/messages{query}")
        (item,) = answer.json()["items"]
        assert item["reply_to"]["content"] == ""
        assert "secret" not in answer.text
    for answer in (
        await api.as_user(token, "GET", f"{path}/messages/{reply['id']}"),
        await api.as_user(token, "GET", "/api/v1/projects/{pid}/rooms"),
        await api.as_user(token, "POST", "/api/v1/sync", json={"messages": 20}),
    ):
        assert answer.status_code == 200
        assert reply["id"] in answer.text
        assert "secret" not in answer.text
    body = {"content": "what?", "reply_to": secret["id"]}
    answer = await api.as_user(token, "POST", f"{path}/messages", json=body)
    refused(answer, 404, "message_not_found")


async def test_changes_hold_what_later_messages_quote(api: ChatApi) -> None:
    """Changed messages from `from_seq` on, and those below it that one from `from_seq` on quotes."""
    alice = await api.user()
    room = await api.room(alice)
    path = in_room(room)
    first, second = await api.say(room, alice, "1"), await api.say(room, alice, "2")
    await api.say(room, alice, "3", reply_to=first["id"])
    for message in (first, second):
        await api.send("PATCH", f"{path}/messages/{message['id']}", json={"content": "changed"})

    async def changed(from_seq: int) -> list[int]:
        found = await read(api, f"{path}/changes?since_rev=0&from_seq={from_seq}")
        return [item["message"]["seq"] for item in found["items"]]

    assert await changed(1) == [1, 2]
    assert await changed(2) == [1, 2]
    assert await changed(3) == [1]
    assert await changed(4) == []


async def test_a_repeat_answers_the_first_reply(api: ChatApi) -> None:
    """With the same client_msg_id, and with the same Idempotency-Key."""
    alice = await api.user()
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    question = await api.say(room, alice, "?")
    one = await api.say(room, alice, "!", reply_to=question["id"], client_msg_id="c")
    assert await api.say(room, alice, "!", reply_to=question["id"], client_msg_id="c") == one
    body = {"content": "!", "reply_to": question["id"], "user_id": alice["id"]}
    key = {"Idempotency-Key": "k"}
    first = await api.send("POST", path, json=body, headers=key)
    assert (await api.send("POST", path, json=body, headers=key)).content == first.content
    other = await api.send("POST", path, json=body | {"reply_to": one["id"]}, headers=key)
    refused(other, 422, "idempotency_key_reused")


async def test_a_key_that_is_used_again_tells_of_a_deleted_message_as_it_is_now(
    api: ChatApi,
) -> None:
    """No text comes back that the message does not have any more."""
    alice = await api.user()
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    body = {"content": "secret", "user_id": alice["id"]}
    key = {"Idempotency-Key": "k"}
    message = (await api.send("POST", path, json=body, headers=key)).json()
    await api.send("PATCH", f"{path}/{message['id']}", json={"content": "edited"})
    assert (await api.send("POST", path, json=body, headers=key)).json() == message
    await api.send("DELETE", f"{path}/{message['id']}")
    again = await api.send("POST", path, json=body, headers=key)
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == await read(api, f"{path}/{message['id']}")
    assert "secret" not in again.text


async def test_a_purged_message_is_nowhere(api: ChatApi) -> None:
    """Nor in an answer that is kept for an Idempotency-Key; purging what was deleted removes that, too."""
    alice = await api.user()
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    for already_deleted in (False, True):
        body = {"content": "secret", "user_id": alice["id"]}
        key = {"Idempotency-Key": f"k{already_deleted}"}
        message = (await api.send("POST", path, json=body, headers=key)).json()
        if already_deleted:
            await api.send("DELETE", f"{path}/{message['id']}")
        purge = f"{path}/{message['id']}?purge=true"
        refused(await api.as_user(await api.token(alice), "DELETE", purge), 403, "api_key_required")
        assert (await api.send("DELETE", purge)).status_code == 204
        assert (await api.send("DELETE", purge)).status_code == 204
        again = await api.send("POST", path, json=body, headers=key)
        assert again.json()["deleted_at"] is not None
        assert "secret" not in again.text
    bad = await api.send("DELETE", f"{path}/{message['id']}?purge=yes")
    assert refused(bad, 400, "invalid_input")["errors"][0]["field"] == "purge"


async def test_a_purge_finds_what_was_answered_under_another_name_of_the_room(
    api: ChatApi,
) -> None:
    """`external:…` and the id are one path: for the Idempotency-Key, too."""
    alice = await api.user()
    room = await api.room(alice, external_id=f"mine-{alice['id']}")
    paths = [
        f"{in_room(room)}/messages",
        f"/api/v1/projects/{{pid}}/rooms/external:mine-{alice['id']}/messages",
    ]
    body = {"content": "secret", "user_id": alice["id"]}
    key = {"Idempotency-Key": "k"}
    message, again = [
        (await api.send("POST", path, json=body, headers=key)).json() for path in paths[::-1]
    ]
    assert again == message
    await api.send("DELETE", f"{paths[0]}/{message['id']}?purge=true")
    answer = await api.send("POST", paths[1], json=body, headers=key)
    assert answer.json()["deleted_at"] is not None
    assert "secret" not in answer.text
