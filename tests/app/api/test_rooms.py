"""Permissions in rooms; a stranger cannot tell a private room from a missing one."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.brokers import Person, Running, code_of, running

NOWHERE = "01a20c56-0000-7000-8000-000000000000"
ON_ROOMS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"name": "x"}),
    ("DELETE", "", None),
    ("POST", "/leave", None),
    ("GET", "/members", None),
    ("GET", "/members?ids=external:alice", None),
    ("GET", "/members?q=a&as=owner&cursor=", None),
    ("POST", "/members", {"users": ["external:alice"]}),
    ("PUT", "/members/external:alice", None),
    ("DELETE", "/members/external:alice", None),
    ("DELETE", "/members/external:eve", None),
    ("PUT", "/roles/owner/external:eve", None),
    ("DELETE", "/roles/owner/external:alice", None),
    ("PATCH", "", {"settings": {"read_only": True}}),
    ("PATCH", "/mine", {"clear_history": True}),
    ("GET", "/messages", None),
    ("GET", "/messages?before=5", None),
    ("POST", "/messages", {"content": "x"}),
    ("PATCH", "/messages/{message}", {"content": "x"}),
    ("DELETE", "/messages/{message}", None),
    ("PUT", "/read", {"seq": 1}),
    ("GET", "/messages/{message}", None),
    ("GET", "/messages?around=1", None),
    ("GET", "/messages?ids={message}", None),
    ("PATCH", "/messages/{message}", {"content": "x", "if_rev": 0}),
    ("GET", "/changes?since_rev=0", None),
    ("GET", "/mine", None),
    ("PATCH", "/mine", {"pinned": True}),
    ("PUT", "/delivered", {"seq": 1}),
]


def same(one: httpx.Response, other: httpx.Response) -> bool:
    """Whether two responses are equal but for the request's id and path."""
    bodies, headers = [], []
    for answer in (one, other):
        body = answer.json()
        assert body.pop("request_id")
        assert body.pop("instance")
        bodies.append((answer.status_code, list(body.items())))
        left = dict(answer.headers)
        for name in ("x-request-id", "content-length", "ratelimit"):
            left.pop(name)
        headers.append(left)
    return bodies[0] == bodies[1] and headers[0] == headers[1]


@pytest.mark.parametrize(("method", "path", "body"), ON_ROOMS, ids=str)
async def test_to_a_stranger_a_room_is_not_there(
    broker: Running, method: str, path: str, body: Any
) -> None:
    """A room of other users and a missing room both give 404 room_not_found, except joining an open room."""
    alice, eve = await broker.sign_in("alice"), await broker.sign_in("eve")
    await eve.get("/me")
    for private in (True, False):
        room = await alice.room(private=private)
        suffix = path.format(message=(await alice.say(room))["id"])
        broker.upstream.seen.clear()
        theirs = await eve.call(method, f"/rooms/{room}{suffix}", body)
        nobodys = await eve.call(method, f"/rooms/{NOWHERE}{suffix}", body)
        malformed = await eve.call(method, f"/rooms/not~an~id{suffix}", body)
        assert (theirs.status_code, code_of(theirs)) == (404, "room_not_found")
        assert same(theirs, nobodys)
        assert same(theirs, malformed)
        assert all(one.startswith("GET") for one in broker.upstream.paths())
        assert not any("/messages" in one for one in broker.upstream.paths())
        left = (await alice.get(f"/rooms/{room}/messages")).json()["items"]
        assert [one["content"] for one in left] == ["hello"]


async def test_a_private_room_cannot_be_joined_an_open_one_can(broker: Running) -> None:
    """A private room responds as if it did not exist."""
    alice, eve = await broker.sign_in("alice"), await broker.sign_in("eve")
    open_room, closed = await alice.room(), await alice.room(private=True)
    refused = await eve.post(f"/rooms/{closed}/join")
    assert same(refused, await eve.post(f"/rooms/{NOWHERE}/join"))
    assert refused.status_code == 404
    for _ in range(2):
        joined = await eve.post(f"/rooms/{open_room}/join")
        assert joined.status_code == 200
        assert (joined.json()["user_id"], joined.json()["role"]) == (await eve.id(), "member")
    assert (await alice.post(f"/rooms/{closed}/join")).json()["role"] == "owner"
    assert (await eve.get(f"/rooms/{open_room}/messages")).status_code == 200
    assert (await eve.post(f"/rooms/{open_room}/leave")).status_code == 204
    assert (await eve.post(f"/rooms/{open_room}/leave")).status_code == 404
    assert (await eve.get(f"/rooms/{open_room}/messages")).status_code == 404


