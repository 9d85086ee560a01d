"""Nodes of the Chat API server in this process: their bus and the clients' connections without a network.

Everything between is the real thing: packets, sessions, fan-out, rules, database, and the SDK with its reconnects.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec

from chat_broker_kit.database.transactions import Database, Shortcut, Transaction
from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._realtime.acknowledgements import error_event, refused
from chat_broker_sdk._realtime.room_feed import may_reconnect
from chat_broker_sdk._realtime.wire import ConnectFailure, ConnectOptions
from chat_broker_sdk._transports.in_process import DirectTransport
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import OnMessage
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.signing_keys import open_signing_keys
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.database.open import open_database
from chat_broker_server.realtime import websocket_frames
from chat_broker_server.realtime.dispatcher import Dispatcher
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.server import Realtime
from chat_broker_server.rest.request import Services
from chat_broker_server.rest.router import Rest
from tests.model.virtual_time import VirtualClockLoop

T = TypeVar("T")

LIMITS = Limits(events_per_second=1e9, event_burst=10**9, sockets_per_user=1000, heartbeat=5)
ON_THE_WAY = 0.01
"""Seconds that a packet takes from the server to a client. What is on its way when the connection breaks is lost."""


class Attended:
    """A database. While it works, the clock of the loop stands."""

    def __init__(self, database: Database, loop: VirtualClockLoop) -> None:
        self._database = database
        self._loop = loop
        self.name = database.name

    async def read(self, transaction: Transaction[T], *, slow: bool = False) -> T:
        self._loop.at_work += 1
        try:
            return await self._database.read(transaction, slow=slow)
        finally:
            self._loop.at_work -= 1

    def read_now(self, transaction: Transaction[T]) -> T | None:
        return self._database.read_now(transaction)

    async def write(
        self,
        transaction: Transaction[T],
        committed: Callable[[T], None] | None = None,
        *,
        shortcut: Callable[[], Shortcut[T]] | None = None,
    ) -> T:
        self._loop.at_work += 1
        try:
            return await self._database.write(transaction, committed, shortcut=shortcut)
        finally:
            self._loop.at_work -= 1

    async def ping(self) -> bool:
        return await self._database.ping()

    async def close(self) -> None:
        await self._database.close()


class Hub:
    """What the buses of the nodes are connected to."""

    def __init__(self) -> None:
        self.buses: list[CutBus] = []

    def pass_on(self, message: bytes) -> None:
        for bus in self.buses:
            bus.take(message)


class CutBus:
    """A bus that can be cut, be late, and lose messages. Those that come keep their order."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._on_message: OnMessage = lambda _: None
        self._on_recovered: Callable[[], None] = lambda: None
        self._queue: deque[bytes] = deque()
        self._chance = random.Random(0)
        self.state = "ok"
        self.lost = 0
        self.repair()
        hub.buses.append(self)

    def seed(self, seed: int, *, loses: float, late: float) -> None:
        """Lose a share of the messages, and let each take up to *late* seconds."""
        self._chance.seed(seed)
        self.loses, self.late = loses, late

    def cut(self) -> None:
        self.is_cut = True

    @property
    def disturbed(self) -> bool:
        return bool(self.is_cut or self.loses or self.late)

    def repair(self) -> None:
        """Carry everything, at once. Says nothing to the node."""
        self.is_cut, self.loses, self.late = False, 0.0, 0.0

    def tell_recovered(self) -> None:
        self._on_recovered()

    async def start(self, on_message: OnMessage, on_recovered: Callable[[], None]) -> None:
        self._on_message, self._on_recovered = on_message, on_recovered

    def send(self, message: bytes) -> None:
        if self._keeps():
            self._hub.pass_on(message)

    def take(self, message: bytes) -> None:
        if self._keeps():
            self._queue.append(message)
            delay = self._chance.random() * self.late
            asyncio.get_running_loop().call_later(delay, self._next)

    def _keeps(self) -> bool:
        kept = not self.is_cut and self._chance.random() >= self.loses
        self.lost += not kept
        return kept

    def _next(self) -> None:
        self._on_message(self._queue.popleft())

    async def close(self) -> None:
        pass


