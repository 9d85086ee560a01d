"""Who gets in: address, credential, browser rules, ban, limit, in that order. Shared by every way to a route."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Scope

from chat_broker.admission.rate_limits import Kind, Limiter, TooMany
from chat_broker.auth.contract import (
    AmbiguousCredentials,
    Authenticator,
    BadProxyHeaders,
    BadToken,
    InvalidCredentials,
    ProviderUnavailable,
)
from chat_broker.auth.jwt.jws import is_chat_token, looks_like_jws, parse
from chat_broker.chat.ports import Bans, StateUnavailable
from chat_broker.chat.principal import Carrier, Principal
from chat_broker.errors import BadInput, NotSignedIn, TooManyRequests, Unavailable, user_suspended
from chat_broker_kit.logs.sampling import SampledEvents

log = SampledEvents(structlog.get_logger(__name__))


class Browser(Protocol):
    """Judges whether a credential that a browser sends by itself counts."""

    def check(self, request: HTTPConnection, carrier: Carrier) -> None:
        """Raises Refused if it does not."""
        ...


class Gate:
    """Lets requests in. Raises BrokerError; nobody gets in while it cannot be said whether they may."""

    def __init__(
        self,
        authenticator: Authenticator,
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
        self.recall = authenticator.recall
        """Who a bearer token stands for that was verified a moment ago; see Chain.recall. No browser sends a bearer by
        itself, so the browser rules have nothing to say about it."""

    def admit_at_once(self, me: Principal, kind: Kind, *, address: str) -> bytes | None:
        """Let *me*, who was recalled from the only credential of a request from *address*, do something of that *kind*.

        Answers the lines of the head that tell of limits. None if that takes waiting, or a refusal: `admit` does either.
        """
        bans = self._bans
        if not bans.is_free(me.external_id):
            return None
        if kind == "token":
            bans.began()
        return self._limiter.spend_here(kind, user=me.user, address=address)

    async def admit(self, scope: Scope, kind: Kind, *, known: Principal | None = None) -> Principal:
        """The principal behind the request of *scope*, once they may do something of that *kind*.

        *known*: who it is, if that has been recalled (`recall`) from the request's only credential.
        """
        if kind == "token":
            self._bans.began()
        state = scope["state"]
        address: str = state["address"]
        limiter = self._limiter
        try:
            me = known
            if me is None:
                # So that a flood does not reach the authenticators; who is known is counted below.
                limiter.check_address(address)
                request = HTTPConnection(scope)
                me = await self._principal(request, address)
                self._browser.check(request, me.carrier)
            state["principal"] = me
            try:
                ban = await self._bans.active(me.external_id)
            except StateUnavailable:
                raise Unavailable("state_unavailable") from None
            if ban is not None:
                await limiter.arrived(address)
                raise user_suspended()
            state["limits"] = await limiter.spend(kind, user=me.user, address=address)
        except TooMany as error:
            raise _too_many(error) from None
        return me

    async def admit_address(self, scope: Scope) -> None:
        """Count a request that brings no credential of the app's."""
        try:
            await self._limiter.arrived(address_of(scope))
        except TooMany as error:
            raise _too_many(error) from None

    async def refused(self, scope: Scope) -> None:
        """Count a credential that was no good. Raises TooManyRequests when there were too many."""
        try:
            await self._limiter.failed_login(address_of(scope))
        except TooMany as error:
            raise _too_many(error) from None

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
            text = "The request carries two different credentials. Send one."
            raise BadInput("ambiguous_credentials", text) from None
        except BadProxyHeaders as error:
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
            text = "The identity provider does not answer. Wait as long as Retry-After says."
            raise Unavailable(
                "identity_provider_unavailable", text, retry_after=error.retry_after
            ) from None
        if me is None:
            await self._limiter.arrived(address)
            raise NotSignedIn
        return me

    def _refuse_operators_keys(self, request: HTTPConnection) -> None:
        """A key sent here by mistake is shown to no identity provider."""
        for value in request.headers.getlist("authorization"):
            if self._is_operators_key(value.rpartition(" ")[2]):
                raise InvalidCredentials("a key of the operator's")


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address as the edge has worked it out."""
    return str(scope["state"]["address"])


def _too_many(error: TooMany) -> TooManyRequests:
    return TooManyRequests(headers=error.headers)
