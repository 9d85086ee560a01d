"""Runs the broker under uvicorn."""

import asyncio
import contextlib
import gc
import importlib.util
import multiprocessing
import os
import signal
import socket
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from chat_broker.cli.checked_settings import refuse_to_start
from chat_broker.cli.preflight import look_at_databases
from chat_broker.cli.signals import handle_signals
from chat_broker.observability.logs import configure, write_access_log
from chat_broker.pages.commands import commands
from chat_broker.settings import Settings, remove_secrets, secret_names, setting_warnings
from chat_broker_kit.http.choose_protocol import BOUNDED, choose_protocol
from chat_broker_kit.process.hardening import (
    end_with_parent,
    protect_process,
    raise_file_limit,
    scrub_environment,
)
from chat_broker_kit.process.listening import CannotListen, addresses, bind_port, stop_accepting

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Config

log = structlog.get_logger(__name__)

FAST_PATH = "chat_broker.fast_path.protocol:FastPathProtocol"
GRACE_SECONDS = 30
LARGEST_SOCKET_MESSAGE = 1024 * 1024
"""Bytes. Far above the Chat API's limit of 64 KiB: it answers with a reason, and uvicorn closes without one."""
KEEP_ALIVE_SECONDS = 75
WORKER_SILENCE_SECONDS = 30
"""Silence after which a worker is replaced. A shorter time would replace workers of an overloaded machine."""
SETTLED_AFTER = 3.0
"""Seconds until the collector runs: after the first responses, when everything is loaded."""


@dataclass(frozen=True, slots=True)
class AppFactory:
    """Builds the application in the process that calls it. Settings reach a worker through a pipe, not its environment."""

    settings: Settings

    def __call__(self) -> "FastAPI":
        """The application, after logging and signal handlers are set up."""
        # With WORKERS, the parent process never needs it.
        from chat_broker.main import create_app

        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # a reload before `handle_signals` has nothing to reload
        if (parent := multiprocessing.parent_process()) is not None:
            end_with_parent(parent.pid)
        protect_process()
        configure(self.settings)
        app = create_app(self.settings)
        opened = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: "FastAPI") -> AsyncIterator[Any]:
            try:
                async with opened(app) as state:
                    readiness = app.state.readiness
                    handle_signals(app.state.upstream, readiness, self.settings.drain_seconds)
                    # Off since the start: `_settle` makes the first collection.
                    gc.set_threshold(50_000, 20, 20)
                    gc.enable()
                    asyncio.get_running_loop().call_later(SETTLED_AFTER, _settle)
                    if self.settings.development:
                        with contextlib.suppress(OSError):  # stdout may be closed
                            print(how_to_try(self.settings), flush=True)  # noqa: T201
                    yield state
            finally:
                write_access_log()

        app.router.lifespan_context = lifespan
        return app


def _settle() -> None:
    """Exclude everything that exists now from later collections: it lives as long as the process."""
    gc.collect()
    gc.freeze()


def how_to_try(settings: Settings) -> str:
    """The text that a development start prints: address and commands for a first try."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = settings.public_url or f"http://{host}:{settings.port}"
    chat = base + settings.route_prefix
    if "dev" not in settings.auth:
        return f"\nThe broker is at {base}. Tokens: POST {chat}/token with your app's credential.\n"
    lines = textwrap.indent(commands(base, chat), "  ")
    return f"""
The broker is at {base}, in development mode: any name signs in, without a password. Open that page for more.

{lines}
"""


def serve(settings: Settings) -> int:
    """Run until a signal stops the broker. Returns the exit code."""
    configure(settings)
    config = _uvicorn_config(settings)
    for warning in setting_warnings(settings):
        log.warning("settings.warning", hint=warning)
    # Before `protect_process`: afterwards the kernel hides where the environment is.
    scrub_environment([os.environ[name] for name in _secret_variables()])
    remove_secrets(os.environ)
    protect_process()
    raise_file_limit()
    try:
        sockets = bind_ports(settings)
    except CannotListen as error:
        return refuse_to_start([str(error)])
    databases = asyncio.run(look_at_databases(settings))
    if databases.problems:
        return refuse_to_start(databases.problems)
    for url in databases.new:
        log.info("database.new", at=url)
    if settings.workers > 1:
        gc.enable()  # `AppFactory` does so in each worker
        from chat_broker.cli.workers import run_workers  # a single process never needs it

        run_workers(config, sockets, drain_seconds=settings.drain_seconds)
        return 0
    return run_process(config, sockets)


def _uvicorn_config(settings: Settings) -> "Config":
    # Not at the top: `AppFactory` is also used without a server.
    import uvicorn

    return uvicorn.Config(
        AppFactory(settings),
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop" if _has("uvloop") else "asyncio",
        http=choose_protocol(FAST_PATH, BOUNDED),
        ws="websockets-sansio",
        ws_max_size=LARGEST_SOCKET_MESSAGE,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=WORKER_SILENCE_SECONDS,
        backlog=2048,
    )


def run_process(config: "Config", sockets: list[socket.socket]) -> int:
    """Serve *sockets* in this process until a signal stops it. Returns the exit code."""
    import uvicorn  # as above

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            # uvicorn logs addresses only of sockets that it has bound itself.
            log.info("serve.running", at=addresses(sockets or ()))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Accept what the kernel has let in; then stop."""
            await stop_accepting(sockets or ())
            await super().shutdown(sockets)

    server = Server(config)
    # uvicorn raises the signal again after a graceful stop, which would end the process with a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=sockets)
    return 0 if server.started else 3


def _secret_variables() -> list[str]:
    known = set(secret_names())
    return [name for name in os.environ if name.lower() in known]


def bind_ports(settings: Settings) -> list[socket.socket]:
    """Sockets for PORT and ADMIN_PORT. Raises CannotListen."""
    sockets = [bind_port(settings.host, settings.port)]
    if settings.admin_port is not None:
        try:
            sockets.append(bind_port(settings.host, settings.admin_port, "ADMIN_PORT"))
        except CannotListen:
            sockets[0].close()
            raise
    return sockets


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
