"""Hot routes made ready: where a request line leads, and how to get each argument of the route's function."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.types import Scope

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
from chat_broker.fast_path.header_cache import Peer, RequestHead
from chat_broker_kit.bounded_cache import BoundedCache

MOST_TARGETS = 4096
MOST_PEERS = 16
"""For so many peers it is cached what the same header lines mean when they come from them."""
LONGEST_TARGET = 256
"""Bytes of a request line that is worth caching."""

_LINE = re.compile(rb"([A-Z]+) (/[A-Za-z0-9._~:@/-]*)(?:\?([A-Za-z0-9._~=&-]*))? HTTP/1\.1")


class Input(Protocol):
    """What the arguments of a route are read from."""

    target: "Target"
    head: RequestHead
    peer: Peer
    body: bytes

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it; to make it costs more than most routes do."""
        ...


Reader = Callable[[Input], Any]


class UnsupportedRouteError(Exception):
    """A route asks for something that only FastAPI can give."""


class HotRoute:
    """One route: how to get each argument, in the order of the signature. Raises UnsupportedRouteError."""

    __slots__ = ("after", "before", "broker_at", "endpoint", "kind", "parameters", "principal_at", "queries", "readers", "room_at", "template")  # fmt: skip

    def __init__(self, route: APIRoute, prefix: str) -> None:
        self.endpoint = route.endpoint
        self.template = prefix + route.path
        self.before, brace, rest = self.template.partition("{")
        room_name, _, self.after = rest.partition("}")
        if "{" in self.after or ":" in room_name:
            raise UnsupportedRouteError(route.path)
        if route.dependencies or not inspect.iscoroutinefunction(route.endpoint):
            raise UnsupportedRouteError(route.path)
        self.kind: Kind | None = None
        """What admission is asked for; None for a route without it."""
        # Where in the list of arguments each of these goes; nowhere if below zero.
        self.principal_at = self.broker_at = self.room_at = -1
        self.queries: list[tuple[int, Callable[[bytes], Any]]] = []
        self.readers: list[tuple[int, Reader]] = []
        signature = inspect.signature(route.endpoint)
        self.parameters = len(signature.parameters)
        hints = get_type_hints(route.endpoint, include_extras=True)
        for at, (name, parameter) in enumerate(signature.parameters.items()):
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                raise UnsupportedRouteError(route.path)
            if brace and name == room_name:
                self.room_at = at
            else:
                self._add(at, _dependency(hints[name]))

    def _add(self, at: int, dependency: Any) -> None:
        if isinstance(dependency, Admitted):
            # First, as in the signature: who asks is known before what they ask is looked at.
            if self.readers or self.queries or self.principal_at >= 0:
                raise UnsupportedRouteError(self.template)
            self.kind, self.principal_at = dependency.kind, at
        elif isinstance(dependency, Read) and dependency.of is the_broker:
            self.broker_at = at
        elif isinstance(dependency, ReadQuery):
            # The query is read first; in a signature that has it later, another error would come first.
            if self.readers:
                raise UnsupportedRouteError(self.template)
            self.queries.append((at, dependency.of))
        else:
            self.readers.append((at, self._reader(dependency)))

    def _reader(self, dependency: Any) -> Reader:
        if isinstance(dependency, BodyOf):
            body_of = dependency.of
            return lambda request: body_of(
                request.target.query, request.head.values_of(b"content-type"), request.body
            )
        if isinstance(dependency, ReadHeader):
            name, values_of = dependency.name, dependency.of
            return lambda request: values_of(request.head.values_of(name))
        if isinstance(dependency, ReadSender):
            return _cached_by_sender(dependency.of)
        if isinstance(dependency, Read):
            of_scope = dependency.of
            return lambda request: of_scope(request.scope)
        raise UnsupportedRouteError(self.template)


