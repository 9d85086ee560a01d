"""The roles of a room's members, and what each of them may do.

REST, sockets and transactions ask here, so that a rule about roles is written once. Whether a user is a member at all is
asked before: a stranger gets `room_not_found`.
"""

from typing import Final, Literal, get_args

from chat_broker_server.chat.room_settings import NO_SETTINGS, RoomSettings
from chat_broker_server.errors import Forbidden

Role = Literal["owner", "moderator", "member", "guest"]
Action = Literal[
    "read",
    "mark",
    "report",
    "search",
    "edit_message",
    "delete_message",
    "react",
    "post",
    "signal",
    "upload",
    "thread",
    "pin",
    "invite",
    "time_out",
    "ban_member",
    "add_member",
    "remove_member",
    "update_room",
    "set_role",
    "delete_room",
]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, the highest rank first."""
_RANKS: Final = {role: rank for rank, role in enumerate(reversed(ROLES))}

_ANYBODY: Final[frozenset[Action]] = frozenset(
    {"read", "mark", "report", "search", "edit_message", "delete_message"}
)
"""Of messages, their own: see `may_delete`."""
_POSTING: Final[frozenset[Action]] = frozenset({"post", "signal", "upload", "thread"})
_MODERATING: Final[frozenset[Action]] = frozenset(
    {"pin", "invite", "time_out", "ban_member", "add_member", "remove_member"}
)
"""Of persons, those of a lower rank: see `outranks`."""


def rank(role: str) -> int:
    """How high a role stands: 0 for a guest and for one that is not known."""
    return _RANKS.get(role, 0)  # type: ignore[call-overload, no-any-return]  # by any text


def outranks(role: str, other: str) -> bool:
    """Whether a member with *role* may act on a member with the role *other*. Owners act on owners, too."""
    return role == "owner" or rank(role) > rank(other)


def may(
    role: str, action: Action, settings: RoomSettings = NO_SETTINGS, *, direct: bool = False
) -> bool:
    """Whether a member with *role* may do *action* in a room with *settings*; *direct*: in a direct room.

    Says nothing about whom or whose message it is done to: `outranks` and `may_delete` do.
    """
    if _is_switched_off(action, settings):
        return False
    if role == "owner" or action in _ANYBODY:
        return True
    if role == "moderator":
        return action in _MODERATING or action in _POSTING or action == "react"
    if role != "member":
        return False
    return (
        action == "react"
        or (action in _POSTING and not settings.read_only)
        or (action == "pin" and direct)
        or (action == "invite" and settings.invites == "members")
    )


def may_delete(role: str, *, own: bool, author_role: str | None) -> bool:
    """Whether a member with *role* may delete a message. *author_role* is None for an author who is no member."""
    return own or role == "owner" or (role == "moderator" and author_role != "owner")


def require(
    role: str, action: Action, settings: RoomSettings = NO_SETTINGS, *, direct: bool = False
) -> None:
    """Raise Forbidden `read_only` or `owner_only` unless `may`."""
    if may(role, action, settings, direct=direct):
        return
    if _is_switched_off(action, settings):
        raise Forbidden("read_only", f"The settings of this room do not allow to {action}.")
    if action in _POSTING or action == "react":
        why = "Guests only read." if role == "guest" else "In this room members only read."
        raise Forbidden("read_only", why)
    raise owner_only("moderator" if action in _MODERATING else "owner")


def owner_only(least: Role = "owner") -> Forbidden:
    """The refusal of what only *least* and higher roles may do."""
    who = "the room's owner" if least == "owner" else "the room's owner or a moderator"
    return Forbidden("owner_only", f"Only {who} may do this.")


def _is_switched_off(action: Action, settings: RoomSettings) -> bool:
    return (
        (action == "react" and not settings.reactions)
        or (action == "thread" and not settings.threads)
        or (action == "upload" and not settings.attachments)
    )
