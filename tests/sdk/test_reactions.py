"""Reactions and pins through the SDK, against the fake server and against its own checks."""

from typing import Any

import pytest

from chat_broker_sdk import ConflictError, Reaction, UnsupportedOperationError, ValidationError
from chat_broker_sdk._urls import BaseUrl, emoji_segment, url
from chat_broker_sdk.testing import FakeChatApi

BASE = BaseUrl("https://chat.test")


@pytest.mark.parametrize(
    ("emoji", "segment"),
    [
        ("👍", "%F0%9F%91%8D"),
        ("❤️", "%E2%9D%A4%EF%B8%8F"),
        ("1️⃣", "1%EF%B8%8F%E2%83%A3"),
        (":+1:", "%3A%2B1%3A"),
        (":" + "é" * 31 + ":", "%3A" + "%C3%A9" * 31 + "%3A"),
    ],
)
def test_an_emoji_is_one_segment_of_a_path(emoji: str, segment: str) -> None:
    assert emoji_segment(emoji) == segment
    address = url(BASE, f"/api/v1/rooms/r/messages/m/reactions/{segment}/u")
    assert address == f"https://chat.test/api/v1/rooms/r/messages/m/reactions/{segment}/u"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "..",
        ":a/b:",
        ":a\\b:",
        ":a b:",
        ":a\n:",
        ":..:",
        ":%2e:",
        "\ud83d",
        "👍" * 17,
        None,
        5,
    ],
)
def test_what_could_be_another_path_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        emoji_segment(text)
    assert refused.value.code == "bad_emoji"


@pytest.mark.parametrize(
    "tail", ["%2e%2e", "%2E", "%2F", "a%2Fb", "%5C", "%00", "%0A", "%20", "%25", "%zz", "%"]
)
def test_no_other_escape_passes_the_last_check(tail: str) -> None:
    with pytest.raises(ValidationError):
        url(BASE, f"/api/v1/rooms/r/messages/m/reactions/{tail}")


async def test_reactions_and_pins_through_the_client() -> None:
    """As the key in a user's name, and as the user; what is refused says why."""
    fake = FakeChatApi()
    client = fake.client()
    ann = await client.users.create(username="ann", external_user_id="a")
    room = await client.rooms.create(name="r", created_by=ann.id)
    message = await client.messages.create(room.id, content="hello", user_id=ann.id)
    shown = await client.messages.react(room.id, message.id, "👍", user_id=ann.id)
    assert shown == (Reaction(emoji="👍", count=1, user_ids=(ann.id,)),)
    assert (await client.messages.get(room.id, message.id)).reactions == shown
    token = (await client.users.generate_token(ann.id)).token
    mine = client.as_user(token)
    assert await mine.messages.unreact(room.id, message.id, "👍") == ()
    pinned = await mine.messages.pin(room.id, message.id)
    assert pinned.pinned_by == ann.id
    assert (await client.rooms.pins(room.id)).items == (pinned,)
    assert (await client.messages.unpin(room.id, message.id)).pinned_at is None
    await client.messages.delete(room.id, message.id)
    with pytest.raises(ConflictError) as refused:
        await client.messages.react(room.id, message.id, "👍", user_id=ann.id)
    assert refused.value.code == "message_deleted"


async def test_a_server_without_reactions_is_not_asked() -> None:
    fake = FakeChatApi(features=("changes",))
    client = fake.client()
    await client.project()
    before = len(fake.seen)
    for call in (
        client.messages.react("r", "m", "👍", user_id="u"),
        client.messages.unreact("r", "m", "👍", user_id="u"),
        client.messages.reactions("r", "m"),
        client.messages.pin("r", "m"),
        client.messages.unpin("r", "m"),
        client.rooms.pins("r"),
    ):
        with pytest.raises(UnsupportedOperationError):
            await call
    assert not [each for each in fake.seen[before:] if "/rooms" in each.path]
