"""Measures several targets at the same work: each is checked first, then all run in turn; medians count."""

import http.client
import json
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from .ground import Ground, NotAvailable, Running
from .load import Outcome, Plan
from .measure import cores, cpu_seconds, memory_mb
from .targets import Start

WARM_TURN = 0.5
"""Seconds for which each contender runs before it is measured."""


@dataclass(frozen=True)
class Ask:
    """The HTTP request that all contenders of a table are asked."""

    method: str
    path: str
    token: str | None = None
    body: bytes | None = None
    api_key: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers that a browser's fetch adds, as far as targets read them."""
        found = {"Host": "127.0.0.1", "Accept": "application/json"}
        if self.token is not None:
            found["Authorization"] = f"Bearer {self.token}"
        if self.api_key is not None:
            found["X-API-Key"] = self.api_key
        if self.body is not None:
            found["Content-Type"] = "application/json"
            found["Content-Length"] = str(len(self.body))
        return found

    def wire(self) -> str:
        """The whole HTTP message, as text in latin-1."""
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers().items()]
        return "\r\n".join([*lines, "", ""]) + (self.body or b"").decode("latin-1")


@dataclass(frozen=True)
class Contender:
    """A target by name. *checks* is False for one that looks at no token; *warm* is in seconds."""

    name: str
    start: Start
    warm: float = 2.0
    checks: bool = True


@dataclass(frozen=True)
class Work:
    """The requests for all contenders. *judge* says whether a response body is right."""

    key: str
    title: str
    contenders: Sequence[Contender]
    asks: Callable[[Ground, Running], list[Ask]]
    status: int
    judge: Callable[[object], bool]
    connections: int = 32


@dataclass
class Measured:
    """Medians over the rounds, of one contender."""

    name: str
    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    cpu_us_each: list[float] = field(default_factory=list)
    beside: dict[str, float] = field(default_factory=dict)
    """Other counts, by name."""


@dataclass
class Table:
    """The result of one piece of work; *left_out* maps a contender's name to the reason."""

    key: str
    title: str
    unit: str
    rows: list[Measured] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Measured | None:
        """The row of that contender; None if it was not measured."""
        return next((row for row in self.rows if row.name == name), None)


class Lineup:
    """Starts each target once, and keeps it running for all work."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._running: dict[Start, Running | NotAvailable] = {}
        self._warm: set[int] = set()

    def get(self, start: Start) -> Running:
        """The running target. Raises NotAvailable if it could not be started, now or earlier."""
        if start not in self._running:
            try:
                self._running[start] = start(self.ground)
            except NotAvailable as reason:
                self._running[start] = reason
        found = self._running[start]
        if isinstance(found, NotAvailable):
            raise found
        return found

    def warm_up(self, contender: Contender, running: Running) -> float:
        """Seconds of warm-up; fewer for a target that was measured before."""
        known = running.leader in self._warm
        self._warm.add(running.leader)
        return min(contender.warm, 2.0) if known else contender.warm


def send(port: int, ask: Ask) -> tuple[int, bytes]:
    """Status and body of one request with httpx."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(ask.method, ask.path, body=ask.body, headers=ask.headers())
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def fault(running: Running, ground: Ground, ask: Ask, work: Work, *, checks: bool) -> str | None:
    """What this target does wrong, or None. It must respond correctly, and refuse every invalid token."""
    status, body = send(running.port, ask)
    if status != work.status:
        return f"answered {status} instead of {work.status}: {body[:200]!r}"
    try:
        value = json.loads(body)
    except ValueError:
        return f"answered something that is not JSON: {body[:200]!r}"
    if not work.judge(value):
        return f"answered the wrong thing: {body[:200]!r}"
    if not checks:
        return None
    for what, token in bad_tokens(ground):
        status, _ = send(running.port, Ask(ask.method, ask.path, token, ask.body))
        if status != 401:
            return f"answered {status} instead of 401 to {what}"
    return None


