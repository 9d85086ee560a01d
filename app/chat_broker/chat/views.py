"""What frontends get to see: our own models, written out as ready bytes."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from chat_broker.chat.people_views import PublicUserView, public_user
from chat_broker.upstream.tokens import OwnerOfToken
from chat_broker_sdk import (
    ChatUser,
    Member,
    MemberPage,
    Message,
    Mine,
    Page,
    Quote,
    Reaction,
    ReadMark,
    Room,
)

encode = msgspec.json.Encoder().encode


class QuoteView(Struct):
    """The beginning of the message that another one answers, as it is now."""

    id: str
    seq: int | None
    user_id: str | None
    username: str | None
    display_name: str | None
    content: str


class ReactionView(Struct):
    """An emoji put to a message by *count* users, and the newest ten of them."""

    emoji: str
    count: int
    user_ids: tuple[str, ...]


class MessageView(Struct):
    """A message at its place *seq*."""

    id: str
    room_id: str | None
    seq: int | None
    user_id: str | None
    username: str | None
    display_name: str | None
    content: str
    client_msg_id: str | None
    metadata: dict[str, Any]
    created_at: str | None
    edited_at: str | None
    deleted_at: str | None
    rev: int | UnsetType = UNSET
    avatar_url: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    event: dict[str, Any] | UnsetType = UNSET
    reply_to: QuoteView | UnsetType = UNSET
    mentions: tuple[str, ...] | UnsetType = UNSET
    mention_room: bool | UnsetType = UNSET
    silent: bool | UnsetType = UNSET
    author_deleted: bool | UnsetType = UNSET
    reactions: list[ReactionView] | UnsetType = UNSET
    pinned_at: str | UnsetType = UNSET
    pinned_by: str | UnsetType = UNSET


SETTINGS = (
    *("read_only", "slow_mode", "history", "invites", "system_messages", "edit_window"),
    *("retention_days", "reactions", "threads", "attachments"),
)
"""The settings of a room that frontends know."""


class MineView(Struct):
    """The caller's own side of a room, which only the caller sees."""

    role: str
    joined_at: str | None
    last_read_seq: int
    delivered_seq: int
    from_seq: int
    unread: int
    mentions: int
    notify: str | None
    muted_until: str | None
    archived: str
    pinned_at: str | None
    marked_unread: bool
    following: bool
    version: int


class RoomView(Struct):
    """A room; a direct one has *members*. *metadata* is for members; *unread*, *mine* and *last_message* for the member it was listed for."""

    id: str
    project_id: str | None
    name: str
    description: str | None
    private: bool
    created_by: str | None
    member_count: int | None
    last_seq: int | None
    last_message_at: str | None
    created_at: str | None
    updated_at: str | None
    metadata: dict[str, Any] | UnsetType = UNSET
    unread: int | UnsetType = UNSET
    kind: str = "room"
    small: bool | UnsetType = UNSET
    rev: int | UnsetType = UNSET
    external_id: str | UnsetType = UNSET
    members: list[PublicUserView] | UnsetType = UNSET
    mine: MineView | UnsetType = UNSET
    last_message: MessageView | UnsetType | None = UNSET
    settings: dict[str, Any] | UnsetType = UNSET
    message_count: int | UnsetType = UNSET


class MemberView(Struct):
    """A member of a room. The last two fields are there if the operator exposes them."""

    room_id: str | None
    user_id: str
    username: str | None
    display_name: str | None
    role: str | None
    joined_at: str | None
    last_read_seq: int | None
    rev: int | UnsetType = UNSET
    avatar_url: str | UnsetType = UNSET
    external_user_id: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class MeView(Struct):
    """The caller's own chat user, whole."""

    id: str
    project_id: str | None
    external_user_id: str | None
    username: str
    display_name: str | None
    email: str | None
    avatar_url: str | None
    status: str
    metadata: dict[str, Any]
    created_at: str | None
    updated_at: str | None


class SocketServer(Struct):
    """Where to connect."""

    url: str
    socket_path: str


class TokenView(Struct):
    """A chat token and all a client needs to use it, without a clock of its own."""

    token: str
    token_type: str
    expires_in: int
    refresh_in: int
    expires_at: str
    server_time: str
    session_id: str | None
    user: OwnerOfToken
    server: SocketServer

    def __repr__(self) -> str:
        return f"TokenView(token=<hidden>, expires_in={self.expires_in})"


class VerifiedUser(Struct):
    """Whom a chat token stands for."""

    userId: str  # noqa: N815 - the contract's spelling
    username: str | None
    externalUserId: str | None  # noqa: N815
    projectId: str | None  # noqa: N815


class VerifiedView(Struct):
    """What the Chat API says of a chat token."""

    valid: bool
    user: VerifiedUser
    expires_at: str | None


class ReadMarkView(Struct):
    """How far the caller has read."""

    last_read_seq: int
    unread: int | None


class PageView(Struct):
    """One page of a list."""

    items: list[Any]
    page: int
    limit: int | None
    total: int | None
    total_pages: int | None = msgspec.field(name="totalPages")
    next_cursor: int | UnsetType | None = UNSET
    has_more: bool | UnsetType = UNSET
    has_before: bool | UnsetType = UNSET
    has_after: bool | UnsetType = UNSET
    mine: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


class MembersView(Struct):
    """Some members. What follows is had with *next_cursor*; *page* and the totals are there without a cursor."""

    items: list[MemberView]
    limit: int | None
    page: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    total_pages: int | UnsetType = msgspec.field(name="totalPages", default=UNSET)
    next_cursor: str | None = None
    has_more: bool = False


