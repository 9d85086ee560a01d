"""The short form of tests.sdk.stress: no answer goes to another call, and calls, turns and connections add up."""

from collections import Counter

import pytest

from chat_broker_sdk import AiohttpTransport, HttptoolsTransport
from tests.sdk.transports.stress import Transport, stress

OUTCOMES = {"cancelled", "timeout", "network_error", "connections_in_use", "bad_response"}
MOST_ROUNDS = 20


@pytest.mark.parametrize("kind", [HttptoolsTransport, AiohttpTransport])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_server_that_does_everything_wrong_mixes_up_nothing(
    kind: type[Transport], seed: int
) -> None:
    """A round is judged while it runs. Which calls time out is chance, so rounds go on until each outcome was seen."""
    counts: Counter[str] = Counter()
    for number in range(MOST_ROUNDS):
        counts += await stress(kind, seed + 3 * number, 300)
        if counts.keys() >= OUTCOMES:
            break
    assert counts["answered"] > 50
    assert counts.keys() >= OUTCOMES, f"nothing ended so: {OUTCOMES - counts.keys()}"
