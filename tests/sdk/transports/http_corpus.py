"""Answers as bytes, and what a client makes of each: the right ones, the odd, the broken, and those without an end."""

import gzip
import zlib
from dataclasses import dataclass

OK = "HTTP/1.1 200 OK\r\n"


def raw(head: str, body: bytes = b"") -> bytes:
    """*head* is written line by line, without its empty line."""
    return head.encode("latin-1") + b"\r\n" + body


def sized(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with a Content-Length."""
    lines = "".join(f"{line}\r\n" for line in headers)
    return raw(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{lines}", body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", headers: str = "") -> bytes:
    """An answer in chunks; *end* comes after them."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return raw(f"{OK}transfer-encoding: chunked\r\n{headers}", framed + end)


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


GZIP = "content-encoding: gzip"
JSON = b'{"id":"p1"}'
PACKED = gzip.compress(JSON)

Outcome = tuple[int, bytes] | str
"""Status and body of an answer; or the code of the error."""

BAD, CUT = "bad_response", "network_error"

WHOLE: dict[str, tuple[bytes, Outcome]] = {
    # right
    "length": (sized(JSON), (200, JSON)),
    "no body": (sized(b""), (200, b"")),
    "204": (raw("HTTP/1.1 204 No Content\r\n"), (204, b"")),
    "304 with a length": (raw("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n"), (304, b"")),
    "chunks": (chunked(b'{"id"', b':"p1"}'), (200, JSON)),
    "chunk extensions": (chunked(end=b'b;a=b;c="d"\r\n' + JSON + b"\r\n0;e\r\n\r\n"), (200, JSON)),
    "trailers": (chunked(JSON, end=b"0\r\nx-checksum: 1\r\nx-two: 2\r\n\r\n"), (200, JSON)),
    "hints first": (raw("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n") + sized(JSON), (200, JSON)),
    "gzip": (sized(PACKED, GZIP), (200, JSON)),
    "gzip in chunks": (chunked(PACKED[:9], PACKED[9:], headers=f"{GZIP}\r\n"), (200, JSON)),
    "gzip by its old name": (sized(PACKED, "content-encoding: x-gzip"), (200, JSON)),
    "deflate": (sized(deflated(JSON), "content-encoding: deflate"), (200, JSON)),
    "identity": (sized(JSON, "content-encoding: identity"), (200, JSON)),
    "gzip of nothing at all": (sized(b"", GZIP), (200, b"")),
    "HTTP/1.0": (raw(f"HTTP/1.0 200 OK\r\ncontent-length: {len(JSON)}\r\n", JSON), (200, JSON)),
    "no reason": (raw(f"HTTP/1.1 200 \r\ncontent-length: {len(JSON)}\r\n", JSON), (200, JSON)),
    "until the end": (raw("HTTP/1.0 200 OK\r\nx: y\r\n", JSON), (200, JSON)),
    "an error": (sized(JSON, status="503 Unavailable"), (503, JSON)),
    "more after it": (sized(JSON) + b"HTTP/1.1 200 OK\r\n", (200, JSON)),
    # no HTTP
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", BAD),
    "SMTP": (b"220 mail.example.com ESMTP\r\n", BAD),
    "Redis": (b"-ERR wrong number of arguments\r\n", BAD),
    "TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", BAD),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80", BAD),
    "JSON alone": (JSON + b"\n", BAD),
    "NUL": (b"\0" * 64, BAD),
    "HTTP/9.9": (raw("HTTP/9.9 200 OK\r\ncontent-length: 0\r\n"), BAD),
    "status of letters": (raw("HTTP/1.1 abc OK\r\ncontent-length: 0\r\n"), BAD),
    "status of two digits": (raw("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n"), BAD),
    "header without a colon": (raw(f"{OK}content-length 0\r\n"), BAD),
    "header with a NUL": (raw(f"{OK}x: a\0b\r\ncontent-length: 0\r\n"), BAD),
    "length of letters": (raw(f"{OK}content-length: two\r\n", b"{}"), BAD),
    "length below zero": (raw(f"{OK}content-length: -2\r\n", b"{}"), BAD),
    "two lengths": (raw(f"{OK}content-length: 2\r\ncontent-length: 3\r\n", b"{}x"), BAD),
    "chunk size of letters": (chunked(end=b"zz\r\n{}\r\n0\r\n\r\n"), BAD),
    "chunk without its end": (chunked(end=b"2\r\n{}xx0\r\n\r\n"), BAD),
    "transfer encoding unknown": (raw(f"{OK}transfer-encoding: gzip\r\n", PACKED), BAD),
    "protocol switched": (
        raw("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n"),
        BAD,
    ),
    # compression
    "gzip cut off": (sized(PACKED[:-1], GZIP), BAD),
    "gzip without its checksum": (sized(PACKED[:-8], GZIP), BAD),
    "gzip cut off in chunks": (chunked(PACKED[:12], headers=f"{GZIP}\r\n"), BAD),
    "gzip with a wrong checksum": (sized(PACKED[:-8] + b"\0" * 8, GZIP), BAD),
    "gzip and then more": (sized(PACKED + b"x", GZIP), BAD),
    "gzip twice": (sized(gzip.compress(PACKED), "content-encoding: gzip, gzip"), BAD),
    "gzip twice, in two lines": (sized(gzip.compress(PACKED), GZIP, GZIP), BAD),
    "gzip that is none": (sized(JSON, GZIP), BAD),
    "deflate cut off": (sized(deflated(JSON)[:-2], "content-encoding: deflate"), BAD),
    "br": (sized(JSON, "content-encoding: br"), BAD),
    "zstd": (sized(JSON, "content-encoding: zstd"), BAD),
    # cut off
    "nothing": (b"", CUT),
    "half a status line": (b"HTTP/1.1 20", CUT),
    "half a head": (f"{OK}content-le".encode(), CUT),
    "half a body": (sized(JSON)[:-3], CUT),
    "chunks without an end": (chunked(JSON, end=b""), CUT),
    "half a trailer": (chunked(JSON, end=b"0\r\nx-check"), CUT),
    "hints alone": (raw("HTTP/1.1 103 Early Hints\r\n"), CUT),
}
"""The server hangs up after each."""


