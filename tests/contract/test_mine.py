"""A member's own side of a room: marks, settings, hidden history, and what is unread in all rooms."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused

FAR = "2999-01-01T00:00:00.000Z"
PAST = "2020-01-01T00:00:00.000Z"


class Side:
    """Alice's room and Bob's side of it, read and changed with the key."""

    def __init__(self, api: ChatApi, alice: dict[str, Any], bob: dict[str, Any]) -> None:
        self.api = api
        self.alice = alice
        self.bob = bob
        self.room: dict[str, Any] = {}

    @classmethod
    async def of(cls, api: ChatApi) -> "Side":
        side = cls(api, await api.user("alice"), await api.user("bob"))
        side.room = await api.room(side.alice, side.bob)
        return side

    @property
    def path(self) -> str:
        return f"{in_room(self.room)}/members/{self.bob['id']}/mine"

    async def get(self) -> dict[str, Any]:
        answer = await self.api.send("GET", self.path)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def patch(self, **changes: Any) -> dict[str, Any]:
        answer = await self.api.send("PATCH", self.path, json=changes)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body == await self.get()
        return body

    async def say(self, *contents: str) -> list[dict[str, Any]]:
        return [await self.api.say(self.room, self.alice, content) for content in contents]

    async def read(self, seq: int) -> None:
        body = {"user_id": self.bob["id"], "seq": seq}
        answer = await self.api.send("PUT", f"{in_room(self.room)}/read", json=body)
        assert answer.status_code == 200, answer.text

    async def delivered(self, seq: int) -> int:
        body = {"user_id": self.bob["id"], "seq": seq}
        answer = await self.api.send("PUT", f"{in_room(self.room)}/delivered", json=body)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"delivered_seq"}
        mark: int = answer.json()["delivered_seq"]
        return mark

    async def totals(self) -> dict[str, Any]:
        answer = await self.api.send("GET", f"{of_user(self.bob)}/unread")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


def counts(rooms: int, messages: int) -> dict[str, int]:
    return {"rooms": rooms, "messages": messages, "mentions": 0, "direct": 0}


async def test_an_untouched_side_has_every_field(api: ChatApi) -> None:
    side = await Side.of(api)
    await side.say("one", "two")
    mine = await side.get()
    assert mine.pop("joined_at") == side.room["created_at"]
    assert mine == {
        "role": "member",
        "last_read_seq": 0,
        "delivered_seq": 0,
        "from_seq": 1,
        "unread": 2,
        "mentions": 0,
        "notify": None,
        "muted_until": None,
        "archived": "no",
        "pinned_at": None,
        "marked_unread": False,
        "following": True,
        "version": 0,
    }


async def test_each_setting_is_changed_alone_and_cleared_again(api: ChatApi) -> None:
    """Null clears; what is not sent stays; `version` grows with each change, and only then."""
    side = await Side.of(api)
    mine = await side.patch(notify="mentions")
    assert (mine["notify"], mine["version"]) == ("mentions", 1)
    mine = await side.patch(muted_until="2999-01-01T02:00:00+02:00")
    assert (mine["notify"], mine["muted_until"], mine["version"]) == ("mentions", FAR, 2)
    mine = await side.patch(pinned=True, marked_unread=True)
    pinned_at = mine["pinned_at"]
    assert pinned_at is not None
    assert (mine["marked_unread"], mine["version"]) == (True, 3)
    mine = await side.patch(pinned=True, marked_unread=True, muted_until=FAR, notify="mentions")
    assert (mine["pinned_at"], mine["version"]) == (pinned_at, 3)
    assert await side.patch() == mine
    mine = await side.patch(notify=None, muted_until=None, pinned=False, marked_unread=False)
    assert mine["version"] == 4
    assert [mine[name] for name in ("notify", "muted_until", "pinned_at")] == [None] * 3
    assert mine["marked_unread"] is False


async def test_an_archive_until_the_next_message_is_ended_by_it(api: ChatApi) -> None:
    """By the message itself: nothing is written then, so `version` stays."""
    side = await Side.of(api)
    await side.say("one")
    assert (await side.patch(archived="until_message"))["archived"] == "until_message"
    mine = await side.patch(archived="until_message")
    assert (mine["archived"], mine["version"]) == ("until_message", 1)
    await side.read(1)
    assert (await side.get())["archived"] == "until_message"
    await side.say("two")
    mine = await side.get()
    assert (mine["archived"], mine["version"]) == ("no", 2)
    assert (await side.patch(archived="until_message"))["version"] == 3
    assert (await side.patch(archived="yes"))["archived"] == "yes"
    await side.say("three")
    assert (await side.get())["archived"] == "yes"
    assert (await side.patch(archived="no"))["archived"] == "no"


async def test_reading_ends_marked_unread_and_counts_as_delivered(api: ChatApi) -> None:
    side = await Side.of(api)
    await side.say("one", "two", "three")
    await side.read(2)
    mine = await side.get()
    assert (mine["last_read_seq"], mine["delivered_seq"], mine["version"]) == (2, 2, 1)
    await side.patch(marked_unread=True)
    await side.read(1)
    mine = await side.get()
    assert (mine["last_read_seq"], mine["marked_unread"], mine["version"]) == (2, False, 3)
    await side.read(2)
    assert (await side.get())["version"] == 3


async def test_a_delivery_mark_never_moves_back_nor_past_the_end(api: ChatApi) -> None:
    """It is at least the read mark."""
    side = await Side.of(api)
    await side.say("one", "two", "three")
    assert await side.delivered(2) == 2
    assert await side.delivered(1) == 2
    assert (await side.get())["version"] == 1
    assert await side.delivered(99) == 3
    await side.say("four", "five")
    await side.read(5)
    assert await side.delivered(4) == 5
    mine = await side.get()
    assert (mine["last_read_seq"], mine["delivered_seq"], mine["version"]) == (5, 5, 3)
    stranger = {"user_id": side.alice["id"], "seq": True}
    refused(await api.send("PUT", f"{in_room(side.room)}/delivered", json=stranger), 400)
    stranger = {"user_id": (await api.user())["id"], "seq": 1}
    answer = await api.send("PUT", f"{in_room(side.room)}/delivered", json=stranger)
    refused(answer, 403, "not_a_member")


async def test_cleared_history_is_hidden_from_this_member_on_every_route(api: ChatApi) -> None:
    """For good, and from nobody else."""
    side = await Side.of(api)
    first, second = await side.say("one", "two")
    own = await api.say(side.room, side.bob, "own")
    mine = await side.patch(clear_history=True)
    assert (mine["from_seq"], mine["unread"], mine["last_read_seq"]) == (4, 0, 0)
    assert (await side.patch(clear_history=True))["version"] == mine["version"]
    token = await api.token(side.bob)

    async def get(path: str) -> Any:
        answer = await api.as_user(token, "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    messages = f"{in_room(side.room)}/messages"
    listed = await get("/api/v1/projects/{pid}/rooms")
    assert listed["items"][0]["last_message"] is None
    page = await get(messages)
    assert (page["items"], page["total"], page["totalPages"]) == ([], 0, 0)
    (third,) = await side.say("three")
    for query in ("", "?after=0", "?before=100", "?page=1&limit=1", "?after=3"):
        page = await get(f"{messages}{query}")
        assert page["items"] == [third], query
        assert (page["total"], page.get("has_more", False)) == (1, False)
    for query in ("?before=4", "?page=2&limit=1"):
        assert (await get(f"{messages}{query}"))["items"] == []
    assert (await get("/api/v1/projects/{pid}/rooms"))["items"][0]["last_message"] == third
    for method, body in (("PATCH", {"content": "x"}), ("DELETE", None)):
        answer = await api.as_user(token, method, f"{messages}/{own['id']}", json=body)
        refused(answer, 404, "message_not_found")
    assert (await side.get())["unread"] == 1
    await api.send("DELETE", f"{messages}/{second['id']}")
    assert (await side.get())["unread"] == 1
    for hidden in (first, own):
        answer = await api.as_user(token, "GET", f"{messages}/{hidden['id']}")
        refused(answer, 404, "message_not_found")
    ids = ",".join(message["id"] for message in (first, own, third))
    assert (await get(f"{messages}?ids={ids}"))["items"] == [third]
    around = await get(f"{messages}?around=2")
    assert (around["items"], around["has_before"]) == ([third], False)
    changes = f"{in_room(side.room)}/changes?since_rev=0"
    assert (await get(changes))["items"] == []
    answer = await api.send("GET", f"{changes}&member_id={side.bob['id']}")
    assert answer.json()["items"] == []
    assert len((await api.send("GET", changes)).json()["items"]) == 1
    token = await api.token(side.alice)
    assert len((await get(changes))["items"]) == 1
    page = await get(messages)
    assert [item["id"] for item in page["items"]] == [
        third["id"],
        own["id"],
        second["id"],
        first["id"],
    ]


async def test_rooms_listed_for_a_member_have_their_side_and_the_last_message(api: ChatApi) -> None:
    """The same as each room's own answer; the last message as it is now, deleted too."""
    side = await Side.of(api)
    empty = await api.room(side.bob)
    await side.say("one", "two")
    last = await api.say(side.room, side.bob, "own")
    await side.patch(pinned=True)
    rooms = f"/api/v1/projects/{{pid}}/rooms?member_id={side.bob['id']}"
    for query in ("", "&private=false", "&q=room"):
        items = (await api.send("GET", f"{rooms}{query}")).json()["items"]
        listed = {item["id"]: item for item in items}
        assert set(listed) == {side.room["id"], empty["id"]}
        assert listed[side.room["id"]]["mine"] == await side.get()
        assert listed[side.room["id"]]["unread"] == 2
        assert listed[side.room["id"]]["last_message"] == last
        assert listed[empty["id"]]["last_message"] is None
        assert listed[empty["id"]]["mine"]["role"] == "owner"
    await api.send("DELETE", f"{in_room(side.room)}/messages/{last['id']}")
    items = (await api.send("GET", rooms)).json()["items"]
    told = next(item["last_message"] for item in items if item["id"] == side.room["id"])
    assert (told["content"], told["rev"]) == ("", 1)
    assert told["deleted_at"] is not None


