"""One Socket.IO connection, from its handshake to its end. LiveConnection decides about the next one."""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import socketio

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._log import log
from chat_broker_sdk._tasks import cancel_and_wait
from chat_broker_sdk._transports.base import LARGEST_BODY
from chat_broker_sdk._transports.connect_errors import describe_os_error, find_os_error

from .acknowledgements import error_event, refused
from .room_feed import may_reconnect
from .wire import ConnectFailure, ConnectOptions

NAMESPACE = "/"
TASKS = "read_loop_task", "write_loop_task"
"""Attributes of python-engineio's client: its reader and its writer."""

# At INFO the libraries log all packets, and the first one holds the token. So their own loggers, whose level an
# application may set, are not used.
_SILENT = logging.Logger(  # noqa: LOG001 - outside the tree on purpose
    "chat_broker_sdk.silent", level=logging.CRITICAL + 1
)


class SocketIoWire:
    """A Wire over Socket.IO. Calls *on_event(event, payload)* on the event loop, in order, and *on_end* once."""

    def __init__(self, on_event: Callable[[str, Any], None], on_end: Callable[[], None]) -> None:
        self._on_event = on_event
        self._on_end = on_end
        self._refusal: object = None
        self._session: aiohttp.ClientSession | None = None
        self._sio: Any = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(
        self, options: ConnectOptions, token: UserToken, seconds: float
    ) -> ConnectFailure | None:
        """Connect within *seconds*. Returns None when connected."""
        why = ""
        cause: OSError | None = None
        try:
            async with asyncio.timeout(seconds):
                await self._open(options, token, seconds)
            return None
        except TimeoutError:
            why = f"it was not open within {seconds:.3g} s"
        except (
            socketio.exceptions.SocketIOError,
            aiohttp.ClientError,
            OSError,
            ValueError,
            KeyError,
        ) as failed:
            cause = find_os_error(failed)
            why = describe_os_error(cause) if cause else _describe(failed)
        except BaseException as interruption:  # noqa: BLE001 - a cancellation, raised again
            await self.close()
            raise interruption.with_traceback(None)  # noqa: B904 - the library's frames hold the token
        await self.close()
        if self._refusal is None:
            at = options.base.address
            failure = WebSocketError(
                f"The live connection to {at} could not be opened: {why}", code="connect_failed"
            )
            failure.__cause__ = cause
            log.debug("chat_broker_sdk: %s", failure.message)
            return ConnectFailure(failure, permanent=False)
        error = error_event(self._refusal, token)
        permanent = not may_reconnect(error.code, error.reconnect)
        return ConnectFailure(refused("The live connection", error), permanent)

    async def _open(self, options: ConnectOptions, token: UserToken, seconds: float) -> None:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[tracing]
        )
        sio = self._sio = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=self._session,
            logger=_SILENT,
            engineio_logger=_SILENT,
            websocket_extra_options={"max_msg_size": LARGEST_BODY},
        )
        sio.on("connect_error", self._on_connect_error)
        sio.on("*", self._on_event)
        # Besides the reader task's end, which may wait 30 s for the library's writer: that misses the end if
        # Engine.IO's close and the websocket's arrive in one read.
        sio.on("disconnect", lambda _: self._mark_ended())
        await sio.connect(
            options.base.origin,
            auth=lambda: {"token": token.reveal()},  # in the handshake's body, never in the URL
            transports=["websocket"],
            namespaces=[NAMESPACE],
            socketio_path=(options.base.path + options.dialect.socket_path).strip("/"),
            wait_timeout=seconds,
        )
        # The library reports no end that arrives together with the acceptance.
        if sio.eio.state != "connected" or getattr(sio.eio, TASKS[0], True) is None:
            raise aiohttp.ClientError("it ended at once")
        tasks = _tasks_of(sio)
        if not tasks:
            log.debug(
                "chat_broker_sdk: this python-engineio is not known: an end may be noticed late"
            )
        for task in tasks[:1]:
            # Not awaited: cancelling the waiter would cancel the reader.
            task.add_done_callback(lambda _: self._mark_ended())

    def _on_connect_error(self, data: object = None) -> None:
        if isinstance(data, dict):
            inner = data.get("data")
            self._refusal = inner if isinstance(inner, dict) else data

    def _mark_ended(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
            self._on_end()

    async def wait(self) -> None:
        """Return when the connection has ended."""
        await asyncio.wait([self._end])

    async def call(self, event: str, args: tuple[Any, ...]) -> object:
        """Send *event*, and return its acknowledgement; None if the connection ended first."""
        acknowledged: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def acknowledge(*args: object) -> None:
            if not acknowledged.done():
                acknowledged.set_result(args[0] if args else {})

        if self._end.done():
            return None
        try:
            await self._sio.emit(event, args, namespace=NAMESPACE, callback=acknowledge)
        except socketio.exceptions.SocketIOError:
            return None
        both: list[asyncio.Future[Any]] = [acknowledged, self._end]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return acknowledged.result() if acknowledged.done() else None

    async def close(self) -> None:
        """Disconnect and release all resources. Does nothing if that is done already."""
        try:
            if self._sio is not None:
                async with asyncio.timeout(2):
                    await self._sio.disconnect()
        except (TimeoutError, OSError, aiohttp.ClientError, socketio.exceptions.SocketIOError):
            pass  # already closed, or closed with the session
        finally:
            if self._session is not None:
                await self._session.close()
            await self._end_tasks()
            self._mark_ended()

    def abandon(self) -> None:
        """Release the resources without disconnecting, because the connection's event loop is closed."""
        if self._session is not None:
            self._session.detach()

    async def _end_tasks(self) -> None:
        if self._sio is not None:
            await cancel_and_wait(*_tasks_of(self._sio))


def _tasks_of(sio: Any) -> list[asyncio.Task[Any]]:
    """The library's reader and writer task, those that have started and that this version has."""
    tasks = (getattr(sio.eio, name, None) for name in TASKS)
    return [task for task in tasks if task is not None]


def _describe(error: BaseException) -> str:
    """The reason in *error*, or in its causes, why the handshake opened no websocket."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, aiohttp.WSServerHandshakeError):
            return f"the server answers {each.status}, and opens no websocket there"
        if isinstance(each, aiohttp.ClientResponseError):
            return "what answers there is no HTTP"
        each = each.__cause__ or each.__context__
    return "the server hung up"


async def _refuse_redirect(
    session: aiohttp.ClientSession,  # noqa: ARG001 - the hook's arguments
    context: SimpleNamespace,  # noqa: ARG001
    params: aiohttp.TraceRequestRedirectParams,  # noqa: ARG001
) -> None:
    raise aiohttp.ClientError("redirects are not followed: the token is for one host")
