"""What happened in a room, as the sockets of that room will hear of it."""

from typing import Final

import msgspec

EVERYBODY: Final = ""
"""In place of a user's id: all users of a project."""


class Event(msgspec.Struct, frozen=True):
    """One event of one room, published after the COMMIT that made it true, in commit order.

    `payload` is the JSON of the contract's payload, encoded once for everybody.
    """

    name: str
    """The name on the wire: message, messageUpdated, messageDeleted, userJoined, userLeft, roomUpdated, roomDeleted."""
    project_id: str
    room_id: str
    payload: bytes
    seq: int | None = None
    """The message's place in the room, for `message` alone."""
    user_id: str | None = None
    """Whom it is about, for userJoined and userLeft: that user's sockets leave the room."""


class Receipt(msgspec.Struct, frozen=True):
    """What closing somebody's sockets achieved: how many, on how many nodes, how fast."""

    sockets_closed: int = 0
    nodes_acked: int = 1
    nodes_total: int = 1
    took_ms: int = 0
