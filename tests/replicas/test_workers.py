"""`WORKERS=2`: several processes that start and stop as one program."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.edge.newcomers import visits
from tests.programs import ROOT, Program, free_port, run_command, running_broker, running_server
from tests.server.realtime.socket_client import Socket, connected

pytestmark = [pytest.mark.services("postgres", "redis"), pytest.mark.timeout(180)]


@pytest.fixture
def settings(postgres_url: str, redis_url: str) -> dict[str, str]:
    plenty = dict.fromkeys(("RATE_IP", "RATE_WRITE", "RATE_READ", "RATE_TOKEN"), "100000/minute")
    return {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url,
        "WORKERS": "2",
        **plenty,
    }


@asynccontextmanager
async def calling(broker: Program) -> AsyncIterator[httpx.AsyncClient]:
    """A client that opens a connection per request, so that either worker serves it."""
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http:
        signed_in = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
    headers = {"authorization": f"Bearer {signed_in}", "connection": "close"}
    async with httpx.AsyncClient(
        base_url=broker.url, headers=headers, trust_env=False, timeout=30
    ) as http:
        yield http


def descendants(parent: int) -> dict[int, str]:
    """All descendants of the process *parent*: id and name."""
    parents, names = {}, {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                name, _, rest = (path / "stat").read_text().rpartition(")")
                parents[int(path.name)] = int(rest.split()[1])
                names[int(path.name)] = name.partition("(")[2]
    found: set[int] = set()
    while more := {pid for pid, of in parents.items() if of in {parent, *found}} - found:
        found |= more
    return {pid: names[pid] for pid in found}


def workers(broker: Program) -> set[int]:
    """The worker processes, recognised by their command line."""
    found = set()
    for pid in descendants(broker.process.pid):
        with contextlib.suppress(OSError):  # it has just ended
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until_gone(pids: set[int], within: float) -> None:
    async with asyncio.timeout(within):
        while any(is_there(pid) for pid in pids):  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.05)


async def half_a_message(
    broker: Program, room: str, token: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Send half of a POST's body; the rest of it."""
    body = b'{"content": "said while you were leaving"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    head = (
        f"POST /chat/rooms/{room}/messages HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:20])
    await writer.drain()
    return reader, writer, body[20:]


