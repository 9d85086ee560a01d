"""An open embedded server and a client for it, for tests that look behind the REST side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from chat_broker_server import Server, Settings, open_server
from tests.contract.servers import ChatApi, Direct

KEY = "test-key-that-is-long-enough-to-be-one"


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[tuple[Server, ChatApi]]:
    """The server and its API, as a broker would embed it."""
    async with (
        open_server(Settings(data_dir=folder, **settings), embedded_key=KEY) as server,
        httpx.AsyncClient(base_url="http://chat", transport=Direct(server)) as http,
    ):
        assert server.project_id is not None
        yield server, ChatApi(http, KEY, server.project_id)


@asynccontextmanager
async def two_replicas(folder: Path, url: str) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    """The APIs of two servers on one Postgres."""
    async with (
        opened(folder / "1", chat_database_url=url) as (_, one),
        opened(folder / "2", chat_database_url=url) as (_, two),
    ):
        yield one, two
