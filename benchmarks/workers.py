"""Two workers against one, on Postgres and Redis: how much more can two do?

Requests per second would not say: the load, the stub, Postgres and Redis need the same two cores. So it is said in
CPU of the broker per request, and two workers can do twice what one costs by what two cost.

For that to be fair, a worker has the same surroundings in both cases: one shares one core with everything else, load
included; two share two cores with it, under twice the connections. Two on one core would run in each other's cold
caches; one on two cores would have a core to itself, where two have to share theirs. Both were tried, and take up to
a fifth off what two can do. No worker is held to a core of its own, since nobody who sets WORKERS=2 does that.

What is left errs against two all the same. Half of what they exchange with others crosses from core to core. And other
programs on the machine meet one worker on one core, two on both, so that two serve less between one look at the bans
and the next: these tables are good for something only where others had little of the machine.

The share of the busier worker, by CPU and by connections, says whether the kernel gave both something to do.
"""

import http.client
import json
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import works
from .compare import Ask, Measured, Table, Work, fault, load, medians, send
from .ground import Ground, NotAvailable, Running, open_ground
from .load import Outcome
from .measure import connections, cores, cpu_seconds, memory_mb, move, own_cpu_seconds, processes
from .stores import Postgres, Redis, postgres_server, redis_server
from .targets import broker_on

ONE, TWO = "one worker", "two workers"
READ, TOKEN, WRITE = "workers-read", "workers-token", "workers-write"


def write(ground: Ground, running: Running) -> list[Ask]:
    """One message each, into a room of one's own: the messages of one room wait for each other's commit."""
    if "rooms" not in running.facts:
        body = json.dumps({"name": "Mine"}).encode()
        made = [
            send(running.port, Ask("POST", "/chat/rooms", ground.token(user), body))
            for user in works.USERS
        ]
        running.facts["rooms"] = json.dumps([json.loads(answer)["id"] for _, answer in made])
    return [
        Ask("POST", f"/chat/rooms/{room}/messages", ground.token(user), works.SAY)
        for user, room in zip(works.USERS, json.loads(running.facts["rooms"]), strict=True)
    ]


_WORKS = {
    READ: ("Proxied GET of messages", works.READ),
    TOKEN: ("GET /chat/token, embedded on Postgres", works.TOKEN),
    WRITE: ("A message written to Postgres, embedded", replace(works.STORE, asks=write)),
}


@dataclass
class Side:
    """A broker with a number of workers, and its measurements so far."""

    name: str
    count: int
    running: Running
    samples: list[tuple[float, Outcome]] = field(default_factory=list)
    beside: list[dict[str, float]] = field(default_factory=list)

    def serving(self) -> list[int]:
        """The processes that serve requests: the workers, or the only process."""
        spawned = [
            pid
            for pid in processes(self.running.leader)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return spawned or [self.running.leader]

    def row(self) -> Measured:
        """The medians over all runs."""
        row = medians(self.name, self.samples, memory_mb(self.running.leader))
        row.beside = {
            name: round(statistics.median(one[name] for one in self.beside), 2)
            for name in self.beside[0]
        }
        return row


@dataclass(frozen=True)
class Place:
    """Postgres and Redis of the brokers, on as many cores as the brokers have."""

    ground: Ground
    postgres: Postgres
    redis: Redis

    def run(self, side: Side, work: Work, seconds: float) -> None:
        """Send requests to one side for a time, and note its cost. Raises NotAvailable for a wrong response."""
        running, among, serving = side.running, cores()[: side.count], side.serving()
        for leader in (*self._leaders(side).values(), self.ground.stub):
            move(leader, among)
        held: list[int] = []

        def look() -> None:
            try:
                held.extend(connections(pid, running.port) for pid in serving)
            except PermissionError:  # a worker hides what it holds open from all but root
                held.clear()

        asks = work.asks(self.ground, running)
        half_way = threading.Timer(seconds / 2, look)
        half_way.start()
        before, each = self._spent(side), [own_cpu_seconds(pid) for pid in serving]
        outcome = load(
            self.ground,
            running.port,
            asks,
            status=work.status,
            connections=work.connections * side.count,
            seconds=seconds,
            on=among,
        )
        after = self._spent(side)
        each = [own_cpu_seconds(pid) - start for pid, start in zip(serving, each, strict=True)]
        half_way.join()
        if outcome.wrong or not outcome.answers:
            raise NotAvailable(
                f"{outcome.wrong} wrong answers of {outcome.answers}: {outcome.first_wrong[:200]}"
            )
        cost = {name: (after[name] - before[name]) / outcome.answers * 1e6 for name in after}
        side.samples.append((cost.pop("broker"), outcome))
        shares = {"busier worker, of CPU": busiest(each), "of connections": busiest(held)}
        side.beside.append({**cost, **shares})

    def _leaders(self, side: Side) -> dict[str, int]:
        return {
            "broker": side.running.leader,
            "Postgres": self.postgres.leader,
            "Redis": self.redis.process.pid,
        }

    def _spent(self, side: Side) -> dict[str, float]:
        return {name: cpu_seconds(leader) for name, leader in self._leaders(side).items()}


def busiest(parts: Sequence[float]) -> float:
    """The largest value's share of the sum; 0 without values."""
    return max(parts) / sum(parts) if sum(parts) else 0.0


@contextmanager
def _place() -> Iterator[Place]:
    if len(set(cores())) == 1:
        raise NotAvailable("two workers are compared on two cores, and there is one")
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_server() as postgres,
        redis_server() as redis,
        open_ground(Path(folder)) as ground,
    ):
        yield Place(ground, postgres, redis)


def two_workers(
    *, rounds: int, seconds: float, warm: float = 1.5, say: Callable[[str], None]
) -> list[Table]:
    """A table for each piece of work, with a row for one worker and one for two."""
    tables = {
        key: Table(key, f"{title}: two workers against one", "CPU µs per request")
        for key, (title, _) in _WORKS.items()
    }
    try:
        with _place() as place:
            brokers = {
                (count, remote): broker_on(
                    place.postgres.database, place.redis.url, workers=count, remote=remote
                )(place.ground)
                for remote in (True, False)
                for count in (1, 2)
            }
            for key, (_, work) in _WORKS.items():
                sides = [
                    Side(name, count, brokers[count, key == READ])
                    for name, count in ((ONE, 1), (TWO, 2))
                ]
                for side in sides:
                    _judge(side, work, place)
                    place.run(side, work, warm)
                    side.samples.clear()
                    side.beside.clear()
                for _ in range(rounds):
                    for side in sides:
                        place.run(side, work, seconds)
                tables[key].rows = [side.row() for side in sides]
                for row in tables[key].rows:
                    say(f"  {key}, {row.name}: {row.cpu_us:.0f} µs")
    except NotAvailable as reason:
        for table in tables.values():
            if not table.rows:
                table.left_out["broker"] = str(reason)
        say(f"  left out, {reason}")
    return list(tables.values())


def _judge(side: Side, work: Work, place: Place) -> None:
    """Raises NotAvailable if a response is wrong, or an invalid token is accepted."""
    try:
        asks = work.asks(place.ground, side.running)
        wrong = fault(side.running, place.ground, asks[0], work, checks=True)
    except (OSError, http.client.HTTPException) as error:
        wrong = str(error)
    if wrong:
        raise NotAvailable(f"{side.name}: {wrong}")
