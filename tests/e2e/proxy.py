"""A reverse proxy whose network a test can cut, and whose answers it can choose."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Stands between a browser and one program; every connection carries one request, or one websocket."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.silent = False
        """Nothing passes in either direction and nobody is told, as on a network that is gone."""
        self.mute = False
        """What the program says does not pass; what it is told does."""
        self.seen: list[str] = []
        """Each request line, and the status it was answered with: `POST /chat/token 200`."""
        self._upstream = upstream_port
        self._planned: dict[str, list[tuple[int, str]]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._generation = 0
        self._closed = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer_once(self, request: str, status: int, headers: str = "") -> None:
        """The next *request* (`POST /chat/token`) gets *status* from here; *headers* as HTTP writes them."""
        self._planned.setdefault(request, []).append((status, headers))

    def cut(self) -> None:
        """End all connections that are open."""
        for writer in list(self._open):
            writer.transport.abort()

    def close(self) -> None:
        """End everything, for good."""
        self._closed = True
        self.cut()

    def abandon(self) -> None:
        """Forget the connections that are open: what is sent on them gets lost, and nobody is told."""
        self._generation += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._one(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = self._generation
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line = " ".join(head.split(" ", 2)[:2]).partition("?")[0]
        await self._passable(mine)
        if self._planned.get(line):
            status, extra = self._planned[line].pop(0)
            self.seen.append(f"{line} {status}")
            origin = _header(head, "origin")
            cors = f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: Retry-After\r\n"
            answer = f"HTTP/1.1 {status} Planned\r\nContent-Length: 0\r\nConnection: close\r\n{cors}{extra}\r\n"
            writer.write(answer.encode())
            await writer.drain()
            return
        if _header(head, "upgrade") is None:
            kept = [one for one in head.split("\r\n") if not one.lower().startswith("connection:")]
            head = "\r\n".join([kept[0], "Connection: close", *kept[1:]])
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._open.add(back)
        try:
            back.write(head.encode("latin-1"))
            ways = [
                asyncio.create_task(self._pass(mine, reader, back)),
                asyncio.create_task(self._answer(mine, line, there, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._open.discard(back)
            back.close()

    async def _answer(
        self, generation: int, line: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        first = await source.readline()
        self.seen.append(f"{line} {first.split()[1].decode() if first else '-'}")
        await self._passable(generation)
        sink.write(first)
        await self._pass(generation, source, sink, back=True)

    async def _pass(
        self,
        generation: int,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        back: bool = False,
    ) -> None:
        while data := await source.read(65_536):
            await self._passable(generation, back=back)
            sink.write(data)
            await sink.drain()
        await self._passable(generation)  # an end is not heard of either

    async def _passable(self, generation: int, *, back: bool = False) -> None:
        while not self._closed:
            held = self.silent or (back and self.mute) or generation != self._generation
            if not held:
                break
            await asyncio.sleep(0.05)


def _header(head: str, name: str) -> str | None:
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


@asynccontextmanager
async def proxy_before(upstream_port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port for as long as the block lasts."""
    proxy = Proxy(upstream_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
