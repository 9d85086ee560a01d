"""Reads and writes websocket frames (RFC 6455). Reading is strict. Pure."""

from typing import Final

from engineio import packet

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
FINAL: Final = 0x80

#: Reasons to close, section 7.4.1.
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NOT_UTF8: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
RESTART: Final = 1012

_CONTROLS: Final = frozenset({CLOSE, PING, 0xA})
_MAX_CONTROL: Final = 125

#: Engine.IO's ping and close packets, as whole frames.
ENGINE_PING: Final = b"\x81\x01%d" % packet.PING
ENGINE_CLOSE: Final = b"\x81\x01%d" % packet.CLOSE


class Violation(Exception):  # noqa: N818  # named for what happened, like the errors of errors.py
    """The client broke the protocol or a limit. Close the websocket with *code*."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


def text(body: bytes) -> bytes:
    """A whole text frame, without a mask as servers must send it."""
    length = len(body)
    if length < 126:
        return b"\x81%c%b" % (length, body)
    if length < 65536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2), body)
    return b"\x81\x7f%b%b" % (length.to_bytes(8), body)


def pong(payload: bytes) -> bytes:
    return b"\x8a%c%b" % (len(payload), payload)


def close(code: int) -> bytes:
    return b"\x88\x02%b" % code.to_bytes(2)


def read(data: bytes | bytearray, at: int, limit: int) -> tuple[int, bytes, int] | None:
    """Read the frame at *at*. Returns its first byte, its payload, and where the next frame begins.

    None if it is not complete yet. Raises Violation for a frame that a client may not send, and for a payload over
    *limit* bytes, before the payload has arrived.
    """
    have = len(data) - at
    if have < 2:
        return None
    first, length = data[at], data[at + 1]
    opcode = first & 0x0F
    # Reserved bits need an extension, and clients must mask (sections 5.1 and 5.2).
    if first & 0x70 or not length & 0x80:
        raise Violation(PROTOCOL_ERROR)
    length &= 0x7F
    if opcode > BINARY and (opcode not in _CONTROLS or length > _MAX_CONTROL or not first & FINAL):
        raise Violation(PROTOCOL_ERROR)
    start = at + 2
    if length > _MAX_CONTROL:
        size = 2 if length == 126 else 8
        if have < 2 + size:
            return None
        length = int.from_bytes(data[start : start + size])
        start += size
    if length > limit:
        raise Violation(TOO_BIG)
    body = start + 4
    end = body + length
    if len(data) < end:
        return None
    if not length:
        return first, b"", end
    mask = data[start:body] * (length // 4 + 1)
    masked = int.from_bytes(data[body:end]) ^ int.from_bytes(mask[:length])
    return first, masked.to_bytes(length), end
