"""What the parts of one node's realtime side share: limits, counters, log and background tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.limits import Limits


@dataclass(slots=True)
class Counts:
    """Counters since the start, for metrics. They only grow."""

    events_in: int = 0
    events_out: int = 0
    protocol_errors: int = 0
    refused_over_rate: int = 0
    handshakes_refused: int = 0
    origins_refused: int = 0
    slow_consumers_cut: int = 0
    gaps_filled: int = 0

    def count_refused_origin(self) -> None:
        self.origins_refused += 1


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to each part of the realtime side."""

    limits: Limits
    counts: Counts
    log: SampledLog
    clock: Clock
    spawn: Callable[[Awaitable[None]], asyncio.Task[None]]
    """Starts a task that ends with the node."""
