"""Header cache: heads of requests to hot routes are parsed once, however many requests of a client repeat the lines.

A client sends the same header lines with each of its requests. Once uvicorn's parser has read such a block, the
same bytes after another request line mean the same again, and need no parser.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from chat_broker.auth.bearer import digest_of
from chat_broker_kit.http.headers import (
    LARGEST_BODY,
    LARGEST_HEADERS,
    MOST_HEADERS,
    Headers,
    values_of,
)

MOST_CACHED = 2_000
"""Twice as many at the most: those of this half of the time, and those of the half before."""
LARGEST_CACHED = 2_048
"""Bytes of a block that is worth caching."""
UNUSED_SECONDS = 60.0
"""A block that no client has sent for so long, or twice as long, is dropped."""

_BEARER = b"Bearer "
_END = b"\r\n\r\n"
# Of these a request has one at most, or goes the ordinary way.
_READ = frozenset({
    b"authorization", b"content-length", b"cookie", b"origin", b"x-request-id",
})  # fmt: skip
_UNUSUAL = frozenset({
    b"access-control-request-method", b"content-encoding", b"expect", b"transfer-encoding", b"upgrade",
})  # fmt: skip
# Another value in each request: a block that has one of them does not come again.
_PASSING = frozenset({
    b"b3", b"cf-ray", b"idempotency-key", b"traceparent", b"x-amzn-trace-id", b"x-b3-spanid", b"x-cloud-trace-context",
    b"x-request-id",
})  # fmt: skip
_CREDENTIALS = frozenset({b"authorization", b"cookie"})

Peer = tuple[str | None, str]
"""The other end of a connection: address and scheme."""


class RequestHead:
    """What the lines below the request line say, as far as a hot route wants to know.

    *bearer*: the digest of the only credential, a bearer token; None if there is none, or another kind. *length*: bytes of the body.
    """

    __slots__ = (
        "bearer",
        "cookies",
        "decoded",
        "headers",
        "length",
        "origin",
        "request_id",
        "sender_values",
        "senders",
    )

    def __init__(self, headers: Headers, seen: dict[bytes, bytes], length: int) -> None:
        self.headers = headers
        self.length = length
        credential = seen.get(b"authorization", b"")
        self.bearer = (
            digest_of("bearer", credential[7:]) if credential.startswith(_BEARER) else None
        )
        self.cookies = b"cookie" in seen
        self.origin = seen.get(b"origin")
        self.request_id = seen.get(b"x-request-id")
        self.senders: dict[Peer, tuple[str, bytes]] = {}
        """By the peer that sends these lines: the client's address, and how the head of a response ends."""
        self.sender_values: dict[tuple[Peer, Callable[..., Any]], Any] = {}
        """By peer and function: what functions of lines and peer alone have returned."""
        self.decoded: dict[bytes, list[str]] = {}

    def values_of(self, name: bytes) -> list[str]:
        """Every value of the header *name* (lower case; no credential), in order; not to be changed."""
        values = self.decoded.get(name)
        if values is None:
            values = self.decoded[name] = values_of(self.headers, name)
        return values


def read_head(headers: Headers) -> RequestHead | None:
    """What *headers* (names in lower case) say; None if there is anything unusual about any of them."""
    seen: dict[bytes, bytes] = {}
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name in _READ:
            if name in seen:
                return None
            seen[name] = value
        elif name in _UNUSUAL:
            return None
    if size > LARGEST_HEADERS or len(headers) > MOST_HEADERS:
        return None
    length = seen.get(b"content-length", b"0")
    if not (length.isdigit() and len(length) < 6 and int(length) <= LARGEST_BODY):
        return None
    return RequestHead(headers, seen, int(length))


class HeaderCache:
    """Heads by the SHA-256 of their lines; of credentials nothing but digests.

    No BoundedCache: what is made of a credential must go when it is not used any more, without a
    request that finds out. Two generations, turned by a timer, do that at the price of one dict.
    """

    def __init__(self, *, most: int = MOST_CACHED) -> None:
        self._most = most
        self._recent: dict[bytes, RequestHead] = {}
        self._before: dict[bytes, RequestHead] = {}
        self._turn: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._recent) + len(self._before)

    def find(self, data: bytes) -> tuple[bytes, RequestHead, bytes] | None:
        """*data*, if it is one whole request with a head that is known: its first line, head, body."""
        line, _, rest = data.partition(b"\r\n")
        block, end, body = rest.partition(_END)
        if not end or len(block) > LARGEST_CACHED:
            return None
        digest = sha256(block).digest()
        head = self._recent.get(digest)
        if head is None:
            head = self._before.pop(digest, None)
            if head is None:
                return None
            self._put(digest, head)
        if len(body) != head.length:
            return None
        return line, head, body

    def put(self, data: bytes, line: bytes, head: RequestHead) -> None:
        """Cache *head*, which the parser has made of *data*: one whole request that begins with *line*."""
        first, _, rest = data.partition(b"\r\n")
        block, end, body = rest.partition(_END)
        if (
            first != line
            or not end
            or block.startswith(b"\r\n")  # there were no lines at all
            or len(body) != head.length
            or len(block) > LARGEST_CACHED
            or not _PASSING.isdisjoint([name for name, _ in head.headers])
        ):
            return
        head.headers = [pair for pair in head.headers if pair[0] not in _CREDENTIALS]
        self._put(sha256(block).digest(), head)

    def _put(self, digest: bytes, head: RequestHead) -> None:
        if len(self._recent) >= self._most:
            self._recent, self._before = {}, self._recent
        self._recent[digest] = head
        if self._turn is None:
            self._wait()

    def _wait(self) -> None:
        self._turn = asyncio.get_running_loop().call_later(UNUSED_SECONDS, self._grow_old)

    def _grow_old(self) -> None:
        self._turn = None
        self._recent, self._before = {}, self._recent
        if self._before:
            self._wait()
