"""Runs the server under uvicorn."""

import asyncio
import os
import signal
import socket
import sys
import time
from types import FrameType

import structlog
import uvicorn

from chat_broker_kit.http.choose_protocol import BOUNDED, choose_protocol
from chat_broker_kit.process.hardening import protect_process, raise_file_limit, scrub_environment
from chat_broker_kit.process.listening import addresses, stop_accepting
from chat_broker_server.settings import Settings, secret_names
from chat_broker_server.standalone import Standalone, create_app

log = structlog.get_logger("chat_broker_server")

GRACE_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
LARGEST_SOCKET_MESSAGE = 1024 * 1024
"""Far above the limit of a message (64 KiB): uvicorn closes without a reason, `realtime` sends one first."""


class DrainingServer(uvicorn.Server):
    """Disconnects the sockets with a delay to reconnect before uvicorn closes them."""

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
        """Serve on while load balancers choose other servers, then disconnect the sockets, then stop."""
        if self._drain_seconds:
            self._app.begin_draining()
            log.info("serve.draining", seconds=self._drain_seconds)
            deadline = time.monotonic() + self._drain_seconds
            while time.monotonic() < deadline and not self._second_signal:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.1)
        await self._app.drain()
        await stop_accepting(sockets or ())
        await super().shutdown(sockets)


def run(settings: Settings, port: socket.socket) -> int:
    """Serve on *port*, which is bound already, until a signal. Returns the exit code."""
    _hide_secrets()
    raise_file_limit()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=choose_protocol(BOUNDED),
        ws="websockets-sansio",
        ws_max_size=LARGEST_SOCKET_MESSAGE,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The server uses no address that a caller may claim.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=2048,
    )
    # After a graceful stop uvicorn raises the signal again. The exit code must be 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = DrainingServer(config, app, settings.drain_seconds)
    server.run(sockets=[port])
    return 0 if server.started else 3


def _hide_secrets() -> None:
    """Remove secrets from the environment, where other processes of the same user could read them."""
    names = [name for name in os.environ if name.upper() in secret_names()]
    # Before protect_process: afterwards the kernel does not tell where the environment is.
    scrub_environment([os.environ[name] for name in names])
    for name in names:
        del os.environ[name]
    protect_process()