async def test_a_change_through_the_broker_counts_at_once(broker: Running) -> None:
    """A member removed through this broker is refused at once, and so is a deleted room."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    await bob.get("/me")
    room = await alice.room(private=True, member_ids=["external:bob"])
    for _ in range(20):
        assert (await bob.get(f"/rooms/{room}/messages")).status_code == 200
        assert (await alice.delete(f"/rooms/{room}/members/external:bob")).status_code == 204
        assert (await bob.get(f"/rooms/{room}/messages")).status_code == 404
        assert (await bob.post(f"/rooms/{room}/messages", {"content": "x"})).status_code == 404
        assert (await alice.put(f"/rooms/{room}/members/external:bob")).status_code == 200
    assert (await alice.delete(f"/rooms/{room}")).status_code == 204
    assert (await alice.get(f"/rooms/{room}")).status_code == 404


async def test_membership_is_remembered_but_not_for_long(tmp_path: Path) -> None:
    """A membership is cached for five seconds, then requested again."""
    from chat_broker.chat.memberships import Memberships
    from chat_broker.storage.memory import LocalRoomChanges

    async with running(tmp_path) as broker:
        alice = await broker.sign_in("alice")
        room, me = await alice.room(), await alice.id()
        now = [100.0]
        chat = broker.app.state.upstream.chat
        known = Memberships(chat, LocalRoomChanges(), clock=lambda: now[0])
        broker.upstream.seen.clear()
        for now[0] in (100.0, 102.0, 104.9):
            assert await known.of(room, me) == ("owner", None)
        assert len(broker.upstream.seen) == 1
        await chat.rooms.remove_member(room, me)
        now[0] = 105.0
        assert await known.of(room, me) is None


async def test_absence_is_never_remembered(broker: Running) -> None:
    """A user who joins over a socket is a member at the next request."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    room = await alice.room()
    assert (await bob.get(f"/rooms/{room}")).status_code == 404
    await broker.app.state.upstream.chat.rooms.join(room, user_id=await bob.id())
    assert (await bob.get(f"/rooms/{room}")).status_code == 200


OWNERS_ONLY: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"name": "x"}),
    ("DELETE", "", None),
    ("PUT", "/members/external:carol", None),
    ("DELETE", "/members/external:alice", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OWNERS_ONLY, ids=str)
async def test_some_things_are_the_owners_alone(
    broker: Running, method: str, path: str, body: Any
) -> None:
    """A member gets 403 owner_only; the owner succeeds."""
    alice, bob, carol = [await broker.sign_in(name) for name in ("alice", "bob", "carol")]
    await carol.get("/me")
    room = await alice.room()
    await bob.post(f"/rooms/{room}/join")
    refused = await bob.call(method, f"/rooms/{room}{path}", body)
    assert (refused.status_code, code_of(refused)) == (403, "owner_only")
    assert (await alice.call(method, f"/rooms/{room}{path}", body)).status_code in {200, 204}


