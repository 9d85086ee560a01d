"""One Chat API per shape and module: the same questions to all of them."""

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
        pytest.param("postgres", marks=pytest.mark.services("postgres")),
    ],
)
async def api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatApi]:
    """The Chat API: called in this process on SQLite, over TCP and ASGI on SQLite and on Postgres."""
    folder: Path = tmp_path_factory.mktemp("data")
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            yield await stack.enter_async_context(embedded(folder))
        elif request.param == "standalone":
            yield await stack.enter_async_context(standalone(folder))
        else:
            url = await stack.enter_async_context(postgres_database())
            yield await stack.enter_async_context(standalone(folder, url))
