"""Transactions about presence: whom a user may see, and when users were last seen."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.user_settings import HIDDEN

MOST_WATCHED: Final = 200
MOST_ASKED: Final = 100
_CHUNK = 50

_SEEN = (
    f"SELECT u.id, {HIDDEN.format(user='u')}, u.last_seen_at FROM users u"
    " WHERE u.project_id = $1 AND u.deleted_at IS NULL"
)
_ANYBODY = f"{_SEEN} AND u.id IN ({', '.join(f'${n}' for n in range(2, _CHUNK + 2))})"
_OF_COMMON_ROOMS = (
    f"{_SEEN} AND u.id IN ({', '.join(f'${n}' for n in range(3, _CHUNK + 3))})"
    " AND (u.id = $2 OR EXISTS (SELECT 1 FROM members m JOIN members o"
    " ON o.project_id = m.project_id AND o.room_id = m.room_id AND o.user_id = u.id"
    " WHERE m.project_id = $1 AND m.user_id = $2))"
)


class Seen(NamedTuple):
    user_id: str
    hidden: bool
    last_seen_at: str | None


def seen(pid: str, user_ids: Sequence[str], reader_id: str | None) -> Steps[list[Seen]]:
    """Those of the users that there are, in this order.

    With *reader_id* only themselves, and users who are in a room with them.
    """
    found: dict[str, Seen] = {}
    unique = list(dict.fromkeys(user_ids))
    for at in range(0, len(unique), _CHUNK):
        chunk = unique[at : at + _CHUNK]
        padded = chunk + chunk[-1:] * (_CHUNK - len(chunk))
        if reader_id is None:
            rows = yield Query(_ANYBODY, pid, *padded)
        else:
            rows = yield Query(_OF_COMMON_ROOMS, pid, reader_id, *padded)
        found |= {row[0]: Seen(row[0], bool(row[1]), row[2]) for row in rows}
    return [found[user_id] for user_id in unique if user_id in found]


def note_seen(pid: str, times: Mapping[str, str]) -> Steps[None]:
    """Write when these users were last seen, unless they were seen later."""
    for user_id in sorted(times):
        yield Query(
            "UPDATE users SET last_seen_at = $3 WHERE project_id = $1 AND id = $2"
            " AND coalesce(last_seen_at, '') < $3",
            pid,
            user_id,
            times[user_id],
        )
