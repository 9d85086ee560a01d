"""The values of the contract: what responses hold, and checked drafts and changes.

`msgspec.json.encode` makes the contract's JSON of them. The fields are in the order of the columns in
the queries that build them. `validation.py` makes the drafts and changes. Times are RFC 3339 text in
UTC with milliseconds.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from chat_broker_server.chat.room_settings import RoomSettings

Status = Literal["active", "suspended"]
Notify = Literal["all", "mentions", "none"]
Archived = Literal["no", "until_message", "yes"]
OwnReactions = dict[str, list[str]]
"""The emoji with which a user reacted, by the message's id."""
Visibility = Literal["visible", "hidden"]


class Limits(msgspec.Struct, frozen=True):
    """The largest requests and responses, as `GET /project` tells them."""

    small_room: int
    """Members of a room that is small."""
    content: int
    """Characters of a message."""
    metadata: int
    """Bytes of JSON."""
    body: int
    """Bytes of a request."""
    answer: int
    """Bytes of a response with messages; a longer list is cut and has `has_more` set."""
    page: int
    """Items of a page."""
    pins: int
    """Pinned messages of one room."""
    reactions: int
    """Different ones to a message."""


class Project(msgspec.Struct, frozen=True):
    """The project of a credential, and what this server offers."""

    id: str
    name: str
    epoch: str
    """Identifies the database. A `seq` that a client stored under another epoch means nothing."""
    features: tuple[str, ...]
    limits: Limits


class User(msgspec.Struct, frozen=True):
    id: str
    project_id: str
    external_user_id: str
    username: str
    display_name: str | None
    email: str | None
    avatar_url: str | None
    status: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


class PublicUser(msgspec.Struct, frozen=True):
    """What users see of each other."""

    id: str
    username: str
    display_name: str | None
    avatar_url: str | None


class Member(msgspec.Struct, frozen=True):
    """A user's membership in a room; `role` is one of `roles.ROLES`."""

    room_id: str
    user_id: str
    username: str
    display_name: str | None
    role: str
    joined_at: str
    last_read_seq: int | None
    """None for a user who shows no receipts."""
    rev: int | UnsetType = UNSET
    """Of the room at this membership's last change; not there for one that is as old as the room."""
    avatar_url: str | UnsetType = UNSET
    from_seq: int | UnsetType = UNSET
    """Messages before this one are hidden from the member; for the API key and the member alone, and not there for 1."""


class Quote(msgspec.Struct, frozen=True):
    """The message that another one answers, as it is now. `content` is its beginning."""

    id: str
    seq: int
    user_id: str
    username: str
    display_name: str | None
    content: str


class Message(msgspec.Struct, frozen=True):
    """A message with its number `seq` in the room. A deleted message keeps the number and has no content."""

    id: str
    room_id: str
    seq: int
    user_id: str
    username: str
    display_name: str | None
    content: str
    client_msg_id: str | None
    metadata: dict[str, Any]
    created_at: str
    edited_at: str | None
    deleted_at: str | None
    rev: int | UnsetType = UNSET
    """Of the room at this message's last change; not there for one that was never changed."""
    avatar_url: str | UnsetType = UNSET
    """The author's."""
    author_deleted: bool | UnsetType = UNSET
    type: Literal["system"] | UnsetType = UNSET
    event: dict[str, Any] | UnsetType = UNSET
    """What a system message tells: `name`, and whatever goes with it."""
    reply_to: Quote | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET
    """The users whom the message names, by id."""
    mention_room: bool | UnsetType = UNSET
    """It names everybody in the room."""
    silent: bool | UnsetType = UNSET
    """It counts as unread for no member."""
    reactions: "list[Reaction] | UnsetType" = UNSET
    """By first use; not there for none."""
    pinned_at: str | UnsetType = UNSET
    pinned_by: str | UnsetType = UNSET
    """The user who pinned it; not there for the key."""


class Reaction(msgspec.Struct, frozen=True):
    """An emoji on a message, and the newest ten of its users, the last one first."""

    emoji: str
    count: int
    user_ids: list[str]


class Reactor(msgspec.Struct, frozen=True):
    """Who reacted to a message, and with what."""

    emoji: str
    user_id: str
    username: str
    display_name: str | None
    created_at: str


class Mine(msgspec.Struct, frozen=True):
    """A member's own side of a room."""

    role: str
    joined_at: str
    last_read_seq: int
    delivered_seq: int
    """Up to which message the room has reached a device of the member."""
    from_seq: int
    """Messages before this one are hidden from the member."""
    unread: int
    mentions: int
    notify: str | None
    muted_until: str | None
    """It may have passed."""
    archived: Archived
    pinned_at: str | None
    marked_unread: bool
    following: bool
    version: int
    """How often this has changed by what the member did, new messages apart."""


