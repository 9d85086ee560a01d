"""The live side as the rest of the server sees it, whether it has been loaded yet or not.

python-socketio loads two HTTP clients and Redis, which takes as long as half of all the rest of a start. So the
server answers first; a second later, or when somebody knocks before that, the live side is loaded in a thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import structlog

from chat_broker_kit.database.transactions import Database
from chat_broker_kit.tasks import end
from chat_broker_server.chat.events import CloseResult, Event
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, LocalBus
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.observability.logs import bug
from chat_broker_server.realtime.counts import Counts
from chat_broker_server.realtime.origins import IsOwnOrigin, is_named_by_host

if TYPE_CHECKING:
    # Socket.IO takes long to load: on a thread, when the first socket comes.
    from chat_broker_server.realtime.server import Realtime

log = structlog.get_logger("chat_broker_server.realtime.live")

LOADED_AFTER: Final = 1.0
"""Seconds: the first health checks and tokens go before."""


class Live:
    """Sockets. `app` is to be mounted at /socket.io, between `start` and `close`."""

    def __init__(
        self,
        tokens: Tokens,
        database: Database,
        *,
        bus: Bus | None = None,
        origins: Iterable[str] | None = None,
        is_own_origin: IsOwnOrigin = is_named_by_host,
    ) -> None:
        """*bus*: see Realtime. *origins* and *is_own_origin*: see Gate."""
        self._tokens = tokens
        self._database = database
        self._bus = bus or LocalBus()
        self._origins = origins
        self._is_own_origin = is_own_origin
        self._chat: Chat | None = None
        self._realtime: Realtime | None = None
        self._loading: asyncio.Task[Realtime] | None = None
        self._soon: asyncio.Task[None] | None = None
        self._drained = False

    async def start(self, chat: Chat) -> None:
        """From now on *chat* is served. One of several nodes is there for the others at once."""
        self._chat = chat
        if isinstance(self._bus, LocalBus):
            self._soon = asyncio.create_task(self._load_soon())
        else:
            await self._loaded()

    async def app(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer one request, or serve one websocket."""
        realtime = self._realtime or await self._loaded()
        await realtime.app(scope, receive, send)

    def publish(self, event: Event) -> None:
        """See Realtime. Who is not here yet finds it in the database."""
        if self._realtime is not None:
            self._realtime.publish(event)

    async def close_user(
        self, pid: str, user_id: str, code: str, *, session_id: str | None = None
    ) -> CloseResult:
        """See Realtime."""
        if self._realtime is None:
            return CloseResult(0, 1, 1, 0)
        return await self._realtime.close_user(pid, user_id, code, session_id=session_id)

    async def drain(self) -> None:
        """Send every socket away; new ones are refused from here on."""
        self._drained = True
        if self._realtime is not None:
            await self._realtime.drain()

    async def close(self) -> None:
        """Drain, then stop everything."""
        if self._soon is not None:
            await end(self._soon)
        if self._loading is not None:
            await asyncio.wait([self._loading])  # a thread that imports cannot be stopped half-way
        if self._realtime is not None:
            await self._realtime.close()

    def facts(self) -> dict[str, int | str]:
        """What is going on, for metrics: counts since the start, and the present state."""
        return dict(NOTHING_YET) if self._realtime is None else self._realtime.facts()

    @property
    def bus_state(self) -> str:
        """`off`, `ok` or `degraded: …`."""
        return str(self.facts()["bus_state"])

    async def _load_soon(self) -> None:
        await asyncio.sleep(LOADED_AFTER)
        try:
            await self._loaded()
        except Exception:  # noqa: BLE001 – REST goes on, and who knocks is told as well
            bug(log, "sockets.not_loaded")

    async def _loaded(self) -> "Realtime":
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        # Those who wait for it may go away; it is loaded for the next ones all the same.
        return await asyncio.shield(self._loading)

    async def _load(self) -> "Realtime":
        assert self._chat is not None  # noqa: S101 - start has set it
        kind = await asyncio.to_thread(_realtime)
        realtime = kind(
            self._chat,
            self._tokens,
            self._database,
            bus=self._bus,
            origins=self._origins,
            is_own_origin=self._is_own_origin,
        )
        await realtime.start()
        self._realtime = realtime
        if self._drained:
            await realtime.drain()
        return realtime


def _realtime() -> type["Realtime"]:
    from chat_broker_server.realtime.server import Realtime

    return Realtime


NOTHING_YET: Final[dict[str, int | str]] = {
    **asdict(Counts()),
    "sockets": 0,
    "sockets_authenticated": 0,
    "sockets_direct": 0,
    "rooms_live": 0,
    "typing": 0,
    "bus_state": "off",
    "bus_junk": 0,
    "nodes": 1,
}
