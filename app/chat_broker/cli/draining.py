"""How the broker stops: it drains, then disconnects the sockets, then lets uvicorn end the process.

While it drains it serves on for `DRAIN_SECONDS`. /readyz answers 503 `draining`, so that load balancers choose other
replicas, and each connection is closed after its next response.
"""

import asyncio
import contextlib
import multiprocessing
from typing import TYPE_CHECKING

import structlog

from chat_broker_kit.process.draining_switch import draining_switch

if TYPE_CHECKING:
    from chat_broker.observability.readiness import Readiness
    from chat_broker.upstream.chat_api import Upstream

log = structlog.get_logger(__name__)

DISCONNECT_SECONDS = 2.0
"""How long a stop waits until the sockets have read why they are closed. Most need no time at all."""

SUPERVISOR_SECONDS = 1.0
"""The time in which the supervisor of the workers closes the port after draining."""


async def drain_and_disconnect(
    upstream: "Upstream", readiness: "Readiness", drain_seconds: float, skip: asyncio.Event
) -> None:
    """Serve on for *drain_seconds*, or until *skip* is set; then disconnect the sockets. Raises nothing."""
    if drain_seconds and not _is_orphan():
        readiness.report_draining()
        draining_switch.on = True
        log.info("serve.draining", seconds=drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(skip.wait(), drain_seconds + _extra_seconds_of_a_worker())
    # uvicorn closes sockets without a reason: clients would not know when to reconnect.
    try:
        if upstream.server is not None:
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await upstream.server.disconnect_sockets()
    except Exception as error:  # noqa: BLE001 - the operator wants the process to stop, whatever it was
        log.warning("serve.sockets_not_told", error=type(error).__name__)


def _extra_seconds_of_a_worker() -> float:
    """A worker drains longer: it accepts until its supervisor has closed the port and sent the second signal."""
    return 0.0 if multiprocessing.parent_process() is None else SUPERVISOR_SECONDS


def _is_orphan() -> bool:
    """Whether this is a worker without its supervisor. It holds the port that the next supervisor needs."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