class Receipt(msgspec.Struct, frozen=True):
    """Up to which message a member has read the room, and up to which it has reached a device of theirs."""

    user_id: str
    read_seq: int
    delivered_seq: int


class MessageReceipts(msgspec.Struct, frozen=True):
    """Members who have read a message, and those whom it has reached: user ids, and how many."""

    read: list[str]
    delivered: list[str]
    read_count: int
    delivered_count: int


class MineChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a member's own side of a room. UNSET keeps a field, None clears it."""

    notify: Notify | UnsetType | None = UNSET
    muted_until: str | UnsetType | None = UNSET
    archived: Archived | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    marked_unread: bool | UnsetType = UNSET
    clear_history: bool = False
    """Hide all messages that are there now from this member, for good."""


class Totals(msgspec.Struct, frozen=True):
    """What is unread in a user's rooms, without those that are silenced or archived."""

    rooms: int
    """Rooms with unread messages, and those that are marked as unread."""
    messages: int
    mentions: int
    direct: int
    """The direct ones of *rooms*."""


class Room(msgspec.Struct, frozen=True):
    """A room. `unread`, `mine` and `last_message` are set only in a list of one member's rooms."""

    id: str
    project_id: str
    name: str
    description: str | None
    private: bool
    created_by: str
    member_count: int
    last_seq: int
    last_message_at: str | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    kind: str
    """`room`, or `direct`: for a set of users who never change."""
    small: bool
    """False for a large room, which is told less."""
    rev: int | UnsetType = UNSET
    """How many changes it has seen, new messages apart; not there for none."""
    external_id: str | UnsetType = UNSET
    """The app's own id of it."""
    members: list[PublicUser] | UnsetType = UNSET
    """Of a direct room: its users, by id."""
    unread: int | UnsetType = UNSET
    mine: Mine | UnsetType = UNSET
    last_message: Message | UnsetType | None = UNSET
    """None if there is none, or none that the member sees."""
    settings: RoomSettings | UnsetType = UNSET
    """Not there while it has none of its own."""
    message_count: int | UnsetType = UNSET
    """Of messages that are not deleted; not there for none."""


class Reason(msgspec.Struct, frozen=True):
    """Why a message is told again."""

    kind: Literal["edited", "reaction", "pinned", "unpinned"]
    user_id: str | UnsetType = UNSET
    """Who did it, or whose reaction it is; not there for the key."""
    emoji: str | UnsetType = UNSET
    """What the user reacted with; there for a reaction alone."""
    added: bool | UnsetType = UNSET
    """Of a reaction: false for one that was taken back."""


class ReadMessage(Message, frozen=True):
    """A message as one reader gets it."""

    mine: OwnReactions | UnsetType = UNSET
    """The reader's own reactions, as in Page."""


class Pins(msgspec.Struct, frozen=True):
    """The pinned messages of a room, newest pin first."""

    items: list[Message]
    mine: OwnReactions | UnsetType = UNSET
    """The reader's own reactions, as in Page."""


class ChangedMessage(Message, frozen=True):
    """The payload of messageUpdated: the message as it is now, and why it is told."""

    change: Reason | UnsetType = UNSET


class Change(msgspec.Struct, frozen=True):
    """An object of a room as it is now, and the rev of its last change. One of the three is set, as `kind` says."""

    rev: int
    kind: Literal["message", "room", "member"]
    message: Message | UnsetType = UNSET
    room: Room | UnsetType = UNSET
    member: Member | UnsetType | None = UNSET
    """None for a user who is no member any more."""
    user_id: str | UnsetType = UNSET
    """Whose membership it is; there for a member alone."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of a room after some rev, oldest first."""

    items: list[Change]
    rev: int
    """The room's."""
    has_more: bool
    reset: bool
    """The rev is not one of this room's, or too long ago: the client has to read the room again."""
    mine: OwnReactions | UnsetType = UNSET
    """The reader's own reactions, as in Page."""


class Delta(msgspec.Struct, frozen=True):
    """A room, and what a member's client lacks of it."""

    room: Room
    mine: Mine | None
    """None for who is no member, and peeks."""
    last_seq: int
    rev: int
    epoch: str
    reset: bool = False
    """The client has to forget what it has; `missed` are the newest messages."""
    missed: list[Message] = []
    """Messages that are new to the client, oldest first."""
    changed: list[Change] = []
    """Changes of what the client has."""
    has_more: bool = False
    receipts: list[Receipt] | UnsetType = UNSET
    """Of all members of a small room who show them; not there for a reader who shows none."""
    own_reactions: OwnReactions | UnsetType = UNSET
    """The member's, to messages that do not show all users of a reaction."""


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what a user's client lacks of all its rooms."""

    deltas: list[Delta]
    """One of each room, the newest activity first."""
    removed: list[str]
    """Rooms that the client has and the user has no more."""
    unread: Totals
    epoch: str
    has_more: bool
    cursor: str | None
    """Of the next page."""
    version: int
    """The user's own: how often something has changed that changes `mine` of all rooms, such as blocks."""
    reload: bool | UnsetType = UNSET
    """The client knows another version: it has to read `mine` of all rooms anew."""
    token: str | UnsetType = UNSET
    """For the next sync, so that rooms joined meanwhile are answered. With the last page."""


