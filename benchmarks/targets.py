"""How to start each target. A target that cannot run here raises NotAvailable with the reason."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .ground import AUDIENCE, ISSUER, PEERS, ROOT, Ground, NotAvailable, Running, free_port

Start = Callable[[Ground], Running]
PYTHON_PEERS = ROOT / "build" / "peers"
_NODE_INSTALLED = PEERS / "node_modules" / ".package-lock.json"


def outdated() -> bool:
    """Has the lock file changed since its packages were installed?"""
    if not _NODE_INSTALLED.exists():
        return True
    return (PEERS / "package-lock.json").stat().st_mtime > _NODE_INSTALLED.stat().st_mtime


def install_peers() -> str | None:
    """Install what the peers need, unless it is installed. The reason if that fails, else None."""
    missing = []
    if not shutil.which("node") or not shutil.which("npm"):
        missing.append("Node.js peers: no node and npm on this machine")
    elif outdated():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=PEERS,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            missing.append(f"Node.js peers: npm ci failed: {done.stderr.strip()[-300:]}")
        else:
            _NODE_INSTALLED.touch()
    if not (PYTHON_PEERS / "jwt").is_dir():
        command = [
            str(Path(sys.executable).parent / "uv"),
            "pip",
            "install",
            "--quiet",
            "PyJWT>=2.10",
        ]
        target = ["--python", sys.executable, "--no-deps", "--target", str(PYTHON_PEERS)]
        try:
            done = subprocess.run([*command, *target], capture_output=True, text=True, check=False)
            failed = done.stderr.strip()[-300:] if done.returncode else ""
        except OSError as error:
            failed = str(error)
        if failed:
            missing.append(f"tutorial broker: PyJWT could not be installed: {failed}")
    return "; ".join(missing) or None


def _node(script: str, **extra: str) -> Start:
    def start(ground: Ground) -> Running:
        if not shutil.which("node"):
            raise NotAvailable("no node on this machine")
        if not (PEERS / "node_modules").is_dir():
            raise NotAvailable("its npm packages are not installed")
        if (
            extra.get("MODE") == "store"
            and not (PEERS / "node_modules/better-sqlite3/build").is_dir()
        ):
            raise NotAvailable(
                "better-sqlite3 is not installed (it needs a prebuilt binary or a compiler)"
            )
        port = free_port()
        database = ground.folder / f"peer-{port}.db"
        environment = {**ground.peer_environment(), **extra, "DATABASE": str(database)}
        return ground.start(script, ["node", str(PEERS / script)], environment, port=port)

    return start


fastify = _node("fastify.mjs", MODE="proxy")
fastify_without_cache = _node("fastify.mjs", MODE="proxy", CACHE="off")
fastify_watched = _node("fastify.mjs", MODE="proxy", WATCHED="on")
fastify_store = _node("fastify.mjs", MODE="store")
express = _node("express.mjs")
node_ceiling = _node("ceiling.mjs")
node_socketio = _node("socketio.mjs")


def nginx(ground: Ground) -> Running:
    """The limit: adds the key, checks nothing."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise NotAvailable("no nginx on this machine")
    port = free_port()
    text = (PEERS / "nginx.conf").read_text()
    values = {
        "@USER@": "user root;" if os.geteuid() == 0 else "",
        "@DIR@": str(ground.folder),
        "@UPSTREAM@": ground.upstream.rpartition(":")[2],
        "@PORT@": str(port),
        "@KEY@": ground.api_key,
    }
    for mark, value in values.items():
        text = text.replace(mark, value)
    config = ground.folder / f"nginx-{port}.conf"
    config.write_text(text)
    return ground.start(
        "nginx", [program, "-c", str(config), "-p", str(ground.folder)], {}, port=port
    )


def tutorial(ground: Ground) -> Running:
    """FastAPI, httpx and PyJWT, as a tutorial puts them together."""
    if not (PYTHON_PEERS / "jwt").is_dir():
        raise NotAvailable("PyJWT is not installed")
    environment = {**ground.peer_environment(), "PYTHONPATH": str(PYTHON_PEERS)}
    return ground.start(
        "tutorial", [sys.executable, str(PEERS / "tutorial.py")], environment, port=free_port()
    )


def _floor(mode: str) -> Start:
    def start(ground: Ground) -> Running:
        environment = {**ground.peer_environment(), "MODE": mode}
        command = [sys.executable, str(PEERS / "floor.py")]
        return ground.start("floor", command, environment, port=free_port())

    return start


python_limit = _floor("pass")
one_call = _floor("call")
no_call = _floor("repeat")


def _broker_environment(ground: Ground, folder: Path) -> dict[str, str]:
    """Everything on, as in production; only the limits are out of reach of a load test."""
    folder.mkdir(exist_ok=True)
    limits = dict.fromkeys(("RATE_TOKEN", "RATE_WRITE", "RATE_READ", "RATE_IP"), "100000000/minute")
    return {
        "ENVIRONMENT": "production",
        "HOST": "127.0.0.1",
        "DATA_DIR": str(folder),
        "AUTH": "jwt",
        "AUTH_JWT_ISSUER": ISSUER,
        "AUTH_JWT_AUDIENCE": AUDIENCE,
        "AUTH_JWT_SECRET": ground.app_secret,
        "AUTH_JWT_ALGORITHMS": "HS256",
        **limits,
        **{name: os.environ[name] for name in ("FAST_PATH",) if name in os.environ},
    }


