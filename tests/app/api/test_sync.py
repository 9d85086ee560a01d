"""Features, changes, one's own side of a room, unread and sync: always the caller's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import chat_broker_server
from chat_broker.main import create_app
from chat_broker_sdk import AsgiTransport
from chat_broker_sdk.testing import FakeChatApi
from tests.app.api.test_bad_input import HEADERS, corpus
from tests.app.brokers import API_KEY, Person, Running, Upstream, code_of, http, running, settings

ALL = ("changes", "mine", "sync")


@asynccontextmanager
async def over_fake(
    tmp_path: Path, features: tuple[str, ...] = ALL, **given: Any
) -> AsyncIterator[tuple[Running, FakeChatApi]]:
    """A broker over a Chat API in memory that has *features*."""
    fake = FakeChatApi(api_key=API_KEY, features=features)
    upstream = Upstream(AsgiTransport(fake))
    app = create_app(settings(tmp_path, **given), chat_transport=upstream)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(http(app))
        nobody = cast("chat_broker_server.Server", None)
        yield Running(app, upstream, client, nobody, stack, "/chat"), fake


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with over_fake(tmp_path) as (one, _):
        yield one


@pytest.fixture(params=["fake", "server"])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker over the Chat API in memory, and over the real one."""
    if request.param == "fake":
        async with over_fake(tmp_path) as (one, _):
            yield one
    else:
        async with running(tmp_path) as one:
            yield one


async def pair(broker: Running) -> tuple[Person, Person, str]:
    """Alice, Bob, and Alice's room with both in it."""
    alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
    await bob.get("/me")
    return alice, bob, await alice.room(member_ids=["external:bob"])


