"""Users whom a user does not want to hear of."""

from typing import Any

import httpx
import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused

User = dict[str, Any]


def public(user: User) -> dict[str, Any]:
    return {name: user[name] for name in ("id", "username", "display_name", "avatar_url")}


async def act(api: ChatApi, method: str, user: User, other: User) -> None:
    answer = await api.send(method, f"{of_user(user)}/blocks/{other['id']}")
    assert (answer.status_code, answer.content) == (204, b""), answer.text


async def read(api: ChatApi, path: str) -> dict[str, Any]:
    answer = await api.send("GET", path)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def blocked(api: ChatApi, user: User) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await read(api, f"{of_user(user)}/blocks"))["items"]
    return items


async def sync(api: ChatApi, user: User, **body: Any) -> dict[str, Any]:
    answer = await api.send("POST", f"{of_user(user)}/sync", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_blocks_are_listed_page_by_page_as_others_see_the_users(api: ChatApi) -> None:
    """Blocking or unblocking again changes nothing; each user has a list of their own."""
    user = await api.user()
    others = [
        await api.user("other", display_name="Other", avatar_url="https://example.com/a.png"),
        await api.user("plain"),
    ]
    for other in (*others, others[0]):
        await act(api, "PUT", user, other)
    page = await read(api, f"{of_user(user)}/blocks")
    items = sorted(map(public, others), key=lambda each: str(each["id"]))
    assert page == {"items": items, "page": 1, "limit": 50, "total": 2, "totalPages": 1}
    second = await read(api, f"{of_user(user)}/blocks?page=2&limit=1")
    assert (second["items"], second["totalPages"]) == (items[1:], 2)
    assert await blocked(api, others[0]) == []
    for _ in range(2):
        await act(api, "DELETE", user, others[0])
    assert await blocked(api, user) == [public(others[1])]


async def test_a_user_does_not_block_themself_or_somebody_who_is_not_there(api: ChatApi) -> None:
    user, gone = await api.user(), await api.user()
    await api.send("DELETE", of_user(gone))
    path = f"{of_user(user)}/blocks"
    answer = await api.send("PUT", f"{path}/{user['id']}")
    assert [error["field"] for error in refused(answer, 400)["errors"]] == ["user"]
    for other in (gone["id"], "nobody", "a!b"):
        refused(await api.send("PUT", f"{path}/{other}"), 404, "user_not_found")
    for method, where in (("GET", ""), ("PUT", f"/{user['id']}"), ("DELETE", f"/{user['id']}")):
        answer = await api.send(method, f"{of_user(gone)}/blocks{where}")
        refused(answer, 404, "user_not_found")
    assert await blocked(api, user) == []
    assert (await sync(api, user))["version"] == 0


async def test_messages_of_the_blocked_are_not_unread(api: ChatApi) -> None:
    """In every answer that counts, for who blocks alone; they are still there to read. Unblocking brings them back."""
    user, blocked_user, other = [await api.user(name) for name in ("user", "blocked", "other")]
    room = await api.room(other, user, blocked_user)
    await api.say(room, blocked_user, "one")
    await api.say(room, other, "two")
    last = await api.say(room, blocked_user, "three")
    await api.send("DELETE", f"{in_room(room)}/messages/{last['id']}")

    async def counts(reader: User) -> list[int]:
        mine = await read(api, f"{in_room(room)}/members/{reader['id']}/mine")
        rooms = await read(api, f"/api/v1/projects/{{pid}}/rooms?member_id={reader['id']}")
        delta = (await sync(api, reader))["deltas"][0]
        totals = await read(api, f"{of_user(reader)}/unread")
        marked = await api.send(
            "PUT", f"{in_room(room)}/read", json={"user_id": reader["id"], "seq": 0}
        )
        return [
            mine["unread"],
            rooms["items"][0]["unread"],
            delta["mine"]["unread"],
            totals["messages"],
            marked.json()["unread"],
        ]

    assert await counts(user) == [2] * 5
    await act(api, "PUT", user, blocked_user)
    assert await counts(user) == [1] * 5
    assert await counts(blocked_user) == [1] * 5
    await api.send("DELETE", f"{in_room(room)}/members/{blocked_user['id']}")
    assert await counts(user) == [1] * 5
    page = await read(api, f"{in_room(room)}/messages")
    assert [message["content"] for message in page["items"]] == ["", "two", "one"]
    await act(api, "DELETE", user, blocked_user)
    assert await counts(user) == [2] * 5


async def test_a_client_that_knows_another_version_is_told_to_reload(api: ChatApi) -> None:
    """Each block and each end of one counts; what changes nothing does not. Every page of an answer says the version."""
    user, other = await api.user(), await api.user()
    for _ in range(2):
        await api.room(user)
    answer = await sync(api, user, limit=1)
    assert (answer["version"], answer["has_more"], "reload" in answer) == (0, True, False)
    last = await sync(api, user, limit=1, cursor=answer["cursor"])
    assert (last["version"], last["has_more"]) == (0, False)
    for version, method in enumerate(("PUT", "DELETE"), 1):
        for _ in range(2):
            await act(api, method, user, other)
        answer = await sync(api, user, have_version=version - 1)
        assert (answer["version"], answer["reload"]) == (version, True)
        for known in ({"have_version": version}, {}):
            answer = await sync(api, user, **known)
            assert (answer["version"], "reload" in answer) == (version, False)
    assert (await sync(api, other))["version"] == 0


async def test_a_deleted_user_blocks_nobody_and_is_not_listed(api: ChatApi) -> None:
    """What a deleted user had said before does not become unread for who blocked them."""
    user, gone = await api.user(), await api.user()
    room = await api.room(user, gone)
    await api.say(room, gone, "hello")
    await act(api, "PUT", user, gone)
    await act(api, "PUT", gone, user)
    await api.send("DELETE", of_user(gone))
    assert await blocked(api, user) == []
    assert (await read(api, f"{of_user(user)}/unread"))["messages"] == 0
    await act(api, "DELETE", user, gone)
    assert (await read(api, f"{of_user(user)}/unread"))["messages"] == 1


async def direct_room(api: ChatApi, *users: User, **more: Any) -> httpx.Response:
    body = {"user_ids": [user["id"] for user in users], **more}
    return await api.send("PUT", "/api/v1/projects/{pid}/direct", json=body)


async def say(api: ChatApi, room: dict[str, Any], user: User) -> httpx.Response:
    body = {"content": "hello", "user_id": user["id"]}
    return await api.send("POST", f"{in_room(room)}/messages", json=body)


@pytest.mark.parametrize("blocker", [0, 1])
async def test_no_direct_room_of_the_two_is_made(api: ChatApi, blocker: int) -> None:
    """Whoever of them blocks; nor one with others by one of the two. The others make theirs, and so do they afterwards."""
    pair = [await api.user(), await api.user()]
    third = await api.user()
    await act(api, "PUT", pair[blocker], pair[1 - blocker])
    refused(await direct_room(api, *pair), 403, "blocked")
    refused(await direct_room(api, *pair, third, created_by=pair[0]["id"]), 403, "blocked")
    for user in pair:
        assert (await direct_room(api, user)).status_code == 201
        assert (await direct_room(api, user, third)).status_code == 201
    listed = await read(api, f"/api/v1/projects/{{pid}}/rooms?member_id={pair[0]['id']}")
    assert listed["total"] == 2
    await act(api, "DELETE", pair[blocker], pair[1 - blocker])
    assert (await direct_room(api, *pair)).status_code == 201


@pytest.mark.parametrize("blocker", [0, 1])
async def test_nobody_posts_to_a_direct_room_of_the_two(api: ChatApi, blocker: int) -> None:
    """With key or token, nor says something by an edit or a reaction. It is still there to read; other rooms of both go on."""
    pair = [await api.user(), await api.user()]
    third = await api.user()
    room = (await direct_room(api, *pair)).json()
    others = [
        (await direct_room(api, *pair, third)).json(),
        (await direct_room(api, pair[0], third)).json(),
        await api.room(*pair),
    ]
    first = await api.say(room, pair[0], "hello")
    await act(api, "PUT", pair[blocker], pair[1 - blocker])
    assert (await direct_room(api, *pair)).status_code == 200
    for user in pair:
        refused(await say(api, room, user), 403, "blocked")
        token = await api.token(user)
        sent = await api.as_user(
            token, "POST", f"{in_room(room)}/messages", json={"content": "hello"}
        )
        refused(sent, 403, "blocked")
        read_again = await api.as_user(token, "GET", f"{in_room(room)}/messages")
        assert [each["id"] for each in read_again.json()["items"]] == [first["id"]]
    message = f"{in_room(room)}/messages/{first['id']}"
    refused(await api.send("PATCH", message, json={"content": "again"}), 403, "blocked")
    thumb = f"{message}/reactions/%F0%9F%91%8D"
    assert (await api.as_user(await api.token(pair[1]), "PUT", thumb)).status_code == 403
    for other in others:
        assert (await say(api, other, pair[0])).status_code == 201
    assert (await read(api, in_room(room)))["last_seq"] == 1
    await act(api, "DELETE", pair[blocker], pair[1 - blocker])
    assert (await say(api, room, pair[1])).json()["seq"] == 2
