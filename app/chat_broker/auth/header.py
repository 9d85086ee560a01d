"""Mode `header`: a proxy in front of the broker has signed the user in and sends identity headers.

They count only if the connection comes from a configured network *and* carries the shared secret.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_broker.auth.bearer import Credential
from chat_broker.auth.errors import BadProxyHeaders, BadToken, InvalidCredentials
from chat_broker.auth.subject import MAX_SUBJECT_LENGTH, check_subject
from chat_broker.chat.principal import Principal
from chat_broker.errors import BadInput
from chat_broker.http.client_address import Network, Proxies, peer

SECRET_HEADER = "X-Proxy-Secret"  # noqa: S105 -- the name of a header
ISSUER = "header"
_SEPARATORS = str.maketrans("_.", "--")


class ProxyHeaders:
    """Reads the identity headers, and refuses names that another hop could mistake for one."""

    def __init__(self, user: str, name: str | None, email: str | None) -> None:
        self.user = user.lower().encode()
        self.name = name.lower().encode() if name else None
        self.email = email.lower().encode() if email else None
        self.secret = SECRET_HEADER.lower().encode()
        exact = {self.user, self.name, self.email, self.secret} - {None}
        self._exact: frozenset[bytes] = frozenset(name for name in exact if name)
        self._folded = frozenset(folded(header) for header in self._exact)

    def read(self, scope: Mapping[str, Any]) -> dict[bytes, bytes]:
        """The identity headers of an ASGI scope of any type, by lower-case name.

        Raises BadProxyHeaders for a repeated one, and for a name that some hop could mistake for one
        of them (`X_Forwarded_User`, `X.Forwarded.User`).
        """
        headers: dict[bytes, bytes] = {}
        for key, value in scope["headers"]:
            lowered = key.lower()
            if lowered in self._exact:
                if lowered in headers:
                    raise BadProxyHeaders("an identity header is there twice")
                headers[lowered] = value
            elif folded(lowered) in self._folded:
                raise BadProxyHeaders("a header's name looks like an identity header's")
        return headers


def folded(name: bytes) -> str:
    """The name without differences that some hops ignore: case, `_` or `.` for `-`, and blanks."""
    return "".join(name.decode("latin-1").lower().translate(_SEPARATORS).split())


class HeaderMode:
    """Verifies the identity headers of a proxy."""

    def __init__(
        self,
        headers: ProxyHeaders,
        *,
        proxies: Iterable[Network],
        secret: str,
        aliased: bool = False,
    ) -> None:
        self._headers = headers
        self._proxies = Proxies(proxies)
        self._secret = sha256(secret.encode()).digest()
        self._aliased = aliased

    def find(self, request: HTTPConnection) -> Credential | None:
        """The user header; empty if the proxy names no user, which `authenticate` then refuses."""
        headers = self._headers.read(request.scope)
        if not headers:
            return None
        user = headers.get(self._headers.user)
        if user is None and not self._comes_from_proxy(request, headers):
            # A name and an e-mail address alone, not from the proxy, are no credential.
            if self._headers.secret in headers:
                raise InvalidCredentials("the proxy secret is wrong, or came from elsewhere")
            return None
        return Credential((user or b"").decode("latin-1"), "header")

    def recognizes(self, bearer: str) -> bool:  # noqa: ARG002 -- Mode's
        return False

    def _comes_from_proxy(self, request: HTTPConnection, headers: Mapping[bytes, bytes]) -> bool:
        digest = sha256(headers.get(self._headers.secret, b"")).digest()
        is_secret = compare_digest(digest, self._secret)  # digests: the header may hold any bytes
        return self._proxies.trusts(peer(request.scope)) and is_secret

    async def authenticate(self, request: HTTPConnection, credential: Credential) -> Principal:  # noqa: ARG002 -- Mode's
        headers = self._headers.read(request.scope)
        if not self._proxies.trusts(peer(request.scope)):
            raise InvalidCredentials("identity headers from an address that is no trusted proxy")
        if not self._comes_from_proxy(request, headers):
            raise InvalidCredentials("the proxy secret is missing or wrong")
        if not headers.get(self._headers.user):
            raise InvalidCredentials("the proxy names no user")
        subject = self._text(headers[self._headers.user])
        if subject != subject.strip() or "," in subject:
            raise BadProxyHeaders("the user header must hold one value")
        external_id = f"{ISSUER}:{subject}" if self._aliased else subject
        if len(external_id.encode()) > MAX_SUBJECT_LENGTH:
            raise BadProxyHeaders("the user header is too long")
        name, email = (
            self._text(headers[header]) if header and headers.get(header) else None
            for header in (self._headers.name, self._headers.email)
        )
        if email is not None and "," in email:
            raise BadProxyHeaders("the e-mail header must hold one value")
        return Principal(
            issuer=ISSUER,
            subject=subject,
            external_id=external_id,
            # Other users see the username, so an e-mail address is not used as one.
            username=None if "@" in subject else subject,
            name=name,
            email=email,
            carrier="header",
        )

    @staticmethod
    def _text(value: bytes) -> str:
        try:
            return check_subject(value.decode("utf-8"), name="header")
        except (UnicodeDecodeError, BadToken):
            raise BadProxyHeaders(
                "an identity header is not plain text of at most 255 bytes"
            ) from None


class ProxyHeaderGuard:
    """Refuses look-alike and repeated identity headers on every request and websocket. Raises BadInput.

    ASGI middleware around the whole application while mode `header` is on, so that no route or
    mounted application sees such headers.
    """

    def __init__(self, app: ASGIApp, headers: ProxyHeaders) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            try:
                self._headers.read(scope)
            except BadProxyHeaders:
                text = "The identity headers of this request are not as a proxy sends them."
                raise BadInput("bad_identity_headers", text) from None
        await self._app(scope, receive, send)
