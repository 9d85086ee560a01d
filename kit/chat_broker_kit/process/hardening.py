"""Hides a process's secrets from other processes of the same user, and raises its file limit."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path


def scrub_environment(secret_values: Sequence[str]) -> None:
    """Overwrite *secret_values* in the memory that /proc/PID/environ shows.

    Removing a variable from `os.environ` leaves its text there. Call it before `protect_process`: afterwards the kernel
    hides the address of that memory.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])  # env_start, env_end, see proc(5)
        if not 0 < start < end:
            return
        text = ctypes.string_at(start, end - start)
    except (OSError, ValueError, IndexError):
        return
    for value in secret_values:
        raw = value.encode("utf-8", "surrogateescape")
        at = text.find(raw) if raw else -1
        while at >= 0:
            ctypes.memset(start + at, ord("*"), len(raw))
            at = text.find(raw, at + len(raw))


def protect_process() -> None:
    """Disable core dumps and reads by other processes of the same user. New files are readable by their owner only."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        pr_set_dumpable = 4
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


def end_with_parent(parent: int | None) -> None:
    """Stop this worker when its *parent* (a process id) has ended. It would else hold the port."""
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent had ended before the call
        os._exit(1)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one, which is often ten times as high."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
