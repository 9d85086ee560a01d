"""Reactions and pins at the broker: always the caller's own, in rooms of the caller's."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.app.api.test_sync import over_fake
from tests.app.brokers import Person, Running, code_of, running

THUMB, FAMILY = "👍", "👨‍👩‍👧‍👦"
FEATURES = ("changes", "mine", "reactions", "pins")


@pytest.fixture(params=["fake", "server"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            one, _ = await stack.enter_async_context(over_fake(tmp_path, FEATURES))
        else:
            one = await stack.enter_async_context(running(tmp_path))
        yield one


class Talk:
    """Alice's room with Bob in it, and a message of hers."""

    def __init__(self, alice: Person, bob: Person, room: str, message: dict[str, Any]) -> None:
        self.alice, self.bob, self.room, self.message = alice, bob, room, message

    @classmethod
    async def begun(cls, broker: Running) -> "Talk":
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        await bob.get("/me")
        room = await alice.room(member_ids=["external:bob"])
        posted = await alice.post(f"/rooms/{room}/messages", {"content": "hello"})
        return cls(alice, bob, room, posted.json())

    @property
    def path(self) -> str:
        return f"/rooms/{self.room}/messages/{self.message['id']}"

    def reaction(self, emoji: str) -> str:
        return f"{self.path}/reactions/{quote(emoji, safe='')}"


async def test_a_caller_reacts_and_takes_it_back(broker: Running) -> None:
    talk = await Talk.begun(broker)
    me = (await talk.bob.get("/me")).json()["id"]
    for emoji in (THUMB, FAMILY, ":+1:"):
        for _ in range(2):
            answer = await talk.bob.put(talk.reaction(emoji))
            assert answer.status_code == 200, answer.text
    shown = [{"emoji": e, "count": 1, "user_ids": [me]} for e in (THUMB, FAMILY, ":+1:")]
    assert answer.json() == {"reactions": shown}
    assert (await talk.alice.get(talk.path)).json()["reactions"] == shown
    page = (await talk.alice.get(f"/rooms/{talk.room}/messages")).json()
    assert page["items"][0]["reactions"] == shown
    assert "mine" not in page
    who = (await talk.alice.get(f"{talk.path}/reactions?emoji={quote(THUMB)}")).json()
    assert [(item["emoji"], item["user_id"]) for item in who["items"]] == [(THUMB, me)]
    assert (who["has_more"], who["next_cursor"]) == (False, None)
    first = (await talk.alice.get(f"{talk.path}/reactions?limit=2")).json()
    rest = await talk.alice.get(f"{talk.path}/reactions?cursor={first['next_cursor']}")
    assert [item["emoji"] for item in rest.json()["items"]] == [":+1:"]
    for emoji in (THUMB, FAMILY, ":+1:"):
        for _ in range(2):
            answer = await talk.bob.delete(talk.reaction(emoji))
    assert answer.json() == {"reactions": []}
    assert "reactions" not in (await talk.alice.get(talk.path)).json()


async def test_strangers_are_told_of_no_room(broker: Running) -> None:
    """Byte for byte as of a room that is not there."""
    talk = await Talk.begun(broker)
    eve = await broker.sign_in("eve")
    nowhere = "01a20c71-c45b-738b-ba08-8d66392f1f74"
    for method, path in (
        ("PUT", talk.reaction(THUMB)),
        ("DELETE", talk.reaction(THUMB)),
        ("GET", f"{talk.path}/reactions"),
        ("PUT", f"{talk.path}/pin"),
        ("DELETE", f"{talk.path}/pin"),
        ("GET", f"/rooms/{talk.room}/pins"),
    ):
        refused = await eve.call(method, path)
        missing = await eve.call(method, path.replace(talk.room, nowhere))
        assert (refused.status_code, code_of(refused)) == (404, "room_not_found"), path
        told = [
            {k: v for k, v in answer.json().items() if k not in {"instance", "request_id"}}
            for answer in (refused, missing)
        ]
        assert told[0] == told[1]


async def test_what_is_no_emoji_is_refused(broker: Running) -> None:
    talk = await Talk.begun(broker)
    for text in ("a", "é", ":::", ":a b:", "👍" * 17, "x" * 300, ":" + "x" * 63 + ":"):
        for method in ("PUT", "DELETE"):
            answer = await talk.bob.call(method, talk.reaction(text))
            assert (answer.status_code, code_of(answer)) == (400, "invalid_input"), text
            assert answer.json()["errors"][0]["field"] == "emoji"
    for path in ("%FF", "%F0%9F"):
        answer = await talk.bob.put(f"{talk.path}/reactions/{path}")
        assert answer.status_code == 400, path
    for query in ("emoji=", "limit=0", "cursor=x%00", "user_id=x"):
        answer = await talk.bob.get(f"{talk.path}/reactions?{query}")
        assert answer.status_code == 400, query
    answer = await talk.bob.call("PUT", talk.reaction(THUMB), {"user_id": "x"})
    assert answer.status_code == 400


