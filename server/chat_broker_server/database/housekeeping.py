"""Removal of expired records and of the messages of deleted rooms.

A room may hold a million messages. Deleting them in one transaction would block all other writes for
seconds, so they are deleted in portions, with pauses for other writes.
"""

import asyncio
import time
from functools import partial

import structlog

from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_server.errors import ChatError
from chat_broker_server.observability.logs import bug

PAUSE_WHEN_DONE = 30.0
PAUSE_BETWEEN_PORTIONS = 0.05
PORTION = 500
CHANGES_KEPT = 30 * 24 * 3600

log = structlog.get_logger("chat_broker_server.database.housekeeping")


async def run_housekeeping(database: Database) -> None:
    """Remove old records until cancelled. Several processes may run it on one database."""
    while True:
        try:
            more = True
            while more:
                more = await database.write(partial(remove_portion, int(time.time())))
                await asyncio.sleep(PAUSE_BETWEEN_PORTIONS)
        except ChatError as error:
            log.info("housekeeping.later", reason=error.code)
        except Exception:  # noqa: BLE001 – a bug of ours is a 500; as text, since some log renderers show local variables
            bug(log, "housekeeping.failed")
        await asyncio.sleep(PAUSE_WHEN_DONE)


def remove_portion(now: int) -> Steps[bool]:
    """Remove one portion. True if there may be more to remove."""
    more = yield from _expired("idempotency", "project_id, scope, key", now)
    more |= yield from _expired("revoked_sessions", "project_id, user_id, session_id", now)
    more |= yield from _old_changes(now)
    more |= yield from _deleted_rooms()
    return more


def _expired(table: str, key: str, now: int) -> Steps[bool]:
    rows = yield Query(
        f"DELETE FROM {table} WHERE ({key}) IN"
        f" (SELECT {key} FROM {table} WHERE expires_at <= $1 LIMIT {PORTION}) RETURNING 1",
        now,
    )
    return len(rows) == PORTION


def _old_changes(now: int) -> Steps[bool]:
    """Remove old changes of one room. True if there may be more to remove."""
    before = now - CHANGES_KEPT
    oldest = yield Query(
        "SELECT project_id, room_id FROM changes WHERE changed_at < $1 ORDER BY changed_at LIMIT 1",
        before,
    )
    if not oldest:
        return False
    pid, room_id = oldest[0]
    # Locked, so that an object that changes meanwhile keeps its newer row.
    yield Query(
        "UPDATE rooms SET member_count = member_count WHERE project_id = $1 AND id = $2",
        pid,
        room_id,
    )
    deleted = yield Query(
        "DELETE FROM changes WHERE project_id = $1 AND room_id = $2 AND rev IN"
        " (SELECT rev FROM changes WHERE project_id = $1 AND room_id = $2"
        f" AND changed_at < $3 ORDER BY rev LIMIT {PORTION}) RETURNING rev",
        pid,
        room_id,
        before,
    )
    if deleted:
        yield from note_forgotten(pid, room_id, max(row[0] for row in deleted))
    return True


def note_forgotten(pid: str, room_id: str, rev: int) -> Steps[None]:
    """Note that changes up to *rev* are no longer kept: a client that knows less has to read the room again."""
    yield Query(
        "UPDATE rooms SET forgotten_rev = $3 WHERE project_id = $1 AND id = $2"
        " AND coalesce(forgotten_rev, 0) < $3",
        pid,
        room_id,
        rev,
    )


def _deleted_rooms() -> Steps[bool]:
    rooms = yield Query("SELECT project_id, id FROM rooms WHERE deleted_at IS NOT NULL LIMIT 1")
    if not rooms:
        return False
    pid, room_id = rooms[0]
    deleted = yield Query(
        "DELETE FROM messages WHERE project_id = $1 AND room_id = $2 AND seq IN"
        " (SELECT seq FROM messages WHERE project_id = $1 AND room_id = $2"
        f" ORDER BY seq LIMIT {PORTION}) RETURNING 1",
        pid,
        room_id,
    )
    deleted = deleted or (
        yield Query(
            "DELETE FROM changes WHERE project_id = $1 AND room_id = $2 AND rev IN"
            " (SELECT rev FROM changes WHERE project_id = $1 AND room_id = $2"
            f" ORDER BY rev LIMIT {PORTION}) RETURNING 1",
            pid,
            room_id,
        )
    )
    deleted = deleted or (
        yield Query(
            "DELETE FROM mentions WHERE project_id = $1 AND room_id = $2 AND seq IN"
            " (SELECT seq FROM mentions WHERE project_id = $1 AND room_id = $2"
            f" ORDER BY seq LIMIT {PORTION}) RETURNING 1",
            pid,
            room_id,
        )
    )
    for table in ("reactions", "reaction_counts"):
        deleted = deleted or (
            yield Query(
                f"DELETE FROM {table} WHERE project_id = $1 AND room_id = $2 AND seq IN"
                f" (SELECT seq FROM {table} WHERE project_id = $1 AND room_id = $2"
                f" ORDER BY seq LIMIT {PORTION}) RETURNING 1",
                pid,
                room_id,
            )
        )
    if not deleted:
        yield Query("DELETE FROM deletions WHERE project_id = $1 AND room_id = $2", pid, room_id)
        yield Query("DELETE FROM rooms WHERE project_id = $1 AND id = $2", pid, room_id)
    return True
