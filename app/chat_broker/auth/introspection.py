"""Mode `introspection`: an opaque bearer token, judged by whoever issued it (RFC 7662)."""

import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import DEV_PREFIX, Offer, bearer_token
from chat_broker.auth.contract import BadToken, InvalidCredentials
from chat_broker.auth.jwt.claims import check_audience, check_end, check_purpose, end_of, instant
from chat_broker.auth.jwt.jws import MAX_TOKEN_LENGTH, looks_like_jws
from chat_broker.auth.jwt.userinfo import Userinfo
from chat_broker.auth.lookup import Asking, Claims, Verdict, cache_key, wants_fresh_answer
from chat_broker.auth.mode import ClaimNames, completed, lacks_names, principal_from
from chat_broker.auth.provider import Answer, BadAnswer
from chat_broker.chat.principal import Principal

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import Http


@dataclass(frozen=True, slots=True)
class IntrospectionEndpoint:
    """Where to ask, as whom, and in whose name the answers count."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    issuer: str
    alias: str | None = None
    audience: frozenset[str] = frozenset()
    audience_required: bool = False
    keep_seconds: float = 10.0
    leeway: int = 30
    userinfo: str | None = None
    userinfo_hosts: frozenset[str] = frozenset()

    def authorization(self) -> str:
        """HTTP Basic with both parts form-encoded first (RFC 6749 section 2.3.1)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        return "Basic " + b64encode(pair.encode()).decode("ascii")


class IntrospectionMode:
    """Judges every bearer token that does not look like a JWT."""

    def __init__(
        self,
        endpoint: IntrospectionEndpoint,
        http: "Http",
        *,
        names: ClaimNames | None = None,
        userinfo: Userinfo | None = None,
        leave_dev_tokens: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._http = http
        self._names = names or ClaimNames()
        self._userinfo = userinfo
        self._leave_dev_tokens = leave_dev_tokens
        self._now = now
        self._asking = Asking(
            "the introspection endpoint",
            endpoint.url,
            keep_seconds=endpoint.keep_seconds,
            clock=clock,
            now=now,
        )

    async def provider(self) -> str:
        """`ok` or `silent`: does the endpoint answer?"""
        made_up = secrets.token_urlsafe(16)  # nobody's
        return await self._asking.state(
            lambda: self._http.post_form(
                self._endpoint.url,
                {"token": made_up},
                [("authorization", self._endpoint.authorization())],
            )
        )

    def find(self, request: HTTPConnection) -> Offer | None:
        """A bearer of any form but a JWT's (and, beside mode `dev`, a development session's)."""
        token = bearer_token(request)
        return Offer(token, "bearer") if token is not None and self.takes(token) else None

    def takes(self, bearer: str) -> bool:
        """Any but a JWT, and, beside mode `dev`, a development session."""
        if bearer.startswith(DEV_PREFIX) and self._leave_dev_tokens:
            return False
        return not looks_like_jws(bearer)

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal:
        """The principal the token stands for."""
        token, endpoint = offer.value, self._endpoint
        if len(token) > MAX_TOKEN_LENGTH:
            raise InvalidCredentials(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
        verdict = await self._asking.verdict(
            cache_key(endpoint.url, endpoint.client_id, token),
            lambda: self._http.post_form(
                endpoint.url,
                {"token": token, "token_type_hint": "access_token"},
                [("authorization", endpoint.authorization())],
            ),
            self._read,
            fresh=wants_fresh_answer(request),
        )
        claims = verdict.claims
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
                expires_at=end_of(claims, endpoint.leeway),
                carrier=offer.carrier,
            )
        except BadToken as error:
            raise InvalidCredentials(str(error)) from None
        subject = claims.get("sub")
        if self._userinfo is None or not isinstance(subject, str) or not lacks_names(principal):
            return principal
        profile = await self._userinfo.profile(token, subject)
        return completed(principal, profile.claims, self._names)

    def _check_times(self, claims: Claims) -> None:
        leeway = self._endpoint.leeway
        check_end(end_of(claims, leeway), now=self._now())
        valid_from = instant(claims, "nbf")
        if valid_from is not None and valid_from > self._now() + leeway:
            raise BadToken("the token is not valid yet")
        issuer = claims.get("iss")
        if issuer is not None and issuer != self._endpoint.issuer:
            raise BadToken("the token is from another issuer")

    def _read(self, answer: Answer) -> Verdict:
        if answer.status != 200:  # also 401: it is our own password that is refused
            raise BadAnswer(f"status {answer.status}")
        claims = answer.json_object()
        active = claims.get("active")
        if active is False:
            return Verdict(None)
        if active is not True:  # "true" and 1 are not true
            raise BadAnswer("active is neither true nor false")
        try:
            ends = end_of(claims)
        except BadToken as error:
            raise BadAnswer(str(error)) from None
        return Verdict(claims, good_until=ends)
