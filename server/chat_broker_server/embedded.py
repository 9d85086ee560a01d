"""The server without a network: opens all its parts in order, and closes them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from chat_broker_kit.database.transactions import Database
from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, LocalBus, RedisBus
from chat_broker_server.cluster.deployment import Deployment, deployment
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.signing_keys import open_signing_keys
from chat_broker_server.credentials.tokens import FreshToken, Tokens
from chat_broker_server.database.housekeeping import run_housekeeping
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import ChatError, NotAuthenticated
from chat_broker_server.realtime.live import LazyRealtime
from chat_broker_server.realtime.origins import IsOwnOrigin, OriginPolicy, is_named_by_host
from chat_broker_server.rest.request import Services
from chat_broker_server.rest.router import Rest
from chat_broker_server.rest.users import checked_lifetime
from chat_broker_server.settings import Settings

ASGIApp = Callable[
    [Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]

RestCall = Callable[
    [str, str, Iterable[tuple[str, str]], bytes | None],
    Awaitable[tuple[int, list[tuple[str, str]], bytes]],
]


class Server:
    """An open Chat API server: REST as a function and as an ASGI app, sockets, and its state."""

    def __init__(
        self,
        database: Database,
        rest: Rest,
        tokens: Tokens,
        realtime: LazyRealtime,
        project_id: str | None,
    ) -> None:
        self.rest: ASGIApp = rest
        """ASGI app of /api/v1/… and /.well-known/jwks.json. Errors are problem+json."""
        self.call: RestCall = rest.call
        """REST as a function: (method, path and query, headers, body) → (status, headers, body)."""
        self.socket: ASGIApp = realtime.app
        """ASGI app to mount at /socket.io."""
        self.project_id = project_id
        """The project of the embedded key; None without such a key."""
        self._database = database
        self._tokens = tokens
        self._realtime = realtime

    def mint(self, user_id: str, expires_in: int) -> FreshToken | None:
        """`POST …/users/{user_id}/token` with the embedded key, without waiting. None if it would have to wait: call the route.

        Raises the ChatError of the route.
        """
        if self.project_id is None:
            raise NotAuthenticated
        return self._tokens.try_mint(self.project_id, user_id, checked_lifetime(expires_in))

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify chat tokens, as a JWKS."""
        return self._tokens.jwks()

    async def ready(self) -> dict[str, str]:
        """The state of `database` and `redis`: ok, off, degraded or failed, with the reason. Never raises."""
        try:
            database = "ok" if await self._database.ping() else "degraded: writes are refused"
        except ChatError as error:
            database = f"failed: {error.code}"
        return {"database": database, "redis": self.bus_state}

    @property
    def bus_state(self) -> str:
        """The connection to other nodes: `off`, `ok` or `degraded: …`."""
        return self._realtime.bus_state

    async def disconnect_sockets(self) -> None:
        """Disconnect all sockets, with a delay to reconnect. New ones are refused from then on."""
        await self._realtime.disconnect_sockets()

    def facts(self) -> dict[str, int | str]:
        """Numbers of sockets and events, for metrics and status pages."""
        return {"database": self._database.name, **self._realtime.facts()}


@asynccontextmanager
async def open_server(
    settings: Settings,
    *,
    embedded_key: str | None = None,
    is_own_origin: IsOwnOrigin = is_named_by_host,
) -> AsyncIterator[Server]:
    """Open the database (and migrate it), signing keys and sockets. Closes all in reverse order.

    *embedded_key* opens the project "default", which is created if needed. Only its hash is kept, in memory.
    *is_own_origin* tells whether an origin is the server's own address, see OriginPolicy.
    """
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, pool=settings.postgres_pool)
        stack.push_async_callback(database.close)
        signing = await open_signing_keys(database, settings.token_algorithm)
        tokens = Tokens(
            database, signing, issuer=settings.token_issuer, default_lifetime=settings.token_ttl
        )
        project_id = None
        if embedded_key is not None:
            project_id = await ApiKeys(database).embedded_project()
        keys = ApiKeys(database, embedded_key=embedded_key, embedded_project=project_id or "")
        this_deployment = await deployment(database)
        realtime = LazyRealtime(
            tokens,
            bus=_bus(settings, this_deployment),
            origins=OriginPolicy.of(settings.cors_origins or None, is_own_origin),
        )
        chat = Chat(database, realtime.publish, epoch=this_deployment.epoch)
        await realtime.start(chat)
        stack.push_async_callback(realtime.close)
        housekeeping = asyncio.create_task(run_housekeeping(database))
        stack.push_async_callback(cancel_and_wait, housekeeping)
        rest = Rest(Services(chat, tokens, keys, realtime.close_user, realtime.presence))
        yield Server(database, rest, tokens, realtime, project_id)


def _bus(settings: Settings, of: Deployment) -> Bus:
    if settings.redis_url is None:
        return LocalBus()
    prefix = settings.redis_prefix or f"chat-server:{of.id}"
    return RedisBus(settings.redis_url.get_secret_value(), prefix=prefix)
