"""Transactions about users."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Rows, Steps, UniqueViolation
from chat_broker_server.chat import idempotency, members
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.identity import instant, new_id
from chat_broker_server.chat.models import Idempotency, Page, User, UserChanges, UserDraft
from chat_broker_server.database.rows import (
    TOUCHED,
    asked_columns,
    assignments,
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

# A username is unique without regard to case. Of users from before that was so, all but the eldest of a name have a
# twin's key: the name, a space, the id. It sorts directly behind the name, since no name has a space or a "!".
_KEY = "coalesce(username_twin, lower(username))"


class Filter(NamedTuple):
    """Which users to list; None means all."""

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


def create(pid: str, draft: UserDraft, once: Idempotency | None) -> Steps[User]:
    yield from idempotency.first(pid, once)
    while True:
        rows = yield from _insert(pid, draft)
        if rows:
            break
        # Of one who has both names the external id is said, whichever index the database looked at first.
        yield from _refuse_taken_id(pid, draft.external_user_id)
        yield from _refuse_taken_name(pid, draft.username)
        # Whoever was in the way is gone.
    yield Query("UPDATE projects SET user_count = user_count + 1 WHERE id = $1", pid)
    user = from_row(rows[0])
    yield from idempotency.remember(pid, once, user)
    return user


def _insert(pid: str, draft: UserDraft) -> Steps[Rows]:
    return (
        yield Query(
            "INSERT INTO users (project_id, id, external_user_id, username, display_name, email,"
            " avatar_url, metadata, created_at, updated_at, external_user_id_folded,"
            " display_name_folded) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11"
            # Two at once are kept apart by the index; twins are not made any more.
            f" WHERE NOT EXISTS (SELECT 1 FROM users WHERE {_named(12)})"
            f" ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
            pid,
            new_id(),
            draft.external_user_id,
            draft.username,
            draft.display_name,
            draft.email,
            draft.avatar_url,
            metadata_text(draft.metadata),
            instant(),
            folded(draft.external_user_id),
            folded(draft.display_name),
            *_keys(draft.username),
        )
    )


def _named(n: int) -> str:
    """The condition that a user has the name, in any case, whose `_keys` are parameter *n* and the one behind."""
    return f"project_id = $1 AND deleted_at IS NULL AND {_KEY} >= ${n} AND {_KEY} < ${n + 1}"


def _keys(username: str) -> tuple[str, str]:
    """From where to where the keys of those reach who have this name."""
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
    rows = yield Query(f"SELECT 1 FROM users WHERE {_named(2)}", pid, *_keys(username))
    if rows:
        raise _taken("username")


def _refuse_new_name(pid: str, user_id: str, username: str) -> Steps[None]:
    """Raise Conflict if somebody else has the name; nobody minds that a user keeps theirs."""
    rows = yield Query(
        f"SELECT 1 FROM users WHERE {_named(2)} AND id <> $4 AND EXISTS (SELECT 1 FROM users"
        " WHERE project_id = $1 AND id = $4 AND deleted_at IS NULL AND username <> $5)",
        pid,
        *_keys(username),
        user_id,
        username,
    )
    if rows:
        raise _taken("username")


def update(pid: str, user_id: str, changes: UserChanges) -> Steps[User]:
    asked = asked_columns(changes, ("display_name",))
    settings = [TOUCHED, *([assignments(asked, 4)] if asked else [])]
    if changes.username is not UNSET:
        yield from _refuse_new_name(pid, user_id, changes.username)
        n = 4 + list(asked).index("username")
        settings.append(f"username_twin = CASE WHEN username = ${n} THEN username_twin END")
    if changes.status == "suspended":
        settings.append(
            "generation = generation + CASE WHEN status = 'suspended' THEN 0 ELSE 1 END"
        )
    try:
        rows = yield Query(
            f"UPDATE users SET {', '.join(settings)}"
            f" WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {COLUMNS}",
            pid,
            user_id,
            instant(),
            *asked.values(),
        )
    except UniqueViolation:
        raise _taken("username") from None
    if not rows:
        raise NotFound.user()
    return from_row(rows[0])


def delete(pid: str, user_id: str) -> Steps[list[Event]]:
    """A tombstone keeps the name for the messages; username and external id become free.

    Rows are locked in the order that everybody keeps: user, rooms (by id), project.
    """
    rows = yield Query(
        "UPDATE users SET deleted_at = $3, updated_at = $3, status = 'active',"
        " generation = generation + 1, email = NULL, avatar_url = NULL, metadata = '{}'"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL"
        " RETURNING username, display_name",
        pid,
        user_id,
        instant(),
    )
    if not rows:
        raise NotFound.user()
    person = members.Person(user_id, *rows[0])
    joined = yield Query(
        "SELECT room_id FROM members WHERE project_id = $1 AND user_id = $2 ORDER BY room_id",
        pid,
        user_id,
    )
    events = []
    for (room_id,) in joined:
        # The room, or the membership alone, may be gone by now.
        there = yield from members.lock_if_there(pid, room_id)
        if there is not None and (yield from members.drop(pid, room_id, user_id)):
            events.append(members.event("userLeft", pid, room_id, person))
    yield Query("UPDATE projects SET user_count = user_count - 1 WHERE id = $1", pid)
    return events


def page(pid: str, where: Filter, number: int, limit: int) -> Steps[Page]:
    condition = "project_id = $1 AND deleted_at IS NULL"
    parameters: list[Any] = [pid]
    for column in ("external_user_id", "status"):
        value = getattr(where, column)
        if value is not None:
            parameters.append(value)
            condition += f" AND {column} = ${len(parameters)}"
    if where.username is not None:
        condition += f" AND {_named(len(parameters) + 1)}"
        parameters += _keys(where.username)
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += (
            # ASCII, and so the same on both databases.
            f" AND (lower(username) LIKE ${n} ESCAPE '!'"
            f" OR {contains(('display_name', 'external_user_id'), n)})"
        )
    if where == Filter():
        total = yield Query("SELECT user_count FROM projects WHERE id = $1", pid)
    elif where == Filter(status="active"):
        # All but the few: an index holds the suspended ones alone.
        total = yield Query(
            "SELECT user_count - (SELECT count(*) FROM users WHERE project_id = $1"
            " AND status = 'suspended' AND deleted_at IS NULL) FROM projects WHERE id = $1",
            pid,
        )
    elif where.status == "suspended":
        # Named in so many words, or the index of the suspended is not found.
        condition += " AND status = 'suspended'"
        total = yield Query(f"SELECT count(*) FROM users WHERE {condition}", *parameters)
    else:
        total = yield Query(f"SELECT count(*) FROM users WHERE {condition}", *parameters)
    n = len(parameters)
    # A name is one user's: there is nothing to order, and no index that could.
    unique = where.username is not None or where.external_user_id is not None
    order = "" if unique else " ORDER BY id"
    rows = yield Query(
        f"SELECT {COLUMNS} FROM users WHERE {condition}{order} LIMIT ${n + 1} OFFSET ${n + 2}",
        *parameters,
        limit,
        (number - 1) * limit,
    )
    return Page.of([from_row(row) for row in rows], number, limit, total[0][0] if total else 0)
