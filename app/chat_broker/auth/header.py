"""Mode `header`: a proxy in front has signed the user in, and says who it is.

It is believed only if the connection comes from a configured network *and* carries the shared secret.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_broker.auth.bearer import Offer
from chat_broker.auth.contract import BadProxyHeaders, BadToken, InvalidCredentials
from chat_broker.auth.subject import MAX_SUBJECT_LENGTH, check_subject
from chat_broker.chat.principal import Principal
from chat_broker.errors import PROBLEM_JSON, BadInput, problem
from chat_broker.http.client_address import Network, Proxies, peer

SECRET_HEADER = "X-Proxy-Secret"  # noqa: S105 -- the name of a header
ISSUER = "header"
_SEPARATORS = str.maketrans("_.", "--")


class ProxyHeaders:
    """The header names that carry an identity, and what is refused because of them."""

    def __init__(self, user: str, name: str | None, email: str | None) -> None:
        self.user = user.lower().encode()
        self.name = name.lower().encode() if name else None
        self.email = email.lower().encode() if email else None
        self.secret = SECRET_HEADER.lower().encode()
        exact = {self.user, self.name, self.email, self.secret} - {None}
        self._exact: frozenset[bytes] = frozenset(name for name in exact if name)
        self._by_fold = {folded(header): header for header in self._exact}

    def read(self, scope: Mapping[str, Any]) -> dict[bytes, bytes]:
        """Every identity header of the request, by its lower-case name.

        Raises BadProxyHeaders for a name that some hop could take for one of them (`X_Forwarded_User`,
        `X.Forwarded.User`), and for one that is there twice. On any kind of scope, from any peer.
        """
        found: dict[bytes, bytes] = {}
        for key, value in scope["headers"]:
            lowered = key.lower()
            if lowered in self._exact:
                if lowered in found:
                    raise BadProxyHeaders("an identity header is there twice")
                found[lowered] = value
            elif folded(lowered) in self._by_fold:
                raise BadProxyHeaders("a header's name looks like an identity header's")
        return found


def folded(name: bytes) -> str:
    """The name as a careless hop might read it: case, `_`, `.` and blanks make no difference."""
    return "".join(name.decode("latin-1").lower().translate(_SEPARATORS).split())


class HeaderMode:
    """Judges the identity headers of a proxy."""

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

    def find(self, request: HTTPConnection) -> Offer | None:
        """The user header. A proxy that shows the secret but names nobody is refused, not passed over."""
        found = self._headers.read(request.scope)
        if not found:
            return None
        user = found.get(self._headers.user)
        if user is None and not self._comes_from_proxy(request, found):
            # Without a user header from the proxy there is nothing to believe: somebody else's
            # X-Proxy-Secret, or a name and e-mail alone, are not a credential.
            if self._headers.secret in found:
                raise InvalidCredentials("the proxy secret is wrong, or came from elsewhere")
            return None
        return Offer((user or b"").decode("latin-1"), "header")

    def takes(self, bearer: str) -> bool:  # noqa: ARG002 -- Mode's
        """None: who it is stands in other headers."""
        return False

    def _comes_from_proxy(self, request: HTTPConnection, found: Mapping[bytes, bytes]) -> bool:
        shown = sha256(found.get(self._headers.secret, b"")).digest()
        known = compare_digest(shown, self._secret)  # digests: any bytes may have been sent
        return self._proxies.trusts(peer(request.scope)) and known

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal:  # noqa: ARG002 -- read anew
        """Whoever the proxy says it is."""
        found = self._headers.read(request.scope)
        if not self._proxies.trusts(peer(request.scope)):
            raise InvalidCredentials("identity headers from an address that is no trusted proxy")
        if not self._comes_from_proxy(request, found):
            raise InvalidCredentials("the proxy secret is missing or wrong")
        if not found.get(self._headers.user):
            raise InvalidCredentials("the proxy names no user")
        subject = self._text(found[self._headers.user])
        if subject != subject.strip() or "," in subject:
            raise BadProxyHeaders("the user header must hold one value")
        external_id = f"{ISSUER}:{subject}" if self._aliased else subject
        if len(external_id.encode()) > MAX_SUBJECT_LENGTH:
            raise BadProxyHeaders("the user header is too long")
        name, email = (
            self._text(found[header]) if header and found.get(header) else None
            for header in (self._headers.name, self._headers.email)
        )
        if email is not None and "," in email:
            raise BadProxyHeaders("the e-mail header must hold one value")
        return Principal(
            issuer=ISSUER,
            subject=subject,
            external_id=external_id,
            username=None
            if "@" in subject
            else subject,  # an e-mail address is not for other users
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
    """Refuses look-alike and repeated identity headers on everything that comes in, sockets included.

    Plain ASGI, to be put around the whole application while mode `header` is on: also where no
    identity is read, nothing behind us shall see such headers.
    """

    def __init__(self, app: ASGIApp, headers: ProxyHeaders) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            try:
                self._headers.read(scope)
            except BadProxyHeaders:
                await _refuse(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = BadInput(
        "bad_identity_headers",
        "The identity headers of this request are not as a proxy sends them.",
    )
    path = str(scope.get("path", ""))
    body = problem(error, request_id=str(scope.get("request_id", "")), instance=path)
    head = {
        "status": error.status,
        "headers": [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ],
    }
    if scope["type"] == "http":
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": body})
        return
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        await send({"type": "websocket.http.response.start", **head})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008})
