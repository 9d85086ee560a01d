"""What SIGHUP and SIGTERM do to a process that serves."""

import asyncio
import signal
from types import FrameType
from typing import TYPE_CHECKING

from chat_broker.cli.draining import drain_and_disconnect

if TYPE_CHECKING:
    from chat_broker.observability.readiness import Readiness
    from chat_broker.upstream.chat_api import Upstream


def handle_signals(upstream: "Upstream", readiness: "Readiness", drain_seconds: float) -> None:
    """On SIGHUP read the project's key again. On SIGTERM drain, disconnect the sockets, and call the previous handler.

    A second SIGTERM ends the draining early.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    second_signal = asyncio.Event()
    previous = signal.getsignal(signal.SIGTERM)

    async def stop(number: int, frame: FrameType | None) -> None:
        try:
            await drain_and_disconnect(upstream, readiness, drain_seconds, second_signal)
        finally:
            if callable(previous):
                previous(number, frame)

    def start_stop(number: int, frame: FrameType | None) -> None:
        if tasks:
            second_signal.set()
        else:
            tasks.add(loop.create_task(stop(number, frame)))

    def on_sighup(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(upstream.keys.reread)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(start_stop, number, frame)

    signal.signal(signal.SIGHUP, on_sighup)
    signal.signal(signal.SIGTERM, on_sigterm)
