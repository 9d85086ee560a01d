"""Builds what `AUTH` names, and asks its modes in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, assert_never

from starlette.requests import HTTPConnection

from chat_broker.auth.config import AuthConfig, read_auth
from chat_broker.auth.contract import AmbiguousCredentials
from chat_broker.auth.dev import DevMode, DevSessions
from chat_broker.auth.forward import ForwardMode
from chat_broker.auth.header import HeaderMode
from chat_broker.auth.introspection import IntrospectionMode
from chat_broker.auth.jwt.authenticator import JwtMode, TrustedIssuer
from chat_broker.auth.jwt.issuers import DISCOVERY, Issuer
from chat_broker.auth.jwt.key_sets import FixedKey, Keys, PublishedKeys, RemoteKeys
from chat_broker.auth.jwt.userinfo import Userinfo
from chat_broker.auth.mode import Mode
from chat_broker.chat.principal import Principal
from chat_broker.settings import AuthMode, Settings
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    import httpx

    from chat_broker.auth.http import Http


class Chain:
    """The modes in order: the first that finds its credential judges it, and its word is final.

    A mode that answers None (*not signed in* by the app's own word) lets the next one try. Credentials
    of two modes in one request are refused before either is judged.
    """

    def __init__(
        self,
        modes: Sequence[Mode],
        remote: Sequence[tuple[str, RemoteKeys]] = (),
        *,
        locations: str = "",
    ) -> None:
        """*remote*: the keys that issuers publish, by alias. *locations*: where providers are, for operators."""
        self.locations = locations
        self._modes = tuple(modes)
        self._remote = tuple(remote)
        # Another mode may find a credential of its own elsewhere in the request; these two look at the
        # bearer alone (and mode `dev` at its cookie), and leave a JWT to the mode `jwt`.
        others = [mode for mode in self._modes if not isinstance(mode, JwtMode)]
        bearers_alone = all(isinstance(mode, IntrospectionMode | DevMode) for mode in others)
        found = [mode for mode in self._modes if isinstance(mode, JwtMode)]
        self._jwt = found[0] if found and bearers_alone else None
        self._reads_cookies = any(mode.reads_cookies for mode in found) or any(
            isinstance(mode, DevMode) for mode in others
        )

    def recall(self, bearer: bytes, *, beside_cookies: bool) -> Principal | None:
        """What calling this would answer for a request whose only `Authorization` is a bearer token of that digest.

        None if that takes more than remembering. *beside_cookies*: the request has cookies as well.
        """
        if self._jwt is None or (beside_cookies and self._reads_cookies):
            return None
        return self._jwt.recall(bearer)

    def takes(self, bearer: str) -> bool:
        """Whether a mode takes *bearer*, in an `Authorization` header, for the app's credential. Asks nobody."""
        return any(mode.takes(bearer) for mode in self._modes)

    async def __call__(self, request: HTTPConnection, /) -> Principal | None:
        offers = [(mode, mode.find(request)) for mode in self._modes]
        presented = [(mode, offer) for mode, offer in offers if offer is not None]
        if len({offer.value for _, offer in presented}) > 1:
            raise AmbiguousCredentials("the request carries two different credentials")
        for mode, offer in presented:
            principal = await mode.judge(request, offer)
            if principal is not None:
                return principal
        return None

    async def providers(self) -> dict[str, str]:
        """How each provider is that has to be asked: `ok`; keys `stale` or `missing`; an endpoint `silent`."""
        found = {name: await keys.look() for name, keys in self._remote}
        for mode in self._modes:
            if isinstance(mode, IntrospectionMode):
                found["introspection"] = await mode.provider()
            elif isinstance(mode, ForwardMode):
                found["forward"] = await mode.provider()
        return found

    def key_ages(self) -> dict[str, float]:
        """Seconds since the keys of each issuer were read; those that never were are left out."""
        ages = {name: keys.age for name, keys in self._remote}
        return {name: age for name, age in ages.items() if age is not None}


@asynccontextmanager
async def build_authenticator(
    settings: Settings,
    *,
    transport: "httpx.AsyncBaseTransport | None" = None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Chain]:
    """The authenticator *settings* describe, for as long as the block lasts.

    Published keys are asked for at once, but a provider that is down does not keep the broker from
    starting. *transport* stands in for the network, *now* and *clock* for time. Raises BadSettings.
    """
    config = read_auth(settings)
    async with AsyncExitStack() as stack:
        http: Http | None = None
        if config.asks_anybody:
            # It loads httpx, which those who ask nobody can do without.
            from chat_broker.auth.http import open_http

            http = await stack.enter_async_context(open_http(transport))
        remote: list[tuple[str, RemoteKeys]] = []
        trusted: list[TrustedIssuer] = []
        asked_of: dict[str, Userinfo | None] = {}
        for issuer in config.issuers:
            keys = _keys_of(issuer, http, clock)
            if isinstance(keys, RemoteKeys):
                stack.push_async_callback(keys.close)
                remote.append((issuer.alias, keys))
            asked_of[issuer.issuer] = _userinfo(
                issuer.issuer, issuer.userinfo, issuer.jwks_hosts, http, clock
            )
            trusted.append(TrustedIssuer(issuer, keys, asked_of[issuer.issuer]))
        if (endpoint := config.introspection) is not None and endpoint.issuer not in asked_of:
            asked_of[endpoint.issuer] = _userinfo(
                endpoint.issuer, endpoint.userinfo, endpoint.userinfo_hosts, http, clock
            )
        modes = [
            _mode(name, settings, config, trusted, asked_of, http, now, clock)
            for name in settings.auth
        ]
        if remote:
            await asyncio.gather(*(keys.refresh() for _, keys in remote))
        yield Chain(modes, remote, locations=_locations(config))


def _locations(config: AuthConfig) -> str:
    asked = [issuer.jwks_url or issuer.issuer for issuer in config.issuers if issuer.key is None]
    asked += [one.url for one in (config.introspection, config.forward) if one is not None]
    return ", ".join(map(location, asked))


def _keys_of(issuer: Issuer, http: "Http | None", clock: Callable[[], float]) -> Keys:
    if issuer.key is not None:
        return FixedKey(issuer.key)
    assert http is not None  # noqa: S101 -- read_auth says so for published keys
    fetch = PublishedKeys(
        http,
        issuer=issuer.issuer,
        jwks_url=issuer.jwks_url,
        allowed_hosts=issuer.jwks_hosts,
        algorithms=issuer.algorithms,
    )
    return RemoteKeys(fetch, name=issuer.issuer, clock=clock)


def _userinfo(
    issuer: str,
    where: str | None,
    hosts: frozenset[str],
    http: "Http | None",
    clock: Callable[[], float],
) -> Userinfo | None:
    if where is None:
        return None
    assert http is not None  # noqa: S101 -- read_auth says so
    url = None if where == DISCOVERY else where
    return Userinfo(http, issuer=issuer, url=url, allowed_hosts=hosts, clock=clock)


def _mode(
    name: AuthMode,
    settings: Settings,
    config: AuthConfig,
    trusted: Sequence[TrustedIssuer],
    asked_of: Mapping[str, Userinfo | None],
    http: "Http | None",
    now: Callable[[], float],
    clock: Callable[[], float],
) -> Mode:
    match name:
        case "jwt":
            return JwtMode(
                trusted,
                cookie=settings.auth_jwt_cookie,
                names=config.names,
                aliased=config.aliased,
                now=now,
            )
        case "introspection":
            assert config.introspection is not None and http is not None  # noqa: S101, PT018 -- for the type checker
            return IntrospectionMode(
                config.introspection,
                http,
                names=config.names,
                userinfo=asked_of[config.introspection.issuer],
                leave_dev_tokens="dev" in settings.auth,
                clock=clock,
                now=now,
            )
        case "forward":
            assert config.forward is not None and http is not None  # noqa: S101, PT018 -- for the type checker
            return ForwardMode(config.forward, http, names=config.names, clock=clock, now=now)
        case "header":
            assert config.header is not None and settings.auth_header_secret is not None  # noqa: S101, PT018 -- for the type checker
            return HeaderMode(
                config.header,
                proxies=settings.auth_header_trusted_proxies,
                secret=settings.auth_header_secret.get_secret_value(),
                aliased=config.aliased,
            )
        case "dev":
            return DevMode(dev_sessions(settings, now), aliased=config.aliased)
    assert_never(name)


def dev_sessions(settings: Settings, now: Callable[[], float] = time.time) -> DevSessions:
    """The sessions of `POST /dev/login`: alike in all replicas over one database, and after a restart."""
    return DevSessions(settings.broker_database, now)
