"""Fill a Chat API database with many users, rooms and messages in minutes, to see what grows with them.

`python scripts/seed.py --database sqlite:///./big.db --users 1000000 --messages 1000000` makes a project of its own and
prints, as JSON, its API key, the rooms and some users. Nothing should be serving the database meanwhile.
Rows are written past the rules, in bulk, as those would have written them.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.database.open import open_database

NOW = "2026-01-01T00:00:00.000Z"
TEXT = "See you at noon? I will bring the drawings and the coffee."
_BATCH = 50_000


@dataclass(frozen=True)
class Sizes:
    """How much of everything: *messages* in one room, *members* in it, *joined* rooms of one user.

    *changes*: how many of that room's first messages were changed.
    """

    users: int = 1000
    messages: int = 1000
    members: int = 200
    joined: int = 10
    changes: int = 0


@dataclass(frozen=True)
class Seeded:
    """What was made, and how to reach it.

    The user is in every room, the member in the big one alone, the other in none or just that one.
    """

    project_id: str
    api_key: str
    room_id: str
    user_id: str
    member_id: str
    other_id: str
    sizes: Sizes
    seconds: float


class Sink(Protocol):
    """Takes rows of one table, many at once."""

    async def insert(
        self, table: str, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]
    ) -> None:
        """Write all *rows*."""
        ...

    async def finish(self, project_id: str, counts: dict[str, int]) -> None:
        """Set the project's counters, and close."""
        ...


class SqliteSink:
    """Writes without waiting for the disk: after a crash, seed a new database."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA cache_size = -400000")

    async def insert(
        self, table: str, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]
    ) -> None:
        marks = ", ".join("?" * len(columns))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - our own names
        self._db.execute("COMMIT")

    async def finish(self, project_id: str, counts: dict[str, int]) -> None:
        self._db.execute(
            "UPDATE projects SET user_count = ?, room_count = ?, open_room_count = ? WHERE id = ?",
            (counts["users"], counts["rooms"], counts["rooms"], project_id),
        )
        # No ANALYZE: the server has its own word on statistics.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()


class PostgresSink:
    """COPY, fifty thousand rows at a time."""

    def __init__(self, connection: Any) -> None:
        self._db = connection

    async def insert(
        self, table: str, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]
    ) -> None:
        while batch := [row for row, _ in zip(rows, range(_BATCH), strict=False)]:
            await self._db.copy_records_to_table(table, records=batch, columns=columns)

    async def finish(self, project_id: str, counts: dict[str, int]) -> None:
        await self._db.execute(
            "UPDATE projects SET user_count = $1, room_count = $2, open_room_count = $2 WHERE id = $3",
            counts["users"],
            counts["rooms"],
            project_id,
        )
        await self._db.execute("ANALYZE")
        await self._db.close()


def _id(kind: int, number: int) -> str:
    """A UUIDv7 in shape and order; *kind* keeps users, rooms and messages apart."""
    return f"01941f29-7c00-7000-8{kind:03x}-{number:012x}"


def _users(project_id: str, count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        name = f"seed{number}"
        yield project_id, _id(1, number), name, name, f"Seed {number}", NOW, NOW


def _rooms(project_id: str, sizes: Sizes) -> Iterator[tuple[Any, ...]]:
    for number in range(sizes.joined):
        big = number == 0
        messages, members = (sizes.messages, min(sizes.members, sizes.users)) if big else (1, 1)
        yield (
            project_id,
            _id(2, number),
            f"Room {number}",
            False,
            _id(1, 0),
            members,
            messages,
            NOW,
            NOW,
            NOW,
            sizes.changes if big and sizes.changes else None,
        )


def _members(project_id: str, sizes: Sizes) -> Iterator[tuple[Any, ...]]:
    for number in range(min(sizes.members, sizes.users)):
        yield project_id, _id(2, 0), _id(1, number), "member" if number else "owner", NOW, 0
    for number in range(1, sizes.joined):
        yield project_id, _id(2, number), _id(1, 0), "owner", NOW, 0


def _messages(project_id: str, sizes: Sizes) -> Iterator[tuple[Any, ...]]:
    authors = min(sizes.members, sizes.users)
    for number in range(sizes.messages):
        author = _id(1, number % authors)
        yield (
            project_id,
            _id(2, 0),
            number + 1,
            _id(3, number),
            author,
            number // authors + 1,
            TEXT,
            NOW,
            number + 1 if number < sizes.changes else None,
        )
    for number in range(1, sizes.joined):
        message = _id(3, sizes.messages + number)
        yield project_id, _id(2, number), 1, message, _id(1, 0), 1, TEXT, NOW, None


def _changes(project_id: str, sizes: Sizes) -> Iterator[tuple[Any, ...]]:
    for number in range(sizes.changes):
        rev = seq = number + 1
        yield project_id, _id(2, 0), rev, "message", _id(3, number), seq, int(time.time())


async def seed(database_url: str, sizes: Sizes) -> Seeded:
    """Make a project of these sizes in the database at *database_url*, which is migrated first."""
    began = time.monotonic()
    database = await open_database(database_url)
    try:
        project_id, api_key = await ApiKeys(database).create_project("Seeded")
    finally:
        await database.close()
    sink = await _open_sink(database_url)
    await sink.insert(
        "users",
        (
            "project_id",
            "id",
            "external_user_id",
            "username",
            "display_name",
            "created_at",
            "updated_at",
        ),
        _users(project_id, sizes.users),
    )
    await sink.insert(
        "rooms",
        (
            "project_id",
            "id",
            "name",
            "private",
            "created_by",
            "member_count",
            "last_seq",
            "last_message_at",
            "created_at",
            "updated_at",
            "rev",
        ),
        _rooms(project_id, sizes),
    )
    await sink.insert(
        "members",
        ("project_id", "room_id", "user_id", "role", "joined_at", "last_read_seq"),
        _members(project_id, sizes),
    )
    await sink.insert(
        "messages",
        (
            "project_id",
            "room_id",
            "seq",
            "id",
            "user_id",
            "author_seq",
            "content",
            "created_at",
            "rev",
        ),
        _messages(project_id, sizes),
    )
    await sink.insert(
        "changes",
        ("project_id", "room_id", "rev", "kind", "object", "seq", "changed_at"),
        _changes(project_id, sizes),
    )
    await sink.finish(project_id, {"users": sizes.users, "rooms": sizes.joined})
    took = round(time.monotonic() - began, 1)
    other = _id(1, sizes.users - 1)
    return Seeded(project_id, api_key, _id(2, 0), _id(1, 0), _id(1, 1), other, sizes, took)


async def _open_sink(database_url: str) -> Sink:
    if database_url.startswith("sqlite:///"):
        return SqliteSink(database_url.removeprefix("sqlite:///"))
    import asyncpg

    return PostgresSink(await asyncpg.connect(database_url))


def main() -> None:
    """Read the sizes, seed, print what was made; standard output holds the JSON alone."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True, metavar="URL")
    for name, size in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    arguments = vars(parser.parse_args())
    made = asyncio.run(seed(arguments.pop("database"), Sizes(**arguments)))
    print(json.dumps(asdict(made), indent=1))


if __name__ == "__main__":
    main()
