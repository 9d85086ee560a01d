"""Walking pages while people write."""

import random
from collections.abc import Callable

import pytest

from chat_broker_sdk import AsyncChatClient, Message, Page, ValidationError
from chat_broker_sdk._pages import PageWalk
from chat_broker_sdk.testing import FakeChatApi


@pytest.fixture
def room(fake_chat: FakeChatApi) -> tuple[str, str]:
    ann = fake_chat.store.create_user({"username": "ann", "external_user_id": "1"})
    room = fake_chat.store.create_room({"name": "r", "created_by": ann["id"]})
    say(fake_chat, (room["id"], ann["id"]), 23)
    return room["id"], ann["id"]


def say(fake: FakeChatApi, room: tuple[str, str], times: int) -> None:
    for _ in range(times):
        fake.store.post(room[0], room[1], {"content": "x"})


def seqs(messages: list[Message]) -> list[int | None]:
    return [message.seq for message in messages]


@pytest.mark.parametrize("limit", [1, 2, 5, 23, 24, 100])
async def test_newest_first_repeats_and_skips_nothing_while_people_write(
    client: AsyncChatClient, fake_chat: FakeChatApi, room: tuple[str, str], limit: int
) -> None:
    got = []
    async for message in client.messages.iterate(room[0], limit=limit):
        got.append(message)
        say(fake_chat, room, 1)
        if len(got) > 60:
            break
    assert seqs(got) == list(range(23, 0, -1))


@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_oldest_first_includes_what_is_written_meanwhile(
    client: AsyncChatClient, fake_chat: FakeChatApi, room: tuple[str, str], limit: int
) -> None:
    more = iter(range(7))
    got = []
    async for message in client.messages.iterate(room[0], after=5, limit=limit):
        got.append(message)
        if message.seq and message.seq < 20 and next(more, None) is not None:
            say(fake_chat, room, 1)
    expected = 30 if limit < 100 else 23
    assert seqs(got) == list(range(6, expected + 1))


async def test_from_a_cursor_down(client: AsyncChatClient, room: tuple[str, str]) -> None:
    got = [message async for message in client.messages.iterate(room[0], before=4, limit=2)]
    assert seqs(got) == [3, 2, 1]


async def test_both_cursors_at_once_are_refused(client: AsyncChatClient) -> None:
    with pytest.raises(ValidationError):
        async for _ in client.messages.iterate("r", before=1, after=1):
            pass


async def test_an_empty_room_ends_at_once(client: AsyncChatClient, fake_chat: FakeChatApi) -> None:
    ann = fake_chat.store.create_user({"username": "ann", "external_user_id": "1"})
    room = fake_chat.store.create_room({"name": "r", "created_by": ann["id"]})
    for cursor in ({}, {"after": 0}, {"before": 1}):
        assert [each async for each in client.messages.iterate(room["id"], **cursor)] == []


async def test_a_server_without_seq_is_walked_by_page_number(
    client: AsyncChatClient, fake_chat: FakeChatApi, room: tuple[str, str]
) -> None:
    """Ids keep a shifted page from repeating."""
    for message in fake_chat.store.messages[room[0]]:
        message["seq"] = None
    got = [message.id async for message in client.messages.iterate(room[0], limit=4)]
    assert got == [each["id"] for each in reversed(fake_chat.store.messages[room[0]])]


