"""One corpus of hostile bytes against both programs; after each, other clients are served."""

import asyncio
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.edge.programs import Edge, Start, both, exchange

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(200)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
JUNK = random.Random(7).randbytes(40_000)


def get(*fields: bytes) -> bytes:
    return GET + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


UPGRADE = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
)
WEBSOCKET = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
Bytes = bytes | Callable[[Edge], bytes]
# What is sent, and the statuses that come back, in order; a set is one of several, an empty list a bare end.
CORPUS: dict[str, tuple[Bytes, list[int | set[int]]]] = {
    "20,000 headers": (GET + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\n", [431]),
    "120 headers": (GET + b"".join(b"x%d: y\r\n" % n for n in range(120)) + b"\r\n", [431]),
    "a head of 40 KB": (get(b"X: " + b"y" * 40_000), [431]),
    "a head of 6 MB": (get(b"X: " + b"y" * 6_000_000), [431]),
    "a target of 40 KB": (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431]),
    "a query of 40 KB": (b"GET /healthz?" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431]),
    "a method of 60 KB": (b"G" * 60_000, [{400, 431}]),
    "two lengths": (lambda e: e.post("Content-Length: 2", "Content-Length: 3") + b"{} ", [400]),
    "one length twice": (lambda e: e.post("Content-Length: 2", "Content-Length: 2") + b"{}", [400]),
    "a length and chunks": (
        lambda e: e.post("Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
        [400],
    ),
    "chunks and a length": (
        lambda e: e.post("Transfer-Encoding: chunked", "Content-Length: 2") + b"2\r\n{}\r\n0\r\n\r\n",
        [400],
    ),
    "a coding that is not the last": (
        lambda e: e.post("Transfer-Encoding: chunked, identity") + b"2\r\n{}\r\n0\r\n\r\n",
        [400],
    ),
    "a negative length": (lambda e: e.post("Content-Length: -1"), [400]),
    "a signed length": (lambda e: e.post("Content-Length: +2") + b"{}", [400]),
    "a length in hexadecimal": (lambda e: e.post("Content-Length: 0x2") + b"{}", [400]),
    "a length beyond numbers": (lambda e: e.post("Content-Length: " + "9" * 30), [400]),
    "a length of a terabyte": (lambda e: e.post("Content-Length: 1000000000000") + b"{}", [413]),
    "a body of 70 KB": (lambda e: e.post("Content-Length: 70000") + b" " * 70_000, [413]),
    "a body of 70 KB in chunks": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"2710\r\n%b\r\n" % (b" " * 10_000) * 7,
        [413],
    ),
    "a chunk size that is none": (lambda e: e.post("Transfer-Encoding: chunked") + b"zz\r\n", [400]),
    "a negative chunk size": (lambda e: e.post("Transfer-Encoding: chunked") + b"-1\r\n", [400]),
    "a chunk size beyond numbers": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"f" * 40 + b"\r\n",
        [400],
    ),
    "a chunk longer than it says": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n",
        [400],
    ),
    "trailers without end": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"0\r\n" + b"X: y\r\n" * 200_000,
        [413],
    ),
    "one trailer without end": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"0\r\nX: " + b"y" * 1_000_000,
        [413],
    ),
    "an extension of a chunk without end": (
        lambda e: e.post("Transfer-Encoding: chunked") + b"1;x=" + b"y" * 1_000_000,
        [{400, 413}],
    ),
    "line ends without CR": (b"GET /healthz HTTP/1.1\nHost: x\n\n", [400]),
    "a header without CR": (b"GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", [400]),
    "a folded header": (get(b"X: y", b" z"), [{200, 400}]),
    "a space before the colon": (get(b"X : y"), [400]),
    "a header without a name": (get(b": y"), [400]),
    "a header without a colon": (get(b"X"), [400]),
    "NUL in a header": (get(b"X: a\0b"), [400]),
    "NUL in the target": (b"GET /health\0z HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a space in the target": (b"GET /health z HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "an escape in the target": (b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "HTTP/9.9": (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", [400]),
    "no version": (b"GET /healthz\r\nHost: x\r\n\r\n", [{200, 400}]),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "a hello of TLS": (TLS_HELLO, [400]),
    "junk": (JUNK, [400]),
    "CONNECT": (b"CONNECT db:5432 HTTP/1.1\r\nHost: x\r\n\r\n", [{400, 404, 405}]),
    "a target with a host": (b"GET http://db/healthz HTTP/1.1\r\nHost: x\r\n\r\n", [{200, 400, 404}]),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [{400, 404, 405}]),
    "a method that is none": (b"FROBNICATE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", [{400, 405}]),
    "an upgrade to h2c": (get(b"Connection: Upgrade", b"Upgrade: h2c") + get(), [200, 200]),
    "a body with an upgrade to h2c": (
        lambda e: e.post(*UPGRADE, f"Content-Length: {len(get())}") + get() + get(), [{400, 415}, 200],
    ),
    "chunks with an upgrade to h2c": (
        lambda e: e.post(*UPGRADE, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n" + get(),
        [{400, 415, 422}, 200],
    ),
    "a body with an upgrade to h2c, later": (
        lambda e: e.post(*UPGRADE, f"Content-Length: {40_000 + len(get())}") + b" " * 40_000 + get() + get(),
        [{400, 413, 415}, 200],
    ),
    "CONNECT with a body": (
        b"CONNECT /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(get()) + get(), [400],
    ),
    "a request and rubbish": (get() + JUNK, [200, 400]),
    "three requests and rubbish": (get() * 3 + TLS_HELLO, [200, 200, 200, 400]),
    "a request and half of one": (get() + b"GET /healthz HT", [200]),
    "500 requests": (get() * 500, [200] * 500),
    "a websocket behind a request": (
        lambda _: get() + get(b"Connection: Upgrade", b"Upgrade: websocket",
                              b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        [200, {400, 403}],
    ),
    "a websocket and a body": (WEBSOCKET + b"Content-Length: 5\r\n\r\nhello", [400]),
    "a websocket and chunks": (WEBSOCKET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    "a websocket with 200 headers": (
        WEBSOCKET + b"".join(b"x%d: y\r\n" % n for n in range(200)) + b"\r\n", [400],
    ),
    "a websocket with a header of 20 KB": (WEBSOCKET + b"X: " + b"y" * 20_000 + b"\r\n\r\n", [400]),
    "a websocket to nowhere": (
        get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        [403],
    ),
}  # fmt: skip


@both
async def test_every_hostile_request_is_refused_and_hurts_nobody_else(
    start: Start, tmp_path: Path
) -> None:
    """Each gets its expected responses in order; the next valid request is served at once; no traceback."""
    async with start(tmp_path) as edge:
        wrong = []
        for name, (sent, expected) in CORPUS.items():
            data = sent(edge) if callable(sent) else sent
            statuses = [
                int(one) for one in STATUS.findall(await exchange(edge.port, data, within=2))
            ]
            allowed = [one if isinstance(one, set) else {one} for one in expected]
            if len(statuses) != len(allowed) or any(
                status not in some for status, some in zip(statuses, allowed, strict=True)
            ):
                wrong.append((name, statuses[:6], expected[:6]))
            await edge.is_well()
        assert wrong == []
        log = edge.program.log()
        assert "Traceback" not in log
        assert "HTTP response sent" not in log
        assert log.count("unreadable") <= 15, "what a stranger can write is sampled"


@both
async def test_whoever_dawdles_is_cut(start: Start, tmp_path: Path) -> None:
    """10 s for a head, 30 s for a body, 5 s for a body after an early response, while others are served."""
    async with start(tmp_path) as edge:
        drip = [b"a"] * 400

        async def ends(
            name: str, *pieces: bytes, pause: float = 0.5
        ) -> tuple[str, float, list[bytes]]:
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)

            async def write() -> None:
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(pause)

            writing = asyncio.create_task(write())
            try:
                received = await asyncio.wait_for(reader.read(-1), 60)
            except ConnectionError:
                received = b""
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            writer.transport.abort()
            return name, time.monotonic() - began, STATUS.findall(received)

        slow = asyncio.gather(
            ends("silent"),
            ends("dripping head", GET + b"X: ", *drip),
            ends("empty lines", *([b"\r\n"] * 400)),
            ends("second head", get(), b"GET /", *drip),
            ends("dripping body", edge.post("Content-Length: 1000"), *drip, pause=1.0),
            ends(
                "unwanted body",
                b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
                *drip,
            ),
        )
        while not slow.done():
            await edge.is_well()
            await asyncio.sleep(0.5)
        found = {name: (took, statuses) for name, took, statuses in await slow}
        for name, statuses, least, most in (
            ("silent", [b"408"], 9, 15),
            ("dripping head", [b"408"], 9, 15),
            ("empty lines", [b"408"], 9, 15),
            ("second head", [b"200", b"408"], 9, 15),
            ("dripping body", [b"408"], 29, 45),
            ("unwanted body", [b"405"], 4, 15),
        ):
            took, seen = found[name]
            assert (name, seen) == (name, statuses)
            assert least < took < most, name


@both
async def test_others_get_in_when_connections_run_out(start: Start, tmp_path: Path) -> None:
    """With 300 idle connections and 256 open files allowed, the longest idle ones are closed."""
    under = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    async with start(tmp_path, under=under) as edge:
        silent = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(300)]
        await edge.is_well(within=2)
        held = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(300)]
        for _, writer in held:
            writer.write(edge.post("Content-Length: 100") + b"{")
        await edge.is_well(within=2)
        for _, writer in [*silent, *held]:
            writer.transport.abort()
        await edge.is_well(within=2)
        log = edge.program.log()
        assert "Traceback" not in log
        assert log.count("http.connections_full") <= 6


@both
async def test_the_process_keeps_its_secrets(start: Start, tmp_path: Path) -> None:
    """Nothing in /proc, no core dump, whatever the operator's shell allows."""
    url = "redis://:canary-of-redis@127.0.0.1:1/0"
    async with start(tmp_path, REDIS_URL=url) as edge:
        proc = Path(f"/proc/{edge.program.process.pid}")
        for name in ("environ", "cmdline"):
            assert b"canary" not in (proc / name).read_bytes()
        limits = (proc / "limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
    assert "canary" not in edge.program.log()
