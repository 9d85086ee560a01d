"""CORS: lets pages of listed origins read responses."""

from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_broker.errors import Refused, problem
from chat_broker_kit.http.headers import NO_STORE, SECURITY_HEADERS, lines
from chat_broker_kit.http.problems import PROBLEM_JSON
from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_kit.http.request_ids import request_id_of

ALLOWED_METHODS = b"GET, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, X-Chat-CSRF, X-Request-Id"
EXPOSED_HEADERS = b"Retry-After, X-Request-Id"
PREFLIGHT_SECONDS = b"600"


class Cors:
    """Answers preflights, and adds CORS headers to responses, for an exact list of origins.

    Credentials are always allowed, so `*` is never sent. Responses to other origins have no CORS header: their pages
    cannot read them. `Vary: Origin` keeps caches from mixing responses up.
    """

    def __init__(
        self, app: ASGIApp, *, origins: Iterable[str], refused: RefusedOrigins | None = None
    ) -> None:
        """*refused* logs preflights of other origins."""
        self._app = app
        self._refused = refused or RefusedOrigins(structlog.get_logger(__name__), lambda: None)
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._lines = {one: lines(_naming(one)) for one in (*self._origins, None)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, preflight = _origin_of(scope)
        listed = origin is not None and origin in self._origins
        if preflight:
            if listed and origin is not None:
                await _answer_preflight(send, origin)
            else:
                await self._refuse_preflight(scope, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                _name_origin(message, origin if listed else None)
            await send(message)

        await self._app(scope, receive, send_named)

    async def _refuse_preflight(self, scope: Scope, send: Send) -> None:
        """Answer with the reason, for a developer who opens the browser's tools; the page cannot read it."""
        headers = scope["headers"]
        request_id = request_id_of([value for name, value in headers if name == b"x-request-id"])
        origins = [value for name, value in headers if name == b"origin"]
        text = self._refused.refuse(origins, of="preflight", request_id=request_id)
        instance = scope["path"].encode("ascii", "replace").decode()
        body = problem(
            Refused("origin_not_allowed", text), request_id=request_id, instance=instance
        )
        response_headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"vary", b"Origin"),
            *SECURITY_HEADERS,
            NO_STORE,
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 403, "headers": response_headers})
        await send({"type": "http.response.body", "body": body})

    def lines_for(self, origin: bytes | None) -> bytes:
        """The header lines for a response to a page of *origin*; None: the request has no `Origin`, or several."""
        return self._lines.get(origin, self._lines[None])


def _naming(origin: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers for a listed *origin*; for None, those for every other request."""
    headers = [(b"vary", b"Origin")]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
        ]
    return headers


def _origin_of(scope: Scope) -> tuple[bytes | None, bool]:
    """The origin, and whether this is a preflight. A repeated `Origin` is no origin."""
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


async def _answer_preflight(send: Send, origin: bytes) -> None:
    headers = [
        (b"vary", b"Origin"),
        (b"content-length", b"0"),
        *SECURITY_HEADERS,
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", ALLOWED_METHODS),
        (b"access-control-allow-headers", ALLOWED_HEADERS),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
