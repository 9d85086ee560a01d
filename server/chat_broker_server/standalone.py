"""The standalone Chat API server: REST, sockets, health, metrics and access log."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import structlog

from chat_broker_kit.http.headers import NO_STORE, head_is_too_large
from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_kit.http.request_ids import request_id_of
from chat_broker_kit.http.websocket_denial import deny_websocket, is_handshake
from chat_broker_kit.logs.outages import GOOD, Outages
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.process.draining_switch import draining_switch
from chat_broker_kit.urls.location import location
from chat_broker_server.embedded import Server, open_server
from chat_broker_server.errors import (
    ChatError,
    Forbidden,
    HeadersTooLarge,
    MethodNotAllowed,
    TooManyRequests,
    Unavailable,
)
from chat_broker_server.observability.logs import bug
from chat_broker_server.observability.metrics import Metrics
from chat_broker_server.realtime.handshake_limit import HandshakeLimit
from chat_broker_server.rest.problems import problem
from chat_broker_server.settings import Settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

log = structlog.get_logger("chat_broker_server.access")
sampled = SampledEvents(log)

_CORS_METHODS = b"GET, POST, PUT, PATCH, DELETE"
_CORS_HEADERS = b"Authorization, Content-Type, Idempotency-Key, X-Request-ID"
_CORS_EXPOSED = b"X-Request-ID, Retry-After, Idempotency-Replayed, WWW-Authenticate"


def create_app(settings: Settings) -> "Standalone":
    """The standalone server as an ASGI application; its lifespan opens and closes everything."""
    return Standalone(settings)


class Standalone:
    """Routes each request to REST, sockets or health, and adds CORS headers, metrics and the access log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._metrics = Metrics()
        self._handshakes = HandshakeLimit(settings.rate_handshakes)
        self._refused_origins = RefusedOrigins(log, self._metrics.preflights_refused.inc)
        self._server: Server | None = None
        self._outages = Outages()
        self._draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"] == "/socket.io" or scope["path"].startswith("/socket.io/"):
            await self._socket(scope, receive, send)
        elif kind == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def begin_draining(self) -> None:
        """Answer `draining` on /readyz, and close each connection after its next response. All else goes on."""
        self._draining = draining_switch.on = True

    async def disconnect_sockets(self) -> None:
        """Disconnect all sockets, with a delay to reconnect. New ones are refused from then on."""
        if self._server is not None:
            await self._server.disconnect_sockets()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await receive()
            try:
                self._server = await stack.enter_async_context(open_server(self._settings))
            except Exception as error:  # noqa: BLE001 – reported to uvicorn, which exits
                bug(log, "server.cannot_start")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self._server = None
        await send({"type": "lifespan.shutdown.complete"})

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["chat.request_id"] = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        error = self._refuse_socket(scope)
        if error is None:
            await self._opened().socket(_mounted(scope), receive, send)
        elif scope["type"] == "http":
            await _refuse(scope, self._with_cors(scope, send), error)
        else:
            reply = problem(error, path=_printable(scope), request_id=request_id)
            headers = [(name.encode(), value.encode()) for name, value in reply.headers]
            headers += [NO_STORE, (b"content-length", b"%d" % len(reply.body))]
            await deny_websocket(
                scope, receive, send, status=reply.status, headers=headers, body=reply.body
            )

    def _refuse_socket(self, scope: Scope) -> ChatError | None:
        """The error for a Socket.IO request that must be refused, else None."""
        if head_is_too_large(scope):
            return HeadersTooLarge()
        if self._server is None:
            return _starting()
        if not is_handshake(scope):
            return None
        address = (scope.get("client") or ("",))[0]
        wait = self._handshakes.take(address)
        if not wait:
            return None
        self._metrics.handshakes_limited.inc()
        sampled.warning(
            "socket.handshakes_limited", address=address, request_id=scope["chat.request_id"]
        )
        return TooManyRequests(retry_after=wait)

    def _with_cors(self, scope: Scope, send: Send) -> Send:
        if not self._origins:
            return send
        origin = self._origin(scope)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_cors(origin)]}
            await send(message)

        return sending

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.perf_counter()
        status = 0
        request_id = scope["chat.request_id"] = _request_id(scope)
        origin = self._origin(scope)
        send_with_cors = self._with_cors(scope, send)

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send_with_cors(message)

        try:
            await self._answer(scope, receive, sending, origin)
        except Exception as error:  # noqa: BLE001 – a bug of ours is a 500 in the form of every other refusal
            if not isinstance(error, ChatError):
                bug(log, "request.failed", request_id=request_id)
                error = ChatError()
            if not status:
                await _refuse(scope, sending, error)
        finally:
            seconds = time.perf_counter() - started_at
            route = scope.get("chat.route") or "other"
            self._metrics.request(route, scope["method"], status, seconds)
            if route != "/healthz":
                log.info(
                    "request",
                    method=scope["method"],
                    # A path contains only ids. A query could contain anything, so it is not logged.
                    path=_printable(scope),
                    route=route,
                    status=status,
                    ms=round(seconds * 1000, 2),
                    request_id=request_id,
                    **_refusal(scope),
                )

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, origin: bytes | None
    ) -> None:
        path = scope["path"]
        own = {"/healthz": self._health, "/readyz": self._ready, "/metrics": self._measured}
        if head_is_too_large(scope):
            await _refuse(scope, send, HeadersTooLarge())
        elif origin is not None and scope["method"] == "OPTIONS" and not path.startswith("/."):
            await _respond(scope, send, 204, b"", b"")
        elif origin is None and _is_preflight(scope):
            origins = [value for name, value in scope["headers"] if name == b"origin"]
            request_id = scope["chat.request_id"]
            text = self._refused_origins.refuse(origins, of="preflight", request_id=request_id)
            await _refuse(scope, send, Forbidden("origin_not_allowed", text))
        elif path in own:
            scope["chat.route"] = path
            if scope["method"] not in {"GET", "HEAD"}:
                await _refuse(scope, send, MethodNotAllowed("GET, HEAD"))
                return
            status, body, kind = await own[path]()
            await _respond(scope, send, status, body, kind)
        else:
            await self._opened().rest(scope, receive, send)

    def _opened(self) -> Server:
        if self._server is None:
            raise _starting()
        return self._server

    def _origin(self, scope: Scope) -> bytes | None:
        if not self._origins:
            return None
        sent: bytes | None = next((v for k, v in scope["headers"] if k == b"origin"), None)
        return sent if sent in self._origins else None

    async def _health(self) -> tuple[int, bytes, bytes]:
        return 200, b'{"status":"ok"}', b"application/json"

    async def _ready(self) -> tuple[int, bytes, bytes]:
        facts = await self._dependencies()
        status = "ok" if set(facts.values()) <= GOOD else "degraded"
        if facts["database"].startswith("failed"):
            status = "failed"
        if self._draining:
            status = "draining"
        body = msgspec.json.encode({"status": status, **facts})
        return 503 if status in {"failed", "draining"} else 200, body, b"application/json"

    async def _dependencies(self) -> dict[str, str]:
        facts = await self._opened().ready()
        redis = self._settings.redis_url
        places = {
            "database": location(self._settings.database_url),
            "redis": "" if redis is None else location(redis.get_secret_value()),
        }
        for name, answer in facts.items():
            self._outages.note(name, answer, where=places[name])
        return facts

    async def _measured(self) -> tuple[int, bytes, bytes]:
        facts = self._opened().facts()
        body, kind = self._metrics.page(facts, await self._dependencies())
        return 200, body, kind


