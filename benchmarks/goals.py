"""The goals of the benchmarks, and which of them a run meets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from . import fanout, growth, startup, workers, works
from .compare import Measured, Table
from .report import ratio

Tables = Mapping[str, Table]


@dataclass(frozen=True)
class Goal:
    """One goal: the bound that must hold *at least*, and the *aim*. A cost is below its bounds, a ratio above."""

    name: str
    unit: str
    at_least: float
    aim: float | None
    measured: Callable[[Tables], float | None]
    cost: bool = False

    def holds(self, value: float, bound: float) -> bool:
        """Whether *value* is at least as good as *bound*."""
        return value <= bound if self.cost else value >= bound


@dataclass(frozen=True)
class Verdict:
    """The result of one goal: `aim reached`, `met` or `missed`."""

    name: str
    unit: str
    measured: float
    at_least: float
    aim: float | None
    verdict: str


def decide(tables: Iterable[Table]) -> list[Verdict]:
    """The results of all goals that *tables* have numbers for, in the order of the goals."""
    by_key = {table.key: table for table in tables}
    found = []
    for goal in GOALS:
        value = goal.measured(by_key)
        if value is None:
            continue
        value = round(value, 3)  # what is printed is what is judged
        if goal.aim is not None and goal.holds(value, goal.aim):
            verdict = "aim reached"
        else:
            verdict = "met" if goal.holds(value, goal.at_least) else "missed"
        found.append(Verdict(goal.name, goal.unit, value, goal.at_least, goal.aim, verdict))
    return found


def as_text(verdicts: list[Verdict]) -> str:
    """A line for each."""
    lines = [f"  {'':58}{'measured':>10}{'at least':>10}{'aim':>8}"]
    for one in verdicts:
        aim = "" if one.aim is None else f"{one.aim:g}"
        lines.append(
            f"  {f'{one.name}, {one.unit}':58}{one.measured:10.3f}{one.at_least:10g}{aim:>8}  {one.verdict}"
        )
    return "\n".join(lines)


def _times(key: str, ours: str, other: str) -> Callable[[Tables], float | None]:
    """The cost of *other* divided by that of *ours*."""

    def measured(tables: Tables) -> float | None:
        return ratio(tables[key], ours, other) if key in tables else None

    return measured


def _of(
    key: str, name: str, value: Callable[[Measured], float]
) -> Callable[[Tables], float | None]:
    """One value of one row."""

    def measured(tables: Tables) -> float | None:
        row = tables[key].row(name) if key in tables else None
        return value(row) if row else None

    return measured


def _added_latency(tables: Tables) -> float | None:
    mine, limit = (
        _of("latency", name, lambda row: row.p50_ms)(tables) for name in (works.OURS, works.LIMIT)
    )
    return None if mine is None or limit is None else mine - limit


def _above_one_call(tables: Tables) -> float | None:
    """The cost of a token without that of one upstream request in a program that does nothing else."""
    mine, call, nothing = (
        _of("token", name, lambda row: row.cpu_us)(tables)
        for name in (works.OURS, works.ONE_CALL, works.NO_CALL)
    )
    return None if mine is None or call is None or nothing is None else mine - (call - nothing)


def _grown(*calls: str) -> Callable[[Tables], float | None]:
    """The largest ratio of a request's cost on the big database to that on the small one."""

    def measured(tables: Tables) -> float | None:
        found = [
            _times(f"growth, {call}", growth.SMALL_ONE, growth.BIG_ONE)(tables) for call in calls
        ]
        known = [one for one in found if one is not None]
        return max(known) if len(known) == len(calls) else None

    return measured


def _capacity(key: str) -> Callable[[Tables], float | None]:
    """The requests a second of two workers divided by those of one."""

    def measured(tables: Tables) -> float | None:
        one, two = (
            _of(key, name, lambda row: row.cpu_us)(tables) for name in (workers.ONE, workers.TWO)
        )
        return 2 * one / two if one and two else None

    return measured


_FASTIFY, _NGINX, _STORE = "× Fastify", "of nginx", "× Fastify + better-sqlite3"
GOALS = (
    Goal("proxied GET", _FASTIFY, 2, 4, _times("read", works.OURS, works.PEER)),
    Goal("proxied GET", _NGINX, 0.20, 0.50, _times("read", works.OURS, works.LIMIT)),
    Goal("proxied GET", "× the tutorial", 25, None, _times("read", works.OURS, works.TUTORIAL)),
    Goal("proxied POST", _FASTIFY, 2, 4, _times("write", works.OURS, works.PEER)),
    Goal("proxied POST", _NGINX, 0.15, 0.35, _times("write", works.OURS, works.LIMIT)),
    Goal(
        "added latency over nginx, one connection, p50", "ms", 0.15, 0.05, _added_latency, cost=True
    ),
    Goal(
        "a fresh token, embedded", _STORE, 1, 1.5, _times("token", works.EMBEDDED, works.STORE_PEER)
    ),
    Goal("a fresh token, remote, above the one call", "µs", 150, 80, _above_one_call, cost=True),
    Goal(
        "to a room of 200, at once",
        "× Node socket.io",
        1,
        1.4,
        _times("fanout-burst", fanout.OURS, fanout.PEER),
    ),
    Goal(
        "to a room of 200, paced",
        "× Node socket.io",
        1,
        2,
        _times("fanout-paced", fanout.OURS, fanout.PEER),
    ),
    Goal(
        "message written, 32 writers",
        _STORE,
        1,
        3,
        _times("store", works.EMBEDDED, works.STORE_PEER),
    ),
    Goal(
        "messages: page 1, cursor",
        "big / small",
        1.2,
        1.2,
        _grown("messages, page 1", "messages, cursor in the middle"),
        cost=True,
    ),
    Goal(
        "mint, list rooms, verify",
        "big / small",
        1.2,
        1.2,
        _grown("mint", "rooms of somebody in one", "rooms of somebody in 10 → 1,000", "verify"),
        cost=True,
    ),
    Goal(
        "start to first answer, remote",
        "of Fastify",
        2,
        1.3,
        _times("start", startup.PEER, startup.OURS),
        cost=True,
    ),
    Goal(
        "start to first answer, embedded",
        "of Fastify",
        2,
        1.3,
        _times("start", startup.PEER, startup.EMBEDDED),
        cost=True,
    ),
    Goal(
        "memory idle, embedded, one worker",
        "MB",
        110,
        80,
        _of("start", startup.EMBEDDED, lambda row: row.memory_mb),
        cost=True,
    ),
    Goal(
        "idle sockets",
        "KB each",
        60,
        25,
        _of("idle", fanout.OURS, lambda row: row.cpu_us),
        cost=True,
    ),
    Goal("two workers: proxied GET", "× one", 1.8, 1.95, _capacity(workers.READ)),
    Goal("two workers: a fresh token", "× one", 1.8, 1.95, _capacity(workers.TOKEN)),
    Goal("two workers: message written", "× one", 1.8, 1.95, _capacity(workers.WRITE)),
)
