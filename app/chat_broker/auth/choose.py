"""Builds the modes that `AUTH` names, and tries them in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from starlette.requests import HTTPConnection

from chat_broker.auth.config import AuthConfig, read_auth
from chat_broker.auth.contract import AmbiguousCredentials
from chat_broker.auth.dev import DevMode, DevSessions
from chat_broker.auth.forward import ForwardMode, SessionEndpoint
from chat_broker.auth.header import HeaderMode
from chat_broker.auth.introspection import IntrospectionEndpoint, IntrospectionMode
from chat_broker.auth.jwt.authenticator import JwtMode, TrustedIssuer
from chat_broker.auth.jwt.issuers import DISCOVERY, Issuer
from chat_broker.auth.jwt.key_sets import FixedKey, IssuerKeys, PublishedKeys, RemoteKeys
from chat_broker.auth.jwt.userinfo import Userinfo
from chat_broker.auth.lookup import CredentialLookup
from chat_broker.auth.mode import Mode
from chat_broker.chat.principal import Principal
from chat_broker.settings import AuthMode, Settings
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    import httpx

    from chat_broker.auth.http import ProviderClient


class ModeChain:
    """Tries the modes in order: the first that finds its credential decides.

    A mode that returns None (the app says that nobody is signed in) lets the next one try. A request
    with credentials of two modes is refused before either is verified.
    """

    def __init__(
        self,
        modes: Sequence[Mode],
        remote: Sequence[tuple[str, RemoteKeys]] = (),
        *,
        locations: str = "",
    ) -> None:
        """*remote*: the published keys, by the issuer's alias. *locations*: the providers, for operators."""
        self.locations = locations
        self._modes = tuple(modes)
        self._remote = tuple(remote)
        # `cached_principal` sees only the bearer token. It must not skip a mode that looks elsewhere in the request:
        # these two look at the bearer token alone (`dev` also at its cookie), and leave JWTs to mode `jwt`.
        others = [mode for mode in self._modes if not isinstance(mode, JwtMode)]
        only_bearers = all(isinstance(mode, IntrospectionMode | DevMode) for mode in others)
        jwt_modes = [mode for mode in self._modes if isinstance(mode, JwtMode)]
        self._jwt = jwt_modes[0] if jwt_modes and only_bearers else None
        self._reads_cookies = any(mode.reads_cookies for mode in jwt_modes) or any(
            isinstance(mode, DevMode) for mode in others
        )

    def recognizes(self, bearer: str) -> bool:
        """Whether a mode would verify the bearer token as the app's credential. Sends no request."""
        return any(mode.recognizes(bearer) for mode in self._modes)

    async def __call__(self, request: HTTPConnection, /) -> Principal | None:
        credentials = [(mode, mode.find(request)) for mode in self._modes]
        presented = [
            (mode, credential) for mode, credential in credentials if credential is not None
        ]
        if len({credential.value for _, credential in presented}) > 1:
            raise AmbiguousCredentials("the request carries two different credentials")
        for mode, credential in presented:
            principal = await mode.authenticate(request, credential)
            if principal is not None:
                return principal
        return None

    def cached_principal(self, bearer: bytes, *, beside_cookies: bool) -> Principal | None:
        """See Authenticator. Only where the mode `jwt` alone could use the bearer token."""
        if self._jwt is None or (beside_cookies and self._reads_cookies):
            return None
        return self._jwt.cached_principal(bearer)

    async def providers(self) -> dict[str, str]:
        """The state of each provider: `ok`; keys `stale` or `missing`; an endpoint `silent`."""
        states = {name: await keys.probe() for name, keys in self._remote}
        for mode in self._modes:
            if isinstance(mode, IntrospectionMode):
                states["introspection"] = await mode.provider()
            elif isinstance(mode, ForwardMode):
                states["forward"] = await mode.provider()
        return states

    def key_ages(self) -> dict[str, float]:
        """Seconds since the keys of each issuer were read, without issuers whose keys never were."""
        ages = {name: keys.age for name, keys in self._remote}
        return {name: age for name, age in ages.items() if age is not None}


