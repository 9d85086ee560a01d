"""Transactions that read some members of a room: by id, by role, by name, page after page."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_server.chat.cursors import decoded, encoded
from chat_broker_server.chat.members import COLUMNS, SOURCE, from_row
from chat_broker_server.chat.models import CursorPage, Member, Page
from chat_broker_server.database.rows import contains, like
from chat_broker_server.errors import NotFound

MOST_IDS: Final = 100
_MARKS = ", ".join(f"${n}" for n in range(3, MOST_IDS + 3))
_LastUser = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class MemberFilter(NamedTuple):
    """Which members to list. None matches every member; *q* searches usernames and display names."""

    role: str | None = None
    q: str | None = None


def some(pid: str, room_id: str, user_ids: Sequence[str]) -> Steps[list[Member]]:
    """Those of these users who are members, by id. At most MOST_IDS. Raises NotFound for no room."""
    yield from _require_room(pid, room_id)
    # Padded, so that there is one prepared statement.
    padded = [*user_ids, *[user_ids[-1]] * (MOST_IDS - len(user_ids))]
    rows = yield Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE m.project_id = $1 AND m.room_id = $2"
        f" AND m.user_id IN ({_MARKS})",
        pid,
        room_id,
        *padded,
    )
    return sorted((from_row(row) for row in rows), key=lambda member: member.user_id)


def page(pid: str, room_id: str, where: MemberFilter, number: int, limit: int) -> Steps[Page]:
    """A numbered page of the members that match, by user id, with the cursor of what follows. Raises NotFound."""
    yield from _require_room(pid, room_id)
    condition, parameters = _matching(pid, room_id, where)
    source = SOURCE if where.q is not None else "members m"
    total = (yield Query(f"SELECT count(*) FROM {source} WHERE {condition}", *parameters))[0][0]
    begin = (number - 1) * limit
    rows = yield _select(condition, parameters, limit, begin)
    more = begin + len(rows) < total and bool(rows)
    return msgspec.structs.replace(
        Page.of([from_row(row) for row in rows], number, limit, total),
        next_cursor=_cursor_after(rows) if more else None,
        has_more=more,
    )


def after(
    pid: str, room_id: str, where: MemberFilter, cursor: str, limit: int
) -> Steps[CursorPage]:
    """The members that match, from *cursor* on; "" is the beginning. Raises NotFound, BadInput for a foreign cursor."""
    begin = decoded("cursor", cursor, _LastUser) if cursor else ""
    yield from _require_room(pid, room_id)
    condition, parameters = _matching(pid, room_id, where)
    parameters.append(begin)
    condition += f" AND m.user_id > ${len(parameters)}"
    rows = yield _select(condition, parameters, limit + 1, 0)
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = _cursor_after(rows) if more else None
    return CursorPage([from_row(row) for row in rows], limit, next_cursor, more)


def _cursor_after(rows: Rows) -> str:
    return encoded(from_row(rows[-1]).user_id)


def _select(condition: str, parameters: list[Any], limit: int, offset: int) -> Query:
    n = len(parameters)
    return Query(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE {condition}"
        f" ORDER BY m.user_id LIMIT ${n + 1} OFFSET ${n + 2}",
        *parameters,
        limit,
        offset,
    )


def _matching(pid: str, room_id: str, where: MemberFilter) -> tuple[str, list[Any]]:
    parameters: list[Any] = [pid, room_id]
    condition = "m.project_id = $1 AND m.room_id = $2"
    if where.role is not None:
        parameters.append(where.role)
        condition += f" AND m.role = ${len(parameters)}"
    if where.q is not None:
        parameters.append(like(where.q))
        n = len(parameters)
        # Usernames are ASCII, so lower() is the same on both databases.
        condition += (
            f" AND (lower(u.username) LIKE ${n} ESCAPE '!' OR {contains(('u.display_name',), n)})"
        )
    return condition, parameters


def _require_room(pid: str, room_id: str) -> Steps[None]:
    rows = yield Query(
        "SELECT 1 FROM rooms WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL",
        pid,
        room_id,
    )
    if not rows:
        raise NotFound.room()
