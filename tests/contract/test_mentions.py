"""Messages name users, or everybody in the room; that is counted and listed for them."""

from typing import Any

from tests.contract.servers import ChatApi, in_room, refused

USERS = "/api/v1/projects/{pid}/users"


async def mine(api: ChatApi, room: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    answer = await api.send("GET", f"{in_room(room)}/members/{user['id']}/mine")
    side: dict[str, Any] = answer.json()
    return side


async def mentions_of(api: ChatApi, user: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = await api.send("GET", f"{USERS}/{user['id']}/mentions{query}")
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def seqs(page: dict[str, Any]) -> list[int]:
    return [item["seq"] for item in page["items"]]


async def test_mentions_are_shown_and_counted(api: ChatApi) -> None:
    """In `Mine`, in lists of rooms and in the totals; of others, unread, and each message once."""
    alice, bob, carol = await api.user(), await api.user(), await api.user()
    room = await api.room(alice, bob, carol)
    named = await api.say(room, alice, "hi", mentions=[bob["id"], carol["id"], bob["id"]])
    assert named["mentions"] == [bob["id"], carol["id"]]
    everybody = await api.say(room, alice, "all", mentions=[bob["id"]], mention_room=True)
    assert everybody["mention_room"] is True
    await api.say(room, alice, "plain")
    for user, count in ((alice, 0), (bob, 2), (carol, 2)):
        side = await mine(api, room, user)
        assert side["mentions"] == count
        rooms = await api.send("GET", f"/api/v1/projects/{{pid}}/rooms?member_id={user['id']}")
        assert rooms.json()["items"][0]["mine"]["mentions"] == count
        totals = (await api.send("GET", f"{USERS}/{user['id']}/unread")).json()
        assert totals["mentions"] == count
    page = (await api.send("GET", f"{in_room(room)}/messages")).json()
    assert page["items"][1:] == [everybody, named]
    await api.send("PUT", f"{in_room(room)}/read", json={"user_id": bob["id"], "seq": 1})
    assert (await mine(api, room, bob))["mentions"] == 1
    await api.send("DELETE", f"{in_room(room)}/messages/{everybody['id']}")
    assert (await mine(api, room, bob))["mentions"] == 0
    assert (await mine(api, room, carol))["mentions"] == 1


async def test_a_mention_of_no_member_is_refused_by_its_place(api: ChatApi) -> None:
    """`mentions[0]` is the first; nothing is posted."""
    alice, bob, stranger = await api.user(), await api.user(), await api.user()
    room = await api.room(alice, bob)
    path = f"{in_room(room)}/messages"
    body = {"content": "x", "user_id": alice["id"]}
    for mentions, field in (
        ([bob["id"], stranger["id"]], "mentions[1]"),
        (["nobody"], "mentions[0]"),
        ([bob["id"], 5], "mentions[1]"),
        (["external:x"], "mentions[0]"),
        ("bob", "mentions"),
        ([bob["id"]] * 51, "mentions"),
    ):
        answer = await api.send("POST", path, json=body | {"mentions": mentions})
        assert refused(answer, 400, "invalid_input")["errors"][0]["field"] == field
    assert (await api.send("GET", in_room(room))).json()["last_seq"] == 0
    for empty in ([], None):
        message = await api.say(room, alice, "x", mentions=empty, mention_room=None, silent=False)
        assert message.keys() == (await api.say(room, alice, "x")).keys()


async def test_in_a_large_room_only_owners_and_moderators_mention_everybody(
    api: ChatApi,
) -> None:
    owner, other, moderator = await api.user(), await api.user(), await api.user()
    people = [await api.user() for _ in range(99)]
    room = await api.room(owner, other, moderator, *people)
    path = in_room(room)
    await api.send("PUT", f"{path}/members/{moderator['id']}", json={"role": "moderator"})
    body = {"content": "x", "mention_room": True}
    token = await api.token(other)
    refused(await api.as_user(token, "POST", f"{path}/messages", json=body), 403, "owner_only")
    await api.say(room, owner, "x", mention_room=True)
    await api.say(room, moderator, "x", mention_room=True)
    await api.say(room, other, "x", mentions=[owner["id"]])
    small = await api.room(owner, other)
    await api.say(small, other, "x", mention_room=True)


async def test_an_edit_names_others(api: ChatApi) -> None:
    """Those it adds are counted, those it takes away are not any more; who left since may stay named."""
    alice, bob, carol, dave = [await api.user() for _ in range(4)]
    room = await api.room(alice, bob, carol, dave)
    path = in_room(room)
    message = await api.say(room, alice, "x", mentions=[bob["id"], dave["id"]])
    await api.send("DELETE", f"{path}/members/{dave['id']}")
    one = f"{path}/messages/{message['id']}"
    edit = {"mentions": [carol["id"], dave["id"]]}
    edited = await api.as_user(await api.token(alice), "PATCH", one, json=edit)
    assert edited.status_code == 200, edited.text
    assert edited.json()["mentions"] == [carol["id"], dave["id"]]
    assert edited.json()["content"] == "x"
    assert (await mine(api, room, bob))["mentions"] == 0
    assert (await mine(api, room, carol))["mentions"] == 1
    again = await api.send("PATCH", one, json={"content": "y"})
    assert again.json()["mentions"] == [carol["id"], dave["id"]]
    stranger = await api.user()
    answer = await api.send("PATCH", one, json={"mentions": [carol["id"], stranger["id"]]})
    assert refused(answer, 400, "invalid_input")["errors"][0]["field"] == "mentions[1]"
    assert "mentions" not in (await api.send("PATCH", one, json={"mentions": []})).json()
    assert (await mine(api, room, carol))["mentions"] == 0
    refused(await api.send("PATCH", one, json={}), 400, "invalid_input")


async def test_the_mentions_of_a_user_are_listed_newest_first(api: ChatApi) -> None:
    """Of all rooms, page by page; not their own, not of rooms they have left, not what they have hidden."""
    alice, bob = await api.user(), await api.user()
    one, two, left = (
        await api.room(alice, bob),
        await api.room(alice, bob),
        await api.room(alice, bob),
    )
    said = []
    for number in range(7):
        room = (one, two)[number % 2]
        everybody = number % 3 == 0
        named = {"mention_room": True} if everybody else {"mentions": [bob["id"]]}
        said.append(await api.say(room, alice, str(number), **named))
        await api.say(room, alice, "plain")
    await api.say(one, bob, "me", mentions=[bob["id"]])
    await api.say(left, alice, "gone", mentions=[bob["id"]])
    await api.send("POST", f"{in_room(left)}/leave", json={"user_id": bob["id"]})
    whole = await mentions_of(api, bob)
    assert whole["items"] == said[::-1]
    assert (whole["has_more"], whole["next_cursor"]) == (False, None)
    found, query = [], "?limit=2"
    while True:
        page = await mentions_of(api, bob, query)
        found += page["items"]
        if not page["has_more"]:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert found == said[::-1]
    hidden = f"{in_room(one)}/members/{bob['id']}/mine"
    await api.send("PATCH", hidden, json={"clear_history": True})
    rest = await mentions_of(api, bob)
    assert {item["room_id"] for item in rest["items"]} == {two["id"]}
    assert seqs(await mentions_of(api, alice)) == []
    refused(await api.send("GET", f"{USERS}/nobody/mentions"), 404, "user_not_found")
    bad = await api.send("GET", f"{USERS}/{bob['id']}/mentions?cursor=x")
    assert refused(bad, 400, "invalid_input")["errors"][0]["field"] == "cursor"


async def test_who_joins_later_is_not_among_everybody(api: ChatApi) -> None:
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice)
    await api.say(room, alice, "before", mention_room=True)
    await api.send("POST", f"{in_room(room)}/join", json={"user_id": bob["id"]})
    after = await api.say(room, alice, "after", mention_room=True)
    assert (await mentions_of(api, bob))["items"] == [after]
    assert (await mine(api, room, bob))["mentions"] == 1


async def test_who_is_blocked_mentions_nobody_who_blocks_them(api: ChatApi) -> None:
    alice, bob = await api.user(), await api.user()
    room = await api.room(alice, bob)
    await api.say(room, alice, "x", mentions=[bob["id"]])
    await api.say(room, alice, "x", mention_room=True)
    assert (await mine(api, room, bob))["mentions"] == 2
    blocked = await api.send("PUT", f"{USERS}/{bob['id']}/blocks/{alice['id']}")
    assert blocked.status_code == 204
    assert (await mine(api, room, bob))["mentions"] == 0
    assert seqs(await mentions_of(api, bob)) == []
