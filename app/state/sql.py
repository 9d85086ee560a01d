"""What is kept in the database."""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from app.state.contract import Link
from app.state.database import Database
from app.state.tables import links, processes

ALIVE_SECONDS = 15
BEAT_SECONDS = 5


class SqlLinks:
    """Links in a table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, project_id: str, issuer: str, subject: str) -> Link | None:
        """The link of a principal."""
        question = sa.select(links).where(*_of(project_id, issuer, subject))
        async with self._database.read() as connection:
            row = (await connection.execute(question)).mappings().first()
        return None if row is None else Link(**row)

    async def add(self, link: Link) -> Link | None:
        """Keep *link* unless the principal has one; None if the chat user is another principal's."""
        try:
            async with self._database.write() as connection:
                await connection.execute(sa.insert(links).values(**_values(link)))
        except IntegrityError:
            return await self.find(link.project_id, link.issuer, link.subject)
        return link

    async def change(self, link: Link) -> None:
        """Replace the principal's link."""
        where = _of(link.project_id, link.issuer, link.subject)
        async with self._database.write() as connection:
            await connection.execute(sa.update(links).where(*where).values(**_values(link)))


def _of(project_id: str, issuer: str, subject: str) -> tuple[sa.ColumnElement[bool], ...]:
    table = links.c
    return table.project_id == project_id, table.issuer == issuer, table.subject == subject


def _values(link: Link) -> dict[str, Any]:
    return {name: getattr(link, name) for name in links.c.keys()}  # noqa: SIM118 - not a dict


class SqlHeartbeat:
    """A row per process."""

    def __init__(
        self, database: Database, process_id: str, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._id = process_id
        self._now = now

    async def beat(self) -> int:
        """Say that this process lives; answers how many others do. Forgets those long gone."""
        now = int(self._now())
        table = processes.c
        async with self._database.write() as connection:
            mine = sa.update(processes).where(table.id == self._id).values(seen_at=now)
            if not (await connection.execute(mine)).rowcount:
                row = {"id": self._id, "started_at": now, "seen_at": now}
                await connection.execute(sa.insert(processes).values(**row))
            old = table.seen_at < now - 100 * ALIVE_SECONDS
            await connection.execute(sa.delete(processes).where(old))
            others = sa.select(sa.func.count()).where(
                table.id != self._id, table.seen_at > now - ALIVE_SECONDS
            )
            return int(await connection.scalar(others) or 0)

    async def stop(self) -> None:
        """Take the row away."""
        async with self._database.write() as connection:
            await connection.execute(sa.delete(processes).where(processes.c.id == self._id))
