"""Two brokers over one Postgres and one Redis are one service: what is done on A holds on B."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from chat_broker_sdk import AsyncChatClient, Message, WebSocketError
from tests.conftest import postgres_database
from tests.programs import Program, free_port, running_broker, wait_for_port

pytestmark = [pytest.mark.services("postgres", "redis"), pytest.mark.timeout(180)]

ADMIN_KEY = "an-admin-key-of-forty-characters-0123456"


@dataclass
class Redis:
    """A Redis for one test, which may be stopped, frozen and restarted empty."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        wait_for_port(self.port)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)


@pytest.fixture
def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    server = Redis(free_port(), tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def pair(postgres_url: str, redis: Redis) -> AsyncIterator[tuple[Program, Program]]:
    async with two_brokers(postgres_url, redis) as both:
        yield both


@asynccontextmanager
async def two_brokers(
    postgres_url: str, redis: Redis, count: int = 2, **more: str
) -> AsyncIterator[tuple[Program, ...]]:
    settings = {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "ADMIN_KEY": ADMIN_KEY,
        "RATE_IP": "100000/minute",
        "RATE_WRITE": "100000/minute",
        "RATE_READ": "100000/minute",
        "RATE_TOKEN": "100000/minute",
        **more,
    }
    async with AsyncExitStack() as stack:
        # Started at once: the migrations of both databases run in one of the two.
        starts = [stack.enter_async_context(running_broker(**settings)) for _ in range(count)]
        yield tuple(await asyncio.gather(*starts))


@dataclass
class User:
    """An app user with clients of all brokers, and the events of one socket."""

    name: str
    token: str
    errors: list[str] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)

    async def call(
        self, broker: Program, method: str, path: str, body: object = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=20) as http:
            return await http.request(method, path, json=body, headers=headers)

    async def ok(self, broker: Program, method: str, path: str, body: object = None) -> object:
        answer = await self.call(broker, method, path, body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    @asynccontextmanager
    async def socket(
        self, broker: Program, room_id: str | None = None
    ) -> AsyncIterator[AsyncChatClient]:
        minted = await self.ok(broker, "POST", "/chat/token")
        async with AsyncChatClient(broker.url, jwt_token=minted["token"]) as chat:
            chat.socket.on_message(self.heard.append)
            chat.socket.on_error(lambda error: self.errors.append(error.code))
            await chat.socket.connect()
            if room_id is not None:
                await chat.socket.join_room(room_id)
            yield chat


@pytest.mark.parametrize("prefix", [None, "one-name-for-both"])
async def test_two_deployments_on_one_redis_do_not_hear_each_other(
    redis: Redis, prefix: str | None
) -> None:
    """Each has its own database, and with it its own keys and channels; unless one REDIS_PREFIX is given to both."""
    import redis as library

    more = {} if prefix is None else {"REDIS_PREFIX": prefix}
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(postgres_database()) for _ in range(2)]
        (a, b), (c,) = [
            await stack.enter_async_context(two_brokers(url, redis, count, **more))
            for url, count in zip(databases, (2, 1), strict=True)
        ]
        for broker in (a, c):
            alice = await sign_in(broker, "alice")
            await stack.enter_async_context(alice.socket(broker))
            await alice.ok(broker, "GET", "/chat/rooms")

        await until_nodes([2, 2, 1] if prefix is None else [3, 3, 3], (a, b, c))
        with library.Redis(port=redis.port) as raw:
            names = {*raw.keys("*"), *raw.pubsub_channels("*")}
        begins = {name.decode().partition(":")[0] for name in names}
        assert begins == ({"chat-broker", "chat-server"} if prefix is None else {prefix})
        deployments = {name.decode().split(":")[1] for name in names if b":nodes:" in name}
        assert len(deployments) == (2 if prefix is None else 1)


async def until_nodes(expected: list[int], brokers: Sequence[Program]) -> None:
    """Each broker soon knows this number of nodes, itself included, and no others later."""

    async def nodes() -> list[int]:
        found = [await admin(broker, "GET", "/admin/status") for broker in brokers]
        return [answer.json()["counts"]["nodes"] for answer in found]

    async with asyncio.timeout(20):
        while await nodes() != expected:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.2)
    await asyncio.sleep(2)
    assert await nodes() == expected


async def sign_in(broker: Program, name: str) -> User:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{broker.url}/dev/login", json={"username": name})
    return User(name, answer.json()["token"])


