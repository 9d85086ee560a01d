"""From the command to the first answer, and the memory of a program that has only just started."""

import http.client
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import targets
from .compare import Ask, Measured, Table, send
from .ground import ROOT, NotAvailable, open_ground
from .measure import memory_mb
from .targets import Start

OURS = "broker"
PEER = "Fastify"
EMBEDDED = "broker, embedded"
SOURCES = ("app", "sdk", "server", "kit", "build/peers")
_FIRST = {
    OURS: "/healthz",
    EMBEDDED: "/healthz",
}


def _once(start: Start, path: str, *, weigh: bool) -> tuple[float, float]:
    """Milliseconds to the first answer, and MB when everything is loaded, if that is asked for."""
    with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
        began = time.perf_counter()
        running = start(ground)
        while True:
            try:
                send(running.port, Ask("GET", path))
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
        took = time.perf_counter() - began
        if weigh:
            time.sleep(3.0)  # ours loads its sockets' library a second after the start
        return took * 1e3, memory_mb(running.leader)


def _byte_compile() -> None:
    """Compile what Python contenders import, as the image does: an environment may forbid them to write it."""
    folders = [sysconfig.get_path("purelib"), *(str(ROOT / name) for name in SOURCES)]
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", *folders]
    subprocess.run(command, check=False, capture_output=True)


def start_up(*, rounds: int, say: Callable[[str], None]) -> Table:
    """Every contender started afresh, *rounds* times in turn; the middle one counts, and the memory of the last."""
    _byte_compile()
    table = Table("start", "Start to first answer", "ms")
    contenders: dict[str, Start] = {
        "nginx (no token check)": targets.nginx,
        PEER: targets.fastify,
        "FastAPI + httpx, tutorial": targets.tutorial,
        OURS: targets.broker_remote,
        EMBEDDED: targets.broker_embedded,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, start in contenders.items():
            if name in table.left_out:
                continue
            try:
                path = _FIRST.get(name, "/chat/rooms/room-1/messages")
                found[name].append(_once(start, path, weigh=number == rounds - 1))
            except NotAvailable as reason:
                table.left_out[name] = str(reason)
    for name, samples in found.items():
        if samples:
            took, memory = statistics.median(took for took, _ in samples), samples[-1][1]
            table.rows.append(Measured(name, took, 0, 0, 0, memory))
            say(f"  {name}: {took:.0f} ms, {memory:.0f} MB")
    return table