async def test_a_server_that_ignores_cursors_does_not_go_round_for_ever(
    client: AsyncChatClient,
    fake_chat: FakeChatApi,
    room: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chat_broker_sdk.testing import fake_routes

    def ignoring(things: object, request: object) -> dict[str, object]:
        return fake_routes._page(list(reversed(fake_chat.store.messages[room[0]])), request)  # type: ignore[arg-type]

    monkeypatch.setattr(fake_routes, "_cursor", ignoring)
    got = [each async for each in client.messages.iterate(room[0], limit=4)]
    assert seqs(got) == sorted(set(seqs(got)), reverse=True)  # type: ignore[type-var]
    assert len(got) >= 4


async def test_users_and_rooms_are_walked_to_the_end(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    for number in range(11):
        user = fake_chat.store.create_user(
            {"username": f"u{number}", "external_user_id": str(number)}
        )
        fake_chat.store.create_room({"name": f"r{number}", "created_by": user["id"]})
    assert len([each async for each in client.users.iterate(limit=4)]) == 11
    assert len([each async for each in client.rooms.iterate(limit=5)]) == 11
    assert len([each async for each in client.rooms.iterate(member_id=user["id"])]) == 1


# -- lists that have page numbers only ---------------------------------------------------------------

Server = Callable[[list[str], int, int], Page[str]]


def ours(rows: list[str], number: int, size: int) -> Page[str]:
    pages = -(-len(rows) // size)
    items = tuple(rows[(number - 1) * size : number * size])
    return Page(items=items, page=number, limit=size, total=len(rows), total_pages=pages)


def with_a_cap(rows: list[str], number: int, size: int) -> Page[str]:
    return ours(rows, number, min(size, 30))


def with_a_secret_cap(rows: list[str], number: int, size: int) -> Page[str]:
    page = with_a_cap(rows, number, size)
    return Page(items=page.items, total_pages=page.total_pages)


def without_totals(rows: list[str], number: int, size: int) -> Page[str]:
    return Page(items=ours(rows, number, size).items)


def without_totals_with_a_cap(rows: list[str], number: int, size: int) -> Page[str]:
    return Page(items=with_a_cap(rows, number, size).items)


def with_tiny_pages(rows: list[str], number: int, size: int) -> Page[str]:
    return ours(rows, number, min(size, 2))


def of_its_own_size(rows: list[str], number: int, size: int) -> Page[str]:
    return ours(rows, number, 25)


def walked(
    server: Server, rows: list[str], limit: int, meanwhile: Callable[[], None] = lambda: None
) -> list[str]:
    got: list[str] = []
    walk = PageWalk[str](limit, lambda row: row)
    for _ in range(2000):
        if walk.done:
            return got
        assert walk.size <= max(limit, 25)
        got += walk.fresh(server(rows, walk.number, walk.size))
        meanwhile()
    raise AssertionError("it never ends")


SERVERS: list[Server] = [
    ours, with_a_cap, with_a_secret_cap, without_totals, without_totals_with_a_cap, with_tiny_pages,
    of_its_own_size,
]  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 19, 20, 21, 60, 200, 201, 443])
def test_a_list_at_rest_is_walked_to_its_end(server: Server, count: int) -> None:
    rows = [f"{n}" for n in range(count)]
    for limit in (1, 20, 27, 200):
        assert walked(server, list(rows), limit) == rows


@pytest.mark.parametrize("server", SERVERS[:5])
@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_repeated_or_skipped_while_rows_come_and_go(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    rows = [f"{n}" for n in range(chance.randrange(30, 600))]
    always = set(rows)
    names = iter(range(10_000, 20_000))

    def change() -> None:
        for _ in range(chance.choice([0, 1, 1, 5, 60])):
            if rows and chance.random() < 0.7:
                always.discard(
                    rows.pop(chance.randrange(max(1, len(rows) // chance.choice([1, 3]))))
                )
            else:  # ids count up: new ones come last; a membership of an old room comes anywhere
                at = len(rows) if seed % 2 else chance.randrange(len(rows) + 1)
                rows.insert(at, f"{next(names)}")

    got = walked(server, rows, chance.choice([20, 33, 100, 200]), change)
    assert len(got) == len(set(got))
    assert always <= set(got)


@pytest.mark.parametrize("server", SERVERS[:5])
def test_whoever_deletes_what_they_walk_past_gets_everything(server: Server) -> None:
    rows = [f"{n}" for n in range(500)]
    every = list(rows)
    got: list[str] = []
    walk = PageWalk[str](50, lambda row: row)
    while not walk.done:
        fresh = walk.fresh(server(rows, walk.number, walk.size))
        for row in fresh:
            rows.remove(row)
        got += fresh
    assert got == every


async def test_users_rooms_and_members_may_be_deleted_while_walked(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann = fake_chat.store.create_user({"username": "ann", "external_user_id": "ann"})
    team = fake_chat.store.create_room({"name": "team", "created_by": ann["id"]})
    for number in range(90):
        user = fake_chat.store.create_user(
            {"username": f"u{number}", "external_user_id": f"{number}"}
        )
        fake_chat.store.create_room({"name": f"r{number}", "created_by": ann["id"]})
        fake_chat.store.join(team["id"], user["id"])
    members = []
    async for member in client.rooms.iterate_members(team["id"], limit=20):
        members.append(member.user_id)
        await client.rooms.remove_member(team["id"], member.user_id)
    assert len(members) == len(set(members)) == 91
    rooms = []
    async for room in client.rooms.iterate(limit=20):
        rooms.append(room.id)
        await client.rooms.delete(room.id)
    assert len(rooms) == len(set(rooms)) == 91
    users = []
    async for user in client.users.iterate(limit=20):
        users.append(user.id)
        await client.users.delete(user.id)
    assert len(users) == len(set(users)) == 91
