"""Walking pages while people write."""

import pytest

from chat_sdk import AsyncChatClient, Message, ValidationError
from chat_sdk.testing import FakeChatApi


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
    from chat_sdk import _fake_routes

    def ignoring(things: object, request: object) -> dict[str, object]:
        return _fake_routes._page(list(reversed(fake_chat.store.messages[room[0]])), request)  # type: ignore[arg-type]

    monkeypatch.setattr(_fake_routes, "_cursor", ignoring)
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
