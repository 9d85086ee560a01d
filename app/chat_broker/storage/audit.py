"""The audit log in the database: a chain of records, its head, and pending entries."""

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from chat_broker.admin.audit_log import (
    OUTCOME_UNKNOWN,
    AuditRecord,
    AuditSearch,
    ChainedRecord,
    chain_record,
)
from chat_broker_kit.database.transactions import Database, Query, Rows, Steps, all_rows, named

_NAMES = ("id", "at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id")
# `also` is for searching only: `detail` contains it too.
_CHAIN = ("seq", *_NAMES, "detail", "previous", "hash", "also")
_COLUMNS = ", ".join(_CHAIN)

# The table has one row. Each append updates it first, so that appends wait for each other; and records cut off the
# end of the chain leave a gap before the next one.
_NEXT = "UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash"
_APPEND = f"INSERT INTO audit ({_COLUMNS}) VALUES (:{', :'.join(_CHAIN)})"
_OPEN = (
    "INSERT INTO audit_open (id, fold_key, since, count, record)"
    " VALUES (:id, :fold_key, :since, :count, :record)"
)
_FOLD = f"{_OPEN} ON CONFLICT (fold_key) DO UPDATE SET count = audit_open.count + excluded.count"
_OVERDUE = (
    "SELECT id FROM audit_open WHERE (fold_key IS NULL AND since < :requests_before)"
    " OR (fold_key IS NOT NULL AND since < :folds_before) ORDER BY since LIMIT 500"
)


class SqlAudit:
    """The tables of the chain and of pending entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, record: AuditRecord) -> None:
        await self._database.write(partial(_append, record))

    async def find(self, search: AuditSearch) -> list[ChainedRecord]:
        where, values = _conditions(search)
        query = f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY seq DESC LIMIT :limit"
        rows = await self._rows(named(query, limit=search.limit, **values))
        return [_link(row) for row in rows]

    async def after(
        self,
        seq: int,
        limit: int,
        search: AuditSearch = AuditSearch(),  # noqa: B008 - frozen
    ) -> list[ChainedRecord]:
        where, values = _conditions(search)
        query = (
            f"SELECT {_COLUMNS} FROM audit WHERE seq > :seq AND {where} ORDER BY seq LIMIT :limit"
        )
        rows = await self._rows(named(query, seq=seq, limit=limit, **values))
        return [_link(row) for row in rows]

    async def length(self) -> int:
        ((seq,),) = await self._rows(Query("SELECT seq FROM audit_head"))
        return int(seq)

    async def _rows(self, query: Query) -> Rows:
        return await self._database.read(partial(all_rows, query), slow=True)

    async def open(self, record: AuditRecord) -> None:
        query = named(_OPEN, **_entry(record, None, 1))
        await self._database.write(partial(all_rows, query))

    async def touch(self, ids: Sequence[str], now: str) -> None:

        def transaction() -> Steps[None]:
            for entry_id in ids:
                yield Query("UPDATE audit_open SET since = $1 WHERE id = $2", now, entry_id)

        await self._database.write(transaction)

    async def close(self, record: AuditRecord) -> None:

        def transaction() -> Steps[None]:
            if (yield from _take(record.id)):
                yield from _append(record)

        await self._database.write(transaction)

    async def fold(self, key: str, record: AuditRecord, count: int) -> None:
        query = named(_FOLD, **_entry(record, key, count))
        await self._database.write(partial(all_rows, query))

    async def folds(self) -> list[AuditRecord]:
        query = Query(
            "SELECT record, count FROM audit_open WHERE fold_key IS NOT NULL ORDER BY since DESC"
        )
        return [_counted(record, count) for record, count in await self._rows(query)]

    async def close_abandoned(self, *, requests_before: str, folds_before: str) -> int:
        overdue = await self._rows(
            named(_OVERDUE, requests_before=requests_before, folds_before=folds_before)
        )
        closed = 0
        for (entry_id,) in overdue:
            # One transaction for each: only one replica gets the row.
            closed += await self._database.write(partial(_close, entry_id))
        return closed


def _append(record: AuditRecord) -> Steps[None]:
    ((seq, previous),) = yield Query(_NEXT)
    link = chain_record(seq, record, previous)
    yield named(
        _APPEND,
        **{name: getattr(record, name) for name in _NAMES},
        seq=seq,
        detail=json.dumps(record.detail, ensure_ascii=True),
        previous=previous,
        hash=link.hash,
        also=record.also,
    )
    yield Query("UPDATE audit_head SET hash = $1", link.hash)


def _take(entry_id: str) -> Steps[Rows]:
    """Delete a pending entry. Returns its (fold key, count, record), or no row if another replica was first."""
    return (
        yield Query(
            "DELETE FROM audit_open WHERE id = $1 RETURNING fold_key, count, record", entry_id
        )
    )


def _close(entry_id: str) -> Steps[int]:
    """Append the record of an entry that was never closed. Returns the number of records appended."""
    entries = yield from _take(entry_id)
    for fold_key, count, record in entries:
        yield from _append(_ended(fold_key, count, record))
    return len(entries)


def _entry(record: AuditRecord, key: str | None, count: int) -> dict[str, Any]:
    return {
        "id": record.id,
        "fold_key": key,
        "since": record.at,
        "count": count,
        "record": _text(record),
    }


def _conditions(search: AuditSearch) -> tuple[str, dict[str, Any]]:
    """*search* as the condition of a query, and its values."""
    conditions = ["1 = 1"]
    values: dict[str, Any] = {}
    if search.actor is not None:
        conditions.append("actor = :actor")
        values["actor"] = search.actor
    if search.action is not None:
        conditions.append(
            "(action = :action OR action LIKE :noun ESCAPE '/' OR action LIKE :verb ESCAPE '/')"
        )
        # Actions are lower case. LIKE ignores case in SQLite, but not in Postgres.
        action = search.action.lower()
        part = re.sub(r"[%_/]", r"/\g<0>", action)
        values |= {"action": action, "noun": f"{part}.%", "verb": f"%.{part}"}
    if search.subject is not None:
        conditions.append("(subject = :subject OR also = :subject)")
        values["subject"] = search.subject
    if search.since is not None:
        conditions.append("at >= :since")
        values["since"] = search.since
    if search.until is not None:
        conditions.append("at < :until")
        values["until"] = search.until
    if search.before is not None:
        conditions.append("seq < :before")
        values["before"] = search.before
    return " AND ".join(conditions), values


def _text(record: AuditRecord) -> str:
    return json.dumps(record.to_dict(), ensure_ascii=True)


def _link(row: Sequence[Any]) -> ChainedRecord:
    columns = dict(zip(_CHAIN, row, strict=True))
    values = {name: columns[name] for name in _NAMES}
    # A damaged record must still be shown: `verify` reports the change.
    try:
        detail = json.loads(columns["detail"])
    except ValueError:
        detail = {"unreadable": columns["detail"]}
    record = AuditRecord(
        **values, detail=detail if isinstance(detail, dict) else {"unreadable": detail}
    )
    return ChainedRecord(columns["seq"], record, columns["previous"], columns["hash"])


def _counted(record: str, count: int) -> AuditRecord:
    values = json.loads(record)
    return AuditRecord(**(values | {"detail": values["detail"] | {"count": count}}))


def _ended(fold_key: str | None, count: int, record: str) -> AuditRecord:
    """The record of an entry that was never closed."""
    if fold_key is not None:
        return _counted(record, count)
    values = json.loads(record)
    note = {"note": OUTCOME_UNKNOWN}
    return AuditRecord(**(values | {"outcome": "failed", "detail": values["detail"] | note}))