async def test_a_token_reaches_its_own_side_alone(api: ChatApi) -> None:
    """The key names a member; neither credential takes the other's route, and a stranger finds no room."""
    side = await Side.of(api)
    own = f"{in_room(side.room)}/mine"
    token = await api.token(side.bob)
    answer = await api.as_user(token, "PATCH", own, json={"notify": "none"})
    assert answer.json() == await side.get()
    assert (await api.as_user(token, "GET", own)).json() == await side.get()
    refused(await api.as_user(token, "GET", side.path), 403, "api_key_required")
    refused(await api.as_user(token, "PATCH", side.path, json={}), 403, "api_key_required")
    refused(await api.send("GET", own), 401, "authentication_required")
    stranger = await api.user("stranger")
    token = await api.token(stranger)
    refused(await api.as_user(token, "GET", own), 404, "room_not_found")
    refused(await api.as_user(token, "PATCH", own, json={"pinned": True}), 404, "room_not_found")
    theirs = f"{in_room(side.room)}/members/{stranger['id']}/mine"
    refused(await api.send("GET", theirs), 404, "member_not_found")
    refused(await api.send("PATCH", theirs, json={"pinned": True}), 404, "member_not_found")
    nowhere = f"/api/v1/projects/{{pid}}/rooms/nowhere/members/{side.bob['id']}/mine"
    refused(await api.send("GET", nowhere), 404, "room_not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"notify": "some"},
        {"muted_until": "tomorrow"},
        {"muted_until": "2030-01-01T00:00:00"},
        {"muted_until": 5},
        {"archived": None},
        {"archived": True},
        {"pinned": 1},
        {"pinned": None},
        {"marked_unread": "yes"},
        {"clear_history": False},
        {"role": "owner"},
        [],
    ],
)
async def test_a_bad_setting_is_refused_and_changes_nothing(api: ChatApi, body: Any) -> None:
    side = await Side.of(api)
    refused(await api.send("PATCH", side.path, json=body), 400, "invalid_input")
    assert (await side.get())["version"] == 0


