"""What all targets share: a scratch folder, the stub upstream, secrets, tokens, and started programs."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .measure import cores, on_core, on_cores

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
START_DEADLINE = 40.0
ISSUER = "https://app.example.com"
AUDIENCE = "chat-broker"


class NotAvailable(Exception):  # noqa: N818 - it is a finding, not a failure
    """A target cannot be measured here. The message says why."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no program listens on now; another may take it before its use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def hs256(claims: Mapping[str, object], secret: str) -> str:
    """A JWT, as the app's own backend would sign it."""
    head = _part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = f"{head}.{_part(json.dumps(claims).encode())}"
    return f"{signed}.{_part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


@dataclass
class Running:
    """One started program: its port, and the id of the session all its processes are in."""

    name: str
    port: int
    leader: int
    log: Path
    started_in: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)


@dataclass
class Ground:
    """What the targets share, for one benchmark run."""

    folder: Path
    api_key: str = field(default_factory=lambda: f"ck_{secrets.token_urlsafe(32)}")
    app_secret: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    stack: ExitStack = field(default_factory=ExitStack)
    upstream: str = ""
    stub: int = 0
    """Leader of the upstream's session."""
    _generators: "dict[tuple[int, ...], subprocess.Popen[str]]" = field(default_factory=dict)

    def token(self, sub: str, *, expires_in: int = 3600, secret: str | None = None) -> str:
        """The app's token for *sub*."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "preferred_username": sub,
            "name": sub.title(),
            "iat": now - 60,
            "exp": now + expires_in,
        }
        return hs256(claims, secret or self.app_secret)

    def generator(self, among: Collection[int]) -> "subprocess.Popen[str]":
        """The load generator on these cores, started at its first use."""
        key = tuple(among)
        if key not in self._generators:
            self._generators[key] = self.stack.enter_context(
                subprocess.Popen(
                    on_cores(key, [sys.executable, "-m", "benchmarks.load"]),
                    cwd=ROOT,
                    stdin=subprocess.PIPE,  # it ends when this is closed
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        return self._generators[key]

    def peer_environment(self) -> dict[str, str]:
        """The environment of the peers' programs."""
        return {
            "UPSTREAM": self.upstream,
            "API_KEY": self.api_key,
            "APP_SECRET": self.app_secret,
            "ISSUER": ISSUER,
            "AUDIENCE": AUDIENCE,
            "NODE_ENV": "production",
        }

    def start(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        *,
        port: int,
        core: int | None = None,
    ) -> Running:
        """Start a program on the target's core (or *core*) until the run ends; it is up when it accepts."""
        return self.stack.enter_context(
            started(name, command, environment, port=port, core=core, folder=self.folder)
        )


@contextmanager
def started(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    *,
    port: int,
    folder: Path,
    core: int | None = None,
) -> Iterator[Running]:
    """One program, pinned, in a session of its own; its whole session is ended with the block."""
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}-{port}.log"
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    began = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            on_core(cores()[0] if core is None else core, command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**kept, **environment, "PORT": str(port)},
            cwd=folder,
            start_new_session=True,
        )
    running = Running(name, port, process.pid, log)
    try:
        _wait_until_it_accepts(process, running)
        running.started_in = time.perf_counter() - began
        yield running
    finally:
        _end(process)


def _wait_until_it_accepts(process: subprocess.Popen[bytes], running: Running) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", running.port), timeout=0.5):
                return
        except OSError:
            time.sleep(0.005)
    last = running.log.read_text(errors="replace").strip().splitlines()[-5:]
    raise NotAvailable("it did not start: " + " | ".join(last))


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the session we opened, SIGKILL to what is left of it."""
    for number, timeout in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return


@contextmanager
def open_ground(folder: Path) -> Iterator[Ground]:
    """A ground with its stub upstream running; everything started on it ends with the block."""
    ground = Ground(folder)
    with ground.stack:
        port = free_port()
        environment = {"API_KEY": ground.api_key, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "benchmarks.stub"]
        ground.stub = ground.start("stub", command, environment, port=port, core=cores()[1]).leader
        ground.upstream = f"http://127.0.0.1:{port}"
        yield ground
