"""Rooms, members, messages and read marks over REST, with the key."""

import uuid

import pytest

from tests.contract.servers import ChatApi, in_room, made, of_user, refused

ROOMS = "/api/v1/projects/{pid}/rooms"
ROOM = {
    "id",
    "project_id",
    "name",
    "description",
    "private",
    "created_by",
    "member_count",
    "last_seq",
    "last_message_at",
    "metadata",
    "created_at",
    "updated_at",
    "kind",
    "small",
}
MEMBER = {
    "room_id",
    "user_id",
    "username",
    "display_name",
    "role",
    "joined_at",
    "last_read_seq",
}
MESSAGE = {
    "id",
    "room_id",
    "seq",
    "user_id",
    "username",
    "display_name",
    "content",
    "client_msg_id",
    "metadata",
    "created_at",
    "edited_at",
    "deleted_at",
}


async def test_a_room_begins_with_its_creator_as_owner(api: ChatApi) -> None:
    """Creator and member_ids are members, each once."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, bob, bob, alice, description="Words", metadata={"k": "v"})
    assert set(room) == ROOM
    assert (room["member_count"], room["last_seq"], room["last_message_at"]) == (2, 0, None)
    assert room["private"] is False
    assert room["created_by"] == alice["id"]
    assert (await api.send("GET", in_room(room))).json() == room
    members = (await api.send("GET", f"{in_room(room)}/members")).json()
    assert members["total"] == 2
    assert {(m["user_id"], m["role"]) for m in members["items"]} == {
        (alice["id"], "owner"),
        (bob["id"], "member"),
    }
    assert set(members["items"][0]) == MEMBER


async def test_a_room_needs_people_who_exist(api: ChatApi) -> None:
    """An unknown creator or member is 404, and no room is made."""
    alice = await api.user("alice")
    name = uuid.uuid4().hex
    for body in (
        {"name": name, "created_by": "nobody"},
        {"name": name, "created_by": alice["id"], "member_ids": ["nobody"]},
    ):
        refused(await api.send("POST", ROOMS, json=body), 404, "user_not_found")
    assert (await api.send("GET", f"{ROOMS}?q={name}")).json()["total"] == 0


async def test_rooms_are_listed_for_a_member_with_what_is_unread(api: ChatApi) -> None:
    """Only a member's list has `unread`; own and deleted messages do not count."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room, other = await api.room(alice, bob), await api.room(alice)
    await api.say(room, bob, "own one")
    first = await api.say(room, alice, "one")
    await api.say(room, alice, "two")
    await api.say(room, bob, "own two")
    last = await api.say(room, alice, "three")
    page = (await api.send("GET", f"{ROOMS}?member_id={bob['id']}")).json()
    assert [item["id"] for item in page["items"]] == [room["id"]]
    assert page["total"] == 1
    assert set(page["items"][0]) == {*ROOM, "message_count", "unread", "mine", "last_message"}
    assert page["items"][0]["unread"] == 3
    assert page["items"][0]["last_seq"] == 5
    assert page["items"][0]["message_count"] == 5
    assert page["items"][0]["last_message_at"] == last["created_at"]
    await api.send("DELETE", f"{in_room(room)}/messages/{last['id']}")
    page = (await api.send("GET", f"{ROOMS}?member_id={bob['id']}")).json()
    assert page["items"][0]["unread"] == 2
    mark = await api.send(
        "PUT", f"{in_room(room)}/read", json={"user_id": bob["id"], "seq": first["seq"]}
    )
    assert mark.json() == {"last_read_seq": first["seq"], "unread": 1}
    mine = (await api.send("GET", f"{ROOMS}?member_id={alice['id']}")).json()
    assert {item["id"]: item["unread"] for item in mine["items"]} == {room["id"]: 2, other["id"]: 0}
    everything = (await api.send("GET", f"{ROOMS}?limit=200")).json()
    assert all("unread" not in item for item in everything["items"])


