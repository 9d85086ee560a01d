"""Ask one target the same few requests over and over, and report what came back.

A process of its own (`python -m benchmarks.load`), pinned away from the target: reads JSON plans on standard
input, a line each, and answers each with a JSON `Outcome` on standard output. It speaks just enough HTTP/1.1 to count
answers, so that it costs less than anything it measures.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import cast

GRACE = 10.0


@dataclass(frozen=True)
class Plan:
    """What to ask: *requests* are whole HTTP messages in latin-1, taken in turn by every connection."""

    port: int
    requests: list[str]
    status: int
    connections: int
    seconds: float


@dataclass
class Outcome:
    """The responses. *wrong* counts those with another status, and lost connections."""

    answers: int = 0
    wrong: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    first_wrong: str = ""
    latencies: list[float] = field(default_factory=list, repr=False)


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.requests = [text.encode("latin-1") for text in plan.requests]
        self.status = str(plan.status).encode()
        self.outcome = Outcome()
        self.until = time.perf_counter() + plan.seconds
        self.open = plan.connections
        self.done = asyncio.get_running_loop().create_future()
        self._turn = 0

    def next(self) -> bytes:
        self._turn += 1
        return self.requests[self._turn % len(self.requests)]

    def closed(self) -> None:
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        if self._sent >= self._run.until:
            self._sent = 0.0
            self._transport.close()
            return
        self._transport.write(self._run.next())

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0 or not is_whole(buffer, head):
            self._buffer = buffer
            return
        self._buffer = b""
        outcome = self._run.outcome
        outcome.latencies.append(time.perf_counter() - self._sent)
        if buffer[9:12] != self._run.status:
            outcome.wrong += 1
            outcome.first_wrong = outcome.first_wrong or buffer[:400].decode("latin-1")
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent:
            self._run.outcome.wrong += 1
            self._run.outcome.first_wrong = (
                self._run.outcome.first_wrong or f"connection lost: {exc}"
            )
        self._run.closed()


def is_whole(buffer: bytes, head: int) -> bool:
    """Whether the response whose header block ends at *head* is complete."""
    headers = buffer[:head].lower()
    start = headers.find(b"\r\ncontent-length:")
    if start >= 0:
        end = headers.find(b"\r\n", start + 2)
        length = int(headers[start + 17 : end if end >= 0 else head])
        return len(buffer) >= head + 4 + length
    if b"\r\ntransfer-encoding: chunked" in headers:
        return buffer.endswith(b"\r\n0\r\n\r\n")
    return True


async def run(plan: Plan) -> Outcome:
    """Keep *plan.connections* connections busy for *plan.seconds*; always ends soon after."""
    loop = asyncio.get_running_loop()
    state = _Run(plan)
    started = time.perf_counter()
    for _ in range(plan.connections):
        await loop.create_connection(lambda: _Connection(state), "127.0.0.1", plan.port)
    try:
        await asyncio.wait_for(state.done, plan.seconds + GRACE)
    except TimeoutError:
        state.outcome.wrong += state.open
        state.outcome.first_wrong = state.outcome.first_wrong or "some requests were never answered"
    outcome = state.outcome
    outcome.seconds = time.perf_counter() - started
    outcome.answers = len(outcome.latencies)
    ordered = sorted(outcome.latencies) or [0.0]
    outcome.p50_ms = ordered[len(ordered) // 2] * 1e3
    outcome.p99_ms = ordered[int(len(ordered) * 0.99)] * 1e3
    outcome.latencies = []
    return outcome


def main() -> None:
    """Read a plan, carry it out, print the outcome, until there is none."""
    import uvloop

    for line in sys.stdin:
        print(json.dumps(asdict(uvloop.run(run(Plan(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
