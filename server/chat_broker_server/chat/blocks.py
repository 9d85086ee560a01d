"""Transactions about blocks: users whom a user does not want to hear of.

A block hides nobody from a room: pages of messages are shared by all readers. It leaves the messages of the blocked user
out of what is unread, and keeps direct rooms of the two from being made and posted to. The blocked user is not told.
"""

from collections.abc import Iterable
from typing import Final

from chat_broker_kit.database.transactions import Query, Steps, Undo
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import Page, PublicUser
from chat_broker_server.errors import BadInput, Conflict, Forbidden, NotFound

MOST: Final = 1000
"""Users that one user may block."""

MANY: Final = 20
"""More blocks than this make what is unread in many rooms slow to work out."""

BLOCKED: Final = (
    "EXISTS (SELECT 1 FROM blocks b WHERE b.project_id = {reader}.project_id"
    " AND b.user_id = {reader}.user_id AND b.blocked_id = {author}.user_id)"
)
"""The SQL condition that the member of the row `{reader}` blocks the user of the row `{author}`."""

IN_DIRECT_ROOM: Final = (
    "(EXISTS (SELECT 1 FROM members o JOIN blocks b ON b.project_id = o.project_id"
    " AND b.user_id = o.user_id AND b.blocked_id = {author}"
    " WHERE o.project_id = $1 AND o.room_id = $2)"
    " OR EXISTS (SELECT 1 FROM members o JOIN blocks b ON b.project_id = o.project_id"
    " AND b.user_id = {author} AND b.blocked_id = o.user_id"
    " WHERE o.project_id = $1 AND o.room_id = $2))"
)
"""The SQL condition that one of the members of the room $2 blocks the member {author}, or the other way round."""

_OF_USER = "project_id = $1 AND user_id = $2"
_PAIR = f"{_OF_USER} AND blocked_id = $3"
_GROWN = (
    "UPDATE users SET version = coalesce(version, 0) + 1"
    " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING version"
)
# A block of a deleted user stays, so that what they have said does not become unread. It is not listed.
# A subquery and no join: before Postgres has counted the rows of a new table, it joins two as if each had one.
_LISTED = (
    "blocks b WHERE b.project_id = $1 AND b.user_id = $2 AND (SELECT u.deleted_at IS NULL"
    " FROM users u WHERE u.project_id = b.project_id AND u.id = b.blocked_id)"
)
_PAGE = (
    "SELECT u.id, u.username, u.display_name, u.avatar_url"
    f" FROM (SELECT b.blocked_id FROM {_LISTED} ORDER BY b.blocked_id LIMIT $3 OFFSET $4) p"
    " JOIN users u ON u.project_id = $1 AND u.id = p.blocked_id ORDER BY p.blocked_id"
)


def block(pid: str, user_id: str, blocked_id: str) -> Steps[int | None]:
    """Block a user. Returns the new version of the user who blocks, see `version_of`; None if nothing has changed.

    Raises NotFound for no such user, Conflict `too_many_blocks`, and BadInput for the user themself.
    """
    if user_id == blocked_id:
        raise BadInput.field("user", "is the user who blocks: name another one")
    # This locks the user until the COMMIT, so that two blocks at once do not exceed the limit.
    version = yield from _raise_version(pid, user_id)
    if (yield Query(f"SELECT 1 FROM blocks WHERE {_PAIR}", pid, user_id, blocked_id)):
        raise Undo(None)
    count = yield Query(f"SELECT count(*) FROM {_LISTED}", pid, user_id)
    if count[0][0] >= MOST:
        raise Conflict(
            "too_many_blocks", f"A user blocks {MOST} users at most: unblock one of them first."
        )
    added = yield Query(
        "INSERT INTO blocks (project_id, user_id, blocked_id, created_at)"
        " SELECT project_id, $2, id, $4 FROM users"
        " WHERE project_id = $1 AND id = $3 AND deleted_at IS NULL FOR SHARE RETURNING 1",
        pid,
        user_id,
        blocked_id,
        timestamp(),
    )
    if not added:
        raise NotFound.user()
    return version


def unblock(pid: str, user_id: str, blocked_id: str) -> Steps[int | None]:
    """End a block. Returns as `block`. Raises NotFound for no such user who blocks."""
    version = yield from _raise_version(pid, user_id)
    ended = yield Query(
        f"DELETE FROM blocks WHERE {_PAIR} RETURNING 1",
        pid,
        user_id,
        blocked_id,
    )
    if not ended:
        raise Undo(None)
    return version


def page(pid: str, user_id: str, number: int, limit: int) -> Steps[Page]:
    """A page of the users whom the user blocks, oldest accounts first. Raises NotFound."""
    yield from version_of(pid, user_id)
    total = yield Query(f"SELECT count(*) FROM {_LISTED}", pid, user_id)
    rows = yield Query(
        _PAGE,
        pid,
        user_id,
        limit,
        (number - 1) * limit,
    )
    return Page.of([PublicUser(*row) for row in rows], number, limit, total[0][0])


def version_of(pid: str, user_id: str) -> Steps[int]:
    """How often something has changed that changes `mine` of all rooms of the user. Raises NotFound."""
    rows = yield Query(
        "SELECT coalesce(version, 0) FROM users"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        user_id,
    )
    if not rows:
        raise NotFound.user()
    return int(rows[0][0])


def are_many(pid: str, user_id: str) -> Steps[bool]:
    rows = yield Query(f"SELECT 1 FROM blocks WHERE {_OF_USER} LIMIT 1 OFFSET {MANY}", pid, user_id)
    return bool(rows)


def end_all(pid: str, user_id: str) -> Steps[None]:
    """End all blocks of a user who is being deleted."""
    yield Query(f"DELETE FROM blocks WHERE {_OF_USER}", pid, user_id)


def between(pid: str, user_id: str, other_id: str) -> Steps[bool]:
    """Whether one of the two blocks the other."""
    rows = yield Query(
        f"SELECT 1 FROM blocks WHERE {_PAIR} UNION ALL SELECT 1 FROM blocks"
        " WHERE project_id = $1 AND user_id = $3 AND blocked_id = $2",
        pid,
        user_id,
        other_id,
    )
    return bool(rows)


def refuse_blocked(pid: str, user_id: str, other_ids: Iterable[str]) -> Steps[None]:
    """Raise Forbidden `blocked` if the user blocks one of the others, or one of them the user."""
    for other_id in other_ids:
        if (yield from between(pid, user_id, other_id)):
            raise blocked()


def in_direct_room(pid: str, room_id: str, user_id: str) -> Steps[bool]:
    """Whether this is a direct room of two of whom one blocks the other. *user_id*: one of them."""
    rows = yield Query(
        "SELECT 1 FROM rooms WHERE project_id = $1 AND id = $2 AND kind = 'direct'"
        f" AND member_count = 2 AND {IN_DIRECT_ROOM.format(author='$3')}",
        pid,
        room_id,
        user_id,
    )
    return bool(rows)


def refuse_in_direct_room(pid: str, room_id: str, user_id: str) -> Steps[None]:
    """Raise Forbidden `blocked` where `in_direct_room` holds."""
    if (yield from in_direct_room(pid, room_id, user_id)):
        raise blocked()


def blocked() -> Forbidden:
    """The error of a direct room that may not be made or posted to. It does not tell who blocks whom."""
    return Forbidden("blocked", "One of the users of this direct room blocks another.")


def _raise_version(pid: str, user_id: str) -> Steps[int]:
    rows = yield Query(_GROWN, pid, user_id)
    if not rows:
        raise NotFound.user()
    return int(rows[0][0])
