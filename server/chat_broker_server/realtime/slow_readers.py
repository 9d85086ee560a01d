"""Slow readers: connections whose clients do not read what is sent to them.

A send queue holds `Limits.send_queue_bytes`, and the backlog of a client that joins a room a thousand events. A reader is
too slow when something does not fit. It is disconnected with `slow_down`: the client reconnects and reads what it
missed. The last event gets `Limits.last_words` seconds to arrive; `Limits.cut_after` seconds later the transport is cut.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from chat_broker_server.realtime.context import Context

MAX_BACKLOG: Final = 1_000
"""Events of one room that wait for a connection, while it joins or while earlier events are missing."""


def overflows(waiting: int, size: int, limit: int) -> bool:
    """Whether *size* bytes more do not fit into a send queue in which *waiting* bytes wait. *limit* is in bytes."""
    return waiting + size > limit


def end_slow_reader(context: Context, disconnect: Callable[[str, str], object]) -> None:
    """Disconnect a slow reader once the running fan-out has finished.

    *disconnect* takes the code and the message, and returns None if the connection has ended already.
    """
    asyncio.get_running_loop().call_soon(_end, context, disconnect)


def _end(context: Context, disconnect: Callable[[str, str], object]) -> None:
    text = "This connection reads too slowly: connect again."
    if disconnect("slow_down", text) is not None:
        context.counts.slow_consumers_cut += 1
        context.log.warning("socket.slow_consumer")
