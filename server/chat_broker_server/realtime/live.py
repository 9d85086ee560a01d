"""Loads `Realtime` after the start of the server, and stands for it until then.

Importing python-socketio takes half as long as the rest of the start. So REST answers first. `Realtime` is imported on
a thread one second later, or at the first socket request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import structlog

from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_server.chat.events import CloseResult, Happened
from chat_broker_server.chat.models import Presence
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, LocalBus
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.observability.logs import bug
from chat_broker_server.realtime.context import Counts
from chat_broker_server.realtime.origins import OriginPolicy

if TYPE_CHECKING:
    # Imported in `_realtime`, on a thread: python-socketio takes long to import.
    from chat_broker_server.realtime.server import Realtime

log = structlog.get_logger("chat_broker_server.realtime.live")

LOAD_AFTER: Final = 1.0
"""Seconds, in which the first health checks and tokens are answered."""


class LazyRealtime:
    """All sockets of this node. `app` is to be mounted at /socket.io, between `start` and `close`."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        bus: Bus | None = None,
        origins: OriginPolicy | None = None,
    ) -> None:
        self._tokens = tokens
        self._bus = bus or LocalBus()
        self._origins = origins
        self._chat: Chat | None = None
        self._realtime: Realtime | None = None
        self._loading: asyncio.Task[Realtime] | None = None
        self._load_timer: asyncio.Task[None] | None = None
        self._refuses_sockets = False

    async def start(self, chat: Chat) -> None:
        """Serve *chat*. With a bus to other nodes `Realtime` is loaded before this returns, so that they can reach this one."""
        self._chat = chat
        if isinstance(self._bus, LocalBus):
            self._load_timer = asyncio.create_task(self._load_later())
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

    def publish(self, event: Happened) -> None:
        """As Realtime.publish. Before it is loaded no socket is open, so there is nothing to deliver."""
        if self._realtime is not None:
            self._realtime.publish(event)

    async def close_user(
        self, pid: str, user_id: str, code: str, *, session_id: str | None = None
    ) -> CloseResult:
        """As Realtime.close_user; 0 sockets before it is loaded."""
        if self._realtime is None:
            return CloseResult()
        return await self._realtime.close_user(pid, user_id, code, session_id=session_id)

    async def presence(
        self, pid: str, user_ids: Sequence[str], reader_id: str | None
    ) -> list[Presence]:
        """As Realtime.presence, which is loaded for it."""
        realtime = self._realtime or await self._loaded()
        return await realtime.presence(pid, user_ids, reader_id)

    async def disconnect_sockets(self) -> None:
        """As Realtime.disconnect_sockets; sockets that come before it is loaded are refused, too."""
        self._refuses_sockets = True
        if self._realtime is not None:
            await self._realtime.disconnect_sockets()

    async def close(self) -> None:
        if self._load_timer is not None:
            await cancel_and_wait(self._load_timer)
        if self._loading is not None:
            await asyncio.wait([self._loading])  # a thread that imports cannot be stopped half-way
        if self._realtime is not None:
            await self._realtime.close()

    def facts(self) -> dict[str, int | str]:
        """As Realtime.facts; zeros before it is loaded."""
        return dict(NOT_LOADED) if self._realtime is None else self._realtime.facts()

    @property
    def bus_state(self) -> str:
        """`off` without other nodes, `ok`, or `degraded: …` with the reason."""
        return str(self.facts()["bus_state"])

    async def _load_later(self) -> None:
        await asyncio.sleep(LOAD_AFTER)
        try:
            await self._loaded()
        except Exception:  # noqa: BLE001 – REST continues, and socket requests get the error
            bug(log, "sockets.not_loaded")

    async def _loaded(self) -> "Realtime":
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        # A client that goes away must not cancel the loading for the others.
        return await asyncio.shield(self._loading)

    async def _load(self) -> "Realtime":
        assert self._chat is not None  # noqa: S101 - start has set it
        kind = await asyncio.to_thread(_realtime)
        realtime = kind(
            self._chat,
            self._tokens,
            bus=self._bus,
            origins=self._origins,
        )
        await realtime.start()
        self._realtime = realtime
        if self._refuses_sockets:
            await realtime.disconnect_sockets()
        return realtime


def _realtime() -> type["Realtime"]:
    from chat_broker_server.realtime.server import Realtime

    return Realtime


NOT_LOADED: Final[dict[str, int | str]] = {
    **asdict(Counts()),
    "sockets": 0,
    "sockets_authenticated": 0,
    "sockets_direct": 0,
    "rooms_live": 0,
    "users_watching": 0,
    "typing": 0,
    "bus_state": "off",
    "bus_junk": 0,
    "nodes": 1,
}
