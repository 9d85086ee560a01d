"""Ask one target at a steady rate, whether it keeps up or not, and report what came back.

A process of its own (`python -m benchmarks.steady`), like `benchmarks.load`: reads one JSON plan on standard
input, writes one JSON `Outcome` on standard output. A request that finds every connection busy opens one
more, so a slow answer delays nobody's question.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import cast

from .load import GRACE, is_whole

MOST_CONNECTIONS = 500
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Plan:
    """What to ask, *rate* times a second.

    *phases* are pairs of a second and the requests (whole HTTP messages in latin-1, taken in turn) that are
    asked from that second on; none: silence. *begin*: the epoch second to start at, so that two plans run
    together.
    """

    port: int
    phases: list[tuple[float, list[str]]]
    rate: float
    seconds: float
    begin: float = 0.0


@dataclass
class Outcome:
    """Responses by status; *latencies* are pairs of the second of the request and the seconds it took."""

    statuses: dict[str, int] = field(default_factory=dict)
    latencies: list[tuple[float, float]] = field(default_factory=list, repr=False)
    first_failure: str = ""

    @property
    def failures(self) -> dict[str, int]:
        """Counts of error responses and of requests without a response, by status."""
        return {status: count for status, count in self.statuses.items() if status[0] != "2"}


def summary(seconds: list[float]) -> str:
    """Latencies in one line, in milliseconds."""
    ordered = sorted(seconds)
    middle, late = share(ordered, 0.5) * 1000, share(ordered, 0.99) * 1000
    return f"n={len(ordered)} p50={middle:.2f} ms p99={late:.2f} ms max={ordered[-1] * 1000:.2f} ms"


def share(seconds: list[float], part: float) -> float:
    """The latency that *part* of the requests did not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.idle: deque[_Connection] = deque()
        self.open = 0
        self.under_way = 0
        self.started = time.perf_counter()
        self.latencies: list[tuple[float, float]] = []
        self.statuses: Counter[str] = Counter()
        self.first_failure = ""

    def answered(self, status: str, sent: float, answer: bytes) -> None:
        self.under_way -= 1
        self.statuses[status] += 1
        self.latencies.append((sent - self.started, time.perf_counter() - sent))
        if status[0] != "2" and not self.first_failure:
            self.first_failure = answer[:800].decode("latin-1")

    def lost(self, error: object) -> None:
        self.under_way -= 1
        self.statuses[NO_ANSWER] += 1
        self.first_failure = self.first_failure or f"connection lost: {error}"

    async def ask(self, request: bytes) -> None:
        self.under_way += 1
        while self.idle:
            connection = self.idle.popleft()
            if connection.ask(request):
                return
        if self.open >= MOST_CONNECTIONS:
            self.lost("the target does not keep up")
            return
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), "127.0.0.1", self.plan.port
            )
        except OSError as error:
            self.lost(error)
            return
        connection.ask(request)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._run.open += 1

    def ask(self, request: bytes) -> bool:
        """Send *request*; False if the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._sent = time.perf_counter()
        self._transport.write(request)
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0 or not is_whole(buffer, head):
            self._buffer = buffer
            return
        self._buffer = b""
        sent, self._sent = self._sent, 0.0
        self._run.answered(buffer[9:12].decode("latin-1"), sent, buffer)
        if b"\r\nconnection: close" in buffer[:head].lower():
            self.close()
        else:
            self._run.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.open -= 1
        self._transport = None
        if self._sent:
            self._run.lost(exc)


async def run(plan: Plan) -> Outcome:
    """Ask for *plan.seconds*; ends when everything is answered, or soon after."""
    await asyncio.sleep(max(plan.begin - time.time(), 0))
    state = _Run(plan)
    phases = deque(
        (start, [text.encode("latin-1") for text in texts]) for start, texts in plan.phases
    )
    requests = phases[0][1]
    tasks: set[asyncio.Task[None]] = set()
    asked = 0
    while (now := time.perf_counter() - state.started) < plan.seconds:
        while phases and now >= phases[0][0]:
            requests = phases.popleft()[1]
        while asked < now * plan.rate:
            if requests:
                task = asyncio.create_task(state.ask(requests[asked % len(requests)]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            asked += 1
        await asyncio.sleep(min(1 / plan.rate, 0.005))
    deadline = time.perf_counter() + GRACE
    while (tasks or state.under_way) and time.perf_counter() < deadline:  # noqa: ASYNC110 - the end of a plan
        await asyncio.sleep(0.01)
    for connection in state.idle:
        connection.close()
    await asyncio.sleep(0)  # closing happens in the loop's next turn
    if state.under_way:
        state.statuses[NO_ANSWER] += state.under_way
        state.first_failure = state.first_failure or "some requests were never answered"
    return Outcome(dict(sorted(state.statuses.items())), state.latencies, state.first_failure)


async def carry_out(plan: Plan) -> Outcome:
    """*plan*, in a process of its own."""
    with tempfile.TemporaryFile() as out:  # a pipe might take less than all of it
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.steady", stdin=subprocess.PIPE, stdout=out
        )
        await process.communicate(json.dumps(asdict(plan)).encode())
        if process.returncode:
            raise RuntimeError("the process that asks has failed")
        out.seek(0)
        return Outcome(**json.load(out))


def request(
    method: str, path: str, token: str, *more: tuple[str, str], body: str | None = None
) -> str:
    """One whole HTTP message with a bearer token."""
    headers = [("Host", "127.0.0.1"), ("Authorization", f"Bearer {token}"), *more]
    if body is not None:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    elif method == "POST":
        headers.append(("Content-Length", "0"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n{body or ''}"


def main() -> None:
    """Read a plan, carry it out, print the outcome."""
    import uvloop

    plan = Plan(**json.load(sys.stdin))
    print(json.dumps(asdict(uvloop.run(run(plan)))))


if __name__ == "__main__":
    main()
