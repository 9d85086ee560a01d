"""Mode `jwt`: a signed token of one of the configured issuers, as bearer or in a cookie."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Offer, bearer_token, cookie_value, digest_of
from chat_broker.auth.contract import (
    AmbiguousCredentials,
    BadToken,
    InvalidCredentials,
    ProviderUnavailable,
)
from chat_broker.auth.jwt.claims import check_claims, check_type, end_of, issuer_of
from chat_broker.auth.jwt.issuers import Issuer
from chat_broker.auth.jwt.jws import looks_like_jws, parse, verify
from chat_broker.auth.jwt.key_sets import Keys, KeysUnavailable
from chat_broker.auth.jwt.keys import Key
from chat_broker.auth.jwt.userinfo import ASK_AGAIN_SECONDS, Userinfo
from chat_broker.auth.mode import ClaimNames, completed, lacks_names, principal_from
from chat_broker.chat.principal import Principal
from chat_broker_kit.bounded_cache import BoundedCache

REMEMBERED_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer, where its keys come from, and where to ask for names that its tokens lack."""

    issuer: Issuer
    keys: Keys
    userinfo: Userinfo | None = None


@dataclass(frozen=True, slots=True)
class _Verified:
    """What is remembered of a token: whose it was, and which key had signed it."""

    principal: Principal
    keys: Keys
    key: Key
    kid: str | None
    algorithm: str

    def still_signed(self) -> bool:
        """Whether the issuer still publishes the key; False also while that must be asked."""
        key = self.keys.peek(self.kid, self.algorithm)
        return key is not None and key.fingerprint == self.key.fingerprint


class JwtMode:
    """Judges every credential that has the form of a JWT.

    A verified token is remembered by its SHA-256, until `exp` and only while its key is published.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        cookie: str | None = None,
        names: ClaimNames | None = None,
        aliased: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {trusted.issuer.issuer: trusted for trusted in issuers}
        self._cookie = cookie
        self._names = names or ClaimNames()
        self._aliased = aliased
        self._now = now
        self._verified = BoundedCache[bytes, _Verified](REMEMBERED_TOKENS, clock=now)

    def find(self, request: HTTPConnection) -> Offer | None:
        """A bearer that looks like a JWT, or whatever is in the cookie."""
        token = bearer_token(request)
        if token is not None and not looks_like_jws(token):
            token = None
        cookie = cookie_value(request, self._cookie) if self._cookie else None
        if token is not None:
            if cookie is not None and cookie != token:
                raise AmbiguousCredentials("the bearer token and the cookie differ")
            return Offer(token, "bearer")
        return Offer(cookie, "cookie") if cookie is not None else None

    def takes(self, bearer: str) -> bool:
        """A token that names one of the issuers."""
        try:
            named, _ = issuer_of(parse(bearer).payload)
        except BadToken:
            return False
        return named in self._issuers

    @property
    def reads_cookies(self) -> bool:
        """Whether a cookie can be this mode's credential."""
        return self._cookie is not None

    def recall(self, digest: bytes) -> Principal | None:
        """Whose the token of that *digest* is, if it was verified before and its key still counts; None says nothing."""
        seen = self._verified.get(digest)
        return seen.principal if seen is not None and seen.still_signed() else None

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal:  # noqa: ARG002 -- Mode's
        """The principal the token speaks of."""
        text = offer.value.encode("utf-8", "surrogateescape")
        digest = digest_of(offer.carrier, text)
        seen = self._verified.get(digest)
        if seen is not None:
            if seen.still_signed():
                return seen.principal
            self._verified.forget(digest)
        try:
            return await self._verify(offer, digest)
        except BadToken as error:
            raise InvalidCredentials(str(error)) from None
        except KeysUnavailable as error:
            raise ProviderUnavailable(error.retry_after) from None

    async def _verify(self, offer: Offer, digest: bytes) -> Principal:
        token = parse(offer.value)
        named, _ = issuer_of(token.payload)
        trusted = self._issuers.get(named)
        if trusted is None:
            raise BadToken("the token is from an issuer that is not configured")
        issuer, keys = trusted.issuer, trusted.keys
        check_type(token.typ, issuer.expected)
        if token.algorithm not in issuer.acceptable:
            raise BadToken("the algorithm of the token is not accepted")
        key = await keys.find(token.kid, token.algorithm)
        _, unchecked = issuer_of(verify(token, key))
        claims = check_claims(unchecked, issuer.expected, now=self._now())
        end = end_of(claims, issuer.expected.leeway)
        assert end is not None  # noqa: S101 -- check_claims requires exp
        principal = principal_from(
            claims,
            self._names,
            issuer=issuer.issuer,
            alias=issuer.alias if self._aliased else None,
            expires_at=end,
            carrier=offer.carrier,
        )
        until: float = end - issuer.expected.leeway  # within the leeway it is judged each time
        if trusted.userinfo is not None and lacks_names(principal):
            profile = await trusted.userinfo.profile(offer.value, claims["sub"])
            principal = completed(principal, profile.claims, self._names)
            if not profile.final:  # they are known all the same, and their name may be had soon
                until = min(until, self._now() + ASK_AGAIN_SECONDS)
        verified = _Verified(principal, keys, key, token.kid, token.algorithm)
        self._verified.put(digest, verified, until=until)
        return principal
