"""Admin keys in the database: hashes, never keys."""

from typing import Any

from sqlalchemy import (
    Column,
    LargeBinary,
    Row,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from app.admin_keys import AdminKey, Scope
from app.state.database import Database
from app.state.tables import metadata

keys = Table(
    "admin_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", String(500), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
)

_NAMES = ("id", "name", "created_at", "created_by", "expires_at", "revoked_at")


class SqlAdminKeys:
    """Where keys are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: AdminKey, digest: bytes) -> None:
        """See KeyRows."""
        values = {name: getattr(key, name) for name in _NAMES}
        values |= {"digest": digest, "scopes": " ".join(sorted(key.scopes))}
        async with self._database.write() as connection:
            await connection.execute(insert(keys).values(values))

    async def find(self, key_id: str) -> tuple[AdminKey, bytes] | None:
        """See KeyRows."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(keys).where(keys.c.id == key_id))).first()
        return None if row is None else (_key(row), bytes(row.digest))

    async def all(self) -> list[AdminKey]:
        """See KeyRows."""
        query = select(keys).order_by(keys.c.created_at.desc(), keys.c.id)
        async with self._database.read() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def revoke(self, key_id: str, *, at: str) -> AdminKey | None:
        """See KeyRows."""
        async with self._database.write() as connection:
            ended = await connection.execute(
                update(keys)
                .where(keys.c.id == key_id)
                .values(revoked_at=func.coalesce(keys.c.revoked_at, at))
                .returning(*keys.c)
            )
            row = ended.first()
        return None if row is None else _key(row)


def _key(row: Row[Any]) -> AdminKey:
    known = set(Scope)
    # A scope that a newer broker invented is none that this one could grant.
    scopes = frozenset(Scope(name) for name in row.scopes.split() if name in known)
    return AdminKey(**{name: getattr(row, name) for name in _NAMES}, scopes=scopes)
