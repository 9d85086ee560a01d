"""Runs the server under uvicorn."""

import os
import signal
import socket
import sys

import uvicorn

from chat_broker_kit.http.choose_protocol import BOUNDED, choose_protocol
from chat_broker_kit.process.hardening import protect_process, raise_file_limit, scrub_environment
from chat_broker_server.draining import DrainingServer
from chat_broker_server.settings import Settings, secret_names
from chat_broker_server.standalone import create_app

GRACE_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
LARGEST_SOCKET_MESSAGE = 1024 * 1024
"""Far above the limit of a message (64 KiB): uvicorn closes without a reason, `realtime` sends one first."""


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
