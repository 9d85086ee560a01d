"""Replies, mentions and silent messages of frontends: in their own rooms, in their own name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chat_broker.api.requests import MessageDraft
from chat_broker.auth.principal_from_claims import ClaimNames, principal_from
from chat_broker.chat import views
from chat_broker.chat.broker import Window
from chat_broker.chat.principal import Principal
from tests.app.api.test_sync import over_fake, pair
from tests.app.brokers import Person, Running, code_of, running

ALL = ("changes", "mine", "sync", "replies", "mentions")


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path, ALL) as (one, _):
            yield one
    else:
        async with running(tmp_path) as one:
            yield one


async def ok(person: Person, method: str, path: str, json: Any = None) -> Any:
    answer = await person.call(method, path, json)
    assert answer.is_success, answer.text
    return answer.json()


def fields_of(answer: Any) -> list[str]:
    return [each["field"] for each in answer.json()["errors"]]


async def test_a_reply_shows_what_it_answers(on_both: Running) -> None:
    """In the response, in lists, alone and among the rooms; a message of another room is 404."""
    alice, bob, room = await pair(on_both)
    path = f"/rooms/{room}/messages"
    question = await ok(alice, "POST", path, {"content": "?" * 300})
    assert "reply_to" not in question
    reply = await ok(bob, "POST", path, {"content": "!", "reply_to": question["id"]})
    assert reply["reply_to"] == {
        "id": question["id"],
        "seq": 1,
        "user_id": await alice.id(),
        "username": "alice",
        "display_name": question["display_name"],
        "content": "?" * 200,
    }
    assert (await ok(alice, "GET", path))["items"][0] == reply
    assert await ok(alice, "GET", f"{path}/{reply['id']}") == reply
    assert (await ok(alice, "GET", "/rooms"))["items"][0]["last_message"] == reply
    await ok(alice, "PATCH", f"{path}/{question['id']}", {"content": "other"})
    assert (await ok(bob, "GET", path))["items"][0]["reply_to"]["content"] == "other"
    other = await alice.room()
    for reply_to in (question["id"], "0" * 32, "a!b"):
        body = {"content": "!", "reply_to": reply_to}
        answer = await alice.post(f"/rooms/{other}/messages", body)
        assert (answer.status_code, code_of(answer)) == (404, "message_not_found")


async def test_mentions_are_ids_of_the_app_or_of_the_chat(on_both: Running) -> None:
    """They are counted for whom they name, and listed newest first."""
    alice, bob, room = await pair(on_both)
    path = f"/rooms/{room}/messages"
    bob_id = await bob.id()
    one = await ok(alice, "POST", path, {"content": "1", "mentions": ["external:bob", bob_id]})
    assert one["mentions"] == [bob_id]
    two = await ok(alice, "POST", path, {"content": "2", "mention_room": True})
    assert two["mention_room"] is True
    quiet = await ok(alice, "POST", path, {"content": "3", "mentions": [bob_id], "silent": True})
    assert quiet["silent"] is True
    assert (await ok(bob, "GET", f"/rooms/{room}/mine"))["mentions"] == 2
    assert (await ok(bob, "GET", "/unread"))["mentions"] == 2
    found, query = [], "?limit=1"
    while True:
        page = await ok(bob, "GET", f"/mentions{query}")
        found += page["items"]
        if not page["has_more"]:
            break
        query = f"?limit=1&cursor={page['next_cursor']}"
    assert found == [quiet, two, one]
    assert (await ok(alice, "GET", "/mentions"))["items"] == []
    await bob.post(f"/rooms/{room}/leave")
    assert (await ok(bob, "GET", "/mentions"))["items"] == []


async def test_who_is_no_member_is_refused_by_the_place_in_the_list(on_both: Running) -> None:
    """Whether the broker knows it or the Chat API says it."""
    alice, bob, room = await pair(on_both)
    carol = await on_both.sign_in("carol")
    await carol.get("/me")
    path = f"/rooms/{room}/messages"
    for strangers, fields in (
        (["external:bob", "external:carol"], ["mentions[1]"]),
        (["external:nobody", "external:bob"], ["mentions[0]"]),
        (["a!b"], ["mentions[0]"]),
        (["external:bob"] * 51, ["mentions"]),
    ):
        answer = await alice.post(path, {"content": "x", "mentions": strangers})
        assert (answer.status_code, code_of(answer)) == (400, "invalid_input")
        assert fields_of(answer) == fields
    message = await ok(alice, "POST", path, {"content": "x"})
    one = f"{path}/{message['id']}"
    answer = await alice.call("PATCH", one, {"mentions": ["external:carol"]})
    assert fields_of(answer) == ["mentions[0]"]
    edited = await ok(alice, "PATCH", one, {"mentions": ["external:bob"]})
    assert (edited["mentions"], edited["content"]) == ([await bob.id()], "x")
    assert "mentions" not in await ok(alice, "PATCH", one, {"mentions": []})
    assert (await alice.call("PATCH", one, {})).status_code == 400


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"type": "system"}, "type"),
        ({"event": {"name": "x"}}, "event"),
        ({"silent": 1}, "silent"),
        ({"mention_room": "yes"}, "mention_room"),
        ({"reply_to": 5}, "reply_to"),
        ({"mentions": "bob"}, "mentions"),
    ],
)
async def test_frontends_post_no_system_messages(
    on_both: Running, more: dict[str, Any], field: str
) -> None:
    alice, _, room = await pair(on_both)
    answer = await alice.post(f"/rooms/{room}/messages", {"content": "x", **more})
    assert answer.status_code == 400
    assert fields_of(answer) == [field]


async def test_strangers_reply_to_nothing(on_both: Running) -> None:
    """A room of others answers as one that does not exist, whatever is named."""
    alice, _, room = await pair(on_both)
    path = f"/rooms/{room}/messages"
    message = await ok(alice, "POST", path, {"content": "x"})
    carol = await on_both.sign_in("carol")
    body = {"content": "y", "reply_to": message["id"], "mentions": ["external:bob"]}
    answer = await carol.post(path, body)
    missing = await carol.post(f"/rooms/{'0' * 32}/messages", body)
    assert (answer.status_code, code_of(answer)) == (404, "room_not_found")
    assert answer.json() | {"instance": "", "request_id": ""} == missing.json() | {
        "instance": "",
        "request_id": "",
    }


async def test_what_is_not_offered_is_501_with_its_name(tmp_path: Path) -> None:
    """Switched off by the operator, or lacking at the Chat API."""
    calls = (
        ("POST", "/rooms/{room}/messages", {"content": "x", "reply_to": "0" * 32}, "replies"),
        (
            "POST",
            "/rooms/{room}/messages",
            {"content": "x", "mentions": ["external:b"]},
            "mentions",
        ),
        ("POST", "/rooms/{room}/messages", {"content": "x", "mention_room": True}, "mentions"),
        ("PATCH", "/rooms/{room}/messages/m", {"mentions": []}, "mentions"),
        ("GET", "/mentions", None, "mentions"),
    )
    for number, (features, off) in enumerate(((ALL, "replies,mentions"), (("changes",), ""))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with over_fake(folder, features, features_off=off) as (broker, fake):
            alice = await broker.sign_in("alice")
            room = await alice.room()
            for method, path, body, feature in calls:
                answer = await alice.call(method, path.replace("{room}", room), body)
                assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
                assert answer.json()["feature"] == feature
            assert fake.count("messages|mentions") == 0


async def test_nobody_asks_for_mentions_without_a_credential(on_both: Running) -> None:
    assert (await on_both.client.get("/chat/mentions")).status_code == 401
    alice = await on_both.sign_in("alice")
    answer = await alice.get("/mentions?user_id=somebody")
    assert (answer.status_code, code_of(answer)) == (400, "identity_not_allowed")


async def test_the_avatar_of_the_credential_is_shown_with_the_name(tmp_path: Path) -> None:
    """In `me`, members and messages; a changed one is told once, and what is no http(s) URL never."""
    one, two = "https://example.com/1.png", "https://example.com/2.png"
    async with running(tmp_path) as broker:
        rules = broker.app.broker

        def claims(picture: Any) -> Principal:
            return principal_from(
                {"sub": "zoe", "preferred_username": "zoe", "picture": picture},
                ClaimNames(),
                issuer="iss",
                alias=None,
                expires_at=None,
                carrier="bearer",
            )

        zoe = claims(one)
        assert (await rules.whoami(zoe)).avatar_url == one
        room = await rules.create_room(zoe, {"name": "r"})
        message = await rules.post_message(zoe, room.id, MessageDraft(content="x"))
        assert views.message(message).avatar_url == one
        members = await rules.members(zoe, room.id, Window())
        assert [views.member(each).avatar_url for each in members.items] == [one]
        assert (await rules.whoami(claims(two))).avatar_url == two
        for bad in (None, 5, "", "javascript:alert(1)", "data:image/png;base64,AA", "x" * 3000):
            assert (await rules.whoami(claims(bad))).avatar_url == two
        broker.upstream.seen.clear()
        await rules.whoami(claims(two))
        assert not [path for path in broker.upstream.paths() if path.startswith("PATCH")]
