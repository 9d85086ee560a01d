"""The caller's settings and blocks, and the directory: always the caller's own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.test_sync import ok, over_fake, pair
from tests.app.brokers import Person, Running, code_of, running

ALL = ("changes", "mine", "sync", "direct", "blocks", "directory")
UNTOUCHED = {"presence": "visible", "receipts": True, "notify": None, "push_preview": True}


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker with a directory, over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path, ALL, directory=True) as (one, _):
            yield one
    else:
        async with running(tmp_path, directory=True) as one:
            yield one


async def done(person: Person, method: str, path: str) -> None:
    answer = await person.call(method, path)
    assert (answer.status_code, answer.content) == (204, b""), answer.text


async def test_settings_are_the_callers_own(on_both: Running) -> None:
    alice, bob, _ = await pair(on_both)
    assert await ok(alice, "GET", "/me/settings") == UNTOUCHED
    changes = {"presence": "hidden", "notify": "mentions"}
    assert await ok(alice, "PATCH", "/me/settings", changes) == UNTOUCHED | changes
    rest = {"receipts": False, "push_preview": False, "notify": None}
    expected = UNTOUCHED | changes | rest
    assert await ok(alice, "PATCH", "/me/settings", rest) == expected
    assert await ok(alice, "PATCH", "/me/settings", {}) == expected
    assert await ok(alice, "GET", "/me/settings") == expected
    assert await ok(bob, "GET", "/me/settings") == UNTOUCHED


@pytest.mark.parametrize(
    "body",
    [
        {"presence": "away"},
        {"presence": None},
        {"receipts": 1},
        {"receipts": None},
        {"notify": "some"},
        {"push_preview": "no"},
        {"user_id": "somebody"},
        {"colour": "red"},
        [],
    ],
)
async def test_bad_settings_are_refused_and_go_nowhere(on_both: Running, body: Any) -> None:
    alice = await on_both.sign_in("alice")
    answer = await alice.patch("/me/settings", body)
    assert answer.status_code == 400, answer.text
    assert "PATCH" not in " ".join(on_both.upstream.paths())


async def test_blocks_are_the_callers_own_and_the_blocked_are_not_told(on_both: Running) -> None:
    """Whom they name by id or by the app's id; the blocked sees neither a list nor another answer."""
    alice, bob, room = await pair(on_both)
    await alice.say(room)
    before = await ok(alice, "GET", f"/rooms/{room}/members")
    for _ in range(2):
        await done(bob, "PUT", "/me/blocks/external:alice")
    page = await ok(bob, "GET", "/me/blocks?limit=1")
    assert page["total"] == 1
    (shown,) = page["items"]
    assert set(shown) == {"id", "username", "display_name", "avatar_url"}
    assert shown["id"] == await alice.id()
    assert (await ok(bob, "GET", "/unread"))["messages"] == 0
    assert (await ok(bob, "GET", "/rooms"))["items"][0]["unread"] == 0
    assert (await ok(alice, "GET", "/me/blocks"))["items"] == []
    assert await ok(alice, "GET", f"/rooms/{room}/members") == before
    for _ in range(2):
        await done(bob, "DELETE", f"/me/blocks/{await alice.id()}")
    assert (await ok(bob, "GET", "/unread"))["messages"] == 1


async def test_nobody_posts_to_a_direct_room_of_two_of_whom_one_blocks(on_both: Running) -> None:
    """Neither of the two; the answer does not tell who of them blocks. Both still read it."""
    alice, bob, room = await pair(on_both)
    chat = on_both.app.state.upstream.chat
    direct = (await chat.rooms.ensure_direct([await alice.id(), await bob.id()])).id
    message = await alice.say(direct)
    await done(bob, "PUT", "/me/blocks/external:alice")
    refusals = set()
    for person in (alice, bob):
        answer = await person.post(f"/rooms/{direct}/messages", {"content": "hello"})
        assert (answer.status_code, code_of(answer)) == (403, "blocked")
        refusals.add(answer.json()["detail"])
        page = await ok(person, "GET", f"/rooms/{direct}/messages")
        assert [each["id"] for each in page["items"]] == [message["id"]]
        await person.say(room)
    assert len(refusals) == 1
    await done(bob, "DELETE", "/me/blocks/external:alice")
    await alice.say(direct)


async def test_who_cannot_be_blocked_is_told_to_the_caller(on_both: Running) -> None:
    alice, _, _ = await pair(on_both)
    own = await alice.id()
    for path in (f"/me/blocks/{own}", "/me/blocks/external:alice"):
        answer = await alice.put(path)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["field"] == "user"
    for path in ("/me/blocks/external:nobody", "/me/blocks/a!b", f"/me/blocks/{'0' * 32}"):
        answer = await alice.put(path)
        assert (answer.status_code, code_of(answer)) == (404, "user_not_found"), path
    answer = await alice.put("/me/blocks/external:bob", {"user_id": own})
    assert answer.status_code == 400


