"""The events that a room's sockets receive: their names and payloads, and the result of closing a user's sockets.

Events of one connection alone (`error`, `tokenExpiring`) are in `realtime/error_notices.py` and `realtime/sessions.py`, `mine` in
`realtime/mine_events.py`. An event with a `rev` whose hint is lost is made again from the database: `chat/delta.py`, `events_of`.
"""

from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from chat_broker_server.chat.models import (
    ChangedMessage,
    Member,
    Message,
    Reason,
    Receipt,
    Room,
    RoomUser,
    Signal,
)

ALL_USERS: Final = ""
"""In place of a user id: all users of the project."""

TYPING: Final = frozenset({"userTyping", "userStoppedTyping"})
"""The events that are not sent to the user whom they are about."""
SIGNAL: Final = "signal"
MEMBERSHIPS: Final = {"userJoined": 1, "userLeft": -1}
"""The events that sockets in large rooms hear of their own user alone, and how they change the number of members."""
MESSAGE_CHANGES: Final = frozenset({"messageUpdated", "messageDeleted"})
"""The events of changes that must not overtake their message."""
UNKNOWN_TO_OLD_CLIENTS: Final = frozenset({"memberUpdated"})
"""The events that only connections get which have shown that they know `rev`."""

Departure = Literal["left", "removed", "banned", "deleted"]
"""Why a user is no member any more. `deleted`: the room, or the user."""

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True):
    """One event of a room. It is published after its COMMIT, in commit order."""

    name: str
    """The name on the wire."""
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
    reason: Departure | None = None
    """Why the user left; None for other events."""
    sent_by: str | None = None
    """The socket of this node that is not told, as it sent the event."""


def message_posted(pid: str, message: Message) -> Event:
    return Event("message", pid, message.room_id, _encode(message), seq=message.seq)


def message_edited(pid: str, message: Message, by: str | None) -> Event:
    """`messageUpdated` of an edit by the user *by*; None: by the API key."""
    return message_changed(pid, message, Reason("edited", UNSET if by is None else by))


def message_changed(pid: str, message: Message, reason: Reason) -> Event:
    """`messageUpdated` of one change."""
    return message_updated(pid, ChangedMessage(**msgspec.structs.asdict(message), change=reason))


def message_updated(pid: str, message: Message) -> Event:
    return Event("messageUpdated", pid, message.room_id, _encode(message), rev=_rev(message))


def message_deleted(pid: str, message: Message) -> Event:
    return Event("messageDeleted", pid, message.room_id, _encode(message), rev=_rev(message))


def user_joined(pid: str, user: RoomUser | Member, rev: int) -> Event:
    return _of_user("userJoined", pid, user, rev)


def user_left(pid: str, user: RoomUser | Member, rev: int) -> Event:
    return _of_user("userLeft", pid, user, rev)


def member_updated(pid: str, member: Member, rev: int) -> Event:
    return Event("memberUpdated", pid, member.room_id, _encode(member), rev=rev)


def room_updated(room: Room) -> Event:
    return Event("roomUpdated", room.project_id, room.id, _encode(room), rev=_rev(room))


def room_deleted(pid: str, room_id: str) -> Event:
    return Event("roomDeleted", pid, room_id, _encode({"room_id": room_id}))


def user_typing(pid: str, user: RoomUser, expires_in: int) -> Event:
    """*expires_in*: seconds after which clients end it themselves."""
    user = msgspec.structs.replace(user, expires_in=expires_in)
    return Event("userTyping", pid, user.room_id, _encode(user), user_id=user.user_id)


def signalled(pid: str, room_id: str, signal: Signal, sent_by: str | None) -> Event:
    return Event(SIGNAL, pid, room_id, _encode(signal), sent_by=sent_by)


def user_stopped_typing(pid: str, user: RoomUser) -> Event:
    return Event("userStoppedTyping", pid, user.room_id, _encode(user), user_id=user.user_id)


def _of_user(name: str, pid: str, user: RoomUser | Member, rev: int) -> Event:
    role: str | UnsetType = UNSET
    if name == "userJoined" and isinstance(user, Member) and user.role != "member":
        role = user.role
    payload = RoomUser(user.room_id, user.user_id, user.username, user.display_name, rev, role)
    return Event(name, pid, user.room_id, _encode(payload), rev=rev, user_id=user.user_id)


def _rev(changed: Message | Room) -> int | None:
    return None if changed.rev is UNSET else changed.rev


class MineChanged(msgspec.Struct, frozen=True):
    """A user's own side of some rooms has changed. It tells no state: that is read when it is told."""

    project_id: str
    user_id: str
    room_ids: list[str]
    from_seq: int | None = None
    """The first message that the user sees; None if that did not change."""
    version: int | None = None
    """The user's own version, if their side of all rooms may have changed; `room_ids` is empty."""


class ProfileChanged(msgspec.Struct, frozen=True):
    """What others see of a user has changed: names or picture. It tells no state, as MineChanged."""

    project_id: str
    user_id: str


class MembersAdded(msgspec.Struct, frozen=True):
    """Users have become members of a room at once, without a `userJoined` for each."""

    project_id: str
    room_id: str
    user_ids: list[str]


class ReceiptsMoved(msgspec.Struct, frozen=True):
    """A member's marks in some small rooms have moved."""

    project_id: str
    receipts: dict[str, Receipt]
    """The marks as they are now, by the id of the room."""


class UserSignalled(msgspec.Struct, frozen=True):
    """A signal to all sockets of a user."""

    project_id: str
    user_id: str
    payload: bytes
    """The event's payload, encoded as JSON."""


class PrivacyChanged(msgspec.Struct, frozen=True):
    """A user has set what others see of them."""

    project_id: str
    user_id: str
    hidden: bool
    """Whether they are seen online."""
    receipts: bool


Happened = (
    Event
    | MineChanged
    | PrivacyChanged
    | ProfileChanged
    | ReceiptsMoved
    | MembersAdded
    | UserSignalled
)
"""What is published after a COMMIT."""


class SystemNote(NamedTuple):
    """What a system message is to tell; `room_news.py` makes one of it."""

    room_id: str
    event: dict[str, Any]
    author_id: str


class SizeNote(NamedTuple):
    """A room has become large or small: it is to be told as it is now."""

    room_id: str


Noted = Happened | SystemNote | SizeNote
"""What a transaction about members returns, in order."""


class CloseResult(msgspec.Struct, frozen=True):
    """How many sockets of a user were closed, how many nodes confirmed it, and how long that took."""

    sockets_closed: int = 0
    nodes_acked: int = 1
    nodes_total: int = 1
    took_ms: int = 0
