"""Puts the broker together: the only place where all parts meet."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_broker.admin.keys import operators_keys
from chat_broker.admin.routes import audit, users
from chat_broker.admin.routes import keys as admin_keys
from chat_broker.admin.routes import rooms as admin_rooms
from chat_broker.admin.routes import status as admin_status
from chat_broker.admin.routes.status import StorageStatus
from chat_broker.admin.services import AdminServices, open_admin_services
from chat_broker.admission.csrf import BrowserRules
from chat_broker.admission.gate import Gate
from chat_broker.admission.rate_limits import Limiter, Rates
from chat_broker.api import docs, health, messages, rooms, token
from chat_broker.api.openapi import CREDENTIALS, write_descriptions
from chat_broker.api.responses import as_json
from chat_broker.auth.choose import ModeChain, build_authenticator, dev_sessions
from chat_broker.auth.config import read_auth
from chat_broker.auth.dev_login import dev_router
from chat_broker.auth.header import ProxyHeaderGuard
from chat_broker.chat.broker import Broker
from chat_broker.chat.principal import Principal
from chat_broker.chat.socket_address import Sockets
from chat_broker.errors import (
    BadInput,
    BrokerError,
    ClientGone,
    MethodNotAllowed,
    NotFound,
    as_broker_error,
)
from chat_broker.fast_path.dispatcher import EXPECTED, Lane, expected, switched_on
from chat_broker.http.client_address import Proxies
from chat_broker.http.cors import Cors
from chat_broker.http.edge import Edge, error_answer
from chat_broker.observability.dependencies import dependencies_of
from chat_broker.observability.metrics import Metrics
from chat_broker.observability.readiness import Readiness
from chat_broker.pages.home import home_router
from chat_broker.settings import Settings
from chat_broker.storage.admin import admin_storage
from chat_broker.storage.open import State, open_state
from chat_broker.upstream.chat_api import Upstream, open_chat
from chat_broker_kit.http.origins import is_same_address
from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_sdk import Transport

TITLE = "Chat broker"
HOT = (
    token.mint_token,
    token.verify,
    token.whoami,
    rooms.list_rooms,
    messages.list_messages,
    messages.post_message,
    messages.mark_read,
)
"""What frontends ask all day; see chat_broker.fast_path.dispatcher."""
VERSION = "0.1.0"
FRONTEND = (token.router, rooms.router, messages.router)
ADMIN = tuple(module.router for module in (users, admin_rooms, admin_keys, audit, admin_status))


Layer = TypeVar("Layer", bound=ASGIApp)


class Application(FastAPI):
    """FastAPI with layers of our own around it: what they answer never enters it.

    *lane* answers hot routes without any of that, for a server that knows how (`chat_broker.fast_path.protocol`). *gate* and
    *broker* are there while the lifespan lasts; every request asks for them, so they are plain attributes.
    """

    lane: Lane | None = None
    edge: Edge
    gate: Gate
    broker: Broker

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._outermost: ASGIApp = super().__call__

    def wrap(self, layer: Callable[..., Layer], **options: Any) -> Layer:
        """Put *layer* around everything so far."""
        made = layer(self._outermost, **options)
        self._outermost = made
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._outermost(scope, receive, send)


def create_app(settings: Settings, *, chat_transport: Transport | None = None) -> FastAPI:
    """The broker as an ASGI application; its lifespan opens everything and closes it in reverse.

    *chat_transport* stands in for the network to the Chat API.
    """
    proxies = Proxies(settings.trusted_proxies)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(open_state(settings))
            chain = await stack.enter_async_context(build_authenticator(settings))
            upstream = await stack.enter_async_context(
                open_chat(
                    settings,
                    transport=chat_transport,
                    is_own_origin=_own_address(settings, proxies),
                )
            )
            limiter = _limiter(settings, state, metrics)
            side = await stack.enter_async_context(
                open_admin_services(
                    settings, admin_storage(settings, state), upstream.chat, limiter
                )
            )
            _assemble(app, settings, proxies, metrics, state, chain, upstream, limiter, side)
            stack.push_async_callback(app.state.readiness.close)
            yield

    shown = settings.docs_shown
    app = Application(
        title=TITLE,
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if shown else None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.metrics = metrics
    for router in FRONTEND:
        app.include_router(router, prefix=settings.route_prefix)
    app.include_router(health.router)
    if shown:
        app.include_router(docs.router)
    if settings.development:
        app.include_router(home_router(settings, proxies))
    if "dev" in settings.auth:
        app.include_router(dev_router(dev_sessions(settings)))
    for router in ADMIN:
        app.include_router(router)
    _answer_errors(app)
    _describe_credentials(app)
    if (identity_headers := read_auth(settings).header) is not None:
        app.wrap(ProxyHeaderGuard, headers=identity_headers)
    edge = app.edge = app.wrap(
        Edge,
        proxies=proxies,
        metrics=metrics,
        prefix=settings.route_prefix,
        admin_port=settings.admin_port,
    )
    # Outermost, so that a listed page can read refusals too.
    refused = RefusedOrigins(structlog.get_logger("app.cors"), metrics.preflights_refused.inc)
    cors = app.wrap(Cors, origins=settings.cors_origins, refused=refused)
    if switched_on() and identity_headers is None:  # else the guard would be gone around
        app.lane = Lane(
            app,
            routes=[route for router in FRONTEND for route in router.routes],
            hot=HOT,
            prefix=settings.route_prefix,
            edge=edge,
            cors=cors,
        )
    return app


def _assemble(
    app: Application,
    settings: Settings,
    proxies: Proxies,
    metrics: Metrics,
    state: State,
    chain: ModeChain,
    upstream: Upstream,
    limiter: Limiter,
    side: AdminServices,
) -> None:
    """Hand what was opened to those who use it. Routes find it on the application, or on its `state`."""
    browser = BrowserRules(settings.own_origins, proxies.is_own_origin)
    kept = app.state
    storage: StorageStatus = state
    kept.settings, kept.storage, kept.upstream, kept.admin = settings, storage, upstream, side
    app.gate = Gate(
        chain,
        browser,
        side.standings,
        limiter,
        is_operators_key=operators_keys(_own_keys(settings)),
    )
    app.broker = Broker(
        upstream.chat,
        state.links,
        state.room_changes,
        generate_token=upstream.mint,
        mint_at_once=upstream.mint_at_once,
        token_ttl=settings.token_ttl,
        expose=settings.expose_user_fields,
        guard=side.guard,
    )
    app.edge.admit_handshake = app.gate.admit_address
    app.edge.user_id_of = partial(_user_id, app.broker)
    kept.sockets = Sockets(proxies, upstream.socket_path, _socket_address(settings))
    kept.readiness = Readiness(
        dependencies_of(settings, state, chain, upstream), vital=frozenset({"database"})
    )
    metrics.key_ages = chain.key_ages
    metrics.other_processes.set_function(lambda: state.pulse.others)
    if upstream.server is not None:
        metrics.watch_sockets(upstream.server.facts)
        _open_to_the_public(app, upstream)


def _user_id(broker: Broker, scope: Scope) -> str | None:
    """The chat user who makes the request of *scope*, as far as that is known without asking anybody."""
    me: Principal | None = scope["state"].get("principal")
    return None if me is None else broker.cached_user_id(me)


def _own_address(settings: Settings, proxies: Proxies) -> Callable[[Any, str], bool]:
    """Whether an origin, in any spelling, is the address that is handed out for sockets."""
    public = settings.public_url
    if public is None:
        return proxies.is_own_origin
    parts = urlsplit(public)
    return lambda _, origin: is_same_address(origin, f"{parts.scheme}://{parts.netloc}")


def _own_keys(settings: Settings) -> list[str]:
    """The keys that were known at the start: whoever presents one is no app user."""
    keys = (settings.admin_key, settings.chat_api_key, settings.chat_api_key_next)
    return [key.get_secret_value() for key in keys if key is not None]


def _limiter(settings: Settings, state: State, metrics: Metrics) -> Limiter:
    rates = Rates.reading(
        token=settings.rate_token,
        write=settings.rate_write,
        read=settings.rate_read,
        ip=settings.rate_ip,
        auth_failures=settings.rate_auth_failures,
        admin_failures=settings.rate_admin_failures,
    )
    return Limiter(rates, state.counters, on_failure=metrics.limiter_failures.inc)


def _socket_address(settings: Settings) -> str | None:
    if settings.embedded:
        return settings.public_url
    return settings.chat_socket_url or settings.chat_base_url


def _open_to_the_public(app: FastAPI, upstream: Upstream) -> None:
    """Of the embedded Chat API the sockets and the public keys, and nothing else."""
    server = upstream.server
    assert server is not None  # noqa: S101 - the caller has looked

    async def keys(_: Request) -> Response:
        """The keys that verify chat tokens."""
        answer = as_json(server.jwks())
        answer.headers["Cache-Control"] = "public, max-age=300"
        return answer

    app.add_route("/.well-known/jwks.json", keys, methods=["GET"], include_in_schema=False)
    app.mount("/socket.io", server.socket)


Handler = Callable[[Request, Any], Awaitable[Response]]


def _describe_credentials(app: FastAPI) -> None:
    """Say in /openapi.json what the routes' `security` stands for; and nothing of FastAPI's own 422."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        for router in (*FRONTEND, *ADMIN):
            write_descriptions(router.routes)
        description = plain()
        schemes = {name: {"type": "http", "scheme": "bearer"} for name in CREDENTIALS}
        description["components"] = {"securitySchemes": schemes}
        for methods in description["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        return description

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _answer_errors(app: FastAPI) -> None:
    """Every error as problem+json; nothing of FastAPI's own, which repeats what was sent."""

    def answering(translate: Callable[[Any], BrokerError]) -> Handler:
        async def answer(request: Request, error: Any) -> Response:
            return problem_response(request, translate(error))

        return answer

    app.add_exception_handler(ClientDisconnect, answering(lambda _: ClientGone()))
    for kind in EXPECTED:
        app.add_exception_handler(kind, answering(expected))
    app.add_exception_handler(HTTPException, _answer_router)
    app.add_exception_handler(Exception, answering(as_broker_error))
    app.add_exception_handler(RequestValidationError, answering(lambda _: BadInput()))


async def _answer_router(request: Request, error: Any) -> Response:
    if error.status_code == 405:
        app: Application = request.app
        allowed = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
        if "GET" in allowed and request.scope["path"] != app.edge.token_path:
            allowed.add("HEAD")
        refusal: BrokerError = MethodNotAllowed(headers={"Allow": ", ".join(sorted(allowed))})
    else:
        refusal = NotFound() if error.status_code == 404 else BadInput()
    return problem_response(request, refusal)


def problem_response(request: Request, error: BrokerError) -> Response:
    """*error* as an answer."""
    status, headers, body = error_answer(error, request.scope)
    answer = Response(body, status)
    answer.raw_headers = headers
    return answer
