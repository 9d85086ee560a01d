"""Chat tokens: signing, checking, revoking.

A token is valid if its signature, its expiry and its *generation* are. The generation is the counter of its user plus
that of the project; a revocation raises one of them. `iat` is not checked, so that correcting a clock signs no user out.
Verified signatures are cached; generation and status are read from the database for every check.
"""

import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from chat_broker_kit import base64url, strict_json
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_kit.text.random_hex import random_hex
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import TokenResponse, User
from chat_broker_server.chat.users import COLUMNS as USER_COLUMNS
from chat_broker_server.chat.users import from_row as user_from_row
from chat_broker_server.credentials import jws
from chat_broker_server.credentials.jws import BadToken
from chat_broker_server.credentials.signing_keys import SigningKey, SigningKeys
from chat_broker_server.errors import Forbidden, NotAuthenticated, NotFound

AUDIENCE = "chat"
TYPE = "chat+jwt"
MAX_LIFETIME = 3600
LEEWAY = 30
CLOCK_SET_BACK = 86_400
"""Seconds by which the clock may be set back without making a revoked session valid again."""
VERIFIED_CACHE_SIZE = 10_000

_encode = msgspec.json.Encoder().encode
_expires_at = lru_cache(maxsize=64)(timestamp)  # tokens of one second expire together


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of a checked token: user (`sub`), project (`pid`), session (`sid`), expiry.

    `name` and `ext` are the user's current username and external id.
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


class Owner(msgspec.Struct, frozen=True):
    """The fields of a user that a token and the host need."""

    id: str
    external_user_id: str
    username: str
    display_name: str | None
    status: str


class FreshToken(msgspec.Struct, frozen=True):
    """A new token for *user*. `expires_in` is in seconds, `expires_at` in seconds since the epoch."""

    token: str
    session_id: str
    expires_in: int
    expires_at: int
    user: User | Owner

    def __repr__(self) -> str:
        return f"FreshToken(token=<hidden>, expires_in={self.expires_in})"


class Tokens:
    """Signs, checks and revokes the chat tokens of every project in one database."""

    def __init__(
        self, database: Database, keys: SigningKeys, *, issuer: str, default_lifetime: int = 900
    ) -> None:
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._default_lifetime = default_lifetime
        # SHA-256 of the token → its claims and key id. An entry proves the signature only.
        self._verified_tokens = BoundedCache[bytes, tuple[Claims, str]](VERIFIED_CACHE_SIZE)

    async def mint(self, pid: str, user_id: str, expires_in: int | None = None) -> TokenResponse:
        """A new token for *expires_in* seconds. Raises NotFound, or Forbidden `user_suspended`.

        Status and generation are read together. So a revocation that commits meanwhile also revokes this token.
        """
        user, generation = await self._database.read(partial(_user_and_generation, pid, user_id))
        key = self._keys.fresh() or await self._keys.current()
        issued = self._issue(key, pid, user, generation, expires_in)
        return TokenResponse(issued.token, issued.expires_in, _expires_at(issued.expires_at), user)

    def try_mint(self, pid: str, user_id: str, expires_in: int) -> FreshToken | None:
        """As `mint`, without waiting. None if that needs waiting, for a key or the database: call `mint` then."""
        key = self._keys.fresh()
        row = (
            None
            if key is None
            else self._database.read_now(partial(_owner_and_generation, pid, user_id))
        )
        return None if key is None or row is None else self._issue(key, pid, *row, expires_in)

    def _issue(
        self, key: SigningKey, pid: str, user: User | Owner, generation: int, expires_in: int | None
    ) -> FreshToken:
        if user.status != "active":
            raise Forbidden("user_suspended", "This user is suspended.")
        lifetime = min(expires_in or self._default_lifetime, MAX_LIFETIME)
        now = int(time.time())
        claims = Claims(
            iss=self._issuer,
            aud=AUDIENCE,
            sub=user.id,
            pid=pid,
            ext=user.external_user_id,
            name=user.username,
            sid=random_hex(),
            jti=random_hex(),
            iat=now,
            exp=now + lifetime,
            gen=generation,
        )
        return FreshToken(_sign(key, claims), claims.sid, lifetime, claims.exp, user)

    async def check(self, token: str) -> Claims:
        """The claims of a valid token.

        Raises NotAuthenticated with code token_invalid, token_expired, token_revoked,
        user_suspended or user_deleted.
        """
        try:
            claims = await self._verified_claims(token)
        except BadToken as reason:
            raise NotAuthenticated("token_invalid", f"The token is not valid: {reason}.") from None
        if time.time() >= claims.exp + LEEWAY:
            raise refused_token("token_expired")
        code, name, ext = await self._database.read(partial(_token_state, claims))
        if code is not None:
            raise refused_token(code)
        if name != claims.name or ext != claims.ext:
            claims = msgspec.structs.replace(claims, name=name, ext=ext)
        return claims

    async def recheck(self, claims_list: Sequence[Claims]) -> list[str | None]:
        """For each token None if it is still valid, else the code of its refusal."""
        return await self._database.read(partial(_refusal_codes, claims_list, time.time()))

    async def revoke(self, pid: str, user_id: str, session_id: str | None = None) -> int:
        """Revoke all tokens of the user, or those of one session. It is committed on return.

        Returns the user's generation. Raises NotFound.
        """
        return await self._database.write(partial(_revoke, pid, user_id, session_id))

    async def generation(self, pid: str, user_id: str) -> int:
        """The generation of the user's valid tokens. Raises NotFound."""
        _, generation = await self._database.read(partial(_user_and_generation, pid, user_id))
        return generation

    async def revoke_all(self, pid: str) -> int:
        """Revoke every token of the project. It is committed on return. Returns the project's generation."""
        return await self._database.write(partial(_revoke_project, pid))

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify tokens, as a JWKS; empty for HS256."""
        return self._keys.jwks()

    async def _verified_claims(self, token: str) -> Claims:
        """The claims, if a key of this server has signed them. Raises BadToken."""
        if len(token) > jws.MAX_LENGTH or not token.isascii():
            raise BadToken("too long, or not ASCII")
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._verified_tokens.get(digest)
        if cached is not None and await self._keys.by_id(cached[1]) is not None:
            return cached[0]
        header, payload, data, signature = jws.split(token)
        if header.typ != TYPE:
            raise BadToken(f"not of type {TYPE}")
        key = await self._keys.by_id(header.kid)
        if key is None or header.alg != key.algorithm or not key.crypto.verify(data, signature):
            raise BadToken("not signed by a key of this server")
        try:
            claims = msgspec.convert(strict_json.parse(payload), Claims)
        except (strict_json.NotStrictJson, msgspec.ValidationError):
            raise BadToken("its claims are not those of a chat token") from None
        if claims.iss != self._issuer or claims.aud != AUDIENCE:
            raise BadToken("for somebody else")
        lifetime = claims.exp - claims.iat
        if not (claims.sub and claims.pid and claims.sid and 0 < lifetime <= MAX_LIFETIME):
            raise BadToken("its claims make no sense")
        self._verified_tokens.put(digest, (claims, key.kid))
        return claims


def _sign(key: SigningKey, claims: Claims) -> str:
    signed = _encoded_header(key.algorithm, key.kid) + base64url.encode(_encode(claims))
    return (signed + b"." + base64url.encode(key.crypto.sign(signed))).decode()


@lru_cache(maxsize=16)
def _encoded_header(algorithm: str, kid: str) -> bytes:
    """The encoded header of this key's tokens, with the dot behind it."""
    return base64url.encode(msgspec.json.encode(jws.Header(algorithm, kid, TYPE))) + b"."