class AddedView(Struct):
    """Who was made a member, and the ids of those who were members before."""

    added: list[MemberView]
    there: list[str]


def instant(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with `Z`; milliseconds unless there is more to tell."""
    if moment is None:
        return None
    if moment.tzinfo is UTC:
        # `2026-01-01T00:00:00Z`, or with six digits after a dot: a tenth of what isoformat takes.
        text = encode(moment)
        if text.endswith(b'000Z"'):
            return text[1:-5].decode() + "Z"
        return text[1:-1].decode() if len(text) > 22 else text[1:-2].decode() + ".000Z"
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    precision = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def room(one: Room, *, for_member: bool = True) -> RoomView:
    """A room as the caller sees it."""
    view = RoomView(
        one.id,
        one.project_id,
        one.name,
        one.description,
        one.private,
        one.created_by,
        one.member_count,
        one.last_seq,
        instant(one.last_message_at),
        instant(one.created_at),
        instant(one.updated_at),
        (one.metadata or {}) if for_member else UNSET,
        UNSET if one.unread is None else one.unread,
        one.kind,
        UNSET if one.small is None else one.small,
        UNSET if one.rev is None else one.rev,
    )
    if one.settings:
        view.settings = {name: one.settings[name] for name in SETTINGS if name in one.settings}
    if one.external_id is not None:
        view.external_id = one.external_id
    if one.message_count:
        view.message_count = one.message_count
    if one.kind == "direct":
        view.members = [public_user(user) for user in one.members]
    if one.mine is not None:
        view.mine = mine(one.mine)
        view.last_message = None if one.last_message is None else message(one.last_message)
    return view


def mine(one: Mine) -> MineView:
    """The caller's own side of a room."""
    return MineView(
        one.role,
        instant(one.joined_at),
        one.last_read_seq,
        one.delivered_seq,
        one.from_seq,
        one.unread,
        one.mentions,
        one.notify,
        instant(one.muted_until),
        one.archived,
        instant(one.pinned_at),
        one.marked_unread,
        one.following,
        one.version,
    )


def member(one: Member, exposed: dict[str, Any] | None = None) -> MemberView:
    """A member; *exposed* holds what the operator adds."""
    return MemberView(
        one.room_id,
        one.user_id,
        one.username,
        one.display_name,
        one.role,
        instant(one.joined_at),
        one.last_read_seq,
        UNSET if one.rev is None else one.rev,
        one.avatar_url or UNSET,
        **(exposed or {}),
    )


def reactions(of: Iterable[Reaction]) -> list[ReactionView]:
    """Reactions to a message."""
    return [ReactionView(each.emoji, each.count, each.user_ids) for each in of]


def message(one: Message) -> MessageView:
    """A message."""
    return MessageView(
        one.id,
        one.room_id,
        one.seq,
        one.user_id,
        one.username,
        one.display_name,
        one.content,
        one.client_msg_id,
        one.metadata or {},
        instant(one.created_at),
        instant(one.edited_at) if one.edited_at else None,
        instant(one.deleted_at) if one.deleted_at else None,
        UNSET if one.rev is None else one.rev,
        one.avatar_url or UNSET,
        UNSET if one.type == "text" else one.type,
        UNSET if one.event is None else one.event,
        UNSET if one.reply_to is None else _quote(one.reply_to),
        one.mentions or UNSET,
        one.mention_room or UNSET,
        one.silent or UNSET,
        one.author_deleted or UNSET,
        reactions(one.reactions) if one.reactions else UNSET,
        instant(one.pinned_at) or UNSET,
        one.pinned_by or UNSET,
    )


def _quote(one: Quote) -> QuoteView:
    return QuoteView(one.id, one.seq, one.user_id, one.username, one.display_name, one.content)


def some_members(of: MemberPage, items: list[MemberView]) -> MembersView:
    """Some members, as the caller sees them."""
    return MembersView(
        items,
        of.limit,
        UNSET if of.page is None else of.page,
        UNSET if of.total is None else of.total,
        UNSET if of.total_pages is None else of.total_pages,
        of.next_cursor,
        of.has_more,
    )


def me(one: ChatUser) -> MeView:
    """The caller."""
    return MeView(
        one.id,
        one.project_id,
        one.external_user_id,
        one.username,
        one.display_name,
        one.email,
        one.avatar_url,
        one.status,
        one.metadata or {},
        instant(one.created_at),
        instant(one.updated_at),
    )


def read_mark(one: ReadMark) -> ReadMarkView:
    """A read mark."""
    return ReadMarkView(one.last_read_seq, one.unread)


class UpstreamPage(Struct, frozen=True):
    """A page of messages as the Chat API sends it, each still as it came. Fields of a newer one are passed over."""

    items: list[Raw]
    page: int = 1
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: int | None = None
    has_more: bool | None = None
    has_before: bool | None = None
    has_after: bool | None = None
    mine: dict[str, tuple[str, ...]] = {}


def page(of: Page[Any] | UpstreamPage, items: Iterable[Struct | Raw]) -> PageView:
    """The page *of* something, with *items* as the caller sees them."""
    by_cursor = of.has_more is not None
    return PageView(
        list(items),
        of.page,
        of.limit,
        of.total,
        of.total_pages,
        of.next_cursor if by_cursor else UNSET,
        of.has_more if of.has_more is not None else UNSET,
        of.has_before if of.has_before is not None else UNSET,
        of.has_after if of.has_after is not None else UNSET,
        of.mine or UNSET,
    )
