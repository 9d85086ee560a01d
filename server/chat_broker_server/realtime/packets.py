"""Reads Socket.IO packets strictly, and encodes packets once for any number of sockets.

A packet is a digit for its kind, an optional acknowledgement id, and JSON. Engine.IO puts the digit 4 ("message") in
front. Only the kinds and the namespace that this server supports are accepted.
"""

import re
from typing import Any, Final, Literal, NamedTuple

import msgspec
from engineio import packet

from chat_broker_kit import strict_json
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.realtime import websocket_frames

MESSAGE: Final = packet.MESSAGE
CLOSE: Final = packet.CLOSE

#: Replaces a packet that Engine.IO cannot handle. `read` refuses it, so bad packets are counted in one place.
REFUSED: Final = "4!"
#: Replaces a message over the limit.
OVERSIZED: Final = "4?"

_QUOTE: Final = b'"reply_to":{"id":'

_PACKET = re.compile(r"([0-6])(?:(/[^,]{0,128}),)?([0-9]{0,15})(.*)", re.ASCII | re.DOTALL)
_KINDS: dict[str, Literal["connect", "disconnect", "event"]] = {
    "0": "connect",
    "1": "disconnect",
    "2": "event",
}


class ProtocolError(ValueError):
    """The client broke the protocol; the text says how."""


class OversizedError(ProtocolError):
    """The message was over the limit and was replaced by OVERSIZED."""


class OtherNamespaceError(ProtocolError):
    """The packet is for a namespace other than `/`."""

    def __init__(self, namespace: str, *, connects: bool) -> None:
        super().__init__("there is only the namespace /")
        self.namespace = namespace
        self.connects = connects


class BadArgumentsError(ValueError):
    """An event whose arguments are not strict JSON. With an *ack_id* the client waits for an acknowledgement."""

    def __init__(self, message: str, *, ack_id: int | None) -> None:
        super().__init__(message)
        self.ack_id = ack_id


class ClientPacket(NamedTuple):
    """One packet of a client. For an event, *data* is a list whose first item is the name."""

    kind: Literal["connect", "disconnect", "event"]
    ack_id: int | None
    data: Any


def read(text: str | bytes | object) -> ClientPacket:
    """Parse a client's packet. Raises ProtocolError, or BadArgumentsError for an event with bad JSON."""
    if not isinstance(text, str):
        raise ProtocolError("binary packets are not accepted")
    if text == OVERSIZED[1:]:
        raise OversizedError("a message is too long")
    match = _PACKET.fullmatch(text)
    if match is None:
        raise ProtocolError("not a Socket.IO packet")
    digit, namespace, number, body = match.groups()
    kind = _KINDS.get(digit)
    if body.startswith("/") and kind == "connect":  # "0/admin": a namespace without a comma
        namespace, body = body, ""
    if namespace not in {None, "/"}:
        raise OtherNamespaceError(namespace, connects=kind == "connect")
    if kind is None:
        raise ProtocolError("a client sends no packets of this kind")
    if kind != "event":
        return ClientPacket(kind, None, _json(body) if body else None)
    ack_id = int(number) if number else None
    if not body.startswith("["):
        raise ProtocolError("an event is a list that begins with its name")
    try:
        data = _json(body)
    except ProtocolError as error:
        raise BadArgumentsError(str(error), ack_id=ack_id) from None
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ProtocolError("an event is a list that begins with its name")
    return ClientPacket(kind, ack_id, data)


def acceptable(packet: str) -> bool:
    """Whether a client may send this Engine.IO packet at any time: a message, a pong or a close."""
    return packet in {"1", "3"} or (
        packet[:1] == "4" and packet[1:2] in {"0", "1", "2", "3", "4", "5", "6"}
    )


def _json(body: str) -> Any:
    try:
        return strict_json.parse(body.encode())
    except strict_json.NotStrictJson as error:
        raise ProtocolError(f"The JSON {error}.") from None
    except UnicodeEncodeError:
        raise ProtocolError("The JSON has half a surrogate pair in a text.") from None


class EncodedPacket(packet.Packet):  # type: ignore[misc]  # the library ships no types
    """An encoded packet: a whole websocket frame, and the text for Engine.IO."""

    def __init__(self, body: bytes) -> None:
        """*body* is the Socket.IO packet in UTF-8, for example `2["message",{…}]`."""
        super().__init__(MESSAGE)
        self.frame: bytes = websocket_frames.text(b"4%b" % body)
        self.size = len(self.frame)
        self._body = body
        self._text: str | None = None
        self._unquoted: tuple[int, EncodedPacket] | None = None

    def encode(self, b64: bool = False) -> str:  # noqa: ARG002, FBT  # the library's signature
        if self._text is None:
            self._text = f"4{self._body.decode()}"
        return self._text

    @property
    def quotes(self) -> bool:
        """Whether it may be an event about a message that answers another one."""
        return _QUOTE in self._body

    def as_seen(self, from_seq: int) -> "EncodedPacket":
        """This packet for a member who sees messages from *from_seq* on: without what it quotes of an earlier one."""
        if from_seq <= 1 or not self.quotes:
            return self
        if self._unquoted is None:
            self._unquoted = self._without_quote()
        seq, unquoted = self._unquoted
        return unquoted if seq < from_seq else self

    def _without_quote(self) -> "tuple[int, EncodedPacket]":
        """The number of the message that is quoted, and this packet without its text."""
        name, message = msgspec.json.decode(self._body[1:])
        quote = message.get("reply_to")
        if not isinstance(quote, dict):
            return MAX_SEQ, self  # it only looked like one
        quote["content"] = ""
        return quote["seq"], event(name, msgspec.json.encode(message))


def event(name: str, payload: bytes) -> EncodedPacket:
    """EVENT with one argument, the JSON *payload*."""
    return EncodedPacket(b'2["%b",%b]' % (name.encode(), payload))


def acknowledgement(ack_id: int, payload: bytes) -> EncodedPacket:
    """ACK of the event with *ack_id*, with one argument, the JSON *payload*."""
    return EncodedPacket(b"3%d[%b]" % (ack_id, payload))


def connect(sid: str) -> EncodedPacket:
    """CONNECT: the handshake succeeded."""
    return EncodedPacket(b'0{"sid":"%b"}' % sid.encode())


def connect_error(namespace: str, payload: bytes) -> EncodedPacket:
    """CONNECT_ERROR for *namespace* with the JSON *payload*."""
    return EncodedPacket(
        b"4%b%b" % (b"" if namespace == "/" else namespace.encode() + b",", payload)
    )


def disconnect() -> EncodedPacket:
    """DISCONNECT: client libraries do not reconnect after it."""
    return EncodedPacket(b"1")


def size_of(item: packet.Packet | None) -> int:
    """Bytes of *item* on the wire, roughly."""
    if isinstance(item, EncodedPacket):
        return item.size
    data = getattr(item, "data", None)
    return len(data) + 8 if isinstance(data, (str, bytes)) else 64
