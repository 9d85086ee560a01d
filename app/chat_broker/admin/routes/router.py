"""The operators' routes: /admin. Each needs a scope, and writes exactly one audit record per call."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from chat_broker.admin.access import AdminCall
from chat_broker.admin.keys import Scope
from chat_broker.admin.operators import Operators
from chat_broker.api.openapi import ADMIN_KEY, Schema, describe
from chat_broker.api.requests import Body, read_body

B = TypeVar("B", bound=Body)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Needs(NamedTuple):
    """What a route asks of a key, and what the audit calls it."""

    scope: Scope
    action: str


_NEEDS: Final = "__needs__"


def needs(scope: Scope, action: str) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint. A route without this mark cannot be added."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NEEDS, Needs(scope, action))
        return endpoint

    return mark


class AuditedRoute(APIRoute):
    """A route that the gate stands before. Holds for every route of the router, also those to come."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.needs: Needs = getattr(endpoint, _NEEDS)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The endpoint, behind the gate."""
        handle = super().get_route_handler()
        needed = self.needs

        async def audited(request: Request) -> Response:
            async def work(call: AdminCall) -> Response:
                request.scope["state"]["admin_call"] = call
                return await handle(request)

            gate = operators(request).gate
            answer = await gate.serve(request.scope, needed.scope, needed.action, work)
            return cast("Response", answer)

        return audited


def admin_router(tag: str) -> APIRouter:
    """A router for some of the operators' routes."""
    return APIRouter(prefix="/admin", tags=[tag], route_class=AuditedRoute)


def operators(request: Request) -> Operators:
    """The operators' side of this process."""
    return cast("Operators", request.app.state.operators)


def this_call(request: Request) -> AdminCall:
    """The call that the gate has let in."""
    return cast("AdminCall", request.scope["state"]["admin_call"])


async def read(request: Request, kind: type[B], *, optional: bool = False) -> B:
    """The request's body as a *kind*."""
    types = request.headers.getlist("content-type")
    content_type = types[0] if len(types) == 1 else None
    raw = await request.body()
    return read_body(raw, content_type, kind, optional=optional, by_operator=True)


def described(
    *,
    body: type[Body] | None = None,
    optional: bool = False,
    answer: Schema | None = None,
    status: int = 200,
    parameters: list[Schema] | None = None,
) -> dict[str, Any]:
    """`describe`, for a route that wants an admin key."""
    arguments = describe(
        body=body,
        optional=optional,
        answer=answer,
        status=status,
        parameters=parameters,
        signed_in=False,
    )
    arguments["openapi_extra"]["security"] = [{ADMIN_KEY: []}]
    return arguments
