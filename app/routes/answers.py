"""Answers as ready bytes."""

from typing import Any

from fastapi import Response

from app.views import encode

_JSON = (b"content-type", b"application/json")


class Json(Response):
    """A body of JSON that is written already."""

    def __init__(self, body: bytes, status: int) -> None:
        # Not through Response's own: that works out for each answer what is known of these.
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            _JSON,
            (b"content-length", b"%d" % len(body)),
        ]


def as_json(value: Any, status: int = 200) -> Response:
    """*value* (one of our views) as the body."""
    return Json(encode(value), status)


def nothing() -> Response:
    """204."""
    return Response(status_code=204)
