"""The access log: one line per request, in order, also between other log lines."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from chat_broker.observability import logs
from chat_broker.settings import Settings
from tests.programs import running_broker


@pytest.fixture
def as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Logging as in production; a function that returns the lines written since its last call."""
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    settings = Settings(data_dir=tmp_path, log_format="json", environment="development", auth="dev")
    logs.configure(settings)

    def written() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    yield written
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logs._access.batches = False


def answered(path: str, status: int = 200) -> None:
    logs.log_request(
        logs.AccessRecord("GET", path, "/chat/me", status, 0.0123456, "an-id", "192.0.2.1")
    )


async def test_lines_that_wait_are_written_together_and_soon(as_json: Any) -> None:
    for number in range(3):
        answered(f"/chat/{number}")
    assert as_json() == []
    await asyncio.sleep(logs.WRITTEN_WITHIN * 3)
    lines = as_json()
    assert [line["path"] for line in lines] == ["/chat/0", "/chat/1", "/chat/2"]
    assert {
        key: lines[0][key] for key in ("event", "level", "method", "route", "status", "ms")
    } == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/chat/me",
        "status": 200,
        "ms": 12.35,
    }


async def test_another_line_takes_along_what_waits(as_json: Any) -> None:
    """Times in the log never go back."""
    answered("/chat/before")
    structlog.get_logger("test").warning("something.happened")
    answered("/chat/after")
    await asyncio.sleep(logs.WRITTEN_WITHIN * 3)
    lines = as_json()
    assert [line.get("path", line["event"]) for line in lines] == [
        "/chat/before",
        "something.happened",
        "/chat/after",
    ]
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)


async def test_a_path_is_cut_and_hides_what_looks_like_a_credential(as_json: Any) -> None:
    answered("/chat/" + "x" * 5000)
    answered('/chat/"ak_0123456789abcdef0123456789abcdef/eyJhbGciOi.eyJzdWIi.c2ln')
    await asyncio.sleep(logs.WRITTEN_WITHIN * 3)
    long, secret = (line["path"] for line in as_json())
    assert len(long) == logs.LONGEST_PATH
    assert secret == '/chat/"[hidden]/[hidden]'


def test_where_no_loop_runs_a_line_is_written_at_once(as_json: Any) -> None:
    answered("/chat/me")
    assert len(as_json()) == 1


async def test_the_last_request_before_a_stop_is_in_the_log() -> None:
    """A program that is stopped right after a response has logged that request."""
    async with running_broker() as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b"GET /chat/me HTTP/1.1\r\nhost: x\r\nx-request-id: the-last-one\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert await broker.stop() == 0
        writer.close()
        assert '"request_id":"the-last-one"' in broker.log()
