"""One node on SQLite, for most tests of sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.realtime.live_node import LiveNode, running_node


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chat.db'}"


@pytest.fixture(params=["own", "library"])
async def node(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[LiveNode]:
    """Websockets are served by this server itself, and by python-socketio."""
    async with running_node(database_url, own_websockets=request.param == "own") as node:
        yield node
