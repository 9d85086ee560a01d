"""An event loop whose clock moves on when there is nothing to do, so that ten seconds of waiting take no time."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Real while a thread or a database works for it: then nothing that is timed happens."""

    def __init__(self) -> None:
        self._now = 0.0
        self.at_work = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now

    def skip(self, seconds: float) -> None:
        """Move the clock on."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]  # typeshed has the arguments of `func` as a tuple of types
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self.at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._rest)
        return future

    def _rest(self, _: object) -> None:
        self.at_work -= 1


class _Selector(selectors.DefaultSelector):
    """Looks at files only while somebody is at work for the loop; else it moves the clock."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.at_work or timeout is None:
            return super().select(None if timeout != 0 else 0)
        self._loop.skip(timeout)
        return []
