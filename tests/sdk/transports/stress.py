"""A hand-made HTTP client against a server that does everything wrong: every reply carries its own nonce, and everything adds
up after each step.

`python -m tests.sdk.stress --seconds 1200 --seed 1 --uvloop` runs for as long as it is told; the suite runs a short form.
"""

import argparse
import asyncio
import collections
import contextlib
import random
import time
from collections.abc import AsyncIterator

from chat_broker_sdk import AiohttpTransport, ChatError, HttptoolsTransport, Request
from chat_broker_sdk._transports.connection_limit import ConnectionLimit
from tests.sdk.transports.http_corpus import chunked, raw, sized

MANNERS = {
    "plain": 30,
    "slow": 10,
    "chunks": 10,
    "drips": 5,
    "hints first": 5,
    "closes": 5,
    "closes a little later": 10,
    "half": 5,
    "half, then silence": 3,
    "extra rubbish": 3,
    "extra answer": 5,
    "half an extra answer": 3,
    "rubbish": 3,
    "nothing": 3,
    "resets": 3,
    "silence": 3,
}
"""How the server answers, and how often.

An extra answer comes together with the right one: HTTP/1.1 gives no client a way to know one that comes when the next
request is already on its way.
"""

Transport = HttptoolsTransport | AiohttpTransport


