"""Answers as ready bytes."""

from typing import Any

from fastapi import Response

from app.views import encode


class Json(Response):
    """A body of JSON that is written already."""

    def __init__(self, body: bytes, status: int) -> None:
        # Not through Response's own: that works out for each answer what is known of these.
        self.status_code = status
        self.background = None
        self.body = body

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # reads like the attribute it stands for
        """What Starlette sends."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        ]

    @property
    def lines(self) -> bytes:
        """The same as HTTP/1.1 writes it."""
        return b"content-type: application/json\r\ncontent-length: %d\r\n" % len(self.body)


def as_json(value: Any, status: int = 200) -> Response:
    """*value* (one of our views) as the body."""
    return Json(encode(value), status)


def nothing() -> Response:
    """204."""
    return Response(status_code=204)
