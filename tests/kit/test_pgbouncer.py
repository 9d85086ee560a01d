"""PgBouncer between the programs and Postgres: session mode works as it comes, transaction mode is refused."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import PGBOUNCER
from tests.programs import free_port, run_command, running_broker, wait_for_port

pytestmark = pytest.mark.services("postgres", "pgbouncer")

TEMPLATE = """
[databases]
* = host={host} port={postgres_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
logfile = {folder}/log
pidfile = {folder}/pid
{more}
"""


@contextmanager
def pooler(database: str, mode: str, more: str = "") -> Iterator[str]:
    """The URL of *database* through a PgBouncer of our own, with nothing set but the mode."""
    parts = urlsplit(database)
    port = free_port()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)  # it refuses to run as root, and becomes nobody
    (folder / "ini").write_text(
        TEMPLATE.format(
            host=parts.hostname, postgres_port=parts.port or 5432, user=parts.username or "postgres",
            port=port, mode=mode, folder=folder, more=more,
        )
    )  # fmt: skip
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [PGBOUNCER or "pgbouncer", "-q", *as_nobody, str(folder / "ini")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            wait_for_port(port)
            yield f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{port}{parts.path}"
        finally:
            program.terminate()


@pytest.fixture
def through(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Opens a pooler in the given mode in front of a fresh database."""
    with ExitStack() as stack:
        yield lambda mode, more="": stack.enter_context(pooler(postgres_url, mode, more))


async def chat(url: str) -> list[int]:
    """Sign in, make a room, say something forty times and read it: the statuses."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        token = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        made = await http.post("/chat/rooms", json={"name": "General"})
        statuses = [made.status_code]
        messages = f"/chat/rooms/{made.json()['id']}/messages"
        for number in range(40):
            sent = await http.post(messages, json={"content": f"{number}"})
            read = await http.get(messages)
            statuses += [sent.status_code, read.status_code]
    return statuses


async def test_session_mode_works_as_it_comes(tmp_path: Path, through: Callable[..., str]) -> None:
    """Both databases through it: no startup parameter that it refuses, migrations, messages in one statement."""
    url = through("session")
    async with running_broker(
        tmp_path, DATABASE_URL=f"{url}?pgbouncer=true", CHAT_DATABASE_URL=url
    ) as broker:
        statuses = await chat(broker.url)
        assert set(statuses) == {200, 201}, statuses
        assert "database.unavailable" not in broker.log()
        assert "database.no_functions" not in broker.log()


@pytest.mark.parametrize("more", ["", "server_round_robin = 1"])
async def test_transaction_mode_is_refused_in_one_sentence(
    tmp_path: Path, through: Callable[..., str], more: str
) -> None:
    """By `serve` of both programs and by `doctor`, before anything is written there."""
    url = through("transaction", more)
    here = {
        "DATA_DIR": str(tmp_path),
        "ENVIRONMENT": "development",
        "AUTH": "dev",
        "PORT": str(free_port()),
    }
    both = {"DATABASE_URL": url, "CHAT_DATABASE_URL": url}
    broker = await run_command("chat-broker", "serve", environment=here | both)
    server = await run_command(
        "chat-server", "serve", environment=here | {"CHAT_DATABASE_URL": url}
    )
    assert (broker[0], server[0]) == (2, 2)
    for said in (broker[2], server[2]):
        assert "pooler in transaction mode" in said
        assert "pool_mode = session" in said
        assert "Traceback" not in said
    assert broker[2].count("pool_mode = session") == 2
    code, out, _ = await run_command("chat-broker", "doctor", environment=here | both)
    assert code == 1
    assert "pooler in transaction mode" in out
