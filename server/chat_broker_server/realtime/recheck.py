"""Reads the state of connected users and their rooms: memberships, and the last `seq` of rooms."""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from chat_broker_kit.database.transactions import Database, Query, Rows, all_rows
from chat_broker_server.chat.members import SMALL
from chat_broker_server.chat.watched import Side

_CHUNK = 50
_MARKS = ", ".join(f"${number}" for number in range(2, _CHUNK + 2))
_MEMBERSHIPS = (
    "SELECT user_id, room_id, joined_at, coalesce(version, 0), coalesce(from_seq, 1) FROM members"  # noqa: S608  # only markers
    f" WHERE project_id = $1 AND user_id IN ({_MARKS})"
)
_VERSIONS = f"SELECT id, coalesce(version, 0) FROM users WHERE project_id = $1 AND id IN ({_MARKS})"  # noqa: S608  # only markers
_ROOMS = (
    f"SELECT r.id, r.last_seq, coalesce(r.rev, 0), r.private, {SMALL}, r.member_count FROM rooms r"  # noqa: S608  # only markers
    f" WHERE r.project_id = $1 AND r.deleted_at IS NULL AND r.id IN ({_MARKS})"
)


async def sides(
    database: Database, pid: str, user_ids: Iterable[str]
) -> dict[str, dict[str, Side]]:
    """The side of each of these users in each of their rooms."""
    found: dict[str, dict[str, Side]] = {user_id: {} for user_id in user_ids}
    for user_id, room_id, *side in await _read(database, _MEMBERSHIPS, pid, found):
        found[user_id][room_id] = Side(*side)
    return found


async def versions(database: Database, pid: str, user_ids: Iterable[str]) -> dict[str, int]:
    """Of each of these users the version of their own, see `chat/blocks.py`."""
    return {row[0]: row[1] for row in await _read(database, _VERSIONS, pid, user_ids)}


class RoomState(NamedTuple):
    last_seq: int
    rev: int
    private: bool
    small: bool
    members: int


async def rooms(database: Database, pid: str, room_ids: Iterable[str]) -> dict[str, RoomState]:
    """The state of each of these rooms; deleted rooms are left out."""
    rows = await _read(database, _ROOMS, pid, room_ids)
    return {row[0]: RoomState(row[1], row[2], bool(row[3]), bool(row[4]), row[5]) for row in rows}


async def _read(database: Database, sql: str, pid: str, values: Iterable[str]) -> Rows:
    rows: Rows = []
    for chunk in _chunks(values):
        rows = [*rows, *await database.read(partial(all_rows, Query(sql, pid, *chunk)))]
        await asyncio.sleep(0)  # SQLite reads do not yield to other tasks
    return rows


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Lists of _CHUNK values each, the last one padded, so that there is one prepared statement."""
    unique = sorted(set(values))
    for at in range(0, len(unique), _CHUNK):
        chunk = unique[at : at + _CHUNK]
        yield chunk + chunk[-1:] * (_CHUNK - len(chunk))
