"""The Chat API: a remote one over the network, or the embedded one in this process. Its callers cannot tell which."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from chat_broker.settings import Settings, present_keys
from chat_broker.upstream.key_rotation import ProjectKeys, RotatingTransport
from chat_broker.upstream.tokens import ChatToken, OwnerOfToken, chat_token
from chat_broker_sdk import (
    AsyncChatClient,
    ChatError,
    ConfigurationError,
    Dialect,
    DirectTransport,
    Events,
    Routes,
    Timeouts,
    Transport,
)

if TYPE_CHECKING:
    from chat_broker_server import FreshToken, Server

IsOwnOrigin = Callable[[Mapping[str, Any], str], bool]

EMBEDDED_URL = "http://chat-server"
"""Never resolved: the transport is a function call."""
PROBE_SECONDS = 2.0
PATIENCE = 0.9
"""Seconds. A Chat API that asks for a longer pause has its 429 or 503 passed on: the frontend waits, not we."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The Chat API as the broker uses it. *server* is there in embedded mode alone."""

    chat: AsyncChatClient
    keys: ProjectKeys
    socket_path: str
    server: "Server | None" = None

    async def mint(self, user_id: str, expires_in: int) -> ChatToken:
        """A chat token for the user. Raises the SDK's ChatErrors, and BadUpstream."""
        minted = self._mint_here(user_id, expires_in)
        if minted is None:
            return chat_token(await self.chat.users.generate_token(user_id, expires_in=expires_in))
        user = minted.user
        return ChatToken(
            minted.token,
            "Bearer",
            minted.expires_in,
            minted.expires_at,
            minted.session_id,
            OwnerOfToken(user.id, user.external_user_id, user.username, user.display_name),
        )

    def _mint_here(self, user_id: str, expires_in: int) -> "FreshToken | None":
        """A token of the embedded Chat API, made without waiting; None if it cannot be, or is refused: the call words that."""
        if self.server is None:
            return None
        try:
            return self.server.mint(user_id, expires_in)
        except Exception:  # noqa: BLE001 - whatever it was, the call finds it out again
            return None

    @property
    def bus_state(self) -> str:
        """How the embedded Chat API hears of other nodes: `off`, `ok` or `degraded: …`."""
        return "off" if self.server is None else self.server.bus_state

    async def ready(self) -> str:
        """`ok`, or what is wrong."""
        if self.server is not None:
            return (await self.server.ready())["database"]
        try:
            probe = self.chat.with_options(timeout=PROBE_SECONDS, retries=0)
            await probe.users.list(limit=1)
        except ChatError as error:
            return f"failed: {error.code or type(error).__name__}"
        return "ok"


@asynccontextmanager
async def open_chat(
    settings: Settings,
    *,
    transport: Transport | None = None,
    is_own_origin: IsOwnOrigin = lambda _scope, _origin: False,
) -> AsyncIterator[Upstream]:
    """A client of the Chat API for as long as the block lasts. *transport* stands in for the network.

    *is_own_origin*: whether an origin is the broker's own address; it opens the embedded server's sockets.
    """
    dialect = read_dialect(settings.chat_dialect)
    async with AsyncExitStack() as stack:
        server: Server | None = None
        if settings.embedded and transport is None:
            keys = ProjectKeys(_embedded_keys(settings))
            opened: Server = await stack.enter_async_context(
                _open_server(settings, keys, is_own_origin)
            )
            server, transport = opened, DirectTransport(opened.call)
        else:
            keys = ProjectKeys(lambda: present_keys(settings))
            transport = RotatingTransport(
                transport or _network(),
                keys,
                header=dialect.api_key_header,
                prefix=dialect.api_key_prefix,
                given=keys.present,
            )
        chat = AsyncChatClient(
            settings.chat_base_url or EMBEDDED_URL,
            api_key=keys.present,
            transport=transport,
            timeout=_timeouts(settings.chat_timeout),
            dialect=dialect,
            allow_http=settings.chat_allow_http,
        )
        await stack.enter_async_context(chat)
        yield Upstream(chat, keys, dialect.socket_path, server)


