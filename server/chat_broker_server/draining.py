"""How `chat-server` stops: it drains, then disconnects the sockets, then ends.

While it drains it serves on for `DRAIN_SECONDS`. /readyz answers 503 `draining`, so that load balancers choose other
servers, and each connection is closed after its next response.
"""

import asyncio
import socket
import time
from types import FrameType

import structlog
import uvicorn

from chat_broker_kit.process.listening import addresses, stop_accepting
from chat_broker_server.standalone import Standalone

log = structlog.get_logger("chat_broker_server")


class DrainingServer(uvicorn.Server):
    """uvicorn, which at the end drains, disconnects the sockets and answers the connections that were let in."""

    def __init__(self, config: uvicorn.Config, app: Standalone, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._second_signal = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. A second signal ends the draining early."""
        self._second_signal = self.should_exit
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and log the addresses. uvicorn logs only those of sockets that it has bound itself."""
        await super().startup(sockets=sockets)
        log.info("serve.running", at=addresses(sockets or ()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, disconnect the sockets, close the port, stop."""
        if self._drain_seconds:
            self._app.begin_draining()
            log.info("serve.draining", seconds=self._drain_seconds)
            deadline = time.monotonic() + self._drain_seconds
            while time.monotonic() < deadline and not self._second_signal:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.1)
        await self._app.disconnect_sockets()
        await stop_accepting(sockets or ())
        await super().shutdown(sockets)
