"""Chat tokens: signing, checking, revoking.

A token is good while its signature, its end and its *generation* are: the counter of its user
plus that of the project, either of which a revocation raises. When it was made is not judged, since
a clock that is corrected must not sign people out. A signature that was verified is
remembered; generation and status are read from the database for every check.
"""

import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from chat_broker_kit import strict_json
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_server.chat.ids import random_hex, timestamp
from chat_broker_server.chat.models import TokenResponse, User
from chat_broker_server.chat.users import COLUMNS as USER_COLUMNS
from chat_broker_server.chat.users import from_row as user_from_row
from chat_broker_server.credentials import jws
from chat_broker_server.credentials.jws import BadToken
from chat_broker_server.credentials.signing_keys import SigningKey, SigningKeys
from chat_broker_server.errors import Forbidden, NotAuthenticated, NotFound

AUDIENCE = "chat"
TYPE = "chat+jwt"
MAX_LIFE = 3600
LEEWAY = 30
CLOCK_SET_BACK = 86_400
"""Seconds by which the clock may be corrected without a revoked session coming alive again."""
REMEMBERED = 10_000

_encode = msgspec.json.Encoder().encode
_ends = lru_cache(maxsize=64)(timestamp)  # those of one second and one life end alike


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


class Owner(msgspec.Struct, frozen=True):
    """Of a user, what a token and its answer to the host say."""

    id: str
    external_user_id: str
    username: str
    display_name: str | None
    status: str


