"""POST …/sync: what a client lacks of all its user's rooms."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused

DELTA = {
    "room",
    "mine",
    "last_seq",
    "rev",
    "epoch",
    "reset",
    "missed",
    "changed",
    "has_more",
    "receipts",
}

LARGE = "😀" * 8000


async def sync(api: ChatApi, user: dict[str, Any], **body: Any) -> dict[str, Any]:
    """With the key; a token gets the same."""
    answer = await api.send("POST", f"{of_user(user)}/sync", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) <= 512 * 1024
    found: dict[str, Any] = answer.json()
    own = await api.as_user(await api.token(user), "POST", "/api/v1/sync", json=body)
    assert own.json() == found
    return found


def had(answer: dict[str, Any]) -> dict[str, list[int]]:
    """`have` of a client that had nothing before *answer*."""
    return {
        delta["room"]["id"]: [delta["last_seq"], delta["rev"], delta["mine"]["version"]]
        for delta in answer["deltas"]
    }


async def test_a_client_without_anything_gets_its_rooms_page_by_page(api: ChatApi) -> None:
    """Newest activity first, each with its newest message; the token comes with the last page."""
    alice, bob = await api.user("alice"), await api.user("bob")
    rooms = [await api.room(alice, bob) for _ in range(3)]
    await api.room(alice)
    one = await api.say(rooms[0], alice, "one")
    first = await sync(api, bob, limit=2)
    assert set(first) == {"deltas", "removed", "unread", "epoch", "has_more", "cursor", "version"}
    assert (first["removed"], first["has_more"]) == ([], True)
    assert first["unread"] == {"rooms": 1, "messages": 1, "mentions": 0, "direct": 0}
    for delta in first["deltas"]:
        assert set(delta) == DELTA
        assert (delta["reset"], delta["changed"], delta["has_more"]) == (False, [], False)
        assert delta["epoch"] == first["epoch"]
    assert first["deltas"][0]["missed"] == [one]
    mine = await api.send("GET", f"{in_room(rooms[0])}/members/{bob['id']}/mine")
    assert first["deltas"][0]["mine"] == mine.json()
    assert first["deltas"][0]["room"] == (await api.send("GET", in_room(rooms[0]))).json()
    last = await sync(api, bob, limit=2, cursor=first["cursor"])
    assert (last["has_more"], last["cursor"], len(last["deltas"])) == (False, None, 1)
    assert isinstance(last["token"], str)
    found = [delta["room"]["id"] for answer in (first, last) for delta in answer["deltas"]]
    assert found[0] == rooms[0]["id"]
    assert sorted(found) == sorted(room["id"] for room in rooms)


async def test_only_what_differs_is_answered(api: ChatApi) -> None:
    """New messages (the newest), changes of older objects, the own side, and rooms that are gone."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room, quiet, gone = [await api.room(alice, bob) for _ in range(3)]
    old = await api.say(room, alice, "old")
    have = had(await sync(api, bob))
    assert (await sync(api, bob, have=have))["deltas"] == []
    new = [await api.say(room, alice, content) for content in ("new", "newer", "newest")]
    edit = await api.send("PATCH", f"{in_room(room)}/messages/{old['id']}", json={"content": "x"})
    await api.send("DELETE", f"{in_room(gone)}/members/{bob['id']}")
    answer = await sync(api, bob, have=have)
    assert answer["removed"] == [gone["id"]]
    (delta,) = answer["deltas"]
    assert (delta["missed"], delta["has_more"]) == ([new[2]], True)
    assert delta["changed"] == [{"rev": 1, "kind": "message", "message": edit.json()}]
    (delta,) = (await sync(api, bob, have=have, messages=2))["deltas"]
    assert (delta["missed"], delta["has_more"]) == (new[1:], True)
    (delta,) = (await sync(api, bob, have=have, messages=20))["deltas"]
    assert (delta["missed"], delta["has_more"]) == (new, False)
    (delta,) = (await sync(api, bob, have=have, messages=0))["deltas"]
    assert (delta["missed"], delta["has_more"]) == ([], True)
    have = {**have, **had(answer)}
    del have[gone["id"]]
    await api.send("PATCH", f"{in_room(quiet)}/members/{bob['id']}/mine", json={"pinned": True})
    (delta,) = (await sync(api, bob, have=have))["deltas"]
    assert (delta["room"]["id"], delta["missed"], delta["changed"]) == (quiet["id"], [], [])
    assert delta["mine"]["pinned_at"] is not None