async def test_a_read_mark_never_moves_back_nor_past_the_end(api: ChatApi) -> None:
    """A read mark only rises, and at most to the last message."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, bob)
    for n in range(4):
        await api.say(room, alice, str(n))
    path = f"{in_room(room)}/read"
    for sent, expected in ((3, 3), (1, 3), (0, 3), (99, 4), (2, 4)):
        mark = await api.send("PUT", path, json={"user_id": bob["id"], "seq": sent})
        assert mark.status_code == 200
        assert mark.json() == {"last_read_seq": expected, "unread": 4 - expected}
    for bad in (-1, 1.5, "1", True, None, 2**60):
        refused(await api.send("PUT", path, json={"user_id": bob["id"], "seq": bad}), 400)
    stranger = await api.user("stranger")
    answer = await api.send("PUT", path, json={"user_id": stranger["id"], "seq": 1})
    refused(answer, 403, "not_a_member")


async def test_unread_is_right_after_leaving_and_coming_back(api: ChatApi) -> None:
    """Own messages from before leaving and joining again do not count as unread, nor does anything said before."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, bob)
    await api.say(room, bob, "before")
    await api.say(room, alice, "hello")
    for way in ("leave", "join"):
        answer = await api.send("POST", f"{in_room(room)}/{way}", json={"user_id": bob["id"]})
        assert answer.status_code in {200, 204}
    await api.say(room, bob, "after")
    await api.say(room, alice, "welcome back")
    page = (await api.send("GET", f"{ROOMS}?member_id={bob['id']}")).json()
    assert page["items"][0]["unread"] == 1


async def test_rooms_are_listed_by_privacy_and_by_word(api: ChatApi) -> None:
    """Totals of the private and of the open rooms add up."""
    alice = await api.user("alice")
    word = uuid.uuid4().hex
    hidden = await api.room(alice, name=f"Hidden {word}", private=True)
    shown = await api.room(alice, name="Open", description=f"About Größe {word.upper()}")
    found = (await api.send("GET", ROOMS, params={"q": word})).json()
    assert [item["id"] for item in found["items"]] == [hidden["id"], shown["id"]]
    for spelling in (f"GRÖSSE {word}", f"größe {word}", f"ＧＲＯＳＳＥ {word}"):
        found = (await api.send("GET", ROOMS, params={"q": spelling})).json()
        assert [item["id"] for item in found["items"]] == [shown["id"]]
    only = (await api.send("GET", ROOMS, params={"q": word, "private": "true"})).json()
    assert [item["id"] for item in only["items"]] == [hidden["id"]]
    total, private, open_ = [
        (await api.send("GET", f"{ROOMS}?limit=1{query}")).json()["total"]
        for query in ("", "&private=true", "&private=false")
    ]
    assert private + open_ == total
    mine = (await api.send("GET", f"{ROOMS}?member_id={alice['id']}&private=false")).json()
    assert [item["id"] for item in mine["items"]] == [shown["id"]]


async def test_a_room_can_be_changed(api: ChatApi) -> None:
    """PATCH touches what is named; counters of open rooms follow `private`."""
    alice = await api.user("alice")
    room = await api.room(alice, description="old", metadata={"a": 1})
    before = (await api.send("GET", f"{ROOMS}?private=false&limit=1")).json()["total"]
    changed = await api.send("PATCH", in_room(room), json={"name": "New", "private": True})
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["private"]) == ("New", True)
    assert changed.json()["description"] == "old"
    assert changed.json()["metadata"] == {"a": 1}
    assert (await api.send("GET", in_room(room))).json() == changed.json()
    after = (await api.send("GET", f"{ROOMS}?private=false&limit=1")).json()["total"]
    assert after == before - 1
    emptied = await api.send("PATCH", in_room(room), json={"description": None})
    assert emptied.json()["description"] is None


