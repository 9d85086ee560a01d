"""Rooms by activity, page by page with a cursor, and those that a member has archived."""

import asyncio
import base64
from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, refused

ROOMS = "/api/v1/projects/{pid}/rooms"
LARGEST = 512 * 1024


def ordered(rooms: list[dict[str, Any]]) -> list[str]:
    """The ids of *rooms* by activity, worked out from what they say of themselves."""
    by_id = sorted(rooms, key=lambda room: room["id"])
    by_id.sort(key=lambda room: room["last_message_at"] or room["created_at"], reverse=True)
    return [room["id"] for room in by_id]


async def answered(api: ChatApi, **query: Any) -> dict[str, Any]:
    answer = await api.send("GET", ROOMS, params=query)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) <= LARGEST or "page" in answer.json()
    body: dict[str, Any] = answer.json()
    return body


async def walked(api: ChatApi, **query: Any) -> list[dict[str, Any]]:
    """All rooms by activity, from every page."""
    rooms: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await answered(api, sort="activity", **cursor, **query)
        assert set(page) == {"items", "limit", "next_cursor", "has_more"}
        assert page["has_more"] == (page["next_cursor"] is not None)
        rooms += page["items"]
        if not page["has_more"]:
            return rooms
        assert 0 < len(page["items"]) <= page["limit"]
        cursor = {"cursor": page["next_cursor"]}


async def archive(api: ChatApi, user: dict[str, Any], room: dict[str, Any], how: str) -> None:
    path = f"{in_room(room)}/members/{user['id']}/mine"
    assert (await api.send("PATCH", path, json={"archived": how})).status_code == 200


async def test_a_members_rooms_come_by_activity_each_once_with_their_side(api: ChatApi) -> None:
    alice, bob = await api.user("alice"), await api.user("bob")
    rooms = [await api.room(alice, bob, private=number % 2 == 1) for number in range(7)]
    await api.room(alice)
    await asyncio.sleep(0.01)  # instants have milliseconds
    for number in (2, 5, 0):
        await api.say(rooms[number], alice, str(number))
    plain = (await answered(api, member_id=bob["id"]))["items"]
    assert [room["id"] for room in plain] == sorted(room["id"] for room in rooms)
    expected = ordered(plain)
    assert set(expected[:3]) == {rooms[number]["id"] for number in (2, 5, 0)}
    for limit in (1, 3, 7, 50):
        listed = await walked(api, member_id=bob["id"], limit=limit)
        assert [room["id"] for room in listed] == expected
        assert {room["id"]: room for room in listed} == {room["id"]: room for room in plain}
    opened = await walked(api, member_id=bob["id"], private="false", limit=2)
    assert [room["id"] for room in opened] == ordered(
        [each for each in plain if not each["private"]]
    )
    token = await api.token(bob)
    own = await api.as_user(token, "GET", f"{ROOMS}?sort=activity&kind=room")
    assert [room["id"] for room in own.json()["items"]] == expected
    created = await answered(api, member_id=bob["id"], sort="created", kind="room")
    assert created["items"] == plain


async def test_rooms_of_the_project_come_by_activity_without_anybodys_side(api: ChatApi) -> None:
    alice = await api.user("alice")
    word = alice["id"][-12:]
    rooms = [await api.room(alice, name=f"{word} {number}") for number in range(4)]
    await asyncio.sleep(0.01)  # instants have milliseconds
    await api.say(rooms[1], alice, "newest")
    listed = await walked(api, q=word, limit=2)
    assert listed[0]["id"] == rooms[1]["id"]
    assert [room["id"] for room in listed] == ordered(listed)
    assert {room["id"] for room in listed} == {room["id"] for room in rooms}
    everything = [room["id"] for room in await walked(api, private="false", limit=200)]
    assert everything[0] == rooms[1]["id"]
    assert len(everything) == len(set(everything))
    assert not {"mine", "unread", "last_message"} & set(listed[0])


async def test_archived_is_what_the_member_sees_of_it(api: ChatApi) -> None:
    """One archived until the next message is back with that message, in both orders."""
    alice, bob = await api.user("alice"), await api.user("bob")
    names = ("plain", "yes", "until", "ended")
    rooms = {name: await api.room(alice, bob, name=name) for name in names}
    for room in rooms.values():
        await api.say(room, alice, "before")
    await archive(api, bob, rooms["yes"], "yes")
    await archive(api, bob, rooms["until"], "until_message")
    await archive(api, bob, rooms["ended"], "until_message")
    await api.say(rooms["yes"], alice, "after")
    await api.say(rooms["ended"], alice, "after")
    for archived, expected in (("true", {"yes", "until"}), ("false", {"plain", "ended"})):
        by_page = await answered(api, member_id=bob["id"], archived=archived)
        assert {room["name"] for room in by_page["items"]} == expected
        assert by_page["total"] == 2
        listed = await walked(api, member_id=bob["id"], archived=archived, limit=1)
        assert [room["id"] for room in listed] == ordered(by_page["items"])
    assert (await answered(api, member_id=alice["id"], archived="true"))["items"] == []
    refused(await api.send("GET", f"{ROOMS}?archived=true"), 400)
    refused(await api.send("GET", f"{ROOMS}?archived=false&sort=activity"), 400)


async def test_a_page_of_large_rooms_ends_early(api: ChatApi) -> None:
    alice = await api.user("alice")
    rooms = [await api.room(alice, metadata={"text": "x" * 4000}) for _ in range(22)]
    for room in rooms:
        await api.say(room, alice, "€" * 8000)
    page = await answered(api, member_id=alice["id"], sort="activity", limit=200)
    assert 1 < len(page["items"]) < len(rooms)
    assert page["has_more"]
    listed = await walked(api, member_id=alice["id"], limit=200)
    assert [room["id"] for room in listed] == ordered(listed)
    assert {room["id"] for room in listed} == {room["id"] for room in rooms}


async def test_there_are_no_rooms_of_another_kind(api: ChatApi) -> None:
    alice = await api.user("alice")
    await api.room(alice)
    for kind in ("direct", "thread"):
        for query in ({}, {"member_id": alice["id"]}):
            page = await answered(api, kind=kind, **query)
            assert (page["items"], page["total"], page["totalPages"]) == ([], 0, 0)
            assert await walked(api, kind=kind, **query) == []


def cursor_of(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "sort=name",
        "sort=activity&page=1",
        "sort=created&cursor=x",
        "cursor=x",
        "kind=group",
        "archived=maybe&member_id=x",
        "sort=activity&limit=0",
        "sort=activity&cursor=",
        "sort=activity&cursor=x",
        "sort=activity&cursor=~",
        "sort=activity&cursor=%C3%A4",
        "sort=activity&kind=direct&cursor=x",
        f"sort=activity&cursor={'a' * 1025}",
        "sort=activity&cursor=" + cursor_of(b"[]"),
        "sort=activity&cursor=" + cursor_of(b"[1,2]"),
        "sort=activity&cursor=" + cursor_of(b"{}"),
        "sort=activity&cursor=" + cursor_of(b"[" * 700),
        "sort=activity&cursor=" + cursor_of(b'["2026-01-01T00:00:00.000Z","a","b"]'),
        "sort=activity&cursor=" + cursor_of(rb'["2026-01-01T00:00:00.000Z","\u0000"]'),
        "sort=activity&cursor=" + cursor_of(rb'["\u0000","a"]'),
    ],
)
async def test_a_bad_query_is_refused(api: ChatApi, query: str) -> None:
    refused(await api.send("GET", f"{ROOMS}?{query}"), 400)