async def test_owners_pin_and_members_see_it(broker: Running) -> None:
    talk = await Talk.begun(broker)
    owner = (await talk.alice.get("/me")).json()["id"]
    refused = await talk.bob.put(f"{talk.path}/pin")
    assert (refused.status_code, code_of(refused)) == (403, "owner_only")
    pinned = (await talk.alice.put(f"{talk.path}/pin")).json()
    assert pinned["pinned_by"] == owner
    assert pinned["pinned_at"].endswith("Z")
    pins = (await talk.bob.get(f"/rooms/{talk.room}/pins")).json()
    assert pins == {"items": [pinned]}
    unpinned = (await talk.alice.delete(f"{talk.path}/pin")).json()
    assert "pinned_at" not in unpinned
    assert (await talk.bob.get(f"/rooms/{talk.room}/pins")).json() == {"items": []}


async def test_conflicts_say_what_is_wrong(broker: Running) -> None:
    talk = await Talk.begun(broker)
    for number in range(20):
        await talk.bob.put(talk.reaction(f":{number}:"))
    answer = await talk.bob.put(talk.reaction(THUMB))
    assert (answer.status_code, code_of(answer)) == (409, "too_many_reactions")
    await talk.alice.delete(talk.path)
    for path in (talk.reaction(THUMB), f"{talk.path}/pin"):
        answer = await talk.alice.put(path)
        assert (answer.status_code, code_of(answer)) == (409, "message_deleted")
    missing = f"/rooms/{talk.room}/messages/01a20c71-c45b-738b-ba08-8d66392f1f74"
    for path in (f"{missing}/reactions/{quote(THUMB)}", f"{missing}/pin"):
        answer = await talk.alice.put(path)
        assert (answer.status_code, code_of(answer)) == (404, "message_not_found")


async def test_a_crowded_message_tells_readers_their_own(broker: Running) -> None:
    """On pages, which are otherwise the same for all; of one message; of changes and pins."""
    talk = await Talk.begun(broker)
    await talk.bob.put(talk.reaction(FAMILY))
    await talk.bob.put(talk.reaction(THUMB))
    for number in range(11):
        person = await broker.sign_in(f"user{number}")
        await person.get("/me")
        added = await talk.alice.put(f"/rooms/{talk.room}/members/external:user{number}")
        assert added.status_code == 200, added.text
        assert (await person.put(talk.reaction(THUMB))).status_code == 200
    await talk.alice.put(f"{talk.path}/pin")
    own = {talk.message["id"]: [FAMILY, THUMB]}
    for path in (
        f"/rooms/{talk.room}/messages",
        f"/rooms/{talk.room}/messages?before=9",
        talk.path,
        f"/rooms/{talk.room}/pins",
    ):
        page = (await talk.bob.get(path)).json()
        assert page["mine"] == own, path
        theirs = (await talk.alice.get(path)).json()
        assert theirs == {name: value for name, value in page.items() if name != "mine"}


@pytest.mark.parametrize("missing", ["reactions", "pins"])
async def test_a_chat_api_without_them_is_501(tmp_path: Path, missing: str) -> None:
    """With the feature's name; likewise where the operator has switched it off."""
    left = tuple(each for each in FEATURES if each != missing)
    async with AsyncExitStack() as stack:
        one, _ = await stack.enter_async_context(over_fake(tmp_path / "1", left))
        other, _ = await stack.enter_async_context(
            over_fake(tmp_path / "2", FEATURES, features_off=missing)
        )
        for broker in (one, other):
            talk = await Talk.begun(broker)
            calls = {
                "reactions": [("PUT", talk.reaction(THUMB)), ("GET", f"{talk.path}/reactions")],
                "pins": [("PUT", f"{talk.path}/pin"), ("GET", f"/rooms/{talk.room}/pins")],
            }
            for method, path in calls[missing]:
                answer = await talk.alice.call(method, path)
                assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
                assert answer.json()["feature"] == missing


async def test_reactions_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """RATE_REACT: those who have used it up still write, and may still react as another user."""
    async with over_fake(tmp_path, FEATURES, rate_react="2/hour") as (broker, _):
        talk = await Talk.begun(broker)
        for method, status in (("PUT", 200), ("DELETE", 200), ("PUT", 429)):
            answer = await talk.bob.call(method, talk.reaction(THUMB))
            assert answer.status_code == status, answer.text
        assert int(answer.headers["retry-after"]) > 0
        posted = await talk.bob.post(f"/rooms/{talk.room}/messages", {"content": "x"})
        assert posted.status_code == 201
        assert (await talk.alice.put(talk.reaction(THUMB))).status_code == 200
