"""Header fields: those of all responses, the limits of requests, and their encoding in HTTP/1.1."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]

LARGEST_BODY = 64 * 1024
"""Bytes of a request body."""
LARGEST_HEADERS = 32 * 1024
"""Bytes of a request head, with its target."""
MOST_HEADERS = 100

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For all responses but HTML pages. The resource policy does not block CORS responses."""
NO_STORE = (b"cache-control", b"no-store")


def head_is_too_large(scope: Mapping[str, Any]) -> bool:
    """Whether the request of *scope* has more than MOST_HEADERS fields or LARGEST_HEADERS bytes of head."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MOST_HEADERS:
        return True
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
    return size + sum(len(name) + len(value) + 4 for name, value in headers) > LARGEST_HEADERS


def values_of(headers: Headers, name: bytes) -> list[str]:
    """Every value of the header *name* (lower case), in order."""
    return [value.decode("latin-1") for key, value in headers if key == name]


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """*headers* in HTTP/1.1 syntax."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
