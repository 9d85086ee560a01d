"""Which other origins' pages may read our answers (CORS)."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_broker_kit.http_headers import SECURITY_HEADERS, lines

ALLOWED_METHODS = b"GET, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, X-Chat-CSRF, X-Request-Id"
EXPOSED_HEADERS = b"Retry-After, X-Request-Id, Idempotency-Replayed"
PREFLIGHT_SECONDS = b"600"


class Cors:
    """Answers preflights and names the origin in answers, for the origins of an exact list and no others.

    Always with credentials, so `*` is never said. An unlisted origin is told nothing: its page cannot
    read the answer. `Vary: Origin` keeps caches from mixing them up.
    """

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._lines = {one: lines(_naming(one)) for one in (*self._origins, None)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, preflight = _origin_of(scope)
        listed = origin is not None and origin in self._origins
        if preflight:
            await _answer_preflight(send, origin if listed else None)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                _name_origin(message, origin if listed else None)
            await send(message)

        await self._app(scope, receive, send_named)

    def lines_for(self, origin: bytes | None) -> bytes:
        """What this adds to the head of an answer for a page of *origin* (None: no, or no single, Origin)."""
        return self._lines.get(origin, self._lines[None])


def _naming(origin: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers for a listed *origin*, or for anybody else."""
    headers = [(b"vary", b"Origin")]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
        ]
    return headers


def _origin_of(scope: Scope) -> tuple[bytes | None, bool]:
    """The origin, and whether this is a preflight. A repeated Origin counts as none that is listed."""
    origins: list[bytes] = []
    asks = False
    for name, value in scope["headers"]:
        if name == b"origin":
            origins.append(value)
        elif name == b"access-control-request-method":
            asks = True
    origin = origins[0] if len(origins) == 1 else None
    return origin, asks and bool(origins) and scope["method"] == "OPTIONS"


def _name_origin(message: MutableMapping[str, Any], origin: bytes | None) -> None:
    headers = [
        pair
        for pair in message.get("headers", ())
        if not pair[0].lower().startswith(b"access-control-")
    ]
    message["headers"] = headers + _naming(origin)


async def _answer_preflight(send: Send, origin: bytes | None) -> None:
    headers = [(b"vary", b"Origin"), (b"content-length", b"0"), *SECURITY_HEADERS]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", ALLOWED_HEADERS),
            (b"access-control-max-age", PREFLIGHT_SECONDS),
        ]
    status = 204 if origin is not None else 403
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