def refused_token(code: str) -> NotAuthenticated:
    """The error for a token that is expired, revoked, or of a suspended or deleted user."""
    return NotAuthenticated(code, _REFUSALS[code])


_REFUSALS = {
    "token_expired": "The token has expired. Get a new one.",
    "token_revoked": "The token was revoked.",
    "user_suspended": "This user is suspended.",
    "user_deleted": "This user was deleted.",
}


def _user_and_generation(pid: str, user_id: str) -> Steps[tuple[User, int]]:
    rows = yield Query(
        f"SELECT {USER_COLUMNS}, generation + (SELECT generation FROM projects WHERE id = $1)"
        " FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        user_id,
    )
    if not rows:
        raise NotFound.user()
    return user_from_row(rows[0]), rows[0][11]


def _owner_and_generation(pid: str, user_id: str) -> Steps[tuple[Owner, int]]:
    rows = yield Query(
        "SELECT id, external_user_id, username, display_name, status,"
        " generation + (SELECT generation FROM projects WHERE id = $1)"
        " FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        user_id,
    )
    if not rows:
        raise NotFound.user()
    *about, generation = rows[0]
    return Owner(*about), generation


def _token_state(claims: Claims) -> Steps[tuple[str | None, str, str]]:
    """The code of its refusal or None, and the user's current username and external id."""
    rows = yield Query(
        "SELECT username, external_user_id, status, deleted_at,"
        " generation + (SELECT generation FROM projects WHERE id = $1),"
        " EXISTS (SELECT 1 FROM revoked_sessions WHERE project_id = $1 AND user_id = $2"
        " AND session_id = $3) FROM users WHERE project_id = $1 AND id = $2",
        claims.pid,
        claims.sub,
        claims.sid,
    )
    if not rows:
        return "user_deleted", claims.name, claims.ext
    username, external, status, deleted_at, generation, session_revoked = rows[0]
    code = None
    if deleted_at is not None:
        code = "user_deleted"
    elif status != "active":
        code = "user_suspended"
    elif generation != claims.gen or session_revoked:
        code = "token_revoked"
    return code, username, external


def _refusal_codes(claims_list: Sequence[Claims], now: float) -> Steps[list[str | None]]:
    codes: list[str | None] = []
    for claims in claims_list:
        if now >= claims.exp + LEEWAY:
            codes.append("token_expired")
        else:
            code, _, _ = yield from _token_state(claims)
            codes.append(code)
    return codes


def _revoke(pid: str, user_id: str, session_id: str | None) -> Steps[int]:
    raised = 1 if session_id is None else 0
    rows = yield Query(
        "UPDATE users SET generation = generation + $3"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL"
        " RETURNING generation + (SELECT generation FROM projects WHERE id = $1)",
        pid,
        user_id,
        raised,
    )
    if not rows:
        raise NotFound.user()
    if session_id is not None:
        yield Query(
            "INSERT INTO revoked_sessions (project_id, user_id, session_id, expires_at)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (project_id, user_id, session_id)"
            " DO UPDATE SET expires_at = $4",
            pid,
            user_id,
            session_id,
            int(time.time()) + MAX_LIFETIME + 2 * LEEWAY + CLOCK_SET_BACK,
        )
    return int(rows[0][0])


def _revoke_project(pid: str) -> Steps[int]:
    rows = yield Query(
        "UPDATE projects SET generation = generation + 1 WHERE id = $1 RETURNING generation", pid
    )
    if not rows:
        raise NotFound.project()
    return int(rows[0][0])
