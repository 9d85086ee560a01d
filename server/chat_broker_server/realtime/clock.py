"""The time of the realtime side: when it is, and what to call later."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Times are seconds since some moment; they never run back."""

    def time(self) -> float: ...

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> Timer: ...


class LoopClock:
    """The clock of the running event loop."""

    def time(self) -> float:
        return time.monotonic()

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call, *arguments)
