"""Pages and messages are parsed and encoded once; cache entries depend only on their bytes."""

from typing import Any

import msgspec
import pytest

from chat_broker.chat.message_cache import LARGEST, SaidMessages
from chat_broker_sdk import ServerError


def page(*messages: object, **more: object) -> bytes:
    """A page of *messages* from a newer Chat API, with unknown members."""
    return msgspec.json.encode({"items": messages, "page": 1, "newer": True, **more})


def message(content: str = "hi", **more: object) -> dict[str, object]:
    return {"id": "m1", "seq": 1, "user_id": "u1", "room_id": "r1", "content": content, **more}


def items(said: SaidMessages, sent: bytes) -> list[dict[str, Any]]:
    """The messages of that page as frontends get them."""
    return list(msgspec.json.decode(said.page(sent).view)["items"])


def test_the_same_page_is_read_once() -> None:
    said = SaidMessages()
    first = said.page(page(message()))
    assert said.page(page(message())) is first
    assert first.authors == {"m1": "u1"}
    (seen,) = items(said, page(message()))
    assert (seen["content"], seen["metadata"]) == ("hi", {})


def test_a_page_says_where_it_is_in_its_list() -> None:
    said = SaidMessages()
    for more in ({"total": 7, "totalPages": 4}, {"next_cursor": 3, "has_more": True}):
        seen = msgspec.json.decode(said.page(page(message(), limit=2, **more)).view)
        assert more.items() <= seen.items()
        assert seen["limit"] == 2


def test_an_edit_and_a_deletion_count_at_once() -> None:
    said = SaidMessages()
    said.page(page(message()))
    edited = message("ho", edited_at="2026-01-01T00:00:00Z")
    deleted = message("", deleted_at="2026-01-01T00:00:01.5Z")
    one, other = items(said, page(edited, deleted))
    assert (one["content"], other["content"]) == ("ho", "")
    assert one["edited_at"] == "2026-01-01T00:00:00.000Z"
    assert other["deleted_at"] == "2026-01-01T00:00:01.500Z"


def test_memory_is_bounded() -> None:
    """The cache stays bounded for any number and length of messages."""
    said = SaidMessages(most_bytes=100_000)
    for number in range(2_000):
        said.page(page(message(f"message number {number}")))
    pages, messages = len(said.pages), len(said.messages)
    assert 100 < pages < 500
    assert 100 < messages < 500
    said.page(page(message("x" * LARGEST)))
    assert len(said.messages) == messages
    said.page(page(*(message("x" * 1_000) for _ in range(200))))
    assert len(said.pages) <= pages + 1


@pytest.mark.parametrize("broken", [{"id": "m1"}, {"id": 1, "content": "secret"}, "secret", None])
def test_what_is_no_message_is_refused_without_repeating_it(broken: object) -> None:
    for sent in (page(broken), page(message(), broken), b'{"secret":1}', b'"secret"'):
        with pytest.raises(ServerError) as caught:
            SaidMessages().page(sent)
        assert caught.value.code == "bad_response"
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