async def test_totals_leave_out_what_is_silenced_or_archived(api: ChatApi) -> None:
    """Its own `unread` such a room keeps. A time that has passed silences no more."""
    side = await Side.of(api)
    other = await api.room(side.alice, side.bob)
    await api.say(other, side.alice, "elsewhere")
    await side.say("one", "two")
    assert await side.totals() == counts(2, 3)
    for silent, loud in (
        ({"notify": "none"}, {"notify": "mentions"}),
        ({"muted_until": FAR}, {"muted_until": PAST}),
        ({"archived": "yes"}, {"archived": "no"}),
        ({"archived": "until_message"}, {"archived": "no"}),
    ):
        assert (await side.patch(**silent))["unread"] == 2
        assert await side.totals() == counts(1, 1), silent
        await side.patch(**loud)
        assert await side.totals() == counts(2, 3), loud
    await side.patch(archived="until_message")
    await side.say("three")
    assert await side.totals() == counts(2, 4)
    await side.read(3)
    assert await side.totals() == counts(1, 1)
    await side.patch(marked_unread=True)
    assert await side.totals() == counts(2, 1)
    refused(await api.send("GET", "/api/v1/projects/{pid}/users/nobody/unread"), 404)


async def test_some_rooms_are_marked_as_read_at_once(api: ChatApi) -> None:
    """All of them, or none if one is not the user's."""
    side = await Side.of(api)
    other, third = await api.room(side.alice, side.bob), await api.room(side.alice, side.bob)
    await side.say("one", "two", "three")
    for room in (other, third):
        await api.say(room, side.alice, "elsewhere")
    path = f"{of_user(side.bob)}/read"
    foreign = await api.room(side.alice)
    for missing in (foreign["id"], "nowhere"):
        body = {"rooms": {side.room["id"]: 2, missing: 1}}
        refused(await api.send("POST", path, json=body), 404, "room_not_found")
    assert await side.totals() == counts(3, 5)
    answer = await api.send("POST", path, json={"rooms": {side.room["id"]: 2, other["id"]: 99}})
    assert answer.json() == {"totals": counts(2, 2)}
    assert (await side.get())["last_read_seq"] == 2
    answer = await api.send("POST", path, json={"rooms": {}})
    assert answer.json() == {"totals": counts(2, 2)}


