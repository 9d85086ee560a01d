"""Receipts and presence for frontends: as the caller may see them, and no more."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.api.test_sync import ok, over_fake, pair
from tests.app.brokers import Running, code_of, running

ALL = ("changes", "mine", "sync", "blocks", "receipts", "presence", "signals")


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path, ALL) as (one, _):
            yield one
    else:
        async with running(tmp_path) as one:
            yield one


async def test_receipts_follow_the_marks_of_others(on_both: Running) -> None:
    alice, bob, room = await pair(on_both)
    message = await alice.say(room)
    path = f"/rooms/{room}/messages/{message['id']}/receipts"
    nobody = {"read": [], "delivered": [], "read_count": 0, "delivered_count": 0}
    assert await ok(alice, "GET", path) == nobody
    await ok(bob, "PUT", f"/rooms/{room}/read", {"seq": 1})
    expected = {
        "read": [await bob.id()],
        "delivered": [await bob.id()],
        "read_count": 1,
        "delivered_count": 1,
    }
    for person in (alice, bob):
        assert await ok(person, "GET", path) == expected
    deltas = (await ok(alice, "POST", "/sync", {}))["deltas"]
    told = {each["user_id"]: each["read_seq"] for each in deltas[0]["receipts"]}
    assert told == {await alice.id(): 0, await bob.id(): 1}
    await ok(bob, "PATCH", "/me/settings", {"receipts": False})
    assert await ok(alice, "GET", path) == nobody
    answer = await bob.get(path)
    assert (answer.status_code, code_of(answer)) == (403, "receipts_off")


async def test_receipts_of_what_the_caller_does_not_see_are_not_there(on_both: Running) -> None:
    """To a stranger there is no room, byte for byte; to a member no such message."""
    alice, _, room = await pair(on_both)
    message = await alice.say(room)
    stranger = await on_both.sign_in("stranger")
    answers = []
    for where in (room, "0190f3a8-0000-7000-8000-000000000000"):
        answer = await stranger.get(f"/rooms/{where}/messages/{message['id']}/receipts")
        body = answer.json()
        answers.append((answer.status_code, {**body, "instance": "", "request_id": ""}))
    assert answers[0] == answers[1]
    assert (answers[0][0], answers[0][1]["code"]) == (404, "room_not_found")
    for missing in ("0190f3a8-0000-7000-8000-000000000000", "a!b"):
        answer = await alice.get(f"/rooms/{room}/messages/{missing}/receipts")
        assert (answer.status_code, code_of(answer)) == (404, "message_not_found")
    answer = await alice.get(f"/rooms/{room}/messages/{message['id']}/receipts?user_id=x")
    assert answer.status_code == 400


async def test_presence_is_of_users_in_a_common_room(on_both: Running) -> None:
    """Named by their id or the app's own; strangers and names of nobody are left out alike."""
    alice, bob, _ = await pair(on_both)
    stranger = await on_both.sign_in("stranger")
    names = ("external:bob", await stranger.id(), "nobody", "external:nobody", "a!b")
    path = f"/presence?ids={','.join(names)}"
    offline = {"items": [{"user_id": await bob.id(), "online": False}]}
    assert await ok(alice, "GET", path) == offline
    assert await ok(alice, "GET", f"/presence?ids={await bob.id()},external:bob") == offline
    own = await ok(stranger, "GET", f"/presence?ids={await bob.id()},{await stranger.id()}")
    assert own == {"items": [{"user_id": await stranger.id(), "online": False}]}
    await ok(bob, "PATCH", "/me/settings", {"presence": "hidden"})
    hidden = {"items": [{"user_id": await bob.id(), "online": None}]}
    assert await ok(alice, "GET", path) == hidden


async def test_a_bad_question_is_refused_and_goes_nowhere(on_both: Running) -> None:
    alice = await on_both.sign_in("alice")
    many = ",".join(f"u{number}" for number in range(101))
    for query in ("", "?ids=", "?ids=a,,b", f"?ids={many}", "?ids=a&ids=b", "?ids=a&member_id=b"):
        answer = await alice.get(f"/presence{query}")
        assert answer.status_code == 400, query
    assert "presence" not in " ".join(on_both.upstream.paths())


async def test_what_is_not_offered_is_501_with_its_name(tmp_path: Path) -> None:
    """Switched off by the operator, or lacking at the Chat API."""
    for number, (features, off) in enumerate(((ALL, "receipts,presence"), (("changes",), ""))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with over_fake(folder, features, features_off=off) as (broker, fake):
            alice, _, room = await pair(broker)
            message = await alice.say(room)
            for path, feature in (
                (f"/rooms/{room}/messages/{message['id']}/receipts", "receipts"),
                ("/presence?ids=a", "presence"),
            ):
                answer = await alice.get(path)
                assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
                assert answer.json()["feature"] == feature
            assert fake.count("/receipts|/presence") == 0


async def test_nobody_asks_without_a_credential(on_both: Running) -> None:
    for path in ("/presence?ids=a", "/rooms/r/messages/m/receipts"):
        answer = await on_both.client.get(f"/chat{path}")
        assert answer.status_code == 401, path
