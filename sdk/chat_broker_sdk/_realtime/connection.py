"""A live connection that comes back: tokens, attempts, and when to stop."""

import asyncio
import importlib.util
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

from chat_broker_sdk._credentials import UserToken, seal, user_token
from chat_broker_sdk._ending import end
from chat_broker_sdk._errors import (
    AuthenticationError,
    ChatError,
    ConfigurationError,
    NotFoundError,
    WebSocketError,
)
from chat_broker_sdk._log import log
from chat_broker_sdk._models import SocketErrorEvent, Token
from chat_broker_sdk._transports.loops import Loop, check_move, running_loop

from .answers import acknowledged, error_event
from .live_wire import LiveWire, OpenWire, Refusal, Where
from .room_feed import NEEDS_NEW_TOKEN, may_reconnect, pause_before_reconnect

ACKNOWLEDGED_WITHIN = 10.0
TOO_LARGE = "message_too_large"
"""The code with which a server ends a connection over which too long a message came: sent again, it ends the next."""

Said = str | Token
TokenSource = str | Callable[[], Said | Awaitable[Said]]
_Ask = Callable[[], Said | Awaitable[Said]]


class Connection:
    """Holds a Wire open for as long as it makes sense.

    *received(event, payload)* hears of all events but `error`, which is *reported*; *up* is called after
    every connect, *down(code)* after every end.
    """

    def __init__(
        self,
        where: Callable[[], Where],
        *,
        received: Callable[[str, Any], None],
        reported: Callable[[SocketErrorEvent], None],
        up: Callable[[], None],
        down: Callable[[str], None],
    ) -> None:
        self._where = where
        self._received = received
        self._reported = reported
        self._on_up = up
        self._on_down = down
        self._ask: _Ask | None = None
        self._token: UserToken | None = None
        self._expired: str | None = None
        self._wire: LiveWire | None = None
        self._loop: Loop | None = None
        self._is_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._last_words: SocketErrorEvent | None = None
        self._ended: WebSocketError | None = None

    @property
    def connected(self) -> bool:
        """Whether events flow right now."""
        return self._is_up.is_set()

    def moved(self) -> bool:
        """Whether this is another event loop than before, which is closed: what it has left is forgotten then.

        Raises ConfigurationError while the other one is not closed.
        """
        loop = running_loop()
        if loop is self._loop:
            return False
        check_move(self._loop)
        self._loop = loop
        self._is_up = asyncio.Event()
        if self._wire is not None:
            self._wire.abandon()
        self._wire = self._keeper = self._ended = None
        return True

    async def start(self, ask: _Ask | None, seconds: float) -> None:
        """Connect within *seconds*, and stay connected. Raises WebSocketError."""
        if self._keeper is not None and not self._keeper.done():
            raise WebSocketError("The socket is connected already", code="already_connected")
        if ask is None and self._where().token is None:
            raise WebSocketError(
                "The live connection needs a chat token: jwt_token=… or connect(token)",
                code="jwt_required",
            )
        if self._where().open_wire is None:
            _need_library()
        self._ask = ask
        self._ended = self._expired = None
        clock = asyncio.get_running_loop().time
        ends = clock() + seconds
        attempt = 0
        while (refusal := await self._open(max(ends - clock(), 0.05))) is not None:
            attempt += 1
            pause = pause_for(attempt, refusal.error.retry_after)
            if refusal.for_good or clock() + pause > ends:
                raise refusal.error
            await asyncio.sleep(pause)
        self._keeper = asyncio.create_task(self._keep(), name="chat_broker_sdk connection")

    async def stop(self) -> None:
        """Disconnect and stay so."""
        self.moved()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await end(keeper)
        was_up = self.connected
        await self._drop()
        if was_up:
            self._on_down("client_disconnect")

    async def wait(self) -> None:
        """Return when `stop` was called; raise WebSocketError when the connection ended for good."""
        self.moved()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
        if self._ended is not None:
            raise self._ended

    async def call(self, event: str, *args: Any, again: bool = True) -> dict[str, Any]:
        """Send *event* and wait for its acknowledgement.

        If the connection breaks first, it is sent over the next one where *again*: for what does no harm
        twice. Raises WebSocketError.
        """
        self.moved()
        answer: object = None
        try:
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN):
                while answer is None:
                    wire = await self._open_wire()
                    answer = await wire.call(event, args)
                    said = self._last_words
                    if answer is None and said is not None and said.code == TOO_LARGE:
                        raise WebSocketError(
                            f"{event} was refused ({said.code}): {said.message}", code=said.code
                        )
                    if answer is None and not again:
                        raise WebSocketError(
                            f"The connection broke before {event} was acknowledged",
                            code="connection_lost",
                        )
        except TimeoutError:
            answer = None
        if answer is None:
            raise WebSocketError(
                f"{event} was not acknowledged within {ACKNOWLEDGED_WITHIN:.3g} s", code="timeout"
            )
        return acknowledged(event, answer, self._token)

    async def refresh(self, event: str, token: str | None = None) -> None:
        """Send a new token in band with *event*: *token*, or what the token function says.

        Without either there is nothing new to send, and nothing is sent.
        """
        before = None if self._token is None else self._token.reveal()
        if token is not None:
            self._token = user_token(seal(token))
        elif (refusal := await self._ask_token()) is not None:
            raise refusal.error
        if self._token is not None and self._token.reveal() != before:
            await self.call(event, {"token": self._token.reveal()})

    # -- the loop ---------------------------------------------------------------------------------

    async def _open_wire(self) -> LiveWire:
        while True:
            if self._wire is not None and self._is_up.is_set():
                return self._wire
            keeper = self._keeper
            if keeper is None or keeper.done():
                raise self._ended or WebSocketError(
                    "The socket is not connected", code="not_connected"
                )
            up = asyncio.create_task(self._is_up.wait())
            try:
                await asyncio.wait([up, keeper], return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()

    async def _keep(self) -> None:
        while True:
            if self._wire is not None:
                await self._wire.wait()
            said = self._last_words
            await self._drop()
            code = said.code if said else "connection_lost"
            self._on_down(code)
            if said is not None and not may_reconnect(said.code, said.reconnect):
                self._ended = WebSocketError(
                    said.message or "The server ended the connection", code=code
                )
                return
            if code == NEEDS_NEW_TOKEN and self._token is not None:
                self._expired = self._token.reveal()
            attempt, retry_after = 1, said.retry_after if said else None
            await asyncio.sleep(pause_for(attempt, retry_after))
            while (refusal := await self._open(10.0)) is not None:
                if refusal.for_good:
                    self._ended = refusal.error
                    self._reported(
                        SocketErrorEvent(
                            code=refusal.error.code or "error",
                            message=refusal.error.message,
                            reconnect=False,
                            closing=True,
                        )
                    )
                    return
                attempt += 1
                await asyncio.sleep(pause_for(attempt, refusal.error.retry_after))

    async def _open(self, seconds: float) -> Refusal | None:
        if (refusal := await self._ask_token()) is not None:
            return refusal
        token = self._token
        assert token is not None  # noqa: S101 - just asked for
        self._last_words = None
        where = self._where()
        make = where.open_wire or _network_wire()
        wire = make(self._hear, self._is_up.clear)
        if (refusal := await wire.open(where, token, seconds)) is not None:
            if refusal.error.code == NEEDS_NEW_TOKEN:
                self._expired = token.reveal()
            return refusal
        self._wire = wire
        self._is_up.set()
        self._on_up()
        return None

    def _hear(self, event: str, payload: Any = None, *_: Any) -> None:
        if event == self._where().dialect.events.error:
            said = error_event(payload, self._token)
            if said.closing:
                self._last_words = said
            self._reported(said)
        else:
            self._received(event, payload)

    async def _drop(self) -> None:
        self._is_up.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _ask_token(self) -> Refusal | None:
        """Get the token to use into `self._token`; None, or why there is none."""
        try:
            if self._ask is None:
                self._token = self._where().token
            else:
                answer = self._ask()
                if inspect.isawaitable(answer):
                    answer = await answer
                self._token = user_token(
                    seal(answer.token if isinstance(answer, Token) else answer)
                )
        except ChatError as error:
            failure = WebSocketError(
                f"No token: {error.message}",
                code=error.code or "no_token",
                retry_after=error.retry_after,
            )
            return Refusal(failure, isinstance(error, AuthenticationError | NotFoundError))
        except Exception:  # noqa: BLE001 - the caller's function; logged
            log.exception("chat_broker_sdk: the token function failed")
            failure = WebSocketError("No token: the token function failed", code="no_token")
            return Refusal(failure, for_good=False)
        if self._token is None or self._token.reveal() == self._expired:
            failure = WebSocketError(
                "The token has expired, and there is no other", code=NEEDS_NEW_TOKEN
            )
            return Refusal(failure, for_good=True)
        return None


def pause_for(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait before attempt *attempt*, by chance."""
    spread = random.random()  # noqa: S311 - spreads load, guards nothing
    return pause_before_reconnect(attempt, spread=spread, retry_after=retry_after)


def _network_wire() -> OpenWire:
    from .socketio_wire import Wire  # with it comes aiohttp, which is optional

    return Wire


def _need_library() -> None:
    if importlib.util.find_spec("aiohttp") is None:
        raise ConfigurationError(
            "The live connection needs aiohttp: pip install aiohttp",
            code="aiohttp_missing",
        )


def asking(source: TokenSource | None) -> _Ask | None:
    """A function to ask, of a token, a function, or nothing. A bare token is sealed into it."""
    if source is None or callable(source):
        return source
    sealed = seal(source)
    del source
    return user_token(sealed).reveal
