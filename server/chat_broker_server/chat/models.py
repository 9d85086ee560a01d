"""The values that travel: what is answered, and what may be asked, exactly as in the contract.

Answers encode to the contract's JSON with `msgspec.json.encode`; the order of their fields is
the order of the columns in the queries that build them. Drafts and changes are what a caller
sent, already checked (see `checks.py`). Instants are RFC 3339 text in UTC with milliseconds.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

Role = Literal["owner", "member"]
Status = Literal["active", "suspended"]


class Limits(msgspec.Struct, frozen=True):
    """How much of something is taken or answered at once."""

    content: int
    """Characters of a message."""
    metadata: int
    """Bytes of JSON."""
    body: int
    """Bytes of a request."""
    answer: int
    """Bytes of an answer that ends early and says `has_more`."""
    page: int
    """Items of a page."""


class Project(msgspec.Struct, frozen=True):
    """The project that a credential opens, and what this server can do."""

    id: str
    name: str
    epoch: str
    """Numbers that were remembered under another one are worth nothing."""
    features: tuple[str, ...]
    limits: Limits


class User(msgspec.Struct, frozen=True):
    """A chat user of one project."""

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


class Room(msgspec.Struct, frozen=True):
    """A room; `unread` is there only where the room is listed for one of its members."""

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
    unread: int | UnsetType = UNSET


class Member(msgspec.Struct, frozen=True):
    """A user in a room: role (`owner` or `member`) and how far they have read."""

    room_id: str
    user_id: str
    username: str
    display_name: str | None
    role: str
    joined_at: str
    last_read_seq: int


class Message(msgspec.Struct, frozen=True):
    """A message at its place `seq`; a deleted one keeps the place, with empty content."""

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


class Page(msgspec.Struct, frozen=True):
    """A page of a list; `next_cursor` and `has_more` are there only where a cursor was used."""

    items: list[Any]
    page: int
    limit: int
    total: int
    total_pages: int = msgspec.field(name="totalPages")
    next_cursor: int | UnsetType | None = UNSET
    has_more: bool | UnsetType = UNSET

    @classmethod
    def of(cls, items: list[Any], page: int, limit: int, total: int) -> "Page":
        """Page number *page* of a list of *total* items."""
        return cls(items, page, limit, total, -(-total // limit))


class ReadMark(msgspec.Struct, frozen=True):
    """How far a member has read, and how many messages of others wait after that."""

    last_read_seq: int
    unread: int


class PersonInRoom(msgspec.Struct, frozen=True):
    """Payload of userJoined and userLeft."""

    room_id: str
    user_id: str
    username: str
    display_name: str | None


class Minted(msgspec.Struct, frozen=True):
    """A fresh chat token and whose it is. `token` is a secret: it hides itself in `repr`."""

    token: str
    expires_in: int
    expires_at: str
    user: User
    token_type: str = "Bearer"  # noqa: S105 – the scheme, not a secret

    def __repr__(self) -> str:
        return f"Minted(token=…, expires_at={self.expires_at!r}, user={self.user.id!r})"


class UserDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A user to create."""

    username: str
    external_user_id: str
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class UserChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change about a user; UNSET leaves a field alone, None empties it."""

    username: str | UnsetType = UNSET
    display_name: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    avatar_url: str | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class RoomDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A room to create; its creator becomes the owner, `member_ids` become members."""

    name: str
    created_by: str
    description: str | None = None
    private: bool = False
    member_ids: list[str] = msgspec.field(default_factory=list)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class RoomChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change about a room; UNSET leaves a field alone, None empties it."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    private: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Idempotency(msgspec.Struct, frozen=True):
    """An Idempotency-Key as the rules need it: where it counts, and for which body."""

    scope: str
    key: str
    fingerprint: str
