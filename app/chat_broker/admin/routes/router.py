"""The operators' routes, under /admin. Each needs a scope, and writes one audit record per request."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from chat_broker.admin.access import AuditContext
from chat_broker.admin.keys import AdminScope
from chat_broker.admin.requests import OptionalReason
from chat_broker.admin.services import AdminServices
from chat_broker.api.openapi import ADMIN_KEY, describe
from chat_broker.api.requests import Body, read_body, read_query

B = TypeVar("B", bound=Body)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Needs(NamedTuple):
    """The scope that a route needs, its action in the audit log, and the parameters of its query."""

    scope: AdminScope
    action: str
    query: frozenset[str]


_NEEDS: Final = "__needs__"


def needs(
    scope: AdminScope, action: str, query: frozenset[str] = frozenset()
) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint. `AuditedRoute` refuses to be created without this mark."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NEEDS, Needs(scope, action, query))
        return endpoint

    return mark


class AuditedRoute(APIRoute):
    """A route that only admitted operators reach. Every route of an `admin_router` is one."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.needs: Needs = getattr(endpoint, _NEEDS)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The endpoint, behind `AdminAccess`."""
        endpoint = super().get_route_handler()
        needed = self.needs

        async def audited(request: Request) -> Response:
            async def handle(context: AuditContext) -> Response:
                state = request.scope["state"]
                state["audit_context"] = context
                state["admin_query"] = read_query(request.scope["query_string"], needed.query)
                return await endpoint(request)

            access = admin_services(request).access
            response = await access.serve(request.scope, needed.scope, needed.action, handle)
            return cast("Response", response)

        return audited


def admin_router(tag: str) -> APIRouter:
    return APIRouter(prefix="/admin", tags=[tag], route_class=AuditedRoute)


def admin_services(request: Request) -> AdminServices:
    return cast("AdminServices", request.app.state.admin)


def audit_context(request: Request) -> AuditContext:
    """The context of the request's audit record."""
    return cast("AuditContext", request.scope["state"]["audit_context"])


def query_of(request: Request) -> dict[str, str]:
    """The parameters of the request's query, without unknown and repeated ones."""
    return cast("dict[str, str]", request.scope["state"]["admin_query"])


async def read(request: Request, kind: type[B], *, optional: bool = False) -> B:
    """The request's body as a *kind*. Raises BadInput. *optional*: an empty body is `{}`."""
    types = request.headers.getlist("content-type")
    content_type = types[0] if len(types) == 1 else None
    raw = await request.body()
    return read_body(raw, content_type, kind, optional=optional, by_operator=True)


described = partial(describe, credential=ADMIN_KEY)
"""`describe`, for a route that needs an admin key."""


async def read_reason(request: Request) -> None:
    """Put the reason of an optional body into the audit record."""
    body = await read(request, OptionalReason, optional=True)
    audit_context(request).reason = body.reason
