"""The tables of links and of processes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial

from chat_broker.chat.ports import Link
from chat_broker_kit.database.transactions import (
    Database,
    Query,
    Rows,
    Steps,
    UniqueViolation,
    all_rows,
    first_row,
    named,
)

ALIVE_SECONDS = 15
BEAT_SECONDS = 5

_NAMES = [field.name for field in fields(Link)]
_FIND = (
    f"SELECT {', '.join(_NAMES)} FROM links WHERE project_id = $1 AND issuer = $2 AND subject = $3"
)
_ADD = f"INSERT INTO links ({', '.join(_NAMES)}) VALUES (:{', :'.join(_NAMES)})"
# A change writes only its own columns, and only if the link still has the same chat user: replicas may change it at once.
_SAME = (
    " WHERE project_id = :project_id AND issuer = :issuer AND subject = :subject"
    " AND user_id = :user_id"
)
_NOTE = {
    name: f"UPDATE links SET {name} = :{name}{_SAME}"
    for name in ("display_name", "email", "avatar_url")
}
_MOVE = (
    "UPDATE links SET user_id = :to, display_name = :display_name, email = :email,"
    " avatar_url = :avatar_url"
    f"{_SAME} RETURNING user_id"
)


class SqlLinks:
    """Links of principals to chat users, in a table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, project_id: str, issuer: str, subject: str) -> Link | None:
        query = Query(_FIND, project_id, issuer, subject)
        row = await self._database.read(partial(first_row, query))
        return None if row is None else Link(*row)

    async def add(self, link: Link) -> Link | None:
        """Store *link*, or return the principal's present one; None if the chat user belongs to another principal."""
        try:
            await self._database.write(partial(all_rows, named(_ADD, **asdict(link))))
        except UniqueViolation:
            return await self.find(link.project_id, link.issuer, link.subject)
        return link

    async def note(self, link: Link, changes: Mapping[str, str]) -> None:

        def transaction() -> Steps[None]:
            for name, value in changes.items():
                yield named(_NOTE[name], **{**asdict(link), name: value})

        await self._database.write(transaction)

    async def move(self, link: Link, *, to: Link) -> Link | None:
        values = {**asdict(to), "user_id": link.user_id, "to": to.user_id}
        try:
            moved = await self._database.write(partial(all_rows, named(_MOVE, **values)))
        except UniqueViolation:
            return None
        return to if moved else await self.find(link.project_id, link.issuer, link.subject)


class SqlHeartbeat:
    """One row for each process. Another process is alive if its row changes: a killed process leaves its row behind."""

    def __init__(
        self,
        database: Database,
        process_id: str,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._id = process_id
        self._now = now
        self._clock = clock
        self._seen: dict[str, int] | None = None
        self._moved: dict[str, float] = {}

    async def beat(self) -> int:
        """Update this process's row. Returns the number of other live processes, and deletes very old rows.

        Another process counts from the second beat that this one sees, so clocks need not agree.
        """
        now = int(self._now())

        def transaction() -> Steps[Rows]:
            yield Query(
                "INSERT INTO processes (id, started_at, seen_at) VALUES ($1, $2, $2)"
                " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
                self._id,
                now,
            )
            rows = yield Query("SELECT id, seen_at FROM processes WHERE id != $1", self._id)
            yield Query("DELETE FROM processes WHERE seen_at < $1", now - 100 * ALIVE_SECONDS)
            return rows

        rows = await self._database.write(transaction)
        return self._living({process: int(seen_at) for process, seen_at in rows})

    def _living(self, seen: dict[str, int]) -> int:
        now, before = self._clock(), self._seen
        if before is not None:
            moved = [name for name, beat in seen.items() if before.get(name) != beat]
            self._moved |= dict.fromkeys(moved, now)
        self._seen = seen
        self._moved = {
            name: at
            for name, at in self._moved.items()
            if name in seen and now - at < ALIVE_SECONDS
        }
        return len(self._moved)

    async def stop(self) -> None:
        """Delete the row of this process: it is about to end."""
        query = Query("DELETE FROM processes WHERE id = $1", self._id)
        await self._database.write(partial(all_rows, query))
