"""A live connection that reconnects: its tokens, its attempts, and when it gives up."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

from chat_broker_sdk._credentials import UserToken, seal, user_token
from chat_broker_sdk._errors import (
    AuthenticationError,
    ChatError,
    NotFoundError,
    WebSocketError,
)
from chat_broker_sdk._log import log
from chat_broker_sdk._models import SocketErrorEvent, Token
from chat_broker_sdk._tasks import cancel_and_wait
from chat_broker_sdk._transports.base import require_library
from chat_broker_sdk._waiting import AsyncHomeLoop

from .acknowledgements import checked_acknowledgement, error_event, refused
from .room_feed import NEEDS_NEW_TOKEN, may_reconnect, pause_before_reconnect
from .wire import ConnectFailure, ConnectOptions, Wire, WireFactory

ACKNOWLEDGE_TIMEOUT = 10.0
MESSAGE_TOO_LARGE = "message_too_large"
"""The code with which a server ends a connection that sent too long a message. Such an event is not sent again."""

TokenResult = str | Token
TokenSource = str | Callable[[], TokenResult | Awaitable[TokenResult]]
TokenFunction = Callable[[], TokenResult | Awaitable[TokenResult]]


class LiveConnection:
    """Keeps a Wire open, and opens another one after it ends, until the server refuses for good.

    Calls *on_event(event, payload)* for all events but `error`, *on_error* for those, *on_connect* after each
    connect, and *on_disconnect(code)* after each end.
    """

    def __init__(
        self,
        options: Callable[[], ConnectOptions],
        *,
        on_event: Callable[[str, Any], None],
        on_error: Callable[[SocketErrorEvent], None],
        on_connect: Callable[[], None],
        on_disconnect: Callable[[str], None],
    ) -> None:
        self._options = options
        self._on_event = on_event
        self._on_error = on_error
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._token_function: TokenFunction | None = None
        self._token: UserToken | None = None
        self._expired_token: str | None = None
        self._wire: Wire | None = None
        self._home = AsyncHomeLoop()
        self._connected = asyncio.Event()
        self._reconnect_task: asyncio.Task[None] | None = None
        self._closing_error: SocketErrorEvent | None = None
        self._end_error: WebSocketError | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is open at this moment."""
        return self._connected.is_set()

    def loop_changed(self) -> bool:
        """Whether the running loop is another one than before. The old loop's connection is then dropped.

        Raises ConfigurationError if the old loop is not closed.
        """
        if not self._home.loop_changed():
            return False
        self._connected = asyncio.Event()
        if self._wire is not None:
            self._wire.abandon()
        self._wire = self._reconnect_task = self._end_error = None
        return True

    async def start(self, token_function: TokenFunction | None, seconds: float) -> None:
        """Connect within *seconds*, and reconnect from then on. Raises WebSocketError.

        *token_function* None: use the client's own token.
        """
        if self._reconnect_task is not None and not self._reconnect_task.done():
            raise WebSocketError("The socket is connected already", code="already_connected")
        if token_function is None and self._options().token is None:
            raise WebSocketError(
                "The live connection needs a chat token: jwt_token=… or connect(token)",
                code="jwt_required",
            )
        if self._options().open_wire is None:
            require_library("aiohttp", "The live connection")
        self._token_function = token_function
        self._end_error = self._expired_token = None
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        attempt = 0
        while (failed := await self._open(max(deadline - clock(), 0.05))) is not None:
            attempt += 1
            pause = random_pause(attempt, failed.error.retry_after)
            if failed.permanent or clock() + pause > deadline:
                raise failed.error
            await asyncio.sleep(pause)
        self._reconnect_task = asyncio.create_task(
            self._keep_connected(), name="chat_broker_sdk connection"
        )

    async def stop(self) -> None:
        """Disconnect, and do not reconnect."""
        self.loop_changed()
        task, self._reconnect_task = self._reconnect_task, None
        if task is not None:
            await cancel_and_wait(task)
        was_up = self.connected
        await self._close_wire()
        if was_up:
            self._on_disconnect("client_disconnect")

    async def wait(self) -> None:
        """Return after `stop`. Raises WebSocketError when the connection has ended and will not reconnect."""
        self.loop_changed()
        if self._reconnect_task is not None:
            await asyncio.wait([self._reconnect_task])
        if self._end_error is not None:
            raise self._end_error

    async def call(self, event: str, *args: Any, repeatable: bool = True) -> dict[str, Any]:
        """Send *event*, and return its acknowledgement. Raises WebSocketError.

        A *repeatable* event is sent again over the next connection if this one breaks first.
        """
        self.loop_changed()
        acknowledgement: object = None
        try:
            async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT):
                while acknowledgement is None:
                    wire = await self._wait_for_wire()
                    acknowledgement = await wire.call(event, args)
                    if acknowledgement is not None:
                        break
                    error = self._closing_error
                    if error is not None and error.code == MESSAGE_TOO_LARGE:
                        raise refused(event, error)
                    if not repeatable:
                        raise WebSocketError(
                            f"The connection broke before {event} was acknowledged",
                            code="connection_lost",
                        )
        except TimeoutError:
            acknowledgement = None
        if acknowledgement is None:
            raise WebSocketError(
                f"{event} was not acknowledged within {ACKNOWLEDGE_TIMEOUT:.3g} s", code="timeout"
            )
        return checked_acknowledgement(event, acknowledgement, self._token)

    async def refresh(self, event: str, token: str | None = None) -> None:
        """Send a new token with *event*: *token*, or the token function's. Sends nothing if there is no new one."""
        before = None if self._token is None else self._token.reveal()
        if token is not None:
            self._token = user_token(seal(token))
        elif (failed := await self._load_token()) is not None:
            raise failed.error
        if self._token is not None and self._token.reveal() != before:
            await self.call(event, {"token": self._token.reveal()})

    # -- reconnecting -----------------------------------------------------------------------------

    async def _wait_for_wire(self) -> Wire:
        while True:
            if self._wire is not None and self._connected.is_set():
                return self._wire
            task = self._reconnect_task
            if task is None or task.done():
                raise self._end_error or WebSocketError(
                    "The socket is not connected", code="not_connected"
                )
            connected = asyncio.create_task(self._connected.wait())
            try:
                await asyncio.wait([connected, task], return_when=asyncio.FIRST_COMPLETED)
            finally:
                connected.cancel()

    async def _keep_connected(self) -> None:
        while True:
            if self._wire is not None:
                await self._wire.wait()
            error = self._closing_error
            await self._close_wire()
            code = error.code if error else "connection_lost"
            self._on_disconnect(code)
            if error is not None and not may_reconnect(error.code, error.reconnect):
                self._end_error = WebSocketError(
                    error.message or "The server ended the connection", code=code
                )
                return
            if code == NEEDS_NEW_TOKEN and self._token is not None:
                self._expired_token = self._token.reveal()
            attempt, retry_after = 1, error.retry_after if error else None
            await asyncio.sleep(random_pause(attempt, retry_after))
            while (failed := await self._open(10.0)) is not None:
                if failed.permanent:
                    self._end_error = failed.error
                    self._on_error(
                        SocketErrorEvent(
                            code=failed.error.code or "error",
                            message=failed.error.message,
                            reconnect=False,
                            closing=True,
                        )
                    )
                    return
                attempt += 1
                await asyncio.sleep(random_pause(attempt, failed.error.retry_after))

    async def _open(self, seconds: float) -> ConnectFailure | None:
        if (failed := await self._load_token()) is not None:
            return failed
        token = self._token
        assert token is not None  # noqa: S101 - just loaded
        self._closing_error = None
        options = self._options()
        open_wire = options.open_wire or _socketio_wire()
        wire = open_wire(self._dispatch, self._connected.clear)
        if (failed := await wire.open(options, token, seconds)) is not None:
            if failed.error.code == NEEDS_NEW_TOKEN:
                self._expired_token = token.reveal()
            return failed
        self._wire = wire
        self._connected.set()
        self._on_connect()
        return None

    def _dispatch(self, event: str, payload: Any = None, *_: Any) -> None:
        if event == self._options().dialect.events.error:
            error = error_event(payload, self._token)
            if error.closing:
                self._closing_error = error
            self._on_error(error)
        else:
            self._on_event(event, payload)

    async def _close_wire(self) -> None:
        self._connected.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _load_token(self) -> ConnectFailure | None:
        """Set `self._token` for the next connect or refresh. Returns why there is none."""
        try:
            if self._token_function is None:
                self._token = self._options().token
            else:
                result = self._token_function()
                if inspect.isawaitable(result):
                    result = await result
                self._token = user_token(
                    seal(result.token if isinstance(result, Token) else result)
                )
        except ChatError as error:
            failure = WebSocketError(
                f"No token: {error.message}",
                code=error.code or "no_token",
                retry_after=error.retry_after,
            )
            return ConnectFailure(failure, isinstance(error, AuthenticationError | NotFoundError))
        except Exception:  # noqa: BLE001 - the application's function; logged
            log.exception("chat_broker_sdk: the token function failed")
            failure = WebSocketError("No token: the token function failed", code="no_token")
            return ConnectFailure(failure, permanent=False)
        if self._token is None or self._token.reveal() == self._expired_token:
            failure = WebSocketError(
                "The token has expired, and there is no other", code=NEEDS_NEW_TOKEN
            )
            return ConnectFailure(failure, permanent=True)
        return None


def random_pause(attempt: int, retry_after: float | None) -> float:
    """`pause_before_reconnect` with a random spread."""
    spread = random.random()  # noqa: S311 - spreads load, guards nothing
    return pause_before_reconnect(attempt, spread=spread, retry_after=retry_after)


def _socketio_wire() -> WireFactory:
    from .socketio_wire import SocketIoWire  # loads aiohttp, which is optional

    return SocketIoWire


def token_function_of(source: TokenSource | None) -> TokenFunction | None:
    """*source* as a function. A bare token is sealed in the function's closure. None for None."""
    if source is None or callable(source):
        return source
    sealed = seal(source)
    del source
    return user_token(sealed).reveal