async def test_too_many_blocks_are_a_conflict(tmp_path: Path) -> None:
    async with over_fake(tmp_path, ALL) as (broker, fake):
        _, bob, _ = await pair(broker)
        fake.store.blocks[await bob.id()] = {f"x{number}" for number in range(1000)}
        answer = await bob.put("/me/blocks/external:alice")
        assert (answer.status_code, code_of(answer)) == (409, "too_many_blocks")


async def test_an_external_id_may_hold_a_slash(on_both: Running) -> None:
    odd = await on_both.sign_in("a/b")
    await odd.get("/me")
    alice = await on_both.sign_in("alice")
    await done(alice, "PUT", "/me/blocks/external:a/b")
    page = await ok(alice, "GET", "/me/blocks")
    assert [each["id"] for each in page["items"]] == [await odd.id()]


async def test_a_block_says_reload_once(tmp_path: Path) -> None:
    async with over_fake(tmp_path, ALL) as (broker, _):
        _, bob, _ = await pair(broker)
        first = await ok(bob, "POST", "/sync", {})
        assert first["version"] == 0
        await done(bob, "PUT", "/me/blocks/external:alice")
        news = await ok(bob, "POST", "/sync", {"have_version": 0})
        assert (news["version"], news["reload"]) == (1, True)
        again = await ok(bob, "POST", "/sync", {"have_version": 1})
        assert "reload" not in again


async def test_users_find_each_other_by_the_beginning_of_a_name(on_both: Running) -> None:
    """As others see them; not those who block the caller."""
    alice, bob, _ = await pair(on_both)
    answer = await ok(alice, "GET", "/users?q=BO")
    assert set(answer["items"][0]) == {"id", "username", "display_name", "avatar_url"}
    assert [each["id"] for each in answer["items"]] == [await bob.id()]
    assert (await ok(alice, "GET", "/users?q=ob"))["items"] == []
    assert "directory" in (await ok(alice, "GET", "/features"))["features"]
    await done(bob, "PUT", "/me/blocks/external:alice")
    assert (await ok(alice, "GET", "/users?q=bo"))["items"] == []
    for query in ("", "?q=", f"?q={'x' * 129}", "?q=a&limit=21", "?q=a&limit=0", "?q=a&page=1"):
        assert (await alice.get(f"/users{query}")).status_code == 400, query


@pytest.mark.parametrize("upstream", ["fake", "server"])
async def test_the_directory_is_off_unless_switched_on(tmp_path: Path, upstream: str) -> None:
    """403, and no feature, whatever the Chat API offers; nothing is asked of it."""
    if upstream == "fake":
        async with over_fake(tmp_path, ALL) as (broker, fake):
            await _is_off(broker)
            assert fake.count("/directory") == 0
    else:
        async with running(tmp_path) as broker:
            await _is_off(broker)


async def _is_off(broker: Running) -> None:
    alice = await broker.sign_in("alice")
    answer = await alice.get("/users?q=a")
    assert (answer.status_code, code_of(answer)) == (403, "directory_off")
    assert "directory" not in (await ok(alice, "GET", "/features"))["features"]


async def test_what_is_not_offered_is_501_with_its_name(tmp_path: Path) -> None:
    """Switched off by the operator, or lacking at the Chat API. Settings go on where blocks alone are switched off."""
    calls = (
        ("GET", "/me/settings", None, "blocks"),
        ("PATCH", "/me/settings", {"receipts": False}, "blocks"),
        ("GET", "/me/blocks", None, "blocks"),
        ("PUT", "/me/blocks/external:alice", None, "blocks"),
        ("DELETE", "/me/blocks/external:alice", None, "blocks"),
        ("GET", "/users?q=a", None, "directory"),
    )
    for number, (features, off) in enumerate(((ALL, "blocks,directory"), (("changes",), ""))):
        lacking = calls[2:] if off else calls
        folder = tmp_path / str(number)
        folder.mkdir()
        async with over_fake(folder, features, features_off=off, directory=True) as (broker, fake):
            alice = await broker.sign_in("alice")
            for method, path, body, feature in lacking:
                answer = await alice.call(method, path, body)
                assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
                assert answer.json()["feature"] == feature
            assert fake.count("blocks|settings|directory") == 0
            if off:
                changed = await ok(alice, "PATCH", "/me/settings", {"presence": "hidden"})
                assert await ok(alice, "GET", "/me/settings") == changed


async def test_nobody_asks_without_a_credential(on_both: Running) -> None:
    for method, path in (
        ("GET", "/me/settings"),
        ("PATCH", "/me/settings"),
        ("GET", "/me/blocks"),
        ("PUT", "/me/blocks/external:alice"),
        ("DELETE", "/me/blocks/external:alice"),
        ("GET", "/users?q=a"),
    ):
        answer = await on_both.client.request(method, f"/chat{path}")
        assert answer.status_code == 401, path
