"""One Chat API per transport, database and module: every test runs against all of them."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.conftest import postgres_database
from tests.contract.servers import ChatApi, embedded, standalone


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        "standalone",
        "ordinary",
        pytest.param("postgres", marks=pytest.mark.services("postgres")),
    ],
)
async def api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatApi]:
    """The Chat API: called in this process on SQLite, over TCP and ASGI on SQLite and on Postgres.

    "ordinary": over uvicorn's own protocol and python-socketio's sockets, which serve where ours do not fit.
    """
    folder: Path = tmp_path_factory.mktemp("data")
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            yield await stack.enter_async_context(embedded(folder))
        elif request.param == "standalone":
            yield await stack.enter_async_context(standalone(folder))
        elif request.param == "ordinary":
            under = (sys.executable, str(Path(__file__).with_name("ordinary.py")))
            yield await stack.enter_async_context(standalone(folder, under=under))
        else:
            url = await stack.enter_async_context(postgres_database())
            yield await stack.enter_async_context(standalone(folder, url))
