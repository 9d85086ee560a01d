"""Finding a route: the short way to it and the long one lead to the same place."""

from itertools import pairwise
from typing import Any, cast

import pytest

from chat_broker_server.errors import BadInput, NotFound
from chat_broker_server.rest.request import Request, Services, known_headers
from chat_broker_server.rest.router import ROUTES, Rest

REST = Rest(cast("Services", None))
IDS = ("p-1", "A_b", "x" * 64)


def called(path: str) -> Request:
    return Request(cast("Services", None), "GET", path, b"", b"")


def outcome(find: Any, path: str) -> Any:
    """Where it leads, with which ids; or what the caller is told."""
    call = called(path)
    try:
        return find(call).template, call.ids
    except NotFound as error:
        return error.code


@pytest.mark.parametrize("template", sorted({template for _, template, *_ in ROUTES}))
def test_both_ways_find_the_same(template: str) -> None:
    """Every route, each id good or bad, and what is around it."""
    good = "/".join(
        IDS[at % 3] if segment.startswith("{") else segment
        for at, segment in enumerate(template.split("/"))
    )
    assert outcome(REST._find, good) == outcome(REST._walk, good)
    assert outcome(REST._find, good)[0] == template
    starts = [at for at, character in enumerate(good) if character == "/"]
    for at, end in pairwise([*starts, len(good)]):
        for wrong in ("", "x" * 65, "a.b", "%41", "é", "users", "token", "messages"):
            path = f"{good[: at + 1]}{wrong}{good[end:]}"
            assert outcome(REST._find, path) == outcome(REST._walk, path), path
    for path in (good + "/", good + "/more", good + "\n", good[:-1], "/" + good):
        assert outcome(REST._find, path) == outcome(REST._walk, path), path


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("external:order-7", "external:order-7"),
        ("external%3Aa%40b.c", "external:a@b.c"),
        ("external:" + "x" * 128, "external:" + "x" * 128),
        ("external:%C3%A9", "external:é"),
        ("external:%FF", None),
        ("External:a", None),
        ("room%2D1", None),
    ],
)
def test_a_room_may_be_named_by_an_external_id_which_may_be_escaped(
    segment: str, expected: str | None
) -> None:
    """No other parameter may: a user is always named by an id."""
    found = outcome(REST._find, f"/api/v1/projects/p/rooms/{segment}/messages/m")
    if expected is None:
        assert found == "room_not_found"
    else:
        assert found[1] == {"pid": "p", "room_id": expected, "message_id": "m"}
    assert outcome(REST._find, f"/api/v1/projects/p/users/{segment}") == "user_not_found"


def test_headers_are_known_however_they_are_spelt() -> None:
    """And each may be there once, except the request's own id, of which the first counts."""
    sent = [
        ("X-API-KEY", "k"),
        ("Content-Type", "t"),
        ("content-length", "2"),
        ("IDEMPOTENCY-key", "i"),
        ("X-Request-Id", "1"),
        ("x-request-id", "2"),
        ("Accept", "a"),
        ("ACCEPT", "b"),
        ("X-Other", "o"),
        ("X-Other", "o"),
    ]
    assert known_headers(sent) == {
        "x-api-key": "k",
        "content-type": "t",
        "content-length": "2",
        "idempotency-key": "i",
        "x-request-id": "1",
    }
    with pytest.raises(BadInput, match="content-type is there twice"):
        known_headers([*sent, ("CONTENT-TYPE", "t")])
