"""Keeping what a process knows from other processes of the same user, and room for its connections."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path


def scrub_environment(secret_values: Sequence[str]) -> None:
    """Overwrite *secret_values* where the kernel put the environment: /proc/PID/environ shows that memory.

    Taking a variable out of `os.environ` leaves its text there. To be called before `protect_process`: afterwards the
    kernel does not say where the environment is.
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
    """No core dump, nothing readable by other processes of the same user, no file readable by others."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        pr_set_dumpable = 4
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


def end_with_parent(parent: int | None) -> None:
    """Have this worker stop when the process that started it is gone, however that went.

    Otherwise it would hold the port, and nobody could start again.
    """
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before we could ask
        os._exit(1)


def raise_file_limit() -> None:
    """Open as many files as the operator allows at all: the soft limit is often a tenth of that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
