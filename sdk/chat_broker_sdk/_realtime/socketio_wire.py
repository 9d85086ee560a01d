"""One Socket.IO connection, from handshake to end. What comes after the end is for others to decide."""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import socketio

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._ending import end
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._log import log
from chat_broker_sdk._transports.base import LARGEST_BODY
from chat_broker_sdk._transports.unreachable import os_error_of, reason_of

from .answers import error_event
from .live_wire import Refusal, Where
from .room_feed import may_reconnect

NAMESPACE = "/"
LOOPS = "read_loop_task", "write_loop_task"
"""Tasks of python-engineio's client."""

# At INFO the libraries log every packet, and the first one holds the token: their own loggers, whose level
# a program may set, are not used at all.
_SILENT = logging.Logger(  # noqa: LOG001 - outside the tree on purpose
    "chat_broker_sdk.silent", level=logging.CRITICAL + 1
)


class Wire:
    """Opened once, ends once. *received(event, payload)* hears of every event, in order, on the loop."""

    def __init__(self, received: Callable[[str, Any], None], ended: Callable[[], None]) -> None:
        self._received = received
        self._on_end = ended
        self._refused: object = None
        self._session: aiohttp.ClientSession | None = None
        self._sio: Any = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, where: Where, token: UserToken, seconds: float) -> Refusal | None:
        """Shake hands within *seconds*; None, or why not."""
        why = ""
        cause: OSError | None = None
        try:
            async with asyncio.timeout(seconds):
                await self._open(where, token, seconds)
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
            cause = os_error_of(failed)
            why = reason_of(cause) if cause else _answered(failed)
        except BaseException as interruption:  # noqa: BLE001 - a cancellation: tidied up after, and passed on
            await self.close()
            raise interruption.with_traceback(None)  # noqa: B904 - the library's frames hold the token
        await self.close()
        if self._refused is None:
            at = where.base.address
            failure = WebSocketError(
                f"The live connection to {at} could not be opened: {why}", code="connect_failed"
            )
            failure.__cause__ = cause
            log.debug("chat_broker_sdk: %s", failure.message)
            return Refusal(failure, for_good=False)
        said = error_event(self._refused, token)
        error = WebSocketError(
            f"The live connection was refused ({said.code})"
            + (f": {said.message}" if said.message else ""),
            code=said.code,
            retry_after=said.retry_after,
        )
        return Refusal(error, for_good=not may_reconnect(said.code, said.reconnect))

    async def _open(self, where: Where, token: UserToken, seconds: float) -> None:
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
        sio.on("*", self._received)
        # Not only the end of the reading: that may wait half a minute for the library's writer, which has lost its own
        # end if Engine.IO's close and the websocket's came in one read.
        sio.on("disconnect", lambda _: self._ended())
        await sio.connect(
            where.base.origin,
            auth=lambda: {"token": token.reveal()},  # in the handshake's body, never in the URL
            transports=["websocket"],
            namespaces=[NAMESPACE],
            socketio_path=(where.base.path + where.dialect.socket_path).strip("/"),
            wait_timeout=seconds,
        )
        # An end that came with the acceptance has told nobody: the library was not connected yet.
        if sio.eio.state != "connected" or getattr(sio.eio, LOOPS[0], True) is None:
            raise aiohttp.ClientError("it ended at once")
        reading = _loops_of(sio)
        if not reading:
            log.debug(
                "chat_broker_sdk: this python-engineio is not known: an end may be heard late"
            )
        for task in reading[:1]:
            # Not awaited: cancelling who waits would cancel the reading itself.
            task.add_done_callback(lambda _: self._ended())

    def _on_connect_error(self, data: object = None) -> None:
        if isinstance(data, dict):
            inner = data.get("data")
            self._refused = inner if isinstance(inner, dict) else data

    def _ended(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
            self._on_end()

    async def wait(self) -> None:
        """Return when the connection has ended."""
        await asyncio.wait([self._end])

    async def call(self, event: str, args: tuple[Any, ...]) -> object:
        """Send *event* and wait for its acknowledgement; None if the connection ended first."""
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def acknowledge(*answer: object) -> None:
            if not answered.done():
                answered.set_result(answer[0] if answer else {})

        if self._end.done():
            return None
        try:
            await self._sio.emit(event, args, namespace=NAMESPACE, callback=acknowledge)
        except socketio.exceptions.SocketIOError:
            return None
        both: list[asyncio.Future[Any]] = [answered, self._end]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return answered.result() if answered.done() else None

    async def close(self) -> None:
        """End the connection, if it has not, and let go of everything."""
        try:
            if self._sio is not None:
                async with asyncio.timeout(2):
                    await self._sio.disconnect()
        except (TimeoutError, OSError, aiohttp.ClientError, socketio.exceptions.SocketIOError):
            pass  # it is gone already, or will be when the session closes
        finally:
            if self._session is not None:
                await self._session.close()
            await self._end_loops()
            self._ended()

    def abandon(self) -> None:
        """Let go of everything without a word: the event loop that could say one is closed."""
        if self._session is not None:
            self._session.detach()

    async def _end_loops(self) -> None:
        """End the library's reader and writer, if either still waits."""
        if self._sio is not None:
            await end(*_loops_of(self._sio))


def _loops_of(sio: Any) -> list[asyncio.Task[Any]]:
    """The library's reader and its writer, as far as they have begun, and as far as this version has them."""
    found = (getattr(sio.eio, name, None) for name in LOOPS)
    return [task for task in found if task is not None]


def _answered(error: BaseException) -> str:
    """What a server answered to the handshake that was no websocket, in *error* or in what led to it."""
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