@dataclass(frozen=True)
class Endless:
    """*begin*, and then *again* for ever."""

    begin: bytes
    again: bytes


def _padded(prefix: bytes, piece: bytes) -> Endless:
    return Endless(prefix, piece * max(1, 65536 // len(piece)))


EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of deflate: stored, no byte, not the last
CHUNKED = f"{OK}transfer-encoding: chunked\r\n"

ENDLESS: dict[str, Endless] = {
    "status line": _padded(b"HTTP/1.1 200 ", b"O"),
    "header name": _padded(OK.encode(), b"x"),
    "header value": _padded(OK.encode() + b"x: ", b"y"),
    "headers": _padded(OK.encode(), b"x-a: b\r\n"),
    "empty lines": _padded(b"", b"\r\n"),
    "hints": _padded(b"", raw("HTTP/1.1 103 Early Hints\r\n")),
    "100": _padded(b"", raw("HTTP/1.1 100 Continue\r\n")),
    "chunk extension": _padded(raw(CHUNKED, b"2;"), b"x"),
    "chunk size of zeros": _padded(raw(CHUNKED), b"0"),
    "chunks with extensions": _padded(raw(CHUNKED), b"1;" + b"x" * 1000 + b"\r\ny\r\n"),
    "trailers": _padded(chunked(b"{}", end=b"0\r\n"), b"x-a: b\r\n"),
    "trailer": _padded(chunked(b"{}", end=b"0\r\nx: "), b"y"),
    "chunks": _padded(raw(CHUNKED), b"100\r\n" + b"x" * 256 + b"\r\n"),
    "small chunks": _padded(raw(CHUNKED), b"1\r\nx\r\n"),
    "until the end": _padded(raw("HTTP/1.0 200 OK\r\n"), b"x"),
    "after gzip": _padded(raw(f"{CHUNKED}{GZIP}\r\n", b"%x\r\n%b\r\n" % (len(PACKED), PACKED)), b"100\r\n" + b"x" * 256 + b"\r\n"),
    "gzip's file name": _padded(raw(f"HTTP/1.0 200 OK\r\n{GZIP}\r\n", b"\x1f\x8b\x08\x08\0\0\0\0\0\0"), b"x"),
    "gzip of empty blocks": _padded(raw(f"HTTP/1.0 200 OK\r\n{GZIP}\r\n", PACKED[:10]), EMPTY_BLOCK),
    "gzip of much": _padded(raw(f"HTTP/1.0 200 OK\r\n{GZIP}\r\n", PACKED[:10]), b"\x00\xff\xff\x00\x00" + b"x" * 65535),
}  # fmt: skip
