"""One node on SQLite, for most tests of sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.realtime.live_node import LiveNode, running_node


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chat.db'}"


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[LiveNode]:
    async with running_node(database_url) as node:
        yield node
