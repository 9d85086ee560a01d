"""Bans and marks in the database.

One text of SQL for SQLite and Postgres, but for standings: Postgres is asked for many at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from chat_broker.chat.bans import BanRecord, Standing
from chat_broker.chat.ports import StateUnavailable
from chat_broker.storage.batching import Gathered
from chat_broker.storage.database import Database, Row, Transaction

STANDINGS_AT_ONCE, LINES = 100, 4
LONGEST = 7.0
"""Seconds for one standing, those included for which it stood behind others: what one query may take."""
EVERYBODY = "*"
REPLACED = "replaced"
_NAMES = [field.name for field in fields(BanRecord)]
_COLUMNS = ", ".join(f'"{name}"' for name in _NAMES)  # `by` is a word of SQL

_RAISE = (
    # "u:" and the external id, or "*" for everybody
    "INSERT INTO revocation_marks (whose, mark) VALUES (:whose, 1)"
    " ON CONFLICT (whose) DO UPDATE SET mark = revocation_marks.mark + 1"
)
_STANDING = (
    "SELECT (SELECT CAST(COALESCE(SUM(mark), 0) AS BIGINT) FROM revocation_marks"
    " WHERE whose IN (:whose, :everybody)) AS all_marks, b.*"
    " FROM (SELECT 1 AS one) AS o"
    " LEFT JOIN bans AS b ON b.external_user_id = :external_id AND b.lifted_at IS NULL"
)
# Of many at once, on Postgres: a trip to it costs more than what is read there.
_STANDINGS = (
    "SELECT o.whose AS asked, (SELECT CAST(COALESCE(SUM(mark), 0) AS BIGINT) FROM revocation_marks"
    " WHERE whose IN ('u:' || o.whose, :everybody)) AS all_marks, b.*"
    " FROM unnest(CAST(:external_ids AS text[])) AS o(whose)"
    " LEFT JOIN bans AS b ON b.external_user_id = o.whose AND b.lifted_at IS NULL"
)
_REPLACE = (
    "UPDATE bans SET lifted_at = COALESCE(lifted_at, :at), lifted_by = COALESCE(lifted_by, :by),"
    " pending = NULL"
    " WHERE external_user_id = :external_id AND (lifted_at IS NULL OR pending IS NOT NULL)"
    " RETURNING suspended"
)
_INSERT = f"INSERT INTO bans ({_COLUMNS}) VALUES (:{', :'.join(_NAMES)})"
_LIFT = (
    "UPDATE bans SET lifted_at = :at, lifted_by = :by,"
    " pending = CASE WHEN suspended THEN 'free' END"
    f" WHERE external_user_id = :external_id AND lifted_at IS NULL RETURNING {_COLUMNS}"
)
_HISTORY = (
    f"SELECT {_COLUMNS} FROM bans WHERE external_user_id = :external_id"
    " ORDER BY created_at DESC, id DESC LIMIT :limit"
)
_UNSETTLED = (
    f"SELECT {_COLUMNS} FROM bans"
    " WHERE (suspended OR pending IS NOT NULL)"  # the index's own condition
    " AND (pending IS NOT NULL OR (suspended AND lifted_at IS NULL AND until <= :now))"
    " ORDER BY created_at LIMIT :limit"
)
_SETTLE = (
    "UPDATE bans SET suspended = :suspended, pending = NULL WHERE id = :id"
    " AND COALESCE(lifted_at, '') = :lifted_at AND COALESCE(pending, '') = :pending RETURNING id"
)
_COUNT = (
    "SELECT count(*) AS bans FROM bans WHERE lifted_at IS NULL AND (until IS NULL OR until > :now)"
)


class SqlBans:
    """The book of bans."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standings: Gathered[str, Standing] = Gathered(
            self._of_many, most=STANDINGS_AT_ONCE, lines=LINES
        )

    async def standing(self, external_id: str) -> Standing:
        """See BanBook."""
        if not self._database.is_sqlite:
            try:
                async with asyncio.timeout(LONGEST):
                    return await self._standings.ask(external_id)
            except TimeoutError:
                raise StateUnavailable("the database does not answer: TimeoutError") from None
        row = await self._database.one(
            _STANDING, whose=_key(external_id), everybody=EVERYBODY, external_id=external_id
        )
        assert row is not None  # noqa: S101 - the query always has one
        return _standing(row)

    async def _of_many(self, external_ids: Sequence[str]) -> list[Standing | Exception]:
        rows = await self._database.rows(
            _STANDINGS, external_ids=list(set(external_ids)), everybody=EVERYBODY
        )
        found = {row["asked"]: _standing(row) for row in rows}
        return [found[external_id] for external_id in external_ids]

    async def raise_mark(self, external_id: str | None) -> None:
        """See BanBook."""
        async with self._database.write() as transaction:
            await _raise(transaction, _key(external_id))

    async def ban(self, record: BanRecord) -> None:
        """See BanBook. What an older ban has suspended and not let go yet, this one inherits."""
        external_id = record.external_user_id
        async with self._database.write() as transaction:
            await _raise(transaction, _key(external_id))  # a write first: it takes the lock
            unfinished = await transaction.run(
                _REPLACE, at=record.created_at, by=REPLACED, external_id=external_id
            )
            inherited = any(row["suspended"] for row in unfinished)
            kept = replace(record, suspended=record.suspended or inherited)
            await transaction.run(_INSERT, **asdict(kept))

    async def lift(self, external_id: str, *, by: str, at: str) -> BanRecord | None:
        """See BanBook."""
        async with self._database.write() as transaction:
            lifted = await transaction.run(_LIFT, external_id=external_id, by=by, at=at)
        return _record(lifted[0]) if lifted else None

    async def history(self, external_id: str, *, limit: int = 100) -> list[BanRecord]:
        """See BanBook."""
        return await self._records(_HISTORY, external_id=external_id, limit=limit)

    async def unsettled(self, now: str, *, limit: int = 100) -> list[BanRecord]:
        """See BanBook."""
        return await self._records(_UNSETTLED, now=now, limit=limit)

    async def settle(self, record: BanRecord, *, suspended: bool) -> bool:
        """See BanBook. Nothing is done if the record is not as it was."""
        async with self._database.write() as transaction:
            settled = await transaction.run(
                _SETTLE,
                id=record.id,
                suspended=suspended,
                lifted_at=record.lifted_at or "",
                pending=record.pending or "",
            )
        return len(settled) == 1

    async def count(self, now: str) -> int:
        """See BanBook."""
        (row,) = await self._database.rows(_COUNT, now=now)
        return int(row["bans"])

    async def _records(self, query: str, **values: Any) -> list[BanRecord]:
        return [_record(row) for row in await self._database.rows(query, **values)]


async def _raise(transaction: Transaction, whose: str) -> None:
    await transaction.run(_RAISE, whose=whose)


def _key(external_id: str | None) -> str:
    return EVERYBODY if external_id is None else f"u:{external_id}"


def _standing(row: Row) -> Standing:
    return Standing(int(row["all_marks"]), None if row["id"] is None else _record(row))


def _record(row: Row) -> BanRecord:
    values = {name: row[name] for name in _NAMES}
    values["suspended"] = bool(values["suspended"])
    return BanRecord(**values)
