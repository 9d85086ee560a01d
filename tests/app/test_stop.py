"""Told to stop, the broker first lets its sockets know."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app import serve
from app.serve import hear_signals
from app.upstream import Upstream


@dataclass
class Told:
    """Who has heard of the stop, in order; the first is a server whose *farewell* is given."""

    farewell: Callable[[], Awaitable[None]]
    order: list[str] = field(default_factory=list)

    async def drain(self) -> None:
        await self.farewell()
        self.order.append("sockets")

    def stop(self, *_: object) -> None:
        self.order.append("server")


@pytest.fixture
def stopping() -> Iterator[Callable[[Told], None]]:
    """Stands in for uvicorn, which sets a handler of its own before the application opens."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def listen(told: Told) -> None:
        signal.signal(signal.SIGTERM, told.stop)
        upstream: Any = SimpleNamespace(server=told, keys=None)
        hear_signals(cast("Upstream", upstream))

    yield listen
    for number, handler in before.items():
        signal.signal(number, handler)


async def stopped(told: Told) -> list[str]:
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        while "server" not in told.order:  # noqa: ASYNC110 - a signal handler sets no event
            await asyncio.sleep(0.01)
    return told.order


async def test_sockets_hear_of_a_stop_before_the_server_closes_them(
    stopping: Callable[[Told], None],
) -> None:
    async def some_turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    stopping(told := Told(some_turns))
    assert await stopped(told) == ["sockets", "server"]


@pytest.mark.parametrize("failure", ["slow", "broken"])
async def test_sockets_that_cannot_be_told_delay_no_stop(
    stopping: Callable[[Told], None], monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    async def fails() -> None:
        if failure == "slow":
            await asyncio.Event().wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(serve, "FAREWELL_SECONDS", 0.05)
    stopping(told := Told(fails))
    assert await stopped(told) == ["server"]