async def ok(person: Person, method: str, path: str, json: Any = None, **more: Any) -> Any:
    answer = await person.call(method, path, json, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_features_are_the_chat_apis_less_those_switched_off(tmp_path: Path) -> None:
    async with over_fake(tmp_path, features_off="sync,mine") as (broker, fake):
        alice = await broker.sign_in("alice")
        offered = await ok(alice, "GET", "/features")
        assert offered == {
            "features": ["changes"],
            "limits": offered["limits"],
            "epoch": fake.store.epoch,
        }
        assert offered["limits"]["content"] == 8000
        room = await alice.room()
        for method, path, body, feature in (
            ("POST", "/sync", {}, "sync"),
            ("GET", "/unread", None, "mine"),
            ("GET", f"/rooms/{room}/mine", None, "mine"),
            ("PATCH", f"/rooms/{room}/mine", {"pinned": True}, "mine"),
            ("PUT", f"/rooms/{room}/delivered", {"seq": 1}, "mine"),
            ("POST", "/read", {"all": True}, "mine"),
            ("GET", "/rooms?sort=activity", None, "mine"),
        ):
            answer = await alice.call(method, path, body)
            assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
            assert answer.json()["feature"] == feature, path
        assert (await ok(alice, "GET", f"/rooms/{room}/changes?since_rev=0"))["items"] == []


async def test_a_chat_api_without_features_works_as_before(tmp_path: Path) -> None:
    """What it lacks is 501 with the feature's name; sync and the totals are worked out by reading."""
    async with over_fake(tmp_path, features=()) as (broker, fake):
        alice, bob, room = await pair(broker)
        message = await alice.say(room)
        assert (await ok(alice, "GET", "/features"))["features"] == []
        for method, path, body, feature in (
            ("GET", f"/rooms/{room}/changes?since_rev=0", None, "changes"),
            ("GET", f"/rooms/{room}/messages/{message['id']}", None, "changes"),
            ("GET", f"/rooms/{room}/messages?around=1", None, "changes"),
            ("GET", f"/rooms/{room}/messages?ids={message['id']}", None, "changes"),
            (
                "PATCH",
                f"/rooms/{room}/messages/{message['id']}",
                {"content": "x", "if_rev": 0},
                "changes",
            ),
            ("GET", f"/rooms/{room}/mine", None, "mine"),
            ("GET", "/rooms?archived=true", None, "mine"),
        ):
            answer = await alice.call(method, path, body)
            assert (answer.status_code, code_of(answer)) == (501, "unsupported"), path
            assert answer.json()["feature"] == feature, path
        before = [each for each in fake.seen if each.method != "GET"]
        synced = await ok(bob, "POST", "/sync", {"have": {}})
        assert [each["room"]["id"] for each in synced["deltas"]] == [room]
        assert synced["deltas"][0]["partial"] is True
        assert [each["content"] for each in synced["deltas"][0]["missed"]] == ["hello"]
        assert (await ok(bob, "GET", "/unread"))["messages"] == 1
        assert [each for each in fake.seen if each.method != "GET"] == before, "never a write"
        (listed,) = (await ok(bob, "GET", "/rooms"))["items"]
        assert "mine" not in listed
        assert "last_message" not in listed


async def test_a_chat_api_that_has_changed_is_noticed(tmp_path: Path) -> None:
    async with over_fake(tmp_path, features=()) as (broker, fake):
        alice = await broker.sign_in("alice")
        assert (await ok(alice, "GET", "/features"))["features"] == []
        fake.store.features = ALL
        broker.app.broker.features._clock = lambda: float("inf")  # type: ignore[attr-defined]
        assert (await ok(alice, "GET", "/features"))["features"] == [*ALL]
        assert (await alice.get(f"/rooms/{await alice.room()}/mine")).status_code == 200


async def test_changes_are_told_to_members_as_they_see_them(on_both: Running) -> None:
    broker = on_both
    alice, bob, room = await pair(broker)
    message = await alice.say(room)
    assert "rev" not in message, "a plain message keeps its bytes"
    edited = await ok(alice, "PATCH", f"/rooms/{room}/messages/{message['id']}", {"content": "x"})
    assert edited["rev"] == 1
    await alice.delete(f"/rooms/{room}/members/external:bob")
    await alice.put(f"/rooms/{room}/members/external:bob")
    await ok(alice, "PATCH", f"/rooms/{room}", {"name": "New"})
    page = await ok(bob, "GET", f"/rooms/{room}/changes?since_rev=0")
    assert [(each["rev"], each["kind"]) for each in page["items"]] == [
        (1, "message"),
        (3, "member"),
        (4, "room"),
    ]
    assert (page["rev"], page["has_more"], page["reset"]) == (4, False, False)
    changed, joined, renamed = page["items"]
    assert changed["message"]["content"] == "x"
    assert joined["member"]["username"] == "bob"
    assert joined["user_id"] == await bob.id()
    assert (renamed["room"]["name"], renamed["room"]["small"]) == ("New", True)
    await alice.delete(f"/rooms/{room}/members/external:bob")
    (gone,) = (await ok(alice, "GET", f"/rooms/{room}/changes?since_rev=4"))["items"]
    assert gone["member"] is None
    assert (await ok(alice, "GET", f"/rooms/{room}/changes?since_rev=99"))["reset"] is True
    assert (await ok(alice, "GET", f"/rooms/{room}/changes?since_rev=0&limit=1"))["has_more"]


@pytest.mark.parametrize(
    "query",
    ["", "?since_rev=-1", "?since_rev=x", "?since_rev=0&limit=201", "?since_rev=0&member_id=x"],
)
async def test_a_bad_query_for_changes_is_refused(broker: Running, query: str) -> None:
    alice = await broker.sign_in("alice")
    room = await alice.room()
    before = len(broker.upstream.seen)
    answer = await alice.get(f"/rooms/{room}/changes{query}")
    assert answer.status_code == 400
    assert len(broker.upstream.seen) == before


async def test_messages_by_id_and_around_one(on_both: Running) -> None:
    broker = on_both
    alice, bob, room = await pair(broker)
    posted = [await alice.say(room, str(number)) for number in range(1, 8)]
    one = await ok(bob, "GET", f"/rooms/{room}/messages/{posted[2]['id']}")
    assert one == posted[2]
    near = await ok(bob, "GET", f"/rooms/{room}/messages?around=4&limit=3")
    assert [each["seq"] for each in near["items"]] == [3, 4, 5]
    assert (near["has_before"], near["has_after"]) == (True, True)
    ids = f"{posted[5]['id']},{posted[0]['id']},nobody"
    some = await ok(bob, "GET", f"/rooms/{room}/messages?ids={ids}")
    assert [each["seq"] for each in some["items"]] == [1, 6]
    for missing in ("nobody", "not~an~id"):
        answer = await bob.get(f"/rooms/{room}/messages/{missing}")
        assert (answer.status_code, code_of(answer)) == (404, "message_not_found")
    for query in ("ids=", "ids=a~b", "ids=a&around=1", "around=1&page=1", "around=1&before=2"):
        answer = await bob.get(f"/rooms/{room}/messages?{query}")
        assert answer.status_code == 400, query
    many = ",".join(["a"] * 51)
    assert (await bob.get(f"/rooms/{room}/messages?ids={many}")).status_code == 400


async def test_an_edit_of_what_was_changed_meanwhile_is_409(on_both: Running) -> None:
    broker = on_both
    alice = await broker.sign_in("alice")
    room = await alice.room()
    path = f"/rooms/{room}/messages/{(await alice.say(room))['id']}"
    assert (await ok(alice, "PATCH", path, {"content": "a", "if_rev": 0}))["rev"] == 1
    late = await alice.patch(path, {"content": "b", "if_rev": 0})
    assert (late.status_code, code_of(late), late.json()["rev"]) == (409, "changed", 1)
    assert (await ok(alice, "PATCH", path, {"content": "b", "if_rev": 1}))["rev"] == 2


async def test_ones_own_side_of_a_room_is_nobody_elses(on_both: Running) -> None:
    broker = on_both
    alice, bob, room = await pair(broker)
    await alice.say(room)
    mine = await ok(bob, "GET", f"/rooms/{room}/mine")
    assert (mine["unread"], mine["archived"], mine["muted_until"]) == (1, "no", None)
    changes = {"muted_until": "2999-01-02T03:04:05Z", "notify": "none", "pinned": True}
    changed = await ok(bob, "PATCH", f"/rooms/{room}/mine", changes)
    assert changed["muted_until"].startswith("2999-01-02T03:04:05")
    assert changed["pinned_at"] is not None
    assert (await ok(alice, "GET", f"/rooms/{room}/mine"))["notify"] is None
    cleared = await ok(bob, "PATCH", f"/rooms/{room}/mine", {"muted_until": None, "notify": None})
    assert (cleared["muted_until"], cleared["notify"]) == (None, None)
    assert cleared["pinned_at"] is not None
    assert await ok(bob, "PUT", f"/rooms/{room}/delivered", {"seq": 9}) == {"delivered_seq": 1}
    for bad in ({"muted_until": "tomorrow"}, {"archived": None}, {"notify": "x"}, {"from_seq": 1}):
        answer = await bob.patch(f"/rooms/{room}/mine", bad)
        assert answer.status_code == 400, bad


@pytest.mark.parametrize(
    ("method", "path", "good"),
    [
        ("PATCH", "/rooms/{room}/mine", {"pinned": True}),
        ("PUT", "/rooms/{room}/delivered", {"seq": 1}),
        ("POST", "/read", {"all": True}),
    ],
)
async def test_a_bad_body_is_refused(
    broker: Running, method: str, path: str, good: dict[str, Any]
) -> None:
    alice = await broker.sign_in("alice")
    path = path.format(room=await alice.room())
    before = len(broker.upstream.seen)
    for raw in corpus(good):
        answer = await alice.call(method, path, content=raw, headers=HEADERS)
        assert answer.status_code == 400, (raw[:80], answer.text)
        code_of(answer)
    assert len(broker.upstream.seen) == before
    await ok(alice, method, path, good)


async def test_totals_and_marking_many_rooms_read(on_both: Running) -> None:
    broker = on_both
    alice, bob, room = await pair(broker)
    eves = await (await broker.sign_in("eve")).room()
    other = await alice.room(member_ids=["external:bob"])
    for each in (room, room, other):
        await alice.say(each)
    assert await ok(bob, "GET", "/unread") == {
        "rooms": 2,
        "messages": 3,
        "mentions": 0,
        "direct": 0,
    }
    refused = await bob.post("/read", {"rooms": {room: 2, eves: 0}})
    assert (refused.status_code, code_of(refused)) == (404, "room_not_found")
    assert (await ok(bob, "GET", "/unread"))["messages"] == 3
    assert (await ok(bob, "POST", "/read", {"rooms": {room: 1}}))["totals"]["messages"] == 2
    assert (await ok(bob, "POST", "/read", {"all": True}))["totals"]["rooms"] == 0
    for bad in ({}, {"all": True, "rooms": {room: 1}}, {"rooms": {}}, {"all": False}):
        assert (await bob.post("/read", bad)).status_code == 400, bad


async def test_rooms_are_listed_by_activity_and_found_by_name(on_both: Running) -> None:
    broker = on_both
    alice = await broker.sign_in("alice")
    rooms = [await alice.room(name=f"Room {number}") for number in range(4)]
    await asyncio.sleep(0.002)  # activity is told apart by the millisecond
    await alice.say(rooms[1])
    first = await ok(alice, "GET", "/rooms?sort=activity&limit=3")
    assert first["items"][0]["id"] == rooms[1]
    assert first["items"][0]["last_message"]["content"] == "hello"
    assert first["items"][1]["last_message"] is None
    assert first["items"][0]["mine"]["version"] == 0
    query = {"sort": "activity", "cursor": first["next_cursor"]}
    rest = await ok(alice, "GET", "/rooms", params=query)
    assert {each["id"] for each in first["items"] + rest["items"]} == {*rooms}
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    found = await ok(alice, "GET", "/rooms?q=room+2")
    assert [each["name"] for each in found["items"]] == ["Room 2"]
    await ok(alice, "PATCH", f"/rooms/{rooms[0]}/mine", {"archived": "yes"})
    archived = await ok(alice, "GET", "/rooms?archived=true")
    assert [each["id"] for each in archived["items"]] == [rooms[0]]
    eve = await broker.sign_in("eve")
    opened = await ok(eve, "GET", "/rooms?scope=open&q=room+2")
    assert [set(each) & {"metadata", "mine", "unread"} for each in opened["items"]] == [set()]
    for query_string in (
        "sort=x",
        "sort=activity&page=1",
        "cursor=x",
        "archived=true&scope=open",
        "kind=x",
        "q=",
    ):
        assert (await alice.get(f"/rooms?{query_string}")).status_code == 400, query_string


async def test_sync_answers_the_callers_rooms_and_no_others(broker: Running) -> None:
    alice, bob, room = await pair(broker)
    eve = await broker.sign_in("eve")
    eves = await eve.room(private=True)
    message = await alice.say(room)
    first = await ok(bob, "POST", "/sync", {"messages": 5})
    (delta,) = first["deltas"]
    assert delta["missed"] == [message]
    assert "partial" not in delta
    have = {room: [delta["last_seq"], delta["rev"], delta["mine"]["version"]]}
    known = {"epoch": first["epoch"], "token": first["token"]}
    same = await ok(bob, "POST", "/sync", {"have": {**have, eves: [0, 0, 0]}, **known})
    assert (same["deltas"], same["removed"]) == ([], [eves]), "not a word of a stranger's room"
    await ok(alice, "PATCH", f"/rooms/{room}/messages/{message['id']}", {"content": "x"})
    await alice.say(room, "more")
    (delta,) = (await ok(bob, "POST", "/sync", {"have": have, **known}))["deltas"]
    assert [each["content"] for each in delta["missed"]] == ["more"]
    assert [each["message"]["content"] for each in delta["changed"]] == ["x"]
    for bad in (
        {"have": {room: [1, 2]}},
        {"have": {room: [1, 2, -1]}},
        {"messages": 21},
        {"limit": 0},
        {"have": {str(number): [0, 0, 0] for number in range(501)}},
    ):
        assert (await bob.post("/sync", bad)).status_code == 400, bad


async def test_a_sync_of_many_rooms_counts_as_several_reads(tmp_path: Path) -> None:
    """One read for 20 rooms; the request that uses up the limit is answered."""
    async with over_fake(tmp_path, rate_read="4/minute") as (broker, _):
        alice = await broker.sign_in("alice")
        for _number in range(41):
            await alice.room()
        answered = await ok(alice, "POST", "/sync", {"limit": 200, "messages": 0})
        assert len(answered["deltas"]) == 41
        assert (await alice.post("/sync", {"limit": 20})).status_code == 200
        refused = await alice.post("/sync", {"limit": 20})
        assert (refused.status_code, code_of(refused)) == (429, "rate_limited")
