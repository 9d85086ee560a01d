"""Runs the routes' tests on the fast path, over ASGI, and over uvicorn's own protocol."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_broker.fast_path.protocol import FastPathProtocol
from tests.app.brokers import Running, running


@pytest.fixture(params=["fast path", "ordinary", "uvicorn"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A broker on the fast path, called as an ASGI application, or on uvicorn's own protocol."""
    protocol = "httptools" if request.param == "uvicorn" else FastPathProtocol
    wired = request.param != "ordinary"
    async with running(tmp_path, over_the_wire=wired, protocol=protocol) as one:
        yield one
