"""A short way to the hot routes: the same functions, called without FastAPI's machinery around them.

FastAPI solves a route's dependencies anew for every request, within exit stacks and response building
that these routes do not use: 300 µs of CPU. Here that is worked out once, when the application is made, from
the very signatures that FastAPI reads. So there is no second rule to keep in step: the same
dependencies run in the same order, and the same function answers. A route whose signature asks for
more than this file understands takes the ordinary way, as every other route does. `FAST_PATH=off`
sends all of them there; the answers are the same.
"""

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import Request, Response
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.convertors import StringConvertor
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

import chat_sdk
from app.errors import BrokerError
from app.state.contract import StateUnavailable

EXPECTED = (BrokerError, chat_sdk.ChatError, StateUnavailable)
"""What routes raise by design, each with an answer of its own."""

Step = tuple[str, Callable[[Request], Awaitable[Any]]]


class Shortcut:
    """One route, made ready: how to get each argument, in the order of the signature."""

    __slots__ = ("endpoint", "parameters", "pattern", "request_as", "route", "steps")

    def __init__(self, route: APIRoute, prefix: str) -> None:
        self.route = route
        self.endpoint = route.endpoint
        self.pattern, _, converters = compile_path(prefix + route.path)
        if not all(isinstance(one, StringConvertor) for one in converters.values()):
            raise NotSimple(route.path)
        self.parameters = frozenset(converters)
        self.request_as: str | None = None
        self.steps: list[Step] = []
        hints = get_type_hints(route.endpoint, include_extras=True)
        for name in inspect.signature(route.endpoint).parameters:
            hint = hints[name]
            if hint is Request:
                self.request_as = name
            elif name not in self.parameters:
                self.steps.append((name, _only_needs_request(hint)))
        if route.dependencies or not inspect.iscoroutinefunction(route.endpoint):
            raise NotSimple(route.path)

    async def answer(self, request: Request, parameters: dict[str, str]) -> Response:
        """What the route's function says."""
        values: dict[str, Any] = dict(parameters)
        if self.request_as is not None:
            values[self.request_as] = request
        for name, step in self.steps:
            values[name] = await step(request)
        response: Response = await self.endpoint(**values)
        return response


class NotSimple(Exception):  # noqa: N818 - a finding, not a failure
    """A route asks for something that only FastAPI can give."""


def _only_needs_request(hint: Any) -> Callable[[Request], Awaitable[Any]]:
    """The dependency in *hint*, if it is a coroutine function of the request and of nothing else."""
    found = [one for one in get_args(hint) if isinstance(one, Depends)]
    if get_origin(hint) is not Annotated or len(found) != 1 or found[0].dependency is None:
        raise NotSimple(str(hint))
    dependency = found[0].dependency
    asks_for = list(inspect.signature(dependency).parameters.values())
    if len(asks_for) != 1 or get_type_hints(dependency).get(asks_for[0].name) is not Request:
        raise NotSimple(str(hint))
    if not inspect.iscoroutinefunction(dependency):
        raise NotSimple(str(hint))
    return dependency


class FastPath:
    """Answers hot routes by shortcut, and hands everything else to *app*.

    *hot* names the endpoint functions; *on_error* makes the answer to an expected error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Iterable[Any],
        hot: Iterable[Callable[..., Any]],
        prefix: str,
        on_error: Callable[[Request, Exception], Response],
    ) -> None:
        self._app = app
        self._on_error = on_error
        self._by_path: dict[tuple[str, str], Shortcut] = {}
        self._by_pattern: dict[str, list[Shortcut]] = {}
        wanted = set(hot)
        for route in routes:
            if isinstance(route, APIRoute) and route.endpoint in wanted:
                self._add(route, prefix)

    def _add(self, route: APIRoute, prefix: str) -> None:
        try:
            shortcut = Shortcut(route, prefix)
        except NotSimple:
            return
        for method in route.methods or ():
            if shortcut.parameters:
                self._by_pattern.setdefault(method, []).append(shortcut)
            else:
                self._by_path[(method, prefix + route.path)] = shortcut

    @property
    def endpoints(self) -> set[Callable[..., Any]]:
        """The functions that have a shortcut."""
        patterns = [one for many in self._by_pattern.values() for one in many]
        return {one.endpoint for one in [*self._by_path.values(), *patterns]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Under a root path Starlette cuts paths before it compares them: its business.
        if scope["type"] != "http" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        path, parameters = scope["path"], {}
        shortcut = self._by_path.get((scope["method"], path))
        if shortcut is None:
            for one in self._by_pattern.get(scope["method"], ()):
                if match := one.pattern.match(path):
                    shortcut, parameters = one, match.groupdict()
                    break
            else:
                await self._app(scope, receive, send)
                return
        scope["route"] = shortcut.route  # its template labels the metrics
        request = Request(scope, receive)
        try:
            response = await shortcut.answer(request, parameters)
        except EXPECTED as error:
            response = self._on_error(request, error)
        await response(scope, receive, send)


def switched_on() -> bool:
    """True unless `FAST_PATH=off`, which tests and benchmarks use to compare."""
    return os.environ.get("FAST_PATH") != "off"
