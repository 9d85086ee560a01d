"""Checks that connections are used on the event loop that opened them."""

import asyncio

from chat_broker_sdk._errors import ConfigurationError

Loop = asyncio.AbstractEventLoop


def running_loop() -> Loop | None:
    """The event loop running in this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check_loop_closed(before: Loop | None) -> None:
    """Raise ConfigurationError unless the earlier loop *before* is closed.

    Tasks waiting on an open loop would be woken from the wrong thread.
    """
    if before is not None and not before.is_closed():
        raise wrong_loop_error()


def wrong_loop_error() -> ConfigurationError:
    """The error for a call on another event loop than the one in use."""
    return ConfigurationError(
        "This client is used from two event loops at once, and its connections belong to the first:"
        " make a client for each event loop, or use ChatClient, which threads may share",
        code="wrong_event_loop",
    )
