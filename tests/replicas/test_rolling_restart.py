"""docs/scaling.md: replicas are restarted one after the other behind `examples/nginx.conf`, and no request fails."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.programs import ROOT, free_port, running_broker, wait_for_port

pytestmark = [pytest.mark.services("postgres", "redis", "nginx"), pytest.mark.timeout(180)]

PLENTY = dict.fromkeys(("RATE_IP", "RATE_WRITE", "RATE_READ", "RATE_TOKEN"), "1000000/minute")


@asynccontextmanager
async def nginx(folder: Path, ports: list[int]) -> AsyncIterator[str]:
    """nginx with the example's configuration; only addresses are replaced."""
    port = free_port()
    text = (ROOT / "examples" / "nginx.conf").read_text()
    for name, broker in zip(("broker-a:8000", "broker-b:8000"), ports, strict=True):
        assert name in text
        text = text.replace(name, f"127.0.0.1:{broker}")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = text.replace("/tmp/nginx", str(folder / "nginx"))  # noqa: S108 - what stands in the example
    config = folder / "nginx.conf"
    config.write_text(f"daemon off;\n{text}")
    process = await asyncio.create_subprocess_exec("nginx", "-c", str(config), "-p", str(folder))
    try:
        await asyncio.to_thread(wait_for_port, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def until_ready(port: int) -> None:
    """The condition that docs/scaling.md requires before the next replica restarts."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
        while (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.02)


async def test_a_rolling_restart_as_documented_fails_no_request(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    """Reads and writes continue on kept and new connections; each message is stored once."""
    settings = {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url,
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "DRAIN_SECONDS": "5",
        **PLENTY,
    }
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(nginx(tmp_path, ports))
        replicas = []
        for port in ports:
            one = contextlib.AsyncExitStack()
            await stack.enter_async_context(one)
            await one.enter_async_context(running_broker(PORT=str(port), **settings))
            replicas.append(one)

        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=front, trust_env=False, timeout=20)
        )
        token = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        room = (await http.post("/chat/rooms", json={"name": "General"})).json()["id"]
        path = f"/chat/rooms/{room}/messages"
        outcomes: Counter[tuple[str, int]] = Counter()
        ended = asyncio.Event()

        async def call(number: int) -> None:
            """One client in four opens a connection per request; half of all requests write."""
            headers = {"connection": "close"} if number % 4 == 0 else {}
            # nginx chooses the replica by the client's address.
            own = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number + 1}")
            async with httpx.AsyncClient(
                base_url=front, transport=own, headers={**http.headers, **headers}, timeout=20
            ) as mine:
                while not ended.is_set():
                    if number % 2:
                        answer = await mine.get(path, params={"limit": 1})
                    else:
                        answer = await mine.post(path, json={"content": f"from {number}"})
                    outcomes[answer.request.method, answer.status_code] += 1
                    await asyncio.sleep(0.02)

        calling = [asyncio.create_task(call(number)) for number in range(8)]
        for replica, port in zip(replicas, ports, strict=True):
            await replica.aclose()  # SIGTERM, and wait until it is gone
            await replica.enter_async_context(running_broker(PORT=str(port), **settings))
            await until_ready(port)
        await asyncio.sleep(1)
        ended.set()
        await asyncio.gather(*calling)
        assert set(outcomes) == {("GET", 200), ("POST", 201)}, outcomes
        page = (await http.get(path, params={"limit": 1})).json()
        assert page["total"] == outcomes["POST", 201]


async def test_a_broker_that_answers_503_is_not_left_out(tmp_path: Path) -> None:
    """While the Chat API is down, requests that need it get an error, and all others succeed."""
    away = {
        "AUTH": "forward",
        "AUTH_FORWARD_URL": "http://127.0.0.1:1/",
        "AUTH_FORWARD_COOKIES": "sid",
    }
    own = {**away, "AUTH_JWT_ISSUER": "https://app.example.com", **PLENTY}
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(nginx(tmp_path, ports))
        for port in ports:
            await stack.enter_async_context(running_broker(PORT=str(port), **own))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=front, trust_env=False))
        for _ in range(20):
            refused = await http.get("/chat/me", headers={"cookie": "sid=1"})
            assert refused.headers["content-type"] == "application/problem+json", refused.text
            assert (refused.status_code, refused.json()["code"]) == (
                503,
                "identity_provider_unavailable",
            )
            assert (await http.get("/healthz")).status_code == 200
