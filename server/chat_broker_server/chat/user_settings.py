"""Transactions about what users set about themselves: whether they are seen, and what they are notified of."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.models import UserSettings, UserSettingsChanges
from chat_broker_server.database.rows import assignments
from chat_broker_server.errors import NotFound

HIDDEN = "coalesce({user}.presence, 'visible') = 'hidden'"
"""The SQL condition that the user of the row `{user}` does not want to be seen online."""
SHOWS_RECEIPTS = "coalesce({user}.receipts, TRUE)"
"""The SQL condition that the user of the row `{user}` shows what they have read, and is shown it."""

_COLUMNS = "presence, receipts, notify, push_preview"
_USER = "project_id = $1 AND id = $2 AND deleted_at IS NULL"


def get(pid: str, user_id: str) -> Steps[UserSettings]:
    """The user's settings. Raises NotFound."""
    rows = yield Query(f"SELECT {_COLUMNS} FROM users WHERE {_USER}", pid, user_id)
    if not rows:
        raise NotFound.user()
    return _from_row(rows[0])


def update(pid: str, user_id: str, changes: UserSettingsChanges) -> Steps[UserSettings]:
    """Change the user's settings. Raises NotFound."""
    columns = {name: getattr(changes, name) for name in changes.__struct_fields__}
    columns = {name: value for name, value in columns.items() if value is not UNSET}
    if not columns:
        return (yield from get(pid, user_id))
    rows = yield Query(
        f"UPDATE users SET {assignments(columns, 3)} WHERE {_USER} RETURNING {_COLUMNS}",
        pid,
        user_id,
        *columns.values(),
    )
    if not rows:
        raise NotFound.user()
    return _from_row(rows[0])


def _from_row(row: Sequence[Any]) -> UserSettings:
    presence, receipts, notify, push_preview = row
    return UserSettings(
        presence=presence or "visible",
        receipts=receipts is None or bool(receipts),
        notify=notify,
        push_preview=push_preview is None or bool(push_preview),
    )
