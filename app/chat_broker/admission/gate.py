"""Who gets in: address, credential, browser rules, ban, limit, in that order. The same for every way to a route."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Scope

from chat_broker.admission.rate_limits import Kind, Limiter
from chat_broker.auth.errors import (
    AmbiguousCredentials,
    BadProxyHeaders,
    BadToken,
    InvalidCredentials,
    ProviderUnavailable,
)
from chat_broker.auth.jwt.jws import is_chat_token, looks_like_jws, parse
from chat_broker.auth.mode_chain import ModeChain
from chat_broker.chat.ports import Bans, StateUnavailable
from chat_broker.chat.principal import Carrier, Principal
from chat_broker.errors import BadInput, BrokerError, NotSignedIn, Unavailable, user_suspended
from chat_broker.http.rate_limit_headers import Usage
from chat_broker_kit.logs.sampling import SampledEvents

log = SampledEvents(structlog.get_logger(__name__))


class Browser(Protocol):
    """Judges whether a credential that a browser sends by itself counts."""

    def check(self, request: HTTPConnection, carrier: Carrier) -> None:
        """Raises Refused if it does not."""
        ...


class Arrival(Protocol):
    """A request before the gate: a `Connection`, or a request on the fast path."""

    address: str
    """The client's, as the edge has worked it out."""
    principal: Principal | None
    """The user: None until a cache has it, or `Gate.admit` fills it in."""

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it."""
        ...


class Connection:
    """The arrival that ASGI brings."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.address = address_of(scope)
        self.principal: Principal | None = None


class Gate:
    """Lets requests in. Raises BrokerError; while that cannot be decided, no request gets in."""

    def __init__(
        self,
        authenticator: ModeChain,
        browser: Browser,
        bans: Bans,
        limiter: Limiter,
        *,
        is_operators_key: Callable[[str], bool],
    ) -> None:
        """*is_operators_key*: whether a credential is the operator's, sent here by mistake: no provider is asked about it."""
        self._authenticator = authenticator
        self._is_operators_key = is_operators_key
        self._browser = browser
        self._bans = bans
        self._limiter = limiter
        self.cached_principal = authenticator.cached_principal
        """See ModeChain. No browser sends a bearer token by itself, so the browser rules do not apply to one."""

    async def admit(self, arrival: Arrival, kind: Kind) -> tuple[Principal, list[Usage]]:
        """Who makes the request, and what it has used of their limits, if it may do something of that *kind*.

        Waits for nothing that is cached: a request of a user who was here a moment ago is admitted in one step.
        """
        bans, limiter = self._bans, self._limiter
        if kind == "token":
            bans.note_token_request()
        me = arrival.principal
        if me is None:
            # So that a flood does not reach the authenticators; users who are known are counted below.
            limiter.check_address(arrival.address)
            me = await self._principal(HTTPConnection(arrival.scope), arrival.address)
            arrival.principal = me
        try:
            ban = await bans.active_ban(me.external_id)
        except StateUnavailable:
            await limiter.arrived(arrival.address)
            raise Unavailable("state_unavailable") from None
        if ban is not None:
            await limiter.arrived(arrival.address)
            raise user_suspended()
        return me, await limiter.spend(kind, user=me.user, address=arrival.address)

    async def count_more(self, kind: Kind, me: Principal, times: int) -> None:
        """Count *times* further uses by a request that was let in: it is answered also if they use up the limit."""
        await self._limiter.count_more(kind, user=me.user, times=times)

    async def admit_address(self, scope: Scope) -> None:
        """Count a request that brings no credential of the app's. Raises TooMany."""
        await self._limiter.arrived(address_of(scope))

    async def refused(self, scope: Scope) -> None:
        """Count a credential that was refused. Raises TooMany when there were too many."""
        await self._limiter.failed_login(address_of(scope))

    def may_be_chat_token(self, bearer: str) -> bool:
        """Whether *bearer* may be shown to the Chat API: False for another `typ`, the app's credential, a key."""
        if is_chat_token(bearer):
            return True
        if self._is_operators_key(bearer):
            return False
        if looks_like_jws(bearer):
            try:
                if parse(bearer).typ is not None:
                    return False
            except BadToken:
                return False
        return not self._authenticator.recognizes(bearer)

    async def _principal(self, request: HTTPConnection, address: str) -> Principal:
        try:
            self._refuse_operators_keys(request)
            me = await self._authenticator(request)
        except InvalidCredentials as error:
            await self._limiter.failed_login(address)
            text = "The credential is not valid (any more). Sign in to the app again."
            refused = NotSignedIn("invalid_credentials", text)
            refused.reason = error.reason
            raise refused from None
        except AmbiguousCredentials:
            await self._limiter.arrived(address)
            text = "The request carries two different credentials. Send one."
            raise BadInput("ambiguous_credentials", text) from None
        except BadProxyHeaders as error:
            await self._limiter.arrived(address)
            request_id = request.scope["state"].get("request_id")
            log.warning(
                "auth.bad_proxy_headers",
                reason=error.reason,
                address=address,
                request_id=request_id,
            )
            text = "The identity headers of this request are not as a proxy sends them."
            bad = BadInput("bad_identity_headers", text)
            bad.reason = error.reason
            raise bad from None
        except ProviderUnavailable as error:
            await self._limiter.arrived(address)
            text = "The identity provider does not answer. Wait as long as Retry-After says."
            raise Unavailable(
                "identity_provider_unavailable", text, retry_after=error.retry_after
            ) from None
        if me is None:
            await self._limiter.arrived(address)
            raise NotSignedIn
        try:
            self._browser.check(request, me.carrier)
        except BrokerError:
            await self._limiter.arrived(address)
            raise
        return me

    def _refuse_operators_keys(self, request: HTTPConnection) -> None:
        """A key sent here by mistake is shown to no identity provider."""
        for value in request.headers.getlist("authorization"):
            if self._is_operators_key(value.rpartition(" ")[2]):
                raise InvalidCredentials("a key of the operator's")


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address as the edge has worked it out."""
    return str(scope["state"]["address"])
