"""Start the project's own programs as an operator would: real processes, real ports."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START_DEADLINE = 40.0


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, *, within: float = 10.0) -> None:
    """Return as soon as something accepts connections on *port*; TimeoutError if nothing does."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5):
                return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment a program of ours gets: enough to run, and *extra*; nothing of the developer's."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


@dataclass
class Program:
    """One running program: where it answers, what it wrote, and how to end it."""

    url: str
    port: int
    data_dir: Path
    process: asyncio.subprocess.Process
    output: Path

    def log(self) -> str:
        """All it has written so far, standard output and standard error."""
        return self.output.read_text(errors="replace")

    async def stop(self, *, within: float = 35.0) -> int:
        """SIGTERM, as a supervisor would; answers the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within)

    async def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def _until_healthy(program: Program) -> None:
    deadline = time.monotonic() + START_DEADLINE
    async with httpx.AsyncClient(trust_env=False) as http:
        while time.monotonic() < deadline:
            if program.process.returncode is not None:
                break
            try:
                if (await http.get(f"{program.url}/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError(f"{program.url} did not come up:\n{program.log()}")


@asynccontextmanager
async def running(
    command: list[str], environment: Mapping[str, str], *, port: int, data_dir: Path
) -> AsyncIterator[Program]:
    """Run *command* until the block ends; it is up when /healthz says 200."""
    output = Path(tempfile.mkdtemp()) / "output.log"
    with output.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=sink,
            stderr=sink,
            env=clean_environment(environment),
            cwd=data_dir,
        )
    program = Program(f"http://127.0.0.1:{port}", port, data_dir, process, output)
    try:
        await _until_healthy(program)
        yield program
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def running_broker(
    data_dir: Path | None = None, *, under: Sequence[str] = (), **settings: str
) -> AsyncIterator[Program]:
    """`chat-broker serve` in development mode on a free port; *settings* are environment variables.

    *under*: a command that runs the one which follows it.
    """
    directory = data_dir or Path(tempfile.mkdtemp())
    port = int(settings.get("PORT", "0")) or free_port()
    environment = {
        "ENVIRONMENT": "development",
        "AUTH": "dev",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(directory),
        **settings,
    }
    environment["PORT"] = str(port)
    command = [*under, str(BIN / "chat-broker"), "serve"]
    async with running(command, environment, port=port, data_dir=directory) as program:
        yield program


@asynccontextmanager
async def running_server(
    data_dir: Path | None = None, *, under: Sequence[str] = (), **settings: str
) -> AsyncIterator[Program]:
    """`chat-server serve` on a free port; *settings* and *under* as above."""
    directory = data_dir or Path(tempfile.mkdtemp())
    port = int(settings.get("PORT", "0")) or free_port()
    environment = {"HOST": "127.0.0.1", "DATA_DIR": str(directory), **settings, "PORT": str(port)}
    command = [*under, str(BIN / "chat-server"), "serve"]
    async with running(command, environment, port=port, data_dir=directory) as program:
        yield program


async def run_command(
    *arguments: str, environment: Mapping[str, str], stdin: bytes | None = None
) -> tuple[int, str, str]:
    """Run one of our commands to its end: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / arguments[0]),
        *arguments[1:],
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(environment),
    )
    out, err = await process.communicate(stdin)
    return process.returncode or 0, out.decode(), err.decode()
