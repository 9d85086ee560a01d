"""Client events: their names and arguments, and the errors of wrong ones. Pure."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from chat_broker_server.chat.validation import as_integer
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

MAX_ID: Final = 64
MAX_TOKEN: Final = 8_192
MAX_SEQ: Final = 2**53


class Join(msgspec.Struct, frozen=True):
    """Listen to a room, and become a member if it is not private."""

    room_id: str
    since_seq: int | None = None
    since_rev: int | None = None
    from_seq: int | None = None
    epoch: str | None = None
    peek: bool = False
    """Listen to a room that is not private without becoming a member."""
    knows_revs: bool = False
    """Whether it has sent any of the last four."""


class Leave(msgspec.Struct, frozen=True):
    """Stop listening to a room on this socket; membership stays."""

    room_id: str


class Post(msgspec.Struct, frozen=True):
    room_id: str
    content: str
    client_msg_id: str | None = None
    metadata: dict[str, Any] | None = None


class Typing(msgspec.Struct, frozen=True):
    room_id: str
    starts: bool


class MarkRead(msgspec.Struct, frozen=True):
    room_id: str
    seq: int


class Refresh(msgspec.Struct, frozen=True):
    token: str

    def __repr__(self) -> str:
        return "Refresh(token=…)"


ClientEvent = Join | Leave | Post | Typing | MarkRead | Refresh


class UnknownEvent(BadInput):
    code = "unknown_event"
    message = "There is no such event."


class InvalidArguments(BadInput):
    code = "invalid_arguments"


def read(name: str, arguments: list[Any]) -> ClientEvent:
    """Parse event *name* with *arguments*. Raises UnknownEvent or InvalidArguments."""
    reader = _READERS.get(name)
    if reader is None:
        raise UnknownEvent
    return reader(arguments)


def _wrong(expected: str) -> InvalidArguments:
    return InvalidArguments(message=f"Expected {expected}.")


def _fields(value: Any, expected: str, needed: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | optional:
        raise _wrong(expected)
    return value


def _room_id(value: Any, expected: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID:
        raise _wrong(expected)
    return value


def _seq(value: Any, expected: str) -> int:
    value = as_integer(value)
    if type(value) is not int or not 0 <= value <= MAX_SEQ:
        raise _wrong(expected)
    return value


_KNOWN_REVS: Final = frozenset({"sinceRev", "fromSeq", "epoch", "peek"})


def _join(arguments: list[Any]) -> ClientEvent:
    expected = (
        "joinRoom(roomId) or joinRoom({roomId, sinceSeq?, sinceRev?, fromSeq?, epoch?, peek?}):"
        " roomId and epoch text, peek true or false, the others integers from 0"
    )
    match arguments:
        case [str(room_id)]:
            return Join(_room_id(room_id, expected))
        case [dict(value)]:
            fields = _fields(value, expected, {"roomId"}, {"sinceSeq", *_KNOWN_REVS})
            since_seq, since_rev, from_seq = (
                None if fields.get(name) is None else _seq(fields[name], expected)
                for name in ("sinceSeq", "sinceRev", "fromSeq")
            )
            epoch = fields.get("epoch")
            if not (epoch is None or (isinstance(epoch, str) and len(epoch) <= MAX_ID)):
                raise _wrong(expected)
            peek = fields.get("peek")
            if peek is not None and type(peek) is not bool:
                raise _wrong(expected)
            return Join(
                _room_id(fields["roomId"], expected),
                since_seq,
                since_rev,
                from_seq,
                epoch,
                peek=bool(peek),
                knows_revs=not _KNOWN_REVS.isdisjoint(fields),
            )
    raise _wrong(expected)


def _only_room(name: str, make: Callable[[str], ClientEvent]) -> Callable[[list[Any]], ClientEvent]:
    expected = f"{name}(roomId): roomId text"

    def read_room_id(arguments: list[Any]) -> ClientEvent:
        if len(arguments) != 1:
            raise _wrong(expected)
        return make(_room_id(arguments[0], expected))

    return read_room_id


def _post(arguments: list[Any]) -> ClientEvent:
    expected = (
        "sendMessage(roomId, content) or sendMessage({roomId, content, clientMsgId?, metadata?}): "
        "texts, and metadata an object"
    )
    match arguments:
        case [str(room_id), str(content)]:
            return Post(_room_id(room_id, expected), content)
        case [dict(value)]:
            fields = _fields(value, expected, {"roomId", "content"}, {"clientMsgId", "metadata"})
            content, client_msg_id = fields["content"], fields.get("clientMsgId")
            metadata = fields.get("metadata")
            if (
                isinstance(content, str)
                and (client_msg_id is None or isinstance(client_msg_id, str))
                and (metadata is None or isinstance(metadata, dict))
            ):
                return Post(_room_id(fields["roomId"], expected), content, client_msg_id, metadata)
    raise _wrong(expected)


def _mark_read(arguments: list[Any]) -> ClientEvent:
    expected = "markRead({roomId, seq}): roomId text, seq an integer from 0"
    if len(arguments) != 1:
        raise _wrong(expected)
    fields = _fields(arguments[0], expected, {"roomId", "seq"}, set())
    return MarkRead(_room_id(fields["roomId"], expected), _seq(fields["seq"], expected))


def _refresh(arguments: list[Any]) -> ClientEvent:
    expected = "refreshToken({token}): token text"
    if len(arguments) != 1:
        raise _wrong(expected)
    token = _fields(arguments[0], expected, {"token"}, set())["token"]
    if not isinstance(token, str) or not 1 <= len(token) <= MAX_TOKEN:
        raise _wrong(expected)
    return Refresh(token)


_READERS: Final[dict[str, Callable[[list[Any]], ClientEvent]]] = {}
for _camel, _snake, _reader in (
    ("joinRoom", "join_room", _join),
    ("leaveRoom", "leave_room", _only_room("leaveRoom", Leave)),
    ("sendMessage", "send_message", _post),
    ("startTyping", "start_typing", _only_room("startTyping", lambda room: Typing(room, True))),
    ("stopTyping", "stop_typing", _only_room("stopTyping", lambda room: Typing(room, False))),
    ("markRead", "mark_read", _mark_read),
    ("refreshToken", "refresh_token", _refresh),
):
    _READERS[_camel] = _READERS[_snake] = _reader
