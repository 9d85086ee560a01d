"""Every pair of writes that touch one row, at once: both hold, or one is refused as it would be after the other.

What may come out is not written down pair by pair. It is what comes out of the two one after the other, in
either order: the answers' statuses and codes, and all that can be read afterwards.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.signing_keys import SigningKeys
from tests.contract.servers import ChatApi, in_room, made, of_user
from tests.server.opening import opened

USERS = "/api/v1/projects/{pid}/users"
ROOMS = "/api/v1/projects/{pid}/rooms"
ROUNDS = 4
AT_ONCE = 5
"""Rounds side by side, each in a project of its own: they change nothing for each other but the timing."""


@dataclass
class World:
    """Alice, Bob and Carl; a room of Bob's with Alice in it; two messages of Bob's; a token of Alice's."""

    api: ChatApi
    alice: dict[str, Any]
    bob: dict[str, Any]
    carl: dict[str, Any]
    room: dict[str, Any]
    message: dict[str, Any]
    tokens: list[str] = field(default_factory=list)

    @property
    def member(self) -> str:
        return f"{in_room(self.room)}/members"

    @property
    def said(self) -> str:
        return f"{in_room(self.room)}/messages/{self.message['id']}"


Write = Callable[[World, ChatApi], Awaitable[httpx.Response]]


def sends(method: str, path: Callable[[World], str], **body: Any) -> Write:
    """A write that is one request; a string of the body that is a name of the world's stands for that id."""

    def filled(world: World) -> dict[str, Any]:
        people = {"alice": world.alice, "bob": world.bob, "carl": world.carl}
        return {
            name: people[value]["id"]
            if name.endswith(("_id", "_by")) and value in people
            else value
            for name, value in body.items()
        }

    async def send(world: World, api: ChatApi) -> httpx.Response:
        return await api.send(method, path(world), json=filled(world) if body else None)

    return send


def patch(who: str, **body: Any) -> Write:
    return sends("PATCH", lambda world: of_user(getattr(world, who)), **body)


async def mint(world: World, api: ChatApi) -> httpx.Response:
    answer = await api.send("POST", f"{of_user(world.alice)}/token")
    if answer.status_code == 200:
        world.tokens.append(answer.json()["token"])
    return answer


async def post_once(world: World, api: ChatApi) -> httpx.Response:
    body = {"content": "once", "user_id": world.alice["id"]}
    path = f"{in_room(world.room)}/messages"
    return await api.send("POST", path, json=body, headers={"Idempotency-Key": "once"})


async def room_once(world: World, api: ChatApi) -> httpx.Response:
    body = {"name": "Once", "created_by": world.carl["id"]}
    return await api.send("POST", ROOMS, json=body, headers={"Idempotency-Key": "once"})


async def direct(world: World, api: ChatApi) -> httpx.Response:
    people = [world.alice["id"], world.carl["id"]]
    return await api.send("PUT", "/api/v1/projects/{pid}/direct", json={"user_ids": people})


async def several(world: World, api: ChatApi) -> httpx.Response:
    return await api.send("POST", world.member, json={"user_ids": [world.carl["id"]]})


def order(who: str) -> Write:
    return sends("PUT", lambda _: f"{ROOMS}/external:order", name="Order", created_by=who)