def _cached_by_sender(of_scope: Callable[[Scope], Any]) -> Reader:
    """*of_scope*, called once for the same header lines from the same peer."""

    def read(request: Input) -> Any:
        cache, key = request.head.sender_values, (request.peer, of_scope)
        if key not in cache:
            value = of_scope(request.scope)
            if len(cache) >= MOST_PEERS:
                return value
            cache[key] = value
        return cache[key]

    return read


def _dependency(hint: Any) -> Any:
    dependencies = [each for each in get_args(hint) if isinstance(each, Depends)]
    if get_origin(hint) is not Annotated or len(dependencies) != 1:
        raise UnsupportedRouteError(str(hint))
    return dependencies[0].dependency


class Target:
    """Where a request line leads: the route, what it puts into the scope, and the arguments that follow from it alone."""

    __slots__ = ("_arguments", "_queries", "method", "path", "query", "room_name", "route", "scope_fields")  # fmt: skip

    def __init__(
        self, route: HotRoute, room: str, query: bytes, scope_fields: Mapping[str, Any]
    ) -> None:
        self.route = route
        self.query = query
        self.scope_fields = scope_fields
        self.room_name = room if ":" in room else ""
        """By which the room is named, if not by its id."""
        self.method: str = scope_fields["method"]
        self.path: str = scope_fields["path"]
        self._arguments: list[Any] = [None] * route.parameters
        if route.room_at >= 0:
            self._arguments[route.room_at] = room
        self._queries = route.queries

    def arguments(self) -> list[Any]:
        """Those of the route's function, as far as they are known. Raises BadInput for a query that is none of its own."""
        if self._queries:
            for at, of_query in self._queries:
                self._arguments[at] = of_query(self.query)
            self._queries = []
        return self._arguments.copy()


class _Table:
    """The hot routes of one method: those with a fixed path, and those that hold the id of a room."""

    def __init__(self) -> None:
        self._fixed: dict[str, HotRoute] = {}
        self._of_rooms: dict[str, dict[str, HotRoute]] = {}

    def add(self, route: HotRoute) -> None:
        if route.room_at >= 0:
            self._of_rooms.setdefault(route.before, {})[route.after] = route
        else:
            self._fixed[route.before] = route

    def find(self, path: str) -> tuple[HotRoute, str] | None:
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


class HotRoutes:
    """Finds the target of a request line. *hot*: the endpoints among those of *routes* that may have a fast path."""

    def __init__(
        self, app: Any, *, routes: Iterable[Any], hot: Iterable[Callable[..., Any]], prefix: str
    ) -> None:
        self._app = app
        self._tables: dict[bytes, _Table] = {}
        self._targets = BoundedCache[bytes, Target](MOST_TARGETS)
        self.endpoints: set[Callable[..., Any]] = set()
        """The functions that have a fast path."""
        wanted = set(hot)
        for route in routes:
            if isinstance(route, APIRoute) and route.endpoint in wanted:
                self._add(route, prefix)

    def _add(self, route: APIRoute, prefix: str) -> None:
        try:
            ready = HotRoute(route, prefix)
        except UnsupportedRouteError:
            return
        self.endpoints.add(route.endpoint)
        for method in route.methods or ():
            self._tables.setdefault(method.encode(), _Table()).add(ready)

    def find(self, line: bytes) -> Target | None:
        """Where the request *line* leads; None if that is no hot route, or is spelled in an unusual way."""
        return self._targets.get(line) or self._find(line)

    def _find(self, line: bytes) -> Target | None:
        if (plain := _LINE.fullmatch(line)) is None:
            return None
        method, raw, query = plain.groups(b"")
        path = raw.decode("ascii")
        table = self._tables.get(method)
        found = None if table is None else table.find(path)
        if found is None:
            return None
        scope_fields = {
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw,
            "query_string": query,
            "app": self._app,
        }
        target = Target(*found, query, scope_fields)
        if len(line) <= LONGEST_TARGET:
            self._targets.put(line, target)
        return target