def _remote(ground: Ground) -> dict[str, str]:
    return {
        "CHAT_API_KEY": ground.api_key,
        "CHAT_BASE_URL": ground.upstream,
        "CHAT_SOCKET_URL": ground.upstream,
    }


def _ours(name: str) -> str:
    program = Path(sys.executable).parent / name
    if not program.exists():
        raise NotAvailable(f"{name} is not installed; run make setup")
    return str(program)


def broker_remote(ground: Ground) -> Running:
    """Our broker in front of the stub."""
    port = free_port()
    environment = {
        **_broker_environment(ground, ground.folder / f"broker-{port}"),
        **_remote(ground),
    }
    return ground.start("broker", [_ours("chat-broker"), "serve"], environment, port=port)


def broker_over_aiohttp(ground: Ground) -> Running:
    """The broker in front of the stub, with aiohttp's client instead of its own."""
    port = free_port()
    environment = {
        **_broker_environment(ground, ground.folder / f"broker-{port}"),
        **_remote(ground),
    }
    command = [sys.executable, str(PEERS / "over_aiohttp.py")]
    return ground.start("broker over aiohttp", command, environment, port=port)


def broker_without_fast_path(ground: Ground) -> Running:
    """The broker in front of the stub, without the fast path."""
    port = free_port()
    environment = {
        **_broker_environment(ground, ground.folder / f"broker-{port}"),
        **_remote(ground),
        "FAST_PATH": "off",
    }
    command = [_ours("chat-broker"), "serve"]
    return ground.start("broker without fast path", command, environment, port=port)


def broker_without_header_cache(ground: Ground) -> Running:
    """The broker in front of the stub, without the header cache."""
    port = free_port()
    environment = {
        **_broker_environment(ground, ground.folder / f"broker-{port}"),
        **_remote(ground),
    }
    command = [*_without("header-cache"), _ours("chat-broker"), "serve"]
    return ground.start("broker without header cache", command, environment, port=port)


def _without(what: str) -> list[str]:
    return [sys.executable, str(PEERS / "without.py"), what]


def broker_embedded(ground: Ground) -> Running:
    """Our broker with the embedded Chat API on SQLite."""
    port = free_port()
    environment = _broker_environment(ground, ground.folder / f"embedded-{port}")
    return ground.start("broker embedded", [_ours("chat-broker"), "serve"], environment, port=port)


def broker_on(
    postgres: Callable[[str], str], redis_url: str, *, workers: int, remote: bool
) -> Start:
    """Our broker with so many workers; *postgres* makes a database of its own for it."""

    def start(ground: Ground) -> Running:
        port = free_port()
        database = postgres(f"broker{port}")
        environment = {
            **_broker_environment(ground, ground.folder / f"broker-{port}"),
            "WORKERS": str(workers),
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
        }
        if remote:
            environment |= _remote(ground)
        else:
            environment["CHAT_DATABASE_URL"] = database
        command = [_ours("chat-broker"), "serve"]
        return ground.start(f"broker of {workers}", command, environment, port=port)

    return start


def chat_broker_server(ground: Ground) -> Running:
    """Our Chat API server alone, on SQLite; its API key is in `facts`."""
    return _chat_server(ground, [])


def chat_server_without_own_websockets(ground: Ground) -> Running:
    """The Chat API server, with python-socketio's websockets."""
    return _chat_server(ground, _without("websocket"))


def _chat_server(ground: Ground, under: list[str]) -> Running:
    port = free_port()
    folder = ground.folder / f"chat-server-{port}"
    folder.mkdir()
    environment = {"HOST": "127.0.0.1", "DATA_DIR": str(folder), "RATE_HANDSHAKES": "0"}
    made = subprocess.run(
        [_ours("chat-server"), "create-project", "--name", "Benchmarks"],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise NotAvailable(f"create-project failed: {made.stderr.strip()[-300:]}")
    command = [*under, _ours("chat-server"), "serve"]
    running = ground.start("chat-server", command, environment, port=port)
    running.facts["api_key"] = made.stdout.strip().splitlines()[-1]
    return running


def chat_server_on(database_url: str, api_key: str) -> Start:
    """Our Chat API server on a database that is already full, with a key that opens a project of it."""

    def start(ground: Ground) -> Running:
        port = free_port()
        environment = {
            "HOST": "127.0.0.1",
            "DATA_DIR": str(ground.folder),
            "CHAT_DATABASE_URL": database_url,
        }
        running = ground.start(
            "chat-server", [_ours("chat-server"), "serve"], environment, port=port
        )
        running.facts["api_key"] = api_key
        return running

    return start