WRITES: dict[str, tuple[set[str], Write]] = {
    # name: the rows that it touches, and the write
    "name": ({"alice"}, patch("alice", display_name="Al")),
    "other name": ({"alice"}, patch("alice", display_name="Ally")),
    "email": ({"alice"}, patch("alice", email="alice@example.com")),
    "suspend": ({"alice"}, patch("alice", status="suspended")),
    "free": ({"alice"}, patch("alice", status="active")),
    "username": ({"alice", "dora"}, patch("alice", username="dora")),
    "revoke": ({"alice"}, sends("POST", lambda world: f"{of_user(world.alice)}/revoke")),
    "mint": ({"alice"}, mint),
    "delete alice": ({"alice", "member", "owner"}, sends("DELETE", lambda world: of_user(world.alice))),
    "create dora": ({"dora", "d-1"}, sends("POST", lambda _: USERS, username="dora", external_user_id="d-1")),
    "create dorothy": ({"d-1"}, sends("POST", lambda _: USERS, username="dorothy", external_user_id="d-1")),
    "create Dora": ({"dora"}, sends("POST", lambda _: USERS, username="Dora", external_user_id="d-2")),
    "room name": ({"room"}, sends("PATCH", lambda world: in_room(world.room), name="Hall")),
    "description": ({"room"}, sends("PATCH", lambda world: in_room(world.room), description="Big")),
    "private": ({"room"}, sends("PATCH", lambda world: in_room(world.room), private=True)),
    "open": ({"room"}, sends("PATCH", lambda world: in_room(world.room), private=False)),
    "delete room": (
        {"room", "member", "carl", "message", "mark"},
        sends("DELETE", lambda world: in_room(world.room)),
    ),
    "carl joins": (
        {"room", "carl"},
        sends("POST", lambda world: f"{in_room(world.room)}/join", user_id="carl"),
    ),
    "carl is put": ({"carl", "owner"}, sends("PUT", lambda world: f"{world.member}/{world.carl['id']}", role="owner")),
    "carl is added": ({"carl"}, several),
    "direct": ({"carl", "direct"}, direct),
    "carl's order": ({"carl", "order"}, order("carl")),
    "alice's order": ({"order"}, order("alice")),
    "order is made": (
        {"order"},
        sends("POST", lambda _: ROOMS, name="Other", created_by="bob", external_id="order"),
    ),
    "order is deleted": ({"order"}, sends("DELETE", lambda _: f"{ROOMS}/external:order")),
    "carl leaves": (
        {"carl"},
        sends("POST", lambda world: f"{in_room(world.room)}/leave", user_id="carl"),
    ),
    "delete carl": ({"carl"}, sends("DELETE", lambda world: of_user(world.carl))),
    "carl's room": ({"carl"}, sends("POST", lambda _: ROOMS, name="New", created_by="carl")),
    "carl's room, once": ({"carl"}, room_once),
    "role": ({"member", "owner"}, sends("PUT", lambda world: f"{world.member}/{world.alice['id']}", role="owner")),
    "leave": ({"member", "mark", "owner"}, sends("POST", lambda world: f"{in_room(world.room)}/leave", user_id="alice")),
    "moderate": ({"member", "owner"}, sends("PUT", lambda world: f"{world.member}/{world.alice['id']}", role="moderator")),
    "bob leaves": (
        {"owner"},
        sends("POST", lambda world: f"{in_room(world.room)}/leave", user_id="bob"),
    ),
    "bob is removed": ({"owner"}, sends("DELETE", lambda world: f"{world.member}/{world.bob['id']}")),
    "delete bob": ({"owner"}, sends("DELETE", lambda world: of_user(world.bob))),
    "bob steps down": ({"owner"}, sends("PUT", lambda world: f"{world.member}/{world.bob['id']}", role="guest")),
    "read only": ({"room"}, sends("PATCH", lambda world: in_room(world.room), settings={"read_only": True})),
    "for newcomers": ({"room"}, sends("PATCH", lambda world: in_room(world.room), settings={"history": "joined"})),
    "remove": ({"member"}, sends("DELETE", lambda world: f"{world.member}/{world.alice['id']}")),
    "read 1": ({"mark"}, sends("PUT", lambda world: f"{in_room(world.room)}/read", user_id="alice", seq=1)),
    "read 2": ({"mark"}, sends("PUT", lambda world: f"{in_room(world.room)}/read", user_id="alice", seq=2)),
    "post": (
        {"alice", "room", "member", "mark"},
        sends("POST", lambda world: f"{in_room(world.room)}/messages", user_id="alice", content="hi"),
    ),
    "post with id": (
        {"said"},
        sends("POST", lambda world: f"{in_room(world.room)}/messages", user_id="alice", content="c", client_msg_id="c"),
    ),
    "post once": ({"said", "alice"}, post_once),
    "edit": ({"message"}, sends("PATCH", lambda world: world.said, content="edited")),
    "other edit": ({"message"}, sends("PATCH", lambda world: world.said, content="edited again")),
    "delete message": ({"message"}, sends("DELETE", lambda world: world.said)),
}  # fmt: skip
PAIRS = [
    pair
    for pair in combinations_with_replacement(WRITES, 2)
    if WRITES[pair[0]][0] & WRITES[pair[1]][0]
]


@dataclass
class Replicas:
    """Two servers on one database, each with connections of its own."""

    one: tuple[ApiKeys, ChatApi]
    two: ChatApi

    async def world(self) -> tuple[World, ChatApi]:
        """A new project with its people; and the other replica's way to it."""
        keys, first = self.one
        pid, key = await keys.create_project("at once")
        api, other = ChatApi(first.http, key, pid), ChatApi(self.two.http, key, pid)
        people = [
            made(await api.send("POST", USERS, json={"username": name, "external_user_id": name}))
            for name in ("alice", "bob", "carl")
        ]
        alice, bob, carl = people
        room = await api.room(bob, alice)
        tells = {"settings": {"system_messages": True}}
        assert (await api.send("PATCH", in_room(room), json=tells)).is_success
        first_said = await api.say(room, bob, "one")
        await api.say(room, bob, "two")
        world = World(api, alice, bob, carl, room, first_said)
        world.tokens.append(await api.token(alice))
        return world, other


