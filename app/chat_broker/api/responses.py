"""Answers as ready bytes."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from fastapi import Response

from chat_broker.chat.views import encode
from chat_broker.http.edge import USUAL, usual_beside
from chat_broker_kit.http.headers import lines

_JSON_LINES = b"content-type: application/json\r\ncontent-length: %d\r\n" + lines(USUAL)


class Json(Response):
    """A body of JSON that is written already."""

    def __init__(self, body: bytes, status: int) -> None:
        # Not through Response's own: that works out for each answer what is known of these.
        self.status_code = status
        self.background = None
        self.body = body

    @cached_property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # an attribute that is made when it is asked for
        """The headers, for ASGI and for who adds to them."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        ]


def lines_of(answer: Response) -> bytes:
    """The headers of *answer* and the usual ones, as HTTP/1.1 writes them."""
    if isinstance(answer, Json) and "raw_headers" not in answer.__dict__:
        return _json_lines(len(answer.body))
    return with_usual(answer.raw_headers)


@lru_cache(maxsize=2048)
def _json_lines(length: int) -> bytes:
    return _JSON_LINES % length


def with_usual(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The same for *headers*; what is usual and stands there stays as it stands there."""
    return lines([*headers, *usual_beside({name for name, _ in headers})])


def as_json(value: Any, status: int = 200) -> Response:
    """*value* (one of our views) as the body."""
    return Json(encode(value), status)


def nothing() -> Response:
    """204."""
    return Response(status_code=204)