async def test_anybody_removes_themselves(broker: Running) -> None:
    """A user is found by chat user id and by external id."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    room = await alice.room()
    for who in (await bob.id(), "external:bob"):
        await bob.post(f"/rooms/{room}/join")
        assert (await bob.delete(f"/rooms/{room}/members/{who}")).status_code == 204
        assert (await bob.get(f"/rooms/{room}")).status_code == 404


async def test_messages_are_their_authors_and_to_delete_also_the_owners(broker: Running) -> None:
    """The owner may delete the messages of others, but not edit them."""
    alice, bob, carol = [await broker.sign_in(name) for name in ("alice", "bob", "carol")]
    room = await alice.room()
    for person in (bob, carol):
        await person.post(f"/rooms/{room}/join")
    bobs = (await bob.say(room, "one"))["id"]
    path = f"/rooms/{room}/messages/{bobs}"
    for person in (alice, carol):
        refused = await person.patch(path, {"content": "forged"})
        assert (refused.status_code, code_of(refused)) == (403, "author_only"), person.name
    assert (await carol.delete(path)).status_code == 403
    edited = await bob.patch(path, {"content": "two"})
    assert edited.status_code == 200
    assert (edited.json()["content"], edited.json()["seq"]) == ("two", 1)
    assert edited.json()["edited_at"] is not None
    assert (await alice.delete(path)).status_code == 204
    left = (await bob.get(f"/rooms/{room}/messages")).json()["items"]
    assert [(one["content"], one["seq"]) for one in left] == [("", 1)]
    own = (await carol.say(room))["id"]
    assert (await carol.delete(f"/rooms/{room}/messages/{own}")).status_code == 204
    for person in (alice, bob):
        missing = await person.delete(f"/rooms/{room}/messages/{NOWHERE}")
        assert (missing.status_code, code_of(missing)) == (404, "message_not_found")


async def test_the_author_of_an_old_message_is_found_after_a_restart(tmp_path: Path) -> None:
    """A broker that has not cached the message finds it beyond the first page."""
    async with running(tmp_path) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        room = await alice.room()
        for person in (bob, await broker.sign_in("carol")):
            await person.post(f"/rooms/{room}/join")
        first = (await bob.say(room, "the first"))["id"]
        for number in range(205):
            await alice.say(room, str(number))
    async with running(tmp_path) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        carol, path = await broker.sign_in("carol"), f"/rooms/{room}/messages/{first}"
        for person in (carol, alice, carol):
            refused = await person.patch(path, {"content": "forged"})
            assert (refused.status_code, code_of(refused)) == (403, "author_only"), person.name
        assert (await carol.delete(path)).status_code == 403
        assert (await bob.patch(path, {"content": "mine"})).json()["content"] == "mine"


async def test_nobody_is_created_by_being_named(broker: Running) -> None:
    """404 user_not_found for a new member, and for a first member of a new room."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    broker.upstream.seen.clear()
    for who in ("external:nobody", NOWHERE, "external:", "x~y"):
        answer = await alice.put(f"/rooms/{room}/members/{who}")
        assert (answer.status_code, code_of(answer)) == (404, "user_not_found"), who
        made = await alice.post("/rooms", {"name": "x", "member_ids": [who]})
        assert (made.status_code, code_of(made)) == (404, "user_not_found"), who
    assert not [one for one in broker.upstream.paths() if one.endswith("/users")]
    assert (await alice.get("/rooms")).json()["total"] == 1


async def test_rooms_are_listed_as_joined_or_as_open(broker: Running) -> None:
    """`unread` is shown for the user's own rooms; only members see a room's metadata."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    shown = await alice.room(name="open", metadata={"topic": 1})
    await alice.room(name="closed", private=True)
    assert [room["name"] for room in (await bob.get("/rooms")).json()["items"]] == []
    found = (await bob.get("/rooms?scope=open")).json()
    assert [room["name"] for room in found["items"]] == ["open"]
    assert "metadata" not in found["items"][0]
    await bob.post(f"/rooms/{shown}/join")
    for _ in range(3):
        await alice.say(shown)
    await bob.say(shown)
    mine = (await bob.get("/rooms?scope=joined")).json()["items"]
    assert [(room["name"], room["unread"], room["metadata"]) for room in mine] == [
        ("open", 3, {"topic": 1})
    ]
    mark = await bob.put(f"/rooms/{shown}/read", {"seq": 2})
    assert mark.json() == {"last_read_seq": 2, "unread": 1}
    assert (await bob.put(f"/rooms/{shown}/read", {"seq": 1})).json()["last_read_seq"] == 2
    assert (await bob.get("/rooms?scope=all")).status_code == 400


async def test_pages_and_cursors(broker: Running) -> None:
    """`page` and `before` list newest first, `after` oldest first; they cannot be combined."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    for number in range(1, 8):
        await alice.say(room, str(number))

    async def seqs(query: str) -> list[int]:
        answer = await alice.get(f"/rooms/{room}/messages?{query}")
        assert answer.status_code == 200, answer.text
        return [one["seq"] for one in answer.json()["items"]]

    assert await seqs("page=1&limit=3") == [7, 6, 5]
    assert await seqs("page=3&limit=3") == [1]
    assert await seqs("before=4&limit=2") == [3, 2]
    assert await seqs("after=4&limit=2") == [5, 6]
    page = (await alice.get(f"/rooms/{room}/messages?page=2&limit=3")).json()
    assert (page["page"], page["limit"], page["total"], page["totalPages"]) == (2, 3, 7, 3)
    cursor = (await alice.get(f"/rooms/{room}/messages?after=0&limit=3")).json()
    assert cursor["has_more"] is True
    assert (await alice.get(f"/rooms/{room}/messages?page=1&before=3")).status_code == 400


