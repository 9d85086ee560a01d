"""Socket.IO packets as text: read strictly, and built once for any number of readers.

A packet is one digit for its kind, an optional acknowledgement number, and JSON; Engine.IO puts the
digit 4 ("message") in front. Only the kinds and the namespace this server speaks are let through.
"""

import re
from typing import Any, Final, Literal, NamedTuple

from engineio import packet

from chat_broker_kit import strict_json
from chat_broker_server.realtime import websocket_frames

MESSAGE: Final = packet.MESSAGE
CLOSE: Final = packet.CLOSE

#: What takes the place of a frame Engine.IO would stumble over: `read` refuses it, so that every bad frame is
#: counted at one place.
REFUSED: Final = "4!"
#: What takes the place of a message that is longer than it may be.
OVERSIZED: Final = "4?"

_PACKET = re.compile(r"([0-6])(?:(/[^,]{0,128}),)?([0-9]{0,15})(.*)", re.ASCII | re.DOTALL)
_KINDS: dict[str, Literal["connect", "disconnect", "event"]] = {
    "0": "connect",
    "1": "disconnect",
    "2": "event",
}


class ProtocolError(ValueError):
    """The peer sent what no client of this protocol sends; the text says what."""


class OversizedError(ProtocolError):
    """The message was longer than it may be; what stands here is OVERSIZED in its place."""


class OtherNamespaceError(ProtocolError):
    """The packet is for a namespace this server does not have."""

    def __init__(self, namespace: str, *, connects: bool) -> None:
        super().__init__("there is only the namespace /")
        self.namespace = namespace
        self.connects = connects


class BadArgumentsError(ValueError):
    """An event whose arguments are not strict JSON; it may still ask for an acknowledgement."""

    def __init__(self, message: str, *, ack_id: int | None) -> None:
        super().__init__(message)
        self.ack_id = ack_id


class Frame(NamedTuple):
    """One packet of a client: for an event, *data* is a list whose first item is a string."""

    kind: Literal["connect", "disconnect", "event"]
    ack_id: int | None
    data: Any


def read(text: str | bytes | object) -> Frame:
    """Take a client's packet apart. Raises ProtocolError, or BadArgumentsError for an event with bad JSON."""
    if not isinstance(text, str):
        raise ProtocolError("binary packets are not accepted")
    if text == OVERSIZED[1:]:
        raise OversizedError("a message is too long")
    match = _PACKET.fullmatch(text)
    if match is None:
        raise ProtocolError("not a Socket.IO packet")
    digit, namespace, number, body = match.groups()
    kind = _KINDS.get(digit)
    if body.startswith("/") and kind == "connect":  # "0/admin": a namespace may end the packet
        namespace, body = body, ""
    if namespace not in {None, "/"}:
        raise OtherNamespaceError(namespace, connects=kind == "connect")
    if kind is None:
        raise ProtocolError("a client sends no packets of this kind")
    if kind != "event":
        return Frame(kind, None, _json(body) if body else None)
    ack_id = int(number) if number else None
    if not body.startswith("["):
        raise ProtocolError("an event is a list that begins with its name")
    try:
        data = _json(body)
    except ProtocolError as error:
        raise BadArgumentsError(str(error), ack_id=ack_id) from None
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ProtocolError("an event is a list that begins with its name")
    return Frame(kind, ack_id, data)


def acceptable(packet: str) -> bool:
    """Is this an Engine.IO packet that a client may send at any time: a message, a pong, or the end?"""
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


class Ready(packet.Packet):  # type: ignore[misc]  # the library ships no types
    """A packet that is encoded already: the text for Engine.IO, and the whole websocket frame."""

    def __init__(self, body: bytes) -> None:
        """*body* is the Socket.IO packet, `2["message",{…}]` for example, in UTF-8."""
        super().__init__(MESSAGE)
        self.frame: bytes = websocket_frames.text(b"4%b" % body)
        self.size = len(self.frame)
        self._body = body
        self._text: str | None = None

    def encode(self, b64: bool = False) -> str:  # noqa: ARG002, FBT  # the library's signature
        """Answer the Engine.IO packet as text."""
        if self._text is None:
            self._text = f"4{self._body.decode()}"
        return self._text


def event(name: str, payload: bytes) -> Ready:
    """An event with one argument, whose JSON is *payload*."""
    return Ready(b'2["%b",%b]' % (name.encode(), payload))


def acknowledgement(ack_id: int, payload: bytes) -> Ready:
    """The answer to call number *ack_id*: one argument, whose JSON is *payload*."""
    return Ready(b"3%d[%b]" % (ack_id, payload))


def welcome(sid: str) -> Ready:
    """CONNECT: the client is in, under this name."""
    return Ready(b'0{"sid":"%b"}' % sid.encode())


def refusal(namespace: str, payload: bytes) -> Ready:
    """CONNECT_ERROR for *namespace* with *payload* as its JSON."""
    return Ready(b"4%b%b" % (b"" if namespace == "/" else namespace.encode() + b",", payload))


def farewell() -> Ready:
    """DISCONNECT: a client that hears it does not come back by itself."""
    return Ready(b"1")


def size_of(item: packet.Packet | None) -> int:
    """How many bytes *item* takes on the wire, about."""
    if isinstance(item, Ready):
        return item.size
    data = getattr(item, "data", None)
    return len(data) + 8 if isinstance(data, (str, bytes)) else 64
