"""A message is read and written out once; what is remembered depends on nothing but its bytes."""

import msgspec
import pytest

from app.said import LARGEST, SaidMessages, UpstreamPage
from chat_sdk import ServerError


def page(*messages: dict[str, object]) -> UpstreamPage:
    """A page of *messages* as the Chat API sends it, from a newer one that says more."""
    body = msgspec.json.encode({"items": messages, "page": 1, "newer": True})
    return msgspec.json.decode(body, type=UpstreamPage)


def message(content: str = "hi", **more: object) -> dict[str, object]:
    return {"id": "m1", "seq": 1, "user_id": "u1", "room_id": "r1", "content": content, **more}


def test_the_same_message_is_read_once() -> None:
    said = SaidMessages()
    (first,), (second,) = said.all(page(message())), said.all(page(message()))
    assert second is first
    assert (first.id, first.author) == ("m1", "u1")
    view = msgspec.json.decode(first.view)
    assert view["content"] == "hi"
    assert view["metadata"] == {}


def test_an_edit_and_a_deletion_count_at_once() -> None:
    said = SaidMessages()
    said.all(page(message()))
    edited = message("ho", edited_at="2026-01-01T00:00:00Z")
    deleted = message("", deleted_at="2026-01-01T00:00:01.5Z")
    views = [msgspec.json.decode(one.view) for one in said.all(page(edited, deleted))]
    assert [view["content"] for view in views] == ["ho", ""]
    assert views[0]["edited_at"] == "2026-01-01T00:00:00.000Z"
    assert views[1]["deleted_at"] == "2026-01-01T00:00:01.500Z"


def test_memory_is_bounded() -> None:
    """However many messages go by, and however long they are."""
    said = SaidMessages(most_bytes=100_000)
    for number in range(2_000):
        said.all(page(message(f"message number {number}")))
    assert 100 < len(said) < 500
    before = len(said)
    said.all(page(message("x" * LARGEST)))
    assert len(said) == before


@pytest.mark.parametrize("broken", [{"id": "m1"}, {"id": 1, "content": "secret"}, "secret", None])
def test_what_is_no_message_is_refused_without_repeating_it(broken: object) -> None:
    sent = page()
    sent.items.append(msgspec.Raw(msgspec.json.encode(broken)))
    with pytest.raises(ServerError) as caught:
        SaidMessages().all(sent)
    assert caught.value.code == "bad_response"
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
