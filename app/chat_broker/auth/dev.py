"""Mode `dev`: any username signs in, without a password. For development on one's own machine, never elsewhere.

The username is the subject, byte for byte: Alice and alice are two users, and the second chat user's name gets a suffix.
"""

import hmac
import time
from collections.abc import Callable
from hashlib import sha256

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import DEV_PREFIX, Offer, bearer_token, cookie_value
from chat_broker.auth.contract import AmbiguousCredentials, BadToken, InvalidCredentials
from chat_broker.auth.jwt import base64url
from chat_broker.auth.subject import check_subject
from chat_broker.chat.principal import Principal

COOKIE = "chat_dev_session"
ISSUER = "dev"
LIFETIME_SECONDS = 24 * 3600
MAX_USERNAME_LENGTH = 64


class DevSessions:
    """Makes and reads the sessions of `POST /dev/login`: `dev_<username>.<expiry>.<mac>`.

    *seed* is something all replicas share and a restart does not change. It need not be secret: the
    login takes no password.
    """

    def __init__(self, seed: str, now: Callable[[], float] = time.time) -> None:
        self._key = sha256(b"chat-broker development session\0" + seed.encode()).digest()
        self._now = now

    def create(self, username: str) -> str:
        """A session of *username*, for a day."""
        expires = int(self._now()) + LIFETIME_SECONDS
        body = f"{base64url.encode(username.encode())}.{expires}"
        return f"{DEV_PREFIX}{body}.{self._mac(body)}"

    def read(self, session: str) -> tuple[str, int]:
        """The username and the expiry; InvalidCredentials if it is not one of ours, or over."""
        body, _, mac = session.removeprefix(DEV_PREFIX).rpartition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode("utf-8", "replace")):
            raise InvalidCredentials("this is not a development session of this broker")
        name, _, expires = body.partition(".")
        if self._now() >= int(expires):
            raise InvalidCredentials("the development session has expired")
        return base64url.decode(name).decode(), int(expires)

    def _mac(self, body: str) -> str:
        text = body.encode("utf-8", "replace")
        return base64url.encode(hmac.digest(self._key, text, "sha256"))


def username_problem(username: str) -> str | None:
    """Why nobody can be called that, or None."""
    try:
        check_subject(username, name="username")
    except BadToken:
        return "must be 1 to 64 printable characters"
    if len(username) > MAX_USERNAME_LENGTH or username != username.strip():
        return "must be 1 to 64 printable characters, without spaces around them"
    return None


class DevMode:
    """Judges the sessions that `POST /dev/login` made."""

    def __init__(self, sessions: DevSessions, *, aliased: bool = False) -> None:
        self._sessions = sessions
        self._aliased = aliased

    def find(self, request: HTTPConnection) -> Offer | None:
        """A bearer that starts with `dev_`, or the cookie."""
        token = bearer_token(request)
        if token is not None and not self.takes(token):
            token = None
        cookie = cookie_value(request, COOKIE)
        if token is not None:
            if cookie is not None and cookie != token:
                raise AmbiguousCredentials("the bearer token and the cookie differ")
            return Offer(token, "bearer")
        return Offer(cookie, "cookie") if cookie is not None else None

    def takes(self, bearer: str) -> bool:
        """What begins as the sessions do."""
        return bearer.startswith(DEV_PREFIX)

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal:  # noqa: ARG002 -- Mode's
        """Whoever the session was made for."""
        username, expires_at = self._sessions.read(offer.value)
        return Principal(
            issuer=ISSUER,
            subject=username,
            external_id=f"{ISSUER}:{username}" if self._aliased else username,
            username=username,
            name=username,
            expires_at=expires_at,
            carrier=offer.carrier,
        )
