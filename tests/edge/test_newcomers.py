"""A program that stops answers every request that has reached it."""

import asyncio
from pathlib import Path

import pytest

from tests.edge.newcomers import CLIENTS, visits
from tests.edge.programs import Start, both


@both
@pytest.mark.parametrize("drain_seconds", ["0", "1"])
async def test_a_stop_loses_no_request_on_a_new_connection(
    start: Start, tmp_path: Path, drain_seconds: str
) -> None:
    """A connection is refused or its request gets a response, also while the port is being closed."""
    plenty = {"RATE_IP": "1000000/minute"}
    async with start(tmp_path, DRAIN_SECONDS=drain_seconds, **plenty) as edge:
        calling = asyncio.create_task(visits(edge.port))
        await asyncio.sleep(0.5)
        assert await edge.program.stop() == 0
        outcomes = await calling
    assert set(outcomes) == {"answered", "refused"}, outcomes
    assert outcomes["refused"] == CLIENTS
