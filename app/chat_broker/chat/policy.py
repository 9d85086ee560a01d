"""The broker's policy: who may do what in a room.

The broker asks it before it calls the Chat API; `explain` shows operators what it says. The Chat API has rules of its own
for users' tokens: those of the embedded one begin in `chat/service.py` of `chat_broker_server`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, get_args

Role = Literal["owner", "moderator", "member", "guest"]
Refusal = Literal["user_suspended", "room_not_found", "owner_only", "author_only", "read_only"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, the highest rank first."""


class Action(StrEnum):
    """What a user can do in a room."""

    JOIN = "join"
    LEAVE = "leave"
    READ = "read"
    POST = "post"
    EDIT_MESSAGE = "edit_message"
    DELETE_MESSAGE = "delete_message"
    UPDATE_ROOM = "update_room"
    DELETE_ROOM = "delete_room"
    ADD_MEMBER = "add_member"
    REMOVE_MEMBER = "remove_member"
    REACT = "react"
    PIN = "pin"
    THREAD = "thread"
    INVITE = "invite"
    TIME_OUT = "time_out"
    BAN_MEMBER = "ban_member"
    SET_ROLE = "set_role"
    UPLOAD = "upload"
    SEARCH = "search"
    SIGNAL = "signal"
    REPORT = "report"


_POSTING = frozenset({Action.POST, Action.SIGNAL, Action.UPLOAD, Action.THREAD})
_MODERATING = frozenset(
    {
        Action.ADD_MEMBER,
        Action.REMOVE_MEMBER,
        Action.PIN,
        Action.INVITE,
        Action.TIME_OUT,
        Action.BAN_MEMBER,
    }
)
_ON_PERSONS = frozenset({Action.REMOVE_MEMBER, Action.TIME_OUT, Action.BAN_MEMBER})
_OWNING = frozenset({Action.UPDATE_ROOM, Action.DELETE_ROOM, Action.SET_ROLE})
_SWITCHES = {Action.REACT: "reactions", Action.THREAD: "threads", Action.UPLOAD: "attachments"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision depends on. *role* is None for a user who is not a member.

    *own* says whether the message (or, for `remove_member`, the membership) in question is the
    caller's own; None when no particular one is asked about. *other* is the role of the member whom the action is done
    to, or of the message's author; None: nobody in particular.

    *settings*: the room's, as far as they differ from the defaults. *direct*: in a direct room.
    """

    room_exists: bool = True
    private: bool = False
    role: Role | None = None
    own: bool | None = None
    other: Role | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False
    banned: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: *rule* names what decided, *reason* says it in a sentence.

    *refusal* is the error code a refused caller gets, None if allowed.
    """

    allowed: bool
    rule: str
    reason: str
    refusal: Refusal | None = None


_BANNED = Decision(False, "banned", "the user is banned", "user_suspended")
_SUSPENDED = Decision(False, "suspended", "the user is suspended", "user_suspended")
_NO_ROOM = Decision(False, "room_exists", "there is no such room", "room_not_found")
_NOT_INVITED = Decision(
    False,
    "invited",
    "the room is private: only its owner or a moderator can bring somebody in",
    "room_not_found",
)
_OPEN = Decision(True, "open_room", "the room is open: anybody may join it")
_ALREADY_IN = Decision(True, "member", "the user is a member already")
_STRANGER = Decision(False, "member", "the user is not a member of the room", "room_not_found")
_MEMBER = Decision(True, "member", "the user is a member of the room")
_OWNER = Decision(True, "owner", "the user owns the room")
_NOT_OWNER = Decision(False, "owner", "only the room's owner may do this", "owner_only")
_MODERATOR = Decision(True, "moderator", "the user moderates the room")
_NOT_MODERATOR = Decision(
    False, "moderator", "only the room's owner or a moderator may do this", "owner_only"
)
_NOT_LOWER = Decision(
    False, "rank", "nobody but an owner acts on members of their own rank or above", "owner_only"
)
_GUEST = Decision(False, "guest", "guests only read", "read_only")
_READ_ONLY = Decision(False, "read_only", "members only read in this room", "read_only")
_SWITCHED_OFF = Decision(
    False, "settings", "the settings of the room do not allow this", "read_only"
)
_MEMBERS_INVITE = Decision(True, "settings", "members may invite to this room")
_DIRECT = Decision(True, "direct", "in a direct room every member may do this")
_AUTHOR = Decision(True, "author", "the message is the user's own")
_AUTHOR_OF_SOME = Decision(True, "author", "members may do this to messages of their own")
_NOT_AUTHOR = Decision(False, "author", "only a message's author may edit it", "author_only")
_NOT_AUTHOR_OR_MODERATOR = Decision(
    False,
    "author_or_owner",
    "only a message's author, the room's owner or a moderator may delete it",
    "author_only",
)
_OWNERS_MESSAGE = Decision(
    False, "rank", "a moderator does not delete messages of an owner", "author_only"
)
_THEMSELVES = Decision(True, "themselves", "anybody may remove themselves")


def decide(action: Action, facts: Facts) -> Decision:
    """Whether a user with these facts may do *action*. A pure function.

    A user who is not a member is refused exactly as if the room did not exist.
    """
    if facts.banned:
        return _BANNED
    if facts.suspended:
        return _SUSPENDED
    if not facts.room_exists:
        return _NO_ROOM
    if action is Action.JOIN:
        if facts.role is not None:
            return _ALREADY_IN
        return _NOT_INVITED if facts.private else _OPEN
    if facts.role is None:
        return _STRANGER
    return _decide_for_member(action, facts)


def _decide_for_member(action: Action, facts: Facts) -> Decision:
    if not facts.settings.get(_SWITCHES.get(action, ""), True):
        return _SWITCHED_OFF
    if action is Action.EDIT_MESSAGE:
        if facts.own is None:
            return _AUTHOR_OF_SOME
        return _AUTHOR if facts.own else _NOT_AUTHOR
    if action is Action.DELETE_MESSAGE:
        return _decide_deletion(facts)
    if action is Action.REMOVE_MEMBER and facts.own:
        return _THEMSELVES
    if facts.role == "owner" and (action in _OWNING or action in _MODERATING):
        return _OWNER
    if action in _OWNING:
        return _NOT_OWNER
    if action in _MODERATING:
        return _decide_moderation(action, facts)
    if action is Action.REACT or action in _POSTING:
        return _decide_posting(action, facts)
    return _MEMBER


def _decide_deletion(facts: Facts) -> Decision:
    if facts.role == "owner":
        return _OWNER
    if facts.own:
        return _AUTHOR
    if facts.role == "moderator":
        return _OWNERS_MESSAGE if facts.other == "owner" else _MODERATOR
    return _AUTHOR_OF_SOME if facts.own is None else _NOT_AUTHOR_OR_MODERATOR


def _decide_moderation(action: Action, facts: Facts) -> Decision:
    if facts.role == "moderator":
        lower = facts.other not in {"owner", "moderator"}
        return _MODERATOR if lower or action not in _ON_PERSONS else _NOT_LOWER
    if facts.role == "member":
        if action is Action.PIN and facts.direct:
            return _DIRECT
        if action is Action.INVITE and facts.settings.get("invites") == "members":
            return _MEMBERS_INVITE
    return _NOT_MODERATOR


def _decide_posting(action: Action, facts: Facts) -> Decision:
    if facts.role == "guest":
        return _GUEST
    read_only = facts.role == "member" and facts.settings.get("read_only", False)
    return _READ_ONLY if read_only and action is not Action.REACT else _MEMBER
