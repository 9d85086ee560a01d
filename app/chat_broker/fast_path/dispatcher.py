"""A short way for the hot routes: from a request that came whole to the bytes of its answer.

ASGI's messages, its layers and FastAPI's machinery cost several times what these routes themselves do. Here
a route's arguments are worked out once, from the very signature that FastAPI reads: the same functions
read the input, in the same order, the same gate admits, the same function answers, the same edge counts
and logs. What is unusual about a request (an escape in its address, a repeated header, a body that comes in
pieces) sends it the ordinary way, as does a route whose signature asks for more than this file understands.
`FAST_PATH=off` sends everything there; the answers are the same. `chat_broker.fast_path.protocol` is what calls this.
"""

import asyncio
import inspect
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import structlog
from fastapi import Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.types import Message, Scope

import chat_broker_sdk
from chat_broker.admission.gate import Gate
from chat_broker.admission.rate_limits import Kind
from chat_broker.api.dependencies import (
    Admitted,
    BodyOf,
    Read,
    ReadHeader,
    ReadQuery,
    ReadSender,
    the_broker,
)
from chat_broker.api.responses import lines_of, with_usual
from chat_broker.chat.broker import Broker
from chat_broker.chat.ports import StateUnavailable
from chat_broker.chat.principal import Principal
from chat_broker.errors import BrokerError, TooSlow, Unavailable, as_broker_error, from_chat
from chat_broker.fast_path.header_cache import Head, Heads, Peer, read_head
from chat_broker.http.cors import Cors
from chat_broker.http.edge import BAD_REQUEST, HSTS, Edge, error_answer
from chat_broker.http.rate_limit_headers import lines_for
from chat_broker.observability.logs import AccessRecord
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.http.headers import lines
from chat_broker_kit.http.request_ids import new_request_id, request_id_of

EXPECTED = (BrokerError, chat_broker_sdk.ChatError, StateUnavailable)
"""What routes raise by design, each with an answer of its own."""
WATCH_SECONDS = 1.0
"""How often requests are looked at that may have passed their deadline."""

MOST_TARGETS = 4096
MOST_PEERS = 16
"""Of which it is remembered what the same lines mean when they come from them."""
LONGEST_TARGET = 256
"""Bytes of a request line that is worth remembering."""

_LINE = re.compile(rb"([A-Z]+) (/[A-Za-z0-9._~/-]*)(?:\?([A-Za-z0-9._~=&-]*))? HTTP/1\.1")
_HSTS_LINE = lines((HSTS,))

log = structlog.get_logger("chat_broker.access")

Answer = tuple[int, tuple[bytes, ...]]
"""Status, and in pieces all that comes below the lines about date and connection: lines of the head, blank line, body."""


