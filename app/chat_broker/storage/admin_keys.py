"""Admin keys in the database: hashes, never keys."""

from chat_broker.admin.keys import AdminKey, Scope
from chat_broker.storage.database import Database, Row

_NAMES = ("id", "name", "created_at", "created_by", "expires_at", "revoked_at")
_ALL = (*_NAMES, "digest", "scopes")
_COLUMNS = ", ".join(_ALL)


class SqlAdminKeys:
    """Where keys are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: AdminKey, digest: bytes) -> None:
        """See KeyRows."""
        values = {name: getattr(key, name) for name in _NAMES}
        values |= {"digest": digest, "scopes": " ".join(sorted(key.scopes))}
        async with self._database.write() as transaction:
            await transaction.run(
                f"INSERT INTO admin_keys ({_COLUMNS}) VALUES (:{', :'.join(_ALL)})", **values
            )

    async def find(self, key_id: str) -> tuple[AdminKey, bytes] | None:
        """See KeyRows."""
        row = await self._database.one(
            f"SELECT {_COLUMNS} FROM admin_keys WHERE id = :id", id=key_id
        )
        return None if row is None else (_key(row), bytes(row["digest"]))

    async def all(self) -> list[AdminKey]:
        """See KeyRows."""
        query = f"SELECT {_COLUMNS} FROM admin_keys ORDER BY created_at DESC, id"
        return [_key(row) for row in await self._database.rows(query)]

    async def revoke(self, key_id: str, *, at: str) -> AdminKey | None:
        """See KeyRows."""
        async with self._database.write() as transaction:
            ended = await transaction.run(
                "UPDATE admin_keys SET revoked_at = COALESCE(revoked_at, :at) WHERE id = :id"
                f" RETURNING {_COLUMNS}",
                id=key_id,
                at=at,
            )
        return _key(ended[0]) if ended else None


def _key(row: Row) -> AdminKey:
    known = set(Scope)
    # A scope that a newer broker invented is none that this one could grant.
    scopes = frozenset(Scope(name) for name in row["scopes"].split() if name in known)
    return AdminKey(**{name: row[name] for name in _NAMES}, scopes=scopes)
