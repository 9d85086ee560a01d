"""Builds the application and connects its parts: the only module that imports all of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from starlette.types import Scope

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
from chat_broker.api import docs, health, messages, people, presence, reactions, rooms, sync, token
from chat_broker.api.openapi import describe_app
from chat_broker.api.responses import as_json
from chat_broker.application import Application
from chat_broker.auth.config import read_auth
from chat_broker.auth.dev_login import dev_router
from chat_broker.auth.header import ProxyHeaderGuard
from chat_broker.auth.mode_chain import ModeChain, open_mode_chain
from chat_broker.auth.modes import dev_sessions
from chat_broker.chat.broker import Broker
from chat_broker.chat.features import Features
from chat_broker.chat.identities import Identities
from chat_broker.chat.memberships import Memberships
from chat_broker.chat.principal import Principal
from chat_broker.chat.socket_address import Sockets
from chat_broker.chat.tokens import ChatTokens
from chat_broker.fast_path.dispatcher import Dispatcher, switched_on
from chat_broker.http.client_address import Proxies
from chat_broker.http.cors import Cors
from chat_broker.http.edge import Edge
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
"""The endpoints that `chat_broker.fast_path.dispatcher` answers."""
VERSION = "0.1.0"
FRONTEND = (
    token.router,
    people.router,
    presence.router,
    sync.router,
    rooms.direct_router,
    rooms.router,
    sync.room_router,
    messages.router,
    reactions.router,
)
ADMIN = tuple(module.router for module in (users, admin_rooms, admin_keys, audit, admin_status))


def create_app(settings: Settings, *, chat_transport: Transport | None = None) -> FastAPI:
    """The broker as an ASGI application; its lifespan opens every part and closes them in reverse.

    *chat_transport* replaces the network to the Chat API.
    """
    proxies = Proxies(settings.trusted_proxies)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            parts = await _open_parts(stack, settings, app.edge, chat_transport)
            _connect(app, settings, parts)
            stack.push_async_callback(app.state.readiness.close)
            yield

    app = Application(
        title=TITLE,
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if settings.docs_shown else None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.metrics = metrics
    _include_routers(app, settings, proxies)
    describe_app(app, (*FRONTEND, *ADMIN))
    _add_layers(app, settings, proxies, metrics)
    return app


def _include_routers(app: Application, settings: Settings, proxies: Proxies) -> None:
    for router in FRONTEND:
        app.include_router(router, prefix=settings.route_prefix)
    app.include_router(health.router)
    if settings.docs_shown:
        app.include_router(docs.router)
    if settings.development:
        app.include_router(home_router(settings, proxies))
    if "dev" in settings.auth:
        app.include_router(dev_router(dev_sessions(settings)))
    for router in ADMIN:
        app.include_router(router)


def _add_layers(app: Application, settings: Settings, proxies: Proxies, metrics: Metrics) -> None:
    """Add the layers, innermost first, and the fast path that replaces them for the hot routes."""
    identity_headers = read_auth(settings).header
    if identity_headers is not None:
        app.wrap(ProxyHeaderGuard, headers=identity_headers)
    app.edge = app.wrap(
        Edge,
        proxies=proxies,
        metrics=metrics,
        prefix=settings.route_prefix,
        admin_port=settings.admin_port,
    )
    # Outermost, so that pages of listed origins can read refusals too.
    refused = RefusedOrigins(structlog.get_logger("app.cors"), metrics.preflights_refused.inc)
    cors = app.wrap(Cors, origins=settings.cors_origins, refused=refused)
    if switched_on() and identity_headers is None:  # the fast path would bypass the guard
        app.fast_path = Dispatcher(
            app,
            routes=[route for router in FRONTEND for route in router.routes],
            hot=HOT,
            prefix=settings.route_prefix,
            edge=app.edge,
            cors=cors,
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of the broker that the lifespan opens and closes."""

    state: State
    chain: ModeChain
    upstream: Upstream
    limiter: Limiter
    admin: AdminServices


