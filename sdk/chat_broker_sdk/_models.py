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
    """The project an API key belongs to."""

    id: str
    name: str | None = None


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


class Room(Model, frozen=True, kw_only=True):
    """A room. *unread* is None unless the room was listed for a member."""

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
    unread: int | None = None


class Member(Model, frozen=True, kw_only=True):
    """One user's membership in one room. *role* is `owner`, `member`, or another role of the server."""

    user_id: str
    room_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    role: str | None = None
    joined_at: datetime | None = None
    last_read_seq: int | None = None


class ReadMark(Model, frozen=True, kw_only=True):
    """The `seq` up to which a member has read, and the number of unread messages."""

    last_read_seq: int
    unread: int | None = None


class Message(Model, frozen=True, kw_only=True):
    """A message. *seq* counts from 1 in each room, without a gap, and is the order of display.

    A deleted message keeps its place, with empty content and *deleted_at*.
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
    """One page of a list. *next_cursor* and *has_more* are None unless the list was read by cursor."""

    items: tuple[T, ...]
    page: int = 1
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: int | None = None
    has_more: bool | None = None

    @property
    def is_last(self) -> bool:
        """Whether no page follows. A page without totals is the last one if it is empty."""
        if self.has_more is not None:
            return not self.has_more
        if self.total_pages is not None:
            return self.page >= self.total_pages
        return not self.items


class JoinedRoom(Model, frozen=True, kw_only=True):
    """The result of `socket.join_room`: the room, how many members are online, and the missed messages.

    *has_more*: `missed` is not complete. The socket fetches the rest itself.
    """

    ok: bool = True
    room: Room | None = None
    members_online: int | None = None
    last_seq: int | None = None
    missed: tuple[Message, ...] = ()
    has_more: bool | None = None


class MemberEvent(Model, frozen=True, kw_only=True):
    """A user joined or left a room, or started or stopped typing there."""

    room_id: str
    user_id: str
    username: str | None = None
    display_name: str | None = None


class RoomDeleted(Model, frozen=True, kw_only=True):
    """The room with this id was deleted."""

    room_id: str


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
