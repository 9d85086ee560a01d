"""Reads the state of connected users and their rooms: memberships, and the last `seq` of rooms."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from chat_broker_kit.database.transactions import Database, Query, Steps

_CHUNK = 50


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Lists of _CHUNK values each, the last one padded, so that there is one prepared statement."""
    unique = sorted(set(values))
    for at in range(0, len(unique), _CHUNK):
        chunk = unique[at : at + _CHUNK]
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
    pairs: set[tuple[str, str]] = set()
    for chunk in _chunks(user_ids):

        def steps(chunk: list[str] = chunk) -> Steps[set[tuple[str, str]]]:
            rows = yield Query(_MEMBERSHIPS, pid, *chunk)
            return {(row[0], row[1]) for row in rows}

        pairs |= await database.read(steps)
        await asyncio.sleep(0)  # SQLite reads do not yield to other tasks
    return pairs


async def last_seqs(database: Database, pid: str, room_ids: Sequence[str]) -> dict[str, int]:
    """The last `seq` of each of these rooms; deleted rooms are left out."""
    seqs: dict[str, int] = {}
    for chunk in _chunks(room_ids):

        def steps(chunk: list[str] = chunk) -> Steps[dict[str, int]]:
            rows = yield Query(_LAST_SEQS, pid, *chunk)
            return {row[0]: row[1] for row in rows}

        seqs.update(await database.read(steps))
        await asyncio.sleep(0)
    return seqs
