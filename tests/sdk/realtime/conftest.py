"""A client of the Chat API in memory, and of the real server."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_broker_sdk import AsyncChatClient
from chat_broker_sdk.testing import FakeChatApi
from tests.programs import run_command, running_server


@pytest.fixture(params=["fake", "server"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncChatClient]:
    if request.param == "fake":
        async with FakeChatApi().client() as client:
            yield client
        return
    folder = Path(tempfile.mkdtemp())
    code, out, err = await run_command(
        "chat-server", "create-project", "--name", "x", environment={"DATA_DIR": str(folder)}
    )
    assert code == 0, err
    key = out.strip().splitlines()[-1]
    async with (
        running_server(folder) as program,
        AsyncChatClient(program.url, api_key=key) as client,
    ):
        yield client
