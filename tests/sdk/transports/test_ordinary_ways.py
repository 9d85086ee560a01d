"""A version of aiohttp or httpx whose insides are not known carries requests all the same; the log says so."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from chat_broker_sdk import AiohttpTransport, HttpxTransport, Transport
from chat_broker_sdk._async import stream
from chat_broker_sdk._sync import stream as sync_stream
from chat_broker_sdk._transports import aiohttp_handler
from tests.sdk.transports.http_corpus import BAD, WHOLE
from tests.sdk.transports.test_odd_answers import answering, opened
from tests.sdk.transports.test_transports import OnAThread

KINDS: list[Callable[[], Transport]] = [HttpxTransport, AiohttpTransport, OnAThread]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_right_answers_are_the_same_without_the_insides_of_a_library(
    kind: Callable[[], Transport],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module in (stream, sync_stream):
        monkeypatch.setattr(module, "BACKEND", "_gone")
    monkeypatch.setattr(aiohttp_handler, "NEEDED", ("_gone",))
    caplog.set_level(logging.WARNING, "chat_broker_sdk")
    right = [name for name, (_, expected) in WHOLE.items() if expected != BAD]
    assert len(right) > 10

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[right[number]][0])

    async with answering(serve) as ask, opened(kind) as transport:
        found = {name: await ask(transport, number) for number, name in enumerate(right)}
    assert found == {name: WHOLE[name][1] for name in right}
    assert "interim responses are unbounded" in caplog.text
