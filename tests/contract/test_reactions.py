"""Reactions: one of each a user, shown with the message, the same to every reader."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.contract.servers import ChatApi, in_room, refused

THUMB, HEART, FAMILY = "👍", "❤️", "👨‍👩‍👧‍👦"


class Talk:
    """A room with a message, and what is done to the message."""

    def __init__(
        self, api: ChatApi, room: dict[str, Any], message: dict[str, Any], users: list[Any]
    ) -> None:
        self.api, self.room, self.message, self.users = api, room, message, users

    @classmethod
    async def begun(cls, api: ChatApi, members: int = 2, **more: Any) -> "Talk":
        users = [await api.user() for _ in range(members)]
        room = await api.room(*users, **more)
        return cls(api, room, await api.say(room, users[0], "hello"), users)

    @property
    def path(self) -> str:
        return f"{in_room(self.room)}/messages/{self.message['id']}"

    async def react(self, number: int, emoji: str, method: str = "PUT") -> list[dict[str, Any]]:
        """As the user with that number, with the key."""
        target = f"{self.path}/reactions/{quote(emoji, safe='')}/{self.users[number]['id']}"
        answer = await self.api.send(method, target)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"reactions"}
        reactions: list[dict[str, Any]] = answer.json()["reactions"]
        return reactions

    async def read(self, **query: Any) -> dict[str, Any]:
        answer = await self.api.send("GET", self.path, params=query)
        message: dict[str, Any] = answer.json()
        return message

    def shown(self, emoji: str, *numbers: int) -> dict[str, Any]:
        ids = [self.users[number]["id"] for number in numbers]
        return {"emoji": emoji, "count": len(ids), "user_ids": ids}


async def test_a_reaction_is_shown_with_its_message(api: ChatApi) -> None:
    """By first use, users newest first; a message without any has no such field, and its bytes of before."""
    talk = await Talk.begun(api)
    before = (await api.send("GET", f"{in_room(talk.room)}/messages")).json()["items"]
    assert before == [talk.message]
    assert await talk.react(0, THUMB) == [talk.shown(THUMB, 0)]
    await talk.react(0, FAMILY)
    both = await talk.react(1, THUMB)
    assert both == [talk.shown(THUMB, 1, 0), talk.shown(FAMILY, 0)]
    expected = {**talk.message, "rev": 3, "reactions": both}
    assert await talk.read() == expected
    page = (await api.send("GET", f"{in_room(talk.room)}/messages")).json()
    assert page["items"] == [expected]
    assert "mine" not in page
    rooms = await api.send(
        "GET", "/api/v1/projects/{pid}/rooms", params={"member_id": talk.users[1]["id"]}
    )
    assert [room["last_message"] for room in rooms.json()["items"]] == [expected]


async def test_reactions_are_idempotent_and_go_with_their_last_user(api: ChatApi) -> None:
    """A second time changes nothing and takes no rev; an emoji that comes back comes last."""
    talk = await Talk.begun(api)
    await talk.react(0, THUMB)
    await talk.react(1, HEART)
    again = await talk.react(0, THUMB)
    assert (await talk.read())["rev"] == 2
    assert again == [talk.shown(THUMB, 0), talk.shown(HEART, 1)]
    assert await talk.react(0, THUMB, "DELETE") == [talk.shown(HEART, 1)]
    assert await talk.react(0, THUMB, "DELETE") == [talk.shown(HEART, 1)]
    assert (await talk.read())["rev"] == 3
    assert await talk.react(0, THUMB) == [talk.shown(HEART, 1), talk.shown(THUMB, 0)]
    await talk.react(0, THUMB, "DELETE")
    assert await talk.react(1, HEART, "DELETE") == []
    left = await talk.read()
    assert left == {**talk.message, "rev": 6}


async def test_users_react_for_themselves(api: ChatApi) -> None:
    """With a token: the route without a user id. The key has the other one."""
    talk = await Talk.begun(api)
    token = await api.token(talk.users[1])
    target = f"{talk.path}/reactions/{quote(THUMB)}"
    assert (await api.as_user(token, "PUT", target)).json() == {"reactions": [talk.shown(THUMB, 1)]}
    assert (await api.as_user(token, "DELETE", target)).json() == {"reactions": []}
    refused(await api.send("PUT", target), 401, "authentication_required")
    for user in talk.users:
        answer = await api.as_user(token, "PUT", f"{target}/{user['id']}")
        refused(answer, 403, "api_key_required")


@pytest.mark.parametrize(
    "emoji",
    [
        THUMB,
        "👍🏽",
        "❤",
        HEART,
        FAMILY,
        "🇩🇪",
        "1️⃣",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        ":+1:",
        ":party_parrot:",
        ":é:",
        ":" + "x" * 62 + ":",
    ],
)
async def test_one_emoji_or_a_name_is_a_reaction(api: ChatApi, emoji: str) -> None:
    talk = await Talk.begun(api, 1)
    assert await talk.react(0, emoji) == [talk.shown(emoji, 0)]
    assert await talk.react(0, emoji, "DELETE") == []


@pytest.mark.parametrize(
    "segment",
    [
        *("a", "1", "thumbs", "%F0%9F%91%8D%F0%9F%91%8D", "%F0%9F%87%A9", "%3A%3A", "%20"),
        *("%3Aa%20b%3A", "%3Aa%0Ab%3A", "%3Aa%2Fb%3A", "%3A" + "x" * 63 + "%3A", "%FF", "%00"),
        *("%F0%9F%91%8D%20", "%E2%80%8D", "x" * 300),
    ],
)
async def test_anything_else_is_refused(api: ChatApi, segment: str) -> None:
    """Letters, two emoji, half a flag, spaces, controls, more than 64 bytes, no UTF-8."""
    talk = await Talk.begun(api, 1)
    target = f"{talk.path}/reactions/{segment}/{talk.users[0]['id']}"
    for method in ("PUT", "DELETE"):
        body = refused(await api.send(method, target), 400, "invalid_input")
        assert [error["field"] for error in body["errors"]] == ["emoji"]


async def test_a_reaction_is_one_in_every_spelling(api: ChatApi) -> None:
    """It is kept in NFC."""
    talk = await Talk.begun(api)
    await talk.react(0, ":é:")
    assert await talk.react(1, ":e\u0301:") == [talk.shown(":é:", 1, 0)]


async def test_a_message_takes_twenty_different_reactions(api: ChatApi) -> None:
    """One of those that are there is taken by any number of users."""
    talk = await Talk.begun(api)
    for number in range(20):
        await talk.react(0, f":{number}:")
    target = f"{talk.path}/reactions/{quote(THUMB)}/{talk.users[1]['id']}"
    refused(await api.send("PUT", target), 409, "too_many_reactions")
    assert len(await talk.react(1, ":7:")) == 20
    await talk.react(0, ":0:", "DELETE")
    assert (await api.send("PUT", target)).status_code == 200


async def test_a_deleted_message_has_no_reactions(api: ChatApi) -> None:
    talk = await Talk.begun(api)
    await talk.react(0, THUMB)
    await api.send("DELETE", talk.path)
    assert "reactions" not in await talk.read()
    assert (await api.send("GET", f"{talk.path}/reactions")).json()["items"] == []
    target = f"{talk.path}/reactions/{quote(THUMB)}/{talk.users[0]['id']}"
    refused(await api.send("PUT", target), 409, "message_deleted")
    assert (await api.send("DELETE", target)).json() == {"reactions": []}


async def test_ten_users_are_shown_and_a_reader_is_told_their_own(api: ChatApi) -> None:
    """The newest ten; `mine` where that hides some, on pages that are otherwise the same for all."""
    talk = await Talk.begun(api, 12)
    for number in range(12):
        await talk.react(number, THUMB)
    await talk.react(0, HEART)
    first, last = talk.users[0], talk.users[11]
    shown = (await talk.read())["reactions"][0]
    assert shown["count"] == 12
    assert shown["user_ids"] == [user["id"] for user in talk.users[:1:-1]]
    path, token = in_room(talk.room), await api.token(first)
    own = {talk.message["id"]: [THUMB, HEART]}
    pages = [
        f"{path}/messages",
        f"{path}/messages?before=5",
        f"{path}/messages?around=1",
        f"{path}/messages?ids={talk.message['id']}",
        f"{path}/changes?since_rev=0",
        talk.path,
        "/api/v1/projects/{pid}/rooms",
    ]
    for page in pages:
        answer = (await api.as_user(token, "GET", page)).json()
        assert answer["mine"] == own, page
    sep = {True: "&", False: "?"}
    for page in pages[:4] + pages[5:6]:
        answer = (await api.send("GET", page)).json()
        assert "mine" not in answer, page
        by_key = await api.send("GET", f"{page}{sep['?' in page]}viewer_id={last['id']}")
        assert by_key.json() == {**answer, "mine": {talk.message["id"]: [THUMB]}}
    body = {"have": {talk.room["id"]: [0, 0, 0]}}
    (delta,) = (await api.as_user(token, "POST", "/api/v1/sync", json=body)).json()["deltas"]
    assert delta["own_reactions"] == own
    await talk.react(11, THUMB, "DELETE")
    shown = (await talk.read())["reactions"][0]
    assert (shown["count"], len(shown["user_ids"])) == (11, 10)
    assert shown["user_ids"][-1] == talk.users[1]["id"]
    await talk.react(5, THUMB, "DELETE")
    answer = (await api.as_user(token, "GET", pages[0])).json()
    assert "mine" not in answer
    assert answer["items"][0]["reactions"][0]["count"] == 10


async def test_who_reacted_is_listed_page_by_page(api: ChatApi) -> None:
    """By first use, of each emoji the newest first; or of one emoji alone."""
    talk = await Talk.begun(api, 5)
    for number in range(5):
        await talk.react(number, THUMB)
    for number in (1, 3):
        await talk.react(number, HEART)
    expected = [(THUMB, number) for number in (4, 3, 2, 1, 0)] + [(HEART, 3), (HEART, 1)]

    async def listed(limit: int, **query: Any) -> list[dict[str, Any]]:
        found, cursor = [], None
        while True:
            more = {"cursor": cursor} if cursor else {}
            params = {"limit": limit, **query, **more}
            page = (await api.send("GET", f"{talk.path}/reactions", params=params)).json()
            assert len(page["items"]) <= limit
            found += page["items"]
            cursor = page["next_cursor"]
            assert page["has_more"] is (cursor is not None)
            if cursor is None:
                return found

    for limit in (1, 2, 3, 5, 7, 50):
        items = await listed(limit)
        ids = [user["id"] for user in talk.users]
        assert [(item["emoji"], ids.index(item["user_id"])) for item in items] == expected
    hearts = await listed(1, emoji=HEART)
    assert [item["user_id"] for item in hearts] == [ids[3], ids[1]]
    assert hearts[0].keys() == {"emoji", "user_id", "username", "display_name", "created_at"}
    assert hearts[0]["username"] == talk.users[3]["username"]
    assert await listed(5, emoji="😀") == []
    for query in ({"emoji": "x"}, {"cursor": "x"}, {"cursor": "WzFd"}, {"limit": 0}, {"page": 1}):
        answer = await api.send("GET", f"{talk.path}/reactions", params=query)
        refused(answer, 400, "invalid_input")


async def test_strangers_learn_nothing_and_guests_do_not_react(api: ChatApi) -> None:
    """A stranger's room is not there; the key reacts in the name of members alone."""
    talk = await Talk.begun(api)
    stranger, missing = await api.user(), f"{in_room(talk.room)}/messages/nothing"
    theirs, token = await api.token(stranger), await api.token(talk.users[1])
    target = f"/reactions/{quote(THUMB)}"
    for method, path in (
        ("PUT", talk.path + target),
        ("DELETE", talk.path + target),
        ("PUT", missing + target),
        ("GET", f"{talk.path}/reactions"),
        ("GET", f"{missing}/reactions"),
    ):
        refused(await api.as_user(theirs, method, path), 404, "room_not_found")
    for method, path in (("PUT", missing + target), ("GET", f"{missing}/reactions")):
        refused(await api.as_user(token, method, path), 404, "message_not_found")
    answer = await api.send("PUT", f"{talk.path}{target}/{stranger['id']}")
    refused(answer, 403, "not_a_member")
    assert (await api.send("DELETE", f"{talk.path}{target}/{stranger['id']}")).status_code == 200
    role = f"{in_room(talk.room)}/members/{talk.users[1]['id']}"
    assert (await api.send("PUT", role, json={"role": "guest"})).status_code == 200
    refused(await api.as_user(token, "PUT", talk.path + target), 403, "read_only")
    for method in ("PUT", "DELETE"):
        answer = await api.send(method, f"{talk.path}{target}/{talk.users[1]['id']}")
        refused(answer, 403, "read_only")


async def test_the_body_of_a_reaction_is_empty(api: ChatApi) -> None:
    talk = await Talk.begun(api, 1)
    target = f"{talk.path}/reactions/{quote(THUMB)}/{talk.users[0]['id']}"
    answer: httpx.Response = await api.send("PUT", target, json={"user_id": "x"})
    refused(answer, 400, "invalid_input")
    assert (await api.send("PUT", target, json={})).status_code == 200
