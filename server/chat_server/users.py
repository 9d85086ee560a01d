"""Transactions about users."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from chat_server import idempotency, members
from chat_server.database import Query, Steps, UniqueViolation
from chat_server.errors import Conflict, NotFound
from chat_server.events import Event
from chat_server.identity import instant, new_id
from chat_server.rows import like, metadata_of, metadata_text
from chat_server.schemas import (
    Idempotency,
    Page,
    Project,
    User,
    UserChanges,
    UserDraft,
)

COLUMNS = (
    "id, project_id, external_user_id, username, display_name, email, avatar_url, status,"
    " metadata, created_at, updated_at"
)


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


def project(pid: str) -> Steps[Project]:
    rows = yield Query("SELECT id, name FROM projects WHERE id = $1", pid)
    if not rows:
        raise NotFound.project()
    return Project(*rows[0])


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
    now = instant()
    try:
        rows = yield Query(
            "INSERT INTO users (project_id, id, external_user_id, username, display_name, email,"
            " avatar_url, metadata, created_at, updated_at)"
            f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING {COLUMNS}",
            pid,
            new_id(),
            draft.external_user_id,
            draft.username,
            draft.display_name,
            draft.email,
            draft.avatar_url,
            metadata_text(draft.metadata),
            now,
        )
    except UniqueViolation as violation:
        raise _taken(violation) from None
    yield Query("UPDATE projects SET user_count = user_count + 1 WHERE id = $1", pid)
    user = from_row(rows[0])
    yield from idempotency.remember(pid, once, user)
    return user


def update(pid: str, user_id: str, changes: UserChanges) -> Steps[User]:
    before = yield from get(pid, user_id)
    suspended = changes.status == "suspended" and before.status != "suspended"
    metadata = changes.metadata
    try:
        rows = yield Query(
            "UPDATE users SET username = $3, display_name = $4, email = $5, avatar_url = $6,"
            " status = $7, metadata = $8, updated_at = $9, generation = generation + $10"
            f" WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {COLUMNS}",
            pid,
            user_id,
            before.username if changes.username is UNSET else changes.username,
            before.display_name if changes.display_name is UNSET else changes.display_name,
            before.email if changes.email is UNSET else changes.email,
            before.avatar_url if changes.avatar_url is UNSET else changes.avatar_url,
            before.status if changes.status is UNSET else changes.status,
            metadata_text(before.metadata if metadata is UNSET else metadata),
            instant(),
            1 if suspended else 0,
        )
    except UniqueViolation as violation:
        raise _taken(violation) from None
    if not rows:
        raise NotFound.user()
    return from_row(rows[0])


def delete(pid: str, user_id: str) -> Steps[list[Event]]:
    """A tombstone keeps the name for the messages; username and external id become free."""
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
    yield Query("UPDATE projects SET user_count = user_count - 1 WHERE id = $1", pid)
    username, display_name = rows[0]
    # In the order of ids, so that two deletions never lock each other's rooms.
    joined = yield Query(
        "SELECT room_id FROM members WHERE project_id = $1 AND user_id = $2 ORDER BY room_id",
        pid,
        user_id,
    )
    events = []
    for (room_id,) in joined:
        yield from members.drop(pid, room_id, user_id)
        person = members.Person(user_id, username, display_name)
        events.append(members.event("userLeft", pid, room_id, person))
    return events


def page(pid: str, where: Filter, number: int, limit: int) -> Steps[Page]:
    condition = "project_id = $1 AND deleted_at IS NULL"
    parameters: list[Any] = [pid]
    for column in ("external_user_id", "username", "status"):
        value = getattr(where, column)
        if value is not None:
            parameters.append(value)
            condition += f" AND {column} = ${len(parameters)}"
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        condition += (
            f" AND (lower(username) LIKE ${n} ESCAPE '!' OR lower(display_name) LIKE ${n} ESCAPE '!'"
            f" OR lower(external_user_id) LIKE ${n} ESCAPE '!')"
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


def _taken(violation: UniqueViolation) -> Conflict:
    if "external" in violation.index:
        return Conflict("external_user_id_taken", "Another user has this external_user_id.")
    return Conflict("username_taken", "Another user has this username.")
