"""The audit trail in the database: a chain of records, its head, and the entries still open."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import OUTCOME_UNKNOWN, Link, Record, Search, bind
from app.state.database import Database
from app.state.tables import metadata

chain = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("at", String(32), nullable=False, index=True),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("ip", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    # for searching only; what it says is in `detail` too
    Column("also", Text),
    Index("audit_actor", "actor", "seq"),
    Index("audit_action", "action", "seq"),
    Index("audit_subject", "subject", "seq"),
    Index("audit_also", "also", "seq"),
)

# One row. Appending raises it first, so that appends queue up behind each other; and what is cut off
# the end of the chain leaves a gap before the next record.
head = Table(
    "audit_head",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

entries = Table(
    "audit_open",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("fold_key", String(128), unique=True),
    Column("since", String(32), nullable=False, index=True),
    Column("count", Integer, nullable=False),
    Column("record", Text, nullable=False),
)

_COLUMNS = ("id", "at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id")
_FOLD = text(
    "INSERT INTO audit_open (id, fold_key, since, count, record)"
    " VALUES (:id, :fold_key, :since, :count, :record)"
    " ON CONFLICT (fold_key) DO UPDATE SET count = audit_open.count + excluded.count"
)


class SqlAudit:
    """The chain and the open entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what is final --------------------------------------------------------------------------

    async def append(self, record: Record) -> None:
        """See Chain."""
        async with self._database.write() as connection:
            await _append(connection, record)

    async def find(self, search: Search) -> list[Link]:
        """See Chain."""
        query = select(chain).where(*_conditions(search)).order_by(chain.c.seq.desc())
        async with self._database.read() as connection:
            return [_link(row) for row in await connection.execute(query.limit(search.limit))]

    async def after(self, seq: int, limit: int, search: Search = Search()) -> list[Link]:  # noqa: B008 - frozen
        """See Chain."""
        query = select(chain).where(chain.c.seq > seq, *_conditions(search)).order_by(chain.c.seq)
        async with self._database.read() as connection:
            return [_link(row) for row in await connection.execute(query.limit(limit))]

    async def length(self) -> int:
        """See Chain."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(head.c.seq))).scalar_one())

    # -- what is not ----------------------------------------------------------------------------

    async def open(self, record: Record) -> None:
        """See OpenEntries."""
        row = {"id": record.id, "since": record.at, "count": 1, "record": _text(record)}
        async with self._database.write() as connection:
            await connection.execute(insert(entries).values(**row))

    async def touch(self, ids: Sequence[str], now: str) -> None:
        """See OpenEntries."""
        async with self._database.write() as connection:
            await connection.execute(update(entries).where(entries.c.id.in_(ids)).values(since=now))

    async def close(self, record: Record) -> None:
        """See OpenEntries."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(entries).where(entries.c.id == record.id))
            if gone.rowcount:
                await _append(connection, record)

    async def fold(self, key: str, record: Record, count: int) -> None:
        """See OpenEntries."""
        row = {
            "id": record.id,
            "fold_key": key,
            "since": record.at,
            "count": count,
            "record": _text(record),
        }
        async with self._database.write() as connection:
            await connection.execute(_FOLD, row)

    async def folds(self) -> list[Record]:
        """See OpenEntries."""
        query = (
            select(entries).where(entries.c.fold_key.is_not(None)).order_by(entries.c.since.desc())
        )
        async with self._database.read() as connection:
            return [_counted(row) for row in await connection.execute(query)]

    async def close_overdue(self, *, calls_before: str, folds_before: str) -> int:
        """See OpenEntries."""
        overdue = or_(
            entries.c.fold_key.is_(None) & (entries.c.since < calls_before),
            entries.c.fold_key.is_not(None) & (entries.c.since < folds_before),
        )
        query = select(entries.c.id).where(overdue).order_by(entries.c.since).limit(500)
        async with self._database.read() as connection:
            ids = (await connection.execute(query)).scalars().all()
        closed = 0
        for one in ids:
            # A transaction each: another replica may be doing the same, and only one gets the row.
            async with self._database.write() as connection:
                found = await connection.execute(
                    delete(entries).where(entries.c.id == one).returning(*entries.c)
                )
                if (row := found.first()) is not None:
                    await _append(connection, _ended(row))
                    closed += 1
        return closed


async def _append(connection: AsyncConnection, record: Record) -> None:
    raised = await connection.execute(
        update(head).values(seq=head.c.seq + 1).returning(head.c.seq, head.c.hash)
    )
    seq, previous = raised.one()
    link = bind(seq, record, previous)
    values = {name: getattr(record, name) for name in _COLUMNS}
    await connection.execute(
        insert(chain).values(
            **values,
            seq=seq,
            detail=json.dumps(record.detail, ensure_ascii=True),
            previous=previous,
            hash=link.hash,
            also=record.also,
        )
    )
    await connection.execute(update(head).values(hash=link.hash))


def _conditions(search: Search) -> list[Any]:
    found: list[Any] = []
    if search.actor is not None:
        found.append(chain.c.actor == search.actor)
    if search.action is not None:
        noun, verb = search.action + ".", "." + search.action
        found.append(
            or_(
                chain.c.action == search.action,
                chain.c.action.startswith(noun, autoescape=True),
                chain.c.action.endswith(verb, autoescape=True),
            )
        )
    if search.subject is not None:
        found.append(or_(chain.c.subject == search.subject, chain.c.also == search.subject))
    if search.since is not None:
        found.append(chain.c.at >= search.since)
    if search.until is not None:
        found.append(chain.c.at < search.until)
    if search.before is not None:
        found.append(chain.c.seq < search.before)
    return found


def _text(record: Record) -> str:
    return json.dumps(record.to_dict(), ensure_ascii=True)


def _link(row: Row[Any]) -> Link:
    values = {name: getattr(row, name) for name in _COLUMNS}
    # A record somebody has spoilt must still be shown: `verify` says that it was changed.
    try:
        detail = json.loads(row.detail)
    except ValueError:
        detail = {"unreadable": row.detail}
    record = Record(**values, detail=detail if isinstance(detail, dict) else {"unreadable": detail})
    return Link(row.seq, record, row.previous, row.hash)


def _counted(row: Row[Any]) -> Record:
    values = json.loads(row.record)
    return Record(**(values | {"detail": values["detail"] | {"count": row.count}}))


def _ended(row: Row[Any]) -> Record:
    """The record of an entry that nobody will close."""
    if row.fold_key is not None:
        return _counted(row)
    values = json.loads(row.record)
    note = {"note": OUTCOME_UNKNOWN}
    return Record(**(values | {"outcome": "failed", "detail": values["detail"] | note}))
