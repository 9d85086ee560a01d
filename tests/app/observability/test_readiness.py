"""/readyz and /metrics show an outage within ten seconds and keep showing it; the log has its start and end."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from chat_broker_kit.urls.location import location
from tests.app.auth.signing import rsa_signer
from tests.app.storage.test_full_disk import fill
from tests.conftest import postgres_database
from tests.programs import Program, free_port, running_broker, running_server, wait_for_port

pytestmark = pytest.mark.timeout(120)
PROVIDER = {"ENVIRONMENT": "development", "AUTH_JWT_ISSUER": "https://app.example.com"}


class Watched:
    """The state that a program reports at /readyz and /metrics."""

    def __init__(self, program: Program, http: httpx.AsyncClient) -> None:
        self.program = program
        self._http = http

    async def ready(self) -> tuple[int, dict[str, Any]]:
        answer = await self._http.get("/readyz")
        return answer.status_code, answer.json()

    async def says(self, dependency: str) -> str:
        _, found = await self.ready()
        return str(found.get("checks", found)[dependency])

    async def gauge(self, name: str) -> float:
        lines = (await self._http.get("/metrics")).text.splitlines()
        (value,) = (line.split()[-1] for line in lines if line.startswith(f"{name} "))
        return float(value)

    async def until(self, dependency: str, begins: str, *, steady: int = 4) -> None:
        """Fails unless the state is reached within ten seconds and lasts."""
        began = time.monotonic()
        while not (await self.says(dependency)).startswith(begins):
            assert time.monotonic() - began < 10, await self.ready()
            await asyncio.sleep(0.3)
        for _ in range(steady):
            await asyncio.sleep(0.5)
            assert (await self.says(dependency)).startswith(begins)
        ok = f'{self.program_name}_dependency_ok{{dependency="{dependency}"}}'
        assert await self.gauge(ok) == float(begins == "ok")

    @property
    def program_name(self) -> str:
        """The prefix of the program's metrics."""
        return "chat_server" if "chat_broker_server" in self.program.log() else "chat_broker"

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        lines = [line for line in self.program.log().splitlines() if line.startswith("{")]
        found = [line for line in map(json.loads, lines) if line.get("event") == event]
        return [line for line in found if fields.items() <= line.items()]

    def told(self, dependency: str, where: str) -> None:
        """The log has one line for the start and one for the end of the outage, each with the location."""
        for event in ("dependency.lost", "dependency.back"):
            lines = self.logged(event, dependency=dependency)
            assert [where in line["where"] for line in lines] == [True], (event, lines)


@asynccontextmanager
async def watched(program: Program) -> AsyncIterator[Watched]:
    async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as http:
        yield Watched(program, http)


@contextmanager
def redis(port: int, folder: Path) -> Iterator[None]:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    with subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port)
            yield
        finally:
            server.kill()


async def test_a_full_disk_is_degraded_and_not_failed(tiny_disk: Path) -> None:
    """Reads still succeed, so the replica stays ready; with free space it reports recovery."""
    async with running_broker(tiny_disk) as broker, watched(broker) as seen:
        assert (await seen.ready())[0] == 200
        filler = fill(tiny_disk)
        await seen.until("database", "degraded: writes are refused")
        await seen.until("upstream", "degraded: writes are refused")
        assert (await seen.ready())[0] == 200
        assert await seen.gauge("chat_broker_ready") == 1
        filler.unlink()
        await seen.until("database", "ok")
        await seen.until("upstream", "ok")
        await asyncio.sleep(5)
        seen.told("database", "broker.db")
        seen.told("upstream", "chat.db")
        for store in ("broker", "chat"):
            for event in ("database.lost", "database.back"):
                assert len(seen.logged(event, store=store)) == 1, (event, store, broker.log())


@pytest.mark.services("redis")
async def test_a_redis_that_was_away_is_back_and_stays_back(tmp_path: Path) -> None:
    """Stale connections from before the outage do not report another outage."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    async with running_broker(REDIS_URL=url) as broker, watched(broker) as seen:
        await seen.until("redis", "degraded")
        for _ in range(2):
            with redis(port, tmp_path):
                await seen.until("redis", "ok", steady=10)
                async with httpx.AsyncClient(base_url=broker.url, trust_env=False) as http:
                    await asyncio.gather(*(http.get("/chat/me") for _ in range(40)))
            await seen.until("redis", "degraded")
        assert len(seen.logged("dependency.back", dependency="redis")) == 2
        assert len(seen.logged("hints.lost")) == 3
        assert len(seen.logged("hints.back", where=f"redis://127.0.0.1:{port}/0")) == 2


class Endpoint:
    """An app's server that can be stopped: its session endpoint, or the keys of its issuer."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/jwks" in head:
            status, body = b"200 OK", json.dumps({"keys": [rsa_signer().jwk]}).encode()
        elif b"/introspect" in head:
            status, body = b"200 OK", b'{"active": false}'
        else:
            status, body = b"401 Unauthorized", b"{}"
        about = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
        writer.write(b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, about % len(body), body))
        await writer.drain()
        writer.close()


