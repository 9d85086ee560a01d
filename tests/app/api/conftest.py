"""The routes themselves also run over uvicorn's own protocol, which serves where ours does not fit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_broker.fast_path.protocol import FastPathProtocol
from tests.app.brokers import Running, running


@pytest.fixture(params=["lane", "ordinary", "uvicorn"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """By the short way, called as an ASGI application, and over HTTP without anything of ours below ASGI."""
    protocol = "httptools" if request.param == "uvicorn" else FastPathProtocol
    wired = request.param != "ordinary"
    async with running(tmp_path, over_the_wire=wired, protocol=protocol) as one:
        yield one
