"""Mode `jwt`: a signed token of one of the configured issuers, as bearer token or in a cookie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Credential, bearer_or_cookie, digest_of
from chat_broker.auth.errors import BadToken, InvalidCredentials
from chat_broker.auth.jwt.claims import check_claims, check_type, expiry_of, issuer_of
from chat_broker.auth.jwt.issuers import Issuer
from chat_broker.auth.jwt.jws import looks_like_jws, parse, verify
from chat_broker.auth.jwt.key_sets import IssuerKeys
from chat_broker.auth.jwt.keys import Key
from chat_broker.auth.jwt.userinfo import ASK_AGAIN_SECONDS, Userinfo
from chat_broker.auth.principal_from_claims import (
    ClaimNames,
    lacks_profile,
    principal_from,
    with_profile,
)
from chat_broker.chat.principal import Principal
from chat_broker_kit.bounded_cache import ExpiringCache

REMEMBERED_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer, its keys, and its userinfo endpoint for names that its tokens lack."""

    issuer: Issuer
    keys: IssuerKeys
    userinfo: Userinfo | None = None


@dataclass(frozen=True, slots=True)
class _VerifiedToken:
    """A cached token: its principal, and the key that verified its signature."""

    principal: Principal
    keys: IssuerKeys
    key: Key
    kid: str | None
    algorithm: str

    def still_signed(self) -> bool:
        """Whether the issuer still publishes the key; False also if only a request could tell."""
        key = self.keys.cached_key(self.kid, self.algorithm)
        return key is not None and key.fingerprint == self.key.fingerprint


class JwtMode:
    """Verifies every credential that has the form of a JWT.

    A verified token is cached by its SHA-256 until `exp`, and only while its key is published.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        cookie: str | None,
        names: ClaimNames,
        aliased: bool,
        now: Callable[[], float],
    ) -> None:
        self._issuers = {trusted.issuer.issuer: trusted for trusted in issuers}
        self._cookie = cookie
        self._names = names
        self._aliased = aliased
        self._now = now
        self._verified = ExpiringCache[bytes, _VerifiedToken](REMEMBERED_TOKENS, clock=now)

    def find(self, request: HTTPConnection) -> Credential | None:
        """A bearer token in the form of a JWT, or the cookie in any form."""
        return bearer_or_cookie(request, self._cookie, looks_like_jws)

    def recognizes(self, bearer: str) -> bool:
        """Whether *bearer* names one of the issuers."""
        try:
            issuer, _ = issuer_of(parse(bearer).payload)
        except BadToken:
            return False
        return issuer in self._issuers

    @property
    def reads_cookies(self) -> bool:
        """Whether a cookie can be this mode's credential."""
        return self._cookie is not None

    def cached_principal(self, digest: bytes) -> Principal | None:
        """Whose the token of that *digest* is, if it was verified before and its key still counts; None if not: `judge`."""
        seen = self._verified.get(digest)
        return seen.principal if seen is not None and seen.still_signed() else None

    async def authenticate(self, request: HTTPConnection, credential: Credential) -> Principal:  # noqa: ARG002 -- Mode's
        text = credential.value.encode("utf-8", "surrogateescape")
        digest = digest_of(credential.carrier, text)
        try:
            return self.cached_principal(digest) or await self._verify(credential, digest)
        except BadToken as error:
            raise InvalidCredentials(str(error)) from None

    async def _verify(self, credential: Credential, digest: bytes) -> Principal:
        token = parse(credential.value)
        issuer_name, _ = issuer_of(token.payload)
        trusted = self._issuers.get(issuer_name)
        if trusted is None:
            raise BadToken("the token is from an issuer that is not configured")
        issuer, keys = trusted.issuer, trusted.keys
        check_type(token.typ, issuer.expected)
        if token.algorithm not in issuer.acceptable:
            raise BadToken("the algorithm of the token is not accepted")
        key = await keys.find(token.kid, token.algorithm)
        _, unchecked = issuer_of(verify(token, key))
        claims = check_claims(unchecked, issuer.expected, now=self._now())
        expires_at = expiry_of(claims, issuer.expected.leeway)
        assert expires_at is not None  # noqa: S101 -- check_claims requires exp
        principal = principal_from(
            claims,
            self._names,
            issuer=issuer.issuer,
            alias=issuer.alias if self._aliased else None,
            expires_at=expires_at,
            carrier=credential.carrier,
        )
        # Within the leeway a token is verified for each request.
        until: float = expires_at - issuer.expected.leeway
        if trusted.userinfo is not None and lacks_profile(principal):
            profile = await trusted.userinfo.profile(credential.value, claims["sub"])
            principal = with_profile(principal, profile.claims, self._names)
            if not profile.final:
                until = min(until, self._now() + ASK_AGAIN_SECONDS)
        verified = _VerifiedToken(principal, keys, key, token.kid, token.algorithm)
        self._verified.put(digest, verified, until=until)
        return principal
