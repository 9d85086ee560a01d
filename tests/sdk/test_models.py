"""What the server answers, as values."""

import copy
import pickle
from datetime import UTC, datetime

import pytest

from chat_broker_sdk import ChatUser, Message, Page, Token
from chat_broker_sdk._models import build, parse

USER = b'{"id":"u","username":"ann","created_at":"2026-01-02T03:04:05.678Z"'


def test_instants_are_datetimes_and_names_are_pythonic() -> None:
    user = parse(USER + b"}", ChatUser)
    assert user.created_at == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    page = parse(b'{"items":[' + USER + b'}],"totalPages":3,"page":1,"total":9}', Page[ChatUser])
    assert page.total_pages == 3
    assert page.items[0].username == "ann"


def test_unknown_fields_are_kept_at_every_depth() -> None:
    body = b'{"items":[' + USER + b',"mood":"ok"}],"cost":{"a":1}}'
    page = parse(body, Page[ChatUser])
    assert page.model_extra == {"cost": {"a": 1}}
    assert page.items[0].model_extra == {"mood": "ok"}
    assert page.to_dict()["items"][0]["mood"] == "ok"
    token = build({"token": "t", "user": {"id": "u", "username": "n", "new": 1}, "newer": 2}, Token)
    assert token.user is not None
    assert (token.model_extra, token.user.model_extra) == ({"newer": 2}, {"new": 1})


def test_a_value_can_be_read_from_json() -> None:
    """What to_dict writes, from_json reads; what is none of the kind is a ValueError."""
    user = ChatUser.from_json(USER + b',"extra":1}')
    assert user.model_extra == {"extra": 1}
    with pytest.raises(ValueError):  # noqa: PT011 - any of msgspec's
        ChatUser.from_json(b'{"id":1}')


def test_a_value_does_not_change_and_compares_by_content() -> None:
    user = parse(USER + b',"extra":1}', ChatUser)
    with pytest.raises(AttributeError):
        user.username = "eve"  # type: ignore[misc]
    assert user == parse(USER + b',"extra":1}', ChatUser)
    assert pickle.loads(pickle.dumps(user)) == user  # noqa: S301 - our own
    assert copy.deepcopy(user) == user
    assert copy.copy(user).model_extra == {"extra": 1}


def test_a_known_field_of_the_wrong_type_is_an_error() -> None:
    for bad in (
        b'{"id":1,"username":"a"}',
        b'{"id":"u"}',
        b'{"id":"u","username":"a","created_at":"x"}',
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - any of msgspec's
            parse(bad, ChatUser)


def test_a_token_does_not_show_itself() -> None:
    token = build({"token": "eyJhbGciOi", "expires_in": 900}, Token)
    assert "eyJ" not in repr(token)
    assert "eyJ" not in f"{token} {[token]}"
    assert token.token == "eyJhbGciOi"


def test_the_wire_form_comes_back() -> None:
    message = build(
        {"id": "m", "content": "x", "seq": 3, "created_at": "2026-01-01T00:00:00Z"}, Message
    )
    assert message.to_dict()["created_at"] == "2026-01-01T00:00:00Z"
    assert build(message.to_dict(), Message) == message
