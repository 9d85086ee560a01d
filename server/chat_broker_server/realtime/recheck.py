"""What the database says about those who are connected: memberships, and how far rooms have come."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from chat_broker_kit.database.transactions import Database, Query, Steps

_CHUNK = 50


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Lists of one length each, so that databases see one statement."""
    waiting = sorted(set(values))
    for at in range(0, len(waiting), _CHUNK):
        chunk = waiting[at : at + _CHUNK]
        yield chunk + chunk[-1:] * (_CHUNK - len(chunk))


_MARKS = ", ".join(f"${number}" for number in range(2, _CHUNK + 2))
_MEMBERSHIPS = (
    f"SELECT user_id, room_id FROM members WHERE project_id = $1 AND user_id IN ({_MARKS})"  # noqa: S608  # only markers
)
_LAST_SEQS = f"SELECT id, last_seq FROM rooms WHERE project_id = $1 AND deleted_at IS NULL AND id IN ({_MARKS})"  # noqa: S608  # only markers


async def memberships(
    database: Database, pid: str, user_ids: Sequence[str]
) -> set[tuple[str, str]]:
    """All (user, room) memberships of these users."""
    found: set[tuple[str, str]] = set()
    for chunk in _chunks(user_ids):

        def steps(chunk: list[str] = chunk) -> Steps[set[tuple[str, str]]]:
            rows = yield Query(_MEMBERSHIPS, pid, *chunk)
            return {(row[0], row[1]) for row in rows}

        found |= await database.read(steps)
        await asyncio.sleep(0)  # SQLite answers without giving others a turn
    return found


async def last_seqs(database: Database, pid: str, room_ids: Sequence[str]) -> dict[str, int]:
    """The last message's place in each of these rooms that exists."""
    found: dict[str, int] = {}
    for chunk in _chunks(room_ids):

        def steps(chunk: list[str] = chunk) -> Steps[dict[str, int]]:
            rows = yield Query(_LAST_SEQS, pid, *chunk)
            return {row[0]: row[1] for row in rows}

        found.update(await database.read(steps))
        await asyncio.sleep(0)
    return found