def bad_tokens(ground: Ground) -> Iterator[tuple[str, str | None]]:
    """Invalid tokens, each with its name."""
    good = ground.token("alice")
    yield "no token", None
    yield "a bad signature", ground.token("alice", secret="x" * 48)
    yield "an expired token", ground.token("alice", expires_in=-3600)
    yield (
        "a changed payload",
        ".".join([good.split(".")[0], ground.token("mallory").split(".")[1], good.split(".")[2]]),
    )


def load(
    ground: Ground,
    port: int,
    asks: list[Ask],
    *,
    status: int,
    connections: int,
    seconds: float,
    on: Collection[int] = (),
) -> Outcome:
    """Run the load generator on its own core, or on these."""
    plan = Plan(port, [ask.wire() for ask in asks], status, connections, seconds)
    generator = ground.generator(on or cores()[1:])
    assert generator.stdin is not None
    assert generator.stdout is not None
    generator.stdin.write(json.dumps(asdict(plan)) + "\n")
    generator.stdin.flush()
    return Outcome(**json.loads(generator.stdout.readline()))


def compare(
    work: Work, lineup: Lineup, *, rounds: int, seconds: float, say: Callable[[str], None]
) -> Table:
    """Check every contender, warm it up, and run all *rounds* times in turn."""
    table = Table(work.key, work.title, "CPU µs per request")
    ready: list[tuple[Contender, Running, list[Ask]]] = []
    for contender in work.contenders:
        try:
            running = lineup.get(contender.start)
            asks = work.asks(lineup.ground, running)
            wrong = fault(running, lineup.ground, asks[0], work, checks=contender.checks)
        except (NotAvailable, OSError, http.client.HTTPException) as error:
            wrong = str(error)
        if wrong:
            table.left_out[contender.name] = wrong
            say(f"  {contender.name}: left out, {wrong}")
        else:
            ready.append((contender, running, asks))

    def run(running: Running, asks: list[Ask], seconds: float) -> Outcome:
        return load(
            lineup.ground,
            running.port,
            asks,
            status=work.status,
            connections=work.connections,
            seconds=seconds,
        )

    # In turn as well: whoever is warm and then waits for others to be, half a minute long, is cold again. Node's
    # first second after that costs three times as much as any later one.
    turns = {
        contender.name: math.ceil(lineup.warm_up(contender, running) / WARM_TURN)
        for contender, running, _ in ready
    }
    for left in range(max(turns.values(), default=0), 0, -1):
        for contender, running, asks in ready:
            if turns[contender.name] >= left:
                run(running, asks, min(contender.warm, WARM_TURN))
    samples: dict[str, list[tuple[float, Outcome]]] = {name: [] for name in turns}
    for _ in range(rounds):
        for contender, running, asks in ready:
            before = cpu_seconds(running.leader)
            outcome = run(running, asks, seconds)
            spent = cpu_seconds(running.leader) - before
            if outcome.wrong or not outcome.answers:
                table.left_out[contender.name] = (
                    f"{outcome.wrong} wrong answers of {outcome.answers}: {outcome.first_wrong[:200]}"
                )
            else:
                samples[contender.name].append((spent / outcome.answers * 1e6, outcome))
    for contender, running, _ in ready:
        if contender.name in table.left_out:
            say(f"  {contender.name}: left out, {table.left_out[contender.name]}")
            continue
        row = medians(contender.name, samples[contender.name], memory_mb(running.leader))
        table.rows.append(row)
        say(f"  {row.name}: {row.cpu_us:.0f} µs, {row.per_second:.0f}/s, p50 {row.p50_ms:.2f} ms")
    return table


def medians(name: str, samples: list[tuple[float, Outcome]], memory: float) -> Measured:
    """The median of each value over the rounds."""
    costs = [cost for cost, _ in samples]
    outcomes = [outcome for _, outcome in samples]
    return Measured(
        name=name,
        cpu_us=statistics.median(costs),
        per_second=statistics.median(one.answers / one.seconds for one in outcomes),
        p50_ms=statistics.median(one.p50_ms for one in outcomes),
        p99_ms=statistics.median(one.p99_ms for one in outcomes),
        memory_mb=memory,
        cpu_us_each=[round(cost, 1) for cost in costs],
    )
