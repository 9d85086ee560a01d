"""The body of an error response (RFC 9457). It carries no traceback and no internal detail."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec

PROBLEM_JSON = "application/problem+json"

_encode = msgspec.json.Encoder().encode


class FieldError(msgspec.Struct, frozen=True):
    """A field of the input, and what is wrong with it."""

    field: str
    message: str


def problem_document(
    status: int,
    code: str,
    message: str,
    *,
    request_id: str,
    instance: str = "",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """*instance*: the path without its query. *more*: further members."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": "Client Closed Request" if status == 499 else HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "instance": instance,
        "code": code,
        "message": message,
        "request_id": request_id,
        **more,
    }
    return _encode(body)
