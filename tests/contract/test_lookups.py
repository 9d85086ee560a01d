"""Messages by their ids and around one; edits that look before they write."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, refused


async def room_of(api: ChatApi, messages: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    owner = await api.user()
    room = await api.room(owner)
    return room, [await api.say(room, owner, f"text {n}") for n in range(1, messages + 1)]


async def listed(api: ChatApi, room: dict[str, Any], **query: Any) -> dict[str, Any]:
    answer = await api.send("GET", f"{in_room(room)}/messages", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_one_message_by_its_id(api: ChatApi) -> None:
    """As it is now, a deleted one too; not in another room."""
    room, (one, two) = await room_of(api, 2)
    path = f"{in_room(room)}/messages"
    assert (await api.send("GET", f"{path}/{one['id']}")).json() == one
    await api.send("DELETE", f"{path}/{two['id']}")
    deleted = (await api.send("GET", f"{path}/{two['id']}")).json()
    assert (deleted["content"], deleted["seq"], deleted["rev"]) == ("", 2, 1)
    refused(await api.send("GET", f"{path}/nothing"), 404, "message_not_found")
    other, _ = await room_of(api, 0)
    crossed = await api.send("GET", f"{in_room(other)}/messages/{one['id']}")
    refused(crossed, 404, "message_not_found")
    nowhere = await api.send("GET", f"/api/v1/projects/{{pid}}/rooms/nowhere/messages/{one['id']}")
    refused(nowhere, 404, "room_not_found")


async def test_some_messages_by_their_ids(api: ChatApi) -> None:
    """In order of `seq`, each once; unknown ids and those of other rooms are left out."""
    room, messages = await room_of(api, 4)
    _, (stranger,) = await room_of(api, 1)
    ids = [messages[2]["id"], "unknown", messages[0]["id"], stranger["id"], messages[2]["id"]]
    page = await listed(api, room, ids=",".join(ids))
    assert page["items"] == [messages[0], messages[2]]
    assert (page["total"], page["has_more"]) == (2, False)
    assert (await listed(api, room, ids="unknown"))["items"] == []
    path = f"{in_room(room)}/messages"
    for query in ("ids=", "ids=a,,b", "ids=a/b", "ids=a&page=1", "ids=a&around=1", "ids=a&limit=1"):
        refused(await api.send("GET", f"{path}?{query}"), 400, "invalid_input")
    many = ",".join(f"m{n}" for n in range(51))
    refused(await api.send("GET", f"{path}?ids={many}"), 400, "invalid_input")
    nowhere = "/api/v1/projects/{pid}/rooms/nowhere/messages?ids=a"
    refused(await api.send("GET", nowhere), 404, "room_not_found")


@pytest.mark.parametrize(
    ("seq", "limit", "seqs", "before", "after"),
    [
        (5, 3, [4, 5, 6], True, True),
        (5, 4, [3, 4, 5, 6], True, True),
        (1, 3, [1, 2, 3], False, True),
        (9, 3, [7, 8, 9], True, False),
        (99, 2, [8, 9], True, False),
        (5, 50, [1, 2, 3, 4, 5, 6, 7, 8, 9], False, False),
        (5, 1, [5], True, True),
    ],
)
async def test_messages_around_one(
    api: ChatApi, seq: int, limit: int, seqs: list[int], before: bool, after: bool
) -> None:
    """As many on both sides as there are; never fewer than fit."""
    room, _ = await room_of(api, 9)
    page = await listed(api, room, around=seq, limit=limit)
    assert [item["seq"] for item in page["items"]] == seqs
    assert (page["has_before"], page["has_after"], page["total"]) == (before, after, 9)


async def test_around_in_a_room_without_messages(api: ChatApi) -> None:
    room, _ = await room_of(api, 0)
    page = await listed(api, room, around=1)
    assert (page["items"], page["has_before"], page["has_after"]) == ([], False, False)
    path = f"{in_room(room)}/messages"
    for query in ("around=0", "around=x", "around=1&before=2", "around=1&page=1"):
        refused(await api.send("GET", f"{path}?{query}"), 400, "invalid_input")


async def test_large_messages_around_one_end_early_on_both_sides(api: ChatApi) -> None:
    """At 512 KiB; the one asked for is there, and those next to it."""
    owner = await api.user()
    room = await api.room(owner)
    for _ in range(30):
        await api.say(room, owner, "\U0001f600" * 8000)
    answer = await api.send("GET", f"{in_room(room)}/messages", params={"around": 15})
    assert len(answer.content) <= 512 * 1024
    page = answer.json()
    seqs = [item["seq"] for item in page["items"]]
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert seqs[0] < 15 < seqs[-1]
    assert page["has_before"]
    assert page["has_after"]


async def test_an_edit_may_ask_that_nobody_was_quicker(api: ChatApi) -> None:
    """`if_rev` is the message's rev, 0 before its first change; else 409 with the present one."""
    room, (message,) = await room_of(api, 1)
    path = f"{in_room(room)}/messages/{message['id']}"

    async def edit(**body: Any) -> Any:
        return await api.send("PATCH", path, json=body)

    assert (await edit(content="a", if_rev=0)).json()["rev"] == 1
    late = await edit(content="b", if_rev=0)
    assert (late.status_code, late.json()["code"], late.json()["rev"]) == (409, "changed", 1)
    assert (await edit(content="b", if_rev=1)).json()["rev"] == 2
    assert (await edit(content="c")).json()["content"] == "c"
    refused(await edit(content="d", if_rev=-1), 400)


