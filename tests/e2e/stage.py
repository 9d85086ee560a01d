"""The stage for the browser client: a broker, a network that can be cut, Chromium with alice, and bob over REST."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.javascript import Frontend, browser
from tests.e2e.proxy import Proxy, proxy_before
from tests.programs import free_port, running_broker

ADMIN = "an-admin-key-for-tests-of-forty-characters"


@dataclass
class Stage:
    """Alice's browser, the network between, and bob, who talks over REST."""

    chromium: Frontend
    proxy: Proxy
    http: httpx.AsyncClient
    page_url: str
    room: str
    bearers: dict[str, str]
    said: int = 0

    async def say(self, count: int = 1) -> None:
        """Bob says *count* messages: "1", "2", … over the whole test."""
        for _ in range(count):
            await self.call(
                "bob", "POST", f"/rooms/{self.room}/messages", content=str(self.said + 1)
            )
            self.said += 1

    async def posted(self, count: int, *, within: float = 10) -> None:
        """Return once the room has *count* messages."""
        deadline = time.monotonic() + within
        while len((await self.call("bob", "GET", f"/rooms/{self.room}/messages"))["items"]) < count:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def call(self, who: str, method: str, path: str, /, **body: Any) -> Any:
        answer = await self.http.request(
            method,
            f"/chat{path}",
            headers={"authorization": f"Bearer {self.bearers[who]}"},
            json=body or None,
        )
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def operate(self, method: str, path: str, **body: Any) -> None:
        headers = {"authorization": f"Bearer {ADMIN}"}
        answer = await self.http.request(method, f"/admin{path}", headers=headers, json=body)
        assert answer.is_success, answer.text

    async def open(self, page: str = "alice", *, who: str = "alice", **options: Any) -> None:
        """A tab in which *who* has joined the room."""
        await self.chromium.call("open", page=page, url=f"{self.page_url}/client.html", **options)
        settings = {
            "url": f"{self.proxy.url}/chat",
            "bearer": self.bearers[who],
            "rooms": [self.room],
        }
        await self.run("(settings) => begin(settings).then(() => true)", settings, page=page)

    async def run(
        self, script: str, argument: Any = None, *, page: str = "alice", within: float = 30
    ) -> Any:
        answer = await self.chromium.call(
            "evaluate", page=page, script=script, argument=argument, within=within
        )
        return answer.get("result")

    async def statuses(self, page: str = "alice") -> list[dict[str, Any]]:
        return list(await self.run("() => statuses", page=page))

    async def heard(self, page: str = "alice", *, within: float = 20) -> None:
        """All that bob said is here: once each, and in order."""
        expected = [[number, str(number)] for number in range(1, self.said + 1)]
        deadline = time.monotonic() + within
        while (heard := await self.run("() => heard", page=page)) != expected:
            assert len(heard) <= len(expected), heard
            assert time.monotonic() < deadline, (heard, await self.statuses(page))
            await asyncio.sleep(0.05)

    async def stopped(self, page: str = "alice", *, within: float = 20) -> str:
        """The code with which the client has stopped."""
        deadline = time.monotonic() + within
        while (last := (await self.statuses(page))[-1])["state"] != "stopped":
            assert time.monotonic() < deadline, last
            await asyncio.sleep(0.05)
        return str(last["code"])

    async def until(self, line: str, times: int = 1, *, within: float = 30) -> None:
        """Return once the proxy has seen *line* that often."""
        deadline = time.monotonic() + within
        while self.count(line) < times:
            assert time.monotonic() < deadline, self.proxy.seen
            await asyncio.sleep(0.02)

    def count(self, line: str) -> int:
        return sum(seen.startswith(line) for seen in self.proxy.seen)


SETTINGS = {"ADMIN_KEY": ADMIN, "RATE_TOKEN": "1000/minute", "RATE_WRITE": "2000/minute"}


@asynccontextmanager
async def stage(broker_port: int, web: int) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker_port}", trust_env=False)
        await stack.enter_async_context(http)
        proxy = await stack.enter_async_context(proxy_before(broker_port))
        chromium = await stack.enter_async_context(browser(web))
        bearers = {}
        for name in ("alice", "bob"):
            signed_in = await http.post("/dev/login", json={"username": name})
            bearers[name] = signed_in.json()["token"]
            http.cookies.clear()
        made = Stage(chromium, proxy, http, f"http://localhost:{web}", "", bearers)
        made.room = (await made.call("bob", "POST", "/rooms", name="General"))["id"]
        yield made


@asynccontextmanager
async def whole_stage(**settings: str) -> AsyncIterator[Stage]:
    web = free_port()
    async with (
        running_broker(
            **{**SETTINGS, "CORS_ORIGINS": f"http://localhost:{web}", **settings}
        ) as broker,
        stage(broker.port, web) as made,
    ):
        yield made