async def test_a_deleted_room_is_gone_with_all_that_is_in_it(api: ChatApi) -> None:
    """Every route below it is 404 from then on."""
    alice = await api.user("alice")
    room = await api.room(alice)
    message = await api.say(room, alice, "last words")
    assert (await api.send("DELETE", in_room(room))).status_code == 204
    path, body = in_room(room), {"user_id": alice["id"]}
    for method, where, sent in (
        ("GET", path, None),
        ("PATCH", path, {"name": "x"}),
        ("DELETE", path, None),
        ("GET", f"{path}/messages", None),
        ("GET", f"{path}/messages?after=0", None),
        ("POST", f"{path}/messages", {"content": "x", **body}),
        ("PATCH", f"{path}/messages/{message['id']}", {"content": "x"}),
        ("DELETE", f"{path}/messages/{message['id']}", None),
        ("GET", f"{path}/members", None),
        ("GET", f"{path}/members/{alice['id']}", None),
        ("PUT", f"{path}/members/{alice['id']}", None),
        ("DELETE", f"{path}/members/{alice['id']}", None),
        ("POST", f"{path}/join", body),
        ("POST", f"{path}/leave", body),
        ("PUT", f"{path}/read", {"seq": 1, **body}),
    ):
        refused(await api.send(method, where, json=sent), 404, "room_not_found")
    assert (await api.send("GET", f"{ROOMS}?member_id={alice['id']}")).json()["total"] == 0


