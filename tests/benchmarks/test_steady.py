"""The load at a steady rate counts what came back, and forgets nothing that did not."""

import asyncio
import contextlib
import time

from benchmarks.steady import Plan, request, run
from tests.programs import free_port


async def closed(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_every_answer_is_counted_by_its_status_and_phases_follow_each_other() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status = head.split(b" ")[1].strip(b"/")
                writer.write(b"HTTP/1.1 %b Some\r\ncontent-length: 2\r\n\r\nok" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        phases = [
            (0.0, [request("GET", "/200", "t")]),
            (0.5, []),
            (1.0, [request("GET", "/503", "t")]),
        ]
        outcome = await run(Plan(port, phases, rate=40, seconds=1.5, begin=time.time() + 0.1))
        await closed(writers)
    assert outcome.statuses.keys() == {"200", "503"}
    assert outcome.failures == {"503": outcome.statuses["503"]}
    assert len(outcome.latencies) == sum(outcome.statuses.values())
    assert "503" in outcome.first_failure


async def test_a_request_without_an_answer_is_a_failure() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    phases = [(0.0, [request("GET", "/", "t")])]
    async with server:
        cut = await run(Plan(server.sockets[0].getsockname()[1], phases, rate=20, seconds=0.3))
        await closed(writers)
    assert cut.failures == {"no answer": sum(cut.statuses.values())}
    assert cut.failures["no answer"] >= 1
    nobody = await run(Plan(free_port(), phases, rate=20, seconds=0.3))
    assert nobody.failures["no answer"] >= 1
