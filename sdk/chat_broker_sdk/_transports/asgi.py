"""A transport without a network: the Chat API is an ASGI application in this process."""

import contextvars
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import anyio

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._log import log

from .base import Body, Request, Response, not_reached, timed_out

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
AsgiApp = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class AsgiTransport:
    """Calls an ASGI application directly, and makes it look like a server on the network.

    An exception of the application is a 500 if it comes before the answer began, a NetworkError after;
    the deadline holds; the application's context variables stay its own. No lifespan is run: open what
    the application needs before.
    """

    def __init__(self, app: AsgiApp, *, client: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._app = app
        self._client = client

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        exchange = _Exchange(request)
        failure: ChatError | None = None
        try:
            with anyio.fail_after(timeout):
                await _Apart(self._app(self._scope(request), exchange.receive, exchange.send))
        except TimeoutError:
            failure = timed_out(timeout)
        except Exception:  # noqa: BLE001 - whatever fails in a server, a network shows as no answer
            if exchange.failure is None:
                log.exception("chat_broker_sdk: the application behind AsgiTransport failed")
                if not exchange.began:
                    return Response(500)
        failure = exchange.failure or failure
        if failure is None:
            if exchange.done:
                return exchange.response()
            failure = not_reached("the application ended without a whole answer")
        raise failure

    def _scope(self, request: Request) -> _Message:
        parts = urlsplit(request.url)
        headers = [(b"host", parts.netloc.encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in request.headers]
        if request.body is not None:
            headers.append((b"content-length", b"%d" % len(request.body)))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": parts.scheme,
            "path": unquote_to_bytes(parts.path).decode(),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": (
                parts.hostname or "",
                parts.port or (443 if parts.scheme == "https" else 80),
            ),
            "state": {},
            "extensions": {},
        }

    async def aclose(self) -> None:
        """Nothing is open."""


class _Exchange:
    """One request handed to the application, and the answer taken from it."""

    __slots__ = (
        "_body",
        "_finished",
        "_sent",
        "_whole",
        "done",
        "failure",
        "headers",
        "request",
        "status",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.failure: ChatError | None = None
        """What is wrong with the answer, whatever the application makes of hearing so."""
        self.done = False
        self._body: Body | None = None
        self._whole = b""
        self._sent = False
        self._finished: anyio.Event | None = None

    @property
    def began(self) -> bool:
        """Is there a status?"""
        return self.status != 0

    async def receive(self) -> _Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self.request.body or b"", "more_body": False}
        if not self.done:
            # As over a network: the next news from the client is that it has gone.
            if self._finished is None:
                self._finished = anyio.Event()
            await self._finished.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: _Message) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            if message["type"] == "http.response.start":
                self._start(message)
            elif message["type"] == "http.response.body" and not self.done:
                self._continue(message)
        except ChatError as error:
            self.failure = error.with_traceback(None)
            raise

    def _start(self, message: _Message) -> None:
        self.status = message["status"]
        self.headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in message.get("headers", ())
        ]
        encoding = [value for name, value in self.headers if name.lower() == "content-encoding"]
        length = [value for name, value in self.headers if name.lower() == "content-length"]
        self._body = Body(self.status, ", ".join(encoding), length[0] if length else None)

    def _continue(self, message: _Message) -> None:
        if self._body is None:
            return
        if chunk := message.get("body", b""):
            self._body.add(chunk)
        if not message.get("more_body", False):
            self._whole = self._body.whole()
            self.done = True
            if self._finished is not None:
                self._finished.set()

    def response(self) -> Response:
        return Response(self.status, self.headers, self._whole)


class _Apart:
    """Awaits something in a copy of the context.

    A server binds request ids and loggers to context variables, and clears them; in the caller's own
    context that would overwrite the caller's. A task of its own would cost three times as much.
    """

    __slots__ = ("_awaitable",)

    def __init__(self, awaitable: Awaitable[None]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, None]:
        run = contextvars.copy_context().run
        steps: Any = self._awaitable.__await__()
        step: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waited_for = run(step)
            except StopIteration:
                return
            try:
                value = yield waited_for
            except GeneratorExit:
                run(_close, steps)
                raise
            except BaseException as error:  # noqa: BLE001 - cancellation belongs to the application first
                step = partial(steps.throw, error)
            else:
                step = partial(steps.send, value)


def _close(steps: Any) -> None:
    if close := getattr(steps, "close", None):
        close()
