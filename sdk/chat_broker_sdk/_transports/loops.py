"""Which event loop connections belong to."""

import asyncio

from chat_broker_sdk._errors import ConfigurationError

Loop = asyncio.AbstractEventLoop


def running_loop() -> Loop | None:
    """The event loop that runs here; None outside of asyncio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check_move(before: Loop | None) -> None:
    """Let connections made on the loop *before* be replaced by some on another one.

    Raises ConfigurationError while *before* is not closed: what waits on it would be woken from the wrong thread.
    """
    if before is not None and not before.is_closed():
        raise wrong_loop()


def wrong_loop() -> ConfigurationError:
    """The error for a call on another event loop than the one that is in use."""
    return ConfigurationError(
        "This client is used from two event loops at once, and its connections belong to the first:"
        " make a client for each event loop, or use ChatClient, which threads may share",
        code="wrong_event_loop",
    )
