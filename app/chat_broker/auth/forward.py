"""Mode `forward`: the app's session endpoint names the user of a cookie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Credential, cookie_value, header_values, is_bearer
from chat_broker.auth.errors import AmbiguousCredentials, BadToken, InvalidCredentials
from chat_broker.auth.jwt.claims import expiry_of
from chat_broker.auth.jwt.jws import is_chat_token
from chat_broker.auth.lookup import CredentialLookup, LookupResult, cache_key, needs_fresh_result
from chat_broker.auth.principal_from_claims import ClaimNames, principal_from
from chat_broker.auth.provider import BadResponse, ProviderResponse
from chat_broker.chat.principal import Carrier, Principal

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import ProviderClient

MAX_CREDENTIAL_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class SessionEndpoint:
    """The endpoint's URL, and the only cookies and headers that are forwarded to it."""

    url: str
    cookies: tuple[str, ...]
    headers: tuple[str, ...]
    issuer: str = "forward"
    alias: str | None = None
    cache_seconds: float = 5.0


def _carrier(cookie: str, headers: Sequence[tuple[str, str]]) -> Carrier:
    """The carrier of the credential, for the CSRF rules.

    A browser sends `Authorization` by itself for Basic, Digest and Negotiate, and a proxy may add any
    other header. Only a bearer token is certain to be sent by a program that holds it.
    """
    if cookie:
        return "cookie"
    return "bearer" if all(is_bearer(name, value) for name, value in headers) else "header"


class ForwardMode:
    """Verifies the configured cookies and headers together, as one credential."""

    def __init__(
        self,
        endpoint: SessionEndpoint,
        http: "ProviderClient",
        lookup: CredentialLookup,
        *,
        names: ClaimNames,
        now: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._http = http
        self._lookup = lookup
        self._names = names
        self._now = now

    async def provider(self) -> str:
        """`ok` or `silent`: whether the endpoint responds to a request without a session."""
        return await self._lookup.state(lambda: self._http.get(self._endpoint.url))

    def find(self, request: HTTPConnection) -> Credential | None:
        """The cookies and headers to forward, as one text; None if the request has none."""
        cookie, headers = self._cookie_header(request), self._headers(request)
        if not cookie and not headers:
            return None
        lines = [f"{name}: {value}" for name, value in headers]
        return Credential("\n".join([cookie, *lines]), _carrier(cookie, headers))

    def recognizes(self, bearer: str) -> bool:  # noqa: ARG002 -- only the app can tell its tokens
        """True for every token where `Authorization` is forwarded."""
        return "authorization" in [name.lower() for name in self._endpoint.headers]

    def _cookie_header(self, request: HTTPConnection) -> str:
        pairs = ((name, cookie_value(request, name)) for name in self._endpoint.cookies)
        return "; ".join(f"{name}={value}" for name, value in pairs if value is not None)

    def _headers(self, request: HTTPConnection) -> list[tuple[str, str]]:
        headers = []
        for name in self._endpoint.headers:
            values = header_values(request, name.lower().encode())
            if len(values) > 1:
                raise AmbiguousCredentials("a header that carries a credential is there twice")
            headers += [(name.lower(), value.decode("latin-1")) for value in values if value]
        return headers

    async def authenticate(
        self, request: HTTPConnection, credential: Credential
    ) -> Principal | None:
        if len(credential.value) > MAX_CREDENTIAL_LENGTH:
            raise InvalidCredentials("the session cookie is too long")
        text = credential.value.replace("\n", "")
        if not (text.isascii() and text.isprintable()):
            raise InvalidCredentials("the session cookie is malformed")
        endpoint = self._endpoint
        headers: Sequence[tuple[str, str]] = self._headers(request)
        if any(is_chat_token(value.rpartition(" ")[2]) for _, value in headers):
            raise InvalidCredentials("a chat token is no credential of the app's")
        if cookie := self._cookie_header(request):
            headers = [("cookie", cookie), *headers]
        result = await self._lookup.result(
            cache_key(endpoint.url, "", credential.value),
            lambda: self._http.get(endpoint.url, headers),
            self._read,
            fresh=needs_fresh_result(request),
        )
        if result.claims is None:
            return None
        expires_at = expiry_of(result.claims)
        if expires_at is not None and self._now() >= expires_at:
            return None
        try:
            return principal_from(
                result.claims,
                self._names,
                issuer=endpoint.issuer,
                alias=endpoint.alias,
                expires_at=expires_at,
                carrier=credential.carrier,
            )
        except BadToken as error:  # only the alias can have made the id too long
            raise InvalidCredentials(str(error)) from None

    def _read(self, response: ProviderResponse) -> LookupResult:
        if response.status in {401, 403}:
            return LookupResult(None)
        if response.status != 200:
            raise BadResponse(f"status {response.status}")
        claims = response.json_object()
        try:
            expires_at = expiry_of(claims)
            principal_from(
                claims, self._names, issuer="", alias=None, expires_at=None, carrier="cookie"
            )
        except BadToken as error:
            raise BadResponse(str(error)) from None
        return LookupResult(claims, expires_at)
