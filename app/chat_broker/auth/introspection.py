"""Mode `introspection`: an opaque bearer token, verified by its issuer's endpoint (RFC 7662)."""

import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import DEV_PREFIX, Credential, bearer_or_cookie
from chat_broker.auth.errors import BadToken, InvalidCredentials
from chat_broker.auth.jwt.claims import (
    check_audience,
    check_expiry,
    check_not_before,
    check_purpose,
    expiry_of,
)
from chat_broker.auth.jwt.jws import MAX_TOKEN_LENGTH, looks_like_jws
from chat_broker.auth.jwt.userinfo import Userinfo
from chat_broker.auth.lookup import (
    Claims,
    CredentialLookup,
    LookupResult,
    cache_key,
    needs_fresh_result,
)
from chat_broker.auth.principal_from_claims import (
    ClaimNames,
    lacks_profile,
    principal_from,
    with_profile,
)
from chat_broker.auth.provider import BadResponse, ProviderResponse
from chat_broker.chat.principal import Principal

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import ProviderClient


@dataclass(frozen=True, slots=True)
class IntrospectionEndpoint:
    """The endpoint's URL, the broker's client credentials there, and the issuer it speaks for."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    issuer: str
    alias: str | None = None
    audience: frozenset[str] = frozenset()
    audience_required: bool = False
    cache_seconds: float = 10.0
    leeway: int = 30
    userinfo: str | None = None
    userinfo_hosts: frozenset[str] = frozenset()
    beside_dev: bool = False

    def authorization(self) -> str:
        """The `Authorization` header: HTTP Basic of form-encoded parts (RFC 6749 section 2.3.1)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        return "Basic " + b64encode(pair.encode()).decode("ascii")


class IntrospectionMode:
    """Verifies every bearer token that does not have the form of a JWT."""

    def __init__(
        self,
        endpoint: IntrospectionEndpoint,
        http: "ProviderClient",
        lookup: CredentialLookup,
        *,
        names: ClaimNames,
        userinfo: Userinfo | None,
        now: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._http = http
        self._lookup = lookup
        self._names = names
        self._userinfo = userinfo
        self._now = now

    async def provider(self) -> str:
        """`ok` or `silent`: whether the endpoint responds, for a random token."""
        random_token = secrets.token_urlsafe(16)
        return await self._lookup.state(
            lambda: self._http.post_form(
                self._endpoint.url,
                {"token": random_token},
                [("authorization", self._endpoint.authorization())],
            )
        )

    def find(self, request: HTTPConnection) -> Credential | None:
        return bearer_or_cookie(request, None, self.recognizes)

    def recognizes(self, bearer: str) -> bool:
        """True unless *bearer* is a JWT or, beside mode `dev`, a development session."""
        if bearer.startswith(DEV_PREFIX) and self._endpoint.beside_dev:
            return False
        return not looks_like_jws(bearer)

    async def authenticate(self, request: HTTPConnection, credential: Credential) -> Principal:
        token, endpoint = credential.value, self._endpoint
        if len(token) > MAX_TOKEN_LENGTH:
            raise InvalidCredentials(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
        result = await self._lookup.result(
            cache_key(endpoint.url, endpoint.client_id, token),
            lambda: self._http.post_form(
                endpoint.url,
                {"token": token, "token_type_hint": "access_token"},
                [("authorization", endpoint.authorization())],
            ),
            self._read,
            fresh=needs_fresh_result(request),
        )
        claims = result.claims
        if claims is None:
            raise InvalidCredentials("the token is not active")
        try:
            check_purpose(claims)
            self._check_times(claims)
            if endpoint.audience and (endpoint.audience_required or "aud" in claims):
                check_audience(claims.get("aud"), endpoint.audience)
            principal = principal_from(
                claims,
                self._names,
                issuer=endpoint.issuer,
                alias=endpoint.alias,
                expires_at=expiry_of(claims, endpoint.leeway),
                carrier=credential.carrier,
            )
        except BadToken as error:
            raise InvalidCredentials(str(error)) from None
        subject = claims.get("sub")
        if self._userinfo is None or not isinstance(subject, str) or not lacks_profile(principal):
            return principal
        profile = await self._userinfo.profile(token, subject)
        return with_profile(principal, profile.claims, self._names)

    def _check_times(self, claims: Claims) -> None:
        leeway = self._endpoint.leeway
        check_expiry(expiry_of(claims, leeway), now=self._now())
        check_not_before(claims, now=self._now(), leeway=leeway)
        issuer = claims.get("iss")
        if issuer is not None and issuer != self._endpoint.issuer:
            raise BadToken("the token is from another issuer")

    def _read(self, response: ProviderResponse) -> LookupResult:
        if response.status != 200:  # 401 too: it refuses the broker's client secret, not the token
            raise BadResponse(f"status {response.status}")
        claims = response.json_object()
        active = claims.get("active")
        if active is False:
            return LookupResult(None)
        if active is not True:  # "true" and 1 are not true
            raise BadResponse("active is neither true nor false")
        try:
            return LookupResult(claims, expiry_of(claims))
        except BadToken as error:
            raise BadResponse(str(error)) from None
