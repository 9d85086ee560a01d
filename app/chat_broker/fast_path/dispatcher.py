"""Requests to hot routes: recognized, answered, watched for their deadline. `chat_broker.fast_path` says what for."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog
from starlette.types import Scope

from chat_broker.admission.gate import Gate
from chat_broker.api.responses import EXPECTED, expected_error, lines_of, with_usual
from chat_broker.chat.broker import Broker
from chat_broker.chat.principal import Principal
from chat_broker.errors import BrokerError, TooSlow, as_broker_error
from chat_broker.fast_path.header_cache import HeaderCache, Peer, RequestHead, read_head
from chat_broker.fast_path.routes import MOST_PEERS, HotRoutes, Target
from chat_broker.http.cors import Cors
from chat_broker.http.edge import BAD_REQUEST, HSTS, Edge, error_answer
from chat_broker.http.rate_limit_headers import lines_for
from chat_broker.observability.logs import AccessRecord
from chat_broker_kit.http.headers import lines
from chat_broker_kit.http.request_ids import request_id_of
from chat_broker_kit.text.random_hex import random_hex

CHECK_DEADLINES_EVERY = 1.0
"""Seconds by which a request may exceed its deadline."""
_HSTS_LINE = lines((HSTS,))

log = structlog.get_logger("chat_broker.access")

RawResponse = tuple[int, tuple[bytes, ...]]
"""Status, and in pieces all that comes below the lines about date and connection: lines of the head, blank line, body."""


class Application(Protocol):
    """What routes ask of the application (chat_broker.application's)."""

    gate: Gate
    broker: Broker


class _NoReader:
    """Stands for the event that a reader of the body would wait for."""

    def set(self) -> None:
        """Nothing to wake."""


class FastRequest:
    """One request on the fast path, and its own arrival at the gate.

    uvicorn takes it for one of its cycles, of which it looks at a few attributes.
    """

    __slots__ = ("_connection_scope", "_scope", "address", "body", "disconnected", "head", "keep_alive", "more_body", "peer", "principal", "request_id", "response_complete", "started_at", "target", "task", "timed_out")  # fmt: skip

    message_event = _NoReader()

    def __init__(
        self,
        target: Target,
        head: RequestHead,
        peer: Peer,
        *,
        connection_scope: Scope,
        scope: Scope | None = None,
    ) -> None:
        """*scope* is uvicorn's; *connection_scope* what its scopes for this connection have in common, if it has made none."""
        self.target = target
        self._connection_scope = connection_scope
        self._scope = scope
        self.address = ""
        self.head = head
        self.peer = peer
        self.body = b""
        self.principal: Principal | None = None
        sent_id = head.request_id
        self.request_id = random_hex() if sent_id is None else request_id_of((sent_id,))
        self.started_at = 0.0
        self.timed_out = False
        self.task: asyncio.Task[Any] | None = None
        """What answers it, and is cancelled when it takes too long."""
        self.keep_alive = True
        self.more_body = self.disconnected = self.response_complete = False

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it, made when it is first asked for: as a rule it is not."""
        scope = self._scope
        if scope is None:
            scope = self._scope = {**self._connection_scope}
            scope["headers"] = self.head.headers
            scope["state"] = self._connection_scope["state"].copy()
            self.complete(scope)
        return scope

    def complete(self, scope: Scope) -> None:
        """Put into *scope* what follows from the request line, and what the edge knows."""
        scope.update(self.target.scope_fields)
        scope["state"] |= {"request_id": self.request_id, "address": self.address}

    def comes_from(self, address: str) -> None:
        """Set the client's address."""
        self.address = address
        if self._scope is not None:
            self._scope["state"]["address"] = address


class Dispatcher:
    """Recognizes requests to hot routes of *app* and answers them. *hot*: their endpoints, among those of *routes*."""

    def __init__(
        self,
        app: Application,
        *,
        routes: Iterable[Any],
        hot: Iterable[Callable[..., Any]],
        prefix: str,
        edge: Edge,
        cors: Cors,
    ) -> None:
        self._app = app
        self._edge = edge
        self._has_admin_port = edge.admin_port is not None
        self._cors = cors
        self.routes = HotRoutes(app, routes=routes, hot=hot, prefix=prefix)
        self.header_cache = HeaderCache()
        self.caches_headers = True
        """May header lines that came before go unparsed? Each connection asks once, when it is made."""
        self._under_way: set[FastRequest] = set()
        edge.metrics.count_also(self._under_way.__len__)
        self._deadlines: asyncio.TimerHandle | None = None

    # -- recognizing ----------------------------------------------------------------------------

    def recognize(self, line: bytes, scope: Scope, peer: Peer) -> FastRequest | None:
        """The request that begins with this *line*, and *scope* of uvicorn; None if it has to go the ordinary way."""
        target = self.routes.find(line)
        if target is None or scope["root_path"]:
            return None
        head = read_head(scope["headers"])
        if head is None:
            return None
        request = FastRequest(target, head, peer, connection_scope=scope, scope=scope)
        request.complete(scope)
        if self._has_admin_port and self._edge.hides(request.scope):
            return None
        return self._identified(request)

    def cached_request(
        self, data: bytes, connection_scope: Scope, peer: Peer
    ) -> FastRequest | None:
        """The request that *data* is, if its header lines and their user are cached; None if not: have it parsed.

        *connection_scope*: what uvicorn's scopes for this connection have in common. The headers in the request's scope
        are without credentials: whose they are is known.
        """
        found = self.header_cache.find(data)
        if found is None:
            return None
        line, head, body = found
        target = self.routes.find(line)
        if target is None:
            return None
        request = FastRequest(target, head, peer, connection_scope=connection_scope)
        if self._identified(request).principal is None:
            return None
        if self._has_admin_port and self._edge.hides(request.scope):
            return None
        request.body = body
        return request

    def _identified(self, request: FastRequest) -> FastRequest:
        head = request.head
        if head.bearer is not None and request.target.route.kind is not None:
            cached = self._app.gate.cached_principal
            request.principal = cached(head.bearer, beside_cookies=head.cookies)
        return request

    def cache_head(self, data: bytes, line: bytes, request: FastRequest) -> None:
        """The parser has taken *data*, which begins with the request *line*, for *request* and nothing else."""
        if request.principal is not None:  # so that a flood of junk displaces no user's
            self.header_cache.put(data, line, request.head)

    # -- answering ------------------------------------------------------------------------------

    async def respond(self, request: FastRequest) -> RawResponse:
        """What the route answers, or what its refusal looks like; counted and logged."""
        route = request.target.route
        sender = request.head.senders.get(request.peer) or self._sender(request)
        request.comes_from(sender[0])
        request.started_at = time.perf_counter()
        self._under_way.add(request)
        if self._deadlines is None:
            self._watch_deadlines()
        status, me, limits = 0, None, b""
        try:
            if route.kind is not None:
                me, usages = await self._app.gate.admit(request, route.kind)
                limits = lines_for(usages)
            # Only now: another request may have read the query while this one waited, and its error is raised once.
            arguments = request.target.arguments()
            if route.principal_at >= 0:
                arguments[route.principal_at] = me
            if request.target.room_name and me is not None:
                arguments[route.room_at] = await self._app.broker.room_id(
                    me, request.target.room_name
                )
            for at, read in route.readers:
                arguments[at] = read(request)
            if route.broker_at >= 0:
                arguments[route.broker_at] = self._app.broker
            response = await route.endpoint(*arguments)
            status, head, body = response.status_code, lines_of(response), response.body
        except asyncio.CancelledError:
            if not request.timed_out:
                raise
            status, head, body = _problem(TooSlow("timeout"), request)
        except EXPECTED as error:
            status, head, body = _problem(expected_error(error), request)
        except Exception as error:
            log.exception("request.failed", request_id=request.request_id)
            status, head, body = _problem(as_broker_error(error), request)
        finally:
            self._under_way.discard(request)
            self._note(request, status)
        request_id = f"x-request-id: {request.request_id}\r\n".encode()
        return status, (head, request_id, limits, sender[1], body)

    def _note(self, request: FastRequest, status: int) -> None:
        """Count the request and write its line of the access log."""
        target = request.target
        record = AccessRecord(
            target.method,
            target.path,
            target.route.template,
            status,
            time.perf_counter() - request.started_at,
            request.request_id,
            request.address,
            None if status < BAD_REQUEST else self._edge.about_refusal(request.scope),
        )
        self._edge.note(record)

    def _sender(self, request: FastRequest) -> tuple[str, bytes]:
        """The client's address, and how the head of the response ends: the same for the same lines from the same peer."""
        proxies, scope, head = self._edge.proxies, request.scope, request.head
        secure = _HSTS_LINE if proxies.secure(scope) else b""
        sender = proxies.client(scope), secure + self._cors.lines_for(head.origin) + b"\r\n"
        if len(head.senders) < MOST_PEERS:
            head.senders[request.peer] = sender
        return sender

    # -- deadlines ------------------------------------------------------------------------------

    def _watch_deadlines(self) -> None:
        """One timer for all requests: a timer each would cost what a route does."""
        loop = asyncio.get_running_loop()
        self._deadlines = loop.call_later(CHECK_DEADLINES_EVERY, self._end_late_requests)

    def _end_late_requests(self) -> None:
        self._deadlines = None
        if not self._under_way:
            return
        latest_start = time.perf_counter() - self._edge.deadline
        for request in self._under_way:
            is_late = request.started_at < latest_start and not request.timed_out
            if is_late and request.task is not None:
                request.timed_out = True
                request.task.cancel()
        self._watch_deadlines()


def _problem(error: BrokerError, request: FastRequest) -> tuple[int, bytes, bytes]:
    """Status, lines of the head, and body of *error*."""
    request.scope["state"]["principal"] = request.principal  # the log names who was refused
    status, headers, body = error_answer(error, request.scope)
    return status, with_usual(headers), body


def switched_on() -> bool:
    """Whether the environment lets requests take the fast path: unless FAST_PATH is `off`."""
    return os.environ.get("FAST_PATH") != "off"
