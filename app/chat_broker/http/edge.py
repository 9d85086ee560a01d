"""The edge: one ASGI layer for limits, ids, headers and the access log of every request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Set
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_broker.errors import (
    BrokerError,
    ClientGone,
    HeadersTooLarge,
    NotFound,
    SlowBody,
    TooLarge,
    TooManyRequests,
    TooSlow,
    UnsupportedMediaType,
    as_broker_error,
    problem,
)
from chat_broker.http.client_address import Proxies
from chat_broker.http.rate_limit_headers import headers_for
from chat_broker.observability.logs import AccessRecord, log_request
from chat_broker.observability.metrics import Metrics
from chat_broker_kit.http.headers import LARGEST_BODY, NO_STORE, SECURITY_HEADERS, head_is_too_large
from chat_broker_kit.http.problems import PROBLEM_JSON
from chat_broker_kit.http.request_ids import request_id_of
from chat_broker_kit.http.websocket_denial import deny_websocket, is_handshake
from chat_broker_kit.logs.sampling import SampledEvents

DEADLINE = 30.0
BAD_REQUEST = 400
SOCKETS = "/socket.io"
HEALTH = frozenset({"/healthz", "/readyz"})
ADMIN_ONLY = ("/admin", "/metrics", "/docs", "/redoc", "/openapi.json")
HSTS = (b"strict-transport-security", b"max-age=31536000")

USUAL = (*SECURITY_HEADERS, NO_STORE)
"""The headers of every response; a route may set one of them itself."""

log = structlog.get_logger("chat_broker.access")
sampled = SampledEvents(log)


class Edge:
    """Gives each request an id, an address, limits and a deadline, each response its headers, and the log a line.

    *admin_port*: the port that serves the operators' routes, and no frontend routes; None: one port serves all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxies: Proxies,
        metrics: Metrics,
        prefix: str = "/chat",
        admin_port: int | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._app = app
        self.proxies = proxies
        self.metrics = metrics
        self._prefix = prefix
        self.token_path = prefix + "/token"
        self.admin_port = admin_port
        self.deadline = deadline
        self.user_id_of: Callable[[Scope], str | None] = lambda _: None
        """The chat user who sent a request, for the log; None if no cache knows."""
        self.admit_handshake: Callable[[Scope], Awaitable[None]] = _admit
        """Counts the handshake of a socket against its address. Raises TooManyRequests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await _Request(self, scope, receive, send).answer()
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        on_admin_port = self.hides(scope)
        if on_admin_port or head_is_too_large(scope) or not is_socket(scope["path"]):
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        ids = [value for name, value in scope["headers"] if name == b"x-request-id"]
        state = scope.setdefault("state", {})
        state |= {"address": self.proxies.client(scope), "request_id": request_id_of(ids)}
        # FastAPI wraps it further in; the sockets of the embedded server write to its transport.
        scope["chat_broker_server.send"] = send
        try:
            if is_handshake(scope):
                await self.limit_handshake(scope)
            await self._app(scope, receive, send)
        except BrokerError as error:  # only before the handshake is answered
            status, headers, body = error_answer(error, scope)
            headers += [*USUAL, (b"x-request-id", state["request_id"].encode())]
            await deny_websocket(scope, receive, send, status=status, headers=headers, body=body)

    async def limit_handshake(self, scope: Scope) -> None:
        """Count a handshake against its address. Raises TooManyRequests."""
        try:
            await self.admit_handshake(scope)
        except TooManyRequests as error:
            self.metrics.handshakes_limited.inc()
            state = scope["state"]
            sampled.warning(
                "socket.handshakes_limited",
                address=state["address"],
                request_id=state["request_id"],
            )
            text = "Too many requests from this address. Connect again after Retry-After."
            raise TooManyRequests("slow_down", text, headers=error.headers) from None

    def hides(self, scope: Scope) -> bool:
        """Whether the path of *scope* is not served on its port."""
        if self.admin_port is None:
            return False
        path, server = scope["path"], scope.get("server")
        if path in HEALTH:
            return False
        operators = any(path == one or path.startswith(one + "/") for one in ADMIN_ONLY)
        on_admin_port = server is not None and server[1] == self.admin_port
        return operators != on_admin_port

    def note(self, record: AccessRecord) -> None:
        """Count the request of *record*, and write its line into the access log."""
        self.metrics.answered(record.method, record.route, record.status, record.seconds)
        log_request(record)

    def about_refusal(self, scope: Scope) -> dict[str, str] | None:
        """Code, reason and, if known, user of a refused request, for the log; None if it was not refused."""
        state = scope["state"]
        error: BrokerError | None = state.get("error")
        if error is None:
            return None
        about = {"code": error.code}
        if error.reason is not None:
            about["reason"] = error.reason
        if (user_id := self.user_id_of(scope)) is not None:
            about["user_id"] = user_id
        return about

    def template_of(self, scope: Scope) -> str:
        """The template of the route that answered. Metrics use it as a label, so it never contains input."""
        path = getattr(scope.get("route"), "path", None)
        if path is None:
            return SOCKETS if is_socket(scope["path"]) else "unmatched"
        if scope["path"].startswith(self._prefix + "/") and not path.startswith(self._prefix):
            return self._prefix + str(path)  # routes know their path within the router alone
        return str(path)


async def _admit(_scope: Scope) -> None:
    """Admit every handshake: the limit is connected when the lifespan starts."""


class _Request:
    """An HTTP request between server and application."""

    __slots__ = (
        "_edge",
        "_is_head",
        "_receive",
        "_send",
        "body_size",
        "request_id",
        "scope",
        "started",
        "started_at",
        "status",
        "waits_for_body",
    )

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._receive = receive
        self._send = send
        self.scope = scope
        # RFC 9110 9.3.2; but a HEAD mints no token.
        self._is_head = scope["method"] == "HEAD" and scope["path"] != edge.token_path
        if self._is_head:
            self.scope = {**scope, "method": "GET"}
        self.started_at = time.perf_counter()
        self.status = 0
        self.body_size = 0
        self.started = False
        self.waits_for_body = False
        self.request_id = request_id_of(
            [value for name, value in scope["headers"] if name == b"x-request-id"]
        )

    async def answer(self) -> None:
        edge, scope = self._edge, self.scope
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        state["address"] = edge.proxies.client(scope)
        edge.metrics.under_way += 1
        try:
            if head_is_too_large(scope):
                await self.refuse(HeadersTooLarge())
            elif edge.hides(scope):
                await self.refuse(NotFound())
            elif is_socket(scope["path"]):
                if is_handshake(scope):
                    await edge.limit_handshake(scope)
                # engine.io limits its bodies itself, and a poll may wait longer than the deadline.
                await edge._app(scope, self._receive, self.send)
            else:
                async with asyncio.timeout(edge.deadline):
                    await edge._app(scope, self.receive, self.send)
        except TimeoutError:
            await self.refuse(SlowBody() if self.waits_for_body else TooSlow("timeout"))
        except ClientDisconnect:
            if not self.started:
                await self.refuse(ClientGone())
        except BrokerError as error:
            await self.refuse(error)
        except Exception as error:
            log.exception("request.failed", request_id=self.request_id)
            await self.refuse(as_broker_error(error))
        finally:
            edge.metrics.under_way -= 1
            self.note()

    async def receive(self) -> Message:
        """The next message of the body. Raises TooLarge, UnsupportedMediaType."""
        self.waits_for_body = True
        message = await self._receive()
        self.waits_for_body = False
        if message["type"] == "http.request":
            self.body_size += len(message.get("body", b""))
            if self.body_size > LARGEST_BODY or self._announced() > LARGEST_BODY:
                raise TooLarge
            if self.body_size and self._is_compressed():
                text = "The request body must not be compressed."
                raise UnsupportedMediaType(message=text, headers={"Accept-Encoding": "identity"})
        return message

    def _is_compressed(self) -> bool:
        headers = self.scope["headers"]
        return any(
            name == b"content-encoding" and value.lower() != b"identity" for name, value in headers
        )

    def _announced(self) -> int:
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                return int(value) if value.isdigit() and len(value) < 16 else LARGEST_BODY + 1
        return 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = self.with_ours(message.get("headers", ()))
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    def with_ours(self, route_headers: Any) -> list[tuple[bytes, bytes]]:
        """*route_headers* with those of the edge; a header that the route has set stays."""
        headers = list(route_headers)
        headers += usual_beside({name.lower() for name, _ in headers})
        headers.append((b"x-request-id", self.request_id.encode()))
        for name, value in headers_for(self.scope["state"].get("usages", ())).items():
            headers.append((name.lower().encode(), value.encode()))
        if self._edge.proxies.secure(self.scope):
            headers.append(HSTS)
        return headers

    async def refuse(self, error: BrokerError) -> None:
        """Answer with *error*. A response that has started is cut off instead."""
        if self.started:
            return
        status, headers, body = error_answer(error, self.scope)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def note(self) -> None:
        """Count the request and log it: without its query, credential and body."""
        edge, scope = self._edge, self.scope
        record = AccessRecord(
            "HEAD" if self._is_head else scope["method"],
            instance_of(scope),
            edge.template_of(scope),
            self.status,
            time.perf_counter() - self.started_at,
            self.request_id,
            scope["state"]["address"],
            edge.about_refusal(scope) if self.status >= BAD_REQUEST else None,
        )
        edge.note(record)


def usual_beside(have: Set[bytes]) -> list[tuple[bytes, bytes]]:
    """USUAL without the headers in *have*, the names in lower case that a route has set itself."""
    return [pair for pair in USUAL if pair[0] not in have]


def error_answer(error: BrokerError, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the response to *error*."""
    state = scope.get("state", {})
    state["error"] = error  # for the log
    request_id = state.get("request_id", "")
    body = problem(error, request_id=request_id, instance=instance_of(scope))
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    return error.status, headers, body


def instance_of(scope: Scope) -> str:
    """The path as the client sent it, without its query."""
    raw = scope.get("raw_path") or scope["path"].encode("ascii", "replace")
    return str(raw.partition(b"?")[0].decode("ascii", "replace"))


def is_socket(path: str) -> bool:
    """Whether *path* belongs to Socket.IO."""
    return path == SOCKETS or path.startswith(SOCKETS + "/")