class AddedMembers(msgspec.Struct, frozen=True):
    """The users who were made members, and those who were members before."""

    added: list[Member]
    there: list[str]


class Page(msgspec.Struct, frozen=True):
    """A page of a list. `next_cursor` and `has_more` are set only in a page by cursor."""

    items: list[Any]
    page: int
    limit: int
    total: int
    total_pages: int = msgspec.field(name="totalPages")
    next_cursor: int | str | UnsetType | None = UNSET
    has_more: bool | UnsetType = UNSET
    has_before: bool | UnsetType = UNSET
    """Around a message, as `has_after`."""
    has_after: bool | UnsetType = UNSET
    mine: OwnReactions | UnsetType = UNSET
    """The reader's, to messages that do not show all users of a reaction."""

    @classmethod
    def of(cls, items: list[Any], page: int, limit: int, total: int) -> "Page":
        return cls(items, page, limit, total, -(-total // limit))


class CursorPage(msgspec.Struct, frozen=True):
    """A page of a list that has cursors alone."""

    items: list[Any]
    limit: int
    next_cursor: str | None
    has_more: bool
    mine: OwnReactions | UnsetType = UNSET
    """The reader's own reactions, as in Page."""


class ReadMark(msgspec.Struct, frozen=True):
    """The last message a member has read, and how many of others are unread."""

    last_read_seq: int
    unread: int


class RoomUser(msgspec.Struct, frozen=True):
    """A user as other members see them: the payload of userJoined, userLeft and the typing events."""

    room_id: str
    user_id: str
    username: str
    display_name: str | None
    rev: int | UnsetType = UNSET
    role: str | UnsetType = UNSET
    """Of who joined as something else than a plain member."""
    expires_in: int | UnsetType = UNSET
    """Of userTyping: seconds after which the user types no more, unless it is told again."""


class Presence(msgspec.Struct, frozen=True):
    """Whether a user is online."""

    user_id: str
    online: bool | None
    """None for a user who does not want to be seen."""
    last_seen_at: str | UnsetType = UNSET
    """Not there for a user who was never seen, or does not want to be."""


class Signal(msgspec.Struct, frozen=True):
    """The payload of the event `signal`."""

    room_id: str | None
    """None for one to a user."""
    user_id: str | None
    """Who sent it; None for the API key."""
    username: str | None
    name: str
    data: Any
    at: str


class TokenResponse(msgspec.Struct, frozen=True):
    """A new chat token and its user. `repr` hides the token, which is a secret."""

    token: str
    expires_in: int
    expires_at: str
    user: User
    token_type: str = "Bearer"  # noqa: S105 – the scheme, not a secret

    def __repr__(self) -> str:
        return f"TokenResponse(token=…, expires_at={self.expires_at!r}, user={self.user.id!r})"


class UserDraft(msgspec.Struct, frozen=True, kw_only=True):
    username: str
    external_user_id: str
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class UserChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a user. UNSET keeps a field, None clears it."""

    username: str | UnsetType = UNSET
    display_name: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    avatar_url: str | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class UserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user has set about themselves."""

    presence: Visibility
    """Whether others see that the user is online."""
    receipts: bool
    """Whether others see what the user has read; without it the user is not shown what others have read."""
    notify: Notify | None
    """What the user is notified of where a room says nothing else. None: of all in direct and small rooms, of mentions elsewhere."""
    push_preview: bool
    """Whether a notification holds the text of the message."""


class UserSettingsChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a user's settings. UNSET keeps a field, None clears it."""

    presence: Visibility | UnsetType = UNSET
    receipts: bool | UnsetType = UNSET
    notify: Notify | UnsetType | None = UNSET
    push_preview: bool | UnsetType = UNSET


class RoomDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A room to create. `created_by` becomes its owner, `member_ids` become members."""

    name: str
    created_by: str
    description: str | None = None
    private: bool = False
    member_ids: list[str] = msgspec.field(default_factory=list)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    external_id: str | None = None


class RoomChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a room. UNSET keeps a field, None clears it."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    private: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType = UNSET
    """Those to change, others stay."""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """The Idempotency-Key of one operation (caller, method and path), and the hash of the request body."""

    operation: str
    value: str
    fingerprint: str
