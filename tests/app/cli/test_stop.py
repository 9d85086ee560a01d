"""A broker that is told to stop first notifies its sockets."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from chat_broker.cli import draining as cli_draining
from chat_broker.cli.signals import handle_signals
from chat_broker.observability.readiness import Readiness
from chat_broker.upstream.chat_api import Upstream
from tests.programs import Program, running_broker
from tests.server.realtime.socket_client import connected


@dataclass
class Told:
    """The servers that were told to stop, in order; *farewell* is the first one's."""

    farewell: Callable[[], Awaitable[None]]
    order: list[str] = field(default_factory=list)

    async def disconnect_sockets(self) -> None:
        await self.farewell()
        self.order.append("sockets")

    def stop(self, *_: object) -> None:
        self.order.append("server")


@pytest.fixture
def stopping() -> Iterator[Callable[[Told], None]]:
    """Replaces uvicorn, which sets its own signal handler before the application opens."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def listen(told: Told) -> None:
        signal.signal(signal.SIGTERM, told.stop)
        upstream: Any = SimpleNamespace(server=told, keys=None)
        handle_signals(
            cast("Upstream", upstream), readiness=cast("Readiness", None), drain_seconds=0
        )

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

    monkeypatch.setattr(cli_draining, "DISCONNECT_SECONDS", 0.05)
    stopping(told := Told(fails))
    assert await stopped(told) == ["server"]


@asynccontextmanager
async def draining(seconds: str) -> AsyncIterator[tuple[Program, httpx.AsyncClient]]:
    """A broker that has just been told to stop, and a client that is signed in."""
    async with (
        running_broker(DRAIN_SECONDS=seconds) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=20) as http,
    ):
        token = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        broker.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.01)
        yield broker, http


async def test_while_it_drains_all_goes_on_and_readyz_alone_says_that_it_ends() -> None:
    """During the drain each connection is closed after a response; then sockets are closed."""
    async with draining("60") as (broker, http):
        ready = await http.get("/readyz")
        assert ready.json()["status"] == "draining"
        assert ready.json()["checks"]["database"] == "ok"
        assert "chat_broker_ready 0.0" in (await http.get("/metrics")).text
        room = (await http.post("/chat/rooms", json={"name": "General"})).json()["id"]
        for path in (
            "/healthz",
            "/chat/me",
            "/chat/rooms",
            f"/chat/rooms/{room}/messages",
            "/none",
        ):
            answer = await http.get(path)
            assert answer.status_code in {200, 404}
            assert answer.headers.get_list("connection") == ["close"], path
        token = (await http.post("/chat/token")).json()["token"]
        async with connected(broker.url, token) as socket:
            assert socket.refused is None
            broker.process.send_signal(signal.SIGTERM)  # a second one: no more draining
            await socket.ends(within=10)
            assert [error["code"] for error in socket.payloads("error")] == ["server_restarting"]
        assert await asyncio.wait_for(broker.process.wait(), 10) == 0


async def test_draining_ends_by_itself() -> None:
    began = time.monotonic()
    async with draining("3") as (broker, _):
        assert await asyncio.wait_for(broker.process.wait(), 20) == 0
        assert time.monotonic() - began > 3


async def test_a_connection_in_use_ends_behind_an_answer_without_draining_too() -> None:
    """A response on the fast path, from the header cache, also closes the connection."""
    async with (
        running_broker() as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=20) as http,
    ):
        token = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        room = (await http.post("/chat/rooms", json={"name": "General"})).json()["id"]
        for number in range(500):
            if number == 20:
                broker.process.send_signal(signal.SIGTERM)
            answer = await http.get(f"/chat/rooms/{room}/messages")
            assert answer.status_code == 200
            if "connection" in answer.headers:
                break
            await asyncio.sleep(0.01)
        assert number >= 20
        assert answer.headers.get_list("connection") == ["close"]
        assert await asyncio.wait_for(broker.process.wait(), 10) == 0
