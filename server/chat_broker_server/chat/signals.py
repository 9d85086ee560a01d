"""Rules of signals: what apps tell the sockets of a room or of a user. Never stored, told at most once."""

import re
from typing import Any, Final

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import blocks, roles
from chat_broker_server.chat.members import SMALL
from chat_broker_server.chat.room_settings import from_text
from chat_broker_server.errors import Forbidden, NotFound

DATA_BYTES: Final = 1024
NAME: Final = re.compile(r"[a-z0-9._-]{1,32}")

_MEMBER = (
    f"SELECT m.role, {SMALL}, r.settings, r.kind FROM members m"
    " JOIN rooms r ON r.project_id = m.project_id AND r.id = m.room_id AND r.deleted_at IS NULL"
    " WHERE m.project_id = $1 AND m.room_id = $2 AND m.user_id = $3"
)


def name(value: Any) -> Any:
    if type(value) is not str or not NAME.fullmatch(value):
        raise ValueError("must be 1 to 32 of a-z, 0-9, '.', '_' and '-'")
    return value


def data(value: Any) -> Any:
    """JSON of at most DATA_BYTES."""
    if value is not None and len(msgspec.json.encode(value)) > DATA_BYTES:
        raise ValueError(f"must be at most {DATA_BYTES} bytes of JSON")
    return value


def require(pid: str, room_id: str, user_id: str) -> Steps[None]:
    """Raise NotFound or Forbidden unless the user may send signals: in a large room, owners and moderators.

    In a direct room of two nobody, while one of them blocks the other.
    """
    rows = yield Query(_MEMBER, pid, room_id, user_id)
    if not rows:
        raise NotFound.room()
    role, small, settings, kind = rows[0]
    roles.require(role, "signal", from_text(settings))
    if not small and not roles.may(role, "pin"):
        raise Forbidden("owner_only", "In a large room only its owner or a moderator may do this.")
    if kind == "direct":
        yield from blocks.refuse_in_direct_room(pid, room_id, user_id)