@asynccontextmanager
async def two_replicas(folder: Path, url: str | None) -> AsyncIterator[Replicas]:
    given = {"chat_database_url": url or f"sqlite:///{folder / 'shared.db'}"}
    async with (
        opened(folder / "1", **given) as (server, one),
        opened(folder / "2", **given) as (_, two),
    ):
        yield Replicas((ApiKeys(server._database), one), two)  # fmt: skip


Outcome = tuple[str, ...]


async def outcome(world: World, answers: Iterable[httpx.Response]) -> Outcome:
    """How two writes ended, in words that are the same for every world."""
    answered = [_told(answer) for answer in answers]
    return (*answered, json.dumps(await state(world), sort_keys=True))


def _told(answer: httpx.Response) -> str:
    body = answer.json() if answer.content else {}
    return f"{answer.status_code} {body.get('code', '')}".strip()


async def state(world: World) -> dict[str, Any]:
    """All that can be read, without ids and instants; and that it fits together."""
    api = world.api
    people = await listed(api, USERS)
    rooms = await listed(api, ROOMS)
    assert len(await listed(api, f"{ROOMS}?private=true")) == sum(room["private"] for room in rooms)
    names = {user["id"]: user["username"] for user in people}
    found: dict[str, Any] = {"users": [], "rooms": {}, "tokens": []}
    for user in people:
        shown = {name: user[name] for name in ("username", "external_user_id", "display_name")}
        found["users"].append(shown | {name: user[name] for name in ("email", "status")})
    found["users"].sort(key=lambda user: user["external_user_id"])
    for room in rooms:
        path = in_room(room)
        members = await listed(api, f"{path}/members")
        messages = await listed(api, f"{path}/messages")
        assert room["member_count"] == len(members)
        assert [message["seq"] for message in messages] == list(range(room["last_seq"], 0, -1))
        assert {member["user_id"] for member in members} <= set(names), "a deleted user is a member"
        shown = {name: room[name] for name in ("name", "description", "private", "last_seq")}
        owned = "owner" in {each["role"] for each in members}
        assert owned == (bool(members) and room["kind"] == "room"), "not owned as its kind is"
        shown["settings"] = room.get("settings")
        shown["members"] = sorted(
            (names[each["user_id"]], each["role"], each["last_read_seq"]) for each in members
        )
        shown["messages"] = [
            (each["content"], each["client_msg_id"], each["deleted_at"] is not None, each["edited_at"] is not None)
            for each in messages
        ]  # fmt: skip
        found["rooms"].setdefault(room["created_by"] == world.bob["id"], []).append(shown)
    found["rooms"] = [found["rooms"].get(True), found["rooms"].get(False)]
    for token in world.tokens:
        found["tokens"].append(_told(await api.as_user(token, "GET", "/api/v1/auth/verify")))
    return found


async def listed(api: ChatApi, path: str) -> list[dict[str, Any]]:
    """All items of a list, of which the page says how many there are."""
    page = (await api.send("GET", path)).json()
    assert page["total"] == len(page["items"]), page
    items: list[dict[str, Any]] = page["items"]
    return items


async def in_turn(replicas: Replicas, first: str, second: str) -> tuple[str, str, str]:
    world, other = await replicas.world()
    answers = [await WRITES[first][1](world, world.api), await WRITES[second][1](world, other)]
    one, two, after = await outcome(world, answers)
    return one, two, after


async def at_once(replicas: Replicas, first: str, second: str) -> Outcome:
    world, other = await replicas.world()
    barrier = asyncio.Barrier(2)

    async def run(name: str, api: ChatApi) -> httpx.Response:
        await barrier.wait()
        return await WRITES[name][1](world, api)

    answers = await asyncio.gather(run(first, world.api), run(second, other))
    return await outcome(world, answers)


async def calm(replicas: Replicas, first: str, second: str) -> Outcome:
    """`at_once`, tried again where a database on a busy machine was too slow for it."""
    ended = await at_once(replicas, first, second)
    if any(answer.startswith("503") for answer in ended):
        ended = await at_once(replicas, first, second)
    return ended


