"""A broker for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.brokers import Running, running


@pytest.fixture(params=["lane", "ordinary"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """Each test runs over both ways to a hot route; see chat_broker.fast_path.dispatcher."""
    async with running(tmp_path, over_the_wire=request.param == "lane") as one:
        yield one
