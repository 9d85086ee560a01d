"""How long from an operator's revoke to a closed socket: `python -m benchmarks.revocation`.

Three brokers over Postgres and Redis (both must answer here), 1,000 users with a socket each, spread evenly. First
with the bus up, one revocation after the other; then with Redis stopped, all at once. Then the durability of a
revocation: kill -9 right after the 2xx, start again, and see that the token is dead.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import postgres_database
from tests.programs import Program, running_broker

from .steady import summary
from .stores import redis_server

ADMIN = {"authorization": "Bearer " + "a" * 40}
PLENTY = dict.fromkeys(("RATE_IP", "RATE_TOKEN", "RATE_WRITE", "RATE_READ"), "1000000/minute")


async def token(http: httpx.AsyncClient, broker: Program, name: str) -> str:
    """A chat token of a development user."""
    login = await http.post(f"{broker.url}/dev/login", json={"username": name})
    session = {"authorization": f"Bearer {login.json()['token']}"}
    minted = await http.post(f"{broker.url}/chat/token", headers=session)
    return str(minted.json()["token"])


async def open_socket(broker: Program, chat_token: str) -> ClientConnection:
    """A websocket that has got through the Socket.IO handshake."""
    url = broker.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    socket = await connect(url, open_timeout=30, ping_interval=None)
    await socket.recv()
    await socket.send("40" + json.dumps({"token": chat_token}))
    answer = await socket.recv()
    assert str(answer).startswith("40"), answer
    return socket


async def closed_at(socket: ClientConnection) -> float:
    """The time at which the server closed the socket. Answers pings until then."""
    try:
        async for frame in socket:
            if frame == "2":
                await socket.send("3")
    except ConnectionClosed:
        pass
    return time.monotonic()


async def revoke(http: httpx.AsyncClient, broker: Program, name: str) -> float:
    began = time.monotonic()
    answer = await http.post(
        f"{broker.url}/admin/users/external:{name}/revoke", json={"reason": "x"}, headers=ADMIN
    )
    assert answer.status_code == 200, answer.text
    return began


async def across_replicas(users: int, single: int) -> None:
    """Prints both times; a socket that is not closed within a minute ends it with an error."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(postgres_database())
        redis = stack.enter_context(redis_server())
        settings = {
            "DATABASE_URL": url,
            "CHAT_DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "ADMIN_KEY": "a" * 40,
            "LOG_LEVEL": "WARNING",
            **PLENTY,
        }
        brokers = [await stack.enter_async_context(running_broker(**settings)) for _ in range(3)]
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
        sockets: dict[str, asyncio.Task[float]] = {}
        for n in range(users):
            broker = brokers[n % 3]
            user = f"user{n}"
            socket = await open_socket(broker, await token(http, broker, user))
            sockets[user] = asyncio.create_task(closed_at(socket))
        took = []
        for n in range(single):
            user = f"user{n}"
            began = await revoke(http, brokers[(n + 1) % 3], user)  # never where the socket is
            took.append(await asyncio.wait_for(sockets.pop(user), 60) - began)
        print(f"bus up, {users} sockets, one after the other: {summary(took)}", flush=True)
        redis.stop()
        rest = list(sockets)[:single]
        began = {user: await revoke(http, brokers[(int(user[4:]) + 1) % 3], user) for user in rest}
        took = [await asyncio.wait_for(sockets.pop(user), 60) - began[user] for user in rest]
        print(f"bus cut: {summary(took)}", flush=True)
        for task in sockets.values():
            task.cancel()


async def survives_kill(rounds: int) -> int:
    """The number of revoked tokens that were accepted again."""
    folder = Path(tempfile.mkdtemp())
    alive, held = 0, ""
    for turn in range(rounds + 1):
        async with (
            running_broker(folder, ADMIN_KEY="a" * 40, LOG_LEVEL="WARNING", **PLENTY) as broker,
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
        ):
            if held:
                answer = await http.get(
                    f"{broker.url}/chat/verify", headers={"authorization": f"Bearer {held}"}
                )
                dead = answer.status_code == 401 and answer.json()["code"] == "token_revoked"
                alive += not dead
            if turn == rounds:
                break
            held = await token(http, broker, "alice")
            await revoke(http, broker, "alice")
            await broker.kill()
    print(
        f"kill -9 right after the revoke's 2xx, {rounds} rounds: {alive} tokens alive", flush=True
    )
    return alive


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--single", type=int, default=200)
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds of kill -9 (two seconds each)"
    )
    options = parser.parse_args()
    if not 0 < options.single < options.users:
        parser.error("--single must be less than --users: the others are for the bus that is cut")
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    asyncio.run(across_replicas(options.users, options.single))
    raise SystemExit(1 if asyncio.run(survives_kill(options.rounds)) else 0)
