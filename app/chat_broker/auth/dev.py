"""Mode `dev`: any username signs in without a password. For development on one machine only.

The username is the subject, byte for byte: Alice and alice are two users. The second one's chat username gets a suffix.
"""

import hmac
import time
from collections.abc import Callable
from hashlib import sha256

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import DEV_PREFIX, Credential, bearer_or_cookie
from chat_broker.auth.errors import BadToken, InvalidCredentials
from chat_broker.auth.subject import check_subject
from chat_broker.chat.principal import Principal
from chat_broker_kit import base64url

COOKIE = "chat_dev_session"
ISSUER = "dev"
LIFETIME_SECONDS = 24 * 3600
MAX_USERNAME_LENGTH = 64


class DevSessions:
    """Creates and verifies the sessions of `POST /dev/login`: `dev_<username>.<expiry>.<mac>`.

    *seed* is a text that all replicas share and that outlives a restart. It need not be secret: the
    login takes no password.
    """

    def __init__(self, seed: str, now: Callable[[], float] = time.time) -> None:
        self._key = sha256(b"chat-broker development session\0" + seed.encode()).digest()
        self._now = now

    def create(self, username: str) -> str:
        expires_at = int(self._now()) + LIFETIME_SECONDS
        body = f"{base64url.encode(username.encode()).decode()}.{expires_at}"
        return f"{DEV_PREFIX}{body}.{self._mac(body)}"

    def read(self, session: str) -> tuple[str, int]:
        """Username and expiry (epoch seconds). Raises InvalidCredentials for a foreign or expired session."""
        body, _, mac = session.removeprefix(DEV_PREFIX).rpartition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode("utf-8", "replace")):
            raise InvalidCredentials("this is not a development session of this broker")
        name, _, expires_at = body.partition(".")
        if self._now() >= int(expires_at):
            raise InvalidCredentials("the development session has expired")
        return base64url.decode(name).decode(), int(expires_at)

    def _mac(self, body: str) -> str:
        text = body.encode("utf-8", "replace")
        return base64url.encode(hmac.digest(self._key, text, "sha256")).decode()


def username_problem(username: str) -> str | None:
    """Why *username* is not accepted; None if it is."""
    try:
        check_subject(username, name="username")
    except BadToken:
        return "must be 1 to 64 printable characters"
    if len(username) > MAX_USERNAME_LENGTH or username != username.strip():
        return "must be 1 to 64 printable characters, without spaces around them"
    return None


class DevMode:
    """Verifies the sessions that `POST /dev/login` created."""

    def __init__(self, sessions: DevSessions, *, aliased: bool = False) -> None:
        self._sessions = sessions
        self._aliased = aliased

    def find(self, request: HTTPConnection) -> Credential | None:
        """A bearer token that starts with `dev_`, or the cookie."""
        return bearer_or_cookie(request, COOKIE, self.recognizes)

    def recognizes(self, bearer: str) -> bool:
        return bearer.startswith(DEV_PREFIX)

    async def authenticate(self, request: HTTPConnection, credential: Credential) -> Principal:  # noqa: ARG002 -- Mode's
        username, expires_at = self._sessions.read(credential.value)
        return Principal(
            issuer=ISSUER,
            subject=username,
            external_id=f"{ISSUER}:{username}" if self._aliased else username,
            username=username,
            name=username,
            expires_at=expires_at,
            carrier=credential.carrier,
        )
