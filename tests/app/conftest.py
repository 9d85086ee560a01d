"""A broker for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.brokers import Running, running


@pytest.fixture(params=["fast", "ordinary"])
async def broker(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """Each test runs over both ways to a hot route; see app.fast."""
    monkeypatch.setenv("FAST_PATH", "on" if request.param == "fast" else "off")
    async with running(tmp_path) as one:
        yield one