async def test_a_stop_tells_the_sockets_finishes_what_was_begun_and_leaves_nobody_behind(
    settings: dict[str, str],
) -> None:
    """Exit code 0 well within the grace time; every socket of every worker hears `server_restarting`; requests
    that had begun are answered; no process is left, and nobody listens any more."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(running_broker(**settings))
        http = await stack.enter_async_context(calling(broker))
        room = (await http.post("/chat/rooms", json={"name": "General"})).json()["id"]
        sockets: list[Socket] = []
        for _ in range(8):
            token = (await http.post("/chat/token")).json()["token"]
            sockets.append(await stack.enter_async_context(connected(broker.url, token)))
            assert sockets[-1].refused is None
        begun = [
            await half_a_message(broker, room, http.headers["authorization"]) for _ in range(6)
        ]
        everybody = set(descendants(broker.process.pid))
        assert len(workers(broker)) == 2
        await asyncio.sleep(0.5)  # the halves have arrived

        stopping = asyncio.create_task(broker.stop(within=30))
        for socket in sockets:
            await socket.ends(within=15)
            assert [error["code"] for error in socket.payloads("error")] == ["server_restarting"]
        for _, writer, rest in begun:
            writer.write(rest)
        for reader, writer, _ in begun:
            answer = await asyncio.wait_for(reader.read(), 15)
            assert answer.startswith(b"HTTP/1.1 201 "), answer
            writer.close()
        assert await stopping == 0, broker.log()
        await until_gone(everybody, within=2)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", broker.port)
        assert "Traceback" not in broker.log()

        again = await stack.enter_async_context(running_broker(**settings))
        http = await stack.enter_async_context(calling(again))
        page = (await http.get(f"/chat/rooms/{room}/messages")).json()
        assert len(page["items"]) == len(begun)


async def lets_in(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_nobody_is_let_in_while_the_last_requests_are_answered(
    settings: dict[str, str],
) -> None:
    """A connection that no worker takes any more is refused at once, so that a proxy tries elsewhere."""
    async with running_broker(**settings) as broker, calling(broker) as http:
        room = (await http.post("/chat/rooms", json={"name": "General"})).json()["id"]
        token = http.headers["authorization"]
        reader, writer, rest = await half_a_message(broker, room, token)
        await asyncio.sleep(0.5)  # the half has arrived
        stopping = asyncio.create_task(broker.stop(within=30))
        async with asyncio.timeout(8):
            while await lets_in(broker.port):  # noqa: ASYNC110 - the kernel sets no event
                await asyncio.sleep(0.1)
        assert not stopping.done()
        writer.write(rest)
        assert (await asyncio.wait_for(reader.read(), 15)).startswith(b"HTTP/1.1 201 ")
        writer.close()
        assert await stopping == 0, broker.log()


@pytest.mark.parametrize("drain_seconds", ["0", "1"])
async def test_workers_that_stop_lose_no_request_on_a_new_connection(
    settings: dict[str, str], drain_seconds: str
) -> None:
    """No connection is lost when a worker stops listening, the last one included."""
    plenty = {"RATE_IP": "1000000/minute", "DRAIN_SECONDS": drain_seconds}
    async with running_broker(**{**settings, **plenty}) as broker:
        callers = asyncio.create_task(visits(broker.port))
        await asyncio.sleep(0.5)
        assert await broker.stop() == 0
        outcomes = await callers
    assert set(outcomes) == {"answered", "refused"}, outcomes


async def test_workers_do_not_outlive_the_process_that_started_them(
    settings: dict[str, str],
) -> None:
    """After SIGKILL the program starts again at once on the same port."""
    port = str(free_port())
    async with running_broker(PORT=port, **settings) as broker:
        everybody = set(descendants(broker.process.pid))
        await broker.kill()
        await until_gone(everybody, within=20)
    async with running_broker(PORT=port, **settings) as broker, calling(broker) as http:
        assert (await http.get("/chat/me")).status_code == 200


async def test_uvicorns_own_supervisor_serves_where_ours_does_not_fit(
    settings: dict[str, str],
) -> None:
    under = (sys.executable, str(ROOT / "tests" / "contract" / "ordinary.py"))
    async with running_broker(under=under, **settings) as broker, calling(broker) as http:
        assert (await http.get("/chat/me")).status_code == 200
        everybody = set(descendants(broker.process.pid))
        assert len(workers(broker)) == 2
        assert await broker.stop(within=30) == 0, broker.log()
        await until_gone(everybody, within=20)
        assert "workers.ordinary_supervisor" in broker.log()


async def test_a_worker_that_dies_is_replaced(settings: dict[str, str]) -> None:
    async with running_broker(**settings) as broker, calling(broker) as http:
        before = workers(broker)
        os.kill(min(before), signal.SIGKILL)
        async with asyncio.timeout(40):
            while len(workers(broker) - before) != 1:  # noqa: ASYNC110 - a test may poll
                await asyncio.sleep(0.1)
        for _ in range(10):
            assert (await http.get("/chat/me")).status_code == 200


async def test_a_worker_that_dies_before_it_has_said_anything_is_replaced_in_time(
    settings: dict[str, str],
) -> None:
    """A worker is killed while it is loading; the other one keeps serving."""
    async with running_broker(**settings) as broker, calling(broker) as http:
        before = workers(broker)
        os.kill(max(before), signal.SIGKILL)
        async with asyncio.timeout(10):
            while not (fresh := workers(broker) - before):  # noqa: ASYNC110 - a test may poll
                await asyncio.sleep(0.005)
        os.kill(fresh.pop(), signal.SIGKILL)
        began = time.monotonic()
        async with asyncio.timeout(10):
            while not workers(broker) - before or len(workers(broker)) != 2:  # noqa: ASYNC110 - a test may poll
                await asyncio.sleep(0.05)
        assert time.monotonic() - began < 10
        assert (await http.get("/chat/me")).status_code == 200
        broker.process.send_signal(
            signal.SIGTERM
        )  # heard at once, too, while the new one still loads
        assert await asyncio.wait_for(broker.process.wait(), 20) == 0


async def test_workers_drain_together_and_the_port_stays_open_meanwhile(
    settings: dict[str, str],
) -> None:
    """SIGTERM to the program: each worker says `draining` and goes on. A second one ends that; then all end, with 0."""
    async with running_broker(**settings, DRAIN_SECONDS="120") as broker, calling(broker) as http:
        broker.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        for _ in range(12):
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert (await http.get("/chat/me")).status_code == 200
        assert broker.process.returncode is None
        broker.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(broker.process.wait(), 40) == 0


async def test_every_worker_reads_the_projects_key_again_and_none_is_restarted(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """SIGHUP to the program: the same processes go on, with the new key, and sockets notice nothing."""
    del settings["CHAT_DATABASE_URL"]
    async with running_server() as server:
        where = {"DATA_DIR": str(server.data_dir)}
        code, out, err = await run_command(
            "chat-server", "create-project", "--name", "P", "--json", environment=where
        )
        assert code == 0, err
        made = json.loads(out)
        (tmp_path / "chat_api_key").write_text(made["api_key"])
        more = {"CHAT_BASE_URL": server.url, "SECRETS_DIR": str(tmp_path)}
        async with running_broker(**settings, **more) as broker, calling(broker) as http:
            before = workers(broker)
            code, out, err = await run_command(
                "chat-server", "keys", "create", made["project_id"], "--json", environment=where
            )
            assert code == 0, err
            (tmp_path / "chat_api_key").write_text(json.loads(out)["api_key"])
            broker.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while broker.log().count("api_key.switched") < 2:  # noqa: ASYNC110 - a test may poll
                    await asyncio.sleep(0.1)
            assert workers(broker) == before
            for _ in range(10):
                assert (await http.get("/chat/rooms")).status_code == 200
