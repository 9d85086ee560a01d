"""The modes of sign-in: what a mode is, and how each name in `AUTH` becomes one.

To add a mode: its name in `settings/values.py` (`AuthMode`), its settings in `settings/model.py`, their rules in
`auth/config.py`, a class with the methods of `Mode` in a file of its own, and a case in `_Builder.mode`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Credential
from chat_broker.auth.config import AuthConfig
from chat_broker.auth.dev import DevMode, DevSessions
from chat_broker.auth.forward import ForwardMode, SessionEndpoint
from chat_broker.auth.header import HeaderMode
from chat_broker.auth.introspection import IntrospectionEndpoint, IntrospectionMode
from chat_broker.auth.jwt.authenticator import JwtMode, TrustedIssuer
from chat_broker.auth.jwt.issuers import DISCOVERY, Issuer
from chat_broker.auth.jwt.key_sets import FixedKey, IssuerKeys, PublishedKeys, RemoteKeys
from chat_broker.auth.jwt.userinfo import Userinfo
from chat_broker.auth.lookup import CredentialLookup
from chat_broker.chat.principal import Principal
from chat_broker.settings import AuthMode, Settings

if TYPE_CHECKING:
    import httpx

    from chat_broker.auth.http import ProviderClient


class Mode(Protocol):
    """One way of signing in: finds its credential in a request, then verifies it."""

    def find(self, request: HTTPConnection) -> Credential | None:
        """The credential of this mode; None if the request has none. Sends no request."""

    def recognizes(self, bearer: str) -> bool:
        """Whether the bearer token has the form of this mode's credentials, valid or not. Sends no request."""

    async def authenticate(
        self, request: HTTPConnection, credential: Credential
    ) -> Principal | None:
        """The principal of the credential; None if the app says that the request is not signed in.

        Raises InvalidCredentials, BadProxyHeaders or ProviderUnavailable.
        """


@asynccontextmanager
async def open_modes(
    settings: Settings,
    config: AuthConfig,
    transport: "httpx.AsyncBaseTransport | None",
    now: Callable[[], float],
    clock: Callable[[], float],
) -> AsyncIterator[tuple[list[Mode], list[tuple[str, RemoteKeys]]]]:
    """The modes in the order of `AUTH`, and the published keys by the issuer's alias; closed with the block.

    Published keys are requested at once; a provider that is down does not keep the broker from starting.
    """
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
        yield modes, remote


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
