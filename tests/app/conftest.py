"""A broker for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.brokers import Running, running


@pytest.fixture(params=["fast path", "ordinary"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """Runs each test twice: on the fast path, and over ASGI."""
    async with running(tmp_path, over_the_wire=request.param == "fast path") as one:
        yield one