async def test_an_idempotency_key_is_ones_own(broker: Running) -> None:
    """A repeated request is carried out once; another body is 422; an equal key of another user is another key."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    key = {"idempotency-key": "k-1"}
    rooms = [await alice.post("/rooms", {"name": "x"}, headers=key) for _ in range(2)]
    assert rooms[0].json() == rooms[1].json()
    other = await alice.post("/rooms", {"name": "y"}, headers=key)
    assert (other.status_code, code_of(other)) == (422, "idempotency_key_reused")
    theirs = await bob.post("/rooms", {"name": "x"}, headers=key)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != rooms[0].json()["id"]
    room = rooms[0].json()["id"]
    await bob.post(f"/rooms/{room}/join")
    said = [
        await person.post(f"/rooms/{room}/messages", {"content": "hi"}, headers=key)
        for person in (alice, alice, bob)
    ]
    assert [one.json()["seq"] for one in said] == [1, 1, 2]
    for bad in ("", "a b", "x" * 256):
        answer = await alice.post("/rooms", {"name": "x"}, headers={"idempotency-key": bad})
        assert answer.status_code == 400, bad


async def test_a_repeated_client_msg_id_answers_the_first_message(broker: Running) -> None:
    alice = await broker.sign_in("alice")
    room = await alice.room()
    said = [
        (
            await alice.post(f"/rooms/{room}/messages", {"content": "hi", "client_msg_id": "c1"})
        ).json()
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert said[0]["client_msg_id"] == "c1"


async def test_others_are_seen_by_name_and_what_the_operator_adds(tmp_path: Path) -> None:
    """Member lists never hold e-mail addresses."""
    async with running(tmp_path) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        room = await alice.room()
        await bob.post(f"/rooms/{room}/join")
        await broker.app.state.upstream.chat.users.update(
            await bob.id(), email="bob@example.com", metadata={"team": "red"}
        )
        plain = await alice.get(f"/rooms/{room}/members")
        assert set(plain.json()["items"][1]) == {
            "room_id", "user_id", "username", "display_name", "role", "joined_at", "last_read_seq",
            "rev",
        }  # fmt: skip
    async with running(tmp_path, expose_user_fields="external_user_id,metadata") as broker:
        alice = await broker.sign_in("alice")
        shown = await alice.get(f"/rooms/{room}/members")
        entry = shown.json()["items"][1]
        assert (entry["external_user_id"], entry["metadata"]) == ("bob", {"team": "red"})
        assert "bob@example.com" not in shown.text


async def test_all_routes_move_together(tmp_path: Path) -> None:
    """ROUTE_PREFIX=/api/chat moves every route."""
    async with running(tmp_path, route_prefix="/api/chat") as broker:
        alice: Person = await broker.sign_in("alice")
        room = await alice.room()
        assert (await alice.get(f"/rooms/{room}/messages")).status_code == 200
        assert (await alice.get("/token")).status_code == 200
        assert (await alice.client.get("/chat/token")).status_code == 404


async def test_a_room_is_changed_by_what_is_sent_alone(broker: Running) -> None:
    """null clears a field, a missing field stays, an empty body changes nothing."""
    alice = await broker.sign_in("alice")
    room = await alice.room(description="d", metadata={"a": 1})
    changed = (await alice.patch(f"/rooms/{room}", {"description": None, "metadata": None})).json()
    assert (changed["name"], changed["description"], changed["metadata"]) == ("General", None, {})
    assert (await alice.patch(f"/rooms/{room}", {"private": True})).json()["private"] is True
    assert (await alice.patch(f"/rooms/{room}", {})).status_code == 200
    for bad in ({"name": None}, {"private": None}, {"name": ""}, {"name": " "}, {"name": "a\nb"}):
        assert (await alice.patch(f"/rooms/{room}", bad)).status_code == 400, bad
