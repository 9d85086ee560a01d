"""Bans and marks in the database. One text of SQL for SQLite and Postgres."""

from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    String,
    Table,
    case,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.bans import BanRecord, Standing
from app.state.database import Database
from app.state.tables import metadata

bans = Table(
    "bans",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False),
    Column("external_user_id", String(255), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("by", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("until", String(32)),
    Column("lifted_at", String(32)),
    Column("lifted_by", String(64)),
    Column("suspended", Boolean, nullable=False),
    Column("pending", String(16)),
    Index("bans_of_user", "external_user_id", "created_at"),
    Index(
        "bans_in_force",
        "external_user_id",
        unique=True,
        sqlite_where=text("lifted_at IS NULL"),
        postgresql_where=text("lifted_at IS NULL"),
    ),
    Index(
        "bans_to_settle",
        "until",
        sqlite_where=text("suspended OR pending IS NOT NULL"),
        postgresql_where=text("suspended OR pending IS NOT NULL"),
    ),
)

marks = Table(
    "revocation_marks",
    metadata,
    # "u:" and the external id, or "*" for everybody
    Column("whose", String(257), primary_key=True),
    Column("mark", BigInteger, nullable=False),
)

EVERYBODY = "*"
REPLACED = "replaced"
_NAMES = [field.name for field in fields(BanRecord)]

_RAISE = text(
    "INSERT INTO revocation_marks (whose, mark) VALUES (:whose, 1)"
    " ON CONFLICT (whose) DO UPDATE SET mark = revocation_marks.mark + 1"
)
_STANDING = text(
    "SELECT (SELECT CAST(COALESCE(SUM(mark), 0) AS BIGINT) FROM revocation_marks"
    " WHERE whose IN (:whose, :everybody)) AS all_marks, b.*"
    " FROM (SELECT 1 AS one) AS o"
    " LEFT JOIN bans AS b ON b.external_user_id = :external_id AND b.lifted_at IS NULL"
)


class SqlBans:
    """The book of bans."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, external_id: str) -> Standing:
        """See BanBook."""
        row = await self._database.one(
            _STANDING,
            {"whose": _key(external_id), "everybody": EVERYBODY, "external_id": external_id},
        )
        return Standing(int(row.all_marks), None if row.id is None else _record(row))

    async def raise_mark(self, external_id: str | None) -> None:
        """See BanBook."""
        async with self._database.write() as connection:
            await _raise(connection, _key(external_id))

    async def ban(self, record: BanRecord) -> None:
        """See BanBook. What an older ban has suspended and not let go yet, this one inherits."""
        async with self._database.write() as connection:
            await _raise(
                connection, _key(record.external_user_id)
            )  # a write first: it takes the lock
            of_user = bans.c.external_user_id == record.external_user_id
            unfinished = await connection.execute(
                update(bans)
                .where(of_user, or_(bans.c.lifted_at.is_(None), bans.c.pending.is_not(None)))
                .values(
                    lifted_at=func.coalesce(bans.c.lifted_at, record.created_at),
                    lifted_by=func.coalesce(bans.c.lifted_by, REPLACED),
                    pending=None,
                )
                .returning(bans.c.suspended)
            )
            inherited = any(row.suspended for row in unfinished)
            values = {name: getattr(record, name) for name in _NAMES}
            values["suspended"] = record.suspended or inherited
            await connection.execute(insert(bans).values(values))

    async def lift(self, external_id: str, *, by: str, at: str) -> BanRecord | None:
        """See BanBook."""
        async with self._database.write() as connection:
            lifted = await connection.execute(
                update(bans)
                .where(_in_force(external_id))
                .values(
                    lifted_at=at,
                    lifted_by=by,
                    pending=case((bans.c.suspended, "free"), else_=None),
                )
                .returning(*bans.c)
            )
            row = lifted.first()
        return None if row is None else _record(row)

    async def history(self, external_id: str, *, limit: int = 100) -> list[BanRecord]:
        """See BanBook."""
        query = (
            select(bans)
            .where(bans.c.external_user_id == external_id)
            .order_by(bans.c.created_at.desc(), bans.c.id.desc())
            .limit(limit)
        )
        return await self._records(query)

    async def unsettled(self, now: str, *, limit: int = 100) -> list[BanRecord]:
        """See BanBook."""
        ended = bans.c.suspended & bans.c.lifted_at.is_(None) & (bans.c.until <= now)
        query = (
            select(bans)
            .where(or_(bans.c.suspended, bans.c.pending.is_not(None)))  # the index's own condition
            .where(or_(bans.c.pending.is_not(None), ended))
            .order_by(bans.c.created_at)
            .limit(limit)
        )
        return await self._records(query)

    async def settle(self, record: BanRecord, *, suspended: bool) -> bool:
        """See BanBook."""
        unchanged = (
            (bans.c.id == record.id)
            & bans.c.lifted_at.is_not_distinct_from(record.lifted_at)
            & bans.c.pending.is_not_distinct_from(record.pending)
        )
        async with self._database.write() as connection:
            settled = await connection.execute(
                update(bans).where(unchanged).values(suspended=suspended, pending=None)
            )
            return settled.rowcount == 1

    async def count(self, now: str) -> int:
        """See BanBook."""
        query = (
            select(func.count())
            .select_from(bans)
            .where(bans.c.lifted_at.is_(None), or_(bans.c.until.is_(None), bans.c.until > now))
        )
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _records(self, query: Any) -> list[BanRecord]:
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]


async def _raise(connection: AsyncConnection, whose: str) -> None:
    await connection.execute(_RAISE, {"whose": whose})


def _key(external_id: str | None) -> str:
    return EVERYBODY if external_id is None else f"u:{external_id}"


def _in_force(external_id: str) -> Any:
    return (bans.c.external_user_id == external_id) & bans.c.lifted_at.is_(None)


def _record(row: Any) -> BanRecord:
    values = {name: getattr(row, name) for name in _NAMES}
    values["suspended"] = bool(values["suspended"])
    return BanRecord(**values)
