"""Both programs, each with a request that needs a credential, for tests of both edges."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.programs import Program, run_command, running_broker, running_server


@dataclass
class Edge:
    """One running program; *post_path* takes a JSON body under these *headers*."""

    program: Program
    post_path: str
    headers: dict[str, str]

    @property
    def port(self) -> int:
        return self.program.port

    def post(self, *more: str) -> bytes:
        """The head of a request with a body, without the length, which *more* gives."""
        headers = {**self.headers, "Content-Type": "application/json"}
        lines = [f"POST {self.post_path} HTTP/1.1", "Host: x", *more]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def is_well(self, *, within: float = 2.0) -> None:
        """Fails unless a new connection gets a response in time."""
        async with httpx.AsyncClient(base_url=self.program.url, trust_env=False) as http:
            answer = await http.get("/healthz", timeout=within)
            assert answer.status_code == 200


@asynccontextmanager
async def broker(folder: Path, under: Sequence[str] = (), **settings: str) -> AsyncIterator[Edge]:
    """`chat-broker serve`, whose dev login accepts a body without a credential."""
    async with running_broker(folder, under=under, **settings) as program:
        yield Edge(program, "/dev/login", {})


@asynccontextmanager
async def chat_broker_server(
    folder: Path, under: Sequence[str] = (), **settings: str
) -> AsyncIterator[Edge]:
    """`chat-server serve`, with a project."""
    code, out, err = await run_command(
        "chat-server",
        *("create-project", "--name", "Edge", "--json"),
        environment={"DATA_DIR": str(folder), **settings},
    )
    assert code == 0, err
    made = json.loads(out)
    async with running_server(folder, under=under, **settings) as program:
        path = f"/api/v1/projects/{made['project_id']}/users"
        yield Edge(program, path, {"X-API-Key": made["api_key"]})


Start = Callable[..., AbstractAsyncContextManager[Edge]]
both = pytest.mark.parametrize("start", [broker, chat_broker_server], ids=["broker", "chat-server"])


async def exchange(port: int, *pieces: bytes, within: float = 3.0) -> bytes:
    """All bytes received until the server ends the connection or sends no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()

    async def read() -> None:
        with suppress(ConnectionError):
            while more := await reader.read(65_536):
                received.extend(more)

    async def write() -> None:
        with suppress(ConnectionError):  # it has heard enough; what it said is read all the same
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)

    with suppress(TimeoutError):
        async with asyncio.timeout(within), asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(write())
    writer.transport.abort()
    return bytes(received)