async def _open_parts(
    stack: AsyncExitStack, settings: Settings, edge: Edge, transport: Transport | None
) -> _Parts:
    """Open each part, in the order in which they need each other; *stack* closes them."""
    state = await stack.enter_async_context(open_state(settings))
    chain = await stack.enter_async_context(open_mode_chain(settings))
    own_address = _own_address(settings, edge.proxies)
    upstream = await stack.enter_async_context(
        open_chat(settings, transport=transport, is_own_origin=own_address)
    )
    limiter = _limiter(settings, state, edge.metrics)
    storage = admin_storage(settings, state)
    admin = await stack.enter_async_context(
        open_admin_services(settings, storage, upstream.chat, limiter)
    )
    return _Parts(state, chain, upstream, limiter, admin)


def _connect(app: Application, settings: Settings, parts: _Parts) -> None:
    """Build the gate and the broker, and put every part where routes, edge and metrics read it."""
    state, chain, upstream, admin = parts.state, parts.chain, parts.upstream, parts.admin
    proxies = app.edge.proxies
    app.gate = Gate(
        chain,
        BrowserRules(settings.own_origins, proxies.is_own_origin),
        admin.ban_statuses,
        parts.limiter,
        is_operators_key=operators_keys(_own_keys(settings)),
    )
    chat = upstream.chat
    identities = Identities(chat, state.links)
    tokens = ChatTokens(
        chat,
        identities,
        generate=upstream.mint,
        longest_life=settings.token_ttl,
        guard=admin.guard,
    )
    app.broker = Broker(
        chat,
        identities,
        Memberships(chat, state.room_changes),
        tokens,
        Features(chat, settings.features_off, has_directory=settings.directory),
        exposed_fields=settings.expose_user_fields,
    )
    app.edge.admit_handshake = app.gate.admit_address
    app.edge.user_id_of = partial(_user_id, app.broker)
    storage: StorageStatus = state
    app.state.settings, app.state.storage = settings, storage
    app.state.upstream, app.state.admin = upstream, admin
    app.state.sockets = Sockets(proxies, upstream.socket_path, _socket_address(settings))
    app.state.readiness = Readiness(
        dependencies_of(settings, state, chain, upstream), vital=frozenset({"database"})
    )
    metrics = app.edge.metrics
    metrics.key_ages = chain.key_ages
    metrics.other_processes.set_function(lambda: state.pulse.others)
    _mount_embedded_server(app, upstream)


def _user_id(broker: Broker, scope: Scope) -> str | None:
    """The chat user who sent the request of *scope*; None unless a cache knows."""
    me: Principal | None = scope["state"].get("principal")
    return None if me is None else broker.cached_user_id(me)


def _own_address(settings: Settings, proxies: Proxies) -> Callable[[Any, str], bool]:
    """Tells whether an origin, in any spelling, is the address that clients open sockets to."""
    public = settings.public_url
    if public is None:
        return proxies.is_own_origin
    parts = urlsplit(public)
    return lambda _, origin: is_same_address(origin, f"{parts.scheme}://{parts.netloc}")


def _own_keys(settings: Settings) -> list[str]:
    """The keys of the settings: a request that carries one is not an app user's."""
    keys = (settings.admin_key, settings.chat_api_key, settings.chat_api_key_next)
    return [key.get_secret_value() for key in keys if key is not None]


def _limiter(settings: Settings, state: State, metrics: Metrics) -> Limiter:
    rates = Rates.reading(
        token=settings.rate_token,
        write=settings.rate_write,
        react=settings.rate_react,
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


def _mount_embedded_server(app: Application, upstream: Upstream) -> None:
    """Serve the embedded Chat API's sockets and public keys, if there is one; the rest of it stays unreachable."""
    server = upstream.server
    if server is None:
        return

    async def keys(_: Request) -> Response:
        response = as_json(server.jwks())
        response.headers["Cache-Control"] = "public, max-age=300"
        return response

    app.add_route("/.well-known/jwks.json", keys, methods=["GET"], include_in_schema=False)
    app.mount("/socket.io", server.socket)
    app.edge.metrics.watch_sockets(server.facts)
