"""`make bench`: the program and its peers at the same work, in turn, as CPU per request and as ratios.

The short form, which is the default, takes under five minutes; `--long` measures longer and adds ten thousand
idle sockets and the growth of the database. `--only read,store` picks tables by key:

- `read`, `write`, `latency`, `verify`: proxied, against nginx and the least that Python can do, and against peers
- `client`: our HTTP client to the Chat API beside aiohttp's
- `fast-path`, `websocket`: the broker without its fast path, or without the header cache; a message to a room over
  python-socketio's websockets. Only with `--long`, or when asked for
- `token`, `store`, `store-read`: the embedded Chat API; for a token also the remote one, and what the one call costs
- `workers`: two workers against one, on a Postgres and a Redis of its own
- `fanout`, `start`, `idle`, `growth`: a message to a room, a start, idle sockets, a database that has grown

At the end stands what this run says of each goal.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from . import growth, workers, works
from .compare import Lineup, Table, compare
from .fanout import OURS as CHAT_SERVER
from .fanout import WEBSOCKETS, fan_out, idle_sockets
from .goals import as_text as goals_as_text
from .goals import decide
from .ground import ROOT, open_ground
from .measure import Company, cores
from .report import as_chart, as_json, as_text, ratio
from .startup import start_up
from .targets import install_peers

OURS = {works.OURS, works.EMBEDDED, CHAT_SERVER, growth.SMALL_ONE, workers.ONE}


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def _pieces(arguments: argparse.Namespace, lineup: Lineup) -> dict[str, Callable[[], list[Table]]]:
    """Each key with the function that measures it, in the order of the report."""
    # Many short rounds: what else the machine does changes from one second to the next.
    rounds, seconds = (9, 2.0) if arguments.long else (6, 0.5)
    few, longer = (3, 6.0) if arguments.long else (3, 1.5)
    pieces: dict[str, Callable[[], list[Table]]] = {
        work.key: lambda work=work: [compare(work, lineup, rounds=rounds, seconds=seconds, say=say)]  # type: ignore[misc]
        for work in works.ALL
    }
    pieces["workers"] = lambda: workers.two_workers(rounds=4, seconds=2 * seconds, say=say)
    pieces["fanout"] = lambda: fan_out(lineup, rounds=few, seconds=longer, say=say)
    pieces["start"] = lambda: [start_up(rounds=few, say=say)]
    if arguments.long or arguments.only:
        for work in works.ASKED_FOR:
            pieces[work.key] = lambda work=work: [
                compare(work, lineup, rounds=rounds, seconds=seconds, say=say)
            ]  # type: ignore[misc]
        pieces["websocket"] = lambda: fan_out(
            lineup, rounds=few, seconds=longer, say=say, key="websocket", contenders=WEBSOCKETS
        )
        pieces["idle"] = lambda: [idle_sockets(lineup, arguments.sockets, say=say)]
        pieces["growth"] = lambda: growth.tables(arguments.users, arguments.messages, say=say)
    return pieces


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--long", action="store_true", help="longer runs, idle sockets, growth")
    parser.add_argument("--only", default="", help="keys of tables, with commas between")
    parser.add_argument("--sockets", type=int, default=10_000, help="how many idle sockets")
    parser.add_argument("--users", type=int, default=1_000_000, help="how many users growth makes")
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="messages in growth's big room"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--chart", type=Path, default=ROOT / "build" / "bench.svg", metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write the JSON and the chart."""
    arguments = _arguments()
    began, company = time.monotonic(), Company()
    missing = install_peers()
    if missing:
        say(missing)
    target, rest = cores()
    if target == rest:
        say(
            "There is one core for everything: throughput and latency mean little, CPU per request still does."
        )
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
        pieces = _pieces(arguments, Lineup(ground))
        wanted = [key for key in arguments.only.split(",") if key]
        unknown = sorted(set(wanted) - set(pieces))
        if unknown:
            raise SystemExit(f"no such table: {', '.join(unknown)}; there are {', '.join(pieces)}")
        for key in wanted or pieces:
            say(f"\n{key}")
            tables += pieces[key]()
    for table in tables:
        say(as_text(table, OURS))
    ratios = _ratios(tables)
    verdicts = decide(tables)
    facts = {
        "ratios": ratios,
        "goals": [asdict(verdict) for verdict in verdicts],
        "seconds": round(time.monotonic() - began),
        "others": round(company.share(), 2),
    }
    say("\nTimes the CPU of ours (above 1, ours is ahead):")
    for name, value in ratios.items():
        say(f"  {name}: {value}")
    say("\nWhere we want to be:")
    say(goals_as_text(verdicts))
    for path, text in (
        (arguments.json, json.dumps(as_json(tables, facts), indent=1) + "\n"),
        (arguments.chart, as_chart(tables, OURS)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    say(f"\nOther programs had {facts['others']:.0%} of the machine meanwhile.")
    say(f"{facts['seconds']} s; {arguments.json}, {arguments.chart}")


def _ratios(tables: list[Table]) -> dict[str, float]:
    """Every peer against ours, by table and name."""
    found: dict[str, float] = {}
    for table in tables:
        for ours in (row.name for row in table.rows if row.name in OURS):
            for row in table.rows:
                value = ratio(table, ours, row.name)
                if value is not None and row.name not in OURS:
                    found[f"{table.key}: {row.name} / {ours}"] = round(value, 3)
    return found


if __name__ == "__main__":
    main()
