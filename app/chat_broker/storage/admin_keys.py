"""Admin keys in the database: hashes, never keys."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from chat_broker.admin.keys import AdminKey, AdminScope
from chat_broker_kit.database.transactions import Database, Query, all_rows, first_row, named

_NAMES = ("id", "name", "created_at", "created_by", "expires_at", "revoked_at")
_ALL = (*_NAMES, "digest", "scopes")
_COLUMNS = ", ".join(_ALL)


class SqlAdminKeys:
    """The rows of admin keys, for one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: AdminKey, digest: bytes) -> None:
        values = {name: getattr(key, name) for name in _NAMES}
        values |= {"digest": digest, "scopes": " ".join(sorted(key.scopes))}
        insert = f"INSERT INTO admin_keys ({_COLUMNS}) VALUES (:{', :'.join(_ALL)})"
        await self._database.write(partial(all_rows, named(insert, **values)))

    async def find(self, key_id: str) -> tuple[AdminKey, bytes] | None:
        query = Query(f"SELECT {_COLUMNS} FROM admin_keys WHERE id = $1", key_id)
        row = await self._database.read(partial(first_row, query))
        return None if row is None else (_key(row), bytes(row[_ALL.index("digest")]))

    async def all(self) -> list[AdminKey]:
        query = Query(f"SELECT {_COLUMNS} FROM admin_keys ORDER BY created_at DESC, id")
        rows = await self._database.read(partial(all_rows, query), slow=True)
        return [_key(row) for row in rows]

    async def revoke(self, key_id: str, *, at: str) -> AdminKey | None:
        end = Query(
            "UPDATE admin_keys SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2"
            f" RETURNING {_COLUMNS}",
            at,
            key_id,
        )
        ended = await self._database.write(partial(first_row, end))
        return None if ended is None else _key(ended)


def _key(row: Sequence[Any]) -> AdminKey:
    values = dict(zip(_ALL, row, strict=True))
    known = set(AdminScope)
    # A newer broker may know scopes that this one does not: it cannot grant them.
    scopes = frozenset(AdminScope(name) for name in values["scopes"].split() if name in known)
    return AdminKey(**{name: values[name] for name in _NAMES}, scopes=scopes)