async def allowed(folder: Path) -> dict[tuple[str, str], set[Outcome]]:
    """For each pair what one after the other makes of the world, on SQLite: the answers in the pair's order."""
    found: dict[tuple[str, str], set[Outcome]] = {}
    async with two_replicas(folder, None) as replicas:
        turn = asyncio.Semaphore(AT_ONCE * 4)

        async def both_orders(first: str, second: str) -> None:
            async with turn:
                one, two, after = await in_turn(replicas, first, second)
                other_two, other_one, other_after = await in_turn(replicas, second, first)
            found[first, second] = {(one, two, after), (other_one, other_two, other_after)}

        await asyncio.gather(*(both_orders(*pair) for pair in PAIRS))
    return found


async def check_every_pair(folder: Path, url: str | None, rounds: int) -> None:
    expected = await allowed(folder / "turns")
    wrong: Counter[str] = Counter()
    async with two_replicas(folder / "at once", url) as replicas:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one_round(number: int, first: str, second: str) -> None:
            async with turn:
                try:
                    if number % 2:
                        ended = await calm(replicas, first, second)
                    else:
                        two, one, after = await calm(replicas, second, first)
                        ended = (one, two, after)
                except AssertionError as error:
                    ended = (str(error).splitlines()[0],)
            if ended not in expected[first, second]:
                wrong[f"{first} beside {second}: {' / '.join(ended)}"] += 1

        for number in range(rounds):
            await asyncio.gather(*(one_round(number, *pair) for pair in PAIRS))
    assert not wrong, "\n".join(f"{count} of {rounds}: {text}" for text, count in wrong.items())


@pytest.mark.services("postgres")
@pytest.mark.timeout(600)
async def test_two_writes_at_once_end_like_one_after_the_other_on_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    """Every pair that touches a row of users, rooms, members, messages or read marks, many times."""
    await check_every_pair(tmp_path, postgres_url, ROUNDS)


@pytest.mark.timeout(300)
async def test_two_writes_at_once_end_like_one_after_the_other_on_sqlite(tmp_path: Path) -> None:
    """One writer a process, two processes' worth of them on one file."""
    await check_every_pair(tmp_path, None, 1)


@pytest.mark.services("postgres")
async def test_a_suspension_holds_whatever_else_is_changed(
    tmp_path: Path, postgres_url: str
) -> None:
    """A change of the name that has read the user before the suspension does not write it back."""
    async with two_replicas(tmp_path, postgres_url) as replicas:
        for _ in range(20):
            world, other = await replicas.world()
            user = of_user(world.alice)
            answers = await asyncio.gather(
                world.api.send("PATCH", user, json={"status": "suspended"}),
                other.send("PATCH", user, json={"display_name": "Al"}),
            )
            assert [answer.status_code for answer in answers] == [200, 200]
            after = (await world.api.send("GET", user)).json()
            assert (after["status"], after["display_name"]) == ("suspended", "Al")
            assert (await world.api.send("POST", f"{user}/token")).status_code == 403


@pytest.mark.services("postgres")
async def test_keys_generations_and_first_answers_hold_on_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    """What is no row of a person or a room: each twice at once, from two servers."""
    async with two_replicas(tmp_path, postgres_url) as replicas:
        world, other = await replicas.world()
        alice, keys = of_user(world.alice), replicas.one[0]

        generations = await asyncio.gather(
            *(api.send("POST", f"{alice}/revoke") for api in (world.api, other) * 5)
        )
        assert sorted(each.json()["generation"] for each in generations) == list(range(1, 11))

        body = {"username": "once", "external_user_id": "once"}
        first = {"Idempotency-Key": "once"}
        made_once = await asyncio.gather(
            *(api.send("POST", USERS, json=body, headers=first) for api in (world.api, other) * 3)
        )
        assert {_told(answer) for answer in made_once} <= {"201", "409 idempotency_in_progress"}
        made_once.append(await other.send("POST", USERS, json=body, headers=first))
        assert made_once[-1].status_code == 201
        assert len({answer.content for answer in made_once if answer.status_code == 201}) == 1

        key, text = await keys.create(world.api.pid, "to be revoked")
        revoked = await asyncio.gather(*(keys.revoke(key.id) for _ in range(6)))
        assert len({each.revoked_at for each in revoked}) == 1
        gone = await ChatApi(other.http, text, other.pid).send("GET", USERS)
        assert gone.status_code == 401

        database = keys._database
        rings = [SigningKeys(database) for _ in range(4)]
        await asyncio.gather(*(ring.rotate("EdDSA") for ring in rings))
        signing = {(await ring.current()).kid for ring in rings if await ring.refresh() is None}
        assert len(signing) == 1, "one key signs"
        token = await other.token(world.bob)
        assert (await world.api.as_user(token, "GET", "/api/v1/auth/verify")).status_code == 200