async def test_all_rooms_are_marked_as_read_at_once(api: ChatApi) -> None:
    """Also those that are marked as unread; a room with nothing to mark keeps its version."""
    side = await Side.of(api)
    others = [await api.room(side.alice, side.bob) for _ in range(3)]
    await api.say(others[0], side.alice, "elsewhere")
    await side.say("one", "two")
    await side.read(2)
    await side.patch(marked_unread=True)
    path = f"{of_user(side.bob)}/read"
    assert await side.totals() == counts(2, 1)
    for _ in range(2):
        assert (await api.send("POST", path, json={"all": True})).json() == {"totals": counts(0, 0)}
    listed = await api.send("GET", f"/api/v1/projects/{{pid}}/rooms?member_id={side.bob['id']}")
    versions = {item["id"]: item["mine"]["version"] for item in listed.json()["items"]}
    assert versions == {
        side.room["id"]: 3,
        others[0]["id"]: 1,
        others[1]["id"]: 0,
        others[2]["id"]: 0,
    }


BAD_MARKS: list[Callable[[str], Any]] = [
    lambda _: {},
    lambda room: {"all": True, "rooms": {room: 1}},
    lambda _: {"all": False},
    lambda _: {"rooms": []},
    lambda room: {"rooms": {room: -1}},
    lambda room: {"rooms": {room: "1"}},
    lambda _: {"rooms": {"no id!": 1}},
    lambda _: {"rooms": {f"room{n}": 1 for n in range(201)}},
]


@pytest.mark.parametrize("body", BAD_MARKS)
async def test_bad_marks_are_refused(api: ChatApi, body: Callable[[str], Any]) -> None:
    side = await Side.of(api)
    await side.say("one")
    answer = await api.send("POST", f"{of_user(side.bob)}/read", json=body(side.room["id"]))
    refused(answer, 400, "invalid_input")
    assert await side.totals() == counts(1, 1)
    nobody = "/api/v1/projects/{pid}/users/nobody/read"
    for fine in ({"all": True}, {"rooms": {}}, {"rooms": {side.room["id"]: 1}}):
        refused(await api.send("POST", nobody, json=fine), 404, "user_not_found")


async def test_a_newcomer_sees_the_history_and_has_read_it(api: ChatApi) -> None:
    """`from_seq` stays 1 unless they clear it."""
    side = await Side.of(api)
    await side.say("one", "two")
    later = await api.user("later")
    await api.send("POST", f"{in_room(side.room)}/join", json={"user_id": later["id"]})
    mine = (await api.send("GET", f"{in_room(side.room)}/members/{later['id']}/mine")).json()
    assert [mine[name] for name in ("last_read_seq", "delivered_seq", "from_seq", "unread")] == [
        2,
        2,
        1,
        0,
    ]