class Line:
    """The server's end of a connection: its send queue."""

    open = True
    direct = True

    def __init__(self, receive: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.on_overflow: Callable[[], None] = lambda: None
        self._receive = receive
        self._on_end = on_end

    @property
    def waiting(self) -> int:
        return 0

    def write(self, frame: bytes) -> None:
        self._receive(frame)

    def send(self, ready: EncodedPacket) -> None:
        self._receive(ready.frame)

    def enqueue(self, ready: EncodedPacket) -> None:
        self._receive(ready.frame)

    def end(self, *last: EncodedPacket) -> None:
        for ready in last:
            self._receive(ready.frame)
        self._on_end()

    def mark_ended(self) -> None:
        pass

    async def wait_until_sent(self, deadline: float) -> None:
        pass

    def abort(self) -> None:
        pass


class DirectWire:
    """The SDK's Wire to a node in this process: Socket.IO packets, handed over."""

    _ids = itertools.count()

    def __init__(
        self, node: "Node", on_event: Callable[[str, Any], None], on_end: Callable[[], None]
    ) -> None:
        self.node = node
        self._on_event = on_event
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._sid = f"model-{next(self._ids)}"
        self._connection = node.sessions.add(self._sid, Line(self._receive, self._ended_there))
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._handshake: asyncio.Future[str] = self._loop.create_future()
        self._frames: deque[bytes] = deque()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        node.wires.add(self)

    # -- the SDK's side

    async def open(
        self, _options: ConnectOptions, token: UserToken, _seconds: float
    ) -> ConnectFailure | None:
        self.node.sessions.start_token_timeout(self._connection)
        hello = msgspec.json.encode({"token": token.reveal()}).decode()
        self._send(f"0{hello}")
        await asyncio.wait([self._handshake, self._end], return_when=asyncio.FIRST_COMPLETED)
        if not self._handshake.done():
            failure = WebSocketError("The connection broke", code="connect_failed")
            return ConnectFailure(failure, permanent=False)
        answer = self._handshake.result()
        if answer[0] == "0":
            return None
        self.cut()
        error = error_event(msgspec.json.decode(answer[1:])["data"], token)
        permanent = not may_reconnect(error.code, error.reconnect)
        return ConnectFailure(refused("The live connection", error), permanent)

    async def wait(self) -> None:
        await asyncio.wait([self._end])

    async def call(self, event: str, args: tuple[Any, ...]) -> object:
        if self._end.done():
            return None
        number = next(self._ids)
        answer = self._answers[number] = self._loop.create_future()
        self._send(f"2{number}{msgspec.json.encode([event, *args]).decode()}")
        await asyncio.wait([answer, self._end], return_when=asyncio.FIRST_COMPLETED)
        del self._answers[number]
        return answer.result() if answer.done() else None

    async def close(self) -> None:
        self.cut()

    def abandon(self) -> None:
        self.cut()

    # -- between

    def cut(self, *, server_notices_after: float = 0.0) -> None:
        """Break the connection. The client notices at once."""
        self._mark_ended()
        if server_notices_after:
            self._loop.call_later(server_notices_after, self._gone_there)
        else:
            self._gone_there()

    def _gone_there(self) -> None:
        self.node.sessions.remove(self._sid)
        self.node.wires.discard(self)

    def _ended_there(self) -> None:
        """The server has closed the connection: what it sent last still comes."""
        self._loop.call_later(ON_THE_WAY, self._mark_ended)

    def _mark_ended(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
            self._on_end()

    def _send(self, packet: str) -> None:
        task = self._loop.create_task(self.node.dispatcher.dispatch(self._connection, packet))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _receive(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._loop.call_later(ON_THE_WAY, self._hand_over)

    def _hand_over(self) -> None:
        frames = self._frames.popleft()
        while frames and not self._end.done():
            text, frames = _first_text(frames)
            self._read(text)

    def _read(self, text: str) -> None:
        kind, packet = text[1], text[2:]
        if kind == "2":
            name, payload = msgspec.json.decode(packet)
            self._on_event(name, payload)
        elif kind == "3":
            number, _, rest = packet.partition("[")
            if (answer := self._answers.get(int(number))) is not None and not answer.done():
                answer.set_result(msgspec.json.decode(f"[{rest}")[0])
        elif kind in "04" and not self._handshake.done():
            self._handshake.set_result(text[1:])


def _first_text(frames: bytes) -> tuple[str, bytes]:
    """The text of the first of some frames of a server, and the other frames."""
    length, at = frames[1], 2
    if length >= 126:
        at = 4 if length == 126 else 10
        length = int.from_bytes(frames[2:at])
    assert frames[0] == websocket_frames.TEXT | websocket_frames.FINAL
    return frames[at : at + length].decode(), frames[at + length :]


class NodeTransport(DirectTransport):
    """Carries the requests and live connections of a client to the node that it is at."""

    def __init__(self, node: "Node") -> None:
        super().__init__(node.rest.call)
        self.node = node
        self.wire: DirectWire | None = None

    def move_to(self, node: "Node") -> None:
        """From the next request and connection on."""
        self.node = node
        self._serve = node.rest.call

    def open_wire(
        self, on_event: Callable[[str, Any], None], on_end: Callable[[], None]
    ) -> DirectWire:
        self.wire = DirectWire(self.node, on_event, on_end)
        return self.wire


class Node:
    """One node: REST, sockets and the rules, on its own connections to the database."""

    def __init__(self, database: Database, tokens: Tokens, keys: ApiKeys, bus: CutBus) -> None:
        self.bus = bus
        self.database = database
        self.chat = Chat(database, self._publish, epoch="model")
        self.realtime = Realtime(self.chat, tokens, bus=bus, limits=LIMITS)
        services = Services(
            self.chat, tokens, keys, self.realtime.close_user, self.realtime.presence
        )
        self.rest = Rest(services)
        self.sessions = self.realtime._sessions
        self.dispatcher: Dispatcher = self.realtime._websockets._on_packet.__self__  # type: ignore[attr-defined]
        self.wires: set[DirectWire] = set()

    def _publish(self, event: Any) -> None:
        self.realtime.publish(event)


async def open_nodes(stack: AsyncExitStack, url: str, count: int) -> tuple[list[Node], ApiKeys]:
    """*count* nodes on one database; they close with *stack*."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    hub, nodes = Hub(), []
    for _ in range(count):
        database = Attended(await open_database(url), loop)
        stack.push_async_callback(database.close)
        signing = await open_signing_keys(database, "EdDSA")
        keys = ApiKeys(database)
        tokens = Tokens(database, signing, issuer="model", default_lifetime=86400)
        node = Node(database, tokens, keys, CutBus(hub))
        await node.realtime.start()
        stack.push_async_callback(node.realtime.close)
        nodes.append(node)
    return nodes, keys
