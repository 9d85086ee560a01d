"""Changes of a room other than new messages: one row for each object that changed, with the rev of its last change.

`rev` counts the changes of a room. Taking the next rev locks the room's row, so revs are committed in order.
Posting a message takes none.
"""

import time
from typing import Final, Literal

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.database.housekeeping import note_forgotten

Kind = Literal["message", "room", "member"]

NEXT_REV: Final = "rev = coalesce(rev, 0) + 1"
"""For an UPDATE of the room that is made anyway."""
KEPT_PER_ROOM: Final = 100_000
_TRIMMED_EVERY: Final = 500

_OF_ROOM = "project_id = $1 AND room_id = $2"


def next_rev(pid: str, room_id: str) -> Steps[int]:
    """Take the next rev of an existing room."""
    rows = yield Query(
        f"UPDATE rooms SET {NEXT_REV} WHERE project_id = $1 AND id = $2 RETURNING rev",
        pid,
        room_id,
    )
    return int(rows[0][0])


def record(
    pid: str, room_id: str, rev: int, kind: Kind, object_id: str, *, seq: int | None = None
) -> Steps[None]:
    """Record *rev* as the last change of an object: a message (its id and *seq*), a member (the user id) or the room ("")."""
    yield Query(
        "INSERT INTO changes (project_id, room_id, rev, kind, object, seq, changed_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, room_id, kind, object)"
        " DO UPDATE SET rev = excluded.rev, changed_at = excluded.changed_at",
        pid,
        room_id,
        rev,
        kind,
        object_id,
        seq,
        int(time.time()),
    )
    if rev % _TRIMMED_EVERY == 0:
        yield from _trim(pid, room_id, KEPT_PER_ROOM)


def _trim(pid: str, room_id: str, kept: int) -> Steps[None]:
    """Delete all but the newest *kept* changes of the room."""
    newest_too_many = yield Query(
        f"SELECT rev FROM changes WHERE {_OF_ROOM} ORDER BY rev DESC LIMIT 1 OFFSET $3",
        pid,
        room_id,
        kept,
    )
    if newest_too_many:
        rev = newest_too_many[0][0]
        yield Query(f"DELETE FROM changes WHERE {_OF_ROOM} AND rev <= $3", pid, room_id, rev)
        yield from note_forgotten(pid, room_id, rev)
