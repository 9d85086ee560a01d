"""Mode `forward`: the app's own session endpoint says who its cookie belongs to."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Offer, cookie_value, header_values, is_bearer
from chat_broker.auth.contract import AmbiguousCredentials, BadToken, InvalidCredentials
from chat_broker.auth.jwt.claims import end_of
from chat_broker.auth.jwt.jws import is_chat_token
from chat_broker.auth.lookup import Asking, Verdict, cache_key, wants_fresh_answer
from chat_broker.auth.mode import ClaimNames, principal_from
from chat_broker.auth.provider import Answer, BadAnswer
from chat_broker.chat.principal import Carrier, Principal

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import Http

MAX_CREDENTIAL_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class SessionEndpoint:
    """Where to ask, and the only cookies and headers that are passed on."""

    url: str
    cookies: tuple[str, ...]
    headers: tuple[str, ...]
    issuer: str = "forward"
    alias: str | None = None
    keep_seconds: float = 5.0


def _carrier(cookie: str, headers: Sequence[tuple[str, str]]) -> Carrier:
    """How a credential of these came.

    A browser sends `Authorization` by itself for Basic, Digest and Negotiate, and a proxy in front puts any
    header beside a login of its own. Only a bearer token is known to be sent by a program that has it.
    """
    if cookie:
        return "cookie"
    return "bearer" if all(is_bearer(name, value) for name, value in headers) else "header"


class ForwardMode:
    """Judges the named cookies and headers together, as one credential."""

    def __init__(
        self,
        endpoint: SessionEndpoint,
        http: "Http",
        *,
        names: ClaimNames | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._http = http
        self._names = names or ClaimNames()
        self._now = now
        self._asking = Asking(
            "the app's session endpoint",
            endpoint.url,
            keep_seconds=endpoint.keep_seconds,
            clock=clock,
            now=now,
        )

    async def provider(self) -> str:
        """`ok` or `silent`: does the endpoint answer? It is asked about a visitor who is not signed in."""
        return await self._asking.state(lambda: self._http.get(self._endpoint.url))

    def find(self, request: HTTPConnection) -> Offer | None:
        """All that is to be passed on, in one text; None if the request has nothing of it."""
        cookie, headers = self._cookie_header(request), self._headers(request)
        if not cookie and not headers:
            return None
        lines = [f"{name}: {value}" for name, value in headers]
        return Offer("\n".join([cookie, *lines]), _carrier(cookie, headers))

    def takes(self, bearer: str) -> bool:  # noqa: ARG002 -- only the app knows which are its own
        """All, where `Authorization` is passed on."""
        return "authorization" in [name.lower() for name in self._endpoint.headers]

    def _cookie_header(self, request: HTTPConnection) -> str:
        pairs = ((name, cookie_value(request, name)) for name in self._endpoint.cookies)
        return "; ".join(f"{name}={value}" for name, value in pairs if value is not None)

    def _headers(self, request: HTTPConnection) -> list[tuple[str, str]]:
        found = []
        for name in self._endpoint.headers:
            values = header_values(request, name.lower().encode())
            if len(values) > 1:
                raise AmbiguousCredentials("a header that carries a credential is there twice")
            found += [(name.lower(), value.decode("latin-1")) for value in values if value]
        return found

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal | None:
        """Whoever the app says is signed in; None if it says nobody is."""
        if len(offer.value) > MAX_CREDENTIAL_LENGTH:
            raise InvalidCredentials("the session cookie is too long")
        text = offer.value.replace("\n", "")
        if not (text.isascii() and text.isprintable()):
            raise InvalidCredentials("the session cookie is malformed")
        endpoint = self._endpoint
        headers: Sequence[tuple[str, str]] = self._headers(request)
        if any(is_chat_token(value.rpartition(" ")[2]) for _, value in headers):
            raise InvalidCredentials("a chat token is no credential of the app's")
        if cookie := self._cookie_header(request):
            headers = [("cookie", cookie), *headers]
        verdict = await self._asking.verdict(
            cache_key(endpoint.url, "", offer.value),
            lambda: self._http.get(endpoint.url, headers),
            self._read,
            fresh=wants_fresh_answer(request),
        )
        if verdict.claims is None:
            return None
        end = end_of(verdict.claims)
        if end is not None and self._now() >= end:
            return None
        try:
            return principal_from(
                verdict.claims,
                self._names,
                issuer=endpoint.issuer,
                alias=endpoint.alias,
                expires_at=end,
                carrier=offer.carrier,
            )
        except BadToken as error:  # only the alias can have made it too long
            raise InvalidCredentials(str(error)) from None

    def _read(self, answer: Answer) -> Verdict:
        if answer.status in {401, 403}:
            return Verdict(None)
        if answer.status != 200:
            raise BadAnswer(f"status {answer.status}")
        claims = answer.json_object()
        try:
            end = end_of(claims)
            principal_from(
                claims, self._names, issuer="", alias=None, expires_at=None, carrier="cookie"
            )
        except BadToken as error:
            raise BadAnswer(str(error)) from None
        return Verdict(claims, good_until=end)