def expected(error: Exception) -> BrokerError:
    """What a route raises by design, as what is answered."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, chat_broker_sdk.ChatError):
        return from_chat(error)
    return Unavailable("state_unavailable")


class Application(Protocol):
    """What routes ask of the application (chat_broker.main's)."""

    gate: Gate
    broker: Broker


class _NobodyWaits:
    """Stands for the event that a reader of the body would wait for."""

    def set(self) -> None:
        """Nothing to wake."""


_NOBODY_WAITS = _NobodyWaits()


class _Table:
    """The hot routes of one method: those with a fixed path, and those that hold the id of a room."""

    def __init__(self) -> None:
        self._fixed: dict[str, HotRoute] = {}
        self._of_rooms: dict[str, dict[str, HotRoute]] = {}

    def add(self, route: "HotRoute") -> None:
        if route.room_at >= 0:
            self._of_rooms.setdefault(route.before, {})[route.after] = route
        else:
            self._fixed[route.before] = route

    def find(self, path: str) -> "tuple[HotRoute, str] | None":
        """The route at *path*, and the room id in it ("" for a route that has none)."""
        route = self._fixed.get(path)
        if route is not None:
            return route, ""
        for before, of_rooms in self._of_rooms.items():
            if path.startswith(before):
                room, slash, after = path[len(before) :].partition("/")
                route = of_rooms.get(slash + after)
                if route is not None and room:
                    return route, room
        return None

    @property
    def routes(self) -> "list[HotRoute]":
        """All of them."""
        of_rooms = [route for many in self._of_rooms.values() for route in many.values()]
        return [*self._fixed.values(), *of_rooms]


class HotRoute:
    """One route, made ready: how to get each argument, in the order of the signature."""

    __slots__ = ("admits", "after", "before", "broker_at", "endpoint", "me_at", "of_query", "parameters", "reads", "request_at", "room_at", "template")  # fmt: skip

    def __init__(self, route: APIRoute, prefix: str) -> None:
        self.endpoint = route.endpoint
        self.template = prefix + route.path
        self.before, brace, rest = self.template.partition("{")
        room_as, _, self.after = rest.partition("}")
        if "{" in self.after or ":" in room_as:
            raise NotSimple(route.path)
        if route.dependencies or not inspect.iscoroutinefunction(route.endpoint):
            raise NotSimple(route.path)
        self.admits: Kind | None = None
        # Where in the list of arguments each of these goes; nowhere if below zero.
        self.me_at = self.request_at = self.broker_at = self.room_at = -1
        self.of_query: list[tuple[int, Callable[[bytes], Any]]] = []
        self.reads: list[tuple[int, Callable[[Call], Any]]] = []
        signature = inspect.signature(route.endpoint)
        self.parameters = len(signature.parameters)
        hints = get_type_hints(route.endpoint, include_extras=True)
        for at, (name, parameter) in enumerate(signature.parameters.items()):
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                raise NotSimple(route.path)
            if hints[name] is Request:
                self.request_at = at
            elif brace and name == room_as:
                self.room_at = at
            else:
                self._ask_for(at, _dependency(hints[name]))

    def _ask_for(self, at: int, dependency: Any) -> None:
        if isinstance(dependency, Admitted):
            # First, as in the signature: who asks is known before what they ask is looked at.
            if self.reads or self.of_query or self.me_at >= 0:
                raise NotSimple(self.template)
            self.admits, self.me_at = dependency.kind, at
        elif isinstance(dependency, Read) and dependency.of is the_broker:
            self.broker_at = at
        elif isinstance(dependency, ReadQuery):
            # The query is read first; in a signature that has it later, another error would be told first.
            if self.reads:
                raise NotSimple(self.template)
            self.of_query.append((at, dependency.of))
        else:
            self.reads.append((at, self._reader(dependency)))

    def _reader(self, dependency: Any) -> "Callable[[Call], Any]":
        if isinstance(dependency, BodyOf):
            body_of = dependency.of
            return lambda call: body_of(
                call.target.query, call.head.values_of(b"content-type"), call.body
            )
        if isinstance(dependency, ReadHeader):
            name, values_of = dependency.name, dependency.of
            return lambda call: values_of(call.head.values_of(name))
        if isinstance(dependency, ReadSender):
            return _remembering(dependency.of)
        if isinstance(dependency, Read):
            of_scope = dependency.of
            return lambda call: of_scope(call.scope)
        raise NotSimple(self.template)


def _remembering(of_scope: "Callable[[Scope], Any]") -> "Callable[[Call], Any]":
    """*of_scope*, asked once for the same lines from the same peer."""

    def read(call: Call) -> Any:
        found, key = call.head.found, (call.peer, of_scope)
        if key not in found:
            answer = of_scope(call.scope)
            if len(found) >= MOST_PEERS:
                return answer
            found[key] = answer
        return found[key]

    return read


class NotSimple(Exception):  # noqa: N818 - a finding, not a failure
    """A route asks for something that only FastAPI can give."""


def _dependency(hint: Any) -> Any:
    found = [one for one in get_args(hint) if isinstance(one, Depends)]
    if get_origin(hint) is not Annotated or len(found) != 1:
        raise NotSimple(str(hint))
    return found[0].dependency


class _Target:
    """Where a request line leads: the route, what it puts into the scope, and the arguments that follow from it alone."""

    __slots__ = ("about", "given", "of_query", "query", "route")

    def __init__(self, route: HotRoute, room: str, query: bytes, about: Mapping[str, Any]) -> None:
        self.route = route
        self.about = about
        self.query = query
        self.given: list[Any] = [None] * route.parameters
        if route.room_at >= 0:
            self.given[route.room_at] = room
        self.of_query = route.of_query
        """What is still to be read."""

    def arguments(self) -> list[Any]:
        """Those of the route's function, as far as they are known. Raises BadInput for a query that is none of its own."""
        if self.of_query:
            for at, of in self.of_query:
                self.given[at] = of(self.query)
            self.of_query = []
        return self.given.copy()


class Call:
    """One request on the short way. uvicorn takes it for one of its cycles, of which it looks at a few attributes."""

    __slots__ = ("_blank", "_scope", "address", "began", "body", "disconnected", "head", "keep_alive", "more_body", "overdue", "peer", "principal", "request_id", "response_complete", "target", "task")  # fmt: skip

    message_event = _NOBODY_WAITS

    def __init__(
        self, target: _Target, head: Head, peer: Peer, *, blank: Scope, scope: Scope | None = None
    ) -> None:
        """*scope* is uvicorn's; *blank* what its scopes for this connection have in common, if it has made none."""
        self.target = target
        self._blank = blank
        self._scope = scope
        self.address = ""
        self.head = head
        self.peer = peer
        self.body = b""
        self.principal: Principal | None = None
        given = head.request_id
        self.request_id = new_request_id() if given is None else request_id_of((given,))
        self.began = 0.0
        self.overdue = False
        self.task: asyncio.Task[Any] | None = None
        """Who answers it: whom to stop when it takes too long."""
        self.keep_alive = True
        self.more_body = self.disconnected = self.response_complete = False

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it, made when somebody asks: as a rule nobody does."""
        scope = self._scope
        if scope is None:
            scope = self._scope = {**self._blank}
            scope["headers"] = self.head.headers
            scope["state"] = self._blank["state"].copy()
            self.complete(scope)
        return scope

    def complete(self, scope: Scope) -> None:
        """Put into *scope* what follows from the request line, and what the edge knows."""
        scope.update(self.target.about)
        scope["state"] |= {"request_id": self.request_id, "address": self.address}

    def comes_from(self, address: str) -> None:
        """Whom to hold responsible for it."""
        self.address = address
        if self._scope is not None:
            self._scope["state"]["address"] = address


class Lane:
    """Recognises requests to hot routes of *app* and answers them. *hot* names their endpoints."""

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
        self._cors = cors
        self._heads = Heads()
        self.caches_headers = True
        """May header lines that came before go unparsed? Each connection asks once, when it is made."""
        self._tables: dict[bytes, _Table] = {}
        self._targets = BoundedCache[bytes, _Target](MOST_TARGETS)
        self._under_way: set[Call] = set()
        edge.metrics.count_also(self._under_way.__len__)
        self._watch: asyncio.TimerHandle | None = None
        wanted = set(hot)
        for route in routes:
            if isinstance(route, APIRoute) and route.endpoint in wanted:
                self._add(route, prefix)

    def _add(self, route: APIRoute, prefix: str) -> None:
        try:
            made = HotRoute(route, prefix)
        except NotSimple:
            return
        for method in route.methods or ():
            self._tables.setdefault(method.encode(), _Table()).add(made)

    @property
    def endpoints(self) -> set[Callable[..., Any]]:
        """The functions that have a short way."""
        return {route.endpoint for table in self._tables.values() for route in table.routes}

    # -- recognising ----------------------------------------------------------------------------

    def recognise(self, line: bytes, scope: Scope, peer: Peer) -> Call | None:
        """The call that begins with this request *line*, and *scope* of uvicorn; None if it has to go the ordinary way."""
        target = self._targets.get(line) or self._find(line)
        if target is None or scope["root_path"]:
            return None
        head = read_head(scope["headers"])
        if head is None:
            return None
        call = Call(target, head, peer, blank=scope, scope=scope)
        call.complete(scope)
        return self._call(call)

    def recall(self, data: bytes, blank: Scope, peer: Peer) -> Call | None:
        """The call that *data* is, if a request with the same header lines, of somebody known, was here before.

        *blank*: what uvicorn's scopes for this connection have in common. The headers in the call's scope are without
        credentials: whose they are is known.
        """
        found = self._heads.find(data)
        if found is None:
            return None
        line, head, body = found
        target = self._targets.get(line) or self._find(line)
        if target is None:
            return None
        call = self._call(Call(target, head, peer, blank=blank))
        if call is None or call.principal is None:
            return None
        call.body = body
        return call

    def _call(self, call: Call) -> Call | None:
        edge, head = self._edge, call.head
        if edge.admin_port is not None and edge.hides(call.scope):
            return None
        if head.bearer is not None and call.target.route.admits is not None:
            call.principal = self._app.gate.cached_principal(
                head.bearer, beside_cookies=head.cookies
            )
        return call

    def _find(self, line: bytes) -> _Target | None:
        """Where the request *line* leads, if that is a hot route; remembered."""
        if (plain := _LINE.fullmatch(line)) is None:
            return None
        method, raw, query = plain.groups(b"")
        path = raw.decode("ascii")
        table = self._tables.get(method)
        found = None if table is None else table.find(path)
        if found is None:
            return None
        about = {
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw,
            "query_string": query,
            "app": self._app,
        }
        target = _Target(*found, query, about)
        if len(line) <= LONGEST_TARGET:
            self._targets.put(line, target)
        return target

    def remember(self, data: bytes, line: bytes, call: Call) -> None:
        """The parser has taken *data*, which begins with the request *line*, for *call* and nothing else."""
        if call.principal is not None:  # so that a flood of junk drives nobody out
            self._heads.keep(data, line, call.head)

    # -- answering ------------------------------------------------------------------------------

    async def answer(self, call: Call) -> Answer:
        """What the route says, or what its refusal looks like; counted and logged."""
        target, app = call.target, self._app
        route = target.route
        address, tail = call.head.came_from.get(call.peer) or self._came_from(call)
        call.comes_from(address)
        limits = b""
        call.began = time.perf_counter()
        self._under_way.add(call)
        if self._watch is None:
            self._watch_over_all()
        status = 0
        me, kind = None, route.admits
        try:
            if kind is not None:
                me, usages = await app.gate.admit(call, kind)
                limits = lines_for(usages)
            # Only now: another call may have read the query while this one waited, and that is told to nobody twice.
            arguments = target.arguments()
            if route.me_at >= 0:
                arguments[route.me_at] = me
            if route.request_at >= 0:
                arguments[route.request_at] = Request(call.scope, _body_is_read)
            for at, read in route.reads:
                arguments[at] = read(call)
            if route.broker_at >= 0:
                arguments[route.broker_at] = app.broker
            response = await route.endpoint(*arguments)
            status, given, body = response.status_code, lines_of(response), response.body
        except EXPECTED as error:
            call.scope["state"]["principal"] = call.principal  # the log names who was refused
            status, given, body = _told(expected(error), call)
        except asyncio.CancelledError:
            if not call.overdue:
                raise
            status, given, body = _told(TooSlow("timeout"), call)
        except Exception as error:
            log.exception("request.failed", request_id=call.request_id)
            status, given, body = _told(as_broker_error(error), call)
        finally:
            self._under_way.discard(call)
            about = target.about
            record = AccessRecord(
                about["method"],
                about["path"],
                route.template,
                status,
                time.perf_counter() - call.began,
                call.request_id,
                address,
                None if status < BAD_REQUEST else self._edge.about_refusal(call.scope),
            )
            self._edge.note(record)
        return status, (given, f"x-request-id: {call.request_id}\r\n".encode(), limits, tail, body)

    def _came_from(self, call: Call) -> tuple[str, bytes]:
        """Who sent the request, and how the head of its answer ends: the same for the same lines from the same peer."""
        proxies, scope, head = self._edge.proxies, call.scope, call.head
        secure = _HSTS_LINE if proxies.secure(scope) else b""
        found = proxies.client(scope), secure + self._cors.lines_for(head.origin) + b"\r\n"
        if len(head.came_from) < MOST_PEERS:
            head.came_from[call.peer] = found
        return found

    # -- deadlines ------------------------------------------------------------------------------

    def _watch_over_all(self) -> None:
        """End calls when their time is up. One timer for all: a timer each would cost what a route does."""
        self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def _look(self) -> None:
        self._watch = None
        if not self._under_way:
            return
        latest = time.perf_counter() - self._edge.deadline
        for call in self._under_way:
            if call.began < latest and not call.overdue and call.task is not None:
                call.overdue = True
                call.task.cancel()
        self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)


def _told(error: BrokerError, call: Call) -> tuple[int, bytes, bytes]:
    """Status, lines of the head, and body that tell of *error*."""
    status, headers, body = error_answer(error, call.scope)
    return status, with_usual(headers), body


async def _body_is_read() -> Message:
    return {"type": "http.disconnect"}


def switched_on() -> bool:
    """True unless `FAST_PATH=off`, which tests and benchmarks use to compare."""
    return os.environ.get("FAST_PATH") != "off"
