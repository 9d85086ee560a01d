"""A message to a room: CPU per delivery, at once and paced; and what an idle socket takes."""

import json
import resource
import secrets
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from . import targets
from .compare import Ask, Lineup, Measured, Table, send
from .ground import ROOT, Ground, NotAvailable, Running
from .measure import cores, cpu_seconds, memory_mb, on_core

CLIENTS = 200
OURS = "chat-server"
PEER = "Node socket.io"
ORDINARY = "chat-server, python-socketio's websockets"
PEERS = ((PEER, targets.node_socketio), (OURS, targets.chat_broker_server))
WEBSOCKETS = (
    (ORDINARY, targets.chat_server_without_own_websockets),
    (OURS, targets.chat_broker_server),
)


class Crowd:
    """The process of benchmarks.crowd, driven line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Carry out one command. Raises NotAvailable with what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(
            self._process.stdout.readline() or '{"failed": "it ended"}'
        )
        if "failed" in answer:
            raise NotAvailable(str(answer["failed"]))
        return answer


@contextmanager
def crowd() -> Iterator[Crowd]:
    """A crowd on the other core; its sockets close with the block."""
    command = on_core(cores()[1], [sys.executable, "-m", "benchmarks.crowd"])
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Crowd(process)
        finally:
            process.kill()


def _api(running: Running, method: str, path: str, body: object = None) -> Any:
    """One call of the Chat API with its key."""
    sent = None if body is None else json.dumps(body).encode()
    ask = Ask(method, f"/api/v1{path}", body=sent, api_key=running.facts["api_key"])
    status, answer = send(running.port, ask)
    if status >= 300:
        raise NotAvailable(f"{method} {path} answered {status}: {answer[:200]!r}")
    return json.loads(answer)


def our_users(running: Running, count: int) -> tuple[str, list[str]]:
    """A room, and tokens of *count* new users who are all in it."""
    name = secrets.token_hex(4)
    project = f"/projects/{_api(running, 'GET', '/project')['id']}"
    users = [
        _api(
            running,
            "POST",
            f"{project}/users",
            {"username": f"{name}-{number}", "external_user_id": f"{name}-{number}"},
        )["id"]
        for number in range(count)
    ]
    room = _api(running, "POST", f"{project}/rooms", {"name": "Crowd", "created_by": users[0]})[
        "id"
    ]
    tokens = []
    for user in users:
        _api(running, "POST", f"{project}/rooms/{room}/join", {"user_id": user})
        tokens.append(
            _api(running, "POST", f"{project}/users/{user}/token", {"expires_in": 3600})["token"]
        )
    return room, tokens


def _audience(ground: Ground, running: Running, count: int) -> tuple[str, list[str]]:
    if "api_key" in running.facts:
        return our_users(running, count)
    return "room-1", [ground.token(f"crowd{number}") for number in range(count)]


def _deliveries(running: Running, crowd: Crowd, room: str, messages: int, every: float) -> float:
    """CPU µs per delivery, over one run."""
    before = cpu_seconds(running.leader)
    heard: int = crowd.call("speak", messages=messages, every=every, room=room)["heard"]
    return (cpu_seconds(running.leader) - before) * 1e6 / heard


def fan_out(
    lineup: Lineup,
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    key: str = "fanout",
    contenders: Iterable[tuple[str, targets.Start]] = PEERS,
) -> list[Table]:
    """Two tables: all messages at once, and ten a second. Contenders run in turn, each warmed by two bursts."""
    title = f"A message to a room of {CLIENTS}"
    burst = Table(f"{key}-burst", f"{title}, at once", "CPU µs per delivery")
    paced = Table(f"{key}-paced", f"{title}, 10 a second", "CPU µs per delivery")
    works = ((burst, CLIENTS, 0.0), (paced, int(10 * max(seconds, 3.0)), 0.1))
    rooms: dict[str, tuple[Running, Crowd, str]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        for name, start in contenders:
            try:
                running = lineup.get(start)
                people = stack.enter_context(crowd())
                room, tokens = _audience(lineup.ground, running, CLIENTS)
                people.call("connect", port=running.port, tokens=tokens, room=room)
                for _ in range(2):
                    _deliveries(running, people, room, CLIENTS, 0.0)
                rooms[name] = running, people, room
            except NotAvailable as reason:
                _leave_out((burst, paced), name, reason, say)
        for _ in range(rounds):
            for table, messages, every in works:
                for name, (running, people, room) in list(rooms.items()):
                    try:
                        cost = _deliveries(running, people, room, messages, every)
                    except NotAvailable as reason:
                        del rooms[name]
                        _leave_out((burst, paced), name, reason, say)
                    else:
                        costs.setdefault((table.key, name), []).append(cost)
    for table, _, every in works:
        for name, (running, _, _) in rooms.items():
            median = statistics.median(costs[table.key, name])
            table.rows.append(Measured(name, median, 0, 0, 0, memory_mb(running.leader)))
            say(f"  {name}, {'paced' if every else 'burst'}: {median:.1f} µs per delivery")
    return [burst, paced]


def _leave_out(
    tables: tuple[Table, ...], name: str, reason: NotAvailable, say: Callable[[str], None]
) -> None:
    for table in tables:
        table.left_out[name] = str(reason)
    say(f"  {name}: left out, {reason}")


def idle_sockets(lineup: Lineup, count: int, *, say: Callable[[str], None]) -> Table:
    """Memory that each of *count* silent, authenticated sockets takes, five to a user."""
    table = Table("idle", f"{count} idle sockets", "KB per socket")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * count + 1000), hard))
    for name, start in PEERS:
        try:
            running = lineup.get(start)
            if "api_key" in running.facts:
                _, tokens = our_users(running, count // 5)
            else:
                tokens = [lineup.ground.token(f"idle{number}") for number in range(count // 5)]
            with crowd() as people:
                people.call("connect", port=running.port, tokens=tokens[:40], room=None)
                before = memory_mb(running.leader)
                people.call("connect", port=running.port, tokens=(tokens * 5)[:count], room=None)
                each = (memory_mb(running.leader) - before) / count * 1024
            table.rows.append(Measured(name, each, 0, 0, 0, memory_mb(running.leader)))
            say(f"  {name}: {each:.1f} KB per socket")
        except NotAvailable as reason:
            table.left_out[name] = str(reason)
            say(f"  {name}: left out, {reason}")
    return table
