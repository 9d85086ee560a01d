"""A short way for the hot routes: from a request that came whole to the bytes of its answer.

ASGI's messages, its layers and FastAPI's machinery cost several times what these routes themselves do. Here
a route's arguments are worked out once, from the very signature that FastAPI reads: the same functions
read the input, in the same order, the same gate admits, the same function answers, the same edge counts
and logs. What is unusual about a request (an escape in its address, a repeated header, a body that comes in
pieces) sends it the ordinary way, as does a route whose signature asks for more than this file understands.
`FAST_PATH=off` sends everything there; the answers are the same. `app.protocol` is what calls this.
"""

import asyncio
import inspect
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import structlog
from fastapi import FastAPI, Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.types import Message, Scope

import chat_sdk
from app.auth.origins import Cors, lines
from app.deps import Admitted, BodyOf, Read, the_broker, the_gate
from app.errors import BrokerError, TooSlow, Unavailable, as_broker_error, from_chat
from app.heads import Head, Headers, Heads, read_head
from app.limits import Kind, lines_for
from app.middleware import (
    HSTS,
    USUAL,
    USUAL_NAMES,
    Edge,
    error_answer,
    new_request_id,
    request_id_of,
)
from app.principal import Principal
from app.state.contract import StateUnavailable

EXPECTED = (BrokerError, chat_sdk.ChatError, StateUnavailable)
"""What routes raise by design, each with an answer of its own."""
WATCH_SECONDS = 1.0
"""How often requests are looked at that may have passed their deadline."""

MOST_TARGETS = 4096
LONGEST_TARGET = 256
"""Bytes of a request line that is worth remembering."""

_LINE = re.compile(rb"([A-Z]+) (/[A-Za-z0-9._~/-]*)(?:\?([A-Za-z0-9._~=&-]*))? HTTP/1\.1")
_USUAL_LINES = lines(USUAL)
_HSTS_LINE = lines((HSTS,))

log = structlog.get_logger("app.access")

Answer = tuple[int, bytes, bytes]
"""Status, the lines of the head (without those about the connection), body."""


def expected(error: Exception) -> BrokerError:
    """What a route raises by design, as what is answered."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, chat_sdk.ChatError):
        return from_chat(error)
    return Unavailable("state_unavailable")


class _Table:
    """The hot routes of one method: those with a fixed path, and those that hold the id of a room."""

    def __init__(self) -> None:
        self._fixed: dict[str, HotRoute] = {}
        self._of_rooms: dict[str, dict[str, HotRoute]] = {}

    def add(self, route: "HotRoute") -> None:
        if route.room_as:
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

    __slots__ = ("admits", "after", "before", "broker_as", "endpoint", "me_as", "reads", "request_as", "room_as", "template")  # fmt: skip

    def __init__(self, route: APIRoute, prefix: str) -> None:
        self.endpoint = route.endpoint
        self.template = prefix + route.path
        self.before, brace, rest = self.template.partition("{")
        self.room_as, _, self.after = rest.partition("}")
        if "{" in self.after or ":" in self.room_as:
            raise NotSimple(route.path)
        if route.dependencies or not inspect.iscoroutinefunction(route.endpoint):
            raise NotSimple(route.path)
        self.admits: Kind | None = None
        self.me_as = self.request_as = self.broker_as = ""
        self.reads: list[tuple[str, Callable[..., Any], bool]] = []
        hints = get_type_hints(route.endpoint, include_extras=True)
        for name in inspect.signature(route.endpoint).parameters:
            hint = hints[name]
            if hint is Request:
                self.request_as = name
            elif brace and name == self.room_as:
                continue
            else:
                self._ask_for(name, _dependency(hint))

    def _ask_for(self, name: str, dependency: Any) -> None:
        if isinstance(dependency, Admitted):
            # First, as in the signature: who asks is known before what they ask is looked at.
            if self.reads or self.me_as:
                raise NotSimple(self.template)
            self.admits, self.me_as = dependency.kind, name
        elif isinstance(dependency, BodyOf):
            self.reads.append((name, dependency.of, True))
        elif isinstance(dependency, Read) and dependency.of is the_broker:
            self.broker_as = name
        elif isinstance(dependency, Read):
            self.reads.append((name, dependency.of, False))
        else:
            raise NotSimple(self.template)


class NotSimple(Exception):  # noqa: N818 - a finding, not a failure
    """A route asks for something that only FastAPI can give."""


def _dependency(hint: Any) -> Any:
    found = [one for one in get_args(hint) if isinstance(one, Depends)]
    if get_origin(hint) is not Annotated or len(found) != 1:
        raise NotSimple(str(hint))
    return found[0].dependency


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a request line leads: the route, the room id in it, and what it puts into the scope."""

    route: HotRoute
    room: str
    scope: Mapping[str, Any]


class Call:
    """One request on the short way."""

    __slots__ = ("began", "body", "head", "known", "overdue", "request_id", "room", "route", "scope", "task")  # fmt: skip

    def __init__(self, route: HotRoute, room: str, scope: Scope, head: Head) -> None:
        self.route = route
        self.room = room
        self.scope = scope
        self.head = head
        self.body = b""
        self.known: Principal | None = None
        given = head.request_id
        self.request_id = new_request_id() if given is None else request_id_of((given,))
        self.began = 0.0
        self.overdue = False
        self.task: asyncio.Task[Any] | None = None
        """Who answers it: whom to stop when it takes too long."""