async def test_joining_and_leaving_may_be_repeated(api: ChatApi) -> None:
    """The first answer again, and one membership; the key may add to private rooms."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice, private=True)
    path, body = in_room(room), {"user_id": bob["id"]}
    first = await api.send("POST", f"{path}/join", json=body)
    assert first.status_code == 200
    assert set(first.json()) == MEMBER | {"rev"}
    assert (await api.send("POST", f"{path}/join", json=body)).json() == first.json()
    assert (await api.send("GET", path)).json()["member_count"] == 2
    for _ in range(2):
        assert (await api.send("POST", f"{path}/leave", json=body)).status_code == 204
    assert (await api.send("GET", path)).json()["member_count"] == 1
    refused(
        await api.send("POST", f"{path}/join", json={"user_id": "nobody"}), 404, "user_not_found"
    )
    for way in ("join", "leave"):
        problem = refused(await api.send("POST", f"{path}/{way}", json={}), 400)
        assert problem["errors"][0]["field"] == "user_id"


async def test_members_are_put_changed_and_removed(api: ChatApi) -> None:
    """PUT makes a member or changes the role; a role not named is kept."""
    alice, bob = await api.user("alice"), await api.user("bob", display_name="Bob B.")
    room = await api.room(alice)
    path = f"{in_room(room)}/members/{bob['id']}"
    refused(await api.send("GET", path), 404, "member_not_found")
    put = await api.send("PUT", path)
    assert put.status_code == 200
    assert (put.json()["role"], put.json()["display_name"]) == ("member", "Bob B.")
    owner = await api.send("PUT", path, json={"role": "owner"})
    assert owner.json() == {**put.json(), "role": "owner", "rev": put.json()["rev"] + 1}
    assert (await api.send("PUT", path, json={})).json() == owner.json()
    assert (await api.send("GET", path)).json() == owner.json()
    refused(await api.send("PUT", path, json={"role": "king"}), 400)
    assert (await api.send("GET", in_room(room))).json()["member_count"] == 2
    for _ in range(2):
        assert (await api.send("DELETE", path)).status_code == 204
    refused(await api.send("GET", path), 404, "member_not_found")
    nobody = await api.send("PUT", f"{in_room(room)}/members/nobody")
    refused(nobody, 404, "user_not_found")


async def test_a_message_is_answered_whole(api: ChatApi) -> None:
    """Names of the sender, its place, what was sent with it."""
    alice = await api.user("alice", display_name="Alice A.")
    room = await api.room(alice)
    text = "Zwölf Boxkämpfer 👩‍👩‍👧 \t\r\n\u202e and <b>HTML</b> & 'quotes' \"\\"
    message = await api.say(room, alice, text, client_msg_id="c-1", metadata={"m": [1]})
    assert set(message) == MESSAGE
    assert message["content"] == text
    assert (message["seq"], message["client_msg_id"]) == (1, "c-1")
    assert (message["username"], message["display_name"]) == (alice["username"], "Alice A.")
    assert (message["edited_at"], message["deleted_at"]) == (None, None)
    assert message["metadata"] == {"m": [1]}
    assert (await api.send("GET", f"{in_room(room)}/messages")).json()["items"] == [message]


async def test_messages_are_paged_newest_first(api: ChatApi) -> None:
    """Page 1 holds the newest messages; `total` is the last `seq`."""
    alice = await api.user("alice")
    room = await api.room(alice)
    for n in range(1, 8):
        await api.say(room, alice, f"m{n}")
    path = f"{in_room(room)}/messages"
    pages = [(await api.send("GET", f"{path}?limit=3&page={n}")).json() for n in (1, 2, 3, 4)]
    assert [[m["seq"] for m in page["items"]] for page in pages] == [[7, 6, 5], [4, 3, 2], [1], []]
    assert {(page["total"], page["totalPages"], page["limit"]) for page in pages} == {(7, 3, 3)}
    assert set(pages[0]) == {"items", "page", "limit", "total", "totalPages"}


async def test_cursors_walk_both_ways(api: ChatApi) -> None:
    """Before a place newest first, after it oldest first; the cursor leads on until the end."""
    alice = await api.user("alice")
    room = await api.room(alice)
    for n in range(1, 8):
        await api.say(room, alice, f"m{n}")
    path = f"{in_room(room)}/messages"

    async def walk(way: str, cursor: int) -> list[int]:
        seen: list[int] = []
        while True:
            page = (await api.send("GET", f"{path}?{way}={cursor}&limit=3")).json()
            seen += [message["seq"] for message in page["items"]]
            assert page["total"] == 7
            if not page["has_more"]:
                assert page["next_cursor"] is None
                return seen
            cursor = page["next_cursor"]

    assert await walk("before", 8) == [7, 6, 5, 4, 3, 2, 1]
    assert await walk("before", 4) == [3, 2, 1]
    assert await walk("before", 1) == []
    assert await walk("before", 10**9) == [7, 6, 5, 4, 3, 2, 1]
    assert await walk("after", 0) == [1, 2, 3, 4, 5, 6, 7]
    assert await walk("after", 5) == [6, 7]
    assert await walk("after", 7) == []
    both = (await api.send("GET", f"{path}?after=2&before=5&limit=3")).json()
    assert [message["seq"] for message in both["items"]] == [3, 4]
    assert both["has_more"] is False


async def test_a_repeated_client_msg_id_answers_the_first_message(api: ChatApi) -> None:
    """A `client_msg_id` is unique per room and sender."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room, elsewhere = await api.room(alice, bob), await api.room(alice)
    first = await api.say(room, alice, "once", client_msg_id="same")
    assert await api.say(room, alice, "twice", client_msg_id="same") == first
    others = [
        await api.say(room, bob, "mine", client_msg_id="same"),
        await api.say(elsewhere, alice, "there", client_msg_id="same"),
    ]
    assert [message["content"] for message in others] == ["mine", "there"]
    assert (await api.send("GET", f"{in_room(room)}/messages")).json()["total"] == 2


async def test_only_members_post(api: ChatApi) -> None:
    """Strangers, unknown and suspended users get 403, and no message is created."""
    alice, bob = await api.user("alice"), await api.user("bob")
    room = await api.room(alice)
    path = f"{in_room(room)}/messages"
    for sender in (bob["id"], "nobody"):
        body = {"content": "x", "user_id": sender}
        refused(await api.send("POST", path, json=body), 403, "not_a_member")
    await api.send("PATCH", of_user(alice), json={"status": "suspended"})
    body = {"content": "x", "user_id": alice["id"]}
    refused(await api.send("POST", path, json=body), 403, "user_suspended")
    page = (await api.send("GET", path)).json()
    assert (page["items"], page["total"]) == ([], 0)


