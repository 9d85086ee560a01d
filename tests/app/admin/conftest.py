"""A running broker with an operator, users and their sockets."""

import asyncio
import sqlite3
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import socketio
from typer.testing import CliRunner

from chat_broker.cli.main import app as cli
from tests.programs import Program, running_broker

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Reading the CA certificates takes longer than a test, and no test here uses TLS."""
BOOTSTRAP = "bootstrap-key-for-tests-0123456789abcdef"
FAST = dict.fromkeys(
    (
        f"RATE_{kind}"
        for kind in ("TOKEN", "READ", "WRITE", "IP", "AUTH_FAILURES", "ADMIN_FAILURES")
    ),
    "100000/minute",
)
"""Rate limits high enough for tests."""
WHY = {"reason": "a test wants it"}


@dataclass
class Live:
    """A user's socket: the events it received, and whether it is still open."""

    client: socketio.AsyncClient
    errors: list[dict[str, Any]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Office:
    """One broker, seen by an operator (`admin`), by app users (`as_`), and by a shell (`run`)."""

    program: Program
    admin: httpx.AsyncClient
    stack: AsyncExitStack

    async def as_(self, name: str) -> httpx.AsyncClient:
        """A client signed in to the app as *name*."""
        async with httpx.AsyncClient(verify=NO_TLS, base_url=self.program.url) as client:
            signed_in = await client.post("/dev/login", json={"username": name})
        headers = {"Authorization": f"Bearer {signed_in.json()['token']}"}
        client = httpx.AsyncClient(verify=NO_TLS, base_url=self.program.url, headers=headers)
        return await self.stack.enter_async_context(client)

    async def with_key(self, key: str | bytes) -> httpx.AsyncClient:
        """A client with an admin key, valid or not."""
        raw = key if isinstance(key, bytes) else key.encode()
        headers = [(b"Authorization", b"Bearer " + raw)]
        client = httpx.AsyncClient(verify=NO_TLS, base_url=self.program.url, headers=headers)
        return await self.stack.enter_async_context(client)

    async def key(self, *scopes: str, **more: Any) -> httpx.AsyncClient:
        """A client with a new admin key that has *scopes*."""
        made = await self.admin.post("/admin/keys", json={"name": "k", "scopes": scopes, **more})
        assert made.status_code == 201, made.text
        return await self.with_key(made.json()["key"])

    async def verify(self, token: str) -> str:
        """`ok`, or the error code that refuses the chat token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(verify=NO_TLS, base_url=self.program.url) as client:
            response = await client.get("/chat/verify", headers=headers)
        return "ok" if response.status_code == 200 else str(response.json()["code"])

    async def socket(self, token: str) -> Live:
        """A socket that is connected with the chat token."""
        live = Live(socketio.AsyncClient(reconnection=False))
        live.client.on("error", live.errors.append)
        live.client.on("disconnect", lambda *_: live.closed.set())
        await live.client.connect(
            self.program.url, auth={"token": token}, transports=["websocket"], wait_timeout=5
        )
        self.stack.push_async_callback(live.client.disconnect)
        return live

    def state(self) -> AbstractContextManager[sqlite3.Connection]:
        """The broker's own database, for states that no route can produce; each statement commits."""
        return closing(
            sqlite3.connect(self.program.data_dir / "broker.db", isolation_level=None, timeout=5)
        )

    async def records(self, **asked: Any) -> list[dict[str, Any]]:
        """Audit records, newest first, without the records of reading the audit log."""
        found = await self.admin.get("/admin/audit", params={"limit": 200, **asked})
        assert found.status_code == 200, found.text
        return [one for one in found.json()["items"] if not one["action"].startswith("audit.")]

    async def run(
        self, *command: str, stdin: str | None = None, **environment: str
    ) -> tuple[int, str, str]:
        """A `chat-broker` command, in this process: starting Python for each would take minutes."""
        variables = {"CHAT_BROKER_URL": self.program.url, "CHAT_BROKER_ADMIN_KEY": BOOTSTRAP}
        run = partial(
            CliRunner().invoke, cli, list(command), input=stdin, env=variables | environment
        )
        result = await asyncio.to_thread(run)
        return result.exit_code, result.stdout, result.stderr


@asynccontextmanager
async def open_office(**settings: Any) -> AsyncIterator[Office]:
    """A broker for one test."""
    async with AsyncExitStack() as stack:
        variables = {"ADMIN_KEY": BOOTSTRAP, **FAST, **settings}
        program = await stack.enter_async_context(running_broker(**variables))
        headers = {"Authorization": f"Bearer {BOOTSTRAP}"}
        admin = httpx.AsyncClient(verify=NO_TLS, base_url=program.url, headers=headers, timeout=20)
        yield Office(program, await stack.enter_async_context(admin), stack)


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Office]:
    """A broker that the tests of one file share; each test has its own users."""
    async with open_office() as office:
        yield office


async def minted(*people: httpx.AsyncClient) -> Sequence[str]:
    """A chat token for each."""
    answers = [await person.post("/chat/token") for person in people]
    assert all(answer.status_code == 200 for answer in answers), [a.text for a in answers]
    return [answer.json()["token"] for answer in answers]
