"""Answers as ready bytes."""

from typing import Any

from fastapi import Response

from app.views import encode


def as_json(value: Any, status: int = 200) -> Response:
    """*value* (one of our views) as the body."""
    return Response(encode(value), status, media_type="application/json")


def nothing() -> Response:
    """204."""
    return Response(status_code=204)
