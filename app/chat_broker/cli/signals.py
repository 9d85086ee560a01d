"""What the operator's signals do to a process that serves."""

import asyncio
import contextlib
import multiprocessing
import signal
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from chat_broker_kit.process.draining import draining

if TYPE_CHECKING:
    from chat_broker.observability.readiness import Readiness
    from chat_broker.upstream.chat_api import Upstream

log = structlog.get_logger(__name__)

FAREWELL_SECONDS = 2.0
"""So long a stop waits for sockets to take in why they are closed. Most need no time at all."""

SUPERVISOR_SECONDS = 1.0
"""In which the supervisor of the workers closes the port, once the draining is over."""


def hear_signals(upstream: "Upstream", readiness: "Readiness", drain_seconds: float) -> None:
    """SIGHUP: read the project's key again. SIGTERM: drain, send the sockets away, and then do what it did before.

    To drain is to go on for *drain_seconds* while /readyz says 503, so that balancers look elsewhere. A second SIGTERM
    ends that.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    hurry = asyncio.Event()
    before = signal.getsignal(signal.SIGTERM)

    async def drain() -> None:
        readiness.drain()
        draining.on = True
        log.info("serve.draining", seconds=drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), drain_seconds + _longer_than_supervisor())

    async def leave(number: int, frame: FrameType | None) -> None:
        if drain_seconds and not _is_orphan():
            await drain()
        # uvicorn closes what is open as soon as it is told to end: nobody would hear when to come back.
        try:
            if upstream.server is not None:
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await upstream.server.drain()
        except Exception as error:  # noqa: BLE001 - whatever it was, the operator wants it to stop
            log.warning("serve.sockets_not_told", error=type(error).__name__)
        finally:
            if callable(before):
                before(number, frame)

    def begin(number: int, frame: FrameType | None) -> None:
        if tasks:
            hurry.set()
        else:
            tasks.add(loop.create_task(leave(number, frame)))

    def reread(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(upstream.keys.reread)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin, number, frame)

    signal.signal(signal.SIGHUP, reread)
    signal.signal(signal.SIGTERM, stop)


def _longer_than_supervisor() -> float:
    """Seconds by which a worker drains longer: it accepts until its supervisor has closed the port and signals again."""
    return 0.0 if multiprocessing.parent_process() is None else SUPERVISOR_SECONDS


def _is_orphan() -> bool:
    """Is this a worker whose supervisor is gone? It holds the port that the next one needs."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
