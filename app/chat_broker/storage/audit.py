"""The audit trail in the database: a chain of records, its head, and the entries still open."""

import json
import re
from collections.abc import Sequence
from typing import Any

from chat_broker.admin.audit_log import OUTCOME_UNKNOWN, Link, Record, Search, bind
from chat_broker.storage.database import Database, Row, Transaction

_NAMES = ("id", "at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id")
# `also` is for searching only: what it says is in `detail` too.
_CHAIN = ("seq", *_NAMES, "detail", "previous", "hash", "also")
_COLUMNS = ", ".join(_CHAIN)

# One row. Appending raises it first, so that appends queue up behind each other; and what is cut off
# the end of the chain leaves a gap before the next record.
_NEXT = "UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash"
_APPEND = f"INSERT INTO audit ({_COLUMNS}) VALUES (:{', :'.join(_CHAIN)})"
_OPEN = (
    "INSERT INTO audit_open (id, fold_key, since, count, record)"
    " VALUES (:id, :fold_key, :since, :count, :record)"
)
_FOLD = f"{_OPEN} ON CONFLICT (fold_key) DO UPDATE SET count = audit_open.count + excluded.count"
_OVERDUE = (
    "SELECT id FROM audit_open WHERE (fold_key IS NULL AND since < :calls_before)"
    " OR (fold_key IS NOT NULL AND since < :folds_before) ORDER BY since LIMIT 500"
)


class SqlAudit:
    """The chain and the open entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what is final --------------------------------------------------------------------------

    async def append(self, record: Record) -> None:
        """See Chain."""
        async with self._database.write() as transaction:
            await _append(transaction, record)

    async def find(self, search: Search) -> list[Link]:
        """See Chain."""
        where, values = _conditions(search)
        query = f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY seq DESC LIMIT :limit"
        rows = await self._database.rows(query, limit=search.limit, **values)
        return [_link(row) for row in rows]

    async def after(self, seq: int, limit: int, search: Search = Search()) -> list[Link]:  # noqa: B008 - frozen
        """See Chain."""
        where, values = _conditions(search)
        query = (
            f"SELECT {_COLUMNS} FROM audit WHERE seq > :seq AND {where} ORDER BY seq LIMIT :limit"
        )
        rows = await self._database.rows(query, seq=seq, limit=limit, **values)
        return [_link(row) for row in rows]

    async def length(self) -> int:
        """See Chain."""
        (row,) = await self._database.rows("SELECT seq FROM audit_head")
        return int(row["seq"])

    # -- what is not ----------------------------------------------------------------------------

    async def open(self, record: Record) -> None:
        """See OpenEntries."""
        async with self._database.write() as transaction:
            await transaction.run(_OPEN, **_entry(record, None, 1))

    async def touch(self, ids: Sequence[str], now: str) -> None:
        """See OpenEntries."""
        async with self._database.write() as transaction:
            for one in ids:
                await transaction.run(
                    "UPDATE audit_open SET since = :now WHERE id = :id", now=now, id=one
                )

    async def close(self, record: Record) -> None:
        """See OpenEntries."""
        async with self._database.write() as transaction:
            if await _take(transaction, record.id):
                await _append(transaction, record)

    async def fold(self, key: str, record: Record, count: int) -> None:
        """See OpenEntries."""
        async with self._database.write() as transaction:
            await transaction.run(_FOLD, **_entry(record, key, count))

    async def folds(self) -> list[Record]:
        """See OpenEntries."""
        rows = await self._database.rows(
            "SELECT record, count FROM audit_open WHERE fold_key IS NOT NULL ORDER BY since DESC"
        )
        return [_counted(row) for row in rows]

    async def close_overdue(self, *, calls_before: str, folds_before: str) -> int:
        """See OpenEntries."""
        overdue = await self._database.rows(
            _OVERDUE, calls_before=calls_before, folds_before=folds_before
        )
        closed = 0
        for one in overdue:
            # A transaction each: another replica may be doing the same, and only one gets the row.
            async with self._database.write() as transaction:
                for row in await _take(transaction, one["id"]):
                    await _append(transaction, _ended(row))
                    closed += 1
        return closed


async def _append(transaction: Transaction, record: Record) -> None:
    (head,) = await transaction.run(_NEXT)
    link = bind(head["seq"], record, head["hash"])
    await transaction.run(
        _APPEND,
        **{name: getattr(record, name) for name in _NAMES},
        seq=head["seq"],
        detail=json.dumps(record.detail, ensure_ascii=True),
        previous=head["hash"],
        hash=link.hash,
        also=record.also,
    )
    await transaction.run("UPDATE audit_head SET hash = :hash", hash=link.hash)


async def _take(transaction: Transaction, entry_id: str) -> Sequence[Row]:
    """The open entry, which is gone then; nothing if somebody else has taken it."""
    return await transaction.run(
        "DELETE FROM audit_open WHERE id = :id RETURNING fold_key, count, record", id=entry_id
    )


def _entry(record: Record, key: str | None, count: int) -> dict[str, Any]:
    return {
        "id": record.id,
        "fold_key": key,
        "since": record.at,
        "count": count,
        "record": _text(record),
    }


def _conditions(search: Search) -> tuple[str, dict[str, Any]]:
    """What to look for, as the condition of a query and its values."""
    found = ["1 = 1"]
    values: dict[str, Any] = {}
    if search.actor is not None:
        found.append("actor = :actor")
        values["actor"] = search.actor
    if search.action is not None:
        found.append(
            "(action = :action OR action LIKE :noun ESCAPE '/' OR action LIKE :verb ESCAPE '/')"
        )
        # In lower case, as all of them are: to LIKE of SQLite case makes no difference, to that of Postgres it does.
        action = search.action.lower()
        part = re.sub(r"[%_/]", r"/\g<0>", action)
        values |= {"action": action, "noun": f"{part}.%", "verb": f"%.{part}"}
    if search.subject is not None:
        found.append("(subject = :subject OR also = :subject)")
        values["subject"] = search.subject
    if search.since is not None:
        found.append("at >= :since")
        values["since"] = search.since
    if search.until is not None:
        found.append("at < :until")
        values["until"] = search.until
    if search.before is not None:
        found.append("seq < :before")
        values["before"] = search.before
    return " AND ".join(found), values


def _text(record: Record) -> str:
    return json.dumps(record.to_dict(), ensure_ascii=True)


def _link(row: Row) -> Link:
    values = {name: row[name] for name in _NAMES}
    # A record somebody has spoilt must still be shown: `verify` says that it was changed.
    try:
        detail = json.loads(row["detail"])
    except ValueError:
        detail = {"unreadable": row["detail"]}
    record = Record(**values, detail=detail if isinstance(detail, dict) else {"unreadable": detail})
    return Link(row["seq"], record, row["previous"], row["hash"])


def _counted(row: Row) -> Record:
    values = json.loads(row["record"])
    return Record(**(values | {"detail": values["detail"] | {"count": row["count"]}}))


def _ended(row: Row) -> Record:
    """The record of an entry that nobody will close."""
    if row["fold_key"] is not None:
        return _counted(row)
    values = json.loads(row["record"])
    note = {"note": OUTCOME_UNKNOWN}
    return Record(**(values | {"outcome": "failed", "detail": values["detail"] | note}))