def _cors(origin: bytes | None) -> list[tuple[bytes, bytes]]:
    if origin is None:
        return [(b"vary", b"Origin")]
    return [
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _CORS_METHODS),
        (b"access-control-allow-headers", _CORS_HEADERS),
        (b"access-control-expose-headers", _CORS_EXPOSED),
        (b"access-control-max-age", b"600"),
    ]


def _starting() -> Unavailable:
    return Unavailable("starting", "The server is starting or stopping.")


def _request_id(scope: Scope) -> str:
    return request_id_of([value for name, value in scope["headers"] if name == b"x-request-id"])


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    wanted = {b"origin", b"access-control-request-method"}
    return scope["method"] == "OPTIONS" and wanted <= names


def _refusal(scope: Scope) -> dict[str, str]:
    """The error code and the user, for the access log."""
    fields = {"code": scope.get("chat.code"), "user_id": scope.get("chat.user_id")}
    return {name: value for name, value in fields.items() if value}


async def _refuse(scope: Scope, send: Send, error: ChatError) -> None:
    scope["chat.code"] = error.code
    reply = problem(error, path=_printable(scope), request_id=scope["chat.request_id"])
    headers = tuple((name.encode(), value.encode()) for name, value in reply.headers)
    await _respond(scope, send, reply.status, reply.body, b"", headers)


async def _respond(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    kind: bytes,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    all_headers = [*headers, NO_STORE, (b"x-request-id", scope["chat.request_id"].encode())]
    if kind:
        all_headers.append((b"content-type", kind))
    if status != 204:
        all_headers.append((b"content-length", str(len(body)).encode()))
    if status == 503:
        all_headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    empty = scope["method"] == "HEAD"
    await send({"type": "http.response.body", "body": b"" if empty else body})


def _mounted(scope: Scope) -> Scope:
    """The scope as for an application mounted at /socket.io."""
    return {**scope, "root_path": scope.get("root_path", "") + "/socket.io"}


def _printable(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode("ascii", "replace")
    return raw.decode("latin-1").partition("?")[0].encode("ascii", "replace").decode()[:256]
