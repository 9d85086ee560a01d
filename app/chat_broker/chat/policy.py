"""The broker's policy: who may do what in a room.

The broker asks it before it calls the Chat API; `explain` shows operators what it says. The Chat API has rules of its own
for users' tokens: those of the embedded one begin in `chat/service.py` of `chat_broker_server`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, assert_never

Role = Literal["owner", "member"]
Refusal = Literal["user_suspended", "room_not_found", "owner_only", "author_only"]


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


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision depends on. *role* is None for a user who is not a member.

    *own* says whether the message (or, for `remove_member`, the membership) in question is the
    caller's own; None when no particular one is asked about.
    """

    room_exists: bool = True
    private: bool = False
    role: Role | None = None
    own: bool | None = None
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
    "the room is private: only its owner can bring somebody in",
    "room_not_found",
)
_OPEN = Decision(True, "open_room", "the room is open: anybody may join it")
_ALREADY_IN = Decision(True, "member", "the user is a member already")
_STRANGER = Decision(False, "member", "the user is not a member of the room", "room_not_found")
_MEMBER = Decision(True, "member", "the user is a member of the room")
_OWNER = Decision(True, "owner", "the user owns the room")
_NOT_OWNER = Decision(False, "owner", "only the room's owner may do this", "owner_only")
_AUTHOR = Decision(True, "author", "the message is the user's own")
_AUTHOR_OF_SOME = Decision(True, "author", "members may do this to messages of their own")
_NOT_AUTHOR = Decision(False, "author", "only a message's author may edit it", "author_only")
_NOT_AUTHOR_OR_OWNER = Decision(
    False,
    "author_or_owner",
    "only a message's author or the room's owner may delete it",
    "author_only",
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
    owner = facts.role == "owner"
    match action:
        case Action.JOIN | Action.LEAVE | Action.READ | Action.POST:
            return _MEMBER
        case Action.EDIT_MESSAGE:
            if facts.own is None:
                return _AUTHOR_OF_SOME
            return _AUTHOR if facts.own else _NOT_AUTHOR
        case Action.DELETE_MESSAGE:
            if owner:
                return _OWNER
            if facts.own is None:
                return _AUTHOR_OF_SOME
            return _AUTHOR if facts.own else _NOT_AUTHOR_OR_OWNER
        case Action.UPDATE_ROOM | Action.DELETE_ROOM | Action.ADD_MEMBER:
            return _OWNER if owner else _NOT_OWNER
        case Action.REMOVE_MEMBER:
            if owner:
                return _OWNER
            return _THEMSELVES if facts.own else _NOT_OWNER
    assert_never(action)