async def admin(broker: Program, method: str, path: str, body: object = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=40) as http:
        return await http.request(method, path, json=body, headers=headers)


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = 10) -> float:
    """Wait for the condition; the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return time.monotonic() - began
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {within} s")


async def gone(chat: AsyncChatClient) -> None:
    """Returns when the socket was closed for good."""
    with pytest.raises(WebSocketError):
        await asyncio.wait_for(chat.socket.wait(), 35)


async def a_room(a: Program, b: Program) -> tuple[User, User, str]:
    """Alice, who owns a room at A, and Bob, who joined it at B."""
    alice, bob = await sign_in(a, "alice"), await sign_in(a, "bob")
    room = await alice.ok(a, "POST", "/chat/rooms", {"name": "General"})
    await bob.ok(b, "POST", f"/chat/rooms/{room['id']}/join")
    return alice, bob, room["id"]


async def test_what_is_said_on_a_is_heard_on_b(pair: tuple[Program, Program]) -> None:
    """Messages arrive over REST and over the socket once each, in the order of `seq`."""
    a, b = pair
    alice, bob, room = await a_room(a, b)
    async with bob.socket(b, room), alice.socket(a, room) as at_a:
        for n in range(20):
            if n % 2:
                await at_a.socket.send_message(room, f"m{n}")
            else:
                await alice.ok(
                    (a, b)[n // 2 % 2], "POST", f"/chat/rooms/{room}/messages", {"content": f"m{n}"}
                )
        await until(lambda: len(bob.heard) >= 20)
        assert [message.seq for message in bob.heard] == list(range(1, 21))
        assert [message.content for message in bob.heard] == [f"m{n}" for n in range(20)]
        async with httpx.AsyncClient(trust_env=False) as http:
            numbers = (await http.get(f"{b.url}/metrics")).text.splitlines()
        assert "chat_broker_live_sockets_authenticated 1.0" in numbers
        assert "chat_broker_live_nodes 2.0" in numbers


async def test_revoked_on_a_is_closed_on_b(pair: tuple[Program, Program]) -> None:
    """The receipt counts both nodes and the socket; the old token is dead everywhere at once."""
    a, b = pair
    _, bob, room = await a_room(a, b)
    token = (await bob.ok(b, "POST", "/chat/token"))["token"]
    async with bob.socket(b, room) as at_b:
        answer = await admin(
            a, "POST", "/admin/users/external:bob/revoke", {"reason": "lost phone"}
        )
        receipt = answer.json()
        assert (receipt["nodes_acked"], receipt["nodes_total"]) == (2, 2), receipt
        assert receipt["sockets_closed"] == 1, receipt
        assert receipt["took_ms"] < 1000, receipt
        await asyncio.wait_for(gone(at_b), 5)
        assert bob.errors == ["token_revoked"]
    for broker in pair:
        async with httpx.AsyncClient(trust_env=False) as http:
            dead = await http.get(
                f"{broker.url}/chat/verify", headers={"authorization": f"Bearer {token}"}
            )
        assert (dead.status_code, dead.json()["code"]) == (401, "token_revoked")


async def test_banned_on_a_is_refused_on_b_at_once(pair: tuple[Program, Program]) -> None:
    a, b = pair
    _, bob, room = await a_room(a, b)
    assert (await bob.call(b, "GET", f"/chat/rooms/{room}")).status_code == 200  # remembered there
    assert (await admin(a, "POST", "/admin/users/external:bob/ban", {"reason": "spam"})).is_success
    await until_refused(bob, b, room)
    minted = await bob.call(b, "POST", "/chat/token")
    assert (minted.status_code, minted.json()["code"]) == (403, "user_suspended")
    assert (await admin(b, "DELETE", "/admin/users/external:bob/ban")).status_code == 204
    assert (await bob.call(a, "POST", "/chat/token")).status_code == 200


async def until_refused(user: User, broker: Program, room: str) -> None:
    async def refused() -> bool:
        return (await user.call(broker, "GET", f"/chat/rooms/{room}")).status_code == 403

    await until(refused, within=1.5)


async def test_removed_on_a_is_a_stranger_on_b(pair: tuple[Program, Program]) -> None:
    """The next read on B is 404 despite B's cached membership, and B's socket gets no more events."""
    a, b = pair
    alice, bob, room = await a_room(a, b)
    async with bob.socket(b, room):
        assert (await bob.call(b, "GET", f"/chat/rooms/{room}/messages")).status_code == 200
        await alice.ok(a, "DELETE", f"/chat/rooms/{room}/members/external:bob")
        answer = await bob.call(b, "GET", f"/chat/rooms/{room}/messages")
        assert (answer.status_code, answer.json()["code"]) == (404, "room_not_found")
        await asyncio.sleep(1)  # what the contract allows for eviction
        heard = len(bob.heard)
        await alice.ok(a, "POST", f"/chat/rooms/{room}/messages", {"content": "without bob"})
        await asyncio.sleep(0.5)
        assert len(bob.heard) == heard


@pytest.mark.parametrize("failure", ["stop", "freeze"])
async def test_without_redis_all_goes_on_and_a_revocation_holds_within_30_s(
    pair: tuple[Program, Program], redis: Redis, failure: str
) -> None:
    """Minting and REST work, readiness says degraded, a socket on the other replica is closed in time, and
    after Redis is back (and empty) what was missed is caught up by `seq`."""
    a, b = pair
    alice, bob, room = await a_room(a, b)
    async with bob.socket(b, room) as at_b, alice.socket(b, room):
        getattr(redis, failure)()
        said = await alice.ok(a, "POST", f"/chat/rooms/{room}/messages", {"content": "over REST"})
        assert (await bob.call(b, "POST", "/chat/token")).status_code == 200
        page = await bob.ok(b, "GET", f"/chat/rooms/{room}/messages")
        assert [message["id"] for message in page["items"]] == [said["id"]]
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            ready = await http.get(f"{b.url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded"), ready.text

        answer = await admin(a, "POST", "/admin/users/external:bob/revoke", {"reason": "x"})
        assert answer.status_code == 200, answer.text
        await asyncio.wait_for(gone(at_b), 30)
        assert bob.errors == ["token_revoked"]

        redis.stop()
        redis.start()
        await until(lambda: "over REST" in [message.content for message in alice.heard], within=40)


async def test_junk_and_pickles_on_the_bus_do_nothing(
    pair: tuple[Program, Program], redis: Redis
) -> None:
    """Foreign messages on the channels are ignored, and the brokers still exchange hints."""
    import pickle

    from redis.asyncio import Redis as Client

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(redis.folder / "exploded"),))

    a, b = pair
    alice, bob, room = await a_room(a, b)
    async with bob.socket(b, room):
        bus = Client(port=redis.port)
        channels = [name.decode() for name in await bus.pubsub_channels()]
        assert channels, "the brokers listen on no channel"
        for channel in channels:
            for junk in (b"", b"\x00\xff", b"{}", b"[" * 10_000, pickle.dumps(Bomb())):
                await bus.publish(channel, junk)
        await bus.aclose()
        await alice.ok(a, "POST", f"/chat/rooms/{room}/messages", {"content": "still here"})
        await until(lambda: [message.content for message in bob.heard] == ["still here"])
    assert not (redis.folder / "exploded").exists()


async def test_a_rolling_restart_costs_nobody_an_error_that_a_retry_does_not_mend(
    postgres_url: str, redis: Redis
) -> None:
    """Three replicas go one after the other while a client that retries elsewhere keeps writing: every
    message it was told of is there once, in order, and its socket comes back without a gap."""
    settings = {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "RATE_IP": "100000/minute",
        "RATE_WRITE": "100000/minute",
    }
    ports = [free_port() for _ in range(3)]
    async with AsyncExitStack() as stack:
        brokers = await asyncio.gather(
            *(
                stack.enter_async_context(running_broker(PORT=str(port), **settings))
                for port in ports
            )
        )
        alice = await sign_in(brokers[0], "alice")
        room = (await alice.ok(brokers[0], "POST", "/chat/rooms", {"name": "General"}))["id"]
        acknowledged: list[str] = []
        refused: list[str] = []
        rolling = True

        async def write() -> None:
            turn = 0
            async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
                while rolling:
                    await asyncio.sleep(0.003)
                    turn += 1
                    content = f"message {turn}"
                    for attempt in range(20):
                        port = ports[(turn + attempt) % 3]
                        try:
                            answer = await http.post(
                                f"http://127.0.0.1:{port}/chat/rooms/{room}/messages",
                                json={"content": content, "client_msg_id": f"c{turn}"},
                                headers={"authorization": f"Bearer {alice.token}"},
                            )
                        except httpx.TransportError:
                            continue
                        if answer.status_code == 201:
                            acknowledged.append(content)
                            break
                        if answer.status_code not in {429, 502, 503, 504}:
                            refused.append(answer.text)
                        await asyncio.sleep(0.05)
                    else:
                        refused.append(f"{content}: nobody took it")

        async with alice.socket(brokers[0], room):
            writer = asyncio.create_task(write())
            for index, broker in enumerate(brokers):
                await asyncio.sleep(0.5)
                assert await broker.stop() == 0, broker.log()
                await stack.enter_async_context(running_broker(PORT=str(ports[index]), **settings))
            await asyncio.sleep(0.5)
            rolling = False
            await writer
            assert refused == []
            assert len(acknowledged) > 20
            kept: list[str] = []
            while True:
                path = f"/chat/rooms/{room}/messages?after={len(kept)}&limit=200"
                page = await alice.ok(brokers[0], "GET", path)
                kept += [message["content"] for message in page["items"]]
                if not page["has_more"]:
                    break
            assert kept == acknowledged
            last = len(acknowledged)
            await until(lambda: len(alice.heard) >= last, within=20)
            assert [message.content for message in alice.heard] == acknowledged
            assert [message.seq for message in alice.heard] == list(range(1, last + 1))


async def test_two_workers_share_one_port(postgres_url: str, redis: Redis) -> None:
    """`WORKERS=2`: both processes answer, a token of one is good at the other, a stop ends both."""
    settings = {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "WORKERS": "2",
    }
    async with running_broker(**settings) as broker:
        alice = await sign_in(broker, "alice")
        room = (await alice.ok(broker, "POST", "/chat/rooms", {"name": "General"}))["id"]
        async with alice.socket(broker, room) as chat:
            for n in range(10):  # each call over a connection of its own: to either worker
                await alice.ok(broker, "POST", f"/chat/rooms/{room}/messages", {"content": f"m{n}"})
            await until(lambda: len(alice.heard) == 10)
            assert [message.seq for message in alice.heard] == list(range(1, 11))
            assert chat.socket.connected
        assert await broker.stop() == 0, broker.log()
