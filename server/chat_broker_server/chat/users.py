"""Transactions about users."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps, UniqueViolation
from chat_broker_server.chat import blocks, idempotency, members
from chat_broker_server.chat.events import Noted
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.chat.models import (
    IdempotencyKey,
    Page,
    PublicUser,
    RoomUser,
    User,
    UserChanges,
    UserDraft,
)
from chat_broker_server.database.rows import (
    SET_UPDATED_AT,
    assignments,
    changed_columns,
    contains,
    folded,
    like,
    metadata_of,
    metadata_text,
)
from chat_broker_server.errors import Conflict, NotFound

COLUMNS = (
    "id, project_id, external_user_id, username, display_name, email, avatar_url, status,"
    " metadata, created_at, updated_at"
)

# Usernames are unique without regard to case. Older databases may hold several users of one name: all but the first have
# `username_twin`, which is the name, a space and the id. It sorts directly behind the name, since no name has a space or "!".
KEY = "coalesce(username_twin, lower(username))"


_PUBLIC = ("username", "display_name", "avatar_url")


class UserFilter(NamedTuple):
    """Which users to list. None matches every user; *q* searches usernames, display names and external ids."""

    external_user_id: str | None = None
    username: str | None = None
    status: str | None = None
    q: str | None = None


def from_row(row: Sequence[Any]) -> User:
    """A user from `COLUMNS`."""
    values = list(row[:11])
    values[8] = {} if values[8] == "{}" else metadata_of(values[8])
    return User(*values)


def project_name(pid: str) -> Steps[str]:
    rows = yield Query("SELECT name FROM projects WHERE id = $1", pid)
    if not rows:
        raise NotFound.project()
    return str(rows[0][0])


def get(pid: str, user_id: str) -> Steps[User]:
    rows = yield Query(
        f"SELECT {COLUMNS} FROM users WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        user_id,
    )
    if not rows:
        raise NotFound.user()
    return from_row(rows[0])


def create(pid: str, draft: UserDraft, idempotency_key: IdempotencyKey | None) -> Steps[User]:
    yield from idempotency.claim(pid, idempotency_key)
    while True:
        rows = yield from _insert(pid, draft)
        if rows:
            break
        # If both are taken the external id is reported, whichever index the database checked first.
        yield from _refuse_taken_id(pid, draft.external_user_id)
        yield from _refuse_taken_name(pid, draft.username)
        # The other user was deleted meanwhile: insert again.
    yield Query("UPDATE projects SET user_count = user_count + 1 WHERE id = $1", pid)
    user = from_row(rows[0])
    yield from idempotency.store(pid, idempotency_key, user)
    return user


def _insert(pid: str, draft: UserDraft) -> Steps[Rows]:
    return (
        yield Query(
            "INSERT INTO users (project_id, id, external_user_id, username, display_name, email,"
            " avatar_url, metadata, created_at, updated_at, external_user_id_folded,"
            " display_name_folded) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11"
            # The index refuses a second of two concurrent inserts; this refuses the name of a twin.
            f" WHERE NOT EXISTS (SELECT 1 FROM users WHERE {_has_name(12)})"
            f" ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
            pid,
            new_id(),
            draft.external_user_id,
            draft.username,
            draft.display_name,
            draft.email,
            draft.avatar_url,
            metadata_text(draft.metadata),
            timestamp(),
            folded(draft.external_user_id),
            folded(draft.display_name),
            *_key_range(draft.username),
        )
    )


def _has_name(n: int) -> str:
    """The SQL condition that a user has the name whose `_key_range` is parameters *n* and *n* + 1."""
    return f"project_id = $1 AND deleted_at IS NULL AND {KEY} >= ${n} AND {KEY} < ${n + 1}"


def _key_range(username: str) -> tuple[str, str]:
    """The range of `KEY` (end excluded) of the users with this name in any case."""
    key = username.lower() if username.isascii() else username
    return key, f"{key}!"


def _taken(name: str) -> Conflict:
    return Conflict(f"{name}_taken", f"Another user has this {name}.")


def _refuse_taken_id(pid: str, external_user_id: str) -> Steps[None]:
    rows = yield Query(
        "SELECT 1 FROM users WHERE project_id = $1 AND external_user_id = $2"
        " AND deleted_at IS NULL",
        pid,
        external_user_id,
    )
    if rows:
        raise _taken("external_user_id")


def _refuse_taken_name(pid: str, username: str) -> Steps[None]:
    rows = yield Query(f"SELECT 1 FROM users WHERE {_has_name(2)}", pid, *_key_range(username))
    if rows:
        raise _taken("username")


def _refuse_new_name(pid: str, user_id: str, username: str) -> Steps[None]:
    """Raise Conflict if another user has the name. A user may always keep the current name."""
    rows = yield Query(
        f"SELECT 1 FROM users WHERE {_has_name(2)} AND id <> $4 AND EXISTS (SELECT 1 FROM users"
        " WHERE project_id = $1 AND id = $4 AND deleted_at IS NULL AND username <> $5)",
        pid,
        *_key_range(username),
        user_id,
        username,
    )
    if rows:
        raise _taken("username")


def update(pid: str, user_id: str, changes: UserChanges) -> Steps[tuple[User, bool]]:
    """Change the user. Returns them, and whether what others see of them has changed."""
    before = None
    if any(getattr(changes, name) is not UNSET for name in _PUBLIC):
        user = yield from get(pid, user_id)
        before = public(user)
    columns = changed_columns(changes, ("display_name",))
    assigned = [SET_UPDATED_AT, *([assignments(columns, 4)] if columns else [])]
    if changes.username is not UNSET:
        yield from _refuse_new_name(pid, user_id, changes.username)
        n = 4 + list(columns).index("username")
        assigned.append(f"username_twin = CASE WHEN username = ${n} THEN username_twin END")
    if changes.status == "suspended":
        assigned.append(
            "generation = generation + CASE WHEN status = 'suspended' THEN 0 ELSE 1 END"
        )
    try:
        rows = yield Query(
            f"UPDATE users SET {', '.join(assigned)}"
            f" WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {COLUMNS}",
            pid,
            user_id,
            timestamp(),
            *columns.values(),
        )
    except UniqueViolation:
        raise _taken("username") from None
    if not rows:
        raise NotFound.user()
    user = from_row(rows[0])
    return user, before not in {None, public(user)}


def profile(pid: str, user_id: str) -> Steps[tuple[PublicUser, list[str]]]:
    """What others see of the user, and the user's small rooms. Raises NotFound."""
    user = yield from get(pid, user_id)
    rows = yield Query(
        "SELECT m.room_id FROM members m JOIN rooms r ON r.project_id = m.project_id"
        f" AND r.id = m.room_id WHERE m.project_id = $1 AND m.user_id = $2 AND {members.SMALL}",
        pid,
        user_id,
    )
    return public(user), [row[0] for row in rows]


