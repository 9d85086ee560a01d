"""The Chat API's responses as frozen values. Fields that this version does not know are kept in `model_extra`."""

from datetime import datetime
from functools import cache
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct, field

T = TypeVar("T")


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all responses: attributes in snake_case, compared by value, immutable.

    `model_extra` holds the fields of a newer server that this SDK has no attribute for.
    """

    model_extra: dict[str, Any] = {}

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The value of a JSON response. Raises ValueError for any other shape."""
        return parse(text, cls)

    def to_dict(self) -> dict[str, Any]:
        """JSON types with the wire's field names (`totalPages`, `userId`), unknown fields included."""
        plain: dict[str, Any] = _merge_extra(msgspec.to_builtins(self))
        return plain


class Project(Model, frozen=True, kw_only=True):
    """The project of the client's credentials, and what its server offers.

    *features*: the optional parts that the server has, by name; none on a server that tells none. *limits*: its
    sizes, by name. *epoch* names the server's database: what a client remembers under another epoch is worthless.
    """

    id: str
    name: str | None = None
    epoch: str | None = None
    features: tuple[str, ...] = ()
    limits: dict[str, Any] = {}


class ChatUser(Model, frozen=True, kw_only=True):
    """A user of the project. *status* is `active` or `suspended`."""

    id: str
    username: str
    project_id: str | None = None
    external_user_id: str | None = None
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    status: str = "active"
    metadata: dict[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class PublicUser(Model, frozen=True, kw_only=True):
    """What users see of each other."""

    id: str
    username: str | None = None
    display_name: str | None = None
    avatar_url: str | None = None


class PublicUsers(Model, frozen=True, kw_only=True):
    """The wire's frame around users that were found."""

    items: tuple[PublicUser, ...]


class UserSettings(Model, frozen=True, kw_only=True):
    """What a user has set. *presence* is `visible` or `hidden`.

    *receipts*: whether others see what the user has read. *notify*: `all`, `mentions` or `none`, where a room says
    nothing else; None for the server's own rule. *push_preview*: whether notifications hold the text.
    """

    presence: str = "visible"
    receipts: bool = True
    notify: str | None = None
    push_preview: bool = True


class Token(Model, frozen=True, kw_only=True):
    """A chat JWT for one user, valid for *expires_in* seconds. The repr does not show it."""

    token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme
    expires_in: int | None = None
    expires_at: datetime | None = None
    user: ChatUser | None = None

    def __repr__(self) -> str:
        return f"Token(token=<hidden>, expires_in={self.expires_in!r}, expires_at={self.expires_at!r}, user={self.user!r})"


class RevokeReceipt(Model, frozen=True, kw_only=True):
    """The result of a revocation: the user's new token *generation*, and how many live connections it closed.

    *nodes_acked* of the server's *nodes_total* nodes have confirmed it, after *took_ms* milliseconds.
    """

    generation: int | None = None
    sockets_closed: int | None = None
    nodes_acked: int | None = None
    nodes_total: int | None = None
    took_ms: float | None = None


class ChangeReason(Model, frozen=True, kw_only=True):
    """Why a message is sent again: *kind* is `edited`, or another word of the server. *user_id*: whose act it was."""

    kind: str
    user_id: str | None = None
    emoji: str | None = None
    added: bool | None = None


class Reaction(Model, frozen=True, kw_only=True):
    """An emoji put to a message by *count* users. *user_ids*: the newest ten of them, the last one first."""

    emoji: str
    count: int
    user_ids: tuple[str, ...] = ()


class ReactionsOf(Model, frozen=True, kw_only=True):
    """The wire's frame around the reactions to a message."""

    reactions: tuple[Reaction, ...]


class Reactor(Model, frozen=True, kw_only=True):
    """Who reacted to a message, and with what."""

    emoji: str
    user_id: str
    username: str | None = None
    display_name: str | None = None
    created_at: datetime | None = None


class Quote(Model, frozen=True, kw_only=True):
    """The message that another one answers, as it is now: its first 200 characters, none if it was deleted."""

    id: str
    seq: int | None = None
    user_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    content: str = ""


class Message(Model, frozen=True, kw_only=True):
    """A message. *seq* counts from 1 in each room, without a gap, and is the order of display.

    A deleted message keeps its place, with empty content and *deleted_at*. *rev* is the room's `rev` at the
    message's last change, None if it was never changed. *change* says why the message is sent again; only live.

    *type*: `text`, or `system` for one that tells what happened, which *event* says: its `name`, and what goes with it.
    *mentions*: the users whom it names, by id; *mention_room*: everybody. A *silent* message is unread for nobody.
    *author_deleted*: its author is no user any more.
    *reactions* are in order of their first use. *pinned_by*: None, if the key pinned it in nobody's name.
    """

    id: str
    content: str
    room_id: str | None = None
    seq: int | None = None
    user_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    client_msg_id: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    rev: int | None = None
    avatar_url: str | None = None
    type: str = "text"
    event: dict[str, Any] | None = None
    reply_to: Quote | None = None
    mentions: tuple[str, ...] = ()
    mention_room: bool = False
    silent: bool = False
    author_deleted: bool = False
    reactions: tuple[Reaction, ...] = ()
    pinned_at: datetime | None = None
    pinned_by: str | None = None
    change: ChangeReason | None = None


class Mine(Model, frozen=True, kw_only=True):
    """One member's own side of a room. *version* grows with each change of it.

    *unread* counts messages of others after *last_read_seq*. Nothing before *from_seq* is shown to this member.
    *archived*: `no`, `until_message` or `yes`. *notify*: `all`, `mentions`, `none`, or None for the server's choice.
    """

    role: str
    last_read_seq: int
    joined_at: datetime | None = None
    delivered_seq: int = 0
    from_seq: int = 1
    unread: int = 0
    mentions: int = 0
    notify: str | None = None
    muted_until: datetime | None = None
    archived: str = "no"
    pinned_at: datetime | None = None
    marked_unread: bool = False
    following: bool = True
    version: int = 0


class Room(Model, frozen=True, kw_only=True):
    """A room. *unread*, *mine* and *last_message* are None unless the room was listed for a member.

    *settings* holds those of the room's settings that were changed, by name; None: none was.

    *rev* counts the room's changes, new messages apart (None: none yet); `last_seq` counts its messages. *small* is
    False for a room with many members, which is told less. Both are None on a server without `changes`. *message_count*
    is of messages that are not deleted.
    """

    id: str
    name: str
    project_id: str | None = None
    description: str | None = None
    private: bool = False
    created_by: str | None = None
    member_count: int | None = None
    last_seq: int | None = None
    last_message_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    kind: str = "room"
    small: bool | None = None
    rev: int | None = None
    external_id: str | None = None
    members: tuple[PublicUser, ...] = ()
    unread: int | None = None
    mine: Mine | None = None
    last_message: Message | None = None
    settings: dict[str, Any] | None = None
    message_count: int = 0


class Member(Model, frozen=True, kw_only=True):
    """One user's membership in one room. *role* is `owner`, `moderator`, `member` or `guest`.

    Messages below *from_seq* are hidden from the member. It is there for the API key and for the member alone; None: none is.
    """

    user_id: str
    room_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    role: str | None = None
    joined_at: datetime | None = None
    last_read_seq: int | None = None
    rev: int | None = None
    avatar_url: str | None = None
    from_seq: int | None = None


class AddedMembers(Model, frozen=True, kw_only=True):
    """The users who were made members, and the ids of those who were members before."""

    added: tuple[Member, ...] = ()
    there: tuple[str, ...] = ()


class Receipt(Model, frozen=True, kw_only=True):
    """How far a member is in a small room: read up to *read_seq*, on one of their devices up to *delivered_seq*."""

    user_id: str
    read_seq: int
    delivered_seq: int


class ReceiptEvent(Receipt, frozen=True, kw_only=True):
    """A member's marks in a room have moved. Keep the higher ones."""

    room_id: str


class MessageReceipts(Model, frozen=True, kw_only=True):
    """The members who have read a message, and those whom it has reached: ids and numbers, without its author."""

    read: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    read_count: int = 0
    delivered_count: int = 0


class Presence(Model, frozen=True, kw_only=True):
    """Whether a user is online. None for a user who does not want to be seen."""

    user_id: str
    online: bool | None
    last_seen_at: datetime | None = None


class PresenceChanges(Model, frozen=True, kw_only=True):
    """The users who came, went, or changed whether they are seen, as they are now."""

    changes: tuple[Presence, ...]


class Presences(Model, frozen=True, kw_only=True):
    """The wire's frame around presence that was asked for."""

    items: tuple[Presence, ...]


class RoomOnline(Model, frozen=True, kw_only=True):
    """How many of a room's members are online."""

    room_id: str
    members_online: int


class Signal(Model, frozen=True, kw_only=True):
    """What an app tells sockets, and stores nowhere. *data*: any JSON.

    *room_id* is None for a signal to a user, *user_id* and *username* for one that the API key has sent.
    """

    name: str
    at: datetime
    room_id: str | None = None
    user_id: str | None = None
    username: str | None = None
    data: Any = None


class ReadMark(Model, frozen=True, kw_only=True):
    """The `seq` up to which a member has read, and the number of unread messages."""

    last_read_seq: int
    unread: int | None = None


class DeliveredMark(Model, frozen=True, kw_only=True):
    """The `seq` up to which messages have reached one of the member's devices."""

    delivered_seq: int


class Totals(Model, frozen=True, kw_only=True):
    """What is unread in all rooms of a user that are neither silenced nor archived.

    *rooms* counts rooms with something unread, *direct* the direct ones of them.
    """

    rooms: int = 0
    messages: int = 0
    mentions: int = 0
    direct: int = 0


class TotalsOf(Model, frozen=True, kw_only=True):
    """The wire's frame around Totals."""

    totals: Totals


class Change(Model, frozen=True, kw_only=True):
    """One object of a room as it is now. *kind* says which of the other fields holds it.

    A member who is gone has *user_id* alone.
    """

    rev: int
    kind: str
    message: Message | None = None
    room: Room | None = None
    member: Member | None = None
    user_id: str | None = None


class Changes(Model, frozen=True, kw_only=True):
    """One answer of `rooms.changes`, by `rev`. The next one follows the `rev` of the last item.

    *rev* is the room's. *reset*: the changes asked for are not kept, and the room is to be read anew. *mine*: as in Page.
    """

    items: tuple[Change, ...]
    rev: int = 0
    has_more: bool = False
    reset: bool = False
    mine: dict[str, tuple[str, ...]] = {}


class Delta(Model, frozen=True, kw_only=True):
    """What a client lacks of one room: *missed* messages, oldest first, and what *changed* of older ones.

    *reset*: the client's copy of the room is worthless. *partial*: changes and *mine* are not known, because the
    server does not offer them. *mine* is None for a user who only looks. *own_reactions*: the member's, by message id, to
    messages that do not show all users of a reaction.
    """

    room: Room
    mine: Mine | None = None
    last_seq: int = 0
    rev: int = 0
    epoch: str | None = None
    reset: bool = False
    missed: tuple[Message, ...] = ()
    changed: tuple[Change, ...] = ()
    has_more: bool = False
    members_online: int | None = None
    receipts: tuple[Receipt, ...] = ()
    partial: bool = False
    own_reactions: dict[str, tuple[str, ...]] = {}


class SyncResult(Model, frozen=True, kw_only=True):
    """One answer of `client.sync`: rooms that differ from what the client knows, newest activity first.

    *removed*: rooms that are the user's no more. While *has_more*, call again with *cursor*. The last answer has a
    *token* to pass next time. *version* is the user's own, to pass as *have_version*. *reload*: it has changed, and
    `mine` of all rooms is to be read anew.
    """

    deltas: tuple[Delta, ...]
    removed: tuple[str, ...] = ()
    unread: Totals = Totals()
    epoch: str | None = None
    has_more: bool = False
    cursor: str | None = None
    token: str | None = None
    version: int | None = None
    reload: bool = False


class AuthUser(Model, frozen=True, kw_only=True):
    """The user of a chat token. The wire spells the fields `userId`, `externalUserId`, `projectId`."""

    user_id: str = field(name="userId")
    username: str | None = None
    external_user_id: str | None = field(name="externalUserId", default=None)
    project_id: str | None = field(name="projectId", default=None)


class AuthInfo(Model, frozen=True, kw_only=True):
    """The result of `auth.verify()` for a chat token."""

    user: AuthUser
    valid: bool = True
    expires_at: datetime | None = None


class Page(Model, Generic[T], frozen=True, kw_only=True):
    """One page of a list. *next_cursor* and *has_more* are None unless the list was read by cursor.

    *has_before* and *has_after* are there when messages around a `seq` were asked for. *mine*: the reader's own reactions
    by message id, of messages that do not show all users of a reaction.
    """

    items: tuple[T, ...]
    page: int = 1
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: int | None = None
    has_more: bool | None = None
    has_before: bool | None = None
    has_after: bool | None = None
    mine: dict[str, tuple[str, ...]] = {}

    @property
    def is_last(self) -> bool:
        """Whether no page follows. A page without totals is the last one if it is empty."""
        if self.has_more is not None:
            return not self.has_more
        if self.total_pages is not None:
            return self.page >= self.total_pages
        return not self.items


class CursorPage(Model, Generic[T], frozen=True, kw_only=True):
    """One page of a list that has cursors alone. The next page is had with *next_cursor*, None on the last one.

    *mine*: as in Page.
    """

    items: tuple[T, ...]
    limit: int | None = None
    next_cursor: str | None = None
    has_more: bool = False
    mine: dict[str, tuple[str, ...]] = {}


class MemberPage(Model, frozen=True, kw_only=True):
    """Some members of a room. What follows is had with *next_cursor*, None at the end.

    *page*, *total* and *total_pages* are None for what follows a cursor.
    """

    items: tuple[Member, ...]
    page: int | None = None
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: str | None = None
    has_more: bool = False


class JoinedRoom(Model, frozen=True, kw_only=True):
    """The result of `socket.join_room`: the room, how many members are online, missed messages and what changed.

    *has_more*: `missed` or `changed` is not complete. The socket fetches the rest itself. *rev* and *epoch* are None on
    a server that does not number changes. *reset*: what was known of the room is worthless. *own_reactions*: as in Delta.
    """

    ok: bool = True
    room: Room | None = None
    members_online: int | None = None
    last_seq: int | None = None
    missed: tuple[Message, ...] = ()
    has_more: bool | None = None
    mine: Mine | None = None
    rev: int | None = None
    epoch: str | None = None
    reset: bool = False
    changed: tuple[Change, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    own_reactions: dict[str, tuple[str, ...]] = {}


class MemberEvent(Model, frozen=True, kw_only=True):
    """A user joined or left a room, or started or stopped typing there: for *expires_in* seconds, unless told again.

    *role* is that of a user who joined, None for a plain member.
    """

    room_id: str
    user_id: str
    username: str | None = None
    display_name: str | None = None
    rev: int | None = None
    role: str | None = None
    expires_in: int | None = None


class RoomDeleted(Model, frozen=True, kw_only=True):
    """The room with this id was deleted."""

    room_id: str


class RoomRemoved(Model, frozen=True, kw_only=True):
    """A room is not the user's any more. *reason*: `left`, `removed`, `banned`, `deleted`; None if it is not known."""

    room_id: str
    reason: str | None = None


class RoomActivity(Model, frozen=True, kw_only=True):
    """Something was said in a room, or its newest message has changed. *last_message* is that message as it is now.

    *unread* and *mentions* are the user's, in small rooms; None in others.
    """

    room_id: str
    last_seq: int
    rev: int = 0
    last_message: Message | None = None
    unread: int | None = None
    mentions: int | None = None


class MineEvent(Model, frozen=True, kw_only=True):
    """The user's own side of a room as it is now, and what is unread in all rooms.

    *reload*: it has changed in all rooms, and is to be read anew; the other fields are None.
    """

    room_id: str | None = None
    mine: Mine | None = None
    totals: Totals | None = None
    reload: bool = False


class TokenExpiring(Model, frozen=True, kw_only=True):
    """The connection's token expires in *expires_in* seconds."""

    expires_at: datetime | None = None
    expires_in: float | None = None


class SocketErrorEvent(Model, frozen=True, kw_only=True):
    """A problem the server reported on the live connection.

    *closing*: the server closes the connection, and *reconnect* says whether connecting again can succeed. Other
    errors leave the connection open. *retry_after* is in seconds.
    """

    code: str = "error"
    message: str = ""
    reconnect: bool | None = None
    closing: bool | None = None
    retry_after: float | None = None


_decoders: dict[int, tuple[Any, msgspec.json.Decoder[Any]]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    # Looked up by id, because hashing `Page[Message]` takes as long as decoding a short body. The entry holds the
    # type itself, so that no other object gets its id.
    cached = _decoders.get(id(kind))
    if cached is None or cached[0] is not kind:
        cached = _decoders[id(kind)] = kind, msgspec.json.Decoder(kind)
    return cached[1]


def parse(body: bytes, kind: type[T]) -> T:
    """*body* as a value of type *kind*. Raises ValueError if it is not JSON of that shape.

    A body without unknown fields is decoded directly; only others are decoded into a dict first.
    """
    try:
        decoded: T = _decoder(kind).decode(body)
        return decoded
    except msgspec.ValidationError:
        pass
    return build(msgspec.json.decode(body), kind)


def build(value: Any, kind: type[T]) -> T:
    """*value* (parsed JSON) as *kind*, unknown fields in `model_extra`. Raises ValueError for any other shape."""
    return msgspec.convert(_move_extra(value, kind), kind)


def _move_extra(value: Any, kind: Any) -> Any:
    """*value* with the fields unknown to *kind* moved into `model_extra`, at every depth."""
    origin = get_origin(kind) or kind
    if isinstance(value, list) and origin is tuple:
        item = get_args(kind)[0]
        return [_move_extra(each, item) for each in value]
    if not isinstance(value, dict) or not (isinstance(origin, type) and issubclass(origin, Model)):
        options = get_args(kind) if isinstance(value, dict) else ()
        models = [
            option for option in options if isinstance(option, type) and issubclass(option, Model)
        ]
        return _move_extra(value, models[0]) if models else value
    types = _field_types(kind)
    known = {name: _move_extra(each, types[name]) for name, each in value.items() if name in types}
    extra = {name: each for name, each in value.items() if name not in types}
    return {**known, "model_extra": extra} if extra else known


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    fields = msgspec.structs.fields(kind)
    types = {each.encode_name: each.type for each in fields if each.name != "model_extra"}
    if args := get_args(kind):
        types = {
            name: tuple[args[0], ...] if get_origin(each) is tuple else each  # type: ignore[valid-type]  # a run-time type
            for name, each in types.items()
        }
    return types


def _merge_extra(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_merge_extra(each) for each in value]
    if not isinstance(value, dict):
        return value
    extra = value.pop("model_extra", {})
    return {**{name: _merge_extra(each) for name, each in value.items()}, **extra}