MODES = {
    "forward": {"AUTH_FORWARD_URL": "{url}/session", "AUTH_FORWARD_COOKIES": "sid"},
    "introspection": {
        "AUTH_INTROSPECTION_URL": "{url}/introspect",
        "AUTH_INTROSPECTION_CLIENT_ID": "broker",
        "AUTH_INTROSPECTION_CLIENT_SECRET": "a-secret-of-ours-0123456789",
    },
    "jwt": {"AUTH_JWT_JWKS_URL": "{url}/jwks", "AUTH_JWT_AUDIENCE": "chat"},
}


@pytest.mark.parametrize("mode", MODES)
async def test_a_provider_that_is_away_is_seen_to_go_and_to_come_back(mode: str) -> None:
    """An outage of the provider is reported without a sign-in. Cached keys still count as available."""
    endpoint = Endpoint()
    own = {name: value.format(url=endpoint.url) for name, value in MODES[mode].items()}
    if mode != "jwt":
        await endpoint.start()
    async with (
        running_broker(**{**PROVIDER, **own, "AUTH": mode}) as broker,
        watched(broker) as seen,
    ):
        if mode != "jwt":
            await seen.until("identity_provider", "ok")
            await endpoint.stop()
        await seen.until("identity_provider", f"degraded: {mode} is ")
        await endpoint.start()
        await seen.until("identity_provider", "ok")
        seen.told("identity_provider", endpoint.url)
        assert "a-secret-of-ours" not in broker.log()
        if mode == "jwt":
            assert await seen.gauge('chat_broker_identity_keys_age_seconds{issuer="jwt"}') < 60
    await endpoint.stop()


@pytest.mark.services("postgres")
async def test_a_database_that_turns_read_only_is_degraded_and_reads_go_on() -> None:
    """A Postgres that fails over, or whose disk is full; both programs on one database."""
    async with postgres_database() as url:
        urls = {"DATABASE_URL": url, "CHAT_DATABASE_URL": url}
        async with running_broker(**urls) as broker, watched(broker) as seen:
            assert (await seen.ready())[1]["status"] == "ok"
            await read_only(url, True)
            await seen.until("database", "degraded: writes are refused")
            await seen.until("upstream", "degraded: writes are refused")
            await read_only(url, False)
            await seen.until("database", "ok")
            await seen.until("upstream", "ok")
            await asyncio.sleep(5)
            seen.told("database", url.rpartition("@")[2])


async def read_only(url: str, wanted: bool) -> None:
    name = url.rpartition("/")[2]
    admin = await asyncpg.connect(url.rpartition("/")[0] + "/postgres")
    await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {wanted}')
    await admin.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    await admin.close()


async def test_the_server_alone_says_the_same_of_itself(tiny_disk: Path) -> None:
    async with running_server(tiny_disk) as server, watched(server) as seen:
        assert await seen.ready() == (200, {"status": "ok", "database": "ok", "redis": "off"})
        filler = fill(tiny_disk)
        await seen.until("database", "degraded: writes are refused")
        assert (await seen.ready())[0] == 200
        filler.unlink()
        await seen.until("database", "ok")
        seen.told("database", "chat.db")


async def test_a_killed_predecessor_raises_no_alarm_and_a_living_broker_does(
    tmp_path: Path,
) -> None:
    """A program restarted on the same database, then a second one beside it."""
    async with running_broker(tmp_path) as killed:
        await killed.kill()
    async with running_broker(tmp_path) as broker, watched(broker) as seen:
        began = time.monotonic()
        while time.monotonic() - began < 12:  # two beats and more
            assert await seen.says("processes") == "ok"
            await asyncio.sleep(0.5)
        assert seen.logged("processes.not_connected") == []
        async with running_broker(tmp_path) as other:
            await seen.until("processes", "degraded: another broker uses this database")
            await other.kill()
        assert len(seen.logged("processes.not_connected")) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pass@cache.example:6380/2?password=pass", "redis://cache.example:6380/2"),
        ("rediss://:pa/ss@cache.example/2", "rediss://(hidden)"),
        ("unix:///run/redis.sock?password=pass", "unix:///run/redis.sock"),
        ("postgresql://user:pass@db.example/chat?sslmode=require", "postgresql://db.example/chat"),
        ("https://id.example/session?key=pass#pass", "https://id.example/session"),
        ("sqlite:////data/broker.db", "/data/broker.db"),
        ("https://[pass", "(hidden)"),
    ],
)
def test_a_place_in_the_log_holds_no_credential(url: str, shown: str) -> None:
    assert location(url) == shown