def public(user: User) -> PublicUser:
    """What others see of *user*."""
    return PublicUser(**{name: getattr(user, name) for name in _PUBLIC}, id=user.id)


def delete(pid: str, user_id: str) -> Steps[list[Noted]]:
    """Mark the user as deleted. The row stays for the messages; username and external id become free.

    Rows are locked in the order of all transactions: user, rooms (by id), project.
    """
    rows = yield Query(
        "UPDATE users SET deleted_at = $3, updated_at = $3, status = 'active',"
        " generation = generation + 1, email = NULL, avatar_url = NULL, metadata = '{}'"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL"
        " RETURNING username, display_name",
        pid,
        user_id,
        timestamp(),
    )
    if not rows:
        raise NotFound.user()
    yield from blocks.end_all(pid, user_id)
    room_ids = yield Query(
        "SELECT room_id FROM members WHERE project_id = $1 AND user_id = $2 ORDER BY room_id",
        pid,
        user_id,
    )
    departures: list[Noted] = []
    for (room_id,) in room_ids:
        # The room or the membership may have been deleted meanwhile.
        room = yield from members.lock_existing(pid, room_id)
        if room is not None:
            user = RoomUser(room_id, user_id, *rows[0])
            departures += yield from members.remove(pid, room_id, user, room, members.Removal())
    yield Query("UPDATE projects SET user_count = user_count - 1 WHERE id = $1", pid)
    return departures


def page(pid: str, where: UserFilter, number: int, limit: int) -> Steps[Page]:
    condition = "project_id = $1 AND deleted_at IS NULL"
    parameters: list[Any] = [pid]
    for column in ("external_user_id", "status"):
        value = getattr(where, column)
        if value is not None:
            parameters.append(value)
            condition += f" AND {column} = ${len(parameters)}"
    if where.username is not None:
        condition += f" AND {_has_name(len(parameters) + 1)}"
        parameters += _key_range(where.username)
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += (
            # Usernames are ASCII, so lower() is the same on both databases.
            f" AND (lower(username) LIKE ${n} ESCAPE '!'"
            f" OR {contains(('display_name', 'external_user_id'), n)})"
        )
    if where == UserFilter():
        total = yield Query("SELECT user_count FROM projects WHERE id = $1", pid)
    elif where == UserFilter(status="active"):
        # Counts the few suspended users, which have an index of their own.
        total = yield Query(
            "SELECT user_count - (SELECT count(*) FROM users WHERE project_id = $1"
            " AND status = 'suspended' AND deleted_at IS NULL) FROM projects WHERE id = $1",
            pid,
        )
    elif where.status == "suspended":
        # As a literal: the index of suspended users does not match a parameter.
        condition += " AND status = 'suspended'"
        total = yield Query(f"SELECT count(*) FROM users WHERE {condition}", *parameters)
    else:
        total = yield Query(f"SELECT count(*) FROM users WHERE {condition}", *parameters)
    n = len(parameters)
    # At most one user matches a name, and no index gives that order.
    unique = where.username is not None or where.external_user_id is not None
    order = "" if unique else " ORDER BY id"
    rows = yield Query(
        f"SELECT {COLUMNS} FROM users WHERE {condition}{order} LIMIT ${n + 1} OFFSET ${n + 2}",
        *parameters,
        limit,
        (number - 1) * limit,
    )
    return Page.of([from_row(row) for row in rows], number, limit, total[0][0] if total else 0)