class Server:
    """Answers `/MANNER/NONCE` in that manner, with the nonce."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.meeting: asyncio.Barrier | None = None

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            asyncio.IncompleteReadError,
            asyncio.CancelledError,
            asyncio.BrokenBarrierError,
            ConnectionError,
            RuntimeError,  # uvloop's word for a connection that is closed
        ):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, manner, nonce = head.split(b" ")[1].decode().replace("%20", " ").split("/")
                if self.meeting is not None:
                    await self.meeting.wait()
                if not await self._answer(writer, manner, nonce.encode()):
                    break
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, manner: str, nonce: bytes) -> bool:
        """True if another request may come on this connection."""
        answer, pause = sized(nonce), self._chance.random() * 0.004
        match manner:
            case "slow":
                await asyncio.sleep(pause)
            case "chunks":
                answer = chunked(nonce[:3], nonce[3:], end=b"0\r\nx-a: b\r\n\r\n")
            case "drips":
                for number in range(len(answer)):
                    writer.write(answer[number : number + 1])
                    await asyncio.sleep(0)
                return True
            case "hints first":
                answer = raw("HTTP/1.1 103 Early Hints\r\nlink: x\r\n") + answer
            case "closes":
                writer.write(sized(nonce, "connection: close"))
                return False
            case "closes a little later":
                writer.write(answer)
                await asyncio.sleep(pause)
                return False
            case "half" | "half, then silence":
                writer.write(answer[: self._chance.randrange(len(answer))])
                if manner == "half, then silence":
                    await asyncio.sleep(1)
                return False
            case "extra rubbish":
                answer += b"\0\1rubbish"
            case "extra answer":
                answer += sized(b"to another call")
            case "half an extra answer":
                answer += sized(b"to another call")[:20]
            case "rubbish":
                answer = b"\0\1rubbish"
            case "nothing":
                return False
            case "resets":
                writer.transport.abort()
                return False
            case "silence":
                await asyncio.sleep(1)
                return False
        writer.write(answer)
        return True


class Stress:
    """Calls with random ends, and what has to be true after each step."""

    def __init__(self, transport: Transport, url: str, seed: int) -> None:
        self.transport = transport
        self.counts: collections.Counter[str] = collections.Counter()
        self.active = 0
        self._url = url
        self._chance = random.Random(seed)
        self._nonces = iter(range(10**9, 10**10))
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def limit(self) -> ConnectionLimit:
        return self.transport._limit

    async def _call(self, manner: str, seconds: float) -> None:
        nonce = str(next(self._nonces))
        self.active += 1
        try:
            request = Request("GET", f"{self._url}/{manner.replace(' ', '%20')}/{nonce}")
            response = await self.transport.send(request, timeout=seconds)
        except ChatError as error:
            self.counts[error.code or ""] += 1
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise
        else:
            if response.body != nonce.encode():
                self.counts["WRONG ANSWER"] += 1
                raise AssertionError(f"{manner}: {response.body!r} is not the answer to {nonce}")
            self.counts["answered"] += 1
        finally:
            self.active -= 1

    async def step(self) -> None:
        """Some calls begin, some are cancelled, some time passes, and everything adds up."""
        chance = self._chance
        for manner in chance.choices(list(MANNERS), MANNERS.values(), k=chance.randrange(6)):
            seconds = chance.choice([0.005, 0.02, 0.1, 0.5])
            self._calls.add(asyncio.create_task(self._call(manner, seconds)))
        for call in chance.sample(sorted(self._calls, key=id), len(self._calls) // 8):
            call.cancel()
        await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.002]))
        self._adds_up()
        ended = {call for call in self._calls if call.done()}
        self._calls -= ended
        for call in ended:
            if not call.cancelled():
                call.result()

    def _adds_up(self) -> None:
        limit = self.limit
        assert limit.in_use <= limit.size
        assert limit.in_use <= self.active, "a turn is taken by a call that has ended"
        assert limit.waiting == 0 or limit.in_use == limit.size, "calls wait, and a turn is free"
        if isinstance(self.transport, HttptoolsTransport):
            idle = [one for each in self.transport._idle.values() for one in each]
            busy = [one for one in self.transport._open if one.busy and one.usable]
            assert len(idle) == len(set(idle)), "a connection is kept twice"
            assert not any(one.busy for one in idle), "a connection is kept, and in use"
            assert len(busy) <= limit.in_use

    async def settle(self) -> None:
        """All calls end; then nothing is left of them, and as many calls as ever may be under way at once."""
        for call in self._calls:
            await asyncio.wait([call])
            if not call.cancelled():
                call.result()
        self._calls.clear()
        await asyncio.sleep(0.01)
        assert (self.active, self.limit.in_use, self.limit.waiting) == (0, 0, 0)
        if isinstance(self.transport, HttptoolsTransport):
            idle = {one for each in self.transport._idle.values() for one in each}
            assert all(one in idle for one in self.transport._open if one.usable)

    async def meet(self, server: Server) -> None:
        """As many calls as there are turns are at the server at once."""
        before = self.counts["answered"]
        while self.counts["answered"] < before + self.limit.size:
            # A kept connection that the server has closed fails a call, and with it the meeting: then again.
            before = self.counts["answered"]
            server.meeting = asyncio.Barrier(self.limit.size)
            await asyncio.gather(*(self._call("plain", 1) for _ in range(self.limit.size)))
            await server.meeting.abort()
        server.meeting = None


@contextlib.asynccontextmanager
async def stressing(kind: type[Transport], seed: int) -> AsyncIterator[tuple[Stress, Server]]:
    server = Server(seed)
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0, backlog=500)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    transport = kind(max_connections=random.Random(seed).choice([1, 2, 5, 10]))
    try:
        yield Stress(transport, url, seed), server
    finally:
        await transport.aclose()
        listening.close()


async def stress(kind: type[Transport], seed: int, steps: int) -> "collections.Counter[str]":
    """The outcomes of so many steps."""
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(str(context)))
    async with stressing(kind, seed) as (one, server):
        for _ in range(steps):
            await one.step()
            assert not broken, broken
        await one.settle()
        await one.meet(server)
        return one.counts


async def _for_long(kind: type[Transport], first: int, seconds: float) -> None:
    ends, seed = time.monotonic() + seconds, first
    counts: collections.Counter[str] = collections.Counter()
    while time.monotonic() < ends:
        counts += await stress(kind, seed, 2000)
        seeds = f"seeds {first} to {seed}"
        print(kind.__name__, seeds, dict(counts), "calls", counts.total(), flush=True)  # noqa: T201 - a command's output
        seed += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--aiohttp", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    chosen = AiohttpTransport if given.aiohttp else HttptoolsTransport
    run = asyncio.run
    if given.uvloop:
        import uvloop

        run = uvloop.run
    run(_for_long(chosen, given.seed, given.seconds))
