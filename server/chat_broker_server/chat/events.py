"""The events that a room's sockets receive, and the result of closing a user's sockets."""

from typing import Final

import msgspec

ALL_USERS: Final = ""
"""In place of a user id: all users of the project."""


class Event(msgspec.Struct, frozen=True):
    """One event of a room. It is published after its COMMIT, in commit order."""

    name: str
    """The name on the wire: message, messageUpdated, messageDeleted, userJoined, userLeft, memberUpdated, roomUpdated, roomDeleted."""
    project_id: str
    room_id: str
    payload: bytes
    """JSON, encoded once for all sockets."""
    seq: int | None = None
    """The message's number in the room; set for `message` only."""
    rev: int | None = None
    """The room's `rev` after the change; None for `message`, typing and `roomDeleted`."""
    user_id: str | None = None
    """The user who joined, left or types; None for other events."""


class CloseResult(msgspec.Struct, frozen=True):
    """How many sockets of a user were closed, how many nodes confirmed it, and how long that took."""

    sockets_closed: int = 0
    nodes_acked: int = 1
    nodes_total: int = 1
    took_ms: int = 0
