"""The signing keys: stored in the database, shared by all replicas, rotated with an overlap.

The newest key signs. A retired key verifies until its last token has expired. Each process reads the keys again
every few seconds, and at once for a token with an unknown key id.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from functools import partial

import structlog

from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_kit.token_bucket import TokenBucket
from chat_broker_server.credentials import jws
from chat_broker_server.settings import Algorithm

# Age of the keys after which they are read again. So long a process may sign with a key just retired.
REFRESH_SECONDS = 5.0
# Longest lifetime of a token, its leeway, and the time until all processes have read the new key.
OVERLAP = 3600 + 30 + 60
# Callers can invent key ids, so unknown ones cause few reads. A burst is allowed, because a key that another replica
# makes just after a read signs at once.
UNKNOWN_KEY_READS_PER_SECOND = 1.0
UNKNOWN_KEY_READ_BURST = 5

log = structlog.get_logger("chat_broker_server.credentials.signing_keys")


@dataclass(frozen=True)
class SigningKey:
    kid: str
    algorithm: str
    crypto: jws.Crypto = field(repr=False)
    retired_at: int | None


@dataclass(frozen=True)
class _NewKey:
    """A new key that is not in the database yet."""

    kid: str
    algorithm: str
    private: str = field(repr=False)
    on_postgres: bool


class SigningKeys:
    """The keys that sign and verify. `open_signing_keys` makes an instance."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, SigningKey] = {}
        self._current: SigningKey | None = None
        self._read_at = float("-inf")
        self._unknown_key_reads = TokenBucket(
            UNKNOWN_KEY_READS_PER_SECOND, UNKNOWN_KEY_READ_BURST, time.monotonic()
        )
        self._reading = asyncio.Lock()

    def fresh(self) -> SigningKey | None:
        """The key to sign with, if it was read within REFRESH_SECONDS; else None: await `current`."""
        return None if time.monotonic() - self._read_at > REFRESH_SECONDS else self._current

    async def current(self) -> SigningKey:
        """The key to sign with. Reads the keys if they are older than REFRESH_SECONDS."""
        if self.fresh() is None:
            await self.refresh()
        if self._current is None:
            raise RuntimeError("there is no signing key")
        return self._current

    async def by_id(self, kid: str) -> SigningKey | None:
        """The key with that id; None if there is none or its overlap has ended."""
        key = self._keys.get(kid)
        if key is None:
            # Concurrent callers wait for one read, which may bring the key.
            async with self._reading:
                key = self._keys.get(kid)
                if key is None and self._unknown_key_reads.take(time.monotonic()):
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
        """Make a new key that signs from now on. Returns its id."""
        return await self._make(algorithm, if_other=False)

    async def ensure_current(self, algorithm: Algorithm) -> None:
        """Make a key of *algorithm* unless one signs already. Replicas that start together get the same."""
        await self.refresh()
        if self._current is None or self._current.algorithm != algorithm:
            await self._make(algorithm, if_other=True)

    async def _make(self, algorithm: Algorithm, *, if_other: bool) -> str:
        private = jws.generate(algorithm).private_text()
        new = _NewKey(secrets.token_hex(8), algorithm, private, self._database.name == "postgres")
        kid = await self._database.write(partial(_replace, new, if_other))
        if kid == new.kid:
            log.info("signing_key.made", kid=kid, algorithm=algorithm)
        await self.refresh()
        return kid

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves of all keys that verify, as a JWKS (RFC 7517). HS256 keys are left out."""
        now = time.time()
        keys = []
        for key in self._keys.values():
            public = key.crypto.public_jwk()
            if public is not None and not _is_over(key, now):
                keys.append({**public, "kid": key.kid, "use": "sig", "alg": key.algorithm})
        return {"keys": keys}


async def open_signing_keys(database: Database, algorithm: Algorithm) -> SigningKeys:
    """Read the keys. Makes a new one if there is none of *algorithm* that signs."""
    keys = SigningKeys(database)
    await keys.ensure_current(algorithm)
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


def _replace(new: _NewKey, if_other: bool) -> Steps[str]:
    """Store *new*, retire the others, and return its id. With *if_other* a key of that algorithm that signs is kept."""
    if new.on_postgres:
        # Concurrent rotations take turns, so that one key is left that signs. SQLite has one writer anyway.
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
