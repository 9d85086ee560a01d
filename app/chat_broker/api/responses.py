"""Responses as ready bytes, and what the errors that routes raise become."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from fastapi import Response

import chat_broker_sdk
from chat_broker.chat.ports import StateUnavailable
from chat_broker.chat.views import encode
from chat_broker.errors import BrokerError, Unavailable, as_broker_error
from chat_broker.http.edge import USUAL, usual_beside
from chat_broker_kit.http.headers import lines

_JSON_LINES = b"content-type: application/json\r\ncontent-length: %d\r\n" + lines(USUAL)

EXPECTED = (BrokerError, chat_broker_sdk.ChatError, StateUnavailable)
"""What routes raise by design, each with a response of its own."""


def expected_error(error: Exception) -> BrokerError:
    """The response to one of `EXPECTED`."""
    if isinstance(error, StateUnavailable):
        return Unavailable("state_unavailable")
    return as_broker_error(error)


class Json(Response):
    """A response whose body is JSON already."""

    def __init__(self, body: bytes, status: int) -> None:
        # Not through Response's own: that works out for each answer what is known of these.
        self.status_code = status
        self.background = None
        self.body = body

    @cached_property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # an attribute that is made when it is asked for
        """The headers as ASGI has them. A route may add some."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        ]


def lines_of(response: Response) -> bytes:
    """The headers of *response* and the usual ones, as HTTP/1.1 writes them."""
    if isinstance(response, Json) and "raw_headers" not in response.__dict__:
        return _json_lines(len(response.body))
    return with_usual(response.raw_headers)


@lru_cache(maxsize=2048)
def _json_lines(length: int) -> bytes:
    return _JSON_LINES % length


def with_usual(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """*headers* and the usual ones that are not among them, as HTTP/1.1 writes them."""
    return lines([*headers, *usual_beside({name for name, _ in headers})])


def as_json(value: Any, status: int = 200) -> Response:
    """A response with *value*, one of our views, as its body."""
    return Json(encode(value), status)


def nothing() -> Response:
    """Status 204 without a body."""
    return Response(status_code=204)
