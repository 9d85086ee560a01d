"""Client events: their names and arguments, and the errors of wrong ones. Pure."""

import re
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import msgspec

from chat_broker_server.chat.presence import MOST_WATCHED
from chat_broker_server.chat.sizes import LARGEST_PAGE
from chat_broker_server.chat.validation import HAD_ROOMS, as_integer
from chat_broker_server.errors import BadInput

#: Names that Socket.IO libraries reserve. They cannot be sent as events.
RESERVED: Final = frozenset(
    [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        "*",
    ]
)

MAX_TOKEN: Final = 8_192

RoomId = Annotated[str, msgspec.Meta(min_length=1, max_length=137)]
"""Of a room, or `external:` and the app's own."""
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Triple = tuple[Seq, Seq, Seq]
Opaque = Annotated[str, msgspec.Meta(max_length=1024)]


class OfRoom(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An event about one room."""

    room_id: RoomId


class Join(OfRoom, frozen=True):
    """Listen to a room, and become a member if it is not private."""

    knows_revs: ClassVar[bool] = False
    since_seq: Seq | None = None
    since_rev: Seq | None = None
    from_seq: Seq | None = None
    epoch: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    peek: bool | None = None
    """Listen to a room that is not private without becoming a member."""


class RevJoin(Join, frozen=True):
    """Join with any of the last four fields, also if it is null."""

    knows_revs = True


class Leave(OfRoom, frozen=True):
    """Stop listening to a room on this socket; membership stays."""


class Post(OfRoom, frozen=True):
    content: str
    client_msg_id: str | None = None
    metadata: dict[str, Any] | None = None


class Typing(OfRoom, frozen=True):
    starts: bool


class MarkRead(OfRoom, frozen=True):
    seq: Seq


class MarkDelivered(OfRoom, frozen=True):
    """Messages up to `seq` have reached this device."""

    seq: Seq


class WatchRooms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hear of all rooms of the user, beginning with what the client lacks of them."""

    have: Annotated[dict[RoomId, Triple], msgspec.Meta(max_length=HAD_ROOMS)] | None = None
    epoch: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    messages: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_PAGE)] | None = None
    cursor: Opaque | None = None
    token: Opaque | None = None
    have_version: Seq | None = None
    deliver: Literal["activity", "all"] | None = None


class UnwatchRooms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hear only of the rooms that this socket has joined."""


class Signal(OfRoom, frozen=True):
    """Tell the other sockets of the room something that is not stored."""

    name: str
    data: Any = None


class WatchPresence(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Tell who of these users comes and goes, in place of those named before."""

    user_ids: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=64)]],
        msgspec.Meta(max_length=MOST_WATCHED),
    ]


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN)]

    def __repr__(self) -> str:
        return "Refresh(token=…)"


ClientEvent = (
    Join
    | Leave
    | Post
    | Typing
    | MarkRead
    | MarkDelivered
    | WatchRooms
    | UnwatchRooms
    | Signal
    | WatchPresence
    | Refresh
)


class UnknownEvent(BadInput):
    code = "unknown_event"
    message = "There is no such event."


class InvalidArguments(BadInput):
    code = "invalid_arguments"


class _Shape(NamedTuple):
    """The arguments of an event: an object with the fields of *kind*, or the fields *texts* one by one."""

    kind: type[ClientEvent]
    expected: str
    texts: tuple[str, ...] = ()
    may_be_object: bool = True
    constants: tuple[tuple[str, Any], ...] = ()


def _only_room(name: str, kind: type[ClientEvent], **constants: Any) -> _Shape:
    expected = f"{name}(roomId): roomId text"
    return _Shape(
        kind, expected, ("roomId",), may_be_object=False, constants=tuple(constants.items())
    )


_SHAPES: Final = {
    "joinRoom": _Shape(
        Join,
        "joinRoom(roomId) or joinRoom({roomId, sinceSeq?, sinceRev?, fromSeq?, epoch?, peek?}):"
        " roomId and epoch text, peek true or false, the others integers from 0",
        ("roomId",),
    ),
    "leaveRoom": _only_room("leaveRoom", Leave),
    "sendMessage": _Shape(
        Post,
        "sendMessage(roomId, content) or sendMessage({roomId, content, clientMsgId?, metadata?}): "
        "texts, and metadata an object",
        ("roomId", "content"),
    ),
    "startTyping": _only_room("startTyping", Typing, starts=True),
    "stopTyping": _only_room("stopTyping", Typing, starts=False),
    "markRead": _Shape(MarkRead, "markRead({roomId, seq}): roomId text, seq an integer from 0"),
    "markDelivered": _Shape(
        MarkDelivered, "markDelivered({roomId, seq}): roomId text, seq an integer from 0"
    ),
    "watchRooms": _Shape(
        WatchRooms,
        "watchRooms({have?, epoch?, messages?, limit?, cursor?, token?, have_version?, deliver?}): have an"
        f" object from at most {HAD_ROOMS} room ids to [last_seq, rev, version], messages from 0 to 20, limit"
        f" from 1 to {LARGEST_PAGE}, have_version a version, deliver activity or all, the others texts",
    ),
    "unwatchRooms": _Shape(UnwatchRooms, "unwatchRooms()"),
    "sendSignal": _Shape(
        Signal, "sendSignal({roomId, name, data?}): roomId and name text, data any JSON"
    ),
    "watchPresence": _Shape(
        WatchPresence, f"watchPresence({{userIds}}): a list of at most {MOST_WATCHED} texts"
    ),
    "refreshToken": _Shape(Refresh, "refreshToken({token}): token text"),
}
_EVENTS: Final = _SHAPES | {
    re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name): shape
    for name, shape in _SHAPES.items()
}


def read(name: str, arguments: list[Any]) -> ClientEvent:
    """Parse event *name* with *arguments*. Raises UnknownEvent or InvalidArguments."""
    shape = _EVENTS.get(name)
    if shape is None:
        raise UnknownEvent
    fields, kind = None, shape.kind
    if shape.may_be_object and len(arguments) == 1 and isinstance(arguments[0], dict):
        fields = {field: as_integer(value) for field, value in arguments[0].items()}
        if kind is Join and not {"sinceRev", "fromSeq", "epoch", "peek"}.isdisjoint(fields):
            kind = RevJoin
    elif len(arguments) == len(shape.texts):
        fields = dict(zip(shape.texts, arguments, strict=True)) | dict(shape.constants)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        raise InvalidArguments(message=f"Expected {shape.expected}.") from None
