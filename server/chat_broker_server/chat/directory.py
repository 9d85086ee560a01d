"""A transaction that finds users by what their names begin with."""

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_kit.text.folding import fold
from chat_broker_server.chat import blocks
from chat_broker_server.chat.models import PublicUser
from chat_broker_server.chat.users import KEY

MOST = 20
"""Users that one answer holds at most."""

_LAST = "\U0010ffff"
"""Behind every character that a name has."""
# A name as it is compared, which also is how its index is ordered.
_USERNAME = KEY
_DISPLAY_NAME = 'coalesce(display_name_folded, display_name) COLLATE "C"'
_FIND = (
    "SELECT {name}, id, username, display_name, avatar_url FROM users WHERE project_id = $1"
    " AND deleted_at IS NULL AND {has_name} {name} >= $3 AND {name} < $4 AND status = 'active'"
    " AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.project_id = $1 AND b.user_id = users.id"
    " AND b.blocked_id = $2) ORDER BY {name} LIMIT $5"
)
_QUERIES = (
    _FIND.format(name=_USERNAME, has_name=""),
    _FIND.format(name=_DISPLAY_NAME, has_name="display_name IS NOT NULL AND"),
)


def find(pid: str, reader_id: str, q: str, limit: int) -> Steps[list[PublicUser]]:
    """The first *limit* users whose username or display name begins with *q*, by name, without regard to case and accents.

    Suspended users and those who block the reader are left out. Raises NotFound if there is no reader.
    """
    yield from blocks.version_of(pid, reader_id)
    begin = fold(q)
    found: dict[str, tuple[str, PublicUser]] = {}
    for sql in _QUERIES:
        rows = yield Query(sql, pid, reader_id, begin, begin + _LAST, limit)
        for name, *columns in rows:
            user = PublicUser(*columns)
            found.setdefault(user.id, (name, user))
    ordered = sorted(found.values(), key=lambda each: (each[0], each[1].id))
    return [user for _, user in ordered[:limit]]