class Lane:
    """Recognises requests to hot routes and answers them. One per application; *hot* names the endpoints."""

    def __init__(
        self,
        app: FastAPI,
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
        self._tables: dict[bytes, _Table] = {}
        self._targets: dict[bytes, _Target] = {}
        self._under_way: set[Call] = set()
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

    def recognise(self, line: bytes, scope: Scope, head: Head | None = None) -> Call | None:
        """The call that begins with this request *line*; None if it has to go the ordinary way.

        *scope* is uvicorn's; *head*: what the headers say, if that is known.
        """
        target = self._targets.get(line)
        if target is None and (target := self._find(line)) is None:
            return None
        if head is None:
            head = read_head(scope["headers"])
        if head is None or scope["root_path"]:
            return None
        scope.update(target.scope)
        if self._edge.hides(scope):
            return None
        route = target.route
        call = Call(route, target.room, scope, head)
        if route.admits is not None and head.bearer is not None:
            call.known = the_gate(scope).recall(head.bearer, beside_cookies=head.cookies)
        return call

    def _find(self, line: bytes) -> "_Target | None":
        """Where the request *line* leads, if that is a hot route; remembered."""
        if (plain := _LINE.fullmatch(line)) is None:
            return None
        method, raw, query = plain.groups()
        path = raw.decode("ascii")
        table = self._tables.get(method)
        found = None if table is None else table.find(path)
        if found is None:
            return None
        about = {
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw,
            "query_string": query or b"",
            "app": self._app,
        }
        target = _Target(*found, about)
        if len(self._targets) >= MOST_TARGETS:
            self._targets.clear()
        if len(line) <= LONGEST_TARGET:
            self._targets[line] = target
        return target

    def recall(self, data: bytes, begin: Callable[[Headers], Scope]) -> Call | None:
        """The call that *data* is, if a request with the same header lines, of somebody known, was here before.

        *begin* makes uvicorn's scope for these headers, which are without credentials: whose they are is known.
        """
        found = self._heads.find(data)
        if found is None:
            return None
        line, head, body = found
        call = self.recognise(line, begin(head.headers), head)
        if call is None or call.known is None:
            return None
        call.body = body
        return call

    def remember(self, data: bytes, line: bytes, call: Call) -> None:
        """The parser has taken *data*, which begins with the request *line*, for *call* and nothing else."""
        if call.known is not None:  # so that a flood of junk drives nobody out
            self._heads.keep(data, line, call.head)

    # -- answering ------------------------------------------------------------------------------

    async def answer(self, call: Call) -> Answer:
        """What the route says, or what its refusal looks like; counted and logged."""
        edge, scope, route = self._edge, call.scope, call.route
        state = scope["state"]
        state["request_id"] = call.request_id
        state["address"] = edge.proxies.client(scope)
        edge.metrics.under_way += 1
        call.began = time.perf_counter()
        self._under_way.add(call)
        if self._watch is None:
            self._watch_over_all()
        status = 0
        try:
            values: dict[str, Any] = {}
            if route.admits is not None:
                gate = the_gate(scope)
                values[route.me_as] = await gate.admit(scope, route.admits, known=call.known)
            if route.room_as:
                values[route.room_as] = call.room
            if route.request_as:
                values[route.request_as] = Request(scope, _body_is_read)
            for name, read, takes_body in route.reads:
                values[name] = read(scope, call.body) if takes_body else read(scope)
            if route.broker_as:
                values[route.broker_as] = the_broker(scope)
            response = await route.endpoint(**values)
            status, body = response.status_code, response.body
            return status, self._head(call, response.raw_headers), body
        except EXPECTED as error:
            status, headers, body = error_answer(expected(error), scope)
        except asyncio.CancelledError:
            if not call.overdue:
                raise
            status, headers, body = error_answer(TooSlow("timeout"), scope)
        except Exception as error:
            log.exception("request.failed", request_id=call.request_id)
            status, headers, body = error_answer(as_broker_error(error), scope)
        finally:
            self._under_way.discard(call)
            edge.metrics.under_way -= 1
            edge.note(scope, scope["path"], route.template, status, call.began)
        return status, self._head(call, headers), body

    def _head(self, call: Call, headers: Headers) -> bytes:
        scope = call.scope
        usual = _USUAL_LINES
        if len(headers) > 2 and not USUAL_NAMES.isdisjoint([name for name, _ in headers]):
            have = {name for name, _ in headers}
            usual = lines([pair for pair in USUAL if pair[0] not in have])
        return b"%b%bx-request-id: %b\r\n%b%b%b" % (
            lines(headers),
            usual,
            call.request_id.encode(),
            _HSTS_LINE if self._edge.proxies.secure(scope) else b"",
            lines_for(scope["state"].get("limits", ())),
            self._cors.lines_for(call.head.origin),
        )

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


async def _body_is_read() -> Message:
    return {"type": "http.disconnect"}


def switched_on() -> bool:
    """True unless `FAST_PATH=off`, which tests and benchmarks use to compare."""
    return os.environ.get("FAST_PATH") != "off"
