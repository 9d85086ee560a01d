"""A transport without network: the Chat API is an ASGI application in this process."""

import contextvars
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import anyio

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._log import log

from .base import Body, Request, Response, network_error, timed_out

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
AsgiApp = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class AsgiTransport:
    """Calls an ASGI application directly, with the results of a server on the network.

    An exception of the application is a 500 before its response has begun, a NetworkError after. The application is
    cancelled at the deadline, and runs with a copy of the context variables. Its lifespan is not run.
    """

    def __init__(self, app: AsgiApp, *, client: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._app = app
        self._client = client

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt, as Transport promises."""
        exchange = _Exchange(request)
        failure: ChatError | None = None
        try:
            with anyio.fail_after(timeout):
                await _InContextCopy(
                    self._app(self._scope(request), exchange.receive, exchange.send)
                )
        except TimeoutError:
            failure = timed_out(timeout)
        except Exception:  # noqa: BLE001 - over a network, an exception is no response
            if exchange.failure is None:
                log.exception("chat_broker_sdk: the application behind AsgiTransport failed")
                if not exchange.started:
                    return Response(500)
        failure = exchange.failure or failure
        if failure is None:
            if exchange.done:
                return exchange.response()
            failure = network_error("the application ended without a whole answer")
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
        """Do nothing: there are no connections."""


class _Exchange:
    """One request to the application, and its response."""

    __slots__ = (
        "_body",
        "_content",
        "_finished",
        "_sent",
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
        """Why the response is refused, also if the application catches the exception that says so."""
        self.done = False
        self._body: Body | None = None
        self._content = b""
        self._sent = False
        self._finished: anyio.Event | None = None

    @property
    def started(self) -> bool:
        """Whether the response has a status."""
        return self.status != 0

    async def receive(self) -> _Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self.request.body or b"", "more_body": False}
        if not self.done:
            # As over a network: the next message is the disconnect, after the response.
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
            self._content = self._body.complete()
            self.done = True
            if self._finished is not None:
                self._finished.set()

    def response(self) -> Response:
        return Response(self.status, self.headers, self._content)


class _InContextCopy:
    """Awaits *awaitable* in a copy of the context.

    A server sets and clears context variables (request id, logger), which would overwrite the calling code's. A separate
    task would cost three times as much.
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
            except BaseException as error:  # noqa: BLE001 - a cancellation goes to the application first
                step = partial(steps.throw, error)
            else:
                step = partial(steps.send, value)


def _close(steps: Any) -> None:
    if close := getattr(steps, "close", None):
        close()