async def check_chat_database(settings: Settings) -> str | None:
    """The schema's version in the embedded Chat API's database, None if there is none yet. Raises CannotOpenDatabase."""
    import chat_broker_server  # in front of a remote Chat API it is not loaded

    return await chat_broker_server.check_database(settings.chat_database)


def upstream_problems(settings: Settings) -> list[str]:
    """Every reason, as `NAME: why`, for which the Chat API could not be reached with these settings."""
    problems = []
    try:
        read_dialect(settings.chat_dialect)
    except ValueError as error:
        problems.append(f"CHAT_DIALECT: {error}")
    if settings.chat_base_url is None:
        if settings.chat_dialect:
            problems.append(
                "CHAT_DIALECT: belongs to a remote Chat API, and CHAT_BASE_URL is unset"
            )
        return problems
    try:
        AsyncChatClient(
            settings.chat_base_url,
            api_key="unused",
            transport=_network(),  # the client's own would load httpx
            allow_http=settings.chat_allow_http,
        )
    except ConfigurationError as error:
        problems.append(f"CHAT_BASE_URL: {error}; CHAT_ALLOW_HTTP=true sends the key in clear")
    return problems


def read_dialect(values: Mapping[str, Any]) -> Dialect:
    """The contract's dialect with *values* in place of its own. Raises ValueError for what it does not know."""
    nested: dict[str, Any] = {}
    for name in ("routes", "events"):
        if name in values:
            kind = Routes if name == "routes" else Events
            nested[name] = kind(**_known(kind, values[name], f"{name}."))
    if (features := values.get("features")) is not None:
        if not isinstance(features, list) or not all(isinstance(each, str) for each in features):
            raise ValueError("features must be a list of names")
        nested["features"] = frozenset(features)
    plain = {name: value for name, value in values.items() if name != "features"}
    return Dialect(**{**_known(Dialect, plain, ""), **nested})


def _known(kind: type[Dialect | Routes | Events], values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where.rstrip('.')} must be a JSON object")  # noqa: TRY004 - one kind for all
    present = {one.name: getattr(kind(), one.name) for one in fields(kind)}
    for name, value in values.items():
        if name not in present:
            raise ValueError(f"{where}{name} is unknown; there are {', '.join(sorted(present))}")
        expected = present[name]
        if isinstance(expected, Routes | Events):
            continue
        text_or_none = name in {"project_id", "idempotency_header"}
        wanted: type | tuple[type, ...] = bool if isinstance(expected, bool) else str
        if not isinstance(value, wanted) and not (text_or_none and value is None):
            raise ValueError(
                f"{where}{name} must be {'true or false' if wanted is bool else 'text'}"
            )
    return dict(values)


def _timeouts(total: float) -> Timeouts:
    return Timeouts(connect=min(1.0, total), read=total, total=total, patience=PATIENCE)


def _network() -> Transport:
    """The cheapest way out that is installed."""
    from importlib.util import find_spec  # asked for a remote Chat API alone

    # The SDK loads each when it is first named.
    from chat_broker_sdk import AiohttpTransport, HttptoolsTransport

    return HttptoolsTransport() if find_spec("httptools") else AiohttpTransport()


def _embedded_keys(settings: Settings) -> Callable[[], tuple[str | None, str | None]]:
    """The operator's key; or a random one that only the embedded server knows, until the process ends."""
    key = present_keys(settings)[0] or f"ck_{secrets.token_urlsafe(32)}"
    return lambda: (key, None)


def _open_server(settings: Settings, keys: ProjectKeys, is_own_origin: IsOwnOrigin) -> Any:
    import chat_broker_server  # as above

    origins = tuple(sorted(settings.own_origins)) if settings.cors_origins else ()
    own = chat_broker_server.Settings(
        data_dir=settings.data_dir,
        chat_database_url=settings.chat_database_url,
        redis_url=settings.redis_url,
        redis_prefix=settings.redis_prefix,
        cors_origins=origins,
        token_ttl=settings.token_ttl,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    return chat_broker_server.open_server(
        own, embedded_key=keys.present, is_own_origin=is_own_origin
    )
