"""Bans and revocation marks in the database.

SQLite and Postgres share their SQL, except for ban statuses: Postgres reads many in one query.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

from chat_broker.chat.bans import BanRecord, BanStatus
from chat_broker.chat.ports import StateUnavailable
from chat_broker.storage.batching import Gathered
from chat_broker_kit.database.transactions import Database, Query, Steps, all_rows, first_row, named

STATUSES_AT_ONCE, LINES = 100, 4
LONGEST = 7.0
"""Seconds that reading a ban status may take, with the time it waited for other batches."""
EVERYBODY = "*"
REPLACED = "replaced"
_NAMES = [field.name for field in fields(BanRecord)]
_COLUMNS = ", ".join(f'"{name}"' for name in _NAMES)  # `by` is a word of SQL
_OF_BAN = ", ".join(f'b."{name}"' for name in _NAMES)

_RAISE = (
    # *whose*: "u:" and the external id, or "*" for all users
    "INSERT INTO revocation_marks (whose, mark) VALUES ($1, 1)"
    " ON CONFLICT (whose) DO UPDATE SET mark = revocation_marks.mark + 1"
)
_BAN_STATUS = (
    "SELECT (SELECT CAST(COALESCE(SUM(mark), 0) AS BIGINT) FROM revocation_marks"
    f" WHERE whose IN ($1, '{EVERYBODY}')) AS all_marks, {_OF_BAN}"
    " FROM (SELECT 1 AS one) AS o"
    " LEFT JOIN bans AS b ON b.external_user_id = $2 AND b.lifted_at IS NULL"
)
# For Postgres: a round trip costs more than reading many ban statuses.
_BAN_STATUSES = (
    "SELECT o.whose AS asked, (SELECT CAST(COALESCE(SUM(mark), 0) AS BIGINT) FROM revocation_marks"
    f" WHERE whose IN ('u:' || o.whose, '{EVERYBODY}')) AS all_marks, {_OF_BAN}"
    " FROM unnest(CAST($1 AS text[])) AS o(whose)"
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
    """The tables of bans and revocation marks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ban_statuses: Gathered[str, BanStatus] = Gathered(
            self._of_many, most=STATUSES_AT_ONCE, lines=LINES
        )

    async def ban_status(self, external_id: str) -> BanStatus:
        if self._database.name != "sqlite":
            try:
                async with asyncio.timeout(LONGEST):
                    return await self._ban_statuses.ask(external_id)
            except TimeoutError:
                raise StateUnavailable("the database does not answer: TimeoutError") from None
        query = Query(_BAN_STATUS, _key(external_id), external_id)
        row = await self._database.read(partial(first_row, query))
        assert row is not None  # noqa: S101 - the query always has one
        return _ban_status(row)

    async def _of_many(self, external_ids: Sequence[str]) -> list[BanStatus | Exception]:
        query = Query(_BAN_STATUSES, list(set(external_ids)))
        rows = await self._database.read(partial(all_rows, query), slow=True)
        ban_statuses = {row[0]: _ban_status(row[1:]) for row in rows}
        return [ban_statuses[external_id] for external_id in external_ids]

    async def raise_revocation_mark(self, external_id: str | None) -> None:
        await self._database.write(partial(_raise, _key(external_id)))

    async def ban(self, record: BanRecord) -> None:
        """A suspension by an older ban that has not been lifted yet passes to the new ban."""
        external_id = record.external_user_id

        def transaction() -> Steps[None]:
            yield from _raise(_key(external_id))  # first, since a write takes the lock
            unfinished = yield named(
                _REPLACE, at=record.created_at, by=REPLACED, external_id=external_id
            )
            inherited = any(suspended for (suspended,) in unfinished)
            inheriting = replace(record, suspended=record.suspended or inherited)
            yield named(_INSERT, **asdict(inheriting))

        await self._database.write(transaction)

    async def lift(self, external_id: str, *, by: str, at: str) -> BanRecord | None:
        query = named(_LIFT, external_id=external_id, by=by, at=at)
        lifted = await self._database.write(partial(first_row, query))
        return None if lifted is None else _record(lifted)

    async def history(self, external_id: str, *, limit: int = 100) -> list[BanRecord]:
        return await self._records(_HISTORY, external_id=external_id, limit=limit)

    async def unsettled(self, now: str, *, limit: int = 100) -> list[BanRecord]:
        return await self._records(_UNSETTLED, now=now, limit=limit)

    async def settle(self, record: BanRecord, *, suspended: bool) -> bool:
        """Changes nothing if *record* is no longer as it was read."""
        query = named(
            _SETTLE,
            id=record.id,
            suspended=suspended,
            lifted_at=record.lifted_at or "",
            pending=record.pending or "",
        )
        return await self._database.write(partial(first_row, query)) is not None

    async def count(self, now: str) -> int:
        ((bans,),) = await self._database.read(partial(all_rows, named(_COUNT, now=now)), slow=True)
        return int(bans)

    async def _records(self, query: str, **values: Any) -> list[BanRecord]:
        rows = await self._database.read(partial(all_rows, named(query, **values)), slow=True)
        return [_record(row) for row in rows]


def _raise(whose: str) -> Steps[None]:
    yield Query(_RAISE, whose)


def _key(external_id: str | None) -> str:
    return EVERYBODY if external_id is None else f"u:{external_id}"


def _ban_status(row: Sequence[Any]) -> BanStatus:
    """The ban status in a row: the sum of marks, then the columns of a ban, which are NULL without a ban."""
    return BanStatus(int(row[0]), None if row[1] is None else _record(row[1:]))


def _record(row: Sequence[Any]) -> BanRecord:
    values = dict(zip(_NAMES, row, strict=True))
    values["suspended"] = bool(values["suspended"])
    return BanRecord(**values)