async def test_numbers_of_another_database_reset_the_copy(api: ChatApi) -> None:
    """Another epoch resets every room; numbers beyond the room's reset that room."""
    alice, bob = await api.user("alice"), await api.user("bob")
    rooms = [await api.room(alice, bob) for _ in range(2)]
    message = await api.say(rooms[0], alice, "one")
    first = await sync(api, bob)
    answer = await sync(api, bob, have=had(first), epoch="another")
    assert [delta["reset"] for delta in answer["deltas"]] == [True, True]
    assert answer["epoch"] == first["epoch"]
    assert answer["deltas"][0]["missed"] == [message]
    for beyond in ([9, 0, 0], [1, 9, 0]):
        have = had(first) | {rooms[0]["id"]: beyond}
        (delta,) = (await sync(api, bob, have=have, epoch=first["epoch"]))["deltas"]
        assert (delta["reset"], delta["missed"], delta["changed"]) == (True, [message], [])


async def test_an_answer_ends_early_when_it_gets_too_large(api: ChatApi) -> None:
    """The cursor goes on behind the last room that fitted; a room too large alone keeps its newest messages."""
    alice, bob = await api.user("alice"), await api.user("bob")
    rooms = [await api.room(alice, bob) for _ in range(2)]
    for room in rooms:
        for _ in range(9):
            await api.say(room, alice, LARGE)
    found: list[dict[str, Any]] = []
    body: dict[str, Any] = {"messages": 20}
    for _ in range(3):
        answer = await sync(api, bob, **body)
        found += answer["deltas"]
        body["cursor"] = answer["cursor"]
        if not answer["has_more"]:
            break
    assert [delta["room"]["id"] for delta in found] == [rooms[1]["id"], rooms[0]["id"]]
    assert [len(delta["missed"]) for delta in found] == [9, 9]
    for _ in range(11):
        await api.say(rooms[0], alice, LARGE)
    (delta,) = (await sync(api, bob, messages=20, limit=1))["deltas"]
    seqs = [message["seq"] for message in delta["missed"]]
    assert delta["has_more"] is True
    assert 10 < len(seqs) < 20
    assert seqs == list(range(21 - len(seqs), 21))


@pytest.mark.parametrize(
    "body",
    [
        {"have": []},
        {"have": {"r": [1, 2]}},
        {"have": {"r": [1, 2, -1]}},
        {"have": {"r": ["1", 2, 3]}},
        {"have": {"no id!": [1, 2, 3]}},
        {"have": {f"r{n}": [0, 0, 0] for n in range(501)}},
        {"messages": 21},
        {"limit": 0},
        {"limit": 201},
        {"cursor": "x"},
        {"cursor": "WzEsMiwzXQ"},
        {"cursor": "é"},
        {"token": "!"},
        {"token": "MQ"},
        {"epoch": 1},
        {"other": 1},
    ],
)
async def test_a_bad_body_is_refused(api: ChatApi, body: dict[str, Any]) -> None:
    user = await api.user()
    refused(await api.send("POST", f"{of_user(user)}/sync", json=body), 400, "invalid_input")


async def test_whose_rooms_are_answered_the_credential_says(api: ChatApi) -> None:
    user = await api.user()
    token = await api.token(user)
    nobody = "/api/v1/projects/{pid}/users/nobody/sync"
    refused(await api.send("POST", nobody, json={}), 404, "user_not_found")
    refused(await api.as_user(token, "POST", f"{of_user(user)}/sync"), 403, "api_key_required")
    refused(await api.send("POST", "/api/v1/sync", json={}), 401, "authentication_required")
    answer = await api.as_user(token, "POST", "/api/v1/sync")
    assert (answer.json()["deltas"], answer.json()["removed"]) == ([], [])