@asynccontextmanager
async def build_authenticator(
    settings: Settings,
    *,
    transport: "httpx.AsyncBaseTransport | None" = None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[ModeChain]:
    """The authenticator that *settings* describe, closed with the block. Raises BadSettings.

    Published keys are requested at once; a provider that is down does not keep the broker from
    starting. Tests replace the network (*transport*) and time (*now*, *clock*).
    """
    config = read_auth(settings)
    async with AsyncExitStack() as stack:
        http: ProviderClient | None = None
        if config.needs_http:
            from chat_broker.auth.http import open_provider_client  # it loads httpx

            http = await stack.enter_async_context(open_provider_client(transport))
        build = _Builder(settings, config, http, now, clock)
        trusted = [build.trusted_issuer(issuer) for issuer in config.issuers]
        remote = [
            (each.issuer.alias, each.keys) for each in trusted if isinstance(each.keys, RemoteKeys)
        ]
        for _, keys in remote:
            stack.push_async_callback(keys.close)
        modes = [build.mode(name, trusted) for name in settings.auth]
        if remote:
            await asyncio.gather(*(keys.refresh() for _, keys in remote))
        yield ModeChain(modes, remote, locations=_locations(config))


def _locations(config: AuthConfig) -> str:
    urls = [issuer.jwks_url or issuer.issuer for issuer in config.issuers if issuer.key is None]
    endpoints = (config.introspection, config.forward)
    urls += [endpoint.url for endpoint in endpoints if endpoint is not None]
    return ", ".join(map(location, urls))


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds modes. *http* is set whenever the configuration needs it."""

    settings: Settings
    config: AuthConfig
    http: "ProviderClient | None"
    now: Callable[[], float]
    clock: Callable[[], float]

    @property
    def _http(self) -> "ProviderClient":
        assert self.http is not None  # noqa: S101 -- AuthConfig.needs_http
        return self.http

    def trusted_issuer(self, issuer: Issuer) -> TrustedIssuer:
        userinfo = self._userinfo(issuer.issuer, issuer.userinfo, issuer.jwks_hosts)
        return TrustedIssuer(issuer, self._keys_of(issuer), userinfo)

    def _keys_of(self, issuer: Issuer) -> IssuerKeys:
        if issuer.key is not None:
            return FixedKey(issuer.key)
        fetch = PublishedKeys(
            self._http,
            issuer=issuer.issuer,
            jwks_url=issuer.jwks_url,
            allowed_hosts=issuer.jwks_hosts,
            algorithms=issuer.algorithms,
        )
        return RemoteKeys(fetch, name=issuer.issuer, clock=self.clock)

    def _userinfo(self, issuer: str, where: str | None, hosts: frozenset[str]) -> Userinfo | None:
        if where is None:
            return None
        url = None if where == DISCOVERY else where
        return Userinfo(self._http, issuer=issuer, url=url, allowed_hosts=hosts, clock=self.clock)

    def mode(self, name: AuthMode, trusted: Sequence[TrustedIssuer]) -> Mode:
        settings, config = self.settings, self.config
        match name:
            case "jwt":
                return JwtMode(
                    trusted,
                    cookie=settings.auth_jwt_cookie,
                    names=config.names,
                    aliased=config.aliased,
                    now=self.now,
                )
            case "introspection":
                return self._introspection({each.issuer.issuer: each.userinfo for each in trusted})
            case "forward":
                assert config.forward is not None  # noqa: S101 -- for the type checker
                lookup = self._lookup("the app's session endpoint", config.forward)
                return ForwardMode(
                    config.forward, self._http, lookup, names=config.names, now=self.now
                )
            case "header":
                assert config.header is not None and settings.auth_header_secret is not None  # noqa: S101, PT018 -- for the type checker
                return HeaderMode(
                    config.header,
                    proxies=settings.auth_header_trusted_proxies,
                    secret=settings.auth_header_secret.get_secret_value(),
                    aliased=config.aliased,
                )
            case "dev":
                return DevMode(dev_sessions(settings, self.now), aliased=config.aliased)
        assert_never(name)

    def _introspection(self, userinfo_of: Mapping[str, Userinfo | None]) -> IntrospectionMode:
        """Shares the userinfo cache with mode `jwt` where both have the same issuer."""
        endpoint = self.config.introspection
        assert endpoint is not None  # noqa: S101 -- for the type checker
        if endpoint.issuer in userinfo_of:
            userinfo = userinfo_of[endpoint.issuer]
        else:
            userinfo = self._userinfo(endpoint.issuer, endpoint.userinfo, endpoint.userinfo_hosts)
        return IntrospectionMode(
            endpoint,
            self._http,
            self._lookup("the introspection endpoint", endpoint),
            names=self.config.names,
            userinfo=userinfo,
            now=self.now,
        )

    def _lookup(
        self, name: str, endpoint: IntrospectionEndpoint | SessionEndpoint
    ) -> CredentialLookup:
        seconds = endpoint.cache_seconds
        return CredentialLookup(
            name, endpoint.url, cache_seconds=seconds, clock=self.clock, now=self.now
        )


def dev_sessions(settings: Settings, now: Callable[[], float] = time.time) -> DevSessions:
    """The sessions of `POST /dev/login`, valid in all replicas over one database and after a restart."""
    return DevSessions(settings.broker_database, now)
