"""Chat tokens: signing, checking, revoking.

A token is good while its signature, its time and its *generation* are: the counter of its user
(plus that of the project), which a revocation raises. The signature may be remembered; generation
and status are read from the database for every check.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from .database import Database
from .schemas import Minted

AUDIENCE = "chat"
TYPE = "chat+jwt"
MAX_LIFE = 3600
LEEWAY = 30
MAX_LENGTH = 8192


class Claims(msgspec.Struct, frozen=True):
    """What a checked token says: whose it is (`sub`, `pid`), its session, its end.

    `name` and `ext` are the user's present ones.
    """

    iss: str
    aud: str
    sub: str
    pid: str
    ext: str
    name: str
    sid: str
    jti: str
    iat: int
    exp: int
    gen: int


class Tokens:
    """Signs, checks and revokes the chat tokens of every project in one database."""

    def __init__(self, database: Database, *, issuer: str, default_life: int = 900) -> None:
        self._database = database
        self._issuer = issuer
        self._default_life = default_life

    async def mint(self, pid: str, user_id: str, expires_in: int | None = None) -> Minted:
        """A fresh token. Raises NotFound, or Forbidden `user_suspended`."""
        raise NotImplementedError

    async def check(self, token: str) -> Claims:
        """The claims of a good token.

        Raises NotAuthenticated with code token_invalid, token_expired, token_revoked,
        user_suspended or user_deleted.
        """
        raise NotImplementedError

    async def recheck(self, held: Sequence[Claims]) -> list[str | None]:
        """For tokens checked before: None while still good, else the code that refuses it."""
        raise NotImplementedError

    async def bump(self, pid: str, user_id: str, session_id: str | None = None) -> int:
        """Revoke all tokens of the user, or those of one session; durable on return.

        Answers the user's generation. Raises NotFound.
        """
        raise NotImplementedError

    async def bump_project(self, pid: str) -> int:
        """Revoke every token of the project; durable on return. Answers the generation."""
        raise NotImplementedError

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify tokens, as a JWKS; empty for HS256."""
        raise NotImplementedError
