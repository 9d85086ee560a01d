"""As little as Python can do: callbacks on uvloop and httptools. Nothing is checked: no peer, but a limit.

`MODE=pass` sends each request on over a keep-alive connection that belongs to the client's, with the key added,
and its answer back. `MODE=call` makes one call of the Chat API for each request, which mints a token, through
the SDK's transport. `MODE=repeat` answers with what one such call brought, so that the two differ by the call.
"""

import asyncio
import os
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

from chat_broker_sdk import HttptoolsTransport, Request

UPSTREAM = os.environ["UPSTREAM"]
KEY = os.environ["API_KEY"]
PROJECT = b"/api/v1/projects/project-1"
MINT = Request(
    "POST",
    f"{UPSTREAM}{PROJECT.decode()}/users/u-user0/token",
    (("Accept", "application/json"), ("Content-Type", "application/json"), ("X-API-Key", KEY)),
    b'{"expires_in":900}',
)


class Incoming(asyncio.Protocol):
    """A client's connection: one request at a time, each given to `asked` when it is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.asked()

    def asked(self) -> None:
        """Have the request answered."""
        raise NotImplementedError

    def answer(self, status: int, body: bytes) -> None:
        """Send the answer; the reason is for people, and nobody reads it."""
        self.transport.write(
            b"HTTP/1.1 %d Done\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


class Outgoing(asyncio.Protocol):
    """The connection to the Chat API that belongs to one client."""

    def __init__(self, client: "Passing") -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._client.answer(self._parser.get_status_code(), self._body)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.transport.close()


class Passing(Incoming):
    """Everything goes on to the Chat API. The first request waits until there is a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._upstream: asyncio.Transport | None = None
        self._waits = False
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        place = urlsplit(UPSTREAM)
        self._head = f"Host: {place.netloc}\r\nX-API-Key: {KEY}\r\n".encode()
        self._upstream, _ = await asyncio.get_running_loop().create_connection(
            partial(Outgoing, self), place.hostname or "", place.port or 80
        )
        if self._waits:
            self.asked()

    def asked(self) -> None:
        if self._upstream is None:
            self._waits = True
            return
        where = self._url.replace(b"/chat", PROJECT, 1)
        length = b"Content-Length: %d\r\n" % len(self._body) if self._body else b""
        self._upstream.write(
            b"%b %b HTTP/1.1\r\n%b%b\r\n%b"
            % (self._parser.get_method(), where, self._head, length, self._body)
        )

    def connection_lost(self, _: Exception | None) -> None:
        self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()


class Calling(Incoming):
    """Whatever is asked, one token is minted."""

    chat: HttptoolsTransport
    tasks: set[asyncio.Task[None]] = set()  # noqa: RUF012 - one for all connections

    def asked(self) -> None:
        task = asyncio.get_running_loop().create_task(self._mint())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _mint(self) -> None:
        minted = await self.chat.send(MINT, timeout=10.0)
        self.answer(minted.status, minted.body)


class Repeating(Incoming):
    """Whatever is asked, the same token is the answer."""

    token: bytes

    def asked(self) -> None:
        self.answer(200, self.token)


async def serve() -> None:
    """Answer on loopback until the process ends."""
    kinds = {"pass": Passing, "call": Calling, "repeat": Repeating}
    Calling.chat = HttptoolsTransport()
    Repeating.token = (await Calling.chat.send(MINT, timeout=10.0)).body
    server = await asyncio.get_running_loop().create_server(
        kinds[os.environ["MODE"]], "127.0.0.1", int(os.environ["PORT"]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
