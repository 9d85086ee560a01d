"""The signing keys: in the database, shared by all replicas, replaced with an overlap.

The newest key signs. One that was replaced still verifies until its last token has expired. Each
process reads the keys again every few seconds, and at once when it meets a token whose key it does
not know.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from functools import partial

import structlog

from chat_broker_kit.allowance import Allowance
from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_server.credentials import jws
from chat_broker_server.settings import Algorithm

# How old what a process knows may be: so long it may go on signing with a key just replaced.
REFRESH = 5.0
# Longest life of a token, its leeway, and the time others need to hear of the new key.
OVERLAP = 3600 + 30 + 60
# Unknown key ids are anybody's to invent: they cause few looks. More than one at once, for a key
# that another replica makes just after a look signs at once.
LOOKS_A_SECOND = 1.0
LOOKS_AT_ONCE = 5

log = structlog.get_logger("chat_broker_server.credentials.signing_keys")


@dataclass(frozen=True)
class SigningKey:
    """One key: its id, its algorithm, and the crypto."""

    kid: str
    algorithm: str
    crypto: jws.Crypto = field(repr=False)
    retired_at: int | None


@dataclass(frozen=True)
class _New:
    """A key that is not in the database yet."""

    kid: str
    algorithm: str
    private: str = field(repr=False)
    on_postgres: bool


class SigningKeys:
    """The keys that sign and verify now. `open_signing_keys` makes one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, SigningKey] = {}
        self._current: SigningKey | None = None
        self._read_at = float("-inf")
        self._looks = Allowance(LOOKS_A_SECOND, LOOKS_AT_ONCE, time.monotonic())
        self._looking = asyncio.Lock()

    def fresh(self) -> SigningKey | None:
        """The key to sign with, if it is known to have been the newest a few seconds ago."""
        return None if time.monotonic() - self._read_at > REFRESH else self._current

    async def current(self) -> SigningKey:
        """The key to sign with. Reads the keys again if that is due."""
        if self.fresh() is None:
            await self.refresh()
        if self._current is None:
            raise RuntimeError("there is no signing key")
        return self._current

    async def by_id(self, kid: str) -> SigningKey | None:
        """The key with that id, if it may still verify."""
        key = self._keys.get(kid)
        if key is None:
            # Who comes while somebody looks waits, and may find it there.
            async with self._looking:
                key = self._keys.get(kid)
                if key is None and self._looks.take(time.monotonic()):
                    await self.refresh()
                    key = self._keys.get(kid)
        if key is None or _is_over(key, time.time()):
            return None
        return key

    async def refresh(self) -> None:
        """Read the keys from the database."""
        self._read_at = time.monotonic()
        rows = await self._database.read(_all)
        known = self._keys
        keys = {}
        for kid, algorithm, private, retired_at in rows:
            old = known.get(kid)
            crypto = old.crypto if old else jws.load(algorithm, private)
            keys[kid] = SigningKey(kid, algorithm, crypto, retired_at)
        self._keys = keys
        self._current = next((key for key in keys.values() if key.retired_at is None), None)

    async def rotate(self, algorithm: Algorithm) -> str:
        """Make a new key that signs from now on; answers its id."""
        return await self._make(algorithm, if_other=False)

    async def agree(self, algorithm: Algorithm) -> None:
        """Have one key of *algorithm* sign, the same for replicas that start together; made if there is none."""
        await self.refresh()
        if self._current is None or self._current.algorithm != algorithm:
            await self._make(algorithm, if_other=True)

    async def _make(self, algorithm: Algorithm, *, if_other: bool) -> str:
        private = jws.generate(algorithm).private_text()
        new = _New(secrets.token_hex(8), algorithm, private, self._database.name == "postgres")
        kid = await self._database.write(partial(_replace, new, if_other))
        if kid == new.kid:
            log.info("signing_key.made", kid=kid, algorithm=algorithm)
        await self.refresh()
        return kid

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves of all keys that may verify now (RFC 7517); no HS256 key."""
        now = time.time()
        keys = []
        for key in self._keys.values():
            public = key.crypto.public_jwk()
            if public is not None and not _is_over(key, now):
                keys.append({**public, "kid": key.kid, "use": "sig", "alg": key.algorithm})
        return {"keys": keys}


async def open_signing_keys(database: Database, algorithm: Algorithm) -> SigningKeys:
    """Read the keys; make the first one, or a new one if another algorithm is wanted now."""
    keys = SigningKeys(database)
    await keys.agree(algorithm)
    return keys


def _is_over(key: SigningKey, now: float) -> bool:
    return key.retired_at is not None and now > key.retired_at + OVERLAP


def _all() -> Steps[list[tuple[str, str, str, int | None]]]:
    rows = yield Query(
        "SELECT kid, algorithm, private_key, retired_at FROM signing_keys"
        " WHERE retired_at IS NULL OR retired_at > $1"
        " ORDER BY created_at DESC, kid DESC",
        int(time.time()) - OVERLAP,
    )
    return [tuple(row) for row in rows]


def _replace(new: _New, if_other: bool) -> Steps[str]:
    """The id of the key that signs from now on: *new*; or with *if_other* one of that algorithm that signs now."""
    if new.on_postgres:
        # Those that do this together take turns, so that one is left that signs. SQLite has one writer anyway.
        yield Query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
    for kid, algorithm, _, retired_at in (yield from _all()) if if_other else ():
        if retired_at is None and algorithm == new.algorithm:
            return kid
    now = int(time.time())
    yield Query("DELETE FROM signing_keys WHERE retired_at < $1", now - OVERLAP)
    yield Query("UPDATE signing_keys SET retired_at = $1 WHERE retired_at IS NULL", now)
    yield Query(
        "INSERT INTO signing_keys (kid, algorithm, private_key, created_at)"
        " VALUES ($1, $2, $3, $4)",
        new.kid,
        new.algorithm,
        new.private,
        now,
    )
    return new.kid