class FreshToken(msgspec.Struct, frozen=True):
    """A token that was just made for *user*: its session, its life and its end in (epoch) seconds."""

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
        self, database: Database, keys: SigningKeys, *, issuer: str, default_life: int = 900
    ) -> None:
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._default_life = default_life
        # SHA-256 of the token → its claims and key. Bounded; what is in it proves the signature only.
        self._verified = BoundedCache[bytes, tuple[Claims, str]](REMEMBERED)

    async def mint(self, pid: str, user_id: str, expires_in: int | None = None) -> TokenResponse:
        """A fresh token for *expires_in* seconds. Raises NotFound, or Forbidden `user_suspended`.

        The generation is read together with the status: a token whose minting was overtaken by a
        revocation carries the old generation, and is dead.
        """
        user, generation = await self._database.read(partial(_bearer, pid, user_id))
        key = self._keys.fresh() or await self._keys.current()
        made = self._made(key, pid, user, generation, expires_in)
        return TokenResponse(made.token, made.expires_in, _ends(made.expires_at), user)

    def mint_now(self, pid: str, user_id: str, expires_in: int) -> FreshToken | None:
        """The same as values, if nothing has to be waited for; None if something has. Raises likewise."""
        key = self._keys.fresh()
        found = None if key is None else self._database.read_now(partial(_owner, pid, user_id))
        return None if key is None or found is None else self._made(key, pid, *found, expires_in)

    def _made(
        self, key: SigningKey, pid: str, user: User | Owner, generation: int, expires_in: int | None
    ) -> FreshToken:
        if user.status != "active":
            raise Forbidden("user_suspended", "This user is suspended.")
        life = min(expires_in or self._default_life, MAX_LIFE)
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
            exp=now + life,
            gen=generation,
        )
        return FreshToken(_sign(key, claims), claims.sid, life, claims.exp, user)

    async def check(self, token: str) -> Claims:
        """The claims of a good token.

        Raises NotAuthenticated with code token_invalid, token_expired, token_revoked,
        user_suspended or user_deleted.
        """
        try:
            claims = await self._signed(token)
        except BadToken as reason:
            raise NotAuthenticated("token_invalid", f"The token is not valid: {reason}.") from None
        if time.time() >= claims.exp + LEEWAY:
            raise refusal("token_expired")
        code, name, ext = await self._database.read(partial(_standing, claims))
        if code is not None:
            raise refusal(code)
        if name != claims.name or ext != claims.ext:
            claims = msgspec.structs.replace(claims, name=name, ext=ext)
        return claims

    async def recheck(self, held: Sequence[Claims]) -> list[str | None]:
        """For tokens checked before: None while still good, else the code that refuses it."""
        return await self._database.read(partial(_standings, held, time.time()))

    async def bump(self, pid: str, user_id: str, session_id: str | None = None) -> int:
        """Revoke all tokens of the user, or those of one session; durable on return.

        Answers the user's generation. Raises NotFound.
        """
        return await self._database.write(partial(_revoke, pid, user_id, session_id))

    async def generation(self, pid: str, user_id: str) -> int:
        """The generation of the user's tokens now. Raises NotFound."""
        _, generation = await self._database.read(partial(_bearer, pid, user_id))
        return generation

    async def bump_project(self, pid: str) -> int:
        """Revoke every token of the project; durable on return. Answers its generation."""
        return await self._database.write(partial(_revoke_project, pid))

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify tokens, as a JWKS; empty for HS256."""
        return self._keys.jwks()

    async def _signed(self, token: str) -> Claims:
        """The claims, once the signature is known to be ours. Raises BadToken."""
        if len(token) > jws.MAX_LENGTH or not token.isascii():
            raise BadToken("too long, or not ASCII")
        digest = hashlib.sha256(token.encode()).digest()
        remembered = self._verified.get(digest)
        if remembered is not None and await self._keys.by_id(remembered[1]) is not None:
            return remembered[0]
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
        life = claims.exp - claims.iat
        if not (claims.sub and claims.pid and claims.sid and 0 < life <= MAX_LIFE):
            raise BadToken("its claims make no sense")
        self._verified.put(digest, (claims, key.kid))
        return claims


def _sign(key: SigningKey, claims: Claims) -> str:
    signed = _head(key.algorithm, key.kid) + jws.encode(_encode(claims))
    return (signed + b"." + jws.encode(key.crypto.sign(signed))).decode()


@lru_cache(maxsize=16)
def _head(algorithm: str, kid: str) -> bytes:
    """The first part of every token that this key signs, with the dot behind it."""
    return jws.encode(msgspec.json.encode(jws.Header(algorithm, kid, TYPE))) + b"."


def refusal(code: str) -> NotAuthenticated:
    """The answer for a token that was good once."""
    return NotAuthenticated(code, _REFUSALS[code])


_REFUSALS = {
    "token_expired": "The token has expired. Get a new one.",
    "token_revoked": "The token was revoked.",
    "user_suspended": "This user is suspended.",
    "user_deleted": "This user was deleted.",
}


def _bearer(pid: str, user_id: str) -> Steps[tuple[User, int]]:
    rows = yield Query(
        f"SELECT {USER_COLUMNS}, generation + (SELECT generation FROM projects WHERE id = $1)"
        " FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        user_id,
    )
    if not rows:
        raise NotFound.user()
    return user_from_row(rows[0]), rows[0][11]


def _owner(pid: str, user_id: str) -> Steps[tuple[Owner, int]]:
    """`_bearer`, without what is not for the host."""
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


def _standing(claims: Claims) -> Steps[tuple[str | None, str, str]]:
    """Why the token is refused now, or None; and the user's present name and external id."""
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
    username, external, status, deleted_at, generation, session_over = rows[0]
    code = None
    if deleted_at is not None:
        code = "user_deleted"
    elif status != "active":
        code = "user_suspended"
    elif generation != claims.gen or session_over:
        code = "token_revoked"
    return code, username, external


def _standings(held: Sequence[Claims], now: float) -> Steps[list[str | None]]:
    codes: list[str | None] = []
    for claims in held:
        if now >= claims.exp + LEEWAY:
            codes.append("token_expired")
        else:
            code, _, _ = yield from _standing(claims)
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
            int(time.time()) + MAX_LIFE + 2 * LEEWAY + CLOCK_SET_BACK,
        )
    return int(rows[0][0])


def _revoke_project(pid: str) -> Steps[int]:
    rows = yield Query(
        "UPDATE projects SET generation = generation + 1 WHERE id = $1 RETURNING generation", pid
    )
    if not rows:
        raise NotFound.project()
    return int(rows[0][0])
