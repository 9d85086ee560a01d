"""What the Chat API answers with: frozen values. Fields this version does not know are kept in `model_extra`."""

from datetime import datetime
from functools import cache
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct, field

T = TypeVar("T")


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every answer: attributes in snake_case, compared by value, never changed.

    `model_extra` holds the fields a newer server sent that this SDK has no attribute for.
    """

    model_extra: dict[str, Any] = {}

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The value that *text* spells as the wire does; ValueError if it is none of this kind."""
        return parse(text, cls)

    def to_dict(self) -> dict[str, Any]:
        """The answer as the wire spells it (`totalPages`, `userId`), JSON types only, unknown fields included."""
        return _plain(self)


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
    """A chat JWT for one user. The repr does not show it."""

    token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme
    expires_in: int | None = None
    expires_at: datetime | None = None
    user: ChatUser | None = None

    def __repr__(self) -> str:
        return f"Token(token=<hidden>, expires_in={self.expires_in!r}, expires_at={self.expires_at!r}, user={self.user!r})"


class RevokeReceipt(Model, frozen=True, kw_only=True):
    """What a revocation did: the user's new token *generation*, and the live connections it closed."""

    generation: int | None = None
    sockets_closed: int | None = None
    nodes_acked: int | None = None
    nodes_total: int | None = None
    took_ms: float | None = None


class Room(Model, frozen=True, kw_only=True):
    """A room. *unread* is there only where the room was listed for a member."""

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
    """One user's place in one room. *role* is `owner`, `member`, or what the server adds."""

    user_id: str
    room_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    role: str | None = None
    joined_at: datetime | None = None
    last_read_seq: int | None = None


class ReadMark(Model, frozen=True, kw_only=True):
    """How far a member has read, and how many messages are left."""

    last_read_seq: int
    unread: int | None = None


class Message(Model, frozen=True, kw_only=True):
    """A message. *seq* counts from 1 in each room without a gap and is the order everybody sees.

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
    """Whom a chat token stands for (`userId` and so on on the wire)."""

    user_id: str = field(name="userId")
    username: str | None = None
    external_user_id: str | None = field(name="externalUserId", default=None)
    project_id: str | None = field(name="projectId", default=None)


class AuthInfo(Model, frozen=True, kw_only=True):
    """What `auth.verify()` found out about a chat token."""

    user: AuthUser
    valid: bool = True
    expires_at: datetime | None = None


class Page(Model, Generic[T], frozen=True, kw_only=True):
    """One page of a list, a plain value. *next_cursor* and *has_more* are there only where a cursor was used."""

    items: tuple[T, ...]
    page: int = 1
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: int | None = None
    has_more: bool | None = None

    @property
    def is_last(self) -> bool:
        """Whether no page follows, as far as this one can tell."""
        if self.has_more is not None:
            return not self.has_more
        if self.total_pages is not None:
            return self.page >= self.total_pages
        return not self.items


class JoinedRoom(Model, frozen=True, kw_only=True):
    """What the server says to `socket.join_room`: the room, who is there, and what was missed.

    *has_more*: `missed` is not all of it. The socket fetches the rest by itself.
    """

    ok: bool = True
    room: Room | None = None
    members_online: int | None = None
    last_seq: int | None = None
    missed: tuple[Message, ...] = ()
    has_more: bool | None = None


class MemberEvent(Model, frozen=True, kw_only=True):
    """Somebody joined, left, began or stopped typing."""

    room_id: str
    user_id: str
    username: str | None = None
    display_name: str | None = None


class RoomDeleted(Model, frozen=True, kw_only=True):
    """A room is gone."""

    room_id: str


class TokenExpiring(Model, frozen=True, kw_only=True):
    """The connection's token runs out in *expires_in* seconds."""

    expires_at: datetime | None = None
    expires_in: float | None = None


class SocketErrorEvent(Model, frozen=True, kw_only=True):
    """A problem the server reported on the live connection.

    *closing*: the server ends the connection with it, and *reconnect* says whether connecting again helps. An error
    without it ends nothing.
    """

    code: str = "error"
    message: str = ""
    reconnect: bool | None = None
    closing: bool | None = None
    retry_after: float | None = None


_decoders: dict[int, tuple[Any, msgspec.json.Decoder[Any]]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    # By identity, and with the kind itself, so that its id stays its own: to hash `Page[Message]` takes as long as to
    # decode a short body.
    known = _decoders.get(id(kind))
    if known is None or known[0] is not kind:
        known = _decoders[id(kind)] = kind, msgspec.json.Decoder(kind)
    return known[1]


def parse(body: bytes, kind: type[T]) -> T:
    """*body* as *kind*; ValueError if it is not JSON of that shape.

    A body with known fields only is decoded straight into the value; the detour over a dict is taken
    only for one that holds fields to keep.
    """
    try:
        decoded: T = _decoder(kind).decode(body)
        return decoded
    except msgspec.ValidationError:
        pass
    return build(msgspec.json.decode(body), kind)


def build(value: Any, kind: type[T]) -> T:
    """*value* (what a JSON parser returns) as *kind*, unknown fields kept; ValueError if the shape differs."""
    return msgspec.convert(_sorted_out(value, kind), kind)


def _sorted_out(value: Any, kind: Any) -> Any:
    """*value* with the fields that *kind* does not know moved into `model_extra`, at every depth."""
    origin = get_origin(kind) or kind
    if isinstance(value, list) and origin is tuple:
        item = get_args(kind)[0]
        return [_sorted_out(each, item) for each in value]
    if not isinstance(value, dict) or not (isinstance(origin, type) and issubclass(origin, Model)):
        options = get_args(kind) if isinstance(value, dict) else ()
        models = [
            option for option in options if isinstance(option, type) and issubclass(option, Model)
        ]
        return _sorted_out(value, models[0]) if models else value
    known = _fields(kind)
    kept = {name: _sorted_out(each, known[name]) for name, each in value.items() if name in known}
    extra = {name: each for name, each in value.items() if name not in known}
    return {**kept, "model_extra": extra} if extra else kept


@cache
def _fields(kind: Any) -> dict[str, Any]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - kinds are ours
    origin = get_origin(kind) or kind
    hints = msgspec.structs.fields(kind)
    known = {each.encode_name: each.type for each in hints if each.name != "model_extra"}
    if args := get_args(kind):
        known = {
            name: tuple[args[0], ...] if get_origin(each) is tuple else each  # type: ignore[valid-type]  # a run-time type
            for name, each in known.items()
        }
    assert issubclass(origin, Model)  # noqa: S101
    return known


def _plain(value: Model) -> dict[str, Any]:
    plain: dict[str, Any] = _merged(msgspec.to_builtins(value))
    return plain


def _merged(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_merged(each) for each in value]
    if not isinstance(value, dict):
        return value
    extra = value.pop("model_extra", {})
    return {**{name: _merged(each) for name, each in value.items()}, **extra}
