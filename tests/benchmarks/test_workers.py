"""Two workers are measured by what each process costs, and both have something to do."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import workers
from benchmarks.measure import connections, cpu_seconds, processes


@contextmanager
def program(source: str, **options: bool) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_what_a_program_has_started_belongs_to_it_in_whatever_session() -> None:
    """Postgres gives each of its processes a session of its own."""
    busy = "import time; began = time.process_time()\nwhile time.process_time() < began + 0.1: pass"
    source = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {busy!r} + '\\nprint(1, flush=True); input()'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    with program(source, start_new_session=True) as parent:
        child = int(line_of(parent))
        try:
            assert processes(parent.pid) == [parent.pid, child]
            assert cpu_seconds(parent.pid) >= 0.1
        finally:
            os.kill(child, 9)


def test_open_connections_are_counted_by_who_holds_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        held = [listening.accept()[0] for _ in clients]
        assert connections(os.getpid(), port) == 3
        for one in [*clients, *held]:
            one.close()
        assert connections(os.getpid(), port) == 0


@pytest.mark.parametrize(("parts", "share"), [([], 0.0), ([0, 0], 0.0), ([5], 1.0), ([1, 3], 0.75)])
def test_the_share_of_the_busiest(parts: list[float], share: float) -> None:
    assert workers.busiest(parts) == share


@pytest.mark.services("postgres", "redis")
def test_two_workers_are_measured_against_one() -> None:
    said: list[str] = []
    tables = workers.two_workers(rounds=1, seconds=0.3, warm=0.3, say=said.append)
    assert [table.key for table in tables] == [workers.READ, workers.TOKEN, workers.WRITE]
    for table in tables:
        assert table.left_out == {}, said
        one, two = table.rows
        assert (one.name, two.name) == (workers.ONE, workers.TWO)
        assert min(one.cpu_us, two.cpu_us) > 0
        assert one.beside["busier worker, of CPU"] == 1.0
        assert 0.5 <= two.beside["busier worker, of CPU"] < 1.0
