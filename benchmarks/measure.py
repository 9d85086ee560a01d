"""What a process costs, read from /proc: CPU seconds and memory of a whole session of processes; and pinning."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(process: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third on (the second may hold spaces)."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def session(leader: int) -> list[int]:
    """Every process of the session that *leader* opened."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if int(_stat(process)[3]) == leader:
                    found.append(int(process.name))
            except OSError:  # it has just ended
                continue
    return found


def cpu_seconds(leader: int) -> float:
    """CPU time used so far by all threads of the session, user and system."""
    total = 0
    for pid in session(leader):
        try:
            fields = _stat(Path(f"/proc/{pid}"))
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def memory_mb(leader: int) -> float:
    """Memory of the session in MB: the proportional set, so that shared pages count once."""
    total = 0
    for pid in session(leader):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cores() -> tuple[int, int]:
    """The core of the target, and the core of everything else; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


def on_core(core: int, command: list[str]) -> list[str]:
    """*command*, held to one core together with all it starts."""
    return ["taskset", "-c", str(core), *command]