async def test_an_edit_changes_what_it_names(api: ChatApi) -> None:
    """Content, metadata or both; nothing at all is 400."""
    room, (message,) = await room_of(api, 1)
    path = f"{in_room(room)}/messages/{message['id']}"
    edited = (await api.send("PATCH", path, json={"metadata": {"a": 1}})).json()
    assert (edited["content"], edited["metadata"]) == ("text 1", {"a": 1})
    edited = (await api.send("PATCH", path, json={"content": "new"})).json()
    assert (edited["content"], edited["metadata"]) == ("new", {"a": 1})
    assert (await api.send("GET", path)).json() == edited
    edited = (await api.send("PATCH", path, json={"content": "x", "metadata": None})).json()
    assert edited["metadata"] == {}
    for body in ({}, {"if_rev": 3}):
        refused(await api.send("PATCH", path, json=body), 400, "invalid_input")


async def test_a_rooms_owner_edits_nobody_elses_message(api: ChatApi) -> None:
    """But may delete it."""
    owner, author = await api.user(), await api.user()
    room = await api.room(owner, author)
    message = await api.say(room, author, "mine")
    path, token = f"{in_room(room)}/messages/{message['id']}", await api.token(owner)
    edit = await api.as_user(token, "PATCH", path, json={"content": "x"})
    refused(edit, 403, "not_the_author")
    assert (await api.as_user(token, "DELETE", path)).status_code == 204


async def test_who_cleared_the_history_finds_nothing_before(api: ChatApi) -> None:
    """Neither by id nor around; the key still does."""
    room, (one, two) = await room_of(api, 2)
    token = await api.token({"id": one["user_id"]})
    path = f"{in_room(room)}/messages"
    cleared = await api.as_user(
        token, "PATCH", f"{in_room(room)}/mine", json={"clear_history": True}
    )
    assert cleared.status_code == 200
    three = await api.say(room, {"id": one["user_id"]}, "three")
    refused(await api.as_user(token, "GET", f"{path}/{two['id']}"), 404, "message_not_found")
    ids = {"ids": ",".join(each["id"] for each in (one, two, three))}
    assert (await api.as_user(token, "GET", path, params=ids)).json()["items"] == [three]
    around = (await api.as_user(token, "GET", path, params={"around": 1})).json()
    assert (around["items"], around["has_before"], around["total"]) == ([three], False, 1)
    assert len((await listed(api, room, **ids))["items"]) == 3
