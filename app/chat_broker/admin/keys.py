"""Admin keys: random, shown once, kept as a hash, scoped, expiring.

A key is `ak_<id>_<secret>`: the id (60 random bits) finds the row, the secret (256 bits) opens it. The
bootstrap key of the settings has every scope and no row.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from chat_broker_kit.text.instants import instant

BOOTSTRAP: Final = "bootstrap"
"""The actor that the bootstrap key stands for."""

_SHAPE = re.compile(r"ak_([0-9a-z]{12})_[A-Za-z0-9_-]{43}")
_ALPHABET: Final = "0123456789abcdefghijkmnopqrstvwx"
_NOBODY: Final = "-"
"""An id that no row has: unknown keys take the way of known ones."""
_NO_DIGEST: Final = b"\0" * 32


class Scope(StrEnum):
    """What a key can be good for."""

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


EVERY_SCOPE: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key as it is kept: everything but the key."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None

    def good(self, now: str) -> bool:
        """May it be used at *now*?"""
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


class KeyRows(Protocol):
    """Where keys are kept. Every method raises StateUnavailable when the database does not answer."""

    async def add(self, key: AdminKey, digest: bytes) -> None:
        """Keep a new key; durable on return."""
        ...

    async def find(self, key_id: str) -> tuple[AdminKey, bytes] | None:
        """The key with that id, and the digest to compare with."""
        ...

    async def all(self) -> list[AdminKey]:
        """Every key, newest first, ended ones too."""
        ...

    async def revoke(self, key_id: str, *, at: str) -> AdminKey | None:
        """End a key for good and answer it; None if there is none. Repeating it changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever holds a key: the *id* that the audit names, the key's *name*, and what it is good for."""

    id: str
    name: str
    scopes: frozenset[Scope]


def new_key() -> tuple[str, str]:
    """A fresh (id, key)."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return key_id, f"ak_{key_id}_{secrets.token_urlsafe(32)}"


def digest(key: bytes) -> bytes:
    """What is kept of a key. SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(key).digest()


def looks_like_admin_key(credential: str) -> bool:
    """Has *credential* the shape of an admin key?"""
    return _SHAPE.fullmatch(credential) is not None


def operators_keys(known: Iterable[str | None]) -> Callable[[str], bool]:
    """Tells whether a credential is the operator's: has the shape of an admin key, or is one of the *known* secrets."""
    digests = frozenset(digest(secret.encode()) for secret in known if secret)

    def is_operators(credential: str) -> bool:
        return looks_like_admin_key(credential) or digest(credential.encode()) in digests

    return is_operators


class KeyRing:
    """Tells whose key it is. Keys are compared as digests, in bytes, in constant time."""

    def __init__(
        self, rows: KeyRows, bootstrap: str | None, *, now: Callable[[], str] = instant
    ) -> None:
        self._rows = rows
        self._bootstrap = None if bootstrap is None else digest(bootstrap.encode())
        self._now = now

    async def owner(self, presented: bytes) -> Operator | None:
        """Who holds the key *presented* (as the bytes of the header), or None.

        Known and unknown, expired and revoked ids take the same way: one query, one comparison.
        """
        shape = _SHAPE.fullmatch(presented.decode("latin-1"))
        found = await self._rows.find(shape[1] if shape else _NOBODY)
        mine = digest(presented)
        is_bootstrap = hmac.compare_digest(mine, self._bootstrap or _NO_DIGEST)
        matches = hmac.compare_digest(mine, found[1] if found else _NO_DIGEST)
        if is_bootstrap:
            return Operator(BOOTSTRAP, BOOTSTRAP, EVERY_SCOPE)
        if found is None or not matches or not found[0].good(self._now()):
            return None
        return Operator(found[0].id, found[0].name, found[0].scopes)


def scopes_lacking(operator: Operator, wanted: Iterable[Scope]) -> list[Scope]:
    """What *operator* would give away without having it."""
    return sorted(set(wanted) - operator.scopes)
