"""Admin keys: random, shown once, stored as a hash, with scopes and an expiry.

A key is `ak_<id>_<secret>`. The id (60 random bits) finds the row; the digest of the whole key is
compared. The bootstrap key of the settings has every scope and no row.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from chat_broker_kit.text.timestamps import format_timestamp

BOOTSTRAP: Final = "bootstrap"
"""The actor of requests with the bootstrap key."""

_SHAPE = re.compile(r"ak_([0-9a-z]{12})_[A-Za-z0-9_-]{43}")
_ALPHABET: Final = "0123456789abcdefghijkmnopqrstvwx"
_NO_ID: Final = "-"
"""An id that no row has, so that a malformed key costs the same query as a known one."""
_NO_DIGEST: Final = b"\0" * 32


class AdminScope(StrEnum):
    """A permission of an admin key."""

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    USERS_BAN = "users:ban"
    TOKENS_MINT = "tokens:mint"
    TOKENS_REVOKE = "tokens:revoke"
    ROOMS_READ = "rooms:read"
    ROOMS_WRITE = "rooms:write"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    STATUS_READ = "status:read"


EVERY_SCOPE: Final = frozenset(AdminScope)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A stored key, without its secret and digest."""

    id: str
    name: str
    scopes: frozenset[AdminScope]
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None

    def is_valid(self, now: str) -> bool:
        """Whether the key is neither revoked nor expired at *now*."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def to_dict(self) -> dict[str, object]:
        """As the admin API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        }


class AdminKeyStore(Protocol):
    """Every method raises StateUnavailable when the database does not respond."""

    async def add(self, key: AdminKey, digest: bytes) -> None:
        """Store a new key; durable on return."""

    async def find(self, key_id: str) -> tuple[AdminKey, bytes] | None:
        """The key with that id, valid or not, and its digest; None if there is none."""

    async def all(self) -> list[AdminKey]:
        """Every key, newest first, expired and revoked ones included."""

    async def revoke(self, key_id: str, *, at: str) -> AdminKey | None:
        """The revoked key; None if there is none. Repeating it changes nothing."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The holder of a key: the actor in the audit log (*id*), the key's *name* and its scopes."""

    id: str
    name: str
    scopes: frozenset[AdminScope]


def new_key() -> tuple[str, str]:
    """A random key, and the id it holds: (id, key)."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return key_id, f"ak_{key_id}_{secrets.token_urlsafe(32)}"


def digest(key: bytes) -> bytes:
    """The stored digest of a key. SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(key).digest()


def looks_like_admin_key(credential: str) -> bool:
    return _SHAPE.fullmatch(credential) is not None


def operators_keys(known: Iterable[str | None]) -> Callable[[str], bool]:
    """A test for operators' credentials: the form of an admin key, or equal to one of the *known* secrets."""
    digests = frozenset(digest(secret.encode()) for secret in known if secret)

    def is_operators(credential: str) -> bool:
        return looks_like_admin_key(credential) or digest(credential.encode()) in digests

    return is_operators


class AdminKeys:
    """Verifies admin keys. Digests are compared in constant time."""

    def __init__(
        self,
        store: AdminKeyStore,
        bootstrap: str | None,
        *,
        now: Callable[[], str] = format_timestamp,
    ) -> None:
        self._store = store
        self._bootstrap = None if bootstrap is None else digest(bootstrap.encode())
        self._now = now

    async def owner(self, presented: bytes) -> Operator | None:
        """The operator whose key *presented* (the header's bytes) is; None if it is not valid.

        Known, unknown, expired and revoked keys all cost one query and two comparisons.
        """
        match = _SHAPE.fullmatch(presented.decode("latin-1"))
        key, stored_digest = await self._store.find(match[1] if match else _NO_ID) or (None, None)
        presented_digest = digest(presented)
        is_bootstrap = hmac.compare_digest(presented_digest, self._bootstrap or _NO_DIGEST)
        is_equal = hmac.compare_digest(presented_digest, stored_digest or _NO_DIGEST)
        if is_bootstrap:
            return Operator(BOOTSTRAP, BOOTSTRAP, EVERY_SCOPE)
        if key is None or not is_equal or not key.is_valid(self._now()):
            return None
        return Operator(key.id, key.name, key.scopes)


def scopes_lacking(operator: Operator, scopes: Iterable[AdminScope]) -> list[AdminScope]:
    """Those of *scopes* that *operator* does not have, and so may not grant."""
    return sorted(set(scopes) - operator.scopes)