async def test_a_message_can_be_edited_and_deleted_but_keeps_its_place(api: ChatApi) -> None:
    """A deleted one is empty for good; deleting again changes nothing."""
    alice = await api.user("alice")
    room = await api.room(alice)
    one, two = [await api.say(room, alice, text, metadata={"a": 1}) for text in ("one", "two")]
    path = f"{in_room(room)}/messages"
    edited = await api.send("PATCH", f"{path}/{one['id']}", json={"content": "won"})
    assert edited.status_code == 200
    changed = {"content": "won", "edited_at": edited.json()["edited_at"], "rev": 1}
    assert edited.json() == one | changed
    assert edited.json()["edited_at"] >= one["created_at"]
    for _ in range(2):
        assert (await api.send("DELETE", f"{path}/{one['id']}")).status_code == 204
    items = (await api.send("GET", path)).json()["items"]
    assert items[0] == two
    assert (items[1]["seq"], items[1]["content"], items[1]["metadata"]) == (1, "", {})
    assert items[1]["deleted_at"] is not None
    again = await api.send("PATCH", f"{path}/{one['id']}", json={"content": "back"})
    refused(again, 409, "message_deleted")
    for method, body in (("PATCH", {"content": "x"}), ("DELETE", None)):
        refused(await api.send(method, f"{path}/nothing", json=body), 404, "message_not_found")
    other = await api.room(alice)
    crossed = await api.send("DELETE", f"{in_room(other)}/messages/{two['id']}")
    refused(crossed, 404, "message_not_found")


async def test_messages_keep_the_name_of_a_deleted_author(api: ChatApi) -> None:
    """A deleted user leaves all rooms; the messages stay."""
    alice, bob = await api.user("alice"), await api.user("bob", display_name="Bob")
    room = await api.room(alice, bob)
    message = await api.say(room, bob, "remember me")
    await api.send("DELETE", of_user(bob))
    assert (await api.send("GET", f"{in_room(room)}/messages")).json()["items"] == [
        message | {"author_deleted": True}
    ]
    assert (await api.send("GET", in_room(room))).json()["member_count"] == 1
    refused(await api.send("GET", f"{in_room(room)}/members/{bob['id']}"), 404)


@pytest.mark.parametrize("content", ["", "x" * 8001, None, 5, ["x"], {"a": 1}])
async def test_content_has_one_to_8000_characters(api: ChatApi, content: object) -> None:
    """Characters, not bytes; anything else is 400 and takes no number."""
    alice = await api.user("alice")
    room = await api.room(alice)
    body = {"content": content, "user_id": alice["id"]}
    problem = refused(await api.send("POST", f"{in_room(room)}/messages", json=body), 400)
    assert problem["errors"][0]["field"] == "content"
    longest = await api.say(room, alice, "é" * 8000)
    assert longest["seq"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 129),
        ("name", "a\nb"),
        ("name", None),
        ("created_by", None),
        ("created_by", "../x"),
        ("private", "yes"),
        ("private", 1),
        ("description", "x" * 2001),
        ("description", 7),
        ("member_ids", "all"),
        ("member_ids", ["a/b"]),
        ("member_ids", [1]),
        ("metadata", [1]),
        ("last_seq", 7),
        ("owner", "me"),
    ],
)
async def test_a_bad_field_of_a_room_is_named(api: ChatApi, field: str, value: object) -> None:
    """400 with the field in `errors`."""
    alice = await api.user("alice")
    body = {"name": "Room", "created_by": alice["id"], field: value}
    problem = refused(await api.send("POST", ROOMS, json=body), 400, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_rooms_of_many_members_are_paged(api: ChatApi) -> None:
    """Pages of members hold every member once."""
    people = [await api.user("many") for _ in range(7)]
    room = made(
        await api.send(
            "POST",
            ROOMS,
            json={
                "name": "Many",
                "created_by": people[0]["id"],
                "member_ids": [person["id"] for person in people[1:]],
            },
        )
    )
    seen = []
    for number in (1, 2, 3):
        page = (await api.send("GET", f"{in_room(room)}/members?limit=3&page={number}")).json()
        assert (page["total"], page["totalPages"]) == (7, 3)
        seen += [member["user_id"] for member in page["items"]]
    assert sorted(seen) == sorted(person["id"] for person in people)
