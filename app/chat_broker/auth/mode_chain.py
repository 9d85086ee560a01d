"""Which of several credentials counts: the order of the modes of `AUTH`, and credentials that contradict each other."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from chat_broker.auth.config import AuthConfig, read_auth
from chat_broker.auth.dev import DevMode
from chat_broker.auth.errors import AmbiguousCredentials
from chat_broker.auth.forward import ForwardMode
from chat_broker.auth.introspection import IntrospectionMode
from chat_broker.auth.jwt.authenticator import JwtMode
from chat_broker.auth.jwt.key_sets import RemoteKeys
from chat_broker.auth.modes import Mode, open_modes
from chat_broker.chat.principal import Principal
from chat_broker.settings import Settings
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    import httpx


class ModeChain:
    """Tries the modes in the order of `AUTH`: the first that finds its credential decides.

    A mode that returns None (the app says that the request is not signed in) lets the next one try. A request
    with two different credentials for two modes is refused before either is verified. What one mode finds twice in a
    request is judged in `auth.bearer`.
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
        """Whether a mode would verify the bearer token as the app's credential, valid or not. Sends no request."""
        return any(mode.recognizes(bearer) for mode in self._modes)

    async def __call__(self, request: HTTPConnection, /) -> Principal | None:
        """The principal; None if the request has no credential, or the app says that it is not signed in.

        Raises InvalidCredentials, AmbiguousCredentials, BadProxyHeaders or ProviderUnavailable.
        """
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
        """The principal for a request whose only `Authorization` is a bearer token with the digest *bearer*.

        *beside_cookies*: the request has cookies as well. None if no cache knows, or if another mode than `jwt`
        could use the bearer token: call the chain.
        """
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
async def open_mode_chain(
    settings: Settings,
    *,
    transport: "httpx.AsyncBaseTransport | None" = None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[ModeChain]:
    """The chain that *settings* describe, closed with the block. Raises BadSettings.

    Tests replace the network (*transport*) and time (*now*, *clock*).
    """
    config = read_auth(settings)
    async with open_modes(settings, config, transport, now, clock) as (modes, remote):
        yield ModeChain(modes, remote, locations=_locations(config))


def _locations(config: AuthConfig) -> str:
    urls = [issuer.jwks_url or issuer.issuer for issuer in config.issuers if issuer.key is None]
    endpoints = (config.introspection, config.forward)
    urls += [endpoint.url for endpoint in endpoints if endpoint is not None]
    return ", ".join(map(location, urls))
