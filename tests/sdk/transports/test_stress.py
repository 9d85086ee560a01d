"""The short form of tests.sdk.stress: no answer goes to another call, and calls, turns and connections add up."""

import pytest

from chat_broker_sdk import AiohttpTransport, HttptoolsTransport
from tests.sdk.transports.stress import Transport, stress


@pytest.mark.parametrize("kind", [HttptoolsTransport, AiohttpTransport])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_server_that_does_everything_wrong_mixes_up_nothing(
    kind: type[Transport], seed: int
) -> None:
    counts = await stress(kind, seed, 300)
    assert counts["answered"] > 50
    for code in ("cancelled", "timeout", "network_error", "connections_in_use", "bad_response"):
        assert counts[code], f"nothing ended with {code}: {counts}"
