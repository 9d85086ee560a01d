"""CPU time and memory of a program and its descendants, and pinning to cores."""

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(process: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third on (the second may hold spaces)."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def processes(leader: int) -> list[int]:
    """*leader*, the session it opened, and all they have started: Postgres gives each of its own a session."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                fields = _stat(process)
            except OSError:  # it has just ended
                continue
            pid = int(process.name)
            parents[pid] = int(fields[1])
            if leader in {pid, int(fields[3])}:
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def cpu_seconds(leader: int) -> float:
    """CPU time used so far by all threads of the program, user and system."""
    return sum(own_cpu_seconds(pid) for pid in processes(leader))


def own_cpu_seconds(pid: int) -> float:
    """CPU time used so far by one process; 0 once it has ended."""
    # What clock_getcpuclockid(3) would answer: to the nanosecond, where /proc counts in hundredths of a second.
    clock = (~pid << 3) | 2
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def _busy_seconds() -> float:
    """CPU time of all cores so far that was not idle, nor taken by another machine on the same host."""
    user, nice, system, _idle, _wait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICK


@dataclass
class Company:
    """The share of the machine's CPU time that other programs took since this object was created."""

    began: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=_busy_seconds)
    ours: float = field(default_factory=lambda: sum(os.times()[:4]))

    def share(self) -> float:
        """Between 0 and 1. What this process has started counts as ours once it has ended."""
        spent = _busy_seconds() - self.busy - (sum(os.times()[:4]) - self.ours)
        cores = os.cpu_count() or 1
        return max(0.0, spent / (time.monotonic() - self.began) / cores)


def memory_mb(leader: int) -> float:
    """Memory of the program in MB: the proportional set, so that shared pages count once."""
    total = 0
    for pid in processes(leader):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def connections(pid: int, port: int) -> int:
    """The number of open connections of the process to *port*. Raises PermissionError if /proc hides them."""
    local = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {row[9] for row in rows if row[1].endswith(local) and row[3] == "01"}
    held = 0
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held += str(handle.readlink()).removeprefix("socket:[").rstrip("]") in established
    return held


def cores() -> tuple[int, int]:
    """The core of the target, and the core of everything else; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


def on_core(core: int, command: list[str]) -> list[str]:
    """*command*, held to one core together with all it starts."""
    return on_cores([core], command)


def on_cores(among: Collection[int], command: list[str]) -> list[str]:
    """*command*, held to *cores* together with all it starts."""
    return ["taskset", "-c", ",".join(map(str, among)), *command]


def move(leader: int, among: Collection[int]) -> None:
    """Hold a program that runs already, every thread of it, to these cores."""
    for pid in processes(leader):
        with contextlib.suppress(OSError):  # it has just ended
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), among)
